"""What the agent decides, told as stories: events in, turns out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from batchyard.states import EndCause
from batchyard.tasks import ContainerEnd
from batchyard_agent.core import endings
from batchyard_agent.core.attempts import (
    TOMBSTONE_AGE_MS,
    TRANSITIONS,
    Attempt,
    GpuClaim,
    IllegalMoveError,
    Meta,
    Phase,
    Stop,
)
from batchyard_agent.core.commands import Adopt, CloseSession, Discard, Launch, Note, Remove, Signal
from batchyard_agent.core.events import (
    Adopted,
    CommandFailed,
    ContainersChanged,
    Discarded,
    HeartbeatAcknowledged,
    HostChanged,
    Now,
    Recovered,
    RevokeRequested,
    RuntimeOpened,
    SessionOpened,
    StartFailed,
    Ticked,
    Vanished,
)
from batchyard_agent.core.observations import ADOPTIONS_MAX
from batchyard_agent.core.turns import Turn, take_turn
from batchyard_agent.runtimes.protocol import Adoption, StopSignal

from .builders import (
    EPOCH,
    SESSION,
    WALL_MS,
    A,
    B,
    C,
    acknowledged,
    exited,
    running,
    spec,
    start,
    started,
    stop,
    table,
    turn,
)

TERM, KILL = StopSignal.TERM, StopSignal.KILL


def launching(attempt_id=A, **changes: Any) -> Attempt:
    the_spec = spec(attempt_id, **changes)
    return Attempt(attempt_id=attempt_id, phase=Phase.LAUNCHING, runtime=the_spec.runtime, spec=the_spec, launched=True)


# --- the plain life of an attempt -------------------------------------------------------


def test_an_attempt_is_written_before_it_is_launched():
    """The row of an accepted attempt and its launch come in one turn: write, then act."""
    assert turn(table(), 0, start()) == Turn(rows=[launching()], actions=[Launch(spec())])


def test_running_is_reported_without_a_write():
    t = table()
    turn(t, 0, start())
    attempt = replace(launching(), phase=Phase.RUNNING, started_at_ms=WALL_MS + 5)
    assert turn(t, 5, started(ms=5)) == Turn(reports=[attempt])


def test_start_and_end_of_one_turn_are_one_row_and_one_report():
    t = table()
    turn(t, 0, start())
    ended = replace(
        launching(),
        phase=Phase.ENDED,
        started_at_ms=WALL_MS + 5,
        stopped_at_ms=WALL_MS + 9,
        exit_code=7,
        cause=EndCause.EXITED,
    )
    assert turn(t, 10, started(ms=5), exited(ms=9, exit_code=7)) == Turn(rows=[ended], reports=[ended])


def test_how_several_containers_are_is_told_once_and_not_written():
    """Whether the attempt has started or not; and not of one that is over."""
    t = table()
    turn(t, 0, start())
    changed = ContainersChanged(attempt_id=A, containers=(ContainerEnd(name="init", started_at_ms=7),))
    assert turn(t, 1, changed) == Turn(reports=[replace(launching(), containers=changed.containers)])
    assert turn(t, 2, changed) == Turn()
    turn(t, 3, started(), exited())
    assert turn(t, 4, changed) == Turn()


def test_an_acknowledged_end_leaves_a_tombstone_and_lets_the_runtime_go():
    t = table()
    running(t)
    turn(t, 9, exited(ms=9))
    done = turn(t, 20, acknowledged())
    assert done == Turn(rows=[t.tombstones[A]], actions=[Remove(A, "process")])
    assert (t.attempts, t.tombstones[A].spec, t.tombstones[A].done_at_ms) == ({}, None, 20)


@pytest.mark.parametrize("exit_code", [1, 5, 137])
def test_out_of_memory_has_the_text_of_aws_and_the_commands_own_exit_code(exit_code: int):
    t = table()
    running(t)
    ended = turn(t, 9, exited(ms=9, exit_code=exit_code, out_of_memory=True)).reports[0]
    assert (ended.cause, ended.exit_code) == (EndCause.OUT_OF_MEMORY, exit_code)
    assert ended.reason == "OutOfMemoryError: Container killed due to memory usage"


@pytest.mark.parametrize(
    ("told", "cause", "exit_code"),
    [
        (Vanished(attempt_id=A, reason="the supervisor was killed"), EndCause.HOST_ERROR, None),
        (Vanished(attempt_id=A, reason="the host was restarted", is_reboot=True), EndCause.LOST, None),
        (exited(ms=9, exit_code=143, reason="the engine was restarted", host_failed=True), EndCause.HOST_ERROR, 143),
        (StartFailed(attempt_id=A, reason="no space", host_failed=True), EndCause.HOST_ERROR, None),
        (StartFailed(attempt_id=A, reason="no such command", exit_code=127), EndCause.START_FAILED, 127),
    ],
)
def test_what_failed_of_the_host_is_neither_the_job_nor_the_whole_host(told, cause: EndCause, exit_code: int | None):
    t = table()
    running(t)
    [ended] = turn(t, 9, told).reports
    assert (ended.cause, ended.reason, ended.exit_code) == (cause, told.reason, exit_code)


def test_a_job_that_survives_its_killed_child_succeeds_and_says_so():
    t = table()
    running(t)
    ended = turn(t, 9, exited(ms=9, exit_code=0, out_of_memory=True)).reports[0]
    assert (ended.cause, ended.exit_code) == (EndCause.EXITED, 0)
    assert ended.reason == "OutOfMemoryError: a process of the job was killed; the command itself exited with 0"


def test_a_failed_start_keeps_the_runtimes_words_within_255_characters():
    t = table()
    turn(t, 0, start())
    ended = turn(t, 5, StartFailed(attempt_id=A, reason="CannotPullContainerError: " + "x" * 300, exit_code=127))
    [report] = ended.reports
    assert (report.cause, report.exit_code, report.started_at_ms) == (EndCause.START_FAILED, 127, 0)
    assert report.reason.startswith("CannotPullContainerError: xxx")
    assert len(report.reason) == 255


def test_an_end_whose_start_was_not_seen_still_ran():
    t = table()
    turn(t, 0, start())
    [report] = turn(t, 9, exited(ms=9)).reports
    assert (report.started_at_ms, report.stopped_at_ms) == (WALL_MS + 9, WALL_MS + 9)


# --- duplicates, tombstones, epochs -----------------------------------------------------


def test_a_second_start_tells_the_truth_and_launches_nothing():
    t = table()
    attempt = running(t)
    assert turn(t, 9, start()) == Turn(reports=[attempt])


def test_a_late_start_of_a_buried_attempt_tells_how_it_ended():
    t = table()
    running(t)
    turn(t, 9, exited(ms=9, exit_code=3))
    turn(t, 10, acknowledged())
    late = turn(t, 60_000, start())
    assert late == Turn(reports=[t.tombstones[A]])
    assert late.reports[0].exit_code == 3


def test_tombstones_are_forgotten_after_a_day():
    t = table()
    running(t)
    turn(t, 9, exited(ms=9))
    turn(t, 10, acknowledged())
    day_ms = 24 * 3600 * 1000
    assert turn(t, day_ms + 9, Ticked()) == Turn()
    assert turn(t, day_ms + 10, Ticked()) == Turn(forgotten=[A])
    assert t.tombstones == {}


def test_a_step_of_the_clock_forgets_no_tombstone():
    """A late start of the same session would be launched again."""
    t = table()
    running(t)
    turn(t, 1, exited(ms=1))
    turn(t, 2, acknowledged())
    assert take_turn(t, [Ticked()], Now(boot_ms=3, wall_ms=WALL_MS + 2 * TOMBSTONE_AGE_MS)).forgotten == []
    assert turn(t, 4, start()).actions == []


@pytest.mark.parametrize("done_at_ms", [WALL_MS, 90 * TOMBSTONE_AGE_MS])
def test_a_tombstone_of_a_longer_boot_or_by_wall_clock_ages_from_the_agents_start(done_at_ms: int):
    done = Attempt(attempt_id=B, phase=Phase.DONE, cause=EndCause.EXITED, done_at_ms=done_at_ms)
    older = replace(done, attempt_id=A, done_at_ms=5)
    t = table(tombstones={A: older, B: done})
    assert turn(t, 1_000, Recovered(boot_id="boot-2")).rows == [replace(done, done_at_ms=1_000)]
    assert turn(t, 5 + TOMBSTONE_AGE_MS, Ticked()).forgotten == [A]
    assert turn(t, 1_000 + TOMBSTONE_AGE_MS, Ticked()).forgotten == [B]


def test_the_oldest_tombstone_makes_room(monkeypatch):
    monkeypatch.setattr("batchyard_agent.core.reconcile.TOMBSTONES_MAX", 1)
    t = table()
    for attempt_id in (A, B):
        running(t, attempt_id)
        turn(t, 9, exited(attempt_id, ms=9))
    turn(t, 10, acknowledged(A))
    assert turn(t, 11, acknowledged(B)).forgotten == [A]
    assert list(t.tombstones) == [B]


def test_a_deposed_leader_changes_nothing():
    t = table()
    refusal = f"refused: epoch {EPOCH - 1} is older than {EPOCH}"
    assert turn(t, 0, start(epoch=EPOCH - 1)) == Turn(actions=[Note(refusal, A)])
    opened = SessionOpened(epoch=EPOCH - 1, sent_at_ms=0, fence_ms=1000)
    assert turn(t, 0, opened) == Turn(actions=[CloseSession(refusal)])
    assert turn(t, 0, HeartbeatAcknowledged(epoch=EPOCH - 1, sent_at_ms=0)) == Turn(actions=[Note(refusal)])
    assert t == table()


def test_a_higher_epoch_is_written_with_the_attempt_it_brought():
    t = table()
    first = turn(t, 0, start(epoch=EPOCH + 1))
    assert first.meta == Meta(host_id="host-1", epoch=EPOCH + 1, boot_id="boot-1", contact_ms=0)
    assert first.rows == [launching()]


def test_an_acknowledgement_of_a_living_attempt_is_noted_only():
    t = table()
    running(t)
    assert turn(t, 9, acknowledged()) == Turn(
        actions=[Note("the controller acknowledged the end of an attempt that has not ended", A)]
    )


# --- launches ---------------------------------------------------------------------------


def test_launches_in_flight_are_bounded_and_first_come_first_served():
    t = table()
    assert turn(t, 0, start(A), start(B), start(C)).actions == [Launch(spec(A)), Launch(spec(B))]
    assert t.attempts[C].phase is Phase.ACCEPTED
    assert turn(t, 5, started(B)).actions == [Launch(spec(C))]


def test_a_runtime_without_a_limit_launches_all():
    t = table()
    ids = (A, B, C)
    actions = turn(t, 0, *(start(i, runtime="fake") for i in ids)).actions
    assert actions == [Launch(spec(i, runtime="fake")) for i in ids]


def test_a_runtime_that_the_host_lacks_fails_the_start():
    t = table()
    [report] = turn(t, 0, start(runtime="docker")).reports
    assert report.reason == "CannotStartContainerError: the docker runtime is not available on this host"
    assert report.cause is EndCause.HOST_ERROR
    turn(t, 1, HostChanged(runtimes=frozenset({"docker"}), gpu_uuids=frozenset()))
    assert turn(t, 2, start(B, runtime="docker")).actions == [Launch(spec(B, runtime="docker"))]


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ([("GPU-9", 1000)], "GPU GPU-9 is not on this host; it has GPU-1, GPU-2"),
        ([("GPU-1", 500), ("GPU-1", 500)], "GPU GPU-1 is claimed twice"),
        ([("GPU-1", 1001)], "a claim of 1001 thousandths of GPU GPU-1 is not within 1 to 1000"),
        ([("GPU-1", 0)], "a claim of 0 thousandths of GPU GPU-1 is not within 1 to 1000"),
    ],
)
def test_gpu_claims_that_cannot_be_honoured_fail_the_start(claims, reason):
    t = table(gpu_uuids=frozenset({"GPU-1", "GPU-2"}))
    gpus = tuple(GpuClaim(uuid=uuid, millis=millis) for uuid, millis in claims)
    [report] = turn(t, 0, start(gpus=gpus)).reports
    assert (report.cause, report.reason) == (EndCause.HOST_ERROR, f"CannotStartContainerError: {reason}")


def test_gpu_claims_that_fit_are_launched():
    t = table(gpu_uuids=frozenset({"GPU-1", "GPU-2"}))
    gpus = (GpuClaim(uuid="GPU-1", millis=1000), GpuClaim(uuid="GPU-2", millis=250))
    assert turn(t, 0, start(gpus=gpus)).actions == [Launch(spec(gpus=gpus))]


# --- stop, revoke, timeout --------------------------------------------------------------


def test_stop_is_sigterm_and_after_the_grace_sigkill_until_it_ended():
    t = table()
    running(t)
    first = turn(t, 1_000, stop(grace_s=5))
    assert first.actions == [Signal(A, "process", TERM)]
    assert first.rows[0].stop == Stop(cause=EndCause.STOPPED, grace_ms=5_000, kill_at_ms=6_000)
    assert t.next_due_ms == 6_000
    assert turn(t, 5_999, Ticked()).actions == []
    assert turn(t, 6_000, Ticked()).actions == [Signal(A, "process", KILL)]
    assert turn(t, 16_000, Ticked()).actions == [Signal(A, "process", KILL)]
    [report] = turn(t, 16_001, exited(ms=16_001, exit_code=137)).reports
    assert (report.cause, report.exit_code) == (EndCause.STOPPED, 137)
    assert turn(t, 60_000, Ticked()).actions == []


def test_stop_without_a_grace_gives_30_seconds():
    t = table()
    running(t)
    assert turn(t, 0, stop()).rows[0].stop == Stop(cause=EndCause.STOPPED, grace_ms=30_000, kill_at_ms=30_000)


def test_an_attempt_stopped_in_the_turn_it_came_never_starts():
    t = table()
    both = turn(t, 7, start(), stop())
    assert both.actions == []
    assert [(r.phase, r.cause, r.reason, r.started_at_ms, r.stopped_at_ms) for r in both.reports] == [
        (Phase.ENDED, EndCause.STOPPED, "Stopped before it started", 0, WALL_MS + 7)
    ]


def test_an_attempt_stopped_while_it_waits_never_starts():
    t = table()
    turn(t, 0, start(A), start(B), start(C))
    assert turn(t, 1, stop(C)).reports[0].cause is EndCause.STOPPED
    assert turn(t, 2, started(A), started(B)).actions == []


def test_a_stop_that_meets_a_launch_is_delivered_when_it_runs():
    """A pull may take minutes: the runtime is told at once, but the grace counts from the start."""
    t = table()
    turn(t, 0, start())
    assert turn(t, 1, stop(grace_s=5)).actions == [Signal(A, "process", TERM)]
    assert turn(t, 60_000, Ticked()).actions == []
    assert turn(t, 90_000, started(ms=90_000)).actions == [Signal(A, "process", TERM)]
    assert t.next_due_ms == 95_000


def test_revoke_kills_at_once_and_makes_a_gentle_stop_harsh():
    t = table()
    running(t)
    turn(t, 0, stop(grace_s=60))
    assert turn(t, 1, RevokeRequested(epoch=EPOCH, attempt_id=A)).actions == [Signal(A, "process", KILL)]
    assert turn(t, 2, stop(grace_s=60)).actions == []


def test_revoke_of_an_unknown_attempt_is_answered_and_refuses_its_late_start():
    t = table()
    [report] = turn(t, 5, RevokeRequested(epoch=EPOCH, attempt_id=A)).reports
    assert (report.phase, report.cause) == (Phase.ENDED, EndCause.STOPPED)
    assert turn(t, 6, start()) == Turn(reports=[report])
    assert turn(t, 7, acknowledged()).actions == []
    assert turn(t, 8, start()).actions == []


def test_stop_of_an_ended_attempt_tells_its_end_again():
    t = table()
    running(t)
    ended = turn(t, 5, exited(ms=5)).reports
    assert turn(t, 6, stop()) == Turn(reports=ended)


def test_a_timeout_counts_from_started_and_grants_30_seconds():
    t = table()
    turn(t, 0, start(timeout_s=60))
    turn(t, 10_000, started(ms=10_000))
    assert t.next_due_ms == 70_000
    assert turn(t, 70_000, Ticked()).actions == [Signal(A, "process", TERM)]
    assert turn(t, 99_999, Ticked()).actions == []
    assert turn(t, 100_000, Ticked()).actions == [Signal(A, "process", KILL)]
    [report] = turn(t, 100_001, exited(ms=100_001, exit_code=137)).reports
    assert (report.cause, report.reason) == (EndCause.TIMED_OUT, "Job attempt duration exceeded timeout")


def test_who_asked_first_is_the_cause():
    t = table()
    running(t, timeout_s=60)
    turn(t, 60_000, Ticked())
    turn(t, 60_001, stop(grace_s=1))
    assert turn(t, 61_001, Ticked()).actions == [Signal(A, "process", KILL)]
    assert turn(t, 61_002, exited(exit_code=137)).reports[0].cause is EndCause.TIMED_OUT


# --- the fence --------------------------------------------------------------------------


def opened(ms: int, fence_ms: int = 60_000) -> SessionOpened:
    return SessionOpened(epoch=EPOCH, sent_at_ms=ms, fence_ms=fence_ms, session=SESSION)


def beat(sent_at_ms: int) -> HeartbeatAcknowledged:
    return HeartbeatAcknowledged(epoch=EPOCH, sent_at_ms=sent_at_ms)


def test_silence_kills_what_runs_counted_from_when_the_answered_heartbeat_was_sent():
    t = table()
    turn(t, 0, opened(0))
    running(t)
    turn(t, 9_000, beat(4_000))
    assert t.next_due_ms == 64_000
    assert turn(t, 63_999, Ticked()).actions == []
    assert turn(t, 64_000, Ticked()).actions == [Signal(A, "process", KILL)]
    [report] = turn(t, 64_001, exited(exit_code=137)).reports
    assert (report.cause, report.reason) == (EndCause.FENCED, "Killed after 60 s without the controller")


@pytest.mark.parametrize("is_told", [True, False])
def test_what_the_guard_has_ended_was_fenced(is_told: bool):
    """This agent stood still: the end is the first that it hears. Of containers the engine does not say who killed them."""
    t = table()
    turn(t, 0, opened(0))
    running(t)
    after = turn(t, 66_000, exited(exit_code=137, is_fenced=is_told))
    assert [(r.cause, r.reason, r.exit_code) for r in after.reports] == [
        (EndCause.FENCED, "Killed after 60 s without the controller", 137)
    ]


def test_what_the_guard_has_ended_was_fenced_also_when_a_controller_is_in_touch_again():
    t = table()
    turn(t, 0, opened(0))
    running(t)
    turn(t, 59_000, opened(59_000))
    after = turn(t, 66_000, exited(exit_code=137, is_fenced=True))
    assert [r.cause for r in after.reports] == [EndCause.FENCED]


def test_the_fence_also_stops_what_waits_and_what_is_launching():
    t = table()
    turn(t, 0, opened(0), start(A), start(B), start(C))
    fenced = turn(t, 60_000, Ticked())
    assert [(r.attempt_id, r.cause) for r in fenced.reports] == [(C, EndCause.FENCED)]
    assert turn(t, 60_001, started(A)).actions == [Signal(A, "process", KILL)]


def test_each_attempt_is_killed_at_its_own_fence_whatever_the_hosts_is():
    t = table()
    turn(t, 0, opened(0))
    running(t, A, fence_ms=30_000)
    running(t, B, fence_ms=0)
    running(t, C)
    assert t.next_due_ms == 30_000
    assert turn(t, 30_000, Ticked()).actions == [Signal(A, "process", KILL)]
    assert turn(t, 59_999, Ticked()).actions == [Signal(A, "process", KILL)]  # again, as it lives
    [report] = turn(t, 59_999, exited(A, exit_code=137)).reports
    assert (report.cause, report.reason) == (EndCause.FENCED, "Killed after 30 s without the controller")
    assert t.next_due_ms == 60_000
    assert turn(t, 60_000, Ticked()).actions == [Signal(C, "process", KILL)]
    turn(t, 60_001, exited(C, exit_code=137))
    assert turn(t, 10**9, Ticked()).actions == []
    assert t.next_due_ms is None


def test_what_waits_is_launched_by_its_own_fence():
    """Out of touch for longer than one's fence, and not the others'."""
    t = table(launch_limits={"process": 1})
    turn(t, 0, opened(0), start(A), start(B, fence_ms=30_000), start(C, fence_ms=0))
    after = turn(t, 40_000, exited(A))
    assert [a.spec.attempt_id for a in after.actions if isinstance(a, Launch)] == [C]
    assert {r.attempt_id: r.cause for r in after.reports} == {A: EndCause.EXITED, B: EndCause.FENCED}


def test_a_fence_of_zero_never_kills():
    t = table()
    turn(t, 0, opened(0, fence_ms=0))
    running(t)
    assert turn(t, 10**9, Ticked()).actions == []


def test_contact_after_the_fence_does_not_save_what_should_be_dead():
    """However late the agent wakes: the controller has given these attempts away."""
    t = table()
    turn(t, 0, opened(0))
    running(t)
    assert turn(t, 70_000, opened(69_000)).actions == [Signal(A, "process", KILL)]
    running(t, B, 70_000)
    assert turn(t, 100_000, Ticked()).actions == [Signal(A, "process", KILL)]


LATE = Note("refused: a start that came too late", A)
AGAIN = CloseSession("a start came too late; the next hello says what is here")


def test_a_start_of_a_dead_session_is_not_taken():
    """Its host may have lost it meanwhile; whoever leads now says it again."""
    t = table()
    turn(t, 0, opened(0))
    assert turn(t, 1, start(session=SESSION - 1)) == Turn(actions=[LATE])
    assert t.attempts == {}


def test_a_fenced_agent_takes_no_start_and_launches_nothing():
    """
    A start that waited in a stream, read after the fence: the job runs elsewhere by now.

    Where the controller still counts on this very session, as the fence is shorter than its patience,
    nobody would say the start again: so the agent begins another. Found by the simulation.
    """
    t = table()
    turn(t, 0, opened(0))
    assert turn(t, 60_000, Ticked(), start()).actions == [LATE, AGAIN]
    assert turn(t, 60_001, start()).actions == [LATE, AGAIN]
    assert turn(t, 90_000, opened(89_000), start()).actions == [Launch(spec())]


def test_nothing_is_launched_when_the_fence_passes_in_the_same_turn():
    """Accepted while there was a bound on launches, and looked at again too late, before any tick."""
    t = table(launch_limits={"process": 1})
    turn(t, 0, opened(0), start(A), start(B))
    assert [a for a in turn(t, 60_000, exited(A)).actions if isinstance(a, Launch)] == []


@pytest.mark.parametrize("contact_ms", [None, 5])
def test_nothing_is_launched_before_a_controller_answered(contact_ms):
    """As after a reboot, or in a copied state folder: what is journalled may be another's by now."""
    meta = Meta(host_id="host-1", epoch=EPOCH, boot_id="boot-1", contact_ms=contact_ms, fence_ms=60_000)
    accepted = replace(launching(), phase=Phase.ACCEPTED, launched=False)
    t = recovered_table(accepted, meta=meta, session=None)
    turn(t, 10, Recovered(boot_id="boot-1"))
    assert turn(t, 11, Adopted(attempt_id=A, adoption=Adoption.NOT_LAUNCHED)).actions == []
    assert turn(t, 12, opened(12)).actions == [Launch(spec())]


