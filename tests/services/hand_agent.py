"""An agent driven by hand: it speaks the session protocol over the real stub and says only what a test tells it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

import grpc

from batchyard.v1 import agent_pb2 as pb
from batchyard.v1 import attempt_pb2, host_pb2, resources_pb2

from .controller import PATIENCE_S, Controller

HOST_ID = "00000000-0000-4000-8000-000000000001"
OTHER_ID = "00000000-0000-4000-8000-000000000002"


def facts(name: str = "alpha", **fields: Any) -> host_pb2.HostFacts:
    filled: dict[str, Any] = {
        "boot_id": "boot-1",
        "capacity": resources_pb2.Resources(cpu_millis=4000, memory_mib=8192, disk_mib=100_000),
        "runtimes": ["process", "docker"],
    } | fields
    return host_pb2.HostFacts(name=name, **filled)


def running(attempt_id: str) -> pb.AttemptReport:
    return pb.AttemptReport(attempt_id=attempt_id, phase=pb.ATTEMPT_PHASE_RUNNING, started_at_ms=1_000)


def ended(attempt_id: str, exit_code: int | None = 0, **fields: Any) -> pb.AttemptReport:
    filled: dict[str, Any] = {
        "started_at_ms": 1_000,
        "stopped_at_ms": 2_000,
        "cause": attempt_pb2.END_CAUSE_EXITED,
    } | fields
    return pb.AttemptReport(attempt_id=attempt_id, phase=pb.ATTEMPT_PHASE_ENDED, exit_code=exit_code, **filled)


class HandAgent:
    """One session of one host."""

    def __init__(
        self, yard: Controller, host_id: str = HOST_ID, name: str = "alpha", nonce: str = "", **more_facts: Any
    ) -> None:
        self._yard = yard
        self.host_id = host_id
        self.nonce = nonce
        self.facts = facts(name, **more_facts)
        self._beats = 0
        self._writing = asyncio.Lock()
        self._acks: deque[pb.ConnectResponse] = deque()
        self._others: deque[pb.ConnectResponse] = deque()

    async def open(self, first: pb.ConnectRequest | None) -> None:
        """Open a stream with any first message, or with none."""
        self._call: grpc.aio.StreamStreamCall[pb.ConnectRequest, pb.ConnectResponse] = self._yard.agents.Connect()
        if first is None:
            await self._call.done_writing()
        else:
            await self._call.write(first)

    def hello(self, attempts: Sequence[pb.AttemptReport] = (), epoch: int = 0) -> pb.ConnectRequest:
        """Return what begins a session."""
        hello = pb.Hello(
            host_id=self.host_id, facts=self.facts, attempts=attempts, epoch=epoch, nonce=self.nonce, machine_id="m"
        )
        return pb.ConnectRequest(hello=hello)

    async def join(self, attempts: Sequence[pb.AttemptReport] = (), epoch: int = 0) -> pb.Welcome:
        """Say hello and return the welcome."""
        await self.open(self.hello(attempts, epoch))
        welcome: pb.Welcome = await self.hear("welcome")
        # The host has joined when its hello is stored; a heartbeat's answer does not say so, but a reader does.
        await self._yard.leadership.driver.read(lambda world: None)
        return welcome

    async def read(self) -> pb.ConnectResponse | None:
        """Return the next message, None when the controller ended the stream well."""
        async with asyncio.timeout(PATIENCE_S):
            message = await self._call.read()
        return message if isinstance(message, pb.ConnectResponse) else None

    async def hear(self, kind: str) -> Any:
        """Return the next message, which must be of this kind; acknowledgements wait for each other, and so stand aside."""
        mine, others = (self._acks, self._others) if kind == "ack" else (self._others, self._acks)
        while not mine:
            message = await self.read()
            assert message is not None, f"the stream ended; expected {kind}"
            is_ack = message.WhichOneof("message") == "ack"
            (mine if is_ack == (kind == "ack") else others).append(message)
        message = mine.popleft()
        assert message.WhichOneof("message") == kind, message
        return getattr(message, kind)

    async def hear_starts(self, count: int = 1) -> list[pb.AttemptSpec]:
        """Return the attempts that the host is told to start, until there are *count*."""
        specs: list[pb.AttemptSpec] = []
        while len(specs) < count:
            specs += (await self.hear("start")).attempts
        assert len(specs) == count
        return specs

    async def hear_nothing(self) -> None:
        """Check that nothing was sent: the answer to a heartbeat comes next."""
        await self.beat()
        assert (await self.hear("heartbeat_ack")).sequence == self._beats

    async def _say(self, message: pb.ConnectRequest) -> None:
        """Send a message; a stream takes one at a time."""
        async with self._writing:
            await self._call.write(message)

    async def beat(self, **fields: Any) -> None:
        self._beats += 1
        await self._say(pb.ConnectRequest(heartbeat=pb.Heartbeat(sequence=self._beats, **fields)))

    async def report(self, *reports: pb.AttemptReport) -> None:
        await self._say(pb.ConnectRequest(reports=pb.AttemptReports(reports=reports)))

    async def finish(self, attempt_id: str, exit_code: int = 0) -> None:
        """Run an attempt to its end and wait for the acknowledgement."""
        await self.report(running(attempt_id), ended(attempt_id, exit_code))
        assert list((await self.hear("ack")).attempt_ids) == [attempt_id]

    async def answer_log(self, read_id: int, data: bytes = b"", **fields: Any) -> None:
        await self._say(pb.ConnectRequest(log_slice=pb.LogSlice(read_id=read_id, data=data, **fields)))

    async def ask_secrets(self, attempt_id: str) -> pb.SecretValues:
        """Ask for an attempt's secrets and return the answer."""
        await self._say(pb.ConnectRequest(secrets_request=pb.SecretsRequest(attempt_id=attempt_id)))
        answer: pb.SecretValues = await self.hear("secret_values")
        return answer

    async def leave(self) -> None:
        """Hang up well and wait until the controller has too."""
        await self._call.done_writing()
        while await self.read() is not None:
            pass

    def drop(self) -> None:
        """Break the stream, as a host that lost its network."""
        self._call.cancel()

    async def code(self) -> str:
        """Wait for the stream's end and return its status."""
        async with asyncio.timeout(PATIENCE_S):
            return (await self._call.code()).name

    async def error(self) -> str:
        """Wait for the stream's end and return its text."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._call.details()
