"""
Driver and session against a real gRPC server that speaks the controller's side.

The controller here is a real ``AgentService`` servicer, driven by the test step
by step; journal, logs and fake runtime are the real ones.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import grpc
import pytest
import structlog

from batchyard.ids import AttemptId
from batchyard.v1 import agent_pb2, attempt_pb2, host_pb2, job_definition_pb2
from batchyard_agent import clock
from batchyard_agent.convert import spec_from
from batchyard_agent.core.attempts import Phase, Table
from batchyard_agent.core.events import HostChanged, Recovered
from batchyard_agent.driver import Driver
from batchyard_agent.journal import Journal
from batchyard_agent.logs import Logs
from batchyard_agent.runtimes.fake import FakeRuntime
from batchyard_agent.runtimes.protocol import Adoption, LaunchSpec, StopSignal
from batchyard_agent.session import CHANNEL_OPTIONS, UNTOLD, Identity, Session, Sessions

from .core.builders import SESSION, start
from .session_controller import ENDED, EPOCH, RUNNING, serving

FACTS = host_pb2.HostFacts(name="host", runtimes=["fake"])
USAGE = host_pb2.HostUsage(cpu_percent=5)


class StillHost:
    """A host that never changes, unless the test changes it."""

    def __init__(self) -> None:
        self.now = FACTS

    def facts(self):
        return self.now

    async def read_usage(self):
        return USAGE


class Agent:
    """Driver, journal, logs, fake runtime and sessions in one folder."""

    def __init__(self, folder, target, runtime=None, nonce="n", read_now=clock.read_now) -> None:
        self.journal = Journal.open(folder, "host-1")
        meta = self.journal.load_meta()
        self.table = Table(meta=meta, contact_saved_ms=meta.contact_ms)
        self.logs = Logs(folder / "logs", phase_of=self._phase_of)
        for attempt in self.journal.load_attempts(self._decode):
            self.table.restore(attempt)
        self.driver = Driver(table=self.table, journal=self.journal, read_now=clock.read_now)
        self.runtime = runtime or FakeRuntime(now_ms=clock.read_wall_ms)
        self.host = StillHost()
        self.sessions = Sessions(
            connect=lambda address: grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS),
            target=target,
            driver=self.driver,
            logs=self.logs,
            host=self.host,
            read_now=read_now,
            dice=lambda: 0.0,
            identity=Identity(nonce=nonce, machine_id="m"),
        )

    def _decode(self, wire):
        return spec_from(agent_pb2.AttemptSpec.FromString(wire), self.logs)

    def _phase_of(self, attempt_id):
        attempt = self.table.get(attempt_id)
        return attempt.phase if attempt else None

    @contextlib.asynccontextmanager
    async def at_work(self):
        await self.runtime.open(self.driver.observe)
        self.driver.runtimes["fake"] = self.runtime
        self.driver.observe(HostChanged(runtimes=frozenset({"fake"}), gpu_uuids=frozenset()))
        self.driver.observe(Recovered(boot_id="boot-1"))
        self.staying_in_touch = asyncio.create_task(self.sessions.run())
        tasks = [asyncio.create_task(self.driver.run()), self.staying_in_touch]
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            for ended in await asyncio.gather(*tasks, return_exceptions=True):
                assert isinstance(ended, asyncio.CancelledError), ended
            await self.runtime.close()
            self.journal.close()


@pytest.fixture
async def controller():
    async with serving() as controller:
        yield controller


@pytest.fixture
async def agent(tmp_path, controller):
    async with Agent(tmp_path / "state", controller.target).at_work() as agent:
        yield agent


def spec(attempt_id="job-a#1", *, lasts="0", exit_code=0, image="fake://", timeout_s=0) -> agent_pb2.AttemptSpec:
    environment = {"BATCHYARD_FAKE_DURATION_S": lasts, "BATCHYARD_FAKE_EXIT_CODE": str(exit_code)}
    container = job_definition_pb2.ContainerProperties(image=image, command=["work"], environment=environment)
    return agent_pb2.AttemptSpec(attempt_id=attempt_id, job_id="job-a", container=container, timeout_s=timeout_s)


async def test_an_attempt_from_start_to_tombstone(agent, controller):
    stream = await controller.streams.get()
    hello = await stream.welcome()
    assert (hello.host_id, hello.facts, list(hello.attempts)) == ("host-1", FACTS, [])
    await stream.start(spec(exit_code=3))
    report = await stream.until("job-a#1", ENDED)
    assert (report.exit_code, report.cause) == (3, attempt_pb2.END_CAUSE_EXITED)
    assert 0 < report.started_at_ms <= report.stopped_at_ms
    await stream.send(ack=agent_pb2.AckAttempts(attempt_ids=["job-a#1"]))
    await stream.start(spec())
    assert (await stream.until("job-a#1", ENDED)) == report
    assert agent.table.attempts == {}
    assert await agent.runtime.launched() == []


async def test_an_end_is_told_again_after_a_reconnect_until_it_is_acknowledged(agent, controller):
    stream = await controller.streams.get()
    await stream.welcome()
    await stream.start(spec())
    report = await stream.until("job-a#1", ENDED)
    stream.ended.set()
    second = await controller.streams.get()
    hello = await second.welcome(EPOCH + 1)
    assert list(hello.attempts) == [report]
    assert hello.epoch == EPOCH
    await second.send(EPOCH + 1, ack=agent_pb2.AckAttempts(attempt_ids=["job-a#1"]))
    await agent.driver.settle()
    while agent.table.attempts:
        await asyncio.sleep(0)
    second.ended.set()
    third = await controller.streams.get()
    assert list((await third.hello()).attempts) == []


async def test_a_session_that_ends_while_the_agent_stops_does_not_keep_it(agent, controller):
    """Not even when both happen in one turn of the loop."""
    stream = await controller.streams.get()
    await stream.welcome()
    await stream.start(spec())
    await stream.until("job-a#1", ENDED)  # so the session serves its stream
    agent.driver._session.leave("just now")
    agent.staying_in_touch.cancel()
    await asyncio.wait([agent.staying_in_touch], timeout=60)
    assert agent.staying_in_touch.cancelled()


async def test_what_ends_while_nobody_listens_is_in_the_next_hello(agent, controller):
    stream = await controller.streams.get()
    await stream.welcome()
    controller.refusal = grpc.StatusCode.UNAVAILABLE
    await stream.start(spec(lasts="0.05"))
    await stream.until("job-a#1", RUNNING)
    stream.ended.set()
    while agent.table.attempts[AttemptId("job-a#1")].phase is not Phase.ENDED:
        await asyncio.sleep(0.01)
    controller.refusal = None
    again = await controller.streams.get()
    assert [r.phase for r in (await again.hello()).attempts] == [ENDED]


async def test_stop_reaches_the_runtime(agent, controller):
    stream = await controller.streams.get()
    await stream.welcome()
    await stream.start(spec(lasts="3600"))
    await stream.until("job-a#1", RUNNING)
    await stream.send(stop=agent_pb2.StopAttempt(attempt_id="job-a#1"))
    report = await stream.until("job-a#1", ENDED)
    assert (report.cause, report.exit_code) == (attempt_pb2.END_CAUSE_STOPPED, 143)


async def test_revoke_forbids_a_start_for_ever(agent, controller, tmp_path):
    stream = await controller.streams.get()
    await stream.welcome()
    await stream.send(revoke=agent_pb2.RevokeAttempt(attempt_id="job-a#1"))
    report = await stream.until("job-a#1", ENDED)
    assert report.cause == attempt_pb2.END_CAUSE_STOPPED
    await stream.start(spec())
    assert await stream.until("job-a#1", ENDED) == report
    assert await agent.runtime.launched() == []


async def test_silence_kills_what_runs(agent, controller):
    """The controller goes on talking but acknowledges no heartbeat: the fence comes down."""
    stream = await controller.streams.get()
    controller.answers_heartbeats = False
    await stream.welcome(fence_ms=300)
    await stream.start(spec(lasts="3600"))
    report = await stream.until("job-a#1", ENDED)
    assert (report.cause, report.exit_code) == (attempt_pb2.END_CAUSE_FENCED, 137)


async def test_acknowledged_heartbeats_keep_attempts_alive(agent, controller):
    stream = await controller.streams.get()
    await stream.welcome(fence_ms=1_000)
    await stream.start(spec(lasts="1.5"))
    report = await stream.until("job-a#1", ENDED)
    assert report.cause == attempt_pb2.END_CAUSE_EXITED
    assert [h.sequence for h in stream.heartbeats] == list(range(1, len(stream.heartbeats) + 1))
    assert all(h.usage == USAGE and not h.HasField("facts") for h in stream.heartbeats)


async def test_changed_facts_go_out_once(agent, controller):
    stream = await controller.streams.get()
    await stream.welcome()
    agent.host.now = host_pb2.HostFacts(name="host", runtimes=["fake", "docker"])
    while sum(h.HasField("facts") for h in stream.heartbeats) == 0:
        await asyncio.sleep(0.01)
    seen = len(stream.heartbeats)
    while len(stream.heartbeats) < seen + 3:
        await asyncio.sleep(0.01)
    assert [h.facts for h in stream.heartbeats if h.HasField("facts")] == [agent.host.now]


async def test_a_deposed_leader_is_left(agent, controller):
    stream = await controller.streams.get()
    await stream.welcome(EPOCH)
    stream.ended.set()
    old = await controller.streams.get()
    await old.welcome(EPOCH - 1)
    with contextlib.suppress(grpc.aio.UsageError):  # the agent may have left already
        await old.start(spec(), epoch=EPOCH - 1)
    current = await controller.streams.get()
    assert list((await current.welcome(EPOCH)).attempts) == []
    assert agent.table.meta.epoch == EPOCH


async def test_of_several_controllers_the_agent_finds_the_one_that_leads(tmp_path, controller):
    async with serving() as standby:
        standby.refusal = grpc.StatusCode.UNAVAILABLE
        async with Agent(tmp_path / "state", f"{standby.target},{controller.target}").at_work():
            stream = await controller.streams.get()
            await stream.welcome()
            controller.refusal, standby.refusal = grpc.StatusCode.UNAVAILABLE, None
            stream.ended.set()
            await (await standby.streams.get()).welcome(EPOCH + 1)


async def test_a_silent_controller_is_left(tmp_path, controller, monkeypatch):
    monkeypatch.setattr("batchyard_agent.session.SILENCE_MIN_S", 0.2)
    async with Agent(tmp_path, controller.target).at_work():
        controller.answers_heartbeats = False
        await (await controller.streams.get()).welcome()
        await (await controller.streams.get()).hello()


async def test_a_controller_without_welcome_is_left(tmp_path, controller, monkeypatch):
    monkeypatch.setattr("batchyard_agent.session.WELCOME_TIMEOUT_S", 0.1)
    async with Agent(tmp_path, controller.target).at_work():
        await (await controller.streams.get()).hello()
        stream = await controller.streams.get()
        await stream.hello()
        await stream.send(ack=agent_pb2.AckAttempts())
        await (await controller.streams.get()).hello()


async def test_an_outage_is_one_line(tmp_path, controller):
    controller.refusal = grpc.StatusCode.FAILED_PRECONDITION
    with structlog.testing.capture_logs() as all_lines:
        async with Agent(tmp_path, controller.target).at_work():
            while controller.refused < 3:
                await asyncio.sleep(0.01)
            controller.refusal = None
            await (await controller.streams.get()).welcome()
            while all_lines[-1]["log_level"] != "info":
                await asyncio.sleep(0.01)
    lines = [line for line in all_lines if line["log_level"] != "debug"]
    *warnings, last = lines
    assert (last["log_level"], last["event"]) == ("info", "connected to the controller")
    assert {(line["log_level"], line["event"]) for line in warnings} == {("warning", "no controller; attempts go on")}
    # Each reason once; where a write met the end of the stream, grpc.aio has lost the reason.
    told = [line["reason"].replace(UNTOLD, "untold") for line in warnings]
    assert len(told) == len(set(told)) <= 2
    assert all(reason == "untold" or "not the leader" in reason for reason in told)


async def test_logs_are_read_over_the_session(agent, controller):
    stream = await controller.streams.get()
    await stream.welcome()
    agent.logs.path(AttemptId("job-a#1")).write_bytes(b"one\ntwo\n")
    await stream.start(spec(lasts="0.2"))
    await stream.send(log_read=agent_pb2.LogRead(read_id=1, attempt_id="job-a#1", tail_lines=1))
    assert await stream.log_slice() == agent_pb2.LogSlice(read_id=1, data=b"two\n", next_offset=8)
    await stream.send(log_read=agent_pb2.LogRead(read_id=2, attempt_id="job-a#1", offset=8, wait_ms=30_000))
    assert await stream.log_slice() == agent_pb2.LogSlice(read_id=2, next_offset=8, end=True)
    await stream.send(log_read=agent_pb2.LogRead(read_id=3, attempt_id="job-z#1"))
    assert (await stream.log_slice()).error == "this host has no log of attempt job-z#1"


async def test_a_log_may_be_asked_for_right_after_its_start(agent, controller):
    stream = await controller.streams.get()
    await stream.welcome()
    await stream.start(spec(lasts="3600"))
    await stream.send(log_read=agent_pb2.LogRead(read_id=1, attempt_id="job-a#1"))
    assert await stream.log_slice() == agent_pb2.LogSlice(read_id=1)


async def test_log_reads_are_bounded(agent, controller, monkeypatch):
    monkeypatch.setattr("batchyard_agent.session.LOG_READS_MAX", 1)
    stream = await controller.streams.get()
    await stream.welcome()
    await stream.start(spec(lasts="0.3"))
    for read_id in (1, 2):
        await stream.send(log_read=agent_pb2.LogRead(read_id=read_id, attempt_id="job-a#1", wait_ms=30_000))
    refused, answered = await stream.log_slice(), await stream.log_slice()
    assert (refused.read_id, refused.error) == (2, "this host answers 1 log reads at a time; try again")
    assert (answered.read_id, answered.error, answered.end) == (1, "", True)


async def test_what_cannot_be_launched_is_refused_by_name(agent, controller):
    stream = await controller.streams.get()
    await stream.welcome()
    asked = spec()
    asked.container.mount_points.add(source_volume="v", container_path="/v")
    await stream.start(asked)
    report = await stream.until("job-a#1", ENDED)
    assert report.cause == attempt_pb2.END_CAUSE_START_FAILED
    assert report.reason == "CannotStartContainerError: no volume is named 'v'"


async def test_a_thousand_attempts_come_and_go(agent, controller):
    """Batches both ways; everything is told, acknowledged and buried."""
    stream = await controller.streams.get()
    await stream.welcome()
    ids = {f"job-a:{index}#1" for index in range(1_000)}
    await stream.start(*(spec(attempt_id) for attempt_id in ids))
    ended = set()
    while ended < ids:
        message = await stream.inbox.get()
        over = [r.attempt_id for r in message.reports.reports if r.phase == ENDED]
        ended.update(over)
        await stream.send(ack=agent_pb2.AckAttempts(attempt_ids=over))
    while agent.table.attempts:
        await asyncio.sleep(0.01)
    assert set(agent.table.tombstones) == ids
    while await agent.runtime.launched():
        await asyncio.sleep(0.01)


class BreakingRuntime(FakeRuntime):
    """Breaks at the first launch, adoption and removal, as an engine that goes away does."""

    def __init__(self) -> None:
        super().__init__(now_ms=clock.read_wall_ms)
        self.broken = set()

    def _break_once(self, what) -> None:
        if what not in self.broken:
            self.broken.add(what)
            raise ConnectionError(f"no engine for {what}")

    def launch(self, spec: LaunchSpec) -> None:
        self._break_once("launch")
        super().launch(spec)

    async def adopt(self, spec: LaunchSpec) -> Adoption:
        self._break_once("adopt")
        return Adoption.NOT_LAUNCHED

    async def signal(self, attempt_id: str, signal: StopSignal) -> None:
        self._break_once("signal")
        await super().signal(attempt_id, signal)


async def test_a_runtime_that_breaks_fails_one_start_and_no_agent(tmp_path, controller, monkeypatch):
    monkeypatch.setattr("batchyard_agent.core.observations.RETRY_MS", 50)
    async with Agent(tmp_path, controller.target, BreakingRuntime()).at_work():
        stream = await controller.streams.get()
        await stream.welcome()
        await stream.start(spec())
        report = await stream.until("job-a#1", ENDED)
        assert report.reason == "CannotStartContainerError: ConnectionError: no engine for launch"
        await stream.start(spec("job-b#1", lasts="3600"))
        await stream.until("job-b#1", RUNNING)
        await stream.send(stop=agent_pb2.StopAttempt(attempt_id="job-b#1", grace_s=1))
        assert (await stream.until("job-b#1", ENDED)).exit_code == 137, "SIGTERM broke, SIGKILL followed"


async def test_a_restarted_agent_knows_its_attempts_again(tmp_path, controller):
    async with Agent(tmp_path, controller.target).at_work():
        stream = await controller.streams.get()
        await stream.welcome()
        await stream.start(spec("job-a#1", exit_code=4), spec("job-b#1", lasts="3600"))
        ended = await stream.until("job-a#1", ENDED)
    async with Agent(tmp_path, controller.target).at_work() as agent:
        stream = await controller.streams.get()
        hello = await stream.welcome()
        assert (hello.host_id, hello.epoch) == ("host-1", EPOCH)
        assert ended in list(hello.attempts)
        assert {r.attempt_id for r in hello.attempts} == {"job-a#1", "job-b#1"}
        kept = agent.table.attempts[AttemptId("job-b#1")].spec
        assert kept is not None
        assert kept.launch.environment["BATCHYARD_FAKE_DURATION_S"] == "3600"


async def test_nothing_is_told_before_it_is_written(tmp_path):
    """The report of an end reaches the session after its commit, never before."""
    journal = Journal.open(tmp_path, "host-1")
    table = Table(meta=replace(journal.load_meta(), contact_ms=0), session=SESSION)
    driver = Driver(table=table, journal=journal, read_now=clock.read_now)
    told: list[list[Phase]] = []

    class Witness(Session):
        def __init__(self) -> None:
            pass

        def send_reports(self, attempts) -> None:
            rows = {a.attempt_id: a for a in journal.load_attempts(lambda _: None)}
            told.append([rows[a.attempt_id].phase for a in attempts])

    runtime = FakeRuntime(now_ms=clock.read_wall_ms)
    await runtime.open(driver.observe)
    driver.runtimes["fake"] = runtime
    working = asyncio.create_task(driver.run())
    driver.observe(HostChanged(runtimes=frozenset({"fake"}), gpu_uuids=frozenset()))
    await driver.attach(Witness())
    event = start(runtime="fake")
    driver.observe(replace(event, spec=replace(event.spec, wire=b"wire")))
    while not any(Phase.ENDED in phases for phases in told):
        await asyncio.sleep(0.01)
    working.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await working
    journal.close()
