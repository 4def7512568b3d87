"""
Children of an array job, packed: a few bytes a child, and none at first; nodes likewise.

Children that are still in the state in which the array began take no space, nor
do those of which nothing was noted when all the rest of the array was ended at
once. The others live in chunks of `CHUNK` children with one column per fact;
what does not fit a column (earlier attempts, unusual reasons) is kept sparsely.
A chunk is the unit of storing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from batchyard.resources import Usage
from batchyard.states import EndCause, JobState

from .attempts import EndedAttempt, RetryDecision, Verdict
from .chunks import CHUNK, NO_EXIT_CODE, STATES, Chunk
from .endings import BY_ATTEMPT, Ending, Trigger

T = TypeVar("T")

_CODE = {state: code for code, state in enumerate(STATES)}
CAUSES = tuple(EndCause)
_CAUSE_CODE = {cause: code for code, cause in enumerate(CAUSES)}
_BY_ATTEMPT = {
    JobState.SUCCEEDED: Ending(trigger=Trigger.SUCCEEDED),
    JobState.FAILED: Ending(trigger=Trigger.FAILED),
}
_DECISIONS = (None, *RetryDecision)
_DECISION_CODE = {decision: code for code, decision in enumerate(_DECISIONS)}


@dataclass(frozen=True, slots=True, kw_only=True)
class RestEnd:
    """How all children ended of which nothing had been noted."""

    ending: Ending
    at_ms: int


class Children:
    """
    States and tries of all children of one array.

    Attributes:
        base: State of every child without a chunk, until the rest has ended.
        rest_end: Set when every child without a chunk has FAILED.
        ready: Heap of children that only wait for their turn in the array; derived.
        cursor: Children below it have had their turn, where all wait for that alone; derived.
        updated_at_ms: When a child last changed its state; not stored.
    """

    __slots__ = ("base", "chunks", "counts", "cursor", "ready", "rest_end", "size", "updated_at_ms")

    def __init__(self, size: int, base: JobState = JobState.PENDING) -> None:
        self.size = size
        self.base = base
        self.rest_end: RestEnd | None = None
        self.chunks: dict[int, Chunk] = {}
        self.counts: dict[JobState, int] = {base: size}
        self.ready: list[int] = []
        self.cursor = 0
        self.updated_at_ms = 0

    @property
    def rest(self) -> JobState:
        """State of every child without a chunk."""
        return self.base if self.rest_end is None else JobState.FAILED

    def state(self, index: int) -> JobState:
        """Return the state of child *index*."""
        chunk = self.chunks.get(index // CHUNK)
        return self.rest if chunk is None else STATES[chunk.states[index % CHUNK]]

    def set_state(self, index: int, state: JobState, others: Sequence[int] = ()) -> None:
        """Store a state, and that of *others* of its chunk that were where it was; for ``lifecycle`` alone."""
        states = self.chunk(index).states
        before, after = states[index % CHUNK], _CODE[state]
        states[index % CHUNK] = after
        for other in others:
            assert states[other % CHUNK] == before, f"{other} is not where {index} is"
            states[other % CHUNK] = after
        number = 1 + len(others)
        self.counts[STATES[before]] -= number
        self.counts[state] = self.counts.get(state, 0) + number

    def set_base(self, state: JobState) -> None:
        """Move all children that are still in the first state at once; for ``lifecycle`` alone."""
        before, self.base = self.base, state
        moved = bytes.maketrans(bytes([_CODE[before]]), bytes([_CODE[state]]))
        for chunk in self.chunks.values():
            chunk.states = chunk.states.translate(moved)
        self.counts[state] = self.counts.get(state, 0) + self.counts.pop(before)

    def set_rest_end(self, end: RestEnd) -> None:
        """Let every child without a chunk be FAILED; for ``lifecycle`` alone."""
        assert self.rest_end is None, "the rest ends once"
        number = sum(stop - start for start, stop in self.rest_runs())
        self.counts[self.base] -= number
        self.counts[JobState.FAILED] = self.counts.get(JobState.FAILED, 0) + number
        self.rest_end = end

    def rest_runs(self) -> list[tuple[int, int]]:
        """Return [first, stop) of each unbroken run of children without a chunk."""
        runs, start = [], 0
        for number in sorted(self.chunks):
            if start < number * CHUNK:
                runs.append((start, number * CHUNK))
            start = (number + 1) * CHUNK
        return [*runs, (start, self.size)] if start < self.size else runs

    def note(self, numbers: Iterable[int]) -> list[int]:
        """Make the chunks of these numbers, if the rest has not ended, and return the new ones."""
        if self.rest_end is not None:
            return []
        new = [number for number in numbers if number not in self.chunks and number * CHUNK < self.size]
        for number in new:
            self.chunk(number * CHUNK)
        return new

    def noted(self, states: frozenset[JobState]) -> list[int]:
        """Return the indices of children with a chunk in any of *states*, in order."""
        return [
            index
            for number in sorted(self.chunks)
            for index in range(number * CHUNK, min((number + 1) * CHUNK, self.size))
            if self.state(index) in states
        ]

    def chunk(self, index: int) -> Chunk:
        """Return the chunk of child *index*, made on first use."""
        chunk = self.chunks.get(index // CHUNK)
        if chunk is None:
            assert index < self.size, f"no child {index} of {self.size}"
            assert self.rest_end is None, "what has ended does not change"
            chunk = Chunk(states=bytearray([_CODE[self.base]]) * CHUNK)
            self.chunks[index // CHUNK] = chunk
        return chunk

    def adopt_chunk(self, number: int, chunk: Chunk) -> None:
        """Take a stored chunk. Children that had not ended begin again in the first state."""
        assert number not in self.chunks, "chunk taken twice"
        self.chunks[number] = chunk
        width = min(CHUNK, self.size - number * CHUNK)
        self.counts[self.base] -= width
        for i in range(CHUNK):
            state = STATES[chunk.states[i]]
            if not state.is_final:
                state = self.base
                chunk.states[i] = _CODE[state]
            if i < width:
                self.counts[state] = self.counts.get(state, 0) + 1

    def count(self, state: JobState) -> int:
        """Return how many children are in *state*."""
        return self.counts.get(state, 0)

    @property
    def all_final(self) -> bool:
        """Whether every child has ended."""
        return self.count(JobState.SUCCEEDED) + self.count(JobState.FAILED) == self.size

    def indices(self, states: frozenset[JobState], start: int = 0) -> Iterator[int]:
        """Yield the indices of children in any of *states*, in order, from *start* on."""
        wanted = bytes(_CODE[state] for state in states)
        for number in range(start // CHUNK, (self.size + CHUNK - 1) // CHUNK):
            first, last = max(start, number * CHUNK), min((number + 1) * CHUNK, self.size)
            chunk = self.chunks.get(number)
            if chunk is None:
                if self.rest in states:
                    yield from range(first, last)
            elif len(chunk.states.translate(None, wanted)) < CHUNK:  # most chunks of a large array hold none
                yield from (i for i in range(first, last) if STATES[chunk.states[i % CHUNK]] in states)

    def counts_by(self, width: int) -> list[dict[JobState, int]]:
        """Return how many of each *width* children in turn are in each state; the last may be fewer."""
        codes = bytearray([_CODE[self.rest]]) * self.size
        for number, chunk in self.chunks.items():
            first, last = number * CHUNK, min((number + 1) * CHUNK, self.size)
            codes[first:last] = chunk.states[: last - first]
        present = [(state, _CODE[state]) for state in STATES if self.count(state)]
        return [
            {state: found for state, code in present if (found := codes.count(code, first, first + width))}
            for first in range(0, self.size, width)
        ]

    def runs(self, state: JobState) -> Iterator[tuple[int, int]]:
        """Return [first, stop) of each unbroken run of children in *state*."""
        return runs_of(self.indices(frozenset({state})))

    def tries(self, index: int) -> int:
        """Return how many tries of child *index* have ended."""
        chunk = self.chunks.get(index // CHUNK)
        return 0 if chunk is None else chunk.attempts[index % CHUNK]

    def record_end(self, index: int, ended: EndedAttempt) -> None:
        """Keep a try of child *index* that has ended."""
        chunk, i = self.chunk(index), index % CHUNK
        last = self.last_attempt(index)
        if last is not None:
            chunk.earlier[i] = (*chunk.earlier.get(i, ()), last)
        chunk.attempts[i] = ended.number
        chunk.causes[i] = _CAUSE_CODE[ended.cause]
        chunk.decisions[i] = _DECISION_CODE[ended.verdict and ended.verdict.decision]
        chunk.rules[i] = ended.verdict.rule if ended.verdict else 0
        chunk.exit_codes[i] = NO_EXIT_CODE if ended.exit_code is None else ended.exit_code
        chunk.claimed[i], chunk.started[i], chunk.stopped[i] = (
            ended.claimed_at_ms,
            ended.started_at_ms,
            ended.stopped_at_ms,
        )
        chunk.epochs[i] = ended.epoch
        chunk.peaks_kib[i] = ended.usage.peak_memory_kib
        chunk.user_cpu_ms[i], chunk.system_cpu_ms[i] = ended.usage.user_cpu_ms, ended.usage.system_cpu_ms
        chunk.hosts[i] = _place_of(ended.host_id, chunk.host_ids)
        chunk.environments[i] = _place_of(ended.compute_environment, chunk.environment_names)
        _keep(chunk.reasons, i, ended.reason)
        _keep(chunk.gpus, i, ended.gpu_uuids)
        _keep(chunk.preempted_for, i, ended.preempted_for)
        _keep(chunk.gave_back, i, ended.gave_back)
        _keep(chunk.containers, i, ended.containers)

    def last_attempt(self, index: int) -> EndedAttempt | None:
        """Return the last ended try of child *index*."""
        chunk, i = self.chunks.get(index // CHUNK), index % CHUNK
        if chunk is None or not chunk.attempts[i]:
            return None
        decision = _DECISIONS[chunk.decisions[i]]
        return EndedAttempt(
            number=chunk.attempts[i],
            cause=CAUSES[chunk.causes[i]],
            verdict=None if decision is None else Verdict(decision=decision, rule=chunk.rules[i]),
            host_id=chunk.host_ids[chunk.hosts[i]],
            compute_environment=chunk.environment_names[chunk.environments[i]],
            claimed_at_ms=chunk.claimed[i],
            started_at_ms=chunk.started[i],
            stopped_at_ms=chunk.stopped[i],
            exit_code=None if chunk.exit_codes[i] == NO_EXIT_CODE else chunk.exit_codes[i],
            reason=chunk.reasons.get(i, ""),
            gpu_uuids=chunk.gpus.get(i, ()),
            epoch=chunk.epochs[i],
            preempted_for=chunk.preempted_for.get(i, ""),
            gave_back=chunk.gave_back.get(i, False),
            usage=Usage(
                peak_memory_kib=chunk.peaks_kib[i],
                user_cpu_ms=chunk.user_cpu_ms[i],
                system_cpu_ms=chunk.system_cpu_ms[i],
            ),
            containers=chunk.containers.get(i, ()),
        )

    def tried(self, first: int = 0) -> Iterator[int]:
        """Yield the indices of children from *first* on of which a try has ended, in order."""
        for number in sorted(each for each in self.chunks if each >= first // CHUNK):
            base = number * CHUNK
            tried = (base + i for i, tries in enumerate(self.chunks[number].attempts) if tries)
            yield from (index for index in tried if index >= first)

    def tried_last(self) -> Iterator[int]:
        """Yield the same in reverse."""
        for number in sorted(self.chunks, reverse=True):
            tries = self.chunks[number].attempts
            yield from (number * CHUNK + i for i in reversed(range(len(tries))) if tries[i])

    def attempts(self, index: int) -> tuple[EndedAttempt, ...]:
        """Return all ended tries of child *index*, oldest first."""
        last = self.last_attempt(index)
        if last is None:
            return ()
        return (*self.chunks[index // CHUNK].earlier.get(index % CHUNK, ()), last)

    def had_host(self, index: int, host_id: str) -> bool:
        """Say whether an ended try of child *index* was on a host."""
        chunk, i = self.chunks.get(index // CHUNK), index % CHUNK
        if chunk is None or host_id not in chunk.host_ids:
            return False
        last = chunk.hosts[i]
        return (last >= 0 and chunk.host_ids[last] == host_id) or any(
            ended.host_id == host_id for ended in chunk.earlier.get(i, ())
        )

    def terminate_reason(self, index: int) -> str:
        """Return why someone asked to stop child *index* by itself, or nothing."""
        chunk = self.chunks.get(index // CHUNK)
        return "" if chunk is None else chunk.terminate_reasons.get(index % CHUNK, "")

    def set_terminate_reason(self, index: int, reason: str) -> None:
        """Keep that someone asked to stop child *index*; the first reason stays."""
        self.chunk(index).terminate_reasons.setdefault(index % CHUNK, reason)

    def ending(self, index: int) -> Ending | None:
        """Return why child *index* came to its final state; None until then."""
        chunk = self.chunks.get(index // CHUNK)
        if chunk is None:
            return None if self.rest_end is None else self.rest_end.ending
        return chunk.endings.get(index % CHUNK) or _BY_ATTEMPT.get(STATES[chunk.states[index % CHUNK]])

    def set_ending(self, index: int, ending: Ending, at_ms: int, others: Sequence[int] = ()) -> None:
        """Keep why and when child *index*, and *others* of its chunk, came to their final state; for ``lifecycle`` alone."""
        chunk = self.chunk(index)
        for each in (index, *others):
            chunk.ended[each % CHUNK] = at_ms
            if ending.trigger not in BY_ATTEMPT:
                chunk.endings[each % CHUNK] = ending

    def clear_ending(self, index: int) -> None:
        """Forget why and when child *index* came to its final state, as it left that; for ``lifecycle`` alone."""
        chunk, i = self.chunk(index), index % CHUNK
        chunk.ended[i] = 0
        chunk.endings.pop(i, None)

    def ended_at_ms(self, index: int) -> int:
        """Return when child *index* came to its final state, by the controller's clock; 0 if it has not."""
        chunk = self.chunks.get(index // CHUNK)
        if chunk is not None:
            return chunk.ended[index % CHUNK]
        return 0 if self.rest_end is None else self.rest_end.at_ms

    def ended_since(self, at_ms: int) -> Iterator[int]:
        """Yield the indices of children that ended at that moment or later, in order."""
        at_ms = max(at_ms, 1)  # 0 is written of those that have not ended
        has_rest = self.rest_end is not None and self.rest_end.at_ms >= at_ms
        for number in range((self.size + CHUNK - 1) // CHUNK) if has_rest else sorted(self.chunks):
            chunk = self.chunks.get(number)
            first, last = number * CHUNK, min((number + 1) * CHUNK, self.size)
            if chunk is None:
                yield from range(first, last)
            else:
                yield from (i for i in range(first, last) if chunk.ended[i % CHUNK] >= at_ms)


def runs_of(indices: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield [start, stop) of each unbroken run in indices as they come."""
    start = stop = -1
    for index in indices:
        if index != stop:
            if start >= 0:
                yield start, stop
            start = index
        stop = index + 1
    if start >= 0:
        yield start, stop


def _place_of(name: str, names: list[str]) -> int:
    """Return where a name stands among those of a chunk, adding it if it is new."""
    if name not in names:
        names.append(name)
    return names.index(name)


def _keep(sparse: dict[int, T], i: int, value: T) -> None:
    """Set or clear a sparse entry; empty values take no space."""
    if value:
        sparse[i] = value
    else:
        sparse.pop(i, None)


NO_CHILDREN = Children(0)
"""Of every job that is no array."""
