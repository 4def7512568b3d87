"""
Turn: one line's part in a plan, which places its units one after the other.

It tries the environments of its queue in their order, heeds bounds, shares and quotas, and leaves
what is kept for others. It must never know which line's turn it is.
"""

from __future__ import annotations

from itertools import islice
from typing import NamedTuple, Protocol

from batchyard.ids import HostId, JobId
from batchyard_controller.core.model.attempts import GpuClaim
from batchyard_controller.core.model.settings import ComputeEnvironment, ResourceState
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.model.values import Instant

from .bounds import Draw
from .gangs import Trial
from .kinds import Mask
from .line import Line, Shape
from .promises import Promises
from .quotas import use_of
from .ranking import Ranking, Rankings
from .refusals import HeldBack
from .room import queue_vcpus, vcpus_left, wanted_hosts
from .sketch import Sketch
from .source import Source
from .tenants import NO_STAY, Stay

_HOSTS_A_STEP = 4096
"""To look at so many hosts is as much work as to place a unit."""
_HOUR_MS = 3_600_000


class Placement(NamedTuple):
    """One unit, by its job's id and its own index, on one host, its GPUs chosen, and for how long it is expected to stay."""

    job_id: JobId
    index: int | None  # type: ignore[assignment]  # hides a method of tuples
    host_id: HostId
    compute_environment: str
    gpus: tuple[GpuClaim, ...]
    stay: Stay


class Service(Protocol):
    """What a plan has come to, as far as a turn asks for it."""

    now: Instant
    rankings: Rankings
    sketch: Sketch
    promises: Promises
    steps: int

    def stay_of(self, shape: Shape) -> Stay:
        """Return for how long units of a shape will hold a host."""


