"""What docs/jobs.md says of jobs and surprises: each sentence beside the behaviour."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Run
from tests.sdk.host import Host
from tests.sdk.yard import Yard

from batchyard.states import JobState
from batchyard.wording import job_state

PAGE = (Path(__file__).parents[2] / "docs" / "jobs.md").read_text()


def test_after_failure_starts_when_the_first_was_cancelled_while_it_waited(run: Run, yard: Yard) -> None:
    assert "also one that was cancelled while it waited and never ran: what stands `AFTER_FAILURE` of it" in PAGE
    waiting = run("submit", "--depends-on", yard.submit(), "--", "true").out.strip()
    mend = run("submit", "--depends-on", f"{waiting},after_failure", "--", "true").out.strip()
    assert job_state(yard.client.describe_job(mend)) is JobState.PENDING
    run("cancel", waiting)
    assert job_state(yard.client.describe_job(mend)) is JobState.RUNNABLE


def test_a_start_by_the_hosts_clock_may_precede_the_submission(run: Run, yard: Yard) -> None:
    assert "where clocks differ, `started_at_ms` may lie before `created_at_ms`" in PAGE

    async def ends(host: Host) -> None:
        await host.run(0)  # its clock is near 1970

    job_id = run("submit", "--", "true").out.strip()
    assert run("wait", job_id, meanwhile=ends).code == 0
    job = yard.client.describe_job(job_id)
    assert 0 < job.attempts[0].started_at_ms < job.created_at_ms


def test_an_empty_variable_is_kept(run: Run, yard: Yard) -> None:
    assert "an empty value is kept: the variable is there and empty (AWS drops it)" in PAGE
    job_id = run("submit", "--env", "EMPTY=", "--", "true").out.strip()
    assert dict(yard.client.describe_job(job_id).container.environment) == {"EMPTY": ""}
