"""What follows from what: stories of jobs, told event by event."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.yard import Yard, ended_report, facts

from batchyard.ids import AttemptId, HostId
from batchyard.resources import Usage
from batchyard.states import EndCause, JobState
from batchyard_controller.core import limits
from batchyard_controller.core.attempt_reports import Phase, Report
from batchyard_controller.core.commands import SendAck, SendRevoke, SendStart, SendStop
from batchyard_controller.core.events import HostHeard, HostJoined, HostLeft, HostRemoved, QueueDeleted, Ticked
from batchyard_controller.core.jobs.ends import status_reason
from batchyard_controller.core.model.attempts import AttemptEnd
from batchyard_controller.core.model.dependencies import Dependency
from batchyard_controller.core.model.jobs import ExitAction, ExitRule, RetryStrategy
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.views.history import span
from batchyard_controller.core.world.fences import fence_of


def test_a_job_is_claimed_started_and_acknowledged(yard: Yard):
    """A job runs from submission to success, and its agent is told that the end is stored."""
    job = yard.submit()
    assert job.state is JobState.RUNNABLE
    (start,) = yard.plan()
    assert isinstance(start, SendStart)
    assert [a.id for a in start.attempts] == [f"{job.id}#1"]
    assert job.state is JobState.STARTING
    yard.started(f"{job.id}#1", at_ms=2_000)
    assert (job.state, span(yard.world, yard.unit(job.id))) == (JobState.RUNNING, (2_000, 0))
    assert yard.ended(f"{job.id}#1") == [SendAck(HostId("h1"), (AttemptId(f"{job.id}#1"),))]
    assert (job.state, span(yard.world, yard.unit(job.id))) == (JobState.SUCCEEDED, (2_000, 3_000))
    assert yard.reason(job.id) == "Essential container in task exited"


def test_replaying_an_end_changes_nothing(yard: Yard):
    """A report that comes twice is acknowledged twice and counted once."""
    job = yard.submit()
    yard.plan()
    first = yard.ended(f"{job.id}#1", exit_code=3)
    attempts = job.attempts
    assert yard.report(ended_report(f"{job.id}#1", exit_code=0), host="h1") == first
    assert (job.state, job.attempts) == (JobState.FAILED, attempts)


def test_what_attempts_have_used_is_kept_of_jobs_and_of_children(yard: Yard):
    """A hundred processors for a week are more milliseconds than 32 bits hold; no more than JSON holds is believed."""
    long, absurd = Usage(peak_memory_kib=5 << 30, user_cpu_ms=60_480_000_000, system_cpu_ms=7), 1 << 60
    for job in (yard.submit(), yard.submit(array_size=2)):
        yard.plan()
        for attempt_id in list(yard.world.attempts):
            told = ended_report(attempt_id)
            assert told.end is not None
            told = replace(told, end=replace(told.end, usage=long))
            yard.report(told)
        unit = yard.unit(f"{job.id}:1" if job.size else job.id)
        assert unit.attempts[-1].usage == long
    job = yard.submit()
    yard.plan()
    (attempt_id,) = yard.world.attempts
    told = ended_report(attempt_id)
    assert told.end is not None
    yard.report(replace(told, end=replace(told.end, usage=Usage(user_cpu_ms=absurd, system_cpu_ms=-1))))
    assert job.attempts[-1].usage == Usage(user_cpu_ms=limits.USAGE_MAX)


@pytest.mark.parametrize("array_size", [0, 2])
def test_who_is_said_to_run_since_no_time_runs_since_now_however_often_it_is_said(yard: Yard, array_size: int):
    """Else the second time would find it moved, and not started, and end the controller."""
    yard.submit(array_size=array_size)
    yard.plan()
    for attempt_id in yard.live():
        for at_ms in (0, 0, -5, 7):
            yard.started(attempt_id, at_ms)
        assert yard.world.attempts[AttemptId(attempt_id)].started_at_ms == yard.now.wall_ms


def test_an_unknown_running_attempt_is_revoked(yard: Yard):
    """A host that runs what nobody claimed for it is told to stop."""
    report = Report(attempt_id=AttemptId("x#1"), phase=Phase.RUNNING, started_at_ms=1)
    assert yard.report(report, host="h1") == [SendRevoke(HostId("h1"), AttemptId("x#1"))]


def test_a_host_cannot_report_for_another(yard: Yard):
    """The end of an attempt is believed from its own host alone."""
    yard.host("h2")
    job = yard.submit()
    yard.plan()
    other = "h2" if yard.live()[f"{job.id}#1"] == "h1" else "h1"
    yard.report(ended_report(f"{job.id}#1"), host=other)
    assert job.state is JobState.STARTING


def test_a_lost_start_is_sent_again_when_the_host_joins(yard: Yard):
    """A claim whose message was lost is said again; a host that has it is left alone."""
    job = yard.submit()
    yard.plan()
    (resent,) = yard.host("h1", session=2)
    assert isinstance(resent, SendStart)
    known = Report(attempt_id=AttemptId(f"{job.id}#1"), phase=Phase.STARTING)
    assert yard.host("h1", known, session=3) == []


def test_what_a_host_was_told_before_it_was_restarted_is_not_started_again(yard: Yard):
    """It may have run there, and a power cut may have taken from the agent's journal that it did."""
    yard.host("h1", session=2, boot_id="first")
    job = yard.submit(retry=RetryStrategy(infrastructure_retries=0))
    yard.plan()
    assert yard.host("h1", session=3, boot_id="second") == []
    (ended,) = job.attempts
    assert (job.state, ended.cause) == (JobState.FAILED, EndCause.LOST)