class Turn:
    """One line's part in a plan: who is next, and in which environments there may be room."""

    def __init__(self, line: Line, source: Source[Turn]) -> None:
        self.line = line
        self.shape = line.shape
        self.was_refused = line.asked_under is None
        self.lacks_room = True
        """Whether it is for want of room that its head is refused, so that a host may be kept for it."""
        self.lacks_quota = False
        """Whether its head is refused as its share may not use so much."""
        self.held_back: HeldBack | None = None
        """What kept its head from room that there was."""
        self.wanted: Mask | None = None
        self.open_types: Mask | None = None
        """Hosts of types of which its share may use more, where there are others; None for all."""
        self._source = source
        self._units = line.units()
        self.head: Unit | None = next(self._units, None)
        self._choices: list[Ranking] | None = None
        """Of its environments, the first one last."""
        self._closed: list[int] = []
        """Rows of hosts that are kept for others."""
        self._stay = NO_STAY
        self._ends_ms = 0
        """When a unit of it that starts now will have ended."""
        self._run_h = 0.0
        """For how long it is taken to run, in hours."""
        self.draw: Draw = ()

    @property
    def was_held_back(self) -> bool:
        """Whether there was room for its head that it may not have."""
        return self.held_back is not None or bool(self._closed)

    def pass_on(self) -> None:
        """Come to the next one in line; past all nodes of a job at once."""
        self.head = next(self._units if not self.shape.parts else islice(self._units, self.shape.size - 1, None), None)

    def place(self, service: Service) -> tuple[Placement, ...]:
        """Place the head of the line, with all nodes of its job, and move on; nothing when there is no room."""
        assert self.head is not None, "nobody is left in this line"
        service.steps += 1
        if self._choices is None:
            self._begin(service)
        assert self._choices is not None, "just begun"
        quota = self._source.quota
        kept = service.promises.cleared.number(self.shape) if self.draw or quota is not None else 0
        if not service.sketch.draws.allow(self.draw, kept):
            self.lacks_room = False
            return ()
        if quota is not None:
            may, self.open_types = quota.hosts_for(self.shape, service.sketch.fleet, is_promised=kept > 0)
            if not may:
                self.lacks_room, self.lacks_quota = False, True
                return ()
        if not self._has_share(service):
            self.lacks_room, self.held_back = False, HeldBack()
            return ()
        sketch, cpu = service.sketch, self.shape.resources.cpu_millis
        while self._choices:
            ranking = self._choices[-1]
            left = vcpus_left(sketch.environment_cpu, ranking.environment)
            name = ranking.environment.name
            is_free = left >= cpu and service.promises.let_spend(self.head, self.shape, name, self._ends_ms)
            placed: tuple[Placement, ...] = ()
            if is_free and self.shape.parts:
                placed = self._place_gang(service, ranking.environment, is_promised=kept > 0)
            elif is_free and (row := self._best(service, ranking)) is not None:
                placed = (self._take(service, row, ranking),)
            self.held_back, service.promises.held_back = self.held_back or service.promises.held_back, None
            if placed:
                return placed
            self._choices.pop()  # for good: a plan gives nothing back
        self.lacks_quota = self.open_types is not None
        return ()

    def _begin(self, service: Service) -> None:
        environments = self._source.environments
        self._stay = service.stay_of(self.shape)
        self._ends_ms = self._stay.end(service.now.boot_ms, service.now.boot_ms)  # as will be said of it as a tenant
        self._run_h = self._stay.expected_ms / _HOUR_MS
        self.draw = service.sketch.fleet.bounds.draw_of(self.shape)
        if not self.shape.parts:  # of which each part has its own
            self.wanted = wanted_hosts(service.sketch.fleet, self.shape, environments)
        self._choices = [
            service.rankings.of(self.shape, environment)
            for environment in reversed(environments)
            if environment.state is ResourceState.ENABLED
        ]

    def _has_share(self, service: Service) -> bool:
        """Say whether enough is left for shares that are not active."""
        standing = self._source.standing
        if standing is None or not standing.reservation:
            return True
        capacity = queue_vcpus(service.sketch.fleet, self._source.environments)
        return standing.room(capacity) >= self.shape.resources.cpu_millis

    def _best(self, service: Service, ranking: Ranking) -> int | None:
        """Return the row of the best host that is not kept for another."""
        assert self.head is not None, "place() looked"
        while True:
            wanted = self.wanted
            if self.open_types is not None:
                wanted = self.open_types if wanted is None else wanted & self.open_types
            row = ranking.best(service.sketch, wanted, self._run_h, self._closed)
            service.steps += ranking.looked_at // _HOSTS_A_STEP
            if row is None or service.promises.let_pass(self.head, self.shape, row, self._ends_ms):
                return row
            self._closed.append(row)

    def _place_gang(
        self, service: Service, environment: ComputeEnvironment, *, is_promised: bool
    ) -> tuple[Placement, ...]:
        """Place all nodes of a job in an environment and move on; nothing where not all find room."""
        assert self.head is not None, "place() looked"
        head, sketch, quota = self.head, service.sketch, self._source.quota
        service.steps += self.shape.size
        trial = Trial(
            sketch,
            service.rankings,
            self.shape,
            environment,
            lambda shape, row, beside: service.promises.let_pass(
                head, shape, row, self._ends_ms, line=self.shape, beside=beside
            ),
            self._run_h,
        )
        cleared = service.promises.cleared
        if not trial.run(self.open_types) and not (
            cleared.are_any and trial.sit(cleared.seats(head, self.shape, environment.name), self.open_types)
        ):
            return ()
        types = [sketch.fleet.facts[seat.row].host_type for seat in trial.seats]
        uses = [use_of(seat.shape.resources, name) for seat, name in zip(trial.seats, types, strict=True)]
        if quota is not None and not quota.allows_all(self.shape.share, uses, is_promised=is_promised):
            trial.drop()
            return ()
        sketch.draws.take(self.draw)
        for seat, use in zip(trial.seats, uses, strict=True):
            if quota is not None:
                quota.take(self.shape.share, use)
            service.promises.note_placed(
                head, seat.shape, seat.row, environment.name, seat.gpus, self._ends_ms, line=self.shape
            )
        self.pass_on()
        return tuple(
            Placement(head.job.id, seat.node, sketch.fleet.ids[seat.row], environment.name, seat.gpus, self._stay)
            for seat in trial.seats
        )

    def _take(self, service: Service, row: int, ranking: Ranking) -> Placement:
        assert self.head is not None, "place() looked"
        sketch, environment = service.sketch, ranking.environment.name
        gpus = sketch.claim(row, self.shape.resources, self.shape.access, ranking.asked, environment)
        ranking.note_taken(sketch)
        sketch.draws.take(self.draw)
        if self._source.quota is not None:
            use = use_of(self.shape.resources, sketch.fleet.facts[row].host_type)
            self._source.quota.take(self.shape.share, use)
        service.promises.note_placed(self.head, self.shape, row, environment, gpus, self._ends_ms)
        unit = self.head
        self.pass_on()
        return Placement(unit.job.id, unit.index, sketch.fleet.ids[row], environment, gpus, self._stay)
