"""EnterJob and CarryEntry: a user's stream and a host's joined, by who may, once, and with little held."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from batchyard.audit_log import files_of
from batchyard.features import ENTRIES
from batchyard.v1 import access_pb2 as access_pb
from batchyard.v1 import agent_pb2, agent_pb2_grpc, entry_pb2, job_pb2, job_pb2_grpc
from batchyard_controller.audit import Audit
from batchyard_controller.core import limits
from batchyard_controller.doors import Door, PeerKind
from batchyard_controller.meetings import Meetings
from batchyard_controller.throttles import Throttles

from .controller import PATIENCE_S, MemoryController, refusal, refusal_of, submission
from .hand_agent import HandAgent, ended, running

CANARY = b"canary-77aa"


class User:
    """One user's stream."""

    def __init__(self, channel: grpc.aio.Channel, token: str = "") -> None:
        metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self.call: Any = job_pb2_grpc.JobServiceStub(channel).EnterJob(metadata=metadata)

    async def open(self, job_id: str, *command: str, **fields: Any) -> None:
        wanted = entry_pb2.EntryCommand(command=command, **fields)
        await self.call.write(job_pb2.EnterJobRequest(open=job_pb2.EnterJobOpening(job_id=job_id, command=wanted)))

    async def say(self, **piece: Any) -> None:
        await self.call.write(job_pb2.EnterJobRequest(input=entry_pb2.EntryInput(**piece)))

    async def hear(self) -> Any:
        async with asyncio.timeout(PATIENCE_S):
            return await self.call.read()


class HostStream:
    """One stream of a host's."""

    def __init__(self, yard: MemoryController) -> None:
        self.call: Any = agent_pb2_grpc.AgentServiceStub(yard.channel).CarryEntry()

    async def say(self, **fields: Any) -> None:
        await self.call.write(agent_pb2.CarryEntryRequest(**fields))

    async def put(self, **output: Any) -> None:
        await self.say(output=entry_pb2.EntryOutput(**output))

    async def hear(self) -> Any:
        async with asyncio.timeout(PATIENCE_S):
            return await self.call.read()


async def start(yard: MemoryController, **fields: Any) -> tuple[HandAgent, str, str]:
    """Run a job; return its host's agent, it and its attempt."""
    agent = HandAgent(yard, features=[ENTRIES])
    await agent.join()
    job_id = await yard.submit(**fields)
    (spec,) = await agent.hear_starts()
    await agent.report(running(spec.attempt_id))
    await agent.hear_nothing()
    return agent, job_id, spec.attempt_id


async def met(yard: MemoryController, agent: HandAgent, user: User, job_id: str) -> HostStream:
    """Join a user's stream and one of the host's."""
    await user.open(job_id, "sh", stdin=True)
    asked = await agent.hear("entry")
    stream = HostStream(yard)
    await stream.say(key=asked.key)
    await stream.say(started=True)
    assert (await user.hear()).started.host == "alpha"
    return stream


async def test_what_goes_in_comes_out_in_order_to_the_end(yard: MemoryController) -> None:
    agent, job_id, attempt_id = await start(yard)
    user = User(yard.channel)
    await user.open(job_id, "sh", "-c", "x", stdin=True, terminal=True, size=entry_pb2.WindowSize(rows=2, columns=3))
    asked = await agent.hear("entry")
    assert (asked.attempt_id, list(asked.command.command), asked.command.terminal) == (
        attempt_id,
        ["sh", "-c", "x"],
        True,
    )
    stream = HostStream(yard)
    await stream.say(key=asked.key)
    await stream.say(started=True)
    assert (await user.hear()).started.attempt_id == attempt_id
    await user.say(data=b"in")
    await user.say(size=entry_pb2.WindowSize(rows=4, columns=5))
    await user.say(end=True)
    heard = [(await stream.hear()).input for _ in range(3)]
    assert [each.WhichOneof("message") for each in heard] == ["data", "size", "end"]
    await stream.put(stdout=b"out")
    await stream.put(stderr=b"err")
    await stream.put(end=entry_pb2.EntryEnd(exit_code=7))
    told = [(await user.hear()).output for _ in range(3)]
    assert (told[0].stdout, told[1].stderr, told[2].end.exit_code) == (b"out", b"err", 7)
    await user.call.done_writing()
    assert await user.hear() is grpc.aio.EOF
    assert await stream.hear() is grpc.aio.EOF
    assert len(yard.sessions.meetings) == 0


