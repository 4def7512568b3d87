"""The machine is taken away, or a GPU of it is: what an agent does by itself, whoever hears of it."""

from __future__ import annotations

import pytest

from batchyard.states import EndCause
from batchyard_agent.core.attempts import GpuClaim, Phase
from batchyard_agent.core.commands import Launch, Signal
from batchyard_agent.core.endings import STOP_GRACE_MS
from batchyard_agent.core.events import HostChanged, HostReclaimed, Ticked
from batchyard_agent.runtimes.protocol import StopSignal

from .builders import A, B, exited, running, start, started, stop, table, turn

GPU = "GPU-1"
TERM, KILL = StopSignal.TERM, StopSignal.KILL


def test_everything_is_stopped_when_the_time_is_over_and_not_before():
    t = table()
    running(t)
    turn(t, 0, HostReclaimed(at_ms=120_000))
    assert t.next_due_ms == 120_000
    assert turn(t, 119_999, Ticked()).actions == []
    assert turn(t, 120_000, Ticked()).actions == [Signal(A, "process", TERM)]
    assert turn(t, 120_000 + STOP_GRACE_MS, Ticked()).actions == [Signal(A, "process", KILL)]
    ended = turn(t, 120_001 + STOP_GRACE_MS, exited(exit_code=137)).reports[0]
    assert (ended.cause, ended.exit_code, ended.reason) == (
        EndCause.RECLAIMED,
        137,
        "Stopped as its host was reclaimed",
    )


def test_no_controller_is_needed_for_that():
    """The controller counts on it when it cannot reach the host."""
    t = table(session=None)
    turn(t, 0, HostReclaimed(at_ms=50))
    assert t.next_due_ms == 50
    turn(t, 50, Ticked())
    assert t.next_due_ms is None, "it is done"


def test_what_waits_for_a_launch_ends_and_nothing_is_started_any_more():
    t = table(launch_limits={"process": 1})
    turn(t, 0, start(A), start(B))
    turn(t, 0, HostReclaimed(at_ms=10))
    ended = turn(t, 10, Ticked())
    assert [(attempt.attempt_id, attempt.cause) for attempt in ended.reports] == [(B, EndCause.RECLAIMED)]
    t = table()
    turn(t, 0, HostReclaimed(at_ms=10))
    late = turn(t, 11, Ticked(), start(A))
    assert [attempt.cause for attempt in late.reports] == [EndCause.RECLAIMED]
    assert late.actions == []


def test_a_notice_that_is_taken_back_stops_nothing():
    t = table()
    running(t)
    turn(t, 0, HostReclaimed(at_ms=100))
    turn(t, 50, HostReclaimed(at_ms=None))
    assert turn(t, 200, Ticked()).actions == []
    turn(t, 200, HostReclaimed(at_ms=100))
    assert t.attempts[A].stop is not None, "one that comes too late counts at once"
    turn(t, 300, HostReclaimed(at_ms=None))
    assert turn(t, 300, start(B)).actions == [Launch(t.attempts[B].spec)]


def test_who_asked_first_is_the_cause():
    t = table()
    running(t)
    turn(t, 0, stop(grace_s=5))
    turn(t, 1, HostReclaimed(at_ms=1))
    assert turn(t, 2, exited(exit_code=143)).reports[0].cause is EndCause.STOPPED


# --- GPUs -------------------------------------------------------------------------------


def well(**faults: str) -> HostChanged:
    uuids = frozenset({GPU, "GPU-2"})
    return HostChanged(runtimes=frozenset({"process"}), gpu_uuids=uuids, gpu_faults=faults and {GPU: faults["fault"]})


def claim(uuid: str = GPU) -> tuple[GpuClaim, ...]:
    return (GpuClaim(uuid=uuid, millis=500),)


@pytest.mark.parametrize(
    ("uuid", "exit_code", "cause"),
    [
        (GPU, 1, EndCause.HOST_ERROR),
        (GPU, 0, EndCause.EXITED),
        ("GPU-2", 1, EndCause.EXITED),
    ],
)
def test_who_fails_on_a_gpu_with_a_fault_was_failed_by_the_host(uuid: str, exit_code: int, cause: EndCause):
    t = table()
    turn(t, 0, well())
    running(t, gpus=claim(uuid))
    turn(t, 5, well(fault="XID 79: GPU has fallen off the bus"))
    ended = turn(t, 9, exited(ms=9, exit_code=exit_code)).reports[0]
    assert (ended.cause, ended.exit_code) == (cause, exit_code)
    assert ended.reason == ("GPU GPU-1: XID 79: GPU has fallen off the bus" if cause is EndCause.HOST_ERROR else "")


def test_a_try_on_a_gpu_with_a_fault_that_was_stopped_is_one_that_was_stopped():
    t = table()
    turn(t, 0, well())
    running(t, gpus=claim(), timeout_s=1)
    turn(t, 5, well(fault="XID 79"))
    turn(t, 1_000, Ticked())
    ended = turn(t, 1_001, exited(ms=1_001, exit_code=143)).reports[0]
    assert (ended.cause, ended.reason) == (EndCause.TIMED_OUT, "Job attempt duration exceeded timeout")


def test_nothing_starts_on_a_gpu_with_a_fault():
    t = table()
    turn(t, 0, well(fault="XID 48"))
    refused = turn(t, 1, start(A, gpus=claim())).reports[0]
    assert (refused.phase, refused.cause) == (Phase.ENDED, EndCause.HOST_ERROR)
    assert refused.reason == "CannotStartContainerError: GPU GPU-1: XID 48"
    turn(t, 2, start(B, gpus=claim("GPU-2")))
    turn(t, 3, started(B))
    assert t.attempts[B].phase is Phase.RUNNING
