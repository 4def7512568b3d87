"""What users are told of a job's times, tries and stops."""

from __future__ import annotations

import pytest
from tests.core.yard import Yard

from batchyard.ids import AttemptId
from batchyard.states import EndCause, JobState
from batchyard_controller.core.attempt_reports import Phase, Report
from batchyard_controller.core.jobs.ends import has_succeeded
from batchyard_controller.core.model.attempts import AttemptEnd
from batchyard_controller.core.model.dependencies import Dependency, DependencyType
from batchyard_controller.core.model.jobs import RetryStrategy
from batchyard_controller.core.views import history


def span(yard: Yard, job_id: str) -> tuple[int, int]:
    return history.span(yard.world, yard.unit(job_id))


def stops(yard: Yard, job_id: str) -> tuple[bool, bool]:
    """Return whether a unit was cancelled, and whether terminated."""
    return history.is_cancelled(yard.unit(job_id)), history.is_terminated(yard.unit(job_id))


def fail_to_start(yard: Yard, attempt_id: str) -> None:
    end = AttemptEnd(cause=EndCause.START_FAILED, stopped_at_ms=9_000, reason="CannotPullContainerError: no such image")
    yard.report(Report(attempt_id=AttemptId(attempt_id), phase=Phase.ENDED, end=end))


def test_a_job_has_its_times_once_it_ran(yard: Yard):
    """Started with RUNNING, stopped with the end, and nothing before."""
    job = yard.submit()
    assert span(yard, job.id) == (0, 0)
    yard.plan()
    assert span(yard, job.id) == (0, 0)
    yard.started(f"{job.id}#1", at_ms=2_000)
    assert span(yard, job.id) == (2_000, 0)
    yard.ended(f"{job.id}#1")
    assert span(yard, job.id) == (2_000, 3_000)


def test_a_job_that_never_ran_has_no_times(yard: Yard):
    """Its try has: that it was stopped, and why."""
    job = yard.submit()
    yard.plan()
    fail_to_start(yard, f"{job.id}#1")
    assert (job.state, yard.reason(job.id)) == (JobState.FAILED, "Task failed to start")
    assert span(yard, job.id) == (0, 0)
    (attempt,) = job.attempts
    assert (attempt.started_at_ms, attempt.stopped_at_ms, attempt.reason) == (
        0,
        9_000,
        "CannotPullContainerError: no such image",
    )


def test_a_last_try_that_did_not_start_does_not_hide_that_the_job_ran(yard: Yard):
    """Started is when it last came to RUNNING."""
    job = yard.submit(retry=RetryStrategy(attempts=2))
    yard.plan()
    yard.started(f"{job.id}#1", at_ms=2_000)
    yard.ended(f"{job.id}#1", exit_code=1)
    yard.plan()
    fail_to_start(yard, f"{job.id}#2")
    assert span(yard, job.id) == (2_000, 9_000)


def test_an_array_has_the_times_of_its_children(yard: Yard):
    """From the first start to the last end; none if no child ran."""
    ran, never = yard.submit(array_size=2), yard.submit(array_size=2)
    yard.cancel(never.id)
    yard.plan()
    yard.started(f"{ran.id}:1#1", at_ms=2_500)
    yard.run_all()
    assert span(yard, ran.id) == (2_500, yard.now.wall_ms)
    assert (never.state, span(yard, never.id)) == (JobState.FAILED, (0, 0))


@pytest.mark.parametrize("cause", [EndCause.TIMED_OUT, EndCause.STOPPED])
def test_a_try_that_was_stopped_failed_though_it_exits_with_0(yard: Yard, cause: EndCause):
    """A program may end well on SIGTERM; it was not done."""
    job = yard.submit()
    yard.plan()
    if cause is EndCause.STOPPED:
        yard.terminate(job.id)
    yard.ended(f"{job.id}#1", exit_code=0, cause=cause)
    (attempt,) = job.attempts
    assert (job.state, attempt.exit_code, has_succeeded(attempt)) == (JobState.FAILED, 0, False)


def test_cancelling_an_array_cancels_the_children_that_wait(yard: Yard):
    """Those that had started go on and end by themselves; they were not cancelled."""
    array = yard.submit(array_size=6)
    yard.plan()
    yard.ended(f"{array.id}:0#1")
    yard.cancel(array.id)
    yard.ended(f"{array.id}:1#1", exit_code=3)
    yard.terminate(f"{array.id}:2", "too slow")
    yard.ended(f"{array.id}:2#1", exit_code=143, cause=EndCause.STOPPED)
    assert [stops(yard, f"{array.id}:{i}") for i in range(6)] == [
        (False, False),
        (False, False),
        (False, True),
        (False, False),
        (True, False),
        (True, False),
    ]
    assert stops(yard, array.id) == (True, False)


def test_terminating_an_array_terminates_the_children_that_had_not_ended(yard: Yard):
    """Both those that run and those that wait."""
    array = yard.submit(array_size=6)
    yard.plan()
    yard.ended(f"{array.id}:0#1")
    yard.ended(f"{array.id}:1#1", exit_code=3)
    yard.cancel(f"{array.id}:5")
    yard.terminate(array.id)
    assert [stops(yard, f"{array.id}:{i}") for i in range(6)] == [
        (False, False),
        (False, False),
        (False, True),
        (False, True),
        (False, True),
        (True, False),
    ]
    assert stops(yard, array.id) == (False, True)


def test_a_child_that_failed_with_its_dependency_was_not_cancelled(yard: Yard):
    """Also when its siblings were."""
    first = yard.submit(array_size=2)
    yard.plan()
    second = yard.submit(array_size=2, depends_on=(Dependency(job_id=first.id, type=DependencyType.N_TO_N),))
    yard.ended(f"{first.id}:0#1", exit_code=1)
    yard.cancel(second.id)
    assert [stops(yard, f"{second.id}:{i}") for i in (0, 1)] == [(False, False), (True, False)]
