"""
What follows after a restore: what runs is adopted, and what the backup does not know is learnt from hosts.

Laws: no job of the backup is placed before its hosts have told what they run and what has
ended there, or their fences have passed. An attempt that was claimed before the restore is
taken over for its job, if that may still be; what runs of no job that is known is left
alone. Attempts of the backup of which their hosts say nothing are asked about by telling to
stop them: who knows the end tells it, and who knows nothing starts it never.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from batchyard.ids import AttemptId, HostId, split_attempt_id
from batchyard.resources import GPU_WHOLE, RESOURCE_KINDS, Resources
from batchyard.states import EndCause
from batchyard_controller.core import limits
from batchyard_controller.core.attempt_reports import Phase, Report
from batchyard_controller.core.commands import SendRevoke, SendStop, Warn
from batchyard_controller.core.model.attempts import Attempt, AttemptEnd, GpuClaim
from batchyard_controller.core.model.hosts import Host, own_fence
from batchyard_controller.core.model.restores import LAST_RESTORE, in_generation
from batchyard_controller.core.model.units import Unit, units_of
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement.feasibility import belongs
from batchyard_controller.core.world import records
from batchyard_controller.core.world.adoption import Adoption, Stray
from batchyard_controller.core.world.fences import fence_of
from batchyard_controller.core.world.waiting import await_all
from batchyard_controller.core.world.world import World

from .attempts import enter_claim, supersede
from .progress import Out

RETURN_MS = 15_000
"""So long hosts have to come back that the backup does not know; agents try again every 5 s at least."""
STOPPED_SINCE = "It was stopped after the backup was made from which the store was put back; for what is not known"
UNKNOWN_END = "The store was put back from a backup, and the host knows no more how it ended"


def begin(world: World, now: Instant) -> None:
    """Begin to listen, as a leader after a restore, however long ago; its jobs have yet to be read."""
    if world.restore is not None:
        is_over = world.restore.is_over
        world.adoption = Adoption(
            began_boot_ms=now.boot_ms,
            last_seq=0 if is_over else world.restore.last_seq,
            waits_for=set() if is_over else set(world.hosts),
            unheard=set(world.hosts),
        )


# What hosts say -----------------------------------------------------------------------


def on_hello(world: World, host: Host, said: Iterable[AttemptId], *, tells_all: bool) -> None:
    """Forget what else was known of strays on a host; one whose agent cannot tell more has told all."""
    kept = set(said)
    world.adoption.unheard.discard(host.record.id)
    for stray in [each for each in world.adoption.strays.values() if each.host_id == host.record.id]:
        if stray.attempt_id not in kept:
            _drop(world, stray)
    if not tells_all:
        world.adoption.waits_for.discard(host.record.id)


def on_gone(world: World, host_id: HostId) -> None:
    """Expect no word of a host that surely is no more: nothing runs there."""
    for stray in [each for each in world.adoption.strays.values() if each.host_id == host_id]:
        _drop(world, stray)
    world.adoption.waits_for.discard(host_id)
    world.adoption.unheard.discard(host_id)


def ask(world: World, host_id: HostId, unsaid: list[Attempt], out: Out) -> list[Attempt]:
    """Ask a host about attempts of the backup of which its hello said nothing; return the others."""
    if not world.is_restoring:
        return unsaid
    asked = [attempt for attempt in unsaid if attempt.generation < world.generation]
    world.adoption.asked.update(attempt.id for attempt in asked)
    out.extend(SendStop(host_id, attempt.id) for attempt in asked)
    return [attempt for attempt in unsaid if attempt.generation == world.generation]


def believed(world: World, attempt: Attempt, end: AttemptEnd) -> AttemptEnd:
    """Return how an attempt of before a restore ended: who stopped it, if we did, is not known."""
    was_asked = attempt.id in world.adoption.asked
    world.adoption.asked.discard(attempt.id)
    is_ours = attempt.generation == world.generation or attempt.is_stopping
    if end.cause is not EndCause.STOPPED or is_ours or world.hosts[attempt.host_id].record.reclaimed_at_ms:
        return end
    is_unknown = was_asked and not end.started_at_ms
    return replace(end, cause=EndCause.LOST, reason=UNKNOWN_END if is_unknown else STOPPED_SINCE, exit_code=None)


def adopt(world: World, host: Host, report: Report, now: Instant, out: Out) -> list[tuple[Attempt, Report]] | None:
    """
    Take over an attempt of before a restore that is not claimed for this host, as far as is stored.

    Returns what is to be looked at as claimed from now on: it, or all nodes of its job, or nothing
    if it is left alone; None: it is not of before a restore, or its job has gone on without it.
    """
    try:
        unit_id, number, generation = split_attempt_id(report.attempt_id)
    except ValueError:
        return None
    if world.restore is None or generation >= world.generation:
        return None
    unit = world.find(unit_id)
    if unit is None or unit.is_parent:
        _leave_alone(world, host, report, out)
        return []
    live = world.live_attempt(unit)
    has_gone_on = live is not None and (live.generation == world.generation or live.number >= number)
    if unit.state.is_final or number < unit.next_number or has_gone_on:
        return None
    if unit.is_node:
        _leave_alone(world, host, report, out)
        return _adopt_nodes(world, unit, number, generation, now, out)
    if live is not None:
        supersede(world, unit, live, now, out)
    return [(_claim(world, unit, number, generation, host, report, now, out), report)]


def _leave_alone(world: World, host: Host, report: Report, out: Out) -> None:
    strays, host_id = world.adoption.strays, host.record.id
    former = strays.get(report.attempt_id)
    if former is not None:
        _drop(world, former)
    if report.phase is Phase.ENDED:
        return
    if former is None:
        text = (
            "a host keeps an attempt that this store does not know, as it was put back from a backup; it is left alone"
        )
        out.append(Warn(text, (("attempt", report.attempt_id), ("host", host.record.facts.name))))
    most = replace(host.record.facts.capacity, gpu_millis=GPU_WHOLE * len(host.record.facts.gpus))
    held = Resources(
        **{kind: min(max(getattr(report.resources, kind), 0), getattr(most, kind)) for kind in RESOURCE_KINDS}
    )
    stray = Stray(host_id=host_id, report=replace(report, resources=held, gpus=_gpus_of(held, host, report.gpus)))
    strays[stray.attempt_id] = stray
    world.fleet.claim(host_id, held, stray.report.gpus, "")


def _drop(world: World, stray: Stray) -> None:
    """Let a stray hold nothing more."""
    del world.adoption.strays[stray.attempt_id]
    world.fleet.release(stray.host_id, stray.report.resources, stray.report.gpus, "")
    world.wants_plan = True


def _adopt_nodes(
    world: World, unit: Unit, number: int, generation: int, now: Instant, out: Out
) -> list[tuple[Attempt, Report]]:
    """Take over all nodes of a job once each is on a host that said so, and none is claimed."""
    nodes = list(units_of(unit.job))
    found = {}
    for stray in world.adoption.of_job(unit.job.id):
        whose, of_number, of_generation = split_attempt_id(stray.attempt_id)
        if (of_number, of_generation) == (number, generation) and stray.host_id in world.hosts:
            found[whose] = stray
    if len(found) < len(nodes) or any(node.state.is_active or node.state.is_final for node in nodes):
        return []
    adopted = []
    for node in nodes:
        stray = found[node.id]
        _drop(world, stray)
        host = world.hosts[stray.host_id]
        claim = _claim(world, node, number, generation, host, stray.report, now, out)
        adopted.append((claim, stray.report))
    return adopted


def _claim(
    world: World, unit: Unit, number: int, generation: int, host: Host, report: Report, now: Instant, out: Out
) -> Attempt:
    """Claim a host for what it runs already, or ran."""
    since_ms = report.started_at_ms or (report.end.started_at_ms if report.end is not None else 0)
    attempt = Attempt(
        job_id=unit.job.id,
        index=unit.index,
        number=number,
        host_id=host.record.id,
        compute_environment=_environment_of(world, unit, host),
        epoch=in_generation(generation, 0),
        claimed_at_ms=since_ms or now.wall_ms,
        gpus=_gpus_of(unit.task.resources, host, report.gpus),
        is_node=unit.is_node,
    )
    records.claim(world, unit, (attempt,), None, now)
    enter_claim(world, unit, now, out)
    assert world.restore is not None, "nothing is adopted before a restore"
    record = world.restore.with_adopted(has_ended=report.phase is Phase.ENDED)
    records.keep_plain(world, "restore", LAST_RESTORE, record)
    return attempt


def _environment_of(world: World, unit: Unit, host: Host) -> str:
    """Return by which environment a host came to run a unit: the first of its queue that it belongs to."""
    queue = world.queues.get(unit.job.spec.queue)
    environments = world.environments_of(queue) if queue is not None else ()
    names = [each.name for each in environments if belongs(host.record.facts, each)]
    return (names or [each.name for each in environments] or [""])[0]


def _gpus_of(asked: Resources, host: Host, said: tuple[GpuClaim, ...]) -> tuple[GpuClaim, ...]:
    """Return what an attempt holds of its host's GPUs, if its agent says what it may."""
    known = {gpu.uuid for gpu in host.record.facts.gpus}
    is_so = sum(gpu.millis for gpu in said) == asked.gpu_millis
    return said if is_so and all(gpu.uuid in known and gpu.millis > 0 for gpu in said) else ()


