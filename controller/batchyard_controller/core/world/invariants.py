"""
Invariants: what must hold of the world after every event, checked by tests.

Each check says in its message what is wrong, since a failing law is read by a
person.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from batchyard.ids import HostId
from batchyard.resources import GPU_WHOLE, Resources
from batchyard.states import JobState
from batchyard_controller.core.model.launches import LaunchState
from batchyard_controller.core.model.units import Unit, units_of
from batchyard_controller.core.placement.bounds import QUEUE_LIMIT, UNITS, Bound

from .waiting import is_held
from .world import World


def check(world: World) -> None:
    """Assert every invariant."""
    _check_attempts_match_states(world)
    _check_hosts_are_known_or_gone(world)
    _check_no_host_is_overcommitted(world)
    _check_what_is_held_is_counted(world)
    _check_quotas(world)
    _check_counts(world)
    _check_exactly_the_runnable_stand_in_line(world)
    _check_who_lacks_an_image_is_known_to_those_who_wait(world)
    _check_endings(world)
    _check_launches(world)


def _check_attempts_match_states(world: World) -> None:
    active = {attempt.unit_id for attempt in world.attempts.values()}
    assert len(active) == len(world.attempts), "two live attempts of one job"
    for attempt in world.attempts.values():
        state = world.unit_of(attempt).state
        wanted = JobState.RUNNING if attempt.started_at_ms else JobState.STARTING
        assert state is wanted, f"{attempt.id} is live, but its job is {state}"
    units = sum(counts[state] for counts in world.counts.values() for state in (JobState.STARTING, JobState.RUNNING))
    assert units == len(active), f"{units} active units, {len(active)} live attempts"


def _check_hosts_are_known_or_gone(world: World) -> None:
    assert not world.hosts.keys() & world.gone_hosts.keys(), "a host is known, and gone"
    for record in (host.record for host in world.hosts.values()):
        assert not record.gone_at_ms, f"{record.id} is known, and its record says gone"
    for record in world.gone_hosts.values():
        assert record.gone_at_ms, f"{record.id} is gone, and its record does not say so"


def _check_no_host_is_overcommitted(world: World) -> None:
    for host_id, host in world.hosts.items():
        used = Resources()
        gpus: Counter[str] = Counter()
        for attempt in host.attempts.values():
            used += world.unit_of(attempt).task.resources
            for gpu in attempt.gpus:
                gpus[gpu.uuid] += gpu.millis
        for stray in world.adoption.strays.values():
            if stray.host_id == host_id:
                used += stray.report.resources
                gpus.update({gpu.uuid: gpu.millis for gpu in stray.report.gpus})
        assert used == world.fleet.allocated(host_id), (
            f"{host_id} reckons {world.fleet.allocated(host_id)}, uses {used}"
        )
        is_of_backup = any(attempt.generation < world.generation for attempt in host.attempts.values())
        if (host_id in world.adoption.waits_for and is_of_backup) or world.adoption.asked & host.attempts.keys():
            continue  # what ran there by the backup has ended, and its host is to say how; others have its place
        capacity = replace(host.record.facts.capacity, gpu_millis=GPU_WHOLE * len(host.record.facts.gpus))
        assert used.fits_in(capacity), f"{host_id} is over-committed: {used}"
        assert all(millis <= GPU_WHOLE for millis in gpus.values()), f"{host_id} shares a GPU too often: {gpus}"


def _check_what_is_held_is_counted(world: World) -> None:
    consumables: Counter[str] = Counter()
    queues: Counter[str] = Counter()
    for unit in map(world.unit_of, world.attempts.values()):
        consumables.update(dict(unit.consumables))
        queues[unit.job.spec.queue] += 1
    for name in world.consumables:
        held = world.fleet.bounds.consumable_held(name)
        assert held == consumables[name], f"{name} reckons {held}, {consumables[name]} are held"
    for name in world.queues:
        held = world.fleet.bounds.held(Bound(QUEUE_LIMIT, name, UNITS))
        assert held == queues[name], f"queue {name} reckons {held} units, has {queues[name]}"


def _check_quotas(world: World) -> None:
    for name, queue in world.queues.items():
        quota = world.fleet.quotas.of(name)
        assert (quota is not None) == world.has_quota_shares(queue), f"queue {name} has quota shares, or not"
        if quota is None:
            continue
        used: dict[str, Counter[str]] = {}
        live = [a for a in world.attempts.values() if world.unit_of(a).job.spec.queue == name]
        assert {a.id for a in live} == quota.holdings.keys(), f"queue {name} has other attempts than its shares"
        assert {a.id for a in live if a.is_stopping} == quota.stopping.keys(), f"queue {name} has others stopped"
        for attempt in live:
            spec = world.unit_of(attempt).job.spec
            for unit, amount in quota.holdings[attempt.id].use.items():
                used.setdefault(unit, Counter())[spec.share_identifier] += amount
        reckoned = {unit: shares for unit, shares in quota.ledger.used.items() if shares}
        assert reckoned == used, f"queue {name} reckons {reckoned}, its shares use {used}"


def _check_counts(world: World) -> None:
    recount: dict[str, Counter[JobState]] = {}
    for job in world.jobs.values():
        recount.setdefault(job.spec.queue, Counter()).update(unit.state for unit in units_of(job))
    for queue, counts in recount.items():
        assert counts == +world.counts[queue], f"queue {queue} counts {world.counts[queue]}, has {counts}"


def _check_exactly_the_runnable_stand_in_line(world: World) -> None:
    waiting = Counter(
        unit.id for queue in world.by_queue for line in world.lines.of_queue(queue) for unit in line.units()
    )
    for unit_id, times in waiting.items():
        assert times == 1, f"{unit_id} stands in line {times} times"
    free = [job for job in world.jobs.values() if not is_held(world, job)]
    runnable = {unit.id for job in free for unit in units_of(job) if unit.state is JobState.RUNNABLE}
    assert runnable == waiting.keys(), f"in line, or RUNNABLE, but not both: {runnable ^ waiting.keys()}"


def _check_who_lacks_an_image_is_known_to_those_who_wait(world: World) -> None:
    for line in (line for queue in world.by_queue for line in world.lines.of_queue(queue)):
        for job in line.jobs():
            for image in {task.images for task in job.spec.tasks}:
                is_apart = image in (line.shape.image, *(part.image for part in line.shape.parts))
                assert is_apart or image not in world.fleet.lacking, f"{job.id} waits among others with {image}"


def _check_endings(world: World) -> None:
    for job in world.jobs.values():
        for unit in (Unit(job), *units_of(job)):
            assert (unit.ending is not None) == unit.state.is_final, f"{unit.id} is {unit.state}: {unit.ending}"


def _check_launches(world: World) -> None:
    joined = [launch for launch in world.launches.values() if launch.state is LaunchState.JOINED]
    assert len({launch.host_id for launch in joined}) == len(joined), "two launches have one host"
    for launch in world.launches.values():
        assert (launch in joined) == bool(launch.host_id), f"launch {launch.id} is {launch.state}"
        host = world.hosts.get(HostId(launch.host_id))
        if host is not None and not launch.is_wanted:
            assert not world.fleet.usable[world.fleet.rows[HostId(launch.host_id)]], f"{launch.id} is to be stopped"
