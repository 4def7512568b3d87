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
refused in this round of slices few are asked again before the others had their turn.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

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
        is_whole: Whether there is no use in another before something happens; a slice says no.
        ends_round: Whether all lines have been asked since a plan last said so.
        steps: How much work it was.
    """

    placements: tuple[Placement, ...]
    refused: tuple[Shape, ...]
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
    service = _Service(rankings, lines.round, steps_max)
    by_priority: dict[int, list[JobQueue]] = {}
    for queue in queues.values():
        by_priority.setdefault(queue.priority, []).append(queue)
    for priority in sorted(by_priority, reverse=True):
        if not service.is_spent:
            service.serve(
                _Turn(line, order)
                for queue in by_priority[priority]
                for order in [tuple(environments[name] for name in queue.compute_environments)]
                for line in lines.of_queue(queue.name)
                if service.admits(line)
            )
    return service.finish()


class _Service:
    """What a plan has come to."""

    def __init__(self, rankings: Rankings, round_: int, steps_max: int | None) -> None:
        self.rankings = rankings
        self.sketch = Sketch.of(rankings.fleet)
        self.steps = 0
        self.is_spent = False
        self._round = round_
        self._steps_max = math.inf if steps_max is None else steps_max
        self._asked_again = 0
        self._has_passed_over = False
        self._placements: list[Placement] = []
        self._refused: list[Shape] = []

    def admits(self, line: Line) -> bool:
        """Say whether a line may be served: not while there is no use in it, and seldom twice in a round."""
        if line.refused_at == self.rankings.fleet.grown:
            return False
        if line.refused_in == self._round:
            self._asked_again += 1
            if self._asked_again > self._steps_max // _PART_ASKED_AGAIN:
                self._has_passed_over = True
                return False
        return True

    def serve(self, waiting: Iterable[_Turn]) -> None:
        """Place the units of several lines, always the earliest submitted first, until the work is too much."""
        heap = [(turn.head.place, i, turn) for i, turn in enumerate(waiting) if turn.head is not None]
        heapq.heapify(heap)
        while heap and not self.is_spent:
            _, i, turn = heapq.heappop(heap)
            limit = heap[0][0] if heap else _LAST
            if self._serve_line(turn, limit) and turn.head is not None:
                heapq.heappush(heap, (turn.head.place, i, turn))

    def _serve_line(self, turn: _Turn, limit: tuple[float, int]) -> bool:
        """Place units of one line up to a place in the order; return whether it may be served on."""
        while turn.head is not None and turn.head.place < limit:
            if self.steps >= self._steps_max:
                self.is_spent = True
                return False
            placement = turn.place(self)
            if placement is None:
                self._refused.append(turn.shape)
                return False
            self._placements.append(placement)
        return True

    def finish(self) -> Plan:
        """Return the plan, and forget what it reckoned on."""
        self.sketch.throw_away()
        grown = self.rankings.fleet.grown
        return Plan(
            tuple(self._placements),
            tuple(self._refused),
            grown,
            is_whole=not self.is_spent and not self._has_passed_over,
            ends_round=not self.is_spent,
            steps=self.steps,
        )


class _Turn:
    """One line's part in a plan: who is next, and in which environments there may be room."""

    def __init__(self, line: Line, environments: tuple[ComputeEnvironment, ...]) -> None:
        self.shape = line.shape
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
