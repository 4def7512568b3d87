"""
Packing: what the jobs with GPUs that are expected make of a fleet's hosts.

The mix is looked at when a round of plans begins, and what is in use then holds until
another begins. Law: within a round, a worth is a function of the state of a host, so
slices reckon as one plan does.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from batchyard.resources import Resources
from batchyard_controller.core.model.settings import ComputeEnvironment, JobQueue, ResourceState

from .fleet import Fleet
from .gpus import NOTHING_LOST
from .line import Line
from .lines import Lines
from .mix import Demand, Mix
from .sketch import Sketch
from .states import Numbers, States
from .worth import Expected, Worth

SHAPES_MAX = 64
"""Of the mix so many are told apart, those that ask for most; of the others a mean a number of GPUs."""
MOVED = 0.07
"""A mix in use, or the weights of its shapes, are replaced when so much of them is another."""
_PATIENCE_PART, _PATIENCE_MAX = 8, 500
"""The mix is looked at again when so small a part of it may be another, or after so many units."""
_WEIGHED_AFTER = 250
"""Units placed, until it is asked again what has become scarce."""
CHUNK = 512
"""So many states are reckoned with in one go: what is in between fits a processor's cache."""

Values = npt.NDArray[np.float64]


class Packing:
    """
    What is expected of a fleet's jobs, and what its hosts are worth to them.

    Attributes:
        mix: What was placed lately.
        worth: In use; None where no job with a GPU is expected.
        version: Rises with each other worth.
        states: Of hosts, as they were when it was last told to follow.
        remainders: What is worth what is left of a GPU, by thousandths.
    """

    def __init__(self, fleet: Fleet) -> None:
        self.mix = Mix()
        self.worth: Worth | None = None
        self.version = 0
        self.states = States()
        self.remainders: Sequence[int] = NOTHING_LOST
        self._fleet = fleet
        self._looked_at = 0
        """How many units had come and been placed when the mix was last looked at."""
        self._patience = 0
        """So many more may, before it is looked at again."""
        self._weighed_at = 0
        """How many had been placed when shapes were last weighed by their room."""
        self._meant = (-1, -1)
        """Epoch of the states and version for which the tables hold."""
        self._counts: Numbers = np.zeros((0, 0), dtype=np.int64)
        self._values: Values = np.zeros(0)

    @property
    def epoch(self) -> tuple[int, int]:
        """Changes when what was reckoned of states no longer holds."""
        return self.states.epoch, self.version

    def begin_round(
        self, lines: Lines, queues: Mapping[str, JobQueue], environments: Mapping[str, ComputeEnvironment]
    ) -> int:
        """Look whether the mix has moved, once so many units came or were placed that it may have; return at how many lines it looked."""
        events = lines.gpu_arrivals + self.mix.placed
        if events - self._looked_at <= self._patience or lines.is_in_round:
            return 0
        waiting = [line for queue in queues for line in lines.of_queue(queue)]
        expected = _expected(self.mix, waiting, queues, environments)
        self._looked_at = events
        self._patience = min(_PATIENCE_MAX, int(sum(e.share for e in expected)) // _PATIENCE_PART)
        if expected:
            self._take_in(_shared(expected))
        return len(waiting)

    def _take_in(self, expected: Sequence[Expected]) -> None:
        """Put another mix in use if it has moved, and weigh shapes again for what has become scarce."""
        if self.worth is None or _distance(self.worth.expected, expected) > MOVED:
            self.worth = Worth(expected)
            self.remainders = self.worth.prices.worths.tolist()
            self.version += 1
            self._weigh(self.worth)
        elif self.worth.is_restricted and self.mix.placed - self._weighed_at >= _WEIGHED_AFTER:
            self._weigh(self.worth)

    def _weigh(self, worth: Worth) -> None:
        """Weigh shapes by the room of all hosts, if that makes a difference."""
        self._weighed_at = self.mix.placed
        self.follow(Sketch.of(self._fleet))
        if not worth.is_restricted:
            return
        states, hosts = np.unique(self.states.of_row[self._fleet.hopeful], return_counts=True)
        known = self.states
        room, allowed = np.zeros((2, len(worth.expected)))
        for part in _parts(len(states)):
            some = states[part]
            units = worth.units(worth.counts(known.levels[some]))
            usable = worth.usable(known.cpu[some], known.memory[some], units)
            room += hosts[part] @ usable
            if len(self._want(worth, some, units)):
                usable = worth.usable(known.cpu[some], known.memory[some], units)
            allowed += hosts[part] @ (usable * worth.allowed[known.kinds[some]])
        weights = worth.weigh(room, allowed)
        if np.maximum(weights - worth.weights, 0).sum() > MOVED:
            worth.use(weights)
            self.version += 1

    def _want(self, worth: Worth, states: Numbers, units: Numbers) -> Numbers:
        """Correct what hosts of such states hold where not any GPU will do; return which lines these are."""
        known, mixed = self.states, worth.mixed(self.states.kinds[states])
        if len(mixed):
            some = states[mixed]
            units[mixed] = worth.units_wanted(known.kinds[some], known.levels[some], known.places[some])
        return mixed

    def follow(self, sketch: Sketch) -> Worth:
        """Look at hosts that changed since it was last told to; return the worth in use."""
        assert self.worth is not None, "hosts have worths where jobs with GPUs are expected"
        self.states.follow(sketch)
        self.worth.know(sketch.fleet.kinds)
        self._make_room(self.worth)
        return self.worth

    def following(self, state: int, asked: Resources) -> list[int]:
        """Return the next states of a host that units of a shape are put on, while it has room for another."""
        assert self.worth is not None, "follow() said so"
        found = self.states.following(state, asked, self.remainders)
        self._make_room(self.worth)
        return found

    def _make_room(self, worth: Worth) -> None:
        size = len(self.states.cpu)
        if self._meant != self.epoch:
            self._meant = self.epoch
            self._counts = np.zeros((size, worth.columns), dtype=np.int64)
            self._values = np.full(size, np.nan)
        elif len(self._values) < size:
            more = size - len(self._values)
            self._counts = np.append(self._counts, np.zeros((more, worth.columns), dtype=np.int64), axis=0)
            self._values = np.append(self._values, np.full(more, np.nan))

    def valued(self, states: Numbers) -> tuple[Numbers, Values]:
        """Return how many parts of each size, and whole GPUs, are in hosts of such states, and their worths."""
        worth, known, values = self.worth, self.states, self._values[states]
        assert worth is not None, "follow() said so"
        new = states[np.isnan(values)]
        for part in _parts(len(new)):
            some = new[part]
            counts = self._counts[some] = worth.counts(known.levels[some])
            units = worth.units(counts)
            self._want(worth, some, units)
            self._values[some] = worth.values(known.kinds[some], known.cpu[some], known.memory[some], units)
        return self._counts[states], self._values[states] if len(new) else values


def _parts(size: int) -> Iterator[slice]:
    return (slice(start, start + CHUNK) for start in range(0, size, CHUNK))


def _expected(
    mix: Mix,
    waiting: Sequence[Line],
    queues: Mapping[str, JobQueue],
    environments: Mapping[str, ComputeEnvironment],
) -> list[Expected]:
    """Return which shapes count how much, those that differ in nothing a host has as one."""
    enabled = {
        queue.name: tuple(
            environments[name]
            for name in queue.compute_environments
            if environments[name].state is ResourceState.ENABLED
        )
        for queue in queues.values()
    }
    first_of: dict[tuple[str, ...], str] = {}
    alike = {
        queue: first_of.setdefault(tuple(environment.name for environment in order), queue)
        for queue, order in enabled.items()
    }
    shares: dict[Demand, float] = {}
    for demand, weight in mix.weigh(waiting).items():
        if enabled.get(demand.queue):
            first = alike[demand.queue]
            same = demand if first == demand.queue else demand._replace(queue=first)
            shares[same] = shares.get(same, 0.0) + weight
    most = heapq.nlargest(SHAPES_MAX, shares, key=lambda demand: shares[demand] * demand.gpu_millis)
    told = [Expected.of(demand, enabled[demand.queue], shares.pop(demand)) for demand in most]
    others: dict[Demand, list[tuple[Demand, float]]] = {}
    for demand, share in shares.items():
        others.setdefault(demand._replace(cpu_millis=0, memory_mib=0), []).append((demand, share))
    return [*told, *(Expected.mean_of(group, enabled[group[0][0].queue]) for group in others.values())]


def _distance(before: Sequence[Expected], after: Sequence[Expected]) -> float:
    """Return the part of one mix that is another in the other."""
    shares = {e.asks: e.share for e in before}
    return sum(max(0.0, e.share - shares.get(e.asks, 0.0)) for e in after)


def _shared(expected: Sequence[Expected]) -> list[Expected]:
    """Let shares sum to 1."""
    total = sum(e.share for e in expected)
    return [e.with_share(e.share / total) for e in expected]
