"""
Occupancy: who is on a host, as plans judge whom to stop there.

It follows from live attempts. Law: the hosts that are counted for a queue are those on which
it has any.
"""

from __future__ import annotations

from batchyard.ids import AttemptId, HostId, JobId
from batchyard.states import ACTIVE_STATES, EndCause
from batchyard_controller.core import limits
from batchyard_controller.core.model.attempts import Attempt
from batchyard_controller.core.model.hosts import Host
from batchyard_controller.core.model.jobs import Job
from batchyard_controller.core.model.settings import JobQueue
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.placement.preemption import Occupant
from batchyard_controller.core.placement.quotas import Holding, use_of

from .waiting import rank_of
from .world import World


class Occupancy:
    """Who is on each host as one plan judges it; the nodes of a job are looked for once."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._together: dict[JobId, tuple[AttemptId, ...]] = {}

    def on(self, host_id: str) -> list[Occupant]:
        """Return who is on a host; nodes of a job that would be stopped together as one."""
        alone: list[Occupant] = []
        together: dict[JobId, list[Attempt]] = {}
        for attempt in self._world.hosts[HostId(host_id)].attempts.values():
            if attempt.is_node and not attempt.is_stopping:
                together.setdefault(attempt.job_id, []).append(attempt)
            else:
                alone.append(self._occupant([attempt], (attempt.id,), is_stopping=attempt.is_stopping))
        return alone + [self._nodes(job_id, here) for job_id, here in together.items()]

    def _nodes(self, job_id: JobId, here: list[Attempt]) -> Occupant:
        job = self._world.jobs[job_id]
        if job_id not in self._together:
            self._together[job_id] = tuple(each.id for each in live_nodes(self._world, job) if not each.is_stopping)
        main = self._world.live_attempt(Unit(job).main)
        return self._occupant(here, self._together[job_id], is_stopping=main is None or main.is_stopping)

    def _occupant(self, here: list[Attempt], names: tuple[AttemptId, ...], *, is_stopping: bool) -> Occupant:
        first, units = here[0], [self._world.unit_of(attempt) for attempt in here]
        share, priority = rank_of(self._world, units[0].job.spec)
        preemptions = 0
        if first.number > limits.PREEMPTIONS_MAX:
            preemptions = sum(ended.cause is EndCause.PREEMPTED for ended in units[0].main.attempts)
        return Occupant(
            names,
            units[0].job.spec.queue,
            share,
            priority,
            first.claimed_at_ms,
            sum((unit.task.resources for unit in units[1:]), units[0].task.resources),
            tuple(gpu for attempt in here for gpu in attempt.gpus),
            first.compute_environment,
            is_stopping,
            preemptions,
        )


def live_nodes(world: World, job: Job) -> list[Attempt]:
    """Return the live attempts of the nodes of a job, in order of index."""
    found = (world.live_attempt(Unit(job, index)) for index in job.children.noted(ACTIVE_STATES))
    return [attempt for attempt in found if attempt is not None]


def bound_shares(world: World, queue: JobQueue) -> None:
    """Tell the fleet what the quota shares of a queue are, and of one that is new to it what its attempts use."""
    if not world.has_quota_shares(queue):
        return
    if world.fleet.quotas.set_queue(queue.name, world.shares_of(queue.name)):
        for attempt in world.attempts.values():
            hold_quota(world, world.unit_of(attempt), attempt)


def hold_quota(world: World, unit: Unit, attempt: Attempt) -> None:
    """Count what an attempt uses of the capacity of its quota share, if its queue has any."""
    spec = unit.job.spec
    if world.fleet.quotas.of(spec.queue) is not None:
        use = use_of(unit.task.resources, world.hosts[attempt.host_id].record.facts.host_type)
        holding = Holding(spec.share_identifier, attempt.host_id, use)
        world.fleet.quotas.claim(spec.queue, attempt.id, holding, is_stopping=attempt.is_stopping)


def hold_quotas_again(world: World, host: Host) -> None:
    """Count anew what the attempts on a host use that is of another type now."""
    for name, attempt in host.attempts.items():
        unit = world.unit_of(attempt)
        world.fleet.quotas.release(unit.job.spec.queue, name)
        hold_quota(world, unit, attempt)


def occupy(world: World, unit: Unit, attempt: Attempt, by: int = 1) -> None:
    """Count so many as an attempt among those of its queue on its host, or no longer (less than 0)."""
    queue = unit.job.spec.queue
    hosts = world.occupied.get(queue)
    if hosts is None:
        hosts = world.occupied[queue] = {}
    hosts[attempt.host_id] = number = hosts.get(attempt.host_id, 0) + by
    if not number:
        del hosts[attempt.host_id]
        if not hosts:
            del world.occupied[queue]