def test_a_running_attempt_that_its_host_forgot_is_lost(yard: Yard):
    """If the same agent's journal knows nothing of a running attempt, it is over: it says so when it is asked."""
    job = yard.submit(retry=RetryStrategy(infrastructure_retries=0))
    yard.plan()
    yard.started(f"{job.id}#1")
    attempt_id = AttemptId(f"{job.id}#1")
    assert SendStop(HostId("h1"), attempt_id) in yard.host("h1", session=2)
    assert job.state is JobState.RUNNING
    yard.report(Report(attempt_id=attempt_id, phase=Phase.ENDED, end=AttemptEnd(cause=EndCause.STOPPED)))
    assert job.state is JobState.FAILED
    assert yard.reason(job.id) == "Host EC2 (instance i-h1) terminated."


def test_a_hello_that_the_network_held_ends_nothing_that_was_begun_since(yard: Yard):
    """It reached a leader that came later; the agent behind it had given that call up, and hears of no stop by it."""
    job = yard.submit()
    yard.plan()
    yard.started(f"{job.id}#1")
    yard.host("h1", session=2)
    known = Report(attempt_id=AttemptId(f"{job.id}#1"), phase=Phase.RUNNING, started_at_ms=1_000)
    yard.host("h1", known, session=3)
    assert (job.state, len(job.attempts)) == (JobState.RUNNING, 0)
    yard.ended(f"{job.id}#1", 0)
    assert job.state is JobState.SUCCEEDED


def test_an_array_runs_all_children_and_then_its_dependent(yard: Yard):
    """Parent PENDING while children run, SUCCEEDED when all did; only then the next job starts."""
    array = yard.submit(array_size=20)
    after = yard.submit(depends_on=(Dependency(job_id=array.id),))
    assert (array.state, after.state) == (JobState.PENDING, JobState.PENDING)
    yard.plan()
    assert sorted(yard.live()) == [f"{array.id}:{i}#1" for i in range(4)]
    yard.run_all()
    assert (array.state, after.state) == (JobState.SUCCEEDED, JobState.SUCCEEDED)


