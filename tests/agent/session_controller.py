"""The controller's side of agent sessions: a real servicer that a test drives step by step."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

from batchyard.v1 import agent_pb2, agent_pb2_grpc

EPOCH = 7
ENDED, RUNNING = agent_pb2.ATTEMPT_PHASE_ENDED, agent_pb2.ATTEMPT_PHASE_RUNNING


class Stream:
    """One agent's stream, as the controller sees it."""

    def __init__(self, context) -> None:
        self.inbox: asyncio.Queue[agent_pb2.ConnectRequest] = asyncio.Queue()
        self.context = context
        self.ended = asyncio.Event()
        self.heartbeats: list[agent_pb2.Heartbeat] = []
        self._sending = asyncio.Lock()

    async def send(self, epoch=EPOCH, **message: Any) -> None:
        async with self._sending:  # gRPC takes one write at a time
            await self.context.write(agent_pb2.ConnectResponse(epoch=epoch, **message))

    async def hello(self) -> agent_pb2.Hello:
        message = await self.inbox.get()
        assert message.WhichOneof("message") == "hello"
        return message.hello

    async def welcome(self, epoch=EPOCH, fence_ms=60_000) -> agent_pb2.Hello:
        hello = await self.hello()
        await self.send(epoch, welcome=agent_pb2.Welcome(epoch=epoch, heartbeat_interval_ms=50, fence_ms=fence_ms))
        return hello

    async def start(self, *specs: agent_pb2.AttemptSpec, epoch=EPOCH) -> None:
        await self.send(epoch, start=agent_pb2.StartAttempts(attempts=specs))

    async def until(self, attempt_id, phase) -> agent_pb2.AttemptReport:
        """Take reports until one has brought the attempt to *phase*."""
        while True:
            message = await self.inbox.get()
            for report in message.reports.reports:
                if (report.attempt_id, report.phase) == (attempt_id, phase):
                    return report

    async def secrets_request(self) -> str:
        """Return the next attempt whose secrets are asked for."""
        while (message := await self.inbox.get()).WhichOneof("message") != "secrets_request":
            pass
        return message.secrets_request.attempt_id

    async def log_slice(self) -> agent_pb2.LogSlice:
        while (message := await self.inbox.get()).WhichOneof("message") != "log_slice":
            pass
        return message.log_slice


class Controller(agent_pb2_grpc.AgentServiceServicer):
    """Hands each stream to the test; answers heartbeats, if told to."""

    def __init__(self) -> None:
        self.streams: asyncio.Queue[Stream] = asyncio.Queue()
        self.answers_heartbeats = True
        self.refusal: grpc.StatusCode | None = None
        self.refused = 0
        self.target = ""

    async def Connect(self, request_iterator, context):  # noqa: N802
        if self.refusal is not None:
            self.refused += 1
            await context.abort(self.refusal, "not the leader")
        stream = Stream(context)
        self.streams.put_nowait(stream)
        reader = asyncio.create_task(self._read(request_iterator, stream))
        try:
            await stream.ended.wait()
        finally:
            reader.cancel()

    async def _read(self, requests, stream) -> None:
        async for request in requests:
            if request.WhichOneof("message") != "heartbeat":
                stream.inbox.put_nowait(request)
                continue
            stream.heartbeats.append(request.heartbeat)
            if self.answers_heartbeats:
                await stream.send(heartbeat_ack=agent_pb2.HeartbeatAck(sequence=request.heartbeat.sequence))
        stream.ended.set()


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Controller]:
    """Serve a controller on a free port, its ``target``."""
    controller = Controller()
    server = grpc.aio.server()
    agent_pb2_grpc.add_AgentServiceServicer_to_server(controller, server)
    controller.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield controller
    await server.stop(grace=None)
