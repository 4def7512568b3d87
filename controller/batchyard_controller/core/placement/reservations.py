"""
Reservations: the host on which the first that cannot start yet will start, and who may use it until then.

Of each priority the first unit that does not fit is promised the host that will have room
for it soonest, by when what runs there ends at the latest (its timeout; without one, when
it is expected to, and twice as late again whenever that is outrun). Others may use that host
only if they will have ended by then, or if they leave room enough beside it; all other
hosts are free to all. So the promise costs little, and is kept. Laws: nobody who passes
delays the one who was promised, if all have timeouts; if not, and the promise was missed,
only those pass who leave room, all of them together, from some age of it on; a reservation is a plan's, never a claim.
A host that is cleared for a unit, by stopping others, is another matter (see `clearings`).

Source: EASY backfilling (Lifka 1995); one reservation a pool, as more were worse on the
KTH-SP2 log, see decision 0016.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from batchyard.ids import HostId, JobId
from batchyard.resources import RESOURCE_KINDS, Resources
from batchyard_controller.core.model.attempts import GpuClaim

from .gpus import gpu_levels, gpu_needs
from .line import Shape
from .tenants import Tenant


@dataclass(frozen=True, slots=True)
class Reservation:
    """
    A promise, as a value that goes from plan to plan.

    Attributes:
        priority: Of the queue.
        job_id: Whose unit, with *index*, was promised the host.
        shape: What it asks.
        environment: In which it will run.
        starts_ms: When there will be room, at the latest, as far as is known (boot time).
        promised_ms: The first such time that was reckoned for this host.
        patient_until_ms: From when on a promise that was missed lets nobody pass who stays (boot time).
        missed_ms: Since when it has let nobody pass who stays (boot time); None while it is patient. The ends of those
            who came since are not reckoned with: each has left room, and what is expected of them may be as wrong.
        turns_away: Whether somebody was kept from the host.
        is_made: Whether this round has made it: until that ends a gang keeps its hosts, whoever passes on them meanwhile.
        is_in_force: Whether this round has come as far as to make it again; until then it binds nobody. Of a cleared
            host: whether the unit would have room there.
        is_overdue: Whether it binds before that all the same, as it was missed, and those before whom it
            would come are never through; said as a round begins.
        is_cleared: Whether others are stopped on the host so that it can start.
        part: Of a gang: to which part of *shape*; each node has a promise of its own of a cleared host.
    """

    priority: int
    job_id: JobId
    index: int | None
    shape: Shape
    host_id: HostId
    environment: str
    starts_ms: int
    promised_ms: int
    patient_until_ms: int
    missed_ms: int | None = None
    turns_away: bool = False
    is_made: bool = True
    is_in_force: bool = True
    is_overdue: bool = False
    is_cleared: bool = False
    part: int = 0

    def is_for(self, job_id: JobId, index: int | None) -> bool:
        """Say whether it is a unit's."""
        return self.job_id == job_id and self.index == index

    def is_patient(self, now_ms: int) -> bool:
        """Say whether those pass who will have ended when it starts: not for ever, where what is expected is wrong."""
        return self.starts_ms <= self.promised_ms or now_ms < self.patient_until_ms


def add_amounts(
    free: dict[str, int], gpus: dict[str, int], resources: Resources, claims: Iterable[GpuClaim], sign: int = 1
) -> None:
    """Let amounts of a host, by their kinds, and of its GPUs, by UUID, become free, or be held (-1)."""
    for kind in RESOURCE_KINDS:
        free[kind] += sign * getattr(resources, kind)
    for gpu in claims:
        if gpu.uuid in gpus:
            gpus[gpu.uuid] += sign * gpu.millis