async def test_who_writes_after_the_end_reads_all_the_same(yard: MemoryController) -> None:
    agent, job_id, _ = await start(yard)
    user = User(yard.channel)
    stream = await met(yard, agent, user, job_id)
    await stream.put(stdout=b"out")
    await stream.put(end=entry_pb2.EntryEnd(exit_code=7))
    await asyncio.sleep(0.2)  # all that the controller has to say is there, unread
    await user.say(end=True)
    told = [(await user.hear()).output for _ in range(2)]
    assert (told[0].stdout, told[1].end.exit_code) == (b"out", 7)


async def test_a_key_opens_once_and_none_is_guessed(yard: MemoryController) -> None:
    agent, job_id, _ = await start(yard)
    user = User(yard.channel)
    await user.open(job_id, "sh")
    asked = await agent.hear("entry")
    for key in ("", "guessed"):
        stranger = HostStream(yard)
        await stranger.say(key=key)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stranger.hear()
        assert refusal_of(caught.value).reason == "ENTRY_NOT_FOUND"
    stream = HostStream(yard)
    await stream.say(key=asked.key)
    await stream.say(started=True)
    await user.hear()
    again = HostStream(yard)
    await again.say(key=asked.key)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await again.hear()
    assert refusal_of(caught.value).reason == "ENTRY_NOT_FOUND"
    user.call.cancel()
    while await stream.hear() is not grpc.aio.EOF:
        """The host is told that the user went."""