# Its end ------------------------------------------------------------------------------


def look(world: World, now: Instant, out: Out) -> None:
    """Let the jobs of the backup have their turn once all has been told that can be, or cannot be any more."""
    adoption, record = world.adoption, world.restore
    _drop_lost(world, now, out)
    if record is None or record.is_over:
        return
    adoption.asked.intersection_update(world.attempts)
    adoption.waits_for = {
        host_id
        for host_id in adoption.waits_for
        if host_id in world.hosts and not _has_passed_fence(world, host_id, now)
    }
    least_ms = RETURN_MS
    if record.waits_whole_fence:
        fences = [fence_of(world, host) for host in world.hosts.values()]
        own = world.fence_ms + limits.fence_margin_ms(world.fence_ms) if world.fence_ms else 0
        least_ms = max(least_ms, own, *fences)
    if not adoption.waits_for and not adoption.asked and now.boot_ms - adoption.began_boot_ms >= least_ms:
        left = _left_over(world, now)
        out.extend(SendRevoke(stray.host_id, stray.attempt_id) for stray in left)
        if not left:
            _end(world, out)


def _drop_lost(world: World, now: Instant, out: Out) -> None:
    """Let strays hold nothing more on hosts that were silent for longer than any fence that they may have, known or not."""
    unheard = world.adoption.unheard
    unheard -= {host_id for host_id in unheard if _has_passed_fence(world, host_id, now)}
    for stray in list(world.adoption.strays.values()):
        if _has_passed_fence(world, stray.host_id, now):
            _drop(world, stray)
            name = world.hosts[stray.host_id].record.facts.name
            text = "an attempt that this store does not know is lost with its host, which was silent beyond its fence"
            out.append(Warn(text, (("attempt", stray.attempt_id), ("host", name))))