def test_the_last_contact_is_written_every_few_seconds_only():
    t = table()
    assert turn(t, 0, opened(0)).meta == Meta(
        host_id="host-1", epoch=EPOCH, boot_id="boot-1", contact_ms=0, fence_ms=60_000
    )
    assert turn(t, 4_999, beat(4_999)).meta is None
    saved = turn(t, 5_001, beat(5_000)).meta
    assert saved is not None
    assert saved.contact_ms == 5_000
    assert turn(t, 9_999, beat(9_999)).meta is None


def test_an_old_answer_never_takes_the_contact_back():
    t = table()
    turn(t, 0, opened(50_000))
    turn(t, 1, beat(20_000))
    assert t.meta.contact_ms == 50_000


# --- restarts ---------------------------------------------------------------------------


def recovered_table(*attempts: Attempt, **changes: Any):
    t = table(**changes)
    for attempt in attempts:
        t.restore(attempt)
    return t


def test_after_a_restart_runtimes_are_asked_about_everything_that_had_not_ended():
    t = recovered_table(launching(A), replace(launching(B), phase=Phase.RUNNING))
    assert turn(t, 0, Recovered(boot_id="boot-1")).actions == [Adopt(spec(A)), Adopt(spec(B))]
    assert turn(t, 1, Adopted(attempt_id=A, adoption=Adoption.NOT_LAUNCHED)).actions == [Launch(spec(A))]
    known = Adopted(attempt_id=B, adoption=Adoption.KNOWN)
    [report] = turn(t, 2, started(B, 1), exited(B, 2, exit_code=4), known).reports
    assert (report.phase, report.exit_code) == (Phase.ENDED, 4)


