"""A hand-driven agent that listens by itself: it keeps what it is told to start until a test runs it, and shows logs."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

import grpc
from tests.services.controller import PATIENCE_S, Controller
from tests.services.hand_agent import HandAgent, ended, running

from batchyard.v1 import agent_pb2 as pb
from batchyard.v1.attempt_pb2 import END_CAUSE_START_FAILED


class Host(HandAgent):
    """
    A host of a yard.

    Args:
        yard: Its controller.
        name: Its name.
        slice_bytes: How much of a log it shows at once.
        more_facts: Of ``HostFacts``.

    Attributes:
        logs: What each attempt has written, by its id, of several containers by that, a comma and the name; one
            that is not here has no log.
        stopped: Attempts that it was told to stop.
    """

    def __init__(self, yard: Controller, name: str, slice_bytes: int, **more_facts: Any) -> None:
        filled: dict[str, Any] = {"runtimes": ["docker", "process"]} | more_facts
        super().__init__(yard, name=name, **filled)
        self.logs: dict[str, bytes] = {}
        self.stopped: list[str] = []
        self._slice_bytes = slice_bytes
        self._starts: deque[pb.AttemptSpec] = deque()
        self._acked: set[str] = set()
        self._secrets: dict[str, pb.SecretValues] = {}
        self._news = asyncio.Event()

    async def join(self, attempts: Sequence[pb.AttemptReport] = (), epoch: int = 0) -> pb.Welcome:
        """Say hello, and listen from then on until the controller goes away."""
        welcome = await super().join(attempts, epoch)
        self._listening = asyncio.create_task(self._listen())
        return welcome

    async def take(self, count: int = 1) -> list[pb.AttemptSpec]:
        """Return the next attempts that the host was told to start, in the order of their jobs' ids."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self._starts) < count:
                await self._news.wait()
        return sorted((self._starts.popleft() for _ in range(count)), key=lambda spec: spec.job_id)

    async def end(self, attempt_id: str, exit_code: int | None = 0, *, log: bytes | None = b"", **fields: Any) -> None:
        """Run an attempt that was taken to its end: it writes *log*, and all of that is known when this returns."""
        if log is not None:
            self.logs[attempt_id] = log
        if fields.get("cause") != END_CAUSE_START_FAILED:
            await self.report(running(attempt_id))
        await self.report(ended(attempt_id, exit_code, **fields))
        async with asyncio.timeout(PATIENCE_S):
            while attempt_id not in self._acked:
                await self._news.wait()

    async def run(self, exit_code: int | None = 0, *, log: bytes | None = b"", **fields: Any) -> None:
        """Take the next attempt and run it to its end."""
        (spec,) = await self.take()
        await self.end(spec.attempt_id, exit_code, log=log, **fields)

    async def refuse(self, reason: str) -> None:
        """Take the next attempt and say that it cannot be started."""
        await self.run(None, log=None, cause=END_CAUSE_START_FAILED, reason=reason)

    async def secrets(self, attempt_id: str) -> dict[str, str]:
        """Ask for an attempt's secrets and return them by variable."""
        await self._say(pb.ConnectRequest(secrets_request=pb.SecretsRequest(attempt_id=attempt_id)))
        async with asyncio.timeout(PATIENCE_S):
            while attempt_id not in self._secrets:
                await self._news.wait()
        return dict(self._secrets[attempt_id].values)

    async def _listen(self) -> None:
        try:
            while isinstance(message := await self._call.read(), pb.ConnectResponse):
                self._starts += message.start.attempts
                self._acked.update(message.ack.attempt_ids)
                self._secrets[message.secret_values.attempt_id] = message.secret_values
                if message.HasField("stop"):
                    self.stopped.append(message.stop.attempt_id)
                if message.HasField("log_read"):
                    await self._show_log(message.log_read)
                self._news.set()
                self._news = asyncio.Event()
        except grpc.aio.AioRpcError:
            return  # the controller was stopped

    async def _show_log(self, read: pb.LogRead) -> None:
        log = self.logs.get(f"{read.attempt_id},{read.container}" if read.container else read.attempt_id)
        if log is None and read.attempt_id in {spec.attempt_id for spec in self._starts}:
            await self.answer_log(read.read_id, next_offset=read.offset)  # it has yet to write something
            return
        if log is None:
            await self.answer_log(read.read_id, error="no such log")
            return
        start = min(read.offset, len(log))
        if read.HasField("tail_lines"):
            lines = log.splitlines(keepends=True)
            start = sum(map(len, lines[: max(0, len(lines) - read.tail_lines)]))
        data = log[start : start + self._slice_bytes]
        end = start + len(data)
        await self.answer_log(read.read_id, data, next_offset=end, end=end == len(log))