def _left_over(world: World, now: Instant) -> list[Stray]:
    """Return the nodes that may run of jobs that have to begin anew, as others of their nodes are nowhere."""
    left = []
    for stray in world.adoption.strays.values():
        unit = world.find(split_attempt_id(stray.attempt_id)[0])
        begins_anew = unit is not None and not unit.job.state.is_final and not unit.state.is_active
        if begins_anew and not _has_passed_fence(world, stray.host_id, now):
            left.append(stray)
    return left


def _has_passed_fence(world: World, host_id: HostId, now: Instant) -> bool:
    """Say whether nothing of the backup's jobs runs on a host any more, whichever of them it was given."""
    host = world.hosts[host_id]
    if host.is_reachable:
        return False
    own = {own_fence(host.record.facts, *said_s) for said_s in _said_fences(world)}
    fences = [fence_of(world, host, own_ms) for own_ms in (None, *own)]
    longest_ms = 0 if 0 in fences else max(fences)
    return longest_ms > 0 and host.is_silent(now, longest_ms) and not world.brake.holds(host)


def _said_fences(world: World) -> set[tuple[int, int]]:
    """Return what jobs of the backup, and their queues, say of fences; looked for once a term, and no more when it is over."""
    adoption = world.adoption
    if adoption.fences_s is None:
        submitted = world.all_jobs if adoption.last_seq else ()
        jobs = [job for job in submitted if job.seq <= adoption.last_seq and not job.state.is_final]
        queues = world.queues
        adoption.fences_s = {
            (job.spec.fence_s, queues[job.spec.queue].fence_s) for job in jobs if job.spec.queue in queues
        }
    return adoption.fences_s


def _end(world: World, out: Out) -> None:
    assert world.restore is not None, "there was one"
    record = replace(world.restore, is_over=True)
    records.keep_plain(world, "restore", LAST_RESTORE, record)
    last_seq, world.adoption.last_seq = world.adoption.last_seq, 0
    for job in world.all_jobs:
        if job.seq <= last_seq and not job.state.is_final:
            await_all(world, job)
    details = (
        ("adopted", record.adopted),
        ("ended", record.ended),
        ("unlearnt", len(record.unlearnt)),
        ("strays", len(world.adoption.strays)),
    )
    out.append(Warn("after the restore all has been learnt that can be; see `batchyard restored`", details))
