"""An engine that is restarted together with the agent, so that nobody sees it go."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from batchyard_agent.runtimes.docker import DockerRuntime
from batchyard_agent.runtimes.docker_engine import RESTART_MS_MAX, EngineInfo
from batchyard_agent.runtimes.protocol import Adoption, Exited

from .engine import Seen, busybox_tar, container_spec, named
from .own_engine import OwnEngine, own_engine
from .process_attempts import until


@pytest.fixture
def engine() -> Iterator[OwnEngine]:
    with own_engine() as made:
        yield made


@pytest.mark.docker
@pytest.mark.netns
@pytest.mark.timeout(180)
async def test_what_an_engine_ended_before_agent_and_engine_came_back_is_no_fault_of_the_job(
    engine: OwnEngine, tmp_path: Path
) -> None:
    """A job's own code is told as it is all the same."""
    specs = [
        container_spec(tmp_path, named("restart-signal"), "sleep", "600"),
        container_spec(tmp_path, named("restart-code"), "sh", "-c", "trap 'exit 9' TERM; echo set; sleep 600 & wait"),
    ]
    trap_log = specs[1].log_path
    with engine.running():
        with contextlib.closing(docker.APIClient(base_url=engine.address)) as api:
            api.import_image_from_data(busybox_tar("/bin/busybox"), repository="busybox", tag="latest")
        former, seen = DockerRuntime("scope", address=engine.address, network="none"), Seen()
        await former.open(seen)
        for spec in specs:
            former.launch(spec)
            await seen.start_of(spec.attempt_id)
        await until(lambda: trap_log.exists() and trap_log.read_text() == "set\n")
        await former.close()
    with engine.running():
        runtime, seen = DockerRuntime("scope", address=engine.address, network="none"), Seen()
        await runtime.open(seen)
        ends = []
        for spec in specs:
            assert await runtime.adopt(spec) is Adoption.KNOWN
            ends.append(await seen.end_of(spec.attempt_id))
            assert not await runtime.remove([spec.attempt_id])
        await runtime.close()
    assert [(end.exit_code, end.host_failed) for end in ends if isinstance(end, Exited)] == [(143, True), (9, False)]


def test_an_engine_stops_shortly_before_it_is_started_again() -> None:
    info = EngineInfo(cpu_count=1, clock_s=0, started_at_ms=1_000_000)
    times = (1_000_000 - RESTART_MS_MAX - 1, 1_000_000 - RESTART_MS_MAX, 999_999, 1_000_001)
    assert [info.was_restarting(at_ms) for at_ms in times] == [False, True, True, False]
    assert not EngineInfo(cpu_count=1, clock_s=0).was_restarting(0)
