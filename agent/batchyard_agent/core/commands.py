"""
Commands: what is to be done about an event. Names are imperative.

``Save``, ``SaveMeta`` and ``Forget`` go to the journal, and only when that is
done are the others carried out. They name the attempt, not its state: what is
written or reported is the state at the end of the turn, so that several changes
of one turn cost one row and one report.
"""

from __future__ import annotations

from dataclasses import dataclass

from batchyard.ids import AttemptId
from batchyard_agent.core.attempts import AttemptSpec
from batchyard_agent.runtimes.protocol import StopSignal


@dataclass(frozen=True, slots=True)
class Save:
    """Write the attempt's row."""

    attempt_id: AttemptId


@dataclass(frozen=True, slots=True)
class SaveMeta:
    """Write epoch, boot id and last contact."""


@dataclass(frozen=True, slots=True)
class Forget:
    """Delete the row of an old tombstone."""

    attempt_id: AttemptId


@dataclass(frozen=True, slots=True)
class Report:
    """Tell the controller the attempt's present truth."""

    attempt_id: AttemptId


@dataclass(frozen=True, slots=True)
class Launch:
    """Have the runtime launch the attempt; given at most once."""

    spec: AttemptSpec


@dataclass(frozen=True, slots=True)
class Adopt:
    """Ask the runtime whether it knows the attempt."""

    spec: AttemptSpec


@dataclass(frozen=True, slots=True)
class Signal:
    """Signal the attempt's processes."""

    attempt_id: AttemptId
    runtime: str
    signal: StopSignal


@dataclass(frozen=True, slots=True)
class Remove:
    """Let the runtime let go of an acknowledged attempt."""

    attempt_id: AttemptId
    runtime: str


@dataclass(frozen=True, slots=True)
class Discard:
    """Have the runtime kill an attempt that the journal does not know, and let go of it."""

    attempt_id: AttemptId
    runtime: str


@dataclass(frozen=True, slots=True)
class CloseSession:
    """Leave this controller: it is not the leader."""

    reason: str


@dataclass(frozen=True, slots=True)
class Note:
    """Log something that a person may have to look into."""

    text: str
    attempt_id: AttemptId | None = None


RuntimeCommand = Launch | Adopt | Signal | Remove | Discard
Command = Save | SaveMeta | Forget | Report | RuntimeCommand | CloseSession | Note
