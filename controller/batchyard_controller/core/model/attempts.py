"""Attempts: tries of a unit, live and ended."""

from __future__ import annotations

from dataclasses import dataclass

from batchyard.ids import AttemptId, HostId, JobId, attempt_id, child_id
from batchyard.states import EndCause


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedAttempt:
    """One try that is over. Times are wall-clock; 0 means it did not get there."""

    number: int
    host_id: str = ""
    claimed_at_ms: int = 0
    started_at_ms: int = 0
    stopped_at_ms: int = 0
    exit_code: int | None = None
    reason: str = ""
    status_reason: str = ""
    gpu_uuids: tuple[str, ...] = ()
    epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuClaim:
    """Thousandths of one GPU that an attempt holds."""

    uuid: str
    millis: int


@dataclass(slots=True, kw_only=True)
class Attempt:
    """
    A live claim on a host: one try that has not ended.

    Exists if and only if its job (or child) is STARTING or RUNNING, and holds
    the job's resources on its host for exactly that long.
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

    @property
    def unit_id(self) -> JobId:
        """The id of the job or child."""
        return self.job_id if self.index is None else child_id(self.job_id, self.index)

    @property
    def id(self) -> AttemptId:
        """Never reused, as numbers only rise."""
        return attempt_id(self.unit_id, self.number)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnd:
    """How an attempt ended, as its agent (or the fence) says it."""

    cause: EndCause
    started_at_ms: int = 0
    stopped_at_ms: int = 0
    exit_code: int | None = None
    reason: str = ""