def test_a_runtime_may_tell_of_an_adopted_attempt_before_it_says_that_it_knows_it():
    t = recovered_table(launching())
    turn(t, 0, Recovered(boot_id="boot-1"))
    told = turn(t, 1, started(ms=1), Adopted(attempt_id=A, adoption=Adoption.KNOWN))
    assert [(r.phase, r.started_at_ms) for r in told.reports] == [(Phase.RUNNING, WALL_MS + 1)]
    assert told.actions == []


@pytest.mark.parametrize("step_ms", [-7_200_000, 7_200_000, 10 * 86_400_000])
def test_a_step_of_the_clock_changes_no_timeout(step_ms: int):
    """Neither while it runs, nor over the restart of an agent that finds the clock stepped."""
    t = table()
    turn(t, 0, start(timeout_s=120))
    # The start comes from an engine whose clock is another.
    turn_at = lambda boot_ms, *events: take_turn(t, events, Now(boot_ms=boot_ms, wall_ms=WALL_MS + boot_ms + step_ms))  # noqa: E731
    [row] = turn_at(1_000, started(ms=1_000)).rows
    t = recovered_table(row)
    turn_at(15_000, Recovered(boot_id="boot-1"))
    adopted = Adopted(attempt_id=A, adoption=Adoption.KNOWN)
    assert turn_at(15_001, started(ms=1_000), adopted, Ticked()).actions == []
    assert turn_at(120_999, Ticked()).actions == []
    assert turn_at(121_000, Ticked()).actions == [Signal(A, "process", TERM)]


