"""
Commands: what the shell must carry out, after the commit and not before.

All of them may be lost with the process: whatever matters is in the store and
is said again when the host's next session begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from batchyard.ids import AttemptId, HostId, JobId
from batchyard.states import JobState
from batchyard_controller.core.model.attempts import Attempt


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
class EndSession:
    """Hang up on a host that was silent for too long, or that is *stopped*, and may open another session; or *removed*."""

    host_id: HostId
    session: int
    is_stopped: bool = False
    is_removed: bool = False


class PublishMove(NamedTuple):
    """
    Tell watchers that a job, a child, or a run of children has a new state; a tuple, as there are three of each job.

    Attributes:
        index: Of a child, or of the first of a run; None for a job.
        stop: The index after the last of a run; 0 when it is one child or a job.
    """

    job_id: JobId
    index: int | None  # type: ignore[assignment]  # hides a method of tuples
    before: JobState
    after: JobState
    at_ms: int
    stop: int = 0

    @property
    def is_run(self) -> bool:
        """Whether it is about several children."""
        return self.stop > 0

    def single(self) -> Iterator[PublishMove]:
        """Yield the moves of the children of a run one by one; itself if it is none."""
        if not self.is_run:
            yield self
            return
        for index in range(self.index or 0, self.stop):
            yield self._replace(index=index, stop=0)


@dataclass(frozen=True, slots=True)
class Warn:
    """Tell operators something by the log: a sentence, and names and numbers to it."""

    text: str
    details: tuple[tuple[str, str | int], ...] = ()


Command = SendStart | SendStop | SendRevoke | SendAck | EndSession | PublishMove | Warn
