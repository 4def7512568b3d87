"""
What the agent does about events. Pure: table and event in, commands out.

Laws: an attempt is launched at most once, and only while a controller is in touch; an
attempt that ended stays ended and is reported until its end is acknowledged; a command
of a lower epoch than the highest seen changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from batchyard.ids import AttemptId
from batchyard.records import replace
from batchyard.states import EndCause
from batchyard_agent.core import endings, gpu, observations
from batchyard_agent.core.attempts import (
    TOMBSTONE_AGE_MS,
    TOMBSTONES_MAX,
    Attempt,
    Phase,
    Stop,
    Table,
)
from batchyard_agent.core.commands import (
    Adopt,
    CloseSession,
    Command,
    Discard,
    Forget,
    Launch,
    Note,
    Remove,
    Report,
    Save,
    SaveMeta,
)
from batchyard_agent.core.events import (
    Adopted,
    CommandFailed,
    Discarded,
    EndAcknowledged,
    Event,
    FromController,
    HeartbeatAcknowledged,
    HostChanged,
    HostReclaimed,
    Now,
    Recovered,
    RevokeRequested,
    RuntimeOpened,
    SessionOpened,
    StartRequested,
    StopRequested,
    TerminalEnded,
    Ticked,
)
from batchyard_agent.runtimes.protocol import Observation

CONTACT_SAVE_MS = 5_000
"""The journal's last contact is at most this much older than the true one, which is the safe side."""


def apply(table: Table, event: Event, now: Now) -> list[Command]:
    """Change the table as the event demands, and say what is to be done."""
    if isinstance(event, FromController):
        return on_controller(table, event, now)
    if isinstance(event, Observation):
        return observations.on_observation(table, event, now)
    match event:
        case Ticked():
            return on_ticked(table, now)
        case Adopted():
            return observations.on_adopted(table, event, now)
        case CommandFailed():
            return observations.on_command_failed(table, event, now)
        case Recovered():
            return on_recovered(table, event, now)
        case RuntimeOpened(held=held):
            return on_held(table, held)
        case Discarded(attempt_id=attempt_id):
            table.discarding.pop(attempt_id, None)
            return []
        case TerminalEnded(attempt_id=attempt_id, exit_code=exit_code, reason=reason):
            attempt = table.attempts.get(attempt_id)
            return [] if attempt is None else endings.end_terminal(table, attempt, exit_code, reason, now)
        case HostChanged():
            table.runtimes, table.gpu_uuids, table.gpu_faults = event.runtimes, event.gpu_uuids, event.gpu_faults
            return []
        case HostReclaimed(at_ms=at_ms):
            table.reclaim_at_ms, table.reclaimed = at_ms, False
            return on_ticked(table, now)
        case _:
            assert_never(event)


# --- the controller's wishes ------------------------------------------------------------


def on_controller(table: Table, event: FromController, now: Now) -> list[Command]:
    """Refuse a deposed leader; else remember its epoch and do as it says."""
    if event.epoch < table.meta.epoch:
        return _refuse(table, event)
    commands: list[Command] = []
    if event.epoch > table.meta.epoch:
        table.meta = replace(table.meta, epoch=event.epoch)
        commands.append(SaveMeta())
    match event:
        case StartRequested():
            commands += on_start_requested(table, event, now)
        case EndAcknowledged(attempt_id=attempt_id):
            commands += on_end_acknowledged(table, attempt_id, now)
        case HeartbeatAcknowledged(sent_at_ms=sent_at_ms):
            commands += on_contact(table, sent_at_ms, table.meta.fence_ms, now)
        case SessionOpened(sent_at_ms=sent_at_ms, fence_ms=fence_ms, session=session):
            table.session = session
            commands += on_contact(table, sent_at_ms, fence_ms, now)
        case StopRequested(attempt_id=attempt_id, grace_s=grace_s):
            grace_ms = grace_s * 1000 if grace_s > 0 else endings.STOP_GRACE_MS
            commands += on_stop_requested(table, attempt_id, Stop(cause=EndCause.STOPPED, grace_ms=grace_ms), now)
        case RevokeRequested(attempt_id=attempt_id):
            commands += on_stop_requested(table, attempt_id, Stop(cause=EndCause.STOPPED, grace_ms=0), now)
        case _:
            assert_never(event)
    return commands


