"""
Progress: how jobs and children are held, released and ended, and what follows for others.

Every end may end or release others, these again others: what follows is taken
one after the other and not by recursion, so a chain may be of any length.
States are moved through ``lifecycle`` alone. Law: which unit waits and which may
run is worked out from stored facts, so that after a restart the same comes out.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator

from batchyard.states import ACTIVE_STATES, FINAL_STATES, WAITING_STATES, JobState
from batchyard_controller.core.commands import Command, PublishMove
from batchyard_controller.core.jobs import ends
from batchyard_controller.core.jobs.dependencies import (
    Standing,
    child_standing,
    counterparts,
    failure_by,
    is_sequential,
    waits_by_child,
    whole_standing,
)
from batchyard_controller.core.jobs.lifecycle import Trigger, allows, end_rest, move_all_children, move_child, move_job
from batchyard_controller.core.model.children import CHUNK, RestEnd
from batchyard_controller.core.model.jobs import Job
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.world.world import World, unit_group

Out = list[Command]


class Progress:
    """
    What one event moves: the world, the moment, and the commands that follow.

    Args:
        admits: Whether children of bounded arrays may have their turn; not while a
            world is restored, where those with a live attempt come first.
    """

    def __init__(self, world: World, now: Instant, out: Out, *, admits: bool = True) -> None:
        self._world = world
        self._now = now
        self._out = out
        self._admits = admits
        self._ended: deque[tuple[Job, int | None]] = deque()
        """Ends whose consequences have not been looked at."""

    # Coming in ----------------------------------------------------------------

    def settle(self, job: Job) -> None:
        """Let a SUBMITTED job wait for what its dependencies name, or for a host."""
        world = self._world
        standing = whole_standing(job.depends_on, world.jobs)
        job.unmet = len(standing.unmet)
        if standing.failure or job.unmet or _has_gate(job):
            self._move_whole(job, Trigger.HELD)
        for other in standing.unmet:
            world.dependents.setdefault(other, []).append(job.id)
        for other in counterparts(job):
            if other in world.jobs and not world.jobs[other].state.is_final:
                world.followers.setdefault(other, []).append(job.id)
        if standing.failure:
            self._fail_waiting(job, Trigger.DEPENDENCY_FAILED, standing.failure)
        else:
            self._fail_with_ended_counterparts(job)
            if job.unmet:
                self._look_at_children(job)  # some may have lost theirs already
            else:
                self._release(job)
        if job.array_size and not job.state.is_final and world.children[job.id].all_final:
            # After a restart: the children's ends were stored, the array's was not.
            self._end_array(job)
        self._follow_all()

    def admit(self, job: Job) -> None:
        """Let ready children of a bounded array have their turn, in order of index, while there is room."""
        if not job.array_concurrency or not self._admits or job.unmet or job.state.is_final:
            return
        children = self._world.children[job.id]
        busy = sum(children.count(state) for state in (JobState.RUNNABLE, *ACTIVE_STATES))
        ready = self._ready(job)
        while busy < job.array_concurrency and (index := next(ready, None)) is not None:
            if children.state(index) is JobState.PENDING:
                self.release_child(job, index)
                busy += 1

    def _ready(self, job: Job) -> Iterator[int]:
        """Take out, one by one, the children that only wait for their turn."""
        children = self._world.children[job.id]
        while children.ready:
            yield heapq.heappop(children.ready)
        while not waits_by_child(job) and children.cursor < job.array_size:
            children.cursor += 1
            yield children.cursor - 1

    def _release(self, job: Job) -> None:
        """Let a job wait for a host whose dependencies on whole jobs are met."""
        if not _has_gate(job):
            self._move_whole(job, Trigger.RELEASED)
            self._world.await_hosts(job)
            return
        self._look_at_children(job)
        self.admit(job)

    def _look_at_children(self, job: Job) -> None:
        """Fail or release the children that wait for single others, by what these have come to so far."""
        if waits_by_child(job):
            for index in self._candidates(job):
                self._look_at_child(job, index)

    def _candidates(self, job: Job) -> Iterable[int]:
        """Return the children whose single dependencies may be met or lost by what has ended so far."""
        world = self._world
        found: set[int] = set()
        kept = [other for other in counterparts(job) if other in world.children]
        for other in kept:
            found.update(world.children[other].indices(FINAL_STATES))
        if is_sequential(job):
            found.add(0)
            found.update(i + 1 for i in world.children[job.id].indices(FINAL_STATES) if i + 1 < job.array_size)
        elif not kept:
            return range(job.array_size)
        return sorted(found)

    def _look_at_child(self, job: Job, index: int) -> None:
        """Fail or release a child that waits for single others, by what these have come to."""
        children = self._world.children[job.id]
        if children.state(index) is not JobState.PENDING:
            return
        match child_standing(job, index, self._world.children):
            case Standing.FAILED:
                self._end(job, index, Trigger.DEPENDENCY_FAILED, ends.DEPENDENCY_FAILED)
            case Standing.MET if job.unmet:
                pass  # looked at again when the others have ended
            case Standing.MET if job.array_concurrency:
                heapq.heappush(children.ready, index)
                self.admit(job)
            case Standing.MET:
                self.release_child(job, index)
            case Standing.UNMET:
                pass

    def release_child(self, job: Job, index: int) -> None:
        """Let one child wait for a host."""
        self.move(job, index, Trigger.RELEASED)
        self._world.await_host(job, index, index + 1)

    # Moving -------------------------------------------------------------------

    def move(self, job: Job, index: int | None, trigger: Trigger, reason: str = "") -> None:
        """Move one unit and tell everybody who counts or watches."""
        if index is None:
            before = move_job(job, trigger, reason)
            after = job.state
        else:
            children = self._world.children[job.id]
            before = move_child(job, children, index, trigger, reason)
            after = children.state(index)
            children.updated_at_ms = self._now.wall_ms
        self._world.count(job.spec.queue, before, after)
        self._publish(job, index, before, after)

    def _move_whole(self, job: Job, trigger: Trigger) -> None:
        """Move a single job, or an array's parent and all its children at once."""
        if not job.array_size:
            self.move(job, None, trigger)
            return
        children = self._world.children[job.id]
        waiting = children.count(children.base)
        before = move_all_children(job, children, trigger)
        children.updated_at_ms = self._now.wall_ms
        self._world.count(job.spec.queue, before, children.base, waiting)
        if job.state is JobState.SUBMITTED:
            parent_trigger = Trigger.CHILD_RUNNABLE if trigger is Trigger.RELEASED else trigger
            self._publish(job, None, move_job(job, parent_trigger), job.state)

    def _publish(self, job: Job, index: int | None, before: JobState, after: JobState, stop: int = 0) -> None:
        self._out.append(PublishMove(job.id, index, before, after, self._now.wall_ms, stop))

    # Ending -------------------------------------------------------------------

    def end_unit(self, job: Job, index: int | None, trigger: Trigger, reason: str) -> None:
        """Move a unit to its final state and let the consequences follow."""
        self._end(job, index, trigger, reason)
        self._follow_all()

    def fail_waiting(self, job: Job, trigger: Trigger, reason: str) -> None:
        """End all units of a job that have not started and that *trigger* may end."""
        self._fail_waiting(job, trigger, reason)
        self._follow_all()

    def touch_unit(self, job: Job, index: int | None) -> None:
        """Note that what is stored of a unit, its attempts apart, has changed."""
        group = unit_group(job.id, index)
        if index is None:
            self._world.touch(group, "state", job.id)
        else:
            self._world.touch(group, "children", group)

    def _end(self, job: Job, index: int | None, trigger: Trigger, reason: str) -> None:
        self.move(job, index, trigger, reason)
        if index is None:
            job.ended_at_ms = self._now.wall_ms
            self._world.ended.append(job)
        else:
            self._world.children[job.id].set_ended_at_ms(index, self._now.wall_ms)
        self.touch_unit(job, index)
        self._ended.append((job, index))

    def _end_array(self, job: Job) -> None:
        """End an array whose children have all ended."""
        failed = self._world.children[job.id].count(JobState.FAILED)
        trigger = Trigger.CHILDREN_ENDED if failed else Trigger.CHILDREN_SUCCEEDED
        before = move_job(job, trigger, ends.CHILD_FAILED if failed else "")
        job.stopped_at_ms = job.ended_at_ms = self._now.wall_ms
        self._world.ended.append(job)
        self._world.touch(job.id, "state", job.id)
        self._publish(job, None, before, job.state)
        self._ended.append((job, None))

    def _fail_waiting(self, job: Job, trigger: Trigger, reason: str, first: int = 0) -> None:
        """End a single job, or the waiting children from index *first* on: all without a record at once."""
        if not job.array_size:
            if job.state.is_waiting:
                self._end(job, None, trigger, reason)
            return
        children = self._world.children[job.id]
        self._note(job, range((first + CHUNK - 1) // CHUNK))
        for index in children.noted(WAITING_STATES):
            if index >= first and allows(children.state(index), trigger):
                self._end(job, index, trigger, reason)
        self._fail_rest(job, trigger, reason)

    def _fail_rest(self, job: Job, trigger: Trigger, reason: str) -> None:
        """End all children without a record, if they wait and *trigger* may end them."""
        children = self._world.children[job.id]
        runs = children.rest_runs()
        if not runs or children.rest_end is not None or not allows(children.base, trigger):
            return
        number = sum(stop - start for start, stop in runs)
        before = end_rest(job, children, trigger, RestEnd(reason=reason, at_ms=self._now.wall_ms))
        children.updated_at_ms = self._now.wall_ms
        self._world.count(job.spec.queue, before, JobState.FAILED, number)
        self._world.touch(job.id, "state", job.id)
        if not children.count(JobState.RUNNABLE):
            self._world.leave_line(job)
        for start, stop in runs:
            self._publish(job, start, before, JobState.FAILED, stop)
        for follower in self._followers(job):
            self._fail_with_rest(follower, job)
        if children.all_final and not job.state.is_final:
            self._end_array(job)

    def _note(self, job: Job, numbers: Iterable[int]) -> None:
        """Keep a record of the children of these chunks, so that they are not of the rest."""
        for number in self._world.children[job.id].note(numbers):
            self.touch_unit(job, number * CHUNK)

    def _fail_with_ended_counterparts(self, job: Job) -> None:
        """Fail, of a job just settled, the children whose counterparts have all failed at once."""
        for other in counterparts(job):
            if other in self._world.children and self._world.children[other].rest_end is not None:
                self._fail_with_rest(job, self._world.jobs[other])

    def _fail_with_rest(self, job: Job, other: Job) -> None:
        """Fail the children whose counterparts in *other* were ended with the rest of it."""
        children = self._world.children
        self._note(job, children[other.id].chunks)
        for number in children[job.id].chunks:
            if number not in children[other.id].chunks:
                for index in range(number * CHUNK, min((number + 1) * CHUNK, job.array_size)):
                    self._look_at_child(job, index)
        # What is left without a record has all its counterparts in the other's rest.
        self._fail_rest(job, Trigger.DEPENDENCY_FAILED, ends.DEPENDENCY_FAILED)

    # Consequences ---------------------------------------------------------------

    def _follow_all(self) -> None:
        while self._ended:
            job, index = self._ended.popleft()
            if index is None:
                self._follow_job(job)
            else:
                self._follow_child(job, index)

    def _follow_job(self, job: Job) -> None:
        """Look at the jobs that waited for the whole of this one."""
        self._world.followers.pop(job.id, None)
        for dependent_id in self._world.dependents.pop(job.id, ()):
            dependent = self._world.jobs.get(dependent_id)
            if dependent is None or dependent.state is not JobState.PENDING:
                continue  # it ended before, and may be forgotten
            dependent.unmet -= 1
            failure = failure_by(dependent, job)
            if failure:
                self._fail_waiting(dependent, Trigger.DEPENDENCY_FAILED, failure)
            elif dependent.unmet == 0:
                self._release(dependent)

    def _follow_child(self, job: Job, index: int) -> None:
        """Look at the children that waited for this one, and at its array."""
        children = self._world.children[job.id]
        for follower in self._followers(job):
            self._look_at_child(follower, index)
        if is_sequential(job) and index + 1 < job.array_size:
            if children.state(index) is JobState.SUCCEEDED:
                self._look_at_child(job, index + 1)
            elif children.state(index + 1) is JobState.PENDING:
                self._fail_waiting(job, Trigger.DEPENDENCY_FAILED, ends.DEPENDENCY_FAILED, first=index + 1)
        self.admit(job)
        if children.all_final and not job.state.is_final:
            self._end_array(job)

    def _followers(self, job: Job) -> list[Job]:
        followers = (self._world.jobs.get(follower) for follower in self._world.followers.get(job.id, ()))
        return [follower for follower in followers if follower is not None]


def _has_gate(job: Job) -> bool:
    """Say whether the children of an array are released one by one."""
    return job.array_size > 0 and (job.array_concurrency > 0 or waits_by_child(job))