async def test_what_the_host_says_against_it_is_told(yard: MemoryController) -> None:
    agent, job_id, _ = await start(yard)
    user = User(yard.channel)
    await user.open(job_id, "sh")
    stream = HostStream(yard)
    await stream.say(key=(await agent.hear("entry")).key)
    await stream.say(refusal=agent_pb2.EntryRefusal(reason="X", message="it has \x1b ended"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await user.hear()
    told = refusal_of(caught.value)
    assert (told.reason, told.code) == ("ENTRY_NOT_POSSIBLE", "FAILED_PRECONDITION")
    assert "\x1b" not in told.text


async def test_a_stream_that_breaks_on_either_side_is_over_on_both(yard: MemoryController) -> None:
    agent, job_id, _ = await start(yard)
    user = User(yard.channel)
    stream = await met(yard, agent, user, job_id)
    stream.call.cancel()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await user.hear()
    assert refusal_of(caught.value).reason == "ENTRY_BROKEN"
    await asyncio.sleep(0)
    assert len(yard.sessions.meetings) == 0


async def test_a_term_that_ends_takes_all_along(yard: MemoryController) -> None:
    agent, job_id, _ = await start(yard)
    user = User(yard.channel)
    stream = await met(yard, agent, user, job_id)
    yard.sessions.close()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await user.hear()
    assert "no longer leads" in refusal_of(caught.value).text
    assert await stream.hear() is grpc.aio.EOF


async def test_a_host_that_is_away_or_does_not_come_is_named(
    yard: MemoryController, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ENTRY_KEY_MS", 50)
    agent, job_id, _ = await start(yard)
    for reason in ("HOST_SILENT", "HOST_DISCONNECTED"):
        user = User(yard.channel)
        await user.open(job_id, "sh")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await user.hear()
        assert refusal_of(caught.value).reason == reason
        await agent.leave()


async def test_one_that_nobody_uses_is_ended(yard: MemoryController) -> None:
    yard.sessions.meetings = Meetings(lambda: 0, idle_ms=100)
    agent, job_id, _ = await start(yard)
    user = User(yard.channel)
    await met(yard, agent, user, job_id)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await user.hear()
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_who_does_not_read_makes_the_host_wait(yard: MemoryController) -> None:
    """Of 64 MiB for a user who reads nothing, only what gRPC's windows and a few pieces hold ever leaves the host."""
    agent, job_id, _ = await start(yard)
    user = User(yard.channel)
    stream = await met(yard, agent, user, job_id)
    written = 0

    async def flood() -> None:
        nonlocal written
        while written < 64 << 20:
            await stream.put(stdout=bytes(limits.ENTRY_PIECE_BYTES_MAX))
            written += limits.ENTRY_PIECE_BYTES_MAX

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(flood(), 3)
    assert written < 32 << 20
    with pytest.raises(grpc.aio.AioRpcError):
        await _say_too_much(user)


async def _say_too_much(user: User) -> None:
    await user.say(data=bytes(limits.ENTRY_PIECE_BYTES_MAX + 1))
    while (await user.hear()) is not grpc.aio.EOF:
        pass


@pytest.fixture
def audit(tmp_path: Path) -> Audit:
    return Audit(tmp_path / "audit", lambda: 1_700_000_000_000)


@pytest.fixture
async def shared(audit: Audit) -> AsyncIterator[MemoryController]:
    async with MemoryController(audit=audit, other=Door(PeerKind.TLS), throttles=Throttles()) as controller:
        await controller.until_leads()
        await controller.furnish()
        yield controller


async def test_a_job_is_entered_by_its_owner_and_each_time_is_written_down(
    shared: MemoryController, audit: Audit
) -> None:
    tokens = {}
    for name, role in (("ann", "submitter"), ("bob", "submitter"), ("eve", "viewer")):
        tokens[name] = (await shared.access.CreateToken(access_pb.CreateTokenRequest(user=name))).token
        await shared.access.BindRole(access_pb.BindRoleRequest(user=name, role=role))
    agent = HandAgent(shared, features=[ENTRIES])
    await agent.join()
    async with grpc.aio.insecure_channel(shared.other_address) as channel:
        submit = job_pb2_grpc.JobServiceStub(channel).SubmitJob
        job_id = (await submit(submission(), metadata=(("authorization", f"Bearer {tokens['ann']}"),))).job_id
        (spec,) = await agent.hear_starts()
        await agent.report(running(spec.attempt_id))
        await agent.hear_nothing()
        for name, reason in (("bob", "JOB_NOT_FOUND"), ("eve", "PERMISSION_DENIED")):
            stranger = User(channel, tokens[name])
            await stranger.open(job_id, "id")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stranger.hear()
            assert refusal_of(caught.value).reason == reason
        user = User(channel, tokens["ann"])
        stream = await met(shared, agent, user, job_id)
        await user.say(data=CANARY)
        assert (await stream.hear()).input.data == CANARY
        await stream.put(stdout=CANARY)
        assert (await user.hear()).output.stdout == CANARY
        await shared.access.UnbindRole(access_pb.UnbindRoleRequest(user="ann", role="submitter"))
        await stream.put(stdout=b"more")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await user.hear()
        assert refusal_of(caught.value).reason == "RIGHTS_CHANGED", "it ends with its rights"
    assert audit.folder is not None
    lines = [json.loads(line) for path in files_of(audit.folder) for line in path.read_text().splitlines()]
    assert [(each["who"], each["thing"], each["outcome"]) for each in lines if each["call"] == "EnterJob"] == [
        ("eve", "", "PERMISSION_DENIED"),
        ("ann", f"{job_id} sh", "OK"),
    ]
    assert CANARY.decode() not in str(lines)


async def test_nothing_of_an_attempt_that_has_ended_is_entered(yard: MemoryController) -> None:
    agent, job_id, attempt_id = await start(yard)
    await agent.report(ended(attempt_id))
    await agent.hear("ack")
    user = User(yard.channel)
    await user.open(job_id, "sh")
    assert (await refusal(user.call.read())).reason == "JOB_HAS_ENDED"