def test_a_timeout_goes_on_counting_over_a_restart():
    t = recovered_table(launching(timeout_s=60))
    turn(t, 100_000, Recovered(boot_id="boot-1"))
    turn(t, 100_000, started(ms=50_000), Adopted(attempt_id=A, adoption=Adoption.KNOWN))
    assert t.next_due_ms == 110_000


def test_a_stop_goes_on_over_a_restart():
    stopping = Stop(cause=EndCause.STOPPED, grace_ms=30_000, kill_at_ms=5_000)
    t = recovered_table(replace(launching(), phase=Phase.RUNNING, stop=stopping))
    turn(t, 6_000, Recovered(boot_id="boot-1"))
    assert turn(t, 6_001, Ticked()).actions == []
    assert turn(t, 6_002, started(ms=1)).actions == [Signal(A, "process", KILL)]


def test_an_adoption_that_breaks_again_and_again_ends_the_attempt():
    """Not while its runtime is merely away, however long that takes."""
    t = recovered_table(launching(A))
    turn(t, 0, Recovered(boot_id="boot-1"))
    away = CommandFailed(command=Adopt(spec(A)), error="RuntimeUnavailableError: no engine", is_away=True)
    broken = replace(away, error="ValueError: nonsense", is_away=False)
    for number in range(100):
        assert turn(t, number, away).reports == []
    for number in range(100, 100 + ADOPTIONS_MAX - 1):
        assert turn(t, number, broken).reports == []
    last = turn(t, 200, broken)
    assert Signal(A, "process", KILL) in last.actions
    [report] = last.reports
    assert (report.cause, report.reason) == (EndCause.HOST_ERROR, "it cannot be taken up again: ValueError: nonsense")


