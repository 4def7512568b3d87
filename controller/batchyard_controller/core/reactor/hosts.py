"""What follows when hosts join, leave, are heard of and marked."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from batchyard.features import TELLS_ALL
from batchyard.ids import HostId
from batchyard.states import EndCause
from batchyard_controller.core import limits
from batchyard_controller.core.commands import EndSession, Happening, SendStart, SendStop, Warn
from batchyard_controller.core.events import (
    BrakeReleased,
    HostApproved,
    HostHeard,
    HostJoined,
    HostLeft,
    HostMarked,
    HostReclaimed,
    HostRemoved,
    StrayStopped,
)
from batchyard_controller.core.model import claims
from batchyard_controller.core.model.attempts import AttemptEnd
from batchyard_controller.core.model.hosts import Host, HostRecord, longer_fence, told_fence
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.world import records
from batchyard_controller.core.world.fences import fence_of, has_passed_fence
from batchyard_controller.core.world.occupancy import hold_quotas_again
from batchyard_controller.core.world.world import World

from . import adoption
from .attempts import end_attempt
from .enrolment import note_run
from .nodes import is_left_over, is_told, starts
from .notices import tell_of_host, tell_of_yard
from .progress import Out
from .reclaims import change_record, note_announced_end
from .reports import on_attempts_reported
from .scaling import note_joined
from .starts import trust_again

BRAKE_HOLDS = "many hosts fell silent at once: none of these is given up until they are back, or are said to be gone"
BRAKE_ENDS = "silent hosts are given up again by their fences"


def on_host_joined(world: World, event: HostJoined, now: Instant, out: Out) -> None:
    """Compare what a host says it keeps with what it should; mend the difference."""
    host = world.hosts.get(event.host_id)
    is_new = host is None
    if host is None:
        host = records.add_host(world, event.host_id, replace(event.facts, reclaimed_at_ms=0))
        world.refresh_host(host)  # it may keep attempts already, that a backup does not know
    if host.record.facts.boot_id != event.facts.boot_id:
        trust_again(world, host)
    host.session, host.is_stopped, host.spoken_for_by = event.session, False, event.by
    host.killed_by_boot_ms, host.is_missing = None, False
    records.hear(world, host, now)
    is_rebooted = host.record.facts.boot_id not in ("", event.facts.boot_id)
    tell_of_host(out, event.host_id, Happening.JOINED, now, "after a reboot" if is_rebooted else "")
    if is_new or host.record.replaced_by:
        _replace_former(world, host, event, now, out)
    _settle(world, host, event, now, out)
    _set_facts(world, host, event, now, out)
    note_run(world, event)
    note_joined(world, host, now)
    host.reserved = event.reserved
    world.refresh_host(host)


def _replace_former(world: World, host: Host, event: HostJoined, now: Instant, out: Out) -> None:
    """
    Keep that a host is now what others of its machine and name were, which are away: their agent's state was lost.

    One of those that is back takes its place again. What they ran still ends by its fence and not before: a
    cloned machine has the same name and id, and may run on.
    """
    records.change_host(world, host, replace(host.record, replaced_by=""))
    if not event.machine_id:
        return
    for former in world.hosts.values():
        record = former.record
        is_same = record.machine_id == event.machine_id and record.facts.name == event.facts.name
        if is_same and former is not host and not former.is_reachable and not record.replaced_by:
            records.change_host(world, former, replace(record, replaced_by=event.host_id))
            tell_of_host(out, record.id, Happening.REPLACED, now, f"by {event.host_id}")


def _settle(world: World, host: Host, event: HostJoined, now: Instant, out: Out) -> None:
    """Take in what became of attempts, while it is known whether the host was reclaimed meanwhile."""
    on_attempts_reported(world, event.host_id, event.reports, now, out)
    said = {report.attempt_id for report in event.reports}
    adoption.on_hello(world, host, said, tells_all=TELLS_ALL in event.facts.features)
    unsaid = [attempt for attempt in host.attempts.values() if attempt.id not in said]
    unsaid = adoption.ask(world, event.host_id, unsaid, out)
    # What an agent was told just before a power cut its journal may not hold.
    is_rebooted = bool(event.facts.boot_id) and host.record.facts.boot_id not in ("", event.facts.boot_id)
    if not is_rebooted:
        # Claimed and stored, but the message was lost with a leader or a connection.
        out += starts(world, (attempt for attempt in unsaid if attempt.started_at_ms == 0))
    told = {attempt.id for command in out if isinstance(command, SendStart) for attempt in command.attempts}
    asked = {attempt.id for attempt in host.attempts.values() if attempt.is_stopping and is_told(world, attempt)}
    for attempt in unsaid:
        if attempt.id in told:
            continue  # just now, perhaps as its main node's start and end came in one report: its agent answers
        if is_rebooted:
            # It may have run here, and the machine's journal knows nothing of it.
            end_attempt(world, attempt, AttemptEnd(cause=EndCause.LOST), now, out)
        elif attempt.started_at_ms:
            # The hello may be older than what was begun since, if the network held it; an agent that is there answers.
            asked.add(attempt.id)
        elif is_left_over(world, attempt):
            end_attempt(world, attempt, AttemptEnd(cause=EndCause.STOPPED), now, out)
    out.extend(SendStop(event.host_id, attempt_id) for attempt_id in host.attempts if attempt_id in asked)


def _set_facts(world: World, host: Host, event: HostJoined | HostHeard, now: Instant, out: Out) -> None:
    """
    Keep what a host says of itself; after another boot nobody takes it away, but for what it says anew.

    Of one that has joined, what has to be approved waits; not of those for which another speaks, who could as
    well speak for new ones.
    """
    if event.facts is None:
        return
    was_reclaimed = bool(host.record.reclaimed_at_ms)
    judge = claims.judged if host.spoken_for_by == host.record.id else claims.believed
    record = judge(host.record, event.facts)
    if isinstance(event, HostJoined):
        fence_ms = longer_fence(record.fence_ms, told_fence(event.facts, world.fence_ms))
        record = replace(record, machine_id=event.machine_id or record.machine_id, fence_ms=fence_ms)
        if host.record.facts.boot_id != event.facts.boot_id:
            record = replace(record, reclaim_at_ms=0)
    _keep_facts(world, host, record)
    if host.record.reclaimed_at_ms and not was_reclaimed:
        tell_of_host(out, host.record.id, Happening.RECLAIMED, now, "as it says itself")


def _keep_facts(world: World, host: Host, record: HostRecord) -> None:
    is_retyped = record.facts.host_type != host.record.facts.host_type
    change_record(world, host, record)
    if is_retyped:
        hold_quotas_again(world, host)


def on_host_left(world: World, event: HostLeft, now: Instant, out: Out) -> None:
    """Give a host without a session no new work; what runs there goes on."""
    host = world.hosts.get(event.host_id)
    if host is not None and host.session == event.session:
        _lose_session(world, host)
        tell_of_host(out, event.host_id, Happening.LEFT, now)


def leave_silent(world: World, now: Instant, out: Out) -> None:
    """Hang up on hosts that were not heard of for the contact limit; what runs there goes on."""
    for host in world.hosts.values():
        if host.is_reachable and host.is_silent(now, limits.CONTACT_LIMIT_MS):
            out.append(EndSession(host.record.id, host.session))
            _lose_session(world, host)
            words = f"not heard of for {limits.CONTACT_LIMIT_MS // 1000} s"
            tell_of_host(out, host.record.id, Happening.FELL_SILENT, now, words)


def give_up_silent(world: World, now: Instant, out: Out) -> None:
    """Give each attempt up whose host was silent for so long that by its fence it has surely ended."""
    if world.brake.look(world.hosts.values(), now):
        _tell_brake(world, now, out)
    for host in world.hosts.values():
        if host.attempts and host.is_silent(now, limits.fence_margin_ms(0)) and not world.brake.holds(host):
            for attempt in [each for each in host.attempts.values() if has_passed_fence(world, each, now)]:
                end_attempt(world, attempt, AttemptEnd(cause=EndCause.LOST), now, out)


def _tell_brake(world: World, now: Instant, out: Out) -> None:
    """Tell operators, by the log and by the yard's events, that the brake began to hold, or ceased to."""
    brake = world.brake
    holds, counts = brake.since_boot_ms is not None, f"{brake.silent} of {brake.hosts}"
    details: tuple[tuple[str, str | int], ...] = (("silent", brake.silent), ("hosts", brake.hosts))
    if holds:
        details += (("release", "batchyard host release-brake"),)
    out.append(Warn(BRAKE_HOLDS if holds else BRAKE_ENDS, details, is_error=holds))
    words = f"{counts} hosts fell silent at once and are waited for" if holds else f"{BRAKE_ENDS}: {counts}"
    tell_of_yard(out, Happening.ALERTED, now, words)


