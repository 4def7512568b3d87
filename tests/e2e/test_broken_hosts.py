"""A host that fails every start beside one that does not: real agents, real processes."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
from tests.e2e.yard import Yard, host_named

from batchyard import JobState, container, job_state
from batchyard.v1 import host_pb2

pytestmark = pytest.mark.timeout(120)

JOBS = 40
FAILURES_MAX = 3


def test_host_without_descriptors_is_no_black_hole(yard: Yard) -> None:
    """Forty jobs with one attempt each: none fails, the bad host is tried three times at most, and is named."""
    yard.start("good", "bad", cpus=8)
    (bad,) = [program for program in yard.programs() if program.name == "agent bad"]
    used = len(list(Path(f"/proc/{bad.pid}/fd").iterdir()))
    resource.prlimit(bad.pid, resource.RLIMIT_NOFILE, (used // 2, used))
    with yard.client() as client:
        ids = [
            client.submit_job(name=f"job-{n}", container=container(["true"], memory=32), attempts=1).job_id
            for n in range(JOBS)
        ]
        jobs = client.wait_all(ids, timeout_s=60)
        assert [job_state(job) for job in jobs] == [JobState.SUCCEEDED] * JOBS
        failed = [attempt for job in jobs for attempt in job.attempts if attempt.host_name == "bad"]
        assert 1 <= len(failed) <= FAILURES_MAX
        assert all("Too many open files" in attempt.reason for attempt in failed)
        host = host_named(client, "bad")
        if len(failed) == FAILURES_MAX:
            assert host.state == host_pb2.HOST_STATE_SUSPECTED
            assert "Too many open files" in host.suspicion
