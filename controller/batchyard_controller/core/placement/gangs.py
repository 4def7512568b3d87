"""
Gangs: the nodes of a job, which are placed together in one plan and one environment, or not at all.

What a gang takes is tried on the sketch of a plan, and put back if not all of it finds
room. Each node gets a host of its own where the environment has hosts enough that could
take them, if they were empty; where it never could, several share one, unless the job
asks otherwise. Laws: nothing that was only tried is left in the sketch; a gang is refused
only if there is no way to place it on what is free, hosts that are kept for others apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from batchyard.resources import NOTHING, Resources
from batchyard_controller.core.model.attempts import GpuClaim
from batchyard_controller.core.model.settings import ComputeEnvironment

from .fleet import Fleet
from .kinds import Mask
from .line import NOBODY, Part, Shape
from .ranking import Rankings
from .room import could_take, has_room, have_gpus, needs_of, takers, wanted_hosts
from .sketch import Sketch
from .strategies import Amounts

Pass = Callable[[Shape, int, Resources], bool]
"""Says whether a node may use a host, by its row, beside what others of its gang take there; see `Promises.let_pass`."""
_NOBODY = -1


class Seat(NamedTuple):
    """Where one node goes, and which GPUs it gets there."""

    node: int
    shape: Shape
    row: int
    gpus: tuple[GpuClaim, ...]


def match(fits: Sequence[Mask], wanted: Sequence[int]) -> npt.NDArray[np.int64] | None:
    """
    Give each part as many hosts as it wants, each host to one part; None where that cannot be done.

    Args:
        fits: Of each part, which hosts would do.
        wanted: Of each part, how many.

    Returns:
        Of each host the place of the part that gets it, or -1.
    """
    owners = np.full(len(fits[0]), _NOBODY, dtype=np.int64)
    for part in sorted(range(len(fits)), key=lambda i: int(fits[i].sum())):
        free = (fits[part] & (owners == _NOBODY)).nonzero()[0][: wanted[part]]
        owners[free] = part
        for _ in range(wanted[part] - len(free)):
            if not _augment(fits, owners, part):
                return None
    return owners


def _augment(fits: Sequence[Mask], owners: npt.NDArray[np.int64], part: int) -> bool:
    """Get one more host for a part, others giving way along the shortest chain; say whether there is one."""
    came_from: dict[int, tuple[int, int]] = {}
    frontier = [part]
    while frontier:
        asking = frontier.pop(0)
        free = (fits[asking] & (owners == _NOBODY)).nonzero()[0]
        if len(free):
            row = int(free[0])
            while asking != part:
                before, given = came_from[asking]
                owners[row], row, asking = asking, given, before
            owners[row] = part
            return True
        for other in range(len(fits)):
            if other != part and other not in came_from:
                rows = (fits[asking] & (owners == other)).nonzero()[0]
                if len(rows):
                    came_from[other] = asking, int(rows[0])
                    frontier.append(other)
    return False


def can_spread(fleet: Fleet, shape: Shape, environment: ComputeEnvironment) -> bool:
    """Say whether each node could have a host of its own if all of an environment were empty."""
    able = [takers(fleet, each, [environment], NOBODY) for each in shape.singles]
    return match(able, [part.size for part in shape.parts]) is not None


def free_hosts(
    fleet: Fleet, state: Amounts, shape: Shape, environment: ComputeEnvironment, sketch: Sketch | None = None
) -> Mask:
    """Return which hosts of an environment have room now for one node of a shape."""
    wanted = wanted_hosts(fleet, shape, [environment])
    allowed = fleet.members(environment, shape.runtime, shape.access)
    mask = has_room(state, needs_of(shape), allowed if wanted is None else allowed & wanted)
    gpus_of = fleet.gpu_free.__getitem__ if sketch is None else sketch.gpus_of
    return have_gpus(fleet, mask, np.arange(len(mask)), shape, gpus_of)


def able_hosts(fleet: Fleet, shape: Shape, environment: ComputeEnvironment) -> Mask:
    """Return which hosts of an environment, those that are away included, could take one node of a shape if they were empty."""
    return could_take(fleet, shape, fleet.members(environment, shape.runtime, shape.access))


@dataclass(slots=True)
class Trial:
    """What a gang takes of a sketch, until it is known whether all of it finds room."""

    sketch: Sketch
    rankings: Rankings
    shape: Shape
    environment: ComputeEnvironment
    let_pass: Pass
    run_h: float
    seats: list[Seat] = field(default_factory=list)
    _before: dict[int, tuple[Amounts, dict[str, int] | None]] = field(default_factory=dict)
    """What was free of the hosts that were touched."""
    _cpu_before: int = 0

    def run(self, wanted: Mask | None) -> bool:
        """Find room for all nodes on hosts that are *wanted* (None: any); say whether there is."""
        self._cpu_before = self.sketch.environment_cpu.get(self.environment.name, 0)
        if self.shape.is_spread or can_spread(self.sketch.fleet, self.shape, self.environment):
            return self._fill(wanted, is_spread=True) or self._match(wanted)
        return self._fill(wanted, is_spread=False)

    def sit(self, places: Sequence[tuple[int, int]], wanted: Mask | None) -> bool:
        """Give each node the place that is kept for it, by part and row; say whether all of them have room by now."""
        self._cpu_before = self.sketch.environment_cpu.get(self.environment.name, 0)
        indices, singles = [part.indices for part in self.shape.parts], self.shape.singles
        for part, row in places:
            shape = singles[part]
            mask = free_hosts(self.sketch.fleet, self.sketch.state, shape, self.environment, self.sketch)
            may = mask[row] and (wanted is None or wanted[row]) and self.let_pass(shape, row, self._there(row))
            if not may:
                self.drop()
                return False
            self._take(next(indices[part]), shape, row, self.rankings.of(shape, self.environment).asked)
        return bool(places)

    def drop(self) -> None:
        """Put back what was taken."""
        for row, (column, gpus) in self._before.items():
            self.sketch.state[:, row] = column
            if gpus is None:
                self.sketch.gpu_free.pop(row, None)
            else:
                self.sketch.gpu_free[row] = gpus
            self.sketch.fleet.changes.note(row)
        self._before.clear()
        self.seats.clear()
        self.sketch.environment_cpu[self.environment.name] = self._cpu_before

    def _parts(self) -> Iterator[tuple[Part, Shape, Mask | None]]:
        """Yield the parts, those with fewest hosts to choose from first, and where each goes."""
        fleet, state = self.sketch.fleet, self.sketch.state

        def room(pair: tuple[Part, Shape]) -> int:
            return int(free_hosts(fleet, state, pair[1], self.environment, self.sketch).sum())

        for part, shape in sorted(zip(self.shape.parts, self.shape.singles, strict=True), key=room):
            yield part, shape, wanted_hosts(fleet, shape, [self.environment])

    def _fill(self, wanted: Mask | None, *, is_spread: bool) -> bool:
        """Give node after node the best host that is left."""
        taken: list[int] = []
        for part, shape, where in self._parts():
            ranking = self.rankings.of(shape, self.environment)
            mask = where if wanted is None else wanted if where is None else where & wanted
            closed: list[int] = []
            for index in part.indices:
                while True:
                    row = ranking.best(self.sketch, mask, self.run_h, [*closed, *taken] if is_spread else closed)
                    if row is None:
                        self.drop()
                        return False
                    if self.let_pass(shape, row, self._there(row)):
                        break
                    closed.append(row)
                self._take(index, shape, row, ranking.asked)
                ranking.note_taken(self.sketch)
                taken.append(row)
        return True

    def _there(self, row: int) -> Resources:
        """Return what nodes of the gang take of a host already."""
        first, *others = [seat.shape.resources for seat in self.seats if seat.row == row] or [NOTHING]
        return sum(others, first)

    def _match(self, wanted: Mask | None) -> bool:
        """Place all where giving the best hosts away one by one led nowhere, if there is any way."""
        if len(self.shape.parts) == 1:
            return False
        fleet, state, fits = self.sketch.fleet, self.sketch.state, []
        for shape in self.shape.singles:
            mask = free_hosts(fleet, state, shape, self.environment, self.sketch)
            mask = mask if wanted is None else mask & wanted
            mask[[row for row in mask.nonzero()[0].tolist() if not self.let_pass(shape, row, NOTHING)]] = False
            fits.append(mask)
        owners = match(fits, [part.size for part in self.shape.parts])
        if owners is None:
            return False
        for place, (part, shape) in enumerate(zip(self.shape.parts, self.shape.singles, strict=True)):
            asked = self.rankings.of(shape, self.environment).asked
            for index, row in zip(part.indices, (owners == place).nonzero()[0].tolist(), strict=True):
                self._take(index, shape, row, asked)
        return True

    def _take(self, index: int, shape: Shape, row: int, asked: Amounts) -> None:
        sketch = self.sketch
        if row not in self._before:
            self._before[row] = sketch.state[:, row].copy(), sketch.gpu_free.get(row)
        gpus = sketch.claim(row, shape.resources, shape.access, asked, self.environment.name)
        self.seats.append(Seat(index, shape, row, gpus))
