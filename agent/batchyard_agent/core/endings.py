"""
How attempts end: on request, by timeout, by the fence, by themselves.

Law: who asked first is the cause. Once an attempt is being stopped, its end is
put down to that, whatever exit code it leaves; a later request can only make
the stop come sooner.
"""

from __future__ import annotations

from typing import Any

from batchyard.records import replace
from batchyard.states import EndCause
from batchyard_agent.core import gpu
from batchyard_agent.core.attempts import Attempt, Phase, Stop, Table
from batchyard_agent.core.commands import Command, Report, Save, Signal
from batchyard_agent.core.containers import OUT_OF_MEMORY_REASON
from batchyard_agent.core.events import Exited, Now, StartFailed
from batchyard_agent.runtimes.protocol import StopSignal

STOP_GRACE_MS = 30_000
"""SIGTERM to SIGKILL, for timeouts and for stops that name no grace (AWS: 30 s)."""

KILL_REPEAT_MS = 10_000
"""SIGKILL is sent again this often until the attempt has ended."""

REASON_LENGTH_MAX = 255
OUT_OF_MEMORY_SURVIVED_REASON = "OutOfMemoryError: a process of the job was killed; the command itself exited with 0"
TIMED_OUT_REASON = "Job attempt duration exceeded timeout"
RECLAIM_STOP = Stop(cause=EndCause.RECLAIMED, reason="Stopped as its host was reclaimed", grace_ms=STOP_GRACE_MS)
NEVER_STARTED_REASON = "Stopped before it started"


def request_stop(table: Table, attempt: Attempt, stop: Stop, now: Now) -> list[Command]:
    """Stop an attempt that has not ended: at once if it never ran, else by signals; its job may say how long it gets."""
    if stop.grace_ms and attempt.spec is not None and attempt.spec.stop_timeout_s:
        stop = replace(stop, grace_ms=1000 * attempt.spec.stop_timeout_s)
    if attempt.stop is None:
        wished = stop
    elif stop.grace_ms < attempt.stop.grace_ms:
        wished = replace(attempt.stop, grace_ms=stop.grace_ms)
    else:
        return []
    attempt = table.note(replace(attempt, stop=wished))
    match attempt.phase:
        case Phase.ACCEPTED if attempt.attempt_id not in table.adopting:
            return end_unstarted(table, attempt, now)
        case Phase.RUNNING if attempt.attempt_id not in table.adopting:
            return deliver_stop(table, attempt, now)
        case Phase.LAUNCHING if attempt.attempt_id not in table.adopting:
            return [Save(attempt.attempt_id), early_signal(attempt)]
        case _:
            # The runtime is being asked about it: the signal follows the answer.
            return [Save(attempt.attempt_id)]


def early_signal(attempt: Attempt) -> Signal:
    """Cut the start of an attempt short that is to stop, as a long pull, if its runtime can; grace counts from Started."""
    assert attempt.stop is not None, attempt
    signal = StopSignal.TERM if attempt.stop.grace_ms > 0 else StopSignal.KILL
    return Signal(attempt.attempt_id, attempt.runtime, signal)


def deliver_stop(table: Table, attempt: Attempt, now: Now) -> list[Command]:
    """Send a running attempt the signal that its stop is due now."""
    stop = attempt.stop
    assert stop is not None, attempt
    due_ms = now.boot_ms + stop.grace_ms
    if stop.kill_at_ms is not None:
        due_ms = min(due_ms, stop.kill_at_ms)
    signal = StopSignal.TERM
    if due_ms <= now.boot_ms:
        signal = StopSignal.KILL
        due_ms = now.boot_ms + KILL_REPEAT_MS
    table.note(replace(attempt, stop=replace(stop, kill_at_ms=due_ms)))
    table.set_alarm(due_ms, attempt.attempt_id)
    return [Save(attempt.attempt_id), Signal(attempt.attempt_id, attempt.runtime, signal)]


def on_alarm(table: Table, attempt: Attempt, now: Now) -> list[Command]:
    """Do what time demands of a running attempt: SIGKILL, or the stop of a timeout."""
    stop = attempt.stop
    if stop is not None and stop.kill_at_ms is not None and stop.kill_at_ms <= now.boot_ms:
        return deliver_stop(table, attempt, now)
    if stop is None and attempt.timeout_at_ms is not None and attempt.timeout_at_ms <= now.boot_ms:
        wished = Stop(cause=EndCause.TIMED_OUT, reason=TIMED_OUT_REASON, grace_ms=STOP_GRACE_MS)
        return request_stop(table, attempt, wished, now)
    return []


def raise_fence(table: Table, silent_until_ms: int, now: Now) -> list[Command]:
    """Kill all whose fence a silence until then (boottime) has passed: the controller may give them to other hosts."""
    assert table.meta.contact_ms is not None, table.meta
    table.fenced_ms = silent_until_ms - table.meta.contact_ms
    passed = (attempt for attempt in table.living() if 0 < table.fence_of(attempt) <= table.fenced_ms)
    return [command for each in passed for command in request_stop(table, each, _fence_stop(table, each), now)]


