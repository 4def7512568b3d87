"""
Commands: what the shell must carry out, after the commit and not before.

All of them may be lost with the process: whatever matters is in the store and
is said again when the host's next session begins.
"""

from __future__ import annotations

from dataclasses import dataclass

from batchyard.ids import AttemptId, HostId, JobId
from batchyard.states import JobState

from .model import Attempt


@dataclass(frozen=True, slots=True)
class SendStart:
    """Tell a host to run attempts that are claimed for it."""

    host_id: HostId
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class SendStop:
    """Tell a host to stop an attempt, gently first."""

    host_id: HostId
    attempt_id: AttemptId


@dataclass(frozen=True, slots=True)
class SendRevoke:
    """Tell a host that an attempt is not (or no longer) its own."""

    host_id: HostId
    attempt_id: AttemptId


@dataclass(frozen=True, slots=True)
class SendAck:
    """Tell a host that the ends of these attempts are stored."""

    host_id: HostId
    attempt_ids: tuple[AttemptId, ...]


@dataclass(frozen=True, slots=True)
class PublishMove:
    """Tell watchers that a job or child has a new state."""

    job_id: JobId
    index: int | None
    before: JobState
    after: JobState
    at_ms: int


Command = SendStart | SendStop | SendRevoke | SendAck | PublishMove
