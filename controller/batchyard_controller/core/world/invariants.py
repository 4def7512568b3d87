"""
Invariants: what must hold of the world after every event, checked by tests.

Each check says in its message what is wrong, since a failing law is read by a
person.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from batchyard.resources import GPU_WHOLE, Resources
from batchyard.states import JobState

from .world import World


def check(world: World) -> None:
    """Assert every invariant."""
    _check_attempts_match_states(world)
    _check_no_host_is_overcommitted(world)
    _check_counts(world)
    _check_everybody_runnable_stands_in_line(world)


def _check_attempts_match_states(world: World) -> None:
    active = {attempt.unit_id for attempt in world.attempts.values()}
    assert len(active) == len(world.attempts), "two live attempts of one job"
    for attempt in world.attempts.values():
        state = world.state_of(world.jobs[attempt.job_id], attempt.index)
        wanted = JobState.RUNNING if attempt.started_at_ms else JobState.STARTING
        assert state is wanted, f"{attempt.id} is live, but its job is {state}"
    units = sum(counts[state] for counts in world.counts.values() for state in (JobState.STARTING, JobState.RUNNING))
    assert units == len(active), f"{units} active units, {len(active)} live attempts"


def _check_no_host_is_overcommitted(world: World) -> None:
    for host_id, host in world.hosts.items():
        used = Resources()
        gpus: Counter[str] = Counter()
        for attempt in host.attempts.values():
            used += world.jobs[attempt.job_id].spec.container.resources
            for gpu in attempt.gpus:
                gpus[gpu.uuid] += gpu.millis
        assert used == world.fleet.allocated(host_id), (
            f"{host_id} reckons {world.fleet.allocated(host_id)}, uses {used}"
        )
        capacity = replace(host.record.facts.capacity, gpu_millis=GPU_WHOLE * len(host.record.facts.gpus))
        assert used.fits_in(capacity), f"{host_id} is over-committed: {used}"
        assert all(millis <= GPU_WHOLE for millis in gpus.values()), f"{host_id} shares a GPU too often: {gpus}"


def _check_counts(world: World) -> None:
    recount: dict[str, Counter[JobState]] = {}
    for job in world.jobs.values():
        counts = recount.setdefault(job.spec.queue, Counter())
        if job.array_size:
            children = world.children[job.id]
            for index in range(job.array_size):
                counts[children.state(index)] += 1
        else:
            counts[job.state] += 1
    for queue, counts in recount.items():
        assert counts == +world.counts[queue], f"queue {queue} counts {world.counts[queue]}, has {counts}"


def _check_everybody_runnable_stands_in_line(world: World) -> None:
    waiting: Counter[tuple[str, int | None]] = Counter()
    for queue in world.queues:
        for line in world.lines.of_queue(queue):
            waiting.update((job.id, index) for job, index in line.units())
    for unit, times in waiting.items():
        assert times == 1, f"{unit} stands in line {times} times"
    for job in world.jobs.values():
        for index in range(job.array_size) if job.array_size else (None,):
            stands = (job.id, index) in waiting
            runnable = world.is_runnable(job, index)
            assert stands == runnable, f"{job.id}:{index} is {world.state_of(job, index)}, in line: {stands}"