def on_start_requested(table: Table, event: StartRequested, now: Now) -> list[Command]:
    """Take in a new attempt; tell the truth again about a known one."""
    spec = event.spec
    attempt_id = spec.attempt_id
    if table.get(attempt_id) is not None:
        return [Report(attempt_id)]
    attempt = Attempt(attempt_id=attempt_id, phase=Phase.ACCEPTED, runtime=spec.runtime, spec=spec)
    if event.session != table.session or not table.is_in_touch(attempt, now.boot_ms):
        # Left over from a session that is dead. Who is alive says it again, or has given it to another host.
        late: list[Command] = [Note("refused: a start that came too late", attempt_id)]
        if event.session == table.session:
            # It may live: a fence can be shorter than the controller's patience, which counts on what it has told.
            late.append(CloseSession("a start came too late; the next hello says what is here"))
        return late
    table.add(attempt)
    if spec.refusal:
        return endings.end_failed(table, attempt, spec.refusal, now, cause=EndCause.START_FAILED)
    if table.reclaimed:
        return endings.request_stop(table, attempt, endings.RECLAIM_STOP, now)
    lack = gpu.refusal(spec.gpus, table.gpu_uuids) or gpu.fault(spec.gpus, table.gpu_faults)
    if not lack and spec.runtime not in table.runtimes:
        lack = f"the {spec.runtime} runtime is not available on this host"
    if lack:
        return endings.end_failed(table, attempt, lack, now)
    table.queue(attempt)
    return [Save(attempt_id)]


def on_stop_requested(table: Table, attempt_id: AttemptId, stop: Stop, now: Now) -> list[Command]:
    """
    Stop an attempt, also one that this host has never heard of.

    The record made for an unknown one answers the controller, and makes a start
    that was overtaken by the stop a duplicate.
    """
    attempt = table.get(attempt_id)
    if attempt is None:
        attempt = Attempt(attempt_id=attempt_id, phase=Phase.ACCEPTED, stop=stop)
        table.add(attempt)
        return endings.end_unstarted(table, attempt, now)
    if attempt.is_over:
        return [Report(attempt_id)]
    return endings.request_stop(table, attempt, stop, now)


def on_end_acknowledged(table: Table, attempt_id: AttemptId, now: Now) -> list[Command]:
    """Bury an attempt whose end is stored; the runtime may let go of it."""
    attempt = table.attempts.get(attempt_id)
    if attempt is None:
        return []
    if attempt.phase is not Phase.ENDED:
        return [Note("the controller acknowledged the end of an attempt that has not ended", attempt_id)]
    table.move(replace(attempt, phase=Phase.DONE, spec=None, done_at_ms=now.boot_ms))
    commands: list[Command] = [Save(attempt_id)]
    if attempt.launched:
        commands.append(Remove(attempt_id, attempt.runtime))
    if len(table.tombstones) > TOMBSTONES_MAX:
        commands.append(_forget_oldest(table))
    return commands


def on_contact(table: Table, sent_at_ms: int, fence_ms: int, now: Now) -> list[Command]:
    """Note that what was sent at *sent_at_ms* reached the leader, and when that came too late, fence."""
    commands: list[Command] = []
    if table.fence_at_ms is not None and table.fence_at_ms <= sent_at_ms:
        commands += endings.raise_fence(table, sent_at_ms, now)
    table.fenced_ms = 0
    contact_ms = max(sent_at_ms, table.meta.contact_ms or 0)
    changed = fence_ms != table.meta.fence_ms
    table.meta = replace(table.meta, contact_ms=contact_ms, fence_ms=fence_ms)
    if changed or table.contact_saved_ms is None or contact_ms - table.contact_saved_ms >= CONTACT_SAVE_MS:
        commands.append(SaveMeta())
    return commands


def _refuse(table: Table, event: FromController) -> list[Command]:
    reason = f"refused: epoch {event.epoch} is older than {table.meta.epoch}"
    if isinstance(event, SessionOpened):
        return [CloseSession(reason)]
    attempt_id = None
    match event:
        case StartRequested(spec=spec):
            attempt_id = spec.attempt_id
        case StopRequested() | RevokeRequested() | EndAcknowledged():
            attempt_id = event.attempt_id
        case HeartbeatAcknowledged():
            pass
        case _:
            assert_never(event)
    return [Note(reason, attempt_id)]


# --- time, restarts, launches -----------------------------------------------------------


