"""
Placement: where waiting jobs go, as a plan that leaves nothing to choose.

The fleet keeps what is left of each host in arrays. `make_plan` serves queues by
priority and, among equals, units by submission; a unit that does not fit lets
others pass (there is no reservation yet). For each unit the ranking of its shape tells
the best host, having looked again only at hosts that changed. A plan holds the
placements and who was refused, and changes nothing: it reckons on a sketch of the fleet.

A plan may be a slice: it ends after so much work, and the next one, made once this one
is in force, goes on where it stopped, with what is true by then. Law: if nothing else
has happened, slices place as one plan of all would. So the order of service rests on
nothing but priority and place, and who is refused is refused until the fleet grows.
Where it grows all the time, all lines are asked all the same: of those that were
refused since all were asked last few are asked again in one slice, longest ago first.
"""

from __future__ import annotations

import heapq
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

from batchyard.ids import HostId, JobId
from batchyard_controller.core.model.attempts import GpuClaim
from batchyard_controller.core.model.settings import ComputeEnvironment, JobQueue, ResourceState
from batchyard_controller.core.model.units import Unit

from .kinds import Mask
from .lines import Line, Lines, Shape
from .ranking import Ranking, Rankings
from .room import vcpus_left, wanted_hosts
from .sketch import Sketch