def test_one_failed_child_fails_the_array_after_all_have_ended(yard: Yard):
    """Other children are not affected; the parent fails last, and its dependents with it."""
    array = yard.submit(array_size=3)
    after = yard.submit(depends_on=(Dependency(job_id=array.id),))
    last = yard.submit(depends_on=(Dependency(job_id=after.id),))
    yard.plan()
    yard.ended(f"{array.id}:1#1", exit_code=9)
    assert array.state is JobState.PENDING
    yard.run_all()
    assert array.state is JobState.FAILED
    assert yard.reason(array.id) == "Array Child Job failed"
    assert [j.state for j in (after, last)] == [JobState.FAILED, JobState.FAILED]
    assert yard.reason(last.id) == "Dependent Job failed"


def test_a_dependency_that_has_ended_counts_as_it_ended(yard: Yard):
    """Submitting after the fact is not too late."""
    good, bad = yard.submit(), yard.submit()
    yard.plan()
    yard.ended(f"{good.id}#1")
    yard.ended(f"{bad.id}#1", exit_code=1)
    assert yard.submit(depends_on=(Dependency(job_id=good.id),)).state is JobState.RUNNABLE
    assert yard.submit(depends_on=(Dependency(job_id=bad.id),)).state is JobState.FAILED


def test_attempts_count_tries(yard: Yard):
    """attempts=2 means at most two containers; a retried job goes to the front."""
    job = yard.submit(retry=RetryStrategy(attempts=2))
    yard.plan()
    later = yard.submit()
    yard.ended(f"{job.id}#1", exit_code=1)
    assert job.state is JobState.RUNNABLE
    (start,) = yard.plan()
    assert isinstance(start, SendStart)
    assert [a.id for a in start.attempts] == [f"{job.id}#2", f"{later.id}#1"]
    yard.ended(f"{job.id}#2", exit_code=1)
    assert job.state is JobState.FAILED
    assert [a.number for a in job.attempts] == [1, 2]


def test_a_rule_may_forbid_the_retry(yard: Yard):
    """The first matching rule decides."""
    rules = (ExitRule(action=ExitAction.EXIT, on_exit_code="4*"),)
    job = yard.submit(retry=RetryStrategy(attempts=3, rules=rules))
    yard.plan()
    yard.ended(f"{job.id}#1", exit_code=42)
    assert job.state is JobState.FAILED


def test_cancel_ends_what_waits_and_leaves_what_runs(yard: Yard):
    """AWS: CancelJob on a running job is a no-op; on an array it hits the children that wait."""
    array = yard.submit(array_size=6)
    yard.plan()
    yard.cancel(array.id)
    assert [yard.state(f"{array.id}:{i}") for i in (0, 3, 4, 5)] == [
        JobState.STARTING,
        JobState.STARTING,
        JobState.FAILED,
        JobState.FAILED,
    ]
    yard.run_all()
    assert (array.state, array.is_cancelled) == (JobState.FAILED, True)


def test_terminate_stops_what_runs_and_is_never_retried(yard: Yard):
    """The reason is the caller's, word for word."""
    job = yard.submit(retry=RetryStrategy(attempts=5))
    yard.plan()
    assert yard.terminate(job.id, "wrong input") == [SendStop(HostId("h1"), AttemptId(f"{job.id}#1"))]
    yard.ended(f"{job.id}#1", exit_code=143, cause=EndCause.STOPPED)
    assert (job.state, yard.reason(job.id)) == (JobState.FAILED, "wrong input")


def test_a_stop_that_was_lost_is_said_again(yard: Yard):
    """An intent survives the loss of its message."""
    job = yard.submit()
    yard.plan()
    yard.terminate(job.id)
    running = Report(attempt_id=AttemptId(f"{job.id}#1"), phase=Phase.RUNNING, started_at_ms=2)
    assert yard.host("h1", running, session=2) == [SendStop(HostId("h1"), AttemptId(f"{job.id}#1"))]


