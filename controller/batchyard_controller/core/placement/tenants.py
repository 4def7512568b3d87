"""
Tenants: who holds each host, and until when, as far as is known.

What is expected of an attempt is said at its claim and not changed; where it is outrun, it is put off.
Law: exactly the live attempts are tenants.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from batchyard.ids import AttemptId, HostId
from batchyard.resources import Resources
from batchyard_controller.core.model.attempts import Attempt, GpuClaim

OUTRUN_MS = 30_000
"""So much is left of what should have ended, at least."""


class Tenant(NamedTuple):
    """What one attempt holds of a host, and until when (boot time), at the latest as far as is known."""

    ends_ms: int
    resources: Resources
    gpus: tuple[GpuClaim, ...]
    environment: str
    came_ms: int
    """Since when (boot time)."""


@dataclass(frozen=True, slots=True)
class Stay:
    """
    For how long something is expected to hold its host.

    Attributes:
        expected_ms: Its bound, or what is guessed.
        is_bound: Whether it is ended then.
    """

    expected_ms: int
    is_bound: bool

    def end(self, began_ms: int, now_ms: int) -> int:
        """Return when it will be over; beyond a bound it is about to be, beyond a guess the guess is doubled."""
        if self.is_bound:
            return max(began_ms + self.expected_ms, now_ms + OUTRUN_MS)
        expected_ms = self.expected_ms
        while began_ms + expected_ms <= now_ms:
            expected_ms = 2 * (expected_ms + OUTRUN_MS)
        return began_ms + expected_ms


NO_STAY = Stay(0, is_bound=True)


@dataclass(slots=True)
class _Tenancy:
    stay: Stay
    resources: Resources
    gpus: tuple[GpuClaim, ...]
    environment: str
    came_ms: int
    """Boot time of its claim."""
    began_ms: int | None
    """Boot time; None of one that has yet to start."""

    def tenant(self, now_ms: int) -> Tenant:
        began_ms = now_ms if self.began_ms is None else self.began_ms
        ends_ms = self.stay.end(began_ms, now_ms)
        return Tenant(ends_ms, self.resources, self.gpus, self.environment, self.came_ms)


@dataclass(slots=True)
class Tenants:
    """The tenants of all hosts."""

    _by_host: dict[HostId, dict[AttemptId, _Tenancy]] = field(default_factory=dict)

    def enter(self, attempt: Attempt, resources: Resources, stay: Stay, came_ms: int, began_ms: int | None) -> None:
        """Let an attempt hold its host since *came_ms* (boot time), and run since *began_ms* if it has started."""
        tenancy = _Tenancy(stay, resources, attempt.gpus, attempt.compute_environment, came_ms, began_ms)
        self._by_host.setdefault(attempt.host_id, {})[attempt.id] = tenancy

    def begin(self, name: AttemptId, host_id: HostId, began_ms: int) -> None:
        """Note that an attempt has started."""
        self._by_host[host_id][name].began_ms = began_ms

    def leave(self, name: AttemptId, host_id: HostId) -> None:
        """Let an attempt hold its host no more."""
        of_host = self._by_host[host_id]
        del of_host[name]
        if not of_host:
            del self._by_host[host_id]

    def of_host(self, host_id: HostId, now_ms: int) -> list[Tenant]:
        """Return who holds a host."""
        return [tenancy.tenant(now_ms) for tenancy in self._by_host.get(host_id, {}).values()]

    def of_environment(self, name: str, now_ms: int) -> list[Tenant]:
        """Return who counts towards the bound of an environment."""
        return [tenancy.tenant(now_ms) for tenancy in self._all() if tenancy.environment == name]

    def _all(self) -> Iterator[_Tenancy]:
        for of_host in self._by_host.values():
            yield from of_host.values()
