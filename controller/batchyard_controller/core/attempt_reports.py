"""What hosts report of attempts. Pure values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from batchyard.ids import AttemptId
from batchyard.resources import NOTHING, Resources
from batchyard.tasks import ContainerEnd
from batchyard_controller.core.model.attempts import AttemptEnd, GpuClaim


class Phase(StrEnum):
    """How far an attempt has come on its host."""

    STARTING = "STARTING"
    RUNNING = "RUNNING"
    ENDED = "ENDED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """
    The whole truth about one attempt, as its agent sees it.

    Attributes:
        end: Of one that is ENDED, and no other.
        containers: How each of several is by now, of one that is not; empty where its agent does not tell.
        hindrance: What keeps one from starting that is STARTING.
        image_digest: Which image it runs, of one that does.
        gpus: What it holds of GPUs, where its agent tells.
        resources: What it was promised of its host, likewise.
    """

    attempt_id: AttemptId
    phase: Phase
    started_at_ms: int = 0
    end: AttemptEnd | None = None
    containers: tuple[ContainerEnd, ...] = ()
    hindrance: str = ""
    image_digest: str = ""
    gpus: tuple[GpuClaim, ...] = ()
    resources: Resources = NOTHING
