"""Hosts: what they are, in their agents' words, and what is known of their liveness."""

from __future__ import annotations

from dataclasses import dataclass, field

from batchyard.ids import AttemptId, HostId
from batchyard.pairs import Pairs
from batchyard.resources import NOTHING, Resources

from .attempts import Attempt
from .values import Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFacts:
    """One GPU of a host. A ``fault`` keeps it from getting work."""

    uuid: str
    model: str = ""
    memory_mib: int = 0
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """What a host is, in its agent's words."""

    name: str
    boot_id: str = ""
    agent_version: str = ""
    capacity: Resources = NOTHING
    gpus: tuple[GpuFacts, ...] = ()
    runtimes: tuple[str, ...] = ()
    host_type: str = "workstation"
    purchase_option: str = "on-demand"
    zone: str = ""
    labels: Pairs = ()
    operating_system: str = ""
    cpu_model: str = ""
    allows_privileged: bool = False
    volume_paths: tuple[str, ...] = ()
    device_paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRecord:
    """What the store keeps of a host."""

    id: HostId
    facts: HostFacts
    cordoned: bool = False
    draining: bool = False


@dataclass(slots=True, kw_only=True)
class Host:
    """
    A host and what is known of its liveness, which is never stored.

    Attributes:
        session: Number of the stream it is connected by; 0 when it is not.
        heard_boot_ms: When it was last heard, on our clock; a new leader starts
            every host afresh.
        attempts: Live claims on it.
    """

    record: HostRecord
    session: int = 0
    heard_boot_ms: int = 0
    heard_wall_ms: int = 0
    attempts: dict[AttemptId, Attempt] = field(default_factory=dict)

    def hear(self, now: Instant) -> None:
        """Restart its timers."""
        self.heard_boot_ms, self.heard_wall_ms = now.boot_ms, now.wall_ms

    def is_silent(self, now: Instant, limit_ms: int) -> bool:
        """Say whether it was not heard for longer than *limit_ms*."""
        return now.boot_ms - self.heard_boot_ms > limit_ms