_HOSTS_A_STEP = 4096
"""To look at so many hosts is as much work as to place a unit."""
_PART_ASKED_AGAIN = 4
"""One step of so many may go to lines that were refused in this round."""
_LAST = (math.inf, 0)


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
    Placements, and the shapes of which the first left over was refused; a value that can be printed and kept.

    Attributes:
        grown: Version of the fleet's growth on which it was reckoned.
        resumed: Shapes that had been refused, and of which some were placed.
        is_whole: Whether there is no use in another before something happens; a slice says no.
        ends_round: Whether all lines have been asked since a plan last said so.
        steps: How much work it was.
    """

    placements: tuple[Placement, ...]
    refused: tuple[Shape, ...]
    resumed: tuple[Shape, ...]
    grown: int
    is_whole: bool
    ends_round: bool
    steps: int


def make_plan(
    lines: Lines,
    queues: Mapping[str, JobQueue],
    environments: Mapping[str, ComputeEnvironment],
    rankings: Rankings,
    steps_max: int | None = None,
) -> Plan:
    """Decide where waiting jobs go now, and who waits on; in about *steps_max* steps of work, if any are said."""
    assert steps_max is None or steps_max > 0, "a plan of no work would be made for ever"
    rankings.packing.begin_round(lines, queues, environments)
    lines.begin_round(rankings.fleet.grown)
    service = _Service(lines, rankings, steps_max)
    by_priority: dict[int, list[_Source]] = {}
    for queue in queues.values():
        order = tuple(environments[name] for name in queue.compute_environments)
        by_priority.setdefault(queue.priority, []).append(_Source(queue.name, order))
    for priority in sorted(by_priority, reverse=True):
        if not service.is_spent:
            service.serve(by_priority[priority])
    return service.finish()


@dataclass(frozen=True, slots=True)
class _Source:
    """A queue whose lines come to be served one after the other, as their first is the next of all."""

    queue: str
    environments: tuple[ComputeEnvironment, ...]


class _Service:
    """What a plan has come to."""

    def __init__(self, lines: Lines, rankings: Rankings, steps_max: int | None) -> None:
        self.rankings = rankings
        self.sketch = Sketch.of(rankings.fleet, rankings.packing.remainders)
        self.steps = 0
        self.is_spent = False
        self._lines = lines
        self._steps_max = steps_max or sys.maxsize
        self._taken: list[Line] = []
        self._placements: list[Placement] = []
        self._refused: list[Shape] = []
        self._resumed: dict[Shape, None] = {}
        again_max = max(1, self._steps_max // _PART_ASKED_AGAIN)
        again = list(islice(lines.refused_before(rankings.fleet.grown), again_max + 1))
        self._asks_all = len(again) <= again_max
        self._again: dict[str, list[Line]] = {}
        for line in again[:again_max]:
            self._again.setdefault(line.shape.queue, []).append(line)

    def serve(self, sources: list[_Source]) -> None:
        """Place the units of several queues, always the earliest submitted first, until the work is too much."""
        heap: _Heap = []
        for source in sources:
            for line in self._again.get(source.queue, ()):
                self._put(heap, _Turn(line, source.environments))
            self._put(heap, source)
        while heap and not self.is_spent:
            _, _, found = heapq.heappop(heap)
            if isinstance(found, _Turn):
                turn = found
            else:
                self._taken.append(self._lines.take_next(found.queue))
                turn = _Turn(self._taken[-1], found.environments)
                self._put(heap, found)
            if self._serve_line(turn, heap[0][0] if heap else _LAST):
                self._put(heap, turn)

    def _put(self, heap: _Heap, found: _Turn | _Source) -> None:
        """Let a line, or a queue, have its turn when its next unit is the next of all."""
        if isinstance(found, _Turn):
            place = found.head.place if found.head is not None else None
        else:
            place = self._lines.next_place(found.queue)
        if place is not None:
            heapq.heappush(heap, (place, id(found), found))

    def _serve_line(self, turn: _Turn, limit: tuple[float, int]) -> bool:
        """Place units of one line up to a place in the order; return whether it may be served on."""
        while turn.head is not None and turn.head.place < limit:
            if self.steps >= self._steps_max:
                self.is_spent = True
                return False
            placement = turn.place(self)
            if placement is None:
                self._resumed.pop(turn.shape, None)
                self._refused.append(turn.shape)
                return False
            self._placements.append(placement)
            if turn.was_refused:
                self._resumed[turn.shape] = None
        return True

    def finish(self) -> Plan:
        """Return the plan, and forget what it reckoned on."""
        self.sketch.throw_away()
        self._lines.give_back(self._taken)
        return Plan(
            tuple(self._placements),
            tuple(self._refused),
            tuple(self._resumed),
            self.rankings.fleet.grown,
            is_whole=not self.is_spent and self._asks_all,
            ends_round=not self.is_spent,
            steps=self.steps,
        )


class _Turn:
    """One line's part in a plan: who is next, and in which environments there may be room."""

    def __init__(self, line: Line, environments: tuple[ComputeEnvironment, ...]) -> None:
        self.shape = line.shape
        self.was_refused = line.asked_under is None
        self._environments = environments
        self._units = line.units()
        self.head: Unit | None = next(self._units, None)
        self._choices: list[Ranking] | None = None
        """Of its environments, the first one last."""
        self._wanted: Mask | None = None

    def place(self, service: _Service) -> Placement | None:
        """Place the head of the line and move on; None when there is no room."""
        assert self.head is not None, "nobody is left in this line"
        sketch, cpu = service.sketch, self.shape.resources.cpu_millis
        if self._choices is None:
            self._wanted = wanted_hosts(sketch.fleet, self.shape, self._environments)
            self._choices = [
                service.rankings.of(self.shape, environment)
                for environment in reversed(self._environments)
                if environment.state is ResourceState.ENABLED
            ]
        service.steps += 1
        while self._choices:
            ranking = self._choices[-1]
            if vcpus_left(sketch.environment_cpu, ranking.environment) >= cpu:
                row = ranking.best(sketch, self._wanted)
                service.steps += ranking.looked_at // _HOSTS_A_STEP
                if row is not None:
                    return self._take(sketch, row, ranking)
            self._choices.pop()  # for good: a plan gives nothing back
        return None

    def _take(self, sketch: Sketch, row: int, ranking: Ranking) -> Placement:
        assert self.head is not None, "place() looked"
        environment = ranking.environment.name
        gpus = sketch.claim(row, self.shape.resources, ranking.asked, environment)
        unit, self.head = self.head, next(self._units, None)
        return Placement(unit.job.id, unit.index, sketch.fleet.ids[row], environment, gpus)


_Heap = list[tuple[tuple[int, int], int, _Turn | _Source]]
