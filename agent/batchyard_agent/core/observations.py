"""
What runtimes tell, and what follows from it.

A runtime's word is the truth about a living attempt and changes nothing about
one that has ended: what runs although it must not is killed.
"""

from __future__ import annotations

from typing import assert_never

from batchyard.ids import AttemptId
from batchyard.records import replace
from batchyard_agent.core import endings
from batchyard_agent.core.attempts import Phase, Table
from batchyard_agent.core.commands import Adopt, Command, Discard, Launch, Note, Remove, Report, Save, Signal
from batchyard_agent.core.events import (
    Adopted,
    CommandFailed,
    ContainersChanged,
    Exited,
    Hindered,
    Now,
    Started,
    StartFailed,
    Vanished,
)
from batchyard_agent.runtimes.protocol import Adoption, Observation, StopSignal

RETRY_MS = 5_000
"""Pause before a runtime is asked again after it broke."""

ADOPTIONS_MAX = 12
"""Times that the adoption of an attempt may break, in about a minute, before it counts as lost."""


def on_observation(table: Table, event: Observation, now: Now) -> list[Command]:
    """Take what a runtime tells of an attempt."""
    match event:
        case Started():
            return on_started(table, event, now)
        case Exited():
            return on_exited(table, event, now)
        case ContainersChanged():
            return on_containers_changed(table, event)
        case Hindered():
            return on_hindered(table, event)
        case StartFailed() | Vanished():
            return on_never_learnt(table, event, now)
        case _:
            assert_never(event)


def on_started(table: Table, event: Started, now: Now) -> list[Command]:
    """Note that an attempt runs; if it must not, have it stopped."""
    attempt = table.get(AttemptId(event.attempt_id))
    if attempt is None:
        return [_unknown(event.attempt_id)]
    if attempt.is_over:
        return [Signal(attempt.attempt_id, attempt.runtime, StopSignal.KILL)]
    is_new = attempt.attempt_id in table.launching.get(attempt.runtime, ())
    table.free_slot(attempt)
    if attempt.phase is Phase.ACCEPTED:
        attempt = table.move(replace(attempt, phase=Phase.LAUNCHING, launched=True))
    started_at_ms = event.started_at_ms or now.wall_ms
    timeout_at_ms = attempt.timeout_at_ms
    if timeout_at_ms is None and attempt.spec is not None and attempt.spec.timeout_s > 0:
        # Wall clocks are stepped, and count only where the agent died before it could
        # write down when the time is up.
        ran_ms = 0 if is_new else max(0, now.wall_ms - started_at_ms)
        timeout_at_ms = now.boot_ms - ran_ms + attempt.spec.timeout_s * 1000
    commands: list[Command] = [Report(attempt.attempt_id)]
    if timeout_at_ms is not None:
        table.set_alarm(timeout_at_ms, attempt.attempt_id)
        commands.append(Save(attempt.attempt_id))
    known = attempt.phase is Phase.RUNNING
    attempt = replace(
        attempt,
        phase=Phase.RUNNING,
        started_at_ms=started_at_ms,
        timeout_at_ms=timeout_at_ms,
        image_digest=event.image_digest,
    )
    attempt = table.note(attempt) if known else table.move(attempt)
    if attempt.stop is not None:
        commands += endings.deliver_stop(table, attempt, now)
    return commands


def on_containers_changed(table: Table, event: ContainersChanged) -> list[Command]:
    """
    Tell how the containers of an attempt are by now.

    It is not written down: after this agent's death the runtime tells it anew.
    """
    attempt = table.get(AttemptId(event.attempt_id))
    if attempt is None:
        return [_unknown(event.attempt_id)]
    if attempt.is_over or attempt.containers == event.containers:
        return []
    table.note(replace(attempt, containers=event.containers))
    return [Report(attempt.attempt_id)]


def on_hindered(table: Table, event: Hindered) -> list[Command]:
    """Tell what keeps an attempt from starting; it is not written down, as ``on_containers_changed``."""
    attempt = table.get(AttemptId(event.attempt_id))
    if attempt is None:
        return [_unknown(event.attempt_id)]
    if attempt.phase is not Phase.LAUNCHING or attempt.hindrance == event.reason:
        return []
    table.note(replace(attempt, hindrance=event.reason))
    return [Report(attempt.attempt_id)]


def on_exited(table: Table, event: Exited, now: Now) -> list[Command]:
    """End the attempt; what has ended before stays as it was."""
    attempt = table.get(AttemptId(event.attempt_id))
    if attempt is None:
        return [_unknown(event.attempt_id)]
    if attempt.phase is Phase.DONE:
        return [Remove(attempt.attempt_id, attempt.runtime)]
    if attempt.phase is Phase.ENDED:
        return []
    fence_at_ms = table.fence_at_ms
    if fence_at_ms is not None and fence_at_ms <= now.boot_ms:
        # This agent stood still, and the guard has done what it did not. (That a container was
        # ended by it, its engine does not say.)
        commands = endings.raise_fence(table, now.boot_ms, now)
        return [*commands, *endings.end_exited(table, table.attempts[attempt.attempt_id], event, now)]
    return endings.end_exited(table, attempt, event, now)


