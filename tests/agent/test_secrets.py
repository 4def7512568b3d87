"""Secrets on their way to an attempt: asked for at its launch, in memory alone, over whatever session there is."""

from __future__ import annotations

from typing import Any

import pytest

from batchyard.v1 import agent_pb2, attempt_pb2, job_definition_pb2
from batchyard_agent import clock, convert, driver
from batchyard_agent.runtimes.fake import FakeRuntime
from batchyard_agent.runtimes.protocol import Adoption

from .runtimes.process_attempts import until
from .session_controller import ENDED, EPOCH, RUNNING, serving
from .test_session import Agent, spec

VALUE = "hunter2-canary"
UNABLE = "ResourceInitializationError: unable to pull secrets: "


class WatchedRuntime(FakeRuntime):
    """A fake runtime whose launches a test can look at."""

    def __init__(self) -> None:
        super().__init__(now_ms=clock.read_wall_ms)
        self.launches = []

    def launch(self, spec) -> None:
        self.launches.append(spec)
        super().launch(spec)


class ForgetfulRuntime(WatchedRuntime):
    """One that knows for sure what it has never launched, as those with records do."""

    async def adopt(self, spec):
        return Adoption.NOT_LAUNCHED


@pytest.fixture
async def controller():
    async with serving() as controller:
        yield controller


@pytest.fixture
async def agent(tmp_path, controller):
    async with Agent(tmp_path / "state", controller.target, WatchedRuntime()).at_work() as agent:
        yield agent


def asking(attempt_id="job-a#1") -> agent_pb2.AttemptSpec:
    wanted = spec(attempt_id, lasts="60")
    wanted.container.secrets.append(job_definition_pb2.Secret(name="DB", value_from="db"))
    return wanted


async def tell(stream, attempt_id="job-a#1", epoch=EPOCH, **fields: Any) -> None:
    await stream.send(epoch, secret_values=agent_pb2.SecretValues(attempt_id=attempt_id, **fields))


async def test_attempt_starts_with_its_secrets_and_they_are_kept_nowhere(agent, controller, tmp_path):
    stream = await controller.streams.get()
    await stream.welcome()
    await stream.start(asking())
    assert await stream.secrets_request() == "job-a#1"
    assert agent.runtime.launches == []
    await tell(stream, values={"DB": VALUE})
    await stream.until("job-a#1", RUNNING)
    (launched,) = agent.runtime.launches
    assert launched.secrets == {"DB": VALUE}
    assert "canary" not in repr(launched)
    assert "canary" not in repr(agent.table)
    await agent.driver.settle()
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"canary" in path.read_bytes()]


async def test_attempt_without_secrets_asks_for_none(agent, controller):
    stream = await controller.streams.get()
    await stream.welcome()
    await stream.start(spec())
    await stream.until("job-a#1", ENDED)
    assert agent.runtime.launches[0].secrets == {}


async def test_attempt_whose_secrets_are_refused_never_starts(agent, controller):
    stream = await controller.streams.get()
    await stream.welcome()
    await stream.start(asking())
    await stream.secrets_request()
    await tell(stream, error="secret 'db' not found")
    report = await stream.until("job-a#1", ENDED)
    assert (report.cause, report.reason) == (attempt_pb2.END_CAUSE_START_FAILED, UNABLE + "secret 'db' not found")
    assert agent.runtime.launches == []


async def test_lost_session_loses_no_launch(agent, controller):
    stream = await controller.streams.get()
    await stream.welcome()
    await stream.start(asking())
    await stream.secrets_request()
    stream.ended.set()
    second = await controller.streams.get()
    await second.welcome(EPOCH + 1)
    assert await second.secrets_request() == "job-a#1"
    await tell(second, epoch=EPOCH + 1, values={"DB": VALUE})
    await second.until("job-a#1", RUNNING)
    assert len(agent.runtime.launches) == 1


