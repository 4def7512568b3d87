"""
Progress: how jobs, children and nodes are held, released and ended, and what follows for others.

Every end may end or release others, these again others: what follows is taken
one after the other and not by recursion, so a chain may be of any length.
A multi-node job moves as its main node does. States are moved through ``lifecycle`` alone, and whoever becomes RUNNABLE takes a
place in line until it is that no longer. Law: which unit waits and which may run is
worked out from stored facts, so that after a restart the same comes out.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from batchyard.states import ACTIVE_STATES, FINAL_STATES, WAITING_STATES, JobState
from batchyard_controller.core.commands import Command, PublishMove, Why
from batchyard_controller.core.jobs import lifecycle
from batchyard_controller.core.jobs.dependencies import (
    child_standing,
    counterparts,
    failure_by,
    is_sequential,
    waits_by_child,
    whole_standing,
)
from batchyard_controller.core.model.attempts import Attempt, EndedAttempt
from batchyard_controller.core.model.children import RestEnd
from batchyard_controller.core.model.chunks import CHUNK
from batchyard_controller.core.model.dependencies import Dependency, DependencyType
from batchyard_controller.core.model.endings import Ending, Trigger
from batchyard_controller.core.model.jobs import Job, JobKind
from batchyard_controller.core.model.units import Unit, units_of
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.world import records, waiting
from batchyard_controller.core.world.world import World

Out = list[Command]
Try = Attempt | EndedAttempt
_DERIVED = frozenset({Trigger.HELD, Trigger.RELEASED, Trigger.CHILD_RUNNABLE})
"""What moves a unit of which nothing is stored then: it follows from what is stored of another, or of its submission."""


class Progress:
    """
    What one event moves: the world, the moment, and the commands that follow.

    Args:
        admits: Whether children of bounded arrays, and nodes, may have their turn; not while a
            world is restored, where those with a live attempt come first.
    """

    def __init__(self, world: World, now: Instant, out: Out, *, admits: bool = True) -> None:
        self._world = world
        self._now = now
        self._out = out
        self._admits = admits
        self._ended: deque[tuple[Unit, Sequence[int]]] = deque()
        """Ends whose consequences have not been looked at, and the others of its chunk that ended alike."""
        self._cause: Unit | None = None
        """Whose end is looked at."""

    # Coming in ----------------------------------------------------------------

    def settle(self, job: Job) -> None:
        """Let a SUBMITTED job wait for what its dependencies name, or for a host."""
        world = self._world
        standing = whole_standing(job.depends_on, world.jobs)
        job.unmet = len(standing.unmet)
        if standing.failure or job.unmet or self._is_gated(job):
            self._move_whole(job, Trigger.HELD)
        for other in standing.unmet:
            world.dependents.setdefault(other.job.id, []).append(job.id)
        for array in counterparts(job, world.jobs):
            if not array.state.is_final:
                world.followers.setdefault(array.id, []).append(job.id)
        if standing.failure:
            self._fail_waiting(job, _failed_by(standing.failure))
        else:
            self._fail_with_ended_counterparts(job)
            if job.unmet:
                self._look_at_children(job)  # some may have lost theirs already
            else:
                self._release(job)
        if job.size and job.children.all_final:
            # After a restart: the children's ends were stored, the array's was not.
            self._end_array(job)
        self._follow_all()

    def hold(self, job: Job) -> None:
        """Let the nodes of a job that has ended, and was just read, wait for what their claims say."""
        self._move_whole(job, Trigger.HELD)

    def _is_gated(self, job: Job) -> bool:
        """Say whether the units of a job are released one by one, or nodes while their claims are not back in force."""
        return _has_gate(job) or (job.kind is JobKind.NODES and not self._admits)

    def admit(self, job: Job) -> None:
        """Let ready children of a bounded array have their turn, in order of index, while there is room; nodes all together."""
        if job.kind is JobKind.NODES:
            self._gather(job)
            return
        if not job.concurrency or not self._admits or job.unmet or job.state.is_final:
            return
        busy = sum(job.children.count(state) for state in (JobState.RUNNABLE, *ACTIVE_STATES))
        ready = self._ready(job)
        while busy < job.concurrency and (index := next(ready, None)) is not None:
            if job.children.state(index) is JobState.PENDING:
                self.release(Unit(job, index))
                busy += 1

    def _gather(self, job: Job) -> None:
        """Let the nodes of a job wait for hosts once all of them have ended that ran, if it is to be tried again."""
        children = job.children
        is_active = any(children.count(state) for state in ACTIVE_STATES)
        if not self._admits or job.unmet or is_active or Unit(job).main.state is not JobState.PENDING:
            return
        for index in children.noted(FINAL_STATES):
            unit = Unit(job, index)
            self._moved(unit, records.run_again(self._world, unit), self._why(Trigger.RUN_AGAIN))
        if children.base is JobState.PENDING:
            self._move_whole(job, Trigger.RELEASED)
        else:
            for unit in units_of(job):
                self.release(unit)

    def _ready(self, job: Job) -> Iterator[int]:
        """Take out, one by one, the children that only wait for their turn."""
        children = job.children
        while children.ready:
            yield heapq.heappop(children.ready)
        while not waits_by_child(job) and children.cursor < job.size:
            children.cursor += 1
            yield children.cursor - 1

    def release(self, unit: Unit) -> None:
        """Let one child or node wait for a host."""
        self.move(unit, Trigger.RELEASED)

    def _release(self, job: Job) -> None:
        """Let a job wait for a host whose dependencies on whole jobs are met."""
        if self._is_gated(job):
            self._look_at_children(job)
            self.admit(job)
        else:
            self._move_whole(job, Trigger.RELEASED)

    def _look_at_children(self, job: Job) -> None:
        """Fail or release the children that wait for single others, by what these have come to so far."""
        if waits_by_child(job):
            for index in self._candidates(job):
                self._look_at_child(job, index)

    def _candidates(self, job: Job) -> Iterable[int]:
        """Return the children whose single dependencies may be met or lost by what has ended so far."""
        found: set[int] = set()
        kept = counterparts(job, self._world.jobs)
        for other in kept:
            found.update(other.children.indices(FINAL_STATES))
        if is_sequential(job):
            found.add(0)
            found.update(i + 1 for i in job.children.indices(FINAL_STATES) if i + 1 < job.size)
        elif not kept:
            return range(job.size)
        return sorted(found)

    def _look_at_child(self, job: Job, index: int) -> None:
        """Fail or release a child that waits for single others, by what these have come to."""
        unit = Unit(job, index)
        if unit.state is not JobState.PENDING:
            return
        standing = child_standing(job, index, self._world.jobs)
        if standing.failure is not None:
            self._end(unit, _failed_by(standing.failure))
        elif not standing.is_met or job.unmet:
            pass  # looked at again when the others have ended
        elif job.concurrency:
            heapq.heappush(job.children.ready, index)
            self.admit(job)
        else:
            self.release(unit)

    # Moving -------------------------------------------------------------------

    def move(self, unit: Unit, trigger: Trigger, tried: Try | None = None, others: Sequence[int] = ()) -> None:
        """Move a unit, and *others* of its chunk that tell of nothing else, to a state that is not final, for a try's sake or none."""
        before = lifecycle.move(unit, trigger, others)
        why = self._why(trigger, tried)
        if self._moved(unit, before, why, others) is JobState.RUNNABLE:
            for each in (unit, *(Unit(unit.job, index) for index in others)):
                waiting.await_host(self._world, each)
        if unit.leads:
            self._follow_main(unit.job, trigger, why)

    def _follow_main(self, job: Job, trigger: Trigger, why: Why) -> None:
        """Let a multi-node job move as its main node did; of one that has ended the last nodes move alone."""
        parent = Unit(job)
        if not parent.state.is_final:
            self._moved(parent, lifecycle.move(parent, trigger), why)

    def _why(self, trigger: Trigger, tried: Try | None = None, ending: Ending | None = None) -> Why:
        """Say why a unit moves."""
        by = self._cause.id if self._cause is not None else ""
        words = ending.words if ending is not None else ""
        if ending is not None and ending.waited_for is not None:
            by = ending.waited_for.job_id
        match tried:
            case None:
                return Why(trigger, by, words=words)
            case Attempt():
                return Why(trigger, by, tried.number, tried.host_id)
            case EndedAttempt():
                by, words = tried.preempted_for or by, words or tried.reason
                return Why(trigger, by, tried.number, tried.host_id, tried.exit_code, tried.cause, words)

    def _moved(self, unit: Unit, before: JobState, why: Why, others: Sequence[int] = ()) -> JobState:
        """Tell everybody who counts or watches, and return where it is; who waits for a host no longer leaves its line."""
        after, job = unit.state, unit.job
        if before is JobState.RUNNABLE and not unit.is_parent:
            waiting.leave_line(self._world, unit, others)
        if unit.is_child:
            job.children.updated_at_ms = self._now.wall_ms
        if not unit.is_parent:
            self._world.count(job.spec.queue, before, after, 1 + len(others))
        group = self._group(unit, why.trigger)
        self._out.append(PublishMove(job.id, unit.index, before, after, self._now.wall_ms, 0, why, (*others,), group))
        return after

    def _group(self, unit: Unit, trigger: Trigger | None) -> str:
        """Return the records on which a move rests."""
        if trigger in _DERIVED and self._cause is not None:
            return self._cause.group
        return f"{unit.group}/claims" if trigger is Trigger.CLAIMED and unit.is_child else unit.group

    def _move_whole(self, job: Job, trigger: Trigger) -> None:
        """Move a single job, or a parent and all its children, or nodes, at once."""
        if job.kind is JobKind.SINGLE:
            self.move(Unit(job), trigger)
            return
        children = job.children
        number = children.count(children.base)
        before = lifecycle.move_all_children(job, trigger)
        children.updated_at_ms = self._now.wall_ms
        self._world.count(job.spec.queue, before, children.base, number)
        if children.base is JobState.RUNNABLE:
            waiting.await_hosts(self._world, job)
        if job.kind is JobKind.NODES:
            self._follow_main(job, trigger, self._why(trigger))
        elif job.state is JobState.SUBMITTED:
            parent = Unit(job)
            parent_trigger = Trigger.CHILD_RUNNABLE if trigger is Trigger.RELEASED else trigger
            self._moved(parent, lifecycle.move(parent, parent_trigger), self._why(parent_trigger))

    # Ending -------------------------------------------------------------------

    def end_unit(
        self, unit: Unit, ending: Ending, tried: EndedAttempt | None = None, others: Sequence[int] = ()
    ) -> None:
        """Move a unit to its final state, with its last try if it had one, *others* as in `move`, and let the consequences follow."""
        self._end(unit, ending, tried, others)
        self._follow_all()

    def fail_waiting(self, job: Job, ending: Ending) -> None:
        """End all units of a job that have not started and that *ending* may end."""
        self._fail_waiting(job, ending)
        self._follow_all()

    def _end(self, unit: Unit, ending: Ending, tried: EndedAttempt | None = None, others: Sequence[int] = ()) -> None:
        before = records.end_unit(self._world, unit, ending, self._now.wall_ms, others)
        self._moved(unit, before, self._why(ending.trigger, tried, ending), others)
        self._ended.append((unit, others))
        if unit.leads and not unit.job.state.is_final:
            self._end(Unit(unit.job), ending, tried)

    def _end_array(self, job: Job) -> None:
        """End an array whose children have all ended, or a multi-node job, if that was not done."""
        main = Unit(job).main
        if job.state.is_final:
            return
        if main.ending is not None:
            self._end(Unit(job), main.ending)
        else:
            failed = job.children.count(JobState.FAILED)
            self._end(Unit(job), Ending(trigger=Trigger.CHILDREN_ENDED if failed else Trigger.CHILDREN_SUCCEEDED))

    def _fail_waiting(self, job: Job, ending: Ending, first: int = 0) -> None:
        """End a single job, or the waiting children from index *first* on: all without a record at once."""
        if job.kind is JobKind.SINGLE:
            if job.state.is_waiting:
                self._end(Unit(job), ending)
            return
        records.note_children(self._world, job, range((first + CHUNK - 1) // CHUNK))
        for index in job.children.noted(WAITING_STATES):
            if index >= first and lifecycle.allows(job, job.children.state(index), ending.trigger):
                self._end(Unit(job, index), ending)
        self._fail_rest(job, ending)

    def _fail_rest(self, job: Job, ending: Ending) -> None:
        """End all children without a record, if they wait and *ending* may end them."""
        children = job.children
        runs = children.rest_runs()
        if not runs or children.rest_end is not None or not lifecycle.allows(job, children.base, ending.trigger):
            return
        number = sum(stop - start for start, stop in runs)
        before = records.end_rest(self._world, job, RestEnd(ending=ending, at_ms=self._now.wall_ms))
        children.updated_at_ms = self._now.wall_ms
        self._world.count(job.spec.queue, before, JobState.FAILED, number)
        if before is JobState.RUNNABLE:
            waiting.leave_lines(self._world, job, runs)
        why = self._why(ending.trigger, ending=ending)
        for start, stop in runs:
            self._out.append(
                PublishMove(job.id, start, before, JobState.FAILED, self._now.wall_ms, stop, why, (), job.id)
            )
        for follower in self._followers(job):
            self._fail_with_rest(follower, job)
        if children.all_final:
            self._end_array(job)

    def _fail_with_ended_counterparts(self, job: Job) -> None:
        """Fail, of a job just settled, the children whose counterparts have all failed at once."""
        for other in counterparts(job, self._world.jobs):
            if other.children.rest_end is not None:
                self._fail_with_rest(job, other)

    def _fail_with_rest(self, job: Job, other: Job) -> None:
        """Fail the children whose counterparts in *other* were ended with the rest of it."""
        records.note_children(self._world, job, list(other.children.chunks))
        for number in job.children.chunks:
            if number not in other.children.chunks:
                for index in range(number * CHUNK, min((number + 1) * CHUNK, job.size)):
                    self._look_at_child(job, index)
        # What is left without a record has all its counterparts in the other's rest.
        self._fail_rest(job, _failed_by(Dependency(job_id=other.id, type=DependencyType.N_TO_N)))

    # Consequences ---------------------------------------------------------------

    def _follow_all(self) -> None:
        while self._ended:
            unit, others = self._ended.popleft()
            self._cause = unit
            if unit.is_child:
                self._follow_children(unit.job, (unit.child, *others))
            else:
                self._follow_job(unit.job)
        self._cause = None

    def _follow_job(self, job: Job) -> None:
        """Look at the jobs that waited for the whole of this one."""
        self._world.followers.pop(job.id, None)
        for dependent_id in self._world.dependents.pop(job.id, ()):
            dependent = self._world.jobs.get(dependent_id)
            if dependent is None or dependent.state is not JobState.PENDING or not dependent.unmet:
                continue  # it ended before, and may be forgotten, or was adopted and has had its turn
            dependent.unmet -= 1
            failure = failure_by(dependent, job)
            if failure:
                self._fail_waiting(dependent, _failed_by(failure))
            elif dependent.unmet == 0:
                self._release(dependent)

    def _follow_children(self, job: Job, indices: Sequence[int]) -> None:
        """Look at the children that waited for these, and at their array."""
        followers = self._followers(job)
        for index in indices if followers or is_sequential(job) else indices[-1:]:
            self._cause = Unit(job, index)
            for follower in followers:
                self._look_at_child(follower, index)
            if is_sequential(job) and index + 1 < job.size:
                self._follow_in_sequence(job, index)
        self.admit(job)
        if job.children.all_final:
            self._end_array(job)

    def _follow_in_sequence(self, job: Job, index: int) -> None:
        """Look at the child that waited for this one, or fail all that did."""
        if job.children.state(index) is JobState.SUCCEEDED:
            self._look_at_child(job, index + 1)
        elif job.children.state(index + 1) is JobState.PENDING:
            self._fail_waiting(job, _failed_by(Dependency(type=DependencyType.SEQUENTIAL)), first=index + 1)

    def _followers(self, job: Job) -> list[Job]:
        followers = (self._world.jobs.get(follower) for follower in self._world.followers.get(job.id, ()))
        return [follower for follower in followers if follower is not None]


def _failed_by(failure: Dependency) -> Ending:
    return Ending(trigger=Trigger.DEPENDENCY_FAILED, waited_for=failure)


def _has_gate(job: Job) -> bool:
    """Say whether the children of an array are released one by one."""
    return job.size > 0 and (job.concurrency > 0 or waits_by_child(job))
