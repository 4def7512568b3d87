"""
Placement: where waiting jobs go, as a plan that leaves nothing to choose.

The fleet keeps the hosts' free amounts in arrays, one row a host. `make_plan`
serves queues by priority and, among equals, jobs by submission; a job that does
not fit lets others pass (there is no reservation yet). One vector pass finds the
hosts for a whole line; it is repeated only when another line has taken some of
the same hosts in between. A plan holds the placements and the refusals, and
changes nothing: it reckons on a sketch of the fleet.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from batchyard.ids import HostId, JobId
from batchyard_controller.core.model.attempts import GpuClaim
from batchyard_controller.core.model.settings import ComputeEnvironment, JobQueue, ResourceState
from batchyard_controller.core.model.units import Unit

from .explain import explain
from .fleet import CPU, Fleet, row_of
from .lines import Line, Lines, Shape
from .refusals import Refusal
from .sketch import Sketch, room_for, vcpus_left, wanted_hosts
from .strategies import STRATEGIES


@dataclass(frozen=True, slots=True)
class Placement:
    """One unit, by its job's id and its own index, on one host, its GPUs chosen."""

    job_id: JobId
    index: int | None
    host_id: HostId
    compute_environment: str
    gpus: tuple[GpuClaim, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """
    Placements, and why the first left over of a shape waits; a value that can be printed and kept.

    Attributes:
        grown: Version of the fleet's growth on which it was reckoned.
    """

    placements: tuple[Placement, ...]
    refusals: tuple[tuple[Shape, tuple[Refusal, ...]], ...]
    grown: int


def make_plan(
    lines: Lines, queues: Mapping[str, JobQueue], environments: Mapping[str, ComputeEnvironment], fleet: Fleet
) -> Plan:
    """Decide where waiting jobs go now, and say why the others wait."""
    sketch = Sketch.of(fleet)
    placements: list[Placement] = []
    turns: list[_Turn] = []
    by_priority: dict[int, list[JobQueue]] = {}
    for queue in queues.values():
        by_priority.setdefault(queue.priority, []).append(queue)
    for priority in sorted(by_priority, reverse=True):
        waiting = [
            _Turn(line, tuple(environments[name] for name in queue.compute_environments), sketch)
            for queue in by_priority[priority]
            for line in lines.of_queue(queue.name)
            if line.refused_at != fleet.grown
        ]
        _serve(waiting, placements)
        turns += waiting
    refusals = tuple((turn.shape, turn.refusals) for turn in turns if turn.refusals)
    return Plan(tuple(placements), refusals, fleet.grown)


def _serve(waiting: list[_Turn], placements: list[Placement]) -> None:
    """Place the units of several lines, always the earliest submitted first."""
    heap = [(turn.head.job.seq, i, turn) for i, turn in enumerate(waiting) if turn.head is not None]
    heapq.heapify(heap)
    while heap:
        _, i, turn = heapq.heappop(heap)
        limit = heap[0][0] if heap else None
        while turn.head is not None and (limit is None or turn.head.job.seq <= limit):
            placement = turn.place()
            if placement is None:
                break
            placements.append(placement)
        else:
            if turn.head is not None:
                heapq.heappush(heap, (turn.head.job.seq, i, turn))


class _Turn:
    """One line's part in a plan: who is next, and which hosts are left for it."""

    def __init__(self, line: Line, environments: tuple[ComputeEnvironment, ...], sketch: Sketch) -> None:
        self.shape = line.shape
        self._environments = environments
        self._sketch = sketch
        self._asked = row_of(line.shape.resources)
        self._units = line.units()
        self.head: Unit | None = next(self._units, None)
        self.refusals: tuple[Refusal, ...] = ()
        self._slots: Iterator[tuple[int, str]] = iter(())
        self._version = -1

    def place(self) -> Placement | None:
        """Place the head of the line and move on; None, and refusals, when there is no room."""
        assert self.head is not None, "nobody is left in this line"
        if self._version != self._sketch.version:
            self._slots = self._find_slots()
        slot = next(self._slots, None)
        if slot is None:
            self.refusals = explain(self.shape, self._environments, self._sketch.fleet, self._sketch)
            return None
        row, environment = slot
        gpus = self._sketch.claim(row, self._asked, environment)
        self._version = self._sketch.version
        unit, self.head = self.head, next(self._units, None)
        return Placement(unit.job.id, unit.index, self._sketch.fleet.ids[row], environment, gpus)

    def _find_slots(self) -> Iterator[tuple[int, str]]:
        """Yield a host row for one unit after the other, environments in order, tightest host first."""
        fleet, sketch, asked = self._sketch.fleet, self._sketch, self._asked
        wanted = wanted_hosts(fleet, self.shape, self._environments)
        for environment in self._environments:
            if environment.state is not ResourceState.ENABLED:
                continue
            room = room_for(sketch, self.shape, environment, asked, wanted)
            rows = np.nonzero(room)[0]
            strategy = STRATEGIES[environment.compute_resources.allocation_strategy]
            order = np.argsort(strategy(sketch.free[rows], fleet.capacity[rows], asked), kind="stable")
            for row in rows[order].tolist():
                for _ in range(int(room[row])):
                    if vcpus_left(sketch, environment) < asked[CPU]:
                        break
                    yield row, environment.name
