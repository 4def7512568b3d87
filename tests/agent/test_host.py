"""What a host says it has and does."""

from __future__ import annotations

from batchyard_agent import clock
from batchyard_agent.config import Config
from batchyard_agent.host import LocalHost
from batchyard_agent.runtimes.fake import FakeRuntime


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