def test_a_stop_during_adoption_waits_for_its_answer():
    t = recovered_table(launching())
    turn(t, 0, Recovered(boot_id="boot-1"))
    assert turn(t, 1, stop()).reports == []
    [report] = turn(t, 2, Adopted(attempt_id=A, adoption=Adoption.NOT_LAUNCHED)).reports
    assert (report.phase, report.cause) == (Phase.ENDED, EndCause.STOPPED)


def test_a_stop_reaches_several_that_were_adopted_and_have_not_all_started():
    """They may wait long for each other; of one alone it is soon told that it has started."""
    for parts, actions in (((), []), ((spec().launch,), [Signal(A, "process", TERM)])):
        the_spec = replace(spec(), launch=replace(spec().launch, parts=parts))
        t = recovered_table(replace(launching(), spec=the_spec))
        turn(t, 0, Recovered(boot_id="boot-1"))
        turn(t, 1, stop())
        assert turn(t, 2, Adopted(attempt_id=A, adoption=Adoption.KNOWN)).actions == actions


def test_a_stop_between_started_and_the_answer_of_the_adoption_is_delivered():
    t = recovered_table(launching())
    turn(t, 0, Recovered(boot_id="boot-1"), started())
    assert turn(t, 1, stop()).actions == []
    assert turn(t, 2, Adopted(attempt_id=A, adoption=Adoption.KNOWN)).actions == [Signal(A, "process", TERM)]