def test_a_deleted_queue_ends_its_jobs(yard: Yard):
    """What waits fails at once, what runs is stopped."""
    running, waiting = yard.submit(), yard.submit(array_size=9)
    yard.plan()
    commands = yard.apply(QueueDeleted(name="q"))
    assert SendStop(HostId("h1"), AttemptId(f"{running.id}#1")) in commands
    for attempt_id in list(yard.world.attempts):
        yard.ended(attempt_id, exit_code=143, cause=EndCause.STOPPED)
    assert (yard.reason(running.id), waiting.state) == ("JobQueue deleted", JobState.FAILED)


def test_a_silent_host_is_given_up_only_after_its_fence(yard: Yard):
    """Until the fence has surely passed nothing is rerun; then the job may go elsewhere."""
    job = yard.submit(retry=RetryStrategy(attempts=2))
    yard.plan()
    yard.apply(HostLeft(host_id=HostId("h1"), session=1))
    for waited_ms in (limits.FENCE_MS + 1, limits.FENCE_MS + limits.fence_margin_ms(limits.FENCE_MS)):
        yard.now = Instant(wall_ms=0, boot_ms=1_000 + waited_ms)
        yard.apply(Ticked())
        assert job.state is JobState.STARTING
    yard.now = Instant(wall_ms=0, boot_ms=1_001 + limits.FENCE_MS + limits.fence_margin_ms(limits.FENCE_MS))
    yard.apply(Ticked())
    assert job.state is JobState.RUNNABLE
    assert status_reason(job.attempts[0]) == "Host EC2 (instance i-h1) terminated."


def test_a_fence_that_was_made_shorter_counts_once_the_host_has_heard_of_it(yard: Yard):
    """A host that went silent before its welcome came still goes by the longer one that it was told before."""
    fence_ms = 60_000
    yard.world.fence_ms = fence_ms
    host = yard.world.hosts[HostId("h1")]
    assert fence_of(yard.world, host) == limits.FENCE_MS + limits.fence_margin_ms(limits.FENCE_MS)
    yard.apply(HostJoined(host_id=HostId("h1"), facts=facts("h1"), session=2))
    yard.apply(HostHeard(host_id=HostId("h1"), session=1))  # sent before the welcome of the second session
    assert host.record.fence_ms == limits.FENCE_MS
    yard.apply(HostHeard(host_id=HostId("h1"), session=2))
    assert host.record.fence_ms == fence_ms
    assert fence_of(yard.world, host) == fence_ms + limits.fence_margin_ms(fence_ms)


def test_a_fence_that_was_made_longer_counts_at_once(yard: Yard):
    """Whether a leader that told it has stored that or not; never is the longest."""
    host = yard.world.hosts[HostId("h1")]
    yard.world.fence_ms = 2 * limits.FENCE_MS
    assert fence_of(yard.world, host) == 2 * limits.FENCE_MS + limits.fence_margin_ms(2 * limits.FENCE_MS)
    yard.world.fence_ms = 0
    assert fence_of(yard.world, host) == 0
    yard.apply(HostJoined(host_id=HostId("h1"), facts=facts("h1"), session=2))
    yard.world.fence_ms = limits.FENCE_MS
    assert fence_of(yard.world, host) == 0  # its agent was told so


def test_without_a_fence_a_silent_host_is_given_up_by_an_operator_alone(yard: Yard):
    yard.world.fence_ms = 0
    job = yard.submit(retry=RetryStrategy(attempts=2))
    yard.plan()
    yard.apply(HostLeft(host_id=HostId("h1"), session=1))
    yard.now = Instant(wall_ms=1_000, boot_ms=100 * limits.FENCE_MS)
    yard.apply(Ticked())
    assert job.state is JobState.STARTING
    yard.apply(HostRemoved(host_id=HostId("h1")))
    assert job.state is JobState.RUNNABLE


def test_leaving_of_a_replaced_session_means_nothing(yard: Yard):
    """The end of an old stream does not take a host away that has joined again."""
    yard.host("h1", session=2)
    yard.apply(HostLeft(host_id=HostId("h1"), session=1))
    yard.submit()
    assert len(yard.plan()) == 1