def forgive_deafness(world: World, late_ms: int) -> None:
    """Let no host be the more silent for a time in which this controller stood still and heard nobody."""
    if late_ms > limits.HEARTBEAT_INTERVAL_MS:
        for host in world.hosts.values():
            host.heard_boot_ms += late_ms
        world.brake.forgive(late_ms)


def _lose_session(world: World, host: Host) -> None:
    host.session = 0
    world.refresh_host(host)


def on_host_heard(world: World, event: HostHeard, now: Instant, out: Out) -> None:
    """Restart a host's timers, and look at its clock."""
    host = world.hosts.get(event.host_id)
    if host is not None:
        records.hear(world, host, now)
        if event.session == host.session:
            # It has heard its welcome; until then it may go by the fence that it was told before.
            fence_ms = told_fence(event.facts or host.record.facts, world.fence_ms)
            records.change_host(world, host, replace(host.record, fence_ms=fence_ms))
        _set_facts(world, host, event, now, out)
        if event.wall_ms:
            note_announced_end(host, event.wall_ms, now)
        if event.reserved != host.reserved:
            host.reserved = event.reserved
            world.refresh_host(host)
        was_fault = host.clock_fault
        _judge_clock(world, host, event.wall_ms - now.wall_ms if event.wall_ms else 0)
        if bool(host.clock_fault) != bool(was_fault):
            what = Happening.CLOCK_OFF if host.clock_fault else Happening.CLOCK_RIGHT
            tell_of_host(out, event.host_id, what, now, host.clock_fault)


