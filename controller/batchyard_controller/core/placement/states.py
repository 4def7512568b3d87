"""
States: hosts that are alike in all that a job with GPUs could make of them, each under one number.

A state is a kind of host, what is free of its CPU and memory, and what is left of each
of its GPUs, whichever GPU of its kind that is. What is reckoned of a state holds for all hosts in it.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from batchyard.resources import GPU_WHOLE, Resources

from .changes import Rows
from .fleet import CPU, GPU, MEMORY, Fleet
from .kinds import Kinds
from .sketch import Sketch

Numbers = npt.NDArray[np.int64]

_SPARE = 4_096
_PER_HOST = 2
"""So many states a host are kept, and some; then those that no host is in are dropped."""
NO_LEVEL = -1
_SPAN = 2048
"""More than a level may be: in keys a level stands behind the place of its GPU's kind."""
_FOLLOWING = 16
"""So many states of a host that is filled are reckoned with in about the time that one takes."""
_MANY = 256
"""Of so many hosts it pays to look first who are alike."""


class States:
    """The states that hosts are or were in; ``epoch`` rises when they are numbered anew."""

    def __init__(self) -> None:
        self.epoch = 0
        self.of_row: Numbers = np.zeros(0, dtype=np.int64)
        """The state of each host."""
        self.kinds: Numbers = np.zeros(0, dtype=np.int64)
        self.cpu: Numbers = np.zeros(0, dtype=np.int64)
        self.memory: Numbers = np.zeros(0, dtype=np.int64)
        self.levels: Numbers = np.zeros((0, 1), dtype=np.int64)
        """By state, what is left of each of its GPUs, of each kind least first; ``NO_LEVEL`` where it has fewer."""
        self.places: Numbers = np.zeros((0, 1), dtype=np.int64)
        """By state, for each of its GPUs the place of its kind among those of the host."""
        self._numbers: dict[tuple[int, ...], int] = {}
        self._kinds_meant: Kinds | None = None
        self._seen = -1

    def __len__(self) -> int:
        return len(self._numbers)

    def follow(self, sketch: Sketch) -> None:
        """Look again at the hosts that changed since it was last asked."""
        fleet = sketch.fleet
        rows = fleet.changes.since(self._seen)
        hosts = len(fleet.ids)
        if rows is None or self._kinds_meant is not fleet.kinds or len(self) > _PER_HOST * hosts + _SPARE:
            self._numbers.clear()
            self.epoch += 1
            self._kinds_meant = fleet.kinds
            rows = np.arange(hosts)
        if len(self.of_row) < hosts:
            self.of_row = np.append(self.of_row, np.zeros(hosts - len(self.of_row), dtype=np.int64))
        elif len(self.of_row) > hosts:
            self.of_row = self.of_row[:hosts].copy()
        self._seen = fleet.changes.count
        if len(rows):
            self._number(sketch, rows)

    def knows_all_but_last(self, fleet: Fleet) -> bool:
        """Say whether all that changed since hosts were last looked at is the very last."""
        return self._seen + 1 == fleet.changes.count and self._kinds_meant is fleet.kinds

    def note_last(self, fleet: Fleet, row: int, state: int) -> None:
        """Take in that by the last change a host came into a state."""
        self.of_row[row], self._seen = state, fleet.changes.count

    def _number(self, sketch: Sketch, rows: Rows) -> None:
        """Say in which states some hosts are."""
        state, places, numbers, known = sketch.state, sketch.fleet.gpu_places, self._numbers, len(self._numbers)
        if len(rows) > _MANY:
            rows = self._number_unused(sketch, rows)
        kinds, cpu, memory = (of[rows].tolist() for of in (sketch.fleet.kind_of, state[CPU], state[MEMORY]))
        for row, kind, free_cpu, free_memory in zip(rows.tolist(), kinds, cpu, memory, strict=True):
            levels, placed = sketch.gpus_of(row), places[row]
            told = [place * _SPAN + levels[gpu.uuid] for gpu, place in placed if gpu.uuid in levels]
            key = (kind, free_cpu, free_memory, *sorted(told if placed else levels.values()))
            self.of_row[row] = numbers.setdefault(key, len(numbers))
        if len(numbers) > known:
            self._keep(_last(numbers, len(numbers) - known), known)

    def _number_unused(self, sketch: Sketch, rows: Rows) -> Rows:
        """Do so for those of which no GPU is in use, all at once, as nearly all are when hosts join; return the others."""
        fleet, state, numbers = sketch.fleet, sketch.state, self._numbers
        is_unused = (state[GPU, rows] == fleet.capacity[GPU, rows]) & ~fleet.has_mixed_gpus[rows]
        unused = rows[is_unused]
        if not len(unused):
            return rows
        keys = np.stack((fleet.kind_of[unused], *state[[CPU, MEMORY, GPU]][:, unused]))
        order = np.lexsort(keys)
        starts = np.flatnonzero(np.append(True, (np.diff(keys[:, order]) != 0).any(axis=0)))
        stops = np.append(starts[1:], len(order))
        for (kind, cpu, memory, gpu), start, stop in zip(keys[:, order[starts]].T.tolist(), starts, stops, strict=True):
            key = (kind, cpu, memory, *[GPU_WHOLE] * (gpu // GPU_WHOLE))
            self.of_row[unused[order[start:stop]]] = numbers.setdefault(key, len(numbers))
        others: Rows = rows[~is_unused]
        return others

    def following(self, state: int, asked: Resources, remainders: Sequence[int]) -> list[int]:
        """Return the next states of a host, with GPUs of one kind, that units of a shape are put on one by one, while it has room for another."""
        numbers, known, found = self._numbers, len(self._numbers), []
        if self.places[state].any():
            return []
        kind, cpu, memory = (int(of[state]) for of in (self.kinds, self.cpu, self.memory))
        levels = [level for level in self.levels[state].tolist() if level != NO_LEVEL]
        gpu, gpus = asked.gpu_millis, asked.gpu_millis // GPU_WHOLE
        for _ in range(_FOLLOWING):
            cpu, memory = cpu - asked.cpu_millis, memory - asked.memory_mib
            if gpus:
                levels = [0] * gpus + levels[:-gpus]
                levels.sort()
            elif gpu:
                _, left = min((remainders[left] - remainders[left - gpu], left) for left in levels if left >= gpu)
                levels.remove(left)
                insort(levels, left - gpu)
            has_gpu = levels[-gpus] == GPU_WHOLE if gpus else not gpu or levels[-1] >= gpu
            if cpu < asked.cpu_millis or memory < asked.memory_mib or not has_gpu:
                break
            found.append(numbers.setdefault((kind, cpu, memory, *levels), len(numbers)))
        if len(numbers) > known:
            self._keep(_last(numbers, len(numbers) - known), known)
        return found

    def _keep(self, new: list[tuple[int, ...]], known: int) -> None:
        """Write down what new states are made of."""
        self._make_room(known + len(new), max(map(len, new)) - 3)
        width = self.levels.shape[1]
        for number, (kind, cpu, memory, *codes) in enumerate(new, known):
            self.kinds[number], self.cpu[number], self.memory[number] = kind, cpu, memory
            places = [0] * width
            if codes and codes[-1] >= _SPAN:
                places[: len(codes)] = [code // _SPAN for code in codes]
            self.levels[number] = [code % _SPAN for code in codes] + [NO_LEVEL] * (width - len(codes))
            self.places[number] = places

    def _make_room(self, states: int, gpus: int) -> None:
        if gpus > self.levels.shape[1]:
            more = np.full((len(self.levels), gpus - self.levels.shape[1]), NO_LEVEL, dtype=np.int64)
            self.levels = np.append(self.levels, more, axis=1)
            self.places = np.append(self.places, np.zeros_like(more), axis=1)
        if states > len(self.cpu):
            size = max(2 * states, _SPARE)
            self.kinds, self.cpu, self.memory = (np.resize(of, size) for of in (self.kinds, self.cpu, self.memory))
            self.levels, self.places = (np.resize(of, (size, of.shape[1])) for of in (self.levels, self.places))


def _last(numbers: dict[tuple[int, ...], int], count: int) -> list[tuple[int, ...]]:
    """Return the keys that were put in last, in their order."""
    backwards = reversed(numbers)
    return [next(backwards) for _ in range(count)][::-1]
