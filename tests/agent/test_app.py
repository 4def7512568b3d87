"""The agent put together, with the fake runtime and without a controller."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path

import pytest

from batchyard.ids import AttemptId
from batchyard.security import SecurityLevel as Level
from batchyard.v1 import agent_pb2
from batchyard.v1.job_definition_pb2 import ContainerProperties
from batchyard_agent import app, clock
from batchyard_agent.config import Config
from batchyard_agent.journal import Journal
from batchyard_agent.probe import reclaim
from batchyard_agent.runtimes.fake import FakeRuntime
from batchyard_agent.runtimes.protocol import Exited, RuntimeUnavailableError
from batchyard_agent.standing import Standing

from .runtimes.engine import Seen, container_spec, named, scope
from .session_controller import RUNNING, serving

__all__ = ["scope"]


class SilentAtFirst(FakeRuntime):
    """Opens, cannot be asked at first, and holds what a former agent left; each opening is a new one."""

    failures = 1
    asked = 0
    discarded: asyncio.Future[str]

    def __init__(self, **_: object) -> None:
        super().__init__(now_ms=clock.read_wall_ms)

    async def launched(self) -> list[str]:
        SilentAtFirst.asked += 1
        if SilentAtFirst.asked <= SilentAtFirst.failures:
            raise RuntimeUnavailableError("the engine does not answer just now")
        return ["stranger#1"]

    async def discard(self, attempt_id: str) -> None:
        SilentAtFirst.discarded.set_result(attempt_id)


def standing_of(config: Config) -> Standing:
    return Standing(config.applicant, None, clock.read_wall_ms, lambda: 0.0)


@contextlib.asynccontextmanager
async def at_work(config: Config):
    journal, stop = Journal.open(config.state_dir, "host-1"), asyncio.Event()
    agent = app.Agent(config, journal, standing_of(config))
    running = asyncio.create_task(agent.run(stop))
    try:
        yield agent
    finally:
        stop.set()
        await running
        journal.close()


async def test_a_runtime_is_offered_once_it_has_said_what_it_holds(tmp_path, monkeypatch):
    """Also one that was asked for by name: it is asked again, and what it holds killed before anything starts."""
    monkeypatch.setattr(app, "FakeRuntime", SilentAtFirst)
    monkeypatch.setattr(app, "REOPEN_S", 0.01)
    SilentAtFirst.asked = 0
    SilentAtFirst.discarded = asyncio.get_running_loop().create_future()
    config = Config(controller="127.0.0.1:1", state_dir=tmp_path / "state", name="alpha", runtimes=("fake",))
    async with at_work(config) as agent:
        while not SilentAtFirst.asked:
            await asyncio.sleep(0)
        assert "fake" not in agent._driver.runtimes
        assert await SilentAtFirst.discarded == "stranger#1"
        assert "fake" in agent._driver.runtimes


async def test_working_folders_of_the_former_version_are_removed(tmp_path):
    config = Config(controller="127.0.0.1:1", state_dir=tmp_path / "state", name="alpha", runtimes=("fake",))
    former = config.state_dir / "process" / "scratch"
    former.parent.mkdir(parents=True)
    config.state_dir.chmod(0o700)
    (former / "gone").mkdir(parents=True)
    async with at_work(config):
        while former.exists():  # a thread of the agent's removes it
            await asyncio.sleep(0.01)


async def test_a_host_is_stricter_than_what_its_controller_says(tmp_path, monkeypatch):
    """Of what it is told to start, too, and not only of what it finds in its journal."""
    monkeypatch.setattr(app, "keeps_levels", lambda _: True)
    config = Config(
        controller="", state_dir=tmp_path / "state", name="alpha", runtimes=("fake",), security_level=Level.BASELINE
    )
    async with serving() as controller, at_work(replace(config, controller=controller.target)) as agent:
        stream = await controller.streams.get()
        await stream.welcome()
        work = ContainerProperties(image="fake://", command=["sleep", "600"])
        await stream.start(agent_pb2.AttemptSpec(attempt_id="a#1", job_id="a", container=work))
        await stream.until("a#1", RUNNING)
        spec = agent._table.attempts[AttemptId("a#1")].spec
        assert spec.launch.security_level is Level.BASELINE


async def test_an_agent_begins_with_the_notice_that_is_there(tmp_path, monkeypatch):
    """Also one that was started again; what runs is stopped in time. Taken back, it is told with a heartbeat."""
    monkeypatch.setattr(reclaim, "LOOK_S", 0.01)
    notice = tmp_path / "reclaim"
    notice.write_text("2126-01-31T12:00:00Z")
    async with serving() as controller:
        config = Config(
            controller=controller.target,
            state_dir=tmp_path / "state",
            name="alpha",
            runtimes=("fake",),
            reclaim_file=notice,
        )
        async with at_work(config) as agent:
            stream = await controller.streams.get()
            hello = await stream.welcome()
            assert hello.facts.reclaimed_at_ms == 4_925_534_400_000
            await agent._driver.settle()
            assert agent._table.next_due_ms is not None
            notice.unlink()
            while not any(b.HasField("facts") and not b.facts.reclaimed_at_ms for b in stream.heartbeats):
                await asyncio.sleep(0.01)
            assert agent._table.reclaim_at_ms is None


@pytest.mark.docker
@pytest.mark.parametrize("network", ["host", "none"])
async def test_containers_are_on_the_network_that_the_operator_chose(tmp_path, scope, network):
    """The host's own is the one that we are on; on none there is loopback alone."""
    config = Config(controller="127.0.0.1:1", state_dir=tmp_path / "state", name="alpha", container_network=network)
    journal = Journal.open(config.state_dir, scope)
    runtime, seen = app.Agent(config, journal, standing_of(config))._make_runtime("docker"), Seen()
    await runtime.open(seen)
    look = "busybox readlink /proc/self/ns/net; cat /proc/net/dev"
    spec = container_spec(tmp_path, named(network), "sh", "-c", look)
    runtime.launch(spec)
    assert isinstance(await seen.end_of(spec.attempt_id), Exited)
    await runtime.close()
    journal.close()
    found, *table = spec.log_path.read_text().splitlines()
    if network == "host":
        assert found == str(Path("/proc/self/ns/net").readlink())
    else:
        assert [line.partition(":")[0].strip() for line in table if ":" in line] == ["lo"]