def _fence_stop(table: Table, attempt: Attempt) -> Stop:
    seconds = table.fence_of(attempt) // 1000
    return Stop(cause=EndCause.FENCED, reason=f"Killed after {seconds} s without the controller", grace_ms=0)


def end_time(table: Table, now: Now) -> list[Command]:
    """Stop everything, as the machine is taken away: the controller counts on it, also if it cannot be told."""
    table.reclaimed = True
    return [command for attempt in table.living() for command in request_stop(table, attempt, RECLAIM_STOP, now)]


def end_exited(table: Table, attempt: Attempt, exited: Exited, now: Now) -> list[Command]:
    """
    End an attempt whose command came to its end.

    The kernel kills processes for their memory, and the command decides what that
    means: its exit code is told as it is, and what was killed beside it. A command that
    fails on a GPU with a fault was failed by the host.
    """
    cause, reason = EndCause.EXITED, exited.reason
    if exited.is_fenced and attempt.stop is None:
        attempt = table.note(replace(attempt, stop=_fence_stop(table, attempt)))
    elif exited.host_failed:
        cause = EndCause.HOST_ERROR
    elif attempt.stop is None and exited.exit_code and (fault := _gpu_fault(table, attempt)):
        cause, reason = EndCause.HOST_ERROR, fault
    elif exited.out_of_memory and attempt.stop is None:
        if exited.exit_code:
            cause, reason = EndCause.OUT_OF_MEMORY, OUT_OF_MEMORY_REASON
        else:
            reason = OUT_OF_MEMORY_SURVIVED_REASON
    stopped_at_ms = exited.stopped_at_ms or now.wall_ms
    return _end(
        table,
        attempt,
        cause,
        reason,
        stopped_at_ms,
        exited.exit_code,
        # An end whose start was not seen still ran.
        started_at_ms=attempt.started_at_ms or stopped_at_ms,
        usage=exited.usage,
        containers=exited.containers,
    )


def _gpu_fault(table: Table, attempt: Attempt) -> str:
    return gpu.fault(attempt.spec.gpus, table.gpu_faults) if attempt.spec is not None else ""


def end_unstarted(table: Table, attempt: Attempt, now: Now) -> list[Command]:
    """End an attempt that no runtime has started, for its stop."""
    assert attempt.stop is not None, attempt
    return _end(table, attempt, attempt.stop.cause, NEVER_STARTED_REASON, now.wall_ms)


def end_failed(
    table: Table, attempt: Attempt, reason: str, now: Now, *, cause: EndCause = EndCause.HOST_ERROR
) -> list[Command]:
    """End an attempt that could not be started, for what its host is or has unless *cause* says otherwise."""
    return _end(table, attempt, cause, f"CannotStartContainerError: {reason}", now.wall_ms)


def end_start_failed(table: Table, attempt: Attempt, failed: StartFailed, now: Now) -> list[Command]:
    """End an attempt that its runtime could not start."""
    cause = EndCause.IMAGE_UNAVAILABLE if failed.image_missing else EndCause.START_FAILED
    if failed.host_failed:
        cause = EndCause.HOST_ERROR
    stopped_at_ms = failed.stopped_at_ms or now.wall_ms
    return _end(table, attempt, cause, failed.reason, stopped_at_ms, failed.exit_code, containers=failed.containers)


def end_lost(table: Table, attempt: Attempt, reason: str, now: Now, *, is_reboot: bool = False) -> list[Command]:
    """End an attempt whose exit code nobody can learn any more: with its host, or while that went on."""
    return _end(table, attempt, EndCause.LOST if is_reboot else EndCause.HOST_ERROR, reason, now.wall_ms)


def end_terminal(table: Table, attempt: Attempt, exit_code: int, reason: str, now: Now) -> list[Command]:
    """End an attempt with the code of what ran at its terminal: what only kept its place is killed."""
    if attempt.is_over or attempt.stop is not None:
        return []
    attempt = table.note(replace(attempt, exit_code=exit_code))
    return request_stop(table, attempt, Stop(cause=EndCause.EXITED, reason=reason, grace_ms=0), now)


def _end(
    table: Table,
    attempt: Attempt,
    cause: EndCause,
    reason: str,
    stopped_at_ms: int,
    exit_code: int | None = None,
    **changes: Any,
) -> list[Command]:
    if attempt.stop is not None:
        cause = attempt.stop.cause
        reason = reason or attempt.stop.reason
        if cause is EndCause.EXITED:  # at its terminal
            exit_code = attempt.exit_code
    table.release(attempt)
    ended = replace(
        attempt,
        phase=Phase.ENDED,
        cause=cause,
        reason=reason[:REASON_LENGTH_MAX],
        stopped_at_ms=stopped_at_ms,
        exit_code=exit_code,
        **changes,
    )
    table.move(ended)
    return [Save(attempt.attempt_id), Report(attempt.attempt_id)]
