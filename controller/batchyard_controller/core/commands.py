"""
Commands: what the shell must carry out, after the commit and not before.

All of them may be lost with the process: whatever matters is in the store and
is said again when the host's next session begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from batchyard.ids import AttemptId, HostId, JobId
from batchyard.states import EndCause, JobState
from batchyard_controller.core.model.attempts import Attempt
from batchyard_controller.core.model.endings import Trigger


@dataclass(frozen=True, slots=True)
class SendStart:
    """
    Tell a host to run attempts that are claimed for it.

    Attributes:
        session: The one that the host had when this was decided. One that began since is not for it: as the host
            joins, it is decided anew what it runs, and what it said then may be older than a start sent before.
    """

    host_id: HostId
    session: int
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


class Why(NamedTuple):
    """
    Why a job moved, as facts; texts are made where they are shown.

    Attributes:
        trigger: What moved it.
        by: The id of whose end or start of waiting it follows: what released it, what it waited for in
            vain, for whom it made room.
        attempt: The number of the try that began, ended or came to run; 0 for none.
        host_id: Where that try is.
        exit_code: Of a try that ended and has one.
        end: Why that try ended.
        words: Of whoever cancelled or terminated it; else the runtime's of a try that ended.
    """

    trigger: Trigger | None = None
    by: str = ""
    attempt: int = 0
    host_id: str = ""
    exit_code: int | None = None
    end: EndCause | None = None
    words: str = ""


UNSAID = Why()


class PublishMove(NamedTuple):
    """
    Tell whoever follows that a job, a child, or a run of children has a new state; a tuple, as there are three of each job.

    Attributes:
        index: Of a child, or of the first of a run; None for a job.
        stop: The index after the last of a run; 0 when it is one child or a job.
        others: Further children of its chunk that moved alike, for the same reasons; the trail tells of each.
        group: The records on which it rests (see the store's atoms): with these it is kept.
    """

    job_id: JobId
    index: int | None  # type: ignore[assignment]  # hides a method of tuples
    before: JobState
    after: JobState
    at_ms: int
    stop: int = 0
    why: Why = UNSAID
    others: tuple[int, ...] = ()
    group: str = ""

    @property
    def size(self) -> int:
        """As how many it is told."""
        return 1 + len(self.others)

    def each(self) -> Iterator[PublishMove]:
        """Yield it as it is told: that of every child by itself, a run as one."""
        if not self.others:
            yield self
            return
        alone = self._replace(others=())
        yield alone
        for index in self.others:
            yield alone._replace(index=index)

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


class Subject(StrEnum):
    """What a notice is about."""

    HOST = "HOST"
    QUEUE = "QUEUE"
    YARD = "YARD"


class Happening(StrEnum):
    """What happened to a host, a queue or the yard. Stored: a name is never given another meaning."""

    JOINED = "JOINED"
    LEFT = "LEFT"
    FELL_SILENT = "FELL_SILENT"
    CORDONED = "CORDONED"
    DRAINED = "DRAINED"
    FREED = "FREED"
    RECLAIMED = "RECLAIMED"
    APPROVED = "APPROVED"
    REMOVED = "REMOVED"
    REPLACED = "REPLACED"
    FORGOTTEN = "FORGOTTEN"
    DOUBTED = "DOUBTED"
    CLOCK_OFF = "CLOCK_OFF"
    CLOCK_RIGHT = "CLOCK_RIGHT"
    BLOCKED = "BLOCKED"
    ALERTED = "ALERTED"
    EVENTS_LOST = "EVENTS_LOST"


class PublishNotice(NamedTuple):
    """
    Tell whoever follows what happened to a host, a queue or the yard.

    Attributes:
        id: The host's id, or the queue's name; empty of the yard.
        words: More of it, for people.
        by: The id of the job that it is about, if it is.
        group: As of `PublishMove`.
    """

    subject: Subject
    id: str
    what: Happening
    at_ms: int
    words: str = ""
    by: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class Warn:
    """Tell operators something by the log: a sentence, and names and numbers to it; as an error, if they must act."""

    text: str
    details: tuple[tuple[str, str | int], ...] = ()
    is_error: bool = False


Published = PublishMove | PublishNotice
Command = SendStart | SendStop | SendRevoke | SendAck | EndSession | PublishMove | PublishNotice | Warn
