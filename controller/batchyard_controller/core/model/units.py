"""
Units: what is placed, run and ended; the one door to what a job and a child have in common.

A unit is a single job, one child of an array, or one node of a multi-node job. A
parent of several, which runs nothing, goes by the same door where it is listed, watched
or named by its id; that of nodes shows the tries of its main node. Law: only this file, ``ids`` and those who write an index down ask whether there is one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from batchyard.ids import JobId, unit_id
from batchyard.states import JobState
from batchyard.tasks import Task

from .attempts import EndedAttempt
from .chunks import CHUNK
from .consumables import Quantities
from .endings import Ending
from .jobs import Job, JobKind


@dataclass(slots=True, eq=False)
class Unit:
    """
    A single job, a child, or a parent: a handle, made anew at every step, so not frozen, which would cost as much again.

    Attributes:
        job: The job; of a child, its array; of a node, its multi-node job.
        index: Of a child or node; None of anything else.
    """

    job: Job
    index: int | None = None

    @property
    def id(self) -> JobId:
        """What users call it."""
        return unit_id(self.job.id, self.index, is_node=self.job.kind is JobKind.NODES)

    @property
    def waits_as(self) -> JobId:
        """As what users see it in line: nodes wait as one, which is their job."""
        return self.job.id if self.is_node else self.id

    @property
    def is_child(self) -> bool:
        """Whether it is one of several of its job: a child or a node."""
        return self.index is not None

    @property
    def is_node(self) -> bool:
        """Whether it is one of those that are placed, and run, together."""
        return self.index is not None and self.job.kind is JobKind.NODES

    @property
    def number(self) -> int:
        """What a child is told as its index, by which its item is found; 0 of all else."""
        return 0 if self.index is None or self.is_node else self.job.values.number(self.index)

    @property
    def leads(self) -> bool:
        """Whether it is the main node, whose life is the job's."""
        nodes = self.job.spec.nodes
        return nodes is not None and self.index == nodes.main

    @property
    def main(self) -> Unit:
        """Whose tries it shows: of a multi-node job, and of its nodes, the main node; of anything else itself."""
        nodes = self.job.spec.nodes
        return self if nodes is None else Unit(self.job, nodes.main)

    @property
    def _tried(self) -> int | None:
        """The index of whose tries it shows."""
        nodes = self.job.spec.nodes
        return nodes.main if self.index is None and nodes is not None else self.index

    @property
    def child(self) -> int:
        """The index of a child or node; nothing else has one."""
        assert self.index is not None, f"{self.job.id} is no child"
        return self.index

    @property
    def is_parent(self) -> bool:
        """Whether it runs nothing itself."""
        return self.index is None and self.job.kind is not JobKind.SINGLE

    @property
    def place(self) -> tuple[int, int]:
        """Where it stands in the order of submission."""
        return self.job.seq, self.index or 0

    @property
    def task(self) -> Task:
        """What its attempts run; of a multi-node job itself, what its main node does."""
        spec = self.job.spec
        if spec.nodes is None:
            return spec.task
        return spec.nodes.task_of(spec.nodes.main if self.index is None else self.index)

    @property
    def consumables(self) -> Quantities:
        """What it holds of consumable resources while it is active: of nodes the main one, for all."""
        spec = self.job.spec
        return spec.consumables if spec.nodes is None or self.leads else ()

    @property
    def group(self) -> str:
        """The group in which its records are written together (see the store's atoms)."""
        return self.job.id if self.index is None else f"{self.job.id}/{self.index // CHUNK}"

    @property
    def state(self) -> JobState:
        """Where it is."""
        return self.job.state if self.index is None else self.job.children.state(self.index)

    @property
    def ending(self) -> Ending | None:
        """Why it came to its final state; None until then."""
        return self.job.ending if self.index is None else self.job.children.ending(self.index)

    @property
    def terminate_reason(self) -> str:
        """Why someone asked to stop it, or nothing; a child is asked by itself, also where its array was."""
        return self.job.terminate_reason if self.index is None else self.job.children.terminate_reason(self.index)

    @property
    def attempts(self) -> tuple[EndedAttempt, ...]:
        """Its tries that are over, oldest first; an array has none, a multi-node job its main node's."""
        tried = self._tried
        return self.job.attempts if tried is None else self.job.children.attempts(tried)

    @property
    def next_number(self) -> int:
        """The number of the try that is live, or comes next."""
        tried = self._tried
        if tried is not None:
            return 1 + self.job.children.tries(tried)
        return 1 + (self.job.attempts[-1].number if self.job.attempts else 0)

    def had_host(self, host_id: str) -> bool:
        """Say whether a try of it that is over was on a host."""
        if self.index is None:
            return any(ended.host_id == host_id for ended in self.job.attempts)
        return self.job.children.had_host(self.index, host_id)

    def record_end(self, ended: EndedAttempt) -> None:
        """Keep a try that is over."""
        if self.index is None:
            self.job.attempts = (*self.job.attempts, ended)
        else:
            self.job.children.record_end(self.index, ended)

    def set_terminate_reason(self, reason: str) -> None:
        """Keep that someone asked to stop it; the first reason stays."""
        if self.index is None:
            self.job.terminate_reason = self.job.terminate_reason or reason
        else:
            self.job.children.set_terminate_reason(self.index, reason)

    def set_state(self, state: JobState, others: Sequence[int] = ()) -> None:
        """Move it, and *others* of its chunk; for ``lifecycle`` alone."""
        if self.index is None:
            self.job.state = state
        else:
            self.job.children.set_state(self.index, state, others)

    def set_ending(self, ending: Ending, at_ms: int, others: Sequence[int] = ()) -> None:
        """Keep why and when it, and *others* of its chunk, ended; for ``lifecycle`` alone."""
        if self.index is None:
            self.job.ending, self.job.ended_at_ms = ending, at_ms
        else:
            self.job.children.set_ending(self.index, ending, at_ms, others)

    def clear_ending(self) -> None:
        """Forget why a node ended that runs again; for ``lifecycle`` alone."""
        self.job.children.clear_ending(self.child)


def chunk_of(job: Job, index: int | None) -> int | None:
    """Return the number of the chunk of an array that has child *index*; None of a single job and of a node."""
    return None if index is None or job.kind is JobKind.NODES else index // CHUNK


def children_among(indices: Iterable[int | None]) -> tuple[int, ...]:
    """Return those of some indices that are of children or nodes."""
    return tuple(index for index in indices if index is not None)


def names_child(index: int | None) -> bool:
    """Say whether an index, or that there is none, is of a child or a node."""
    return index is not None


def unit_at(job: Job, place: int) -> Unit:
    """Return the unit of a job that stands at *place*, from 0; a single job has but one."""
    return Unit(job) if job.kind is JobKind.SINGLE else Unit(job, place)


def find_unit(job: Job, index: int | None) -> Unit | None:
    """Return a job itself (None), or its child *index* if it has one."""
    return None if index is not None and index >= job.size else Unit(job, index)


def units_of(job: Job) -> Iterator[Unit]:
    """Yield all units of a job."""
    return (unit_at(job, place) for place in range(job.size or 1))