def test_a_restarted_agent_counts_the_silence_from_the_journalled_contact():
    meta = Meta(host_id="host-1", epoch=EPOCH, boot_id="boot-1", contact_ms=10_000, fence_ms=60_000)
    t = recovered_table(launching(), meta=meta)
    turn(t, 80_000, Recovered(boot_id="boot-1"), Ticked())
    assert turn(t, 80_001, started(ms=1)).actions == [Signal(A, "process", KILL)]
    assert turn(t, 80_002, exited(exit_code=137)).reports[0].cause is EndCause.FENCED


def test_a_reboot_loses_everything_that_had_not_ended():
    meta = Meta(host_id="host-1", epoch=EPOCH, boot_id="boot-0", contact_ms=10_000, fence_ms=60_000)
    ended = replace(launching(B), phase=Phase.ENDED, cause=EndCause.EXITED, exit_code=0)
    t = recovered_table(launching(), ended, meta=meta)
    after = turn(t, 5, Recovered(boot_id="boot-1"))
    assert [(r.attempt_id, r.cause, r.reason) for r in after.reports] == [(A, EndCause.LOST, "The host was restarted")]
    assert after.actions == []
    assert after.meta == Meta(host_id="host-1", epoch=EPOCH, boot_id="boot-1", contact_ms=None, fence_ms=60_000)


