"""A host that fails every start beside one that does not: real agents, processes and engines."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.agent.runtimes.engine import ensure_image
from tests.agent.runtimes.own_engine import own_engine
from tests.disks import mounted
from tests.e2e.programs import until
from tests.e2e.yard import Yard, host_named

from batchyard import Client, JobState, container, job_state
from batchyard.v1 import host_pb2
from batchyard.v1.job_pb2 import Job

pytestmark = pytest.mark.timeout(120)

JOBS = 40
FAILURES_MAX = 3


def run_jobs(client: Client, *, image: str = "") -> list[Job]:
    """Run forty jobs with one attempt each, none of which may fail; return them."""
    what = container(["sleep", "0.5"], image=image, memory=32)  # long enough for one host to be full
    ids = [client.submit_job(name=f"job-{n}", container=what, attempts=1).job_id for n in range(JOBS)]
    jobs = client.wait_all(ids, timeout_s=90)
    assert [job_state(job) for job in jobs] == [JobState.SUCCEEDED] * JOBS
    return jobs


def check_failures(client: Client, jobs: Sequence[Job], said: str) -> None:
    """Assert that the bad host was tried three times at most, for the reason expected, and is named if so often."""
    failed = [attempt for job in jobs for attempt in job.attempts if attempt.host_name == "bad"]
    assert 1 <= len(failed) <= FAILURES_MAX
    assert all(said in attempt.reason for attempt in failed), [attempt.reason for attempt in failed]
    host = host_named(client, "bad")
    if len(failed) == FAILURES_MAX:
        # Who cannot open a file may lose its connection, too.
        assert host.state in (host_pb2.HOST_STATE_SUSPECTED, host_pb2.HOST_STATE_UNREACHABLE)
        assert said in host.suspicion


def test_host_without_descriptors_is_no_black_hole(yard: Yard) -> None:
    yard.start("good", "bad", cpus=8)
    bad = yard.agents["bad"]
    used = len(list(Path(f"/proc/{bad.pid}/fd").iterdir()))
    resource.prlimit(bad.pid, resource.RLIMIT_NOFILE, (used // 2, used))
    with yard.client() as client:
        check_failures(client, run_jobs(client), "Too many open files")


def test_host_without_disk_is_no_black_hole(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a floor of free space it takes work, and has no room for as much as a folder to do it in."""
    monkeypatch.setenv("BATCHYARD_AGENT_KEEP_FREE", "0M")
    scratch = yard.state_dir("bad").with_name("agent-bad-scratch")
    with mounted(scratch, 48, inodes=1), yard.client() as client:
        yard.start("good", "bad", cpus=8)
        check_failures(client, run_jobs(client), "No space left on device")


def test_host_below_its_floor_of_free_space_is_not_tried(yard: Yard) -> None:
    with mounted(yard.state_dir("bad"), 48), yard.client() as client:
        yard.start("good", "bad", cpus=8)
        jobs = run_jobs(client)
        assert {attempt.host_name for job in jobs for attempt in job.attempts} == {"good"}
        assert list(host_named(client, "bad").facts.faults) == ["less than 256 MiB are free on a disk of the agent's"]


@pytest.mark.docker
@pytest.mark.netns
def test_host_without_the_image_is_no_black_hole(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    image = ensure_image()
    with own_engine() as engine, engine.running(), yard.client() as client:
        yard.add_agent("bad", cpus=8, runtimes="docker")
        yard.start("good", cpus=8, runtimes="docker")
        monkeypatch.setenv("DOCKER_HOST", engine.address)
        yard.agents["bad"].start()
        until(lambda: yard.is_ready(client, "good", "bad"), "both hosts are ready")
        check_failures(client, run_jobs(client, image=image), "CannotPullContainerError")