class BoundForecast:
    """What is left of an environment's bound as those end who count towards it; reckoned once for all its hosts."""

    def __init__(self, vcpus_left: int, spenders: Iterable[Tenant]) -> None:
        ends = sorted((tenant.ends_ms, tenant.resources.cpu_millis) for tenant in spenders)
        self._ends_ms = [ends_ms for ends_ms, _ in ends]
        self._left = list(itertools.accumulate((cpu_millis for _, cpu_millis in ends), initial=vcpus_left))

    def reaches(self, cpu_millis: int, now_ms: int) -> int | None:
        """Return the first moment at which so much is left; None if that never comes."""
        place = bisect.bisect_left(self._left, cpu_millis)
        if place == len(self._left):
            return None
        return max(now_ms, self._ends_ms[place - 1]) if place else now_ms

    def left_at(self, at_ms: int) -> int:
        """Return what is left at a moment."""
        return self._left[bisect.bisect_right(self._ends_ms, at_ms)]


class Forecast:
    """What is free of one host, and of its environment's bound, as those who hold them end."""

    def __init__(self, free: Iterable[int], gpus: Mapping[str, int]) -> None:
        self.vcpus_left = 0
        self._free = dict(zip(RESOURCE_KINDS, free, strict=True))
        self._gpus = dict(gpus)

    def fits(self, asked: Resources) -> bool:
        """Say whether the host has room for one more."""
        whole, part = gpu_levels(self._gpus)
        wholes, parts = gpu_needs(asked.gpu_millis)
        return (
            all(self._free[kind] >= getattr(asked, kind) for kind in RESOURCE_KINDS if getattr(asked, kind))
            and whole >= wholes
            and part >= parts
        )

    def add(self, resources: Resources, gpus: Iterable[GpuClaim], sign: int = 1) -> None:
        """Let amounts of the host become free, or be held (-1)."""
        add_amounts(self._free, self._gpus, resources, gpus, sign)

    def run(self, asked: Resources, tenants: Iterable[Tenant], bound: BoundForecast, now_ms: int) -> int | None:
        """
        Go on to the first moment at which there is room, and return it; None if that never comes.

        Args:
            asked: By the one who waits.
            tenants: Who holds the host.
            bound: Of its environment.
            now_ms: The present, boot time.
        """
        at_ms = bound.reaches(asked.cpu_millis, now_ms)
        if at_ms is None:
            return None
        for tenant in sorted(tenants, key=lambda tenant: tenant.ends_ms):
            if tenant.ends_ms > at_ms and self.fits(asked):
                break
            at_ms = max(at_ms, tenant.ends_ms)
            self.add(tenant.resources, tenant.gpus)
        self.vcpus_left = bound.left_at(at_ms)
        return at_ms if self.fits(asked) else None

    def go_on(self, tenants: Iterable[Tenant], at_ms: int) -> None:
        """Go on to a moment."""
        for tenant in tenants:
            if tenant.ends_ms <= at_ms:
                self.add(tenant.resources, tenant.gpus)


@dataclass(slots=True)
class Held:
    """
    A reservation in a plan: who may pass, as far as the plan has gone.

    Attributes:
        row: Of its host.
        asked: By the one who was promised it.
        then: What will be free when that starts, before it does.
        is_bounded: Whether its environment has a bound, which others may not use up.
    """

    value: Reservation
    row: int
    asked: Resources
    then: Forecast
    is_bounded: bool
    turns_away: bool

    def is_soon_over(self, ends_ms: int, now_ms: int) -> bool:
        """Say whether whoever has ended by then passes."""
        return ends_ms <= self.value.starts_ms and self.value.is_patient(now_ms)

    def leaves_room(self, resources: Resources, gpus: Iterable[GpuClaim]) -> bool:
        """Say whether there will be room for it beside one who stays on its host."""
        self.then.add(resources, gpus, -1)
        leaves = self.then.fits(self.asked)
        self.then.add(resources, gpus)
        return leaves

    def leaves_vcpus(self, resources: Resources) -> bool:
        """Say whether the environment's bound will have room for it beside one who stays in it."""
        return self.then.vcpus_left - resources.cpu_millis >= self.asked.cpu_millis
