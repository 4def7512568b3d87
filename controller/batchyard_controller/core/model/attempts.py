"""Attempts: tries of a unit, live and ended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from batchyard.ids import AttemptId, HostId, JobId, attempt_id, unit_id
from batchyard.resources import NO_USAGE, Usage
from batchyard.states import EndCause
from batchyard.tasks import ContainerEnd

from .restores import generation_of


class RetryDecision(StrEnum):
    """What a retry strategy said of a failed attempt. Their order is stored: add at the end."""

    RETRY = "RETRY"
    NEVER = "NEVER"
    EXHAUSTED = "EXHAUSTED"
    RULE_EXIT = "RULE_EXIT"
    ELSEWHERE = "ELSEWHERE"
    PREEMPTED = "PREEMPTED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A retry strategy's decision, and the place of the evaluate-on-exit rule that made it, from 1; 0 for none."""

    decision: RetryDecision
    rule: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedAttempt:
    """
    One try that is over. Times are wall-clock; 0 means it did not get there.

    Attributes:
        reason: The runtime's word.
        verdict: Whether another try was to follow; None where nobody asked, as after a success.
        compute_environment: Empty of tries that ended before this was kept.
        preempted_for: The id of the unit for whose sake it was stopped.
        gave_back: It was stopped as it used what its quota share had borrowed.
        containers: How each of several ended, in their order.
        image_digest: Which image it ran; empty where its agent did not say.
        epoch: Of the leader that claimed it; of one that was adopted after a restore that generation's first.
    """

    number: int
    cause: EndCause = EndCause.EXITED
    host_id: str = ""
    compute_environment: str = ""
    claimed_at_ms: int = 0
    started_at_ms: int = 0
    stopped_at_ms: int = 0
    exit_code: int | None = None
    reason: str = ""
    verdict: Verdict | None = None
    gpu_uuids: tuple[str, ...] = ()
    epoch: int = 0
    preempted_for: str = ""
    gave_back: bool = False
    usage: Usage = NO_USAGE
    containers: tuple[ContainerEnd, ...] = ()
    image_digest: str = ""

    def id_of(self, unit_id: JobId) -> AttemptId:
        """Return its id, as a try of that unit."""
        return attempt_id(unit_id, self.number, generation_of(self.epoch))


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuClaim:
    """Thousandths of one GPU that an attempt holds."""

    uuid: str
    millis: int


class _Named:
    """What an attempt is called: worked out once, as all that is done with it asks, and not stored."""

    __slots__ = ("id", "unit_id")

    id: AttemptId
    """Never reused: numbers only rise, but for restores, and with these generations do."""
    unit_id: JobId
    """The id of the job, child or node."""

    def _call(self, unit_id: JobId, number: int, generation: int) -> None:
        self.unit_id, self.id = unit_id, attempt_id(unit_id, number, generation)


@dataclass(slots=True, kw_only=True)
class Attempt(_Named):
    """
    A live claim on a host: one try that has not ended.

    Exists if and only if its job (or child) is STARTING or RUNNING, and holds
    the job's resources on its host for exactly that long.

    Attributes:
        terminate_reason: Set when someone asked to stop its unit, or the nodes that it runs with are over.
        preempted_for: Set when it is to make room: the id of the unit for whose sake.
        gives_back: It is to as it uses what its quota share has borrowed.
        is_node: Whether *index* is that of a node.
        image_digest: Which image it runs; empty until it does, and where its agent does not say.
        fence_ms: Its own fence, as its job or queue said when it was placed; 0: never; None: that of its host.
    """

    job_id: JobId
    index: int | None
    number: int
    host_id: HostId
    compute_environment: str
    epoch: int
    claimed_at_ms: int
    started_at_ms: int = 0
    gpus: tuple[GpuClaim, ...] = ()
    terminate_reason: str = ""
    preempted_for: str = ""
    gives_back: bool = False
    is_node: bool = False
    image_digest: str = ""
    fence_ms: int | None = None

    def __post_init__(self) -> None:
        self._call(unit_id(self.job_id, self.index, is_node=self.is_node), self.number, self.generation)

    @property
    def is_stopping(self) -> bool:
        """Whether its host was told to stop it."""
        return bool(self.terminate_reason or self.preempted_for)

    @property
    def generation(self) -> int:
        """In which it was claimed."""
        return generation_of(self.epoch)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnd:
    """How an attempt ended, as its agent (or the fence) says it."""

    cause: EndCause
    started_at_ms: int = 0
    stopped_at_ms: int = 0
    exit_code: int | None = None
    reason: str = ""
    usage: Usage = NO_USAGE
    containers: tuple[ContainerEnd, ...] = ()
    image_digest: str = ""
