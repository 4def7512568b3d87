"""What a host says it has and does."""

from __future__ import annotations

import pytest
from tests.agent.runtimes.process_attempts import runtime as process_runtime

from batchyard.features import FEATURES
from batchyard_agent import clock
from batchyard_agent.config import Config
from batchyard_agent.host import LocalHost
from batchyard_agent.runtimes.fake import FakeRuntime
from batchyard_agent.runtimes.job_user import JobUser


async def test_the_disk_that_is_offered_is_the_one_that_processes_work_on(tmp_path, small_disk):
    """That of containers is the state folder's, as no job of theirs is held to an amount."""
    config = Config(controller="127.0.0.1:1", state_dir=tmp_path, name="alpha", scratch_dir=small_disk)
    runtime = FakeRuntime(now_ms=clock.read_wall_ms)
    disks, usages = [], []
    for runtimes in ({"process": runtime}, {"docker": runtime}):
        host = LocalHost(config, runtimes, lambda _: None)
        disks.append(host.facts().capacity.disk_mib)
        usages.append((await host.read_usage()).disk_free_mib)
        host.close()
    assert (disks[0], usages[0]) == (16, 16)
    assert disks[1] > 16
    assert usages[1] > 16


async def test_a_runtime_that_does_not_answer_is_not_offered_and_named(tmp_path):
    """From the next heartbeat on, and until the first in which it answers again."""
    config = Config(controller="127.0.0.1:1", state_dir=tmp_path, name="alpha")
    docker, process = (FakeRuntime(now_ms=clock.read_wall_ms) for _ in range(2))
    host = LocalHost(config, {"docker": docker, "process": process}, lambda _: None)
    told = []
    for fault in ("", "the Docker Engine does not answer", ""):
        docker.fault = fault
        await host.read_usage()
        told.append((list(host.facts().runtimes), list(host.facts().faults)))
    host.close()
    well = (["docker", "process"], [])
    assert told == [well, (["process"], ["the Docker Engine does not answer"]), well]


async def test_a_host_tells_what_its_clock_says(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """The controller compares it with its own; of a moment that is long gone it would be wrong."""
    config = Config(controller="127.0.0.1:1", state_dir=tmp_path, name="alpha")
    host = LocalHost(config, {}, lambda _: None)
    monkeypatch.setattr(clock, "read_wall_ms", lambda: 1_700_000_000_123)
    assert (await host.read_usage()).wall_ms == 1_700_000_000_123
    host.close()


async def test_a_host_that_is_taken_away_says_when(tmp_path):
    """From the moment on that it is told, and after each reading."""
    host = LocalHost(Config(controller="127.0.0.1:1", state_dir=tmp_path, name="alpha"), {}, lambda _: None)
    host.announce(1_769_860_800_000)
    before = host.facts()
    assert before.reclaimed_at_ms == 1_769_860_800_000
    await host.read_usage()
    assert host.facts() == before
    host.announce(0)
    assert host.facts().reclaimed_at_ms == 0
    host.close()


def test_a_host_tells_what_it_costs(tmp_path):
    config = Config(controller="127.0.0.1:1", state_dir=tmp_path, name="alpha", price_per_hour=0.25)
    host = LocalHost(config, {}, lambda _: None)
    assert host.facts().price_per_hour == 0.25
    host.close()


@pytest.mark.parametrize("is_apart", [False, True])
async def test_a_host_says_whether_processes_of_a_job_see_each_other(tmp_path, is_apart: bool):
    """Those of another user than the agent's have namespaces of their own, where the kernel gives them."""
    user = JobUser(name="nobody", uid=65534, gid=65534) if is_apart else None
    runtime = process_runtime(tmp_path, user=user)
    runtime._link.can_isolate = True
    host = LocalHost(Config(controller="127.0.0.1:1", state_dir=tmp_path, name="alpha"), {"process": runtime}, print)
    assert set(FEATURES) <= set(host.facts().features)
    assert ("shared-processes" in host.facts().features) is not is_apart
    host.close()