def test_left_over_traces_of_buried_attempts_are_removed_and_strangers_killed():
    done = Attempt(attempt_id=A, phase=Phase.DONE, runtime="process", cause=EndCause.EXITED)
    t = table(tombstones={A: done})
    assert turn(t, 0, Recovered(boot_id="boot-1", held=(("process", A), ("process", B)))).actions == [
        Remove(A, "process"),
        Note("the process runtime holds an attempt that is not in the journal", B),
        Discard(B, "process"),
    ]


def test_nothing_new_is_launched_before_strangers_are_dead():
    """
    They hold what this host offers, and may be tried again elsewhere; a kill that breaks is repeated.

    The controller says a start once in a session, so one that comes meanwhile is kept.
    """
    t = table()
    turn(t, 0, Recovered(boot_id="boot-1", held=(("process", B),)))
    taken = turn(t, 1, opened(0), start(A))
    assert (taken.actions, [row.attempt_id for row in taken.rows]) == ([], [A])
    assert turn(t, 2, CommandFailed(command=Discard(B, "process"), error="EngineError: away")).actions == [
        Note("killing what is not in the journal broke: EngineError: away", B)
    ]
    assert turn(t, 5_002, Ticked()).actions == [Discard(B, "process")]
    assert turn(t, 5_003, Discarded(attempt_id=B)).actions == [Launch(spec())]