def on_ticked(table: Table, now: Now) -> list[Command]:
    """Do all that has become due."""
    commands: list[Command] = []
    if table.fence_at_ms is not None and table.fence_at_ms <= now.boot_ms:
        commands += endings.raise_fence(table, now.boot_ms, now)
    if table.reclaim_at_ms is not None and table.reclaim_at_ms <= now.boot_ms and not table.reclaimed:
        commands += endings.end_time(table, now)
    for attempt_id in list(table.pop_alarms(now.boot_ms)):
        commands += _on_alarm(table, attempt_id, now)
    while table.tombstones and _oldest(table).done_at_ms + TOMBSTONE_AGE_MS <= now.boot_ms:
        commands.append(_forget_oldest(table))
    return commands


def on_recovered(table: Table, event: Recovered, now: Now) -> list[Command]:
    """
    Pick up what a former agent left.

    Nothing survives a reboot. Otherwise the runtimes know more than the journal,
    which holds no row for each step: they are asked about everything.
    """
    rebooted = table.meta.boot_id not in ("", event.boot_id)
    contact_ms = None if rebooted else table.meta.contact_ms
    table.meta = replace(table.meta, boot_id=event.boot_id, contact_ms=contact_ms)
    commands: list[Command] = [SaveMeta()]
    for attempt in table.living():
        if rebooted:
            commands += endings.end_lost(table, attempt, "The host was restarted", now, is_reboot=True)
        elif attempt.spec is not None:
            table.adopting.add(attempt.attempt_id)
            commands.append(Adopt(attempt.spec))
    return commands + _date_tombstones(table, now) + on_held(table, event.held)


def _date_tombstones(table: Table, now: Now) -> list[Command]:
    """
    Let tombstones age from now that are dated later: in a boot that lasted longer, or by wall clock, as once was done.

    Those of an earlier boot that are dated before now are older than it makes them.
    """
    later = [attempt for attempt in table.tombstones.values() if attempt.done_at_ms > now.boot_ms]
    for attempt in later:
        table.tombstones[attempt.attempt_id] = replace(attempt, done_at_ms=now.boot_ms)
    return [Save(attempt.attempt_id) for attempt in later]


def on_held(table: Table, held: Iterable[tuple[str, AttemptId]]) -> list[Command]:
    """
    Let go of what runtimes hold and the table does not: it has ended, or its journal is gone.

    An attempt that nobody answers for would run on beside its next try, in what this
    host offers to others, so it is killed before anything new starts.
    """
    commands: list[Command] = []
    for runtime, attempt_id in held:
        if attempt_id in table.tombstones:
            commands.append(Remove(attempt_id, runtime))
        elif attempt_id not in table.attempts:
            table.discarding[attempt_id] = runtime
            commands.append(Note(f"the {runtime} runtime holds an attempt that is not in the journal", attempt_id))
            commands.append(Discard(attempt_id, runtime))
    return commands


def launch_waiting(table: Table, now: Now) -> list[Command]:
    """
    Launch waiting attempts, first come first served, within each runtime's bound, as soon as any may be.

    None is while a controller is not in touch, nor beside what a former agent left behind.
    """
    commands: list[Command] = []
    if table.discarding:
        return commands
    for runtime, waiting in table.waiting.items():
        launching = table.launching.setdefault(runtime, set())
        limit = table.launch_limits.get(runtime)
        late: list[AttemptId] = []
        while waiting and (limit is None or len(launching) < limit):
            attempt = table.attempts.get(waiting.popleft())
            if attempt is None or attempt.phase is not Phase.ACCEPTED or attempt.spec is None:
                continue
            if not table.is_in_touch(attempt, now.boot_ms):
                late.append(attempt.attempt_id)
                continue
            table.move(replace(attempt, phase=Phase.LAUNCHING, launched=True))
            launching.add(attempt.attempt_id)
            commands.append(Launch(attempt.spec))
        waiting.extendleft(reversed(late))
    return commands


def _on_alarm(table: Table, attempt_id: AttemptId, now: Now) -> list[Command]:
    if attempt_id in table.discarding:
        return [Discard(attempt_id, table.discarding[attempt_id])]
    attempt = table.get(attempt_id)
    if attempt is None:
        return []
    if attempt_id in table.unremoved:
        table.unremoved.discard(attempt_id)
        return [Remove(attempt_id, attempt.runtime)]
    if attempt_id in table.adopting and attempt.spec is not None:
        return [Adopt(attempt.spec)]
    if attempt.phase is Phase.RUNNING:
        return endings.on_alarm(table, attempt, now)
    return []


def _oldest(table: Table) -> Attempt:
    return next(iter(table.tombstones.values()))


def _forget_oldest(table: Table) -> Forget:
    oldest = _oldest(table)
    del table.tombstones[oldest.attempt_id]
    table.unremoved.discard(oldest.attempt_id)
    return Forget(oldest.attempt_id)
