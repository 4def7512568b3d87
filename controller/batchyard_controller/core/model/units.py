"""
Units: what is placed, run and ended; the one door to what a job and a child have in common.

A unit is a single job or one child of an array. An array's parent, which runs
nothing, goes by the same door where it is listed, watched or named by its id. Law:
only this file, ``ids`` and those who write an index down ask whether there is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from batchyard.ids import JobId, unit_id
from batchyard.states import JobState
from batchyard.tasks import Task

from .attempts import EndedAttempt
from .children import CHUNK
from .endings import Ending
from .jobs import Job, JobKind


@dataclass(slots=True, eq=False)
class Unit:
    """
    A single job, a child, or a parent: a handle, made anew at every step, so not frozen, which would cost as much again.

    Attributes:
        job: The job; of a child, its array.
        index: Of a child; None of anything else.
    """

    job: Job
    index: int | None = None

    @property
    def id(self) -> JobId:
        """What users call it."""
        return unit_id(self.job.id, self.index)

    @property
    def is_child(self) -> bool:
        """Whether it is one of several of its job."""
        return self.index is not None

    @property
    def child(self) -> int:
        """The index of a child; nothing else has one."""
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
        """What its attempts run."""
        return self.job.spec.task

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
        """Its tries that are over, oldest first; a parent has none."""
        return self.job.attempts if self.index is None else self.job.children.attempts(self.index)

    @property
    def next_number(self) -> int:
        """The number of the try that is live, or comes next."""
        return 1 + (len(self.job.attempts) if self.index is None else self.job.children.tries(self.index))

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

    def set_state(self, state: JobState) -> None:
        """Move it; for ``lifecycle`` alone."""
        if self.index is None:
            self.job.state = state
        else:
            self.job.children.set_state(self.index, state)

    def set_ending(self, ending: Ending, at_ms: int) -> None:
        """Keep why and when it ended; for ``lifecycle`` alone."""
        if self.index is None:
            self.job.ending, self.job.ended_at_ms = ending, at_ms
        else:
            self.job.children.set_ending(self.index, ending, at_ms)


def unit_at(job: Job, place: int) -> Unit:
    """Return the unit of a job that stands at *place*, from 0; a single job has but one."""
    return Unit(job) if job.kind is JobKind.SINGLE else Unit(job, place)


def find_unit(job: Job, index: int | None) -> Unit | None:
    """Return a job itself (None), or its child *index* if it has one."""
    return None if index is not None and index >= job.size else Unit(job, index)


def units_of(job: Job) -> Iterator[Unit]:
    """Yield all units of a job."""
    return (unit_at(job, place) for place in range(job.size or 1))