def _judge_clock(world: World, host: Host, ahead_ms: int) -> None:
    """Give a host whose clock stays off no new work, until it says that it is right; jobs would see a wrong date."""
    if abs(ahead_ms) > limits.CLOCK_OFF_MS_MAX:
        host.clock_misses += 1
        if host.clock_off_ms or host.clock_misses < limits.CLOCK_OFF_HEARTBEATS:
            return
    else:
        host.clock_misses = 0
        if not host.clock_off_ms:
            return
        ahead_ms = 0
    was_ours = world.is_own_clock_off
    host.clock_off_ms = ahead_ms
    (world.off_clocks.add if ahead_ms else world.off_clocks.discard)(host.record.id)
    world.refresh_host(host)
    if world.is_own_clock_off != was_ours:
        for other in world.off_clocks - {host.record.id}:
            world.refresh_host(world.hosts[other])


def on_host_asked(
    world: World,
    event: HostMarked | HostReclaimed | HostApproved | HostRemoved | BrakeReleased | StrayStopped,
    now: Instant,
    out: Out,
) -> None:
    """Do what an operator says of a host, or of those that are silent."""
    match event:
        case HostReclaimed(host_id=host_id, at_ms=at_ms):
            host = world.hosts[host_id]
            change_record(world, host, replace(host.record, reclaim_at_ms=at_ms))
            tell_of_host(out, host_id, Happening.RECLAIMED if at_ms else Happening.FREED, now)
        case HostMarked():
            _mark(world, world.hosts[event.host_id], event)
            cordoned = Happening.CORDONED if event.cordoned else Happening.FREED
            tell_of_host(out, event.host_id, Happening.DRAINED if event.draining else cordoned, now)
        case HostApproved(host_id=host_id):
            host = world.hosts[host_id]
            _keep_facts(world, host, claims.approved(host.record))
            tell_of_host(out, host_id, Happening.APPROVED, now)
        case HostRemoved(host_id=host_id):
            _remove(world, host_id, now, out)
            tell_of_host(out, host_id, Happening.REMOVED, now)
        case BrakeReleased():
            world.brake.release(now)
            _tell_brake(world, now, out)
        case StrayStopped(host_id=host_id, attempt_id=attempt_id):
            out.append(SendStop(host_id, attempt_id))
        case _:
            assert_never(event)


def _mark(world: World, host: Host, event: HostMarked) -> None:
    """Cordon, drain or free a host."""
    if not event.cordoned:
        trust_again(world, host)
    marked = replace(host.record, cordoned=event.cordoned, draining=event.draining)
    records.change_host(world, host, marked)


def _remove(world: World, host_id: HostId, now: Instant, out: Out) -> None:
    """Forget a host, and hang up on it; what ran there is lost."""
    for other in world.hosts.values():
        if other.is_reachable and host_id in (other.record.id, other.spoken_for_by):
            out.append(EndSession(other.record.id, other.session, is_removed=True))
            _lose_session(world, other)
    host = world.hosts.get(host_id)
    if host is None:  # it has joined, and never came, or speaks for others alone
        records.drop_plain(world, "member", host_id)
        return
    for attempt in list(host.attempts.values()):
        end_attempt(world, attempt, AttemptEnd(cause=EndCause.LOST), now, out)
    records.drop_host(world, host, now.wall_ms)


def forget_old_hosts(world: World, date_ms: int, now: Instant, out: Out) -> None:
    """
    Forget hosts that were not heard of for longer than is kept, or were replaced, and on which nothing runs.

    Their names are kept for as long as the jobs that ran there.
    """
    for record in list(world.gone_hosts.values()):
        if record.gone_at_ms + world.retention.age_ms <= date_ms:
            records.forget_gone_host(world, record.id)
    for host in list(world.hosts.values()):
        if not host.record.heard_at_ms:
            records.note_heard(world, host, date_ms)  # of a version that did not keep it: its time begins now
        is_old = host.record.heard_at_ms + world.retention.host_age_ms <= date_ms
        is_replaced = _has_been_replaced(world, host, now)
        if (is_old or is_replaced) and not host.is_reachable and not host.attempts:
            records.drop_host(world, host, date_ms)
            tell_of_host(out, host.record.id, Happening.FORGOTTEN, now, "it was replaced" if is_replaced else "")


def _has_been_replaced(world: World, host: Host, now: Instant) -> bool:
    """
    Say whether a host was replaced, and had the time to come back after all, as with the state folder that was meant.

    Not while jobs of a backup wait for what may run there, by fences that the backup does not know.
    """
    if not host.record.replaced_by or world.is_restoring:
        return False
    return host.is_silent(now, fence_of(world, host) or limits.FENCE_MS)