def test_a_runtime_that_opens_later_is_asked_for_strangers_too():
    t = table()
    assert turn(t, 0, RuntimeOpened(held=(("docker", B),))).actions == [
        Note("the docker runtime holds an attempt that is not in the journal", B),
        Discard(B, "docker"),
    ]


# --- broken runtimes --------------------------------------------------------------------


def test_a_launch_that_broke_is_looked_into_and_never_repeated():
    t = table()
    turn(t, 0, start())
    broke = turn(t, 1, CommandFailed(command=Launch(spec()), error="EngineError: went away"))
    assert broke.actions == [Note("launch broke: EngineError: went away", A), Adopt(spec())]
    [report] = turn(t, 2, Adopted(attempt_id=A, adoption=Adoption.NOT_LAUNCHED)).reports
    assert (report.cause, report.reason) == (
        EndCause.HOST_ERROR,
        "CannotStartContainerError: EngineError: went away",
    )


def test_adoption_is_tried_again_until_the_runtime_answers():
    t = recovered_table(launching())
    turn(t, 0, Recovered(boot_id="boot-1"))
    for ms in (0, 5_000, 10_000):
        failed = turn(t, ms, CommandFailed(command=Adopt(spec()), error="EngineError: away"))
        assert failed.actions == [Note("adoption broke: EngineError: away", A)]
        assert turn(t, ms + 4_999, Ticked()).actions == []
        assert turn(t, ms + 5_000, Ticked()).actions == [Adopt(spec())]


def test_removal_is_tried_again():
    t = table()
    running(t, timeout_s=3)
    turn(t, 9, exited(ms=9))
    turn(t, 10, acknowledged())
    turn(t, 10, CommandFailed(command=Remove(A, "process"), error="busy"))
    assert turn(t, 5_010, Ticked()).actions == [Remove(A, "process")]
    assert turn(t, 99_999, Ticked()).actions == []


def test_what_starts_after_its_end_is_killed():
    t = table()
    turn(t, 0, start())
    turn(t, 1, StartFailed(attempt_id=A, reason="no"))
    assert turn(t, 2, started()).actions == [Signal(A, "process", KILL)]


# --- tables -----------------------------------------------------------------------------


def test_no_move_leaves_the_transition_table():
    for source, targets in TRANSITIONS.items():
        for target in Phase:
            t = table()
            attempt = Attempt(attempt_id=A, phase=source)
            t.attempts[A] = attempt
            moved = replace(attempt, phase=target)
            if target in targets:
                assert t.move(moved) is moved
                assert t.get(A) is moved
            else:
                with pytest.raises(IllegalMoveError):
                    t.move(moved)


def test_alarms_of_ended_attempts_are_swept_out(monkeypatch):
    monkeypatch.setattr("batchyard_agent.core.attempts.ALARMS_SLACK", 10)
    t = table()
    for index in range(100):
        attempt_id = type(A)(f"job#{index}")
        running(t, attempt_id, timeout_s=86_400)
        turn(t, 0, exited(attempt_id), acknowledged(attempt_id))
        turn(t, 0, acknowledged(attempt_id))
    assert len(t._alarms) <= 13
    assert t.attempts == {}


def test_grace_is_that_of_aws():
    assert endings.STOP_GRACE_MS == 30_000


# --- whose fault a failed start is --------------------------------------------------------


@pytest.mark.parametrize(
    ("failed", "cause"),
    [
        ({}, EndCause.START_FAILED),
        ({"host_failed": True}, EndCause.HOST_ERROR),
        ({"image_missing": True}, EndCause.IMAGE_UNAVAILABLE),
        ({"host_failed": True, "image_missing": True}, EndCause.HOST_ERROR),
    ],
)
def test_a_failed_start_says_whose_fault_it_is(failed, cause):
    """The last: no room on the disk for an image that was being pulled."""
    t = table()
    turn(t, 0, start())
    [report] = turn(t, 1, StartFailed(attempt_id=A, reason="why", **failed)).reports
    assert (report.cause, report.reason) == (cause, "why")


def test_what_no_agent_can_run_as_asked_is_the_jobs_own_fault():
    t = table()
    event = start()
    refused = replace(event, spec=replace(event.spec, refusal="no volume is named 'x'"))
    [report] = turn(t, 0, refused).reports
    assert (report.cause, report.reason) == (
        EndCause.START_FAILED,
        "CannotStartContainerError: no volume is named 'x'",
    )