@pytest.mark.parametrize("grace_s", [30, 0])
async def test_attempt_that_is_stopped_while_it_waits_never_starts(agent, controller, grace_s):
    stream = await controller.streams.get()
    await stream.welcome()
    await stream.start(asking())
    await stream.secrets_request()
    if grace_s:
        await stream.send(stop=agent_pb2.StopAttempt(attempt_id="job-a#1", grace_s=grace_s))
    else:
        await stream.send(revoke=agent_pb2.RevokeAttempt(attempt_id="job-a#1"))
    report = await stream.until("job-a#1", ENDED)
    assert (report.cause, report.reason) == (attempt_pb2.END_CAUSE_STOPPED, "Stopped before it started")
    await tell(stream, values={"DB": VALUE})  # too late
    await stream.start(spec("job-b#1"))
    await stream.until("job-b#1", ENDED)
    assert [launch.attempt_id for launch in agent.runtime.launches] == ["job-b#1"]


async def test_next_agent_asks_again_for_what_was_journalled_and_never_launched(tmp_path, controller):
    async with Agent(tmp_path / "state", controller.target, WatchedRuntime()).at_work():
        stream = await controller.streams.get()
        await stream.welcome()
        await stream.start(asking())
        await stream.secrets_request()
    async with Agent(tmp_path / "state", controller.target, ForgetfulRuntime()).at_work() as heir:
        stream = await controller.streams.get()
        await stream.welcome()
        assert await stream.secrets_request() == "job-a#1"
        await tell(stream, values={"DB": VALUE})
        await stream.until("job-a#1", RUNNING)
        assert [launch.secrets for launch in heir.runtime.launches] == [{"DB": VALUE}]


# Of several: what a next agent starts needs its secrets again.


class RememberingRuntime(WatchedRuntime):
    """One that knows of all that it is asked about, as a former agent launched it."""

    async def adopt(self, spec):
        self.launches.append(spec)
        return Adoption.KNOWN


def asking_for_two() -> agent_pb2.AttemptSpec:
    wanted = agent_pb2.AttemptSpec(attempt_id="job-a#1", job_id="job-a")
    for name in ("init", "main"):
        part = wanted.task.containers.add(name=name, image="fake://", command=["work"], essential=name == "main")
        part.secrets.append(job_definition_pb2.Secret(name="DB", value_from="db"))
    return wanted


def told(launch) -> dict[str, dict[str, str]]:
    return {part.part: part.secrets for part in launch.parts}


async def journalled(tmp_path, controller) -> None:
    """Let an agent accept the attempt, and die before it is told the secrets."""
    async with Agent(tmp_path / "state", controller.target, WatchedRuntime()).at_work():
        stream = await controller.streams.get()
        await stream.welcome()
        await stream.start(asking_for_two())
        await stream.secrets_request()


@pytest.mark.parametrize("is_refused", [False, True])
async def test_what_is_adopted_of_several_has_its_secrets_again_or_none(
    tmp_path, controller, monkeypatch: pytest.MonkeyPatch, is_refused: bool
):
    monkeypatch.setattr(convert, "_refusal", lambda _: "")  # of tasks of no real runtime
    await journalled(tmp_path, controller)
    async with Agent(tmp_path / "state", controller.target, RememberingRuntime()).at_work() as heir:
        stream = await controller.streams.get()
        await stream.welcome()
        assert await stream.secrets_request() == "job-a#1"
        assert heir.runtime.launches == []
        if is_refused:
            await tell(stream, error="secret 'db' not found")
        else:
            values = {name: agent_pb2.ContainerSecrets(values={"DB": name}) for name in ("init", "main")}
            await tell(stream, containers=values)
        await until(lambda: heir.runtime.launches)
        found = {} if is_refused else {"init": {"DB": "init"}, "main": {"DB": "main"}}
        assert told(heir.runtime.launches[0]) == {"init": {}, "main": {}} | found


async def test_what_is_adopted_of_several_does_not_wait_for_ever(tmp_path, controller, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(convert, "_refusal", lambda _: "")
    monkeypatch.setattr(driver, "RECALL_LIMIT_S", 0.1)
    await journalled(tmp_path, controller)
    async with Agent(tmp_path / "state", controller.target, RememberingRuntime()).at_work() as heir:
        stream = await controller.streams.get()
        await stream.welcome()
        assert await stream.secrets_request() == "job-a#1"
        await until(lambda: heir.runtime.launches)
        assert told(heir.runtime.launches[0]) == {"init": {}, "main": {}}
