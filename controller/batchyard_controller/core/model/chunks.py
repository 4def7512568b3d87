"""Chunks: what is kept of neighbouring children of an array, a column a fact; the unit in which they are stored."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from batchyard.states import JobState
from batchyard.tasks import ContainerEnd

from .attempts import EndedAttempt
from .endings import Ending

CHUNK = 64
"""Children in a chunk. A chunk and its children's attempts fit one etcd transaction."""

NO_EXIT_CODE = -(1 << 15)

STATES = tuple(JobState)


@dataclass(slots=True)
class Chunk:
    """Columns of up to `CHUNK` neighbouring children."""

    states: bytearray
    attempts: bytearray = field(default_factory=lambda: bytearray(CHUNK))
    """Ended tries of each child; the columns below are of the last one."""
    causes: bytearray = field(default_factory=lambda: bytearray(CHUNK))
    decisions: bytearray = field(default_factory=lambda: bytearray(CHUNK))
    rules: bytearray = field(default_factory=lambda: bytearray(CHUNK))
    exit_codes: array[int] = field(default_factory=lambda: array("h", [NO_EXIT_CODE]) * CHUNK)
    claimed: array[int] = field(default_factory=lambda: array("q", bytes(8 * CHUNK)))
    started: array[int] = field(default_factory=lambda: array("q", bytes(8 * CHUNK)))
    stopped: array[int] = field(default_factory=lambda: array("q", bytes(8 * CHUNK)))
    hosts: array[int] = field(default_factory=lambda: array("h", [-1]) * CHUNK)
    """Index into host_ids."""
    host_ids: list[str] = field(default_factory=list)
    environments: array[int] = field(default_factory=lambda: array("h", [-1]) * CHUNK)
    """Index into environment_names."""
    environment_names: list[str] = field(default_factory=list)
    peaks_kib: array[int] = field(default_factory=lambda: array("q", bytes(8 * CHUNK)))
    user_cpu_ms: array[int] = field(default_factory=lambda: array("q", bytes(8 * CHUNK)))
    system_cpu_ms: array[int] = field(default_factory=lambda: array("q", bytes(8 * CHUNK)))
    epochs: array[int] = field(default_factory=lambda: array("q", bytes(8 * CHUNK)))
    ended: array[int] = field(default_factory=lambda: array("q", bytes(8 * CHUNK)))
    """When each child came to its final state, by the controller's clock."""
    endings: dict[int, Ending] = field(default_factory=dict)
    """Of children that were ended by anything but their last try, which tells of itself."""
    reasons: dict[int, str] = field(default_factory=dict)
    gpus: dict[int, tuple[str, ...]] = field(default_factory=dict)
    preempted_for: dict[int, str] = field(default_factory=dict)
    gave_back: dict[int, bool] = field(default_factory=dict)
    containers: dict[int, tuple[ContainerEnd, ...]] = field(default_factory=dict)
    earlier: dict[int, tuple[EndedAttempt, ...]] = field(default_factory=dict)
    """All ended tries but the last."""
    terminate_reasons: dict[int, str] = field(default_factory=dict)

    @property
    def is_blank(self) -> bool:
        """Whether no try and no end is noted of any of them; what moves them otherwise is worked out again."""
        return not any(self.attempts) and not any(self.ended) and not self.terminate_reasons