def on_never_learnt(table: Table, event: StartFailed | Vanished, now: Now) -> list[Command]:
    """End an attempt that did not start, or left no trace."""
    attempt = table.get(AttemptId(event.attempt_id))
    if attempt is None:
        return [_unknown(event.attempt_id)]
    if attempt.is_over:
        return []
    if isinstance(event, Vanished):
        return endings.end_lost(table, attempt, event.reason, now, is_reboot=event.is_reboot)
    return endings.end_start_failed(table, attempt, event, now)


def on_adopted(table: Table, event: Adopted, now: Now) -> list[Command]:
    """Go on with an attempt whose runtime knows it, or certainly does not."""
    attempt = table.attempts.get(event.attempt_id)
    if attempt is None or attempt.is_over or attempt.attempt_id not in table.adopting:
        return []
    table.adopting.discard(attempt.attempt_id)
    if event.adoption is Adoption.KNOWN:
        if attempt.phase is Phase.ACCEPTED:
            attempt = table.move(replace(attempt, phase=Phase.LAUNCHING, launched=True))
        if attempt.stop is None:
            return []
        if attempt.phase is Phase.RUNNING:
            return endings.deliver_stop(table, attempt, now)
        # Others are soon told to have started; several may wait long for each other before.
        return [endings.early_signal(attempt)] if attempt.spec is not None and attempt.spec.launch.parts else []
    match attempt.phase:
        case Phase.ACCEPTED if attempt.stop is not None:
            return endings.end_unstarted(table, attempt, now)
        case Phase.ACCEPTED:
            table.queue(attempt)
            return []
        case Phase.LAUNCHING:
            error = table.launch_errors.get(attempt.attempt_id, "it was never launched")
            return endings.end_failed(table, attempt, error, now)
        case _:
            return endings.end_lost(table, attempt, f"the {attempt.runtime} runtime has no trace of it", now)


def on_command_failed(table: Table, event: CommandFailed, now: Now) -> list[Command]:
    """Find out what a broken launch left behind; try adoption and removal again later."""
    match event.command:
        case Launch(spec):
            commands: list[Command] = [Note(f"launch broke: {event.error}", spec.attempt_id)]
            attempt = table.attempts.get(spec.attempt_id)
            if attempt is not None and not attempt.is_over:
                table.launch_errors[spec.attempt_id] = event.error
                table.adopting.add(spec.attempt_id)
                commands.append(Adopt(spec))
            return commands
        case Adopt(spec) if not event.is_away and _adoption_is_hopeless(table, spec.attempt_id):
            attempt = table.attempts[spec.attempt_id]
            note = Note(f"adoption broke {ADOPTIONS_MAX} times, it is given up: {event.error}", spec.attempt_id)
            kill = Signal(spec.attempt_id, spec.runtime, StopSignal.KILL)
            return [note, kill, *endings.end_lost(table, attempt, f"it cannot be taken up again: {event.error}", now)]
        case Adopt(spec):
            table.set_alarm(now.boot_ms + RETRY_MS, spec.attempt_id)
            return [Note(f"adoption broke: {event.error}", spec.attempt_id)]
        case Remove(attempt_id):
            table.unremoved.add(attempt_id)
            table.set_alarm(now.boot_ms + RETRY_MS, attempt_id)
            return [Note(f"removal broke: {event.error}", attempt_id)]
        case Discard(attempt_id):
            table.set_alarm(now.boot_ms + RETRY_MS, attempt_id)
            return [Note(f"killing what is not in the journal broke: {event.error}", attempt_id)]
        case Signal(attempt_id, _, signal):
            # SIGKILL follows SIGTERM, and is itself repeated.
            return [Note(f"{signal.name} broke: {event.error}", attempt_id)]
        case _:
            assert_never(event.command)


def _adoption_is_hopeless(table: Table, attempt_id: AttemptId) -> bool:
    """Count one more failed adoption of an attempt that has not ended; say whether it was the last."""
    if attempt_id not in table.adopting:
        return False
    table.adoption_failures[attempt_id] = table.adoption_failures.get(attempt_id, 0) + 1
    return table.adoption_failures[attempt_id] >= ADOPTIONS_MAX


def _unknown(attempt_id: str) -> Note:
    return Note("a runtime told of an attempt that is not in the journal", AttemptId(attempt_id))
