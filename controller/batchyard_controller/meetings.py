"""
Meetings: a user's stream and a host's joined, so that what is typed reaches a command and what it writes comes back.

Agents listen on nothing: a host is asked over its session, and comes with a stream of its own. What
is held here is a few pieces each way; who is slow makes the other side wait, by gRPC's
own flow control. It knows nothing of jobs. Laws: a meeting ends when either side goes; and
nothing of what goes through is kept.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable

from batchyard.errors import DeadlineExceededError, FailedPreconditionError, Reason, UnavailableError
from batchyard.ids import HostId
from batchyard.v1 import agent_pb2 as pb
from batchyard.v1 import entry_pb2, job_pb2

from .core import limits
from .core.requests.checks import printable
from .core.requests.entering import Place, Register, check_piece

PIECES_HELD = 2
"""Each way, of at most 64 KiB; gRPC holds as much again of each stream."""
LEAVE_S = 5.0
"""How long a user may take to hang up once they were told the end."""
_REASON_TEXT_MAX = 512

_Out = pb.CarryEntryRequest | None


class Meeting:
    """One entry while it lasts."""

    def __init__(self, key: str, place: Place) -> None:
        self.key = key
        self.place = place
        self._to_host: asyncio.Queue[entry_pb2.EntryInput] = asyncio.Queue(PIECES_HELD)
        self._to_user: asyncio.Queue[_Out] = asyncio.Queue(PIECES_HELD)
        self._is_over = asyncio.Event()
        self._why = f"host {place.host_name} ended its stream"
        self._loop = asyncio.get_running_loop()
        self._moved_s = self._loop.time()

    # What the host's stream does.

    async def carry(self, requests: AsyncIterator[pb.CarryEntryRequest]) -> AsyncGenerator[pb.CarryEntryResponse, None]:
        """Serve the host's stream until either side goes."""
        reader = asyncio.create_task(self._take(requests))
        over = asyncio.create_task(self._is_over.wait())
        piece = asyncio.create_task(self._to_host.get())
        try:
            while True:
                await asyncio.wait({piece, reader, over}, return_when=asyncio.FIRST_COMPLETED)
                if not piece.done():
                    if reader.done() and not over.done():
                        reader.result()  # raises what was wrong with the host's message
                    return
                yield pb.CarryEntryResponse(input=piece.result())
                piece = asyncio.create_task(self._to_host.get())
        finally:
            for each in (piece, reader, over):
                each.cancel()
            self.end(f"host {self.place.host_name} ended its stream")

    async def _take(self, requests: AsyncIterator[pb.CarryEntryRequest]) -> None:
        async for request in requests:
            output = request.output
            check_piece(len(output.stdout) + len(output.stderr))
            self._moved_s = self._loop.time()
            await self._to_user.put(request)
        await self._to_user.put(None)
        await self._is_over.wait()

    # What the user's stream does.

    async def send(self, piece: entry_pb2.EntryInput) -> None:
        """Hand on one piece of what goes in; it waits while the host is slow."""
        self._moved_s = self._loop.time()
        await self._to_host.put(piece)

    async def begin(self, limit_s: float) -> None:
        """
        Wait until the command runs.

        Raises:
            FailedPreconditionError: its host says that it cannot.
            UnavailableError: its host does not come.
        """
        metadata = {"host_id": self.place.host_id}
        try:
            async with asyncio.timeout(limit_s):
                first = await self._next()
        except TimeoutError:
            text = f"host {self.place.host_name} did not come for the entry within {limit_s:g} s"
            raise UnavailableError(text, reason=Reason.HOST_SILENT, metadata=metadata) from None
        if first is None or first.WhichOneof("message") not in ("started", "refusal"):
            raise UnavailableError(self._why, reason=Reason.ENTRY_BROKEN, metadata=metadata)
        if first.HasField("refusal"):
            text = printable(first.refusal.message, _REASON_TEXT_MAX)
            raise FailedPreconditionError(text, reason=Reason.ENTRY_NOT_POSSIBLE, metadata=metadata)

    async def outputs(self, idle_s: float) -> AsyncGenerator[entry_pb2.EntryOutput, None]:
        """
        Yield what comes out, to the command's end.

        Raises:
            DeadlineExceededError: nothing went in or came out for so long.
            UnavailableError: the host's stream broke off.
        """
        metadata = {"host_id": self.place.host_id}
        while True:
            left_s = self._moved_s + idle_s - self._loop.time()
            if left_s <= 0:
                text = f"nothing went in or came out for {idle_s:g} s"
                raise DeadlineExceededError(text, reason=Reason.DEADLINE_EXCEEDED)
            try:
                async with asyncio.timeout(left_s):
                    request = await self._next()
            except TimeoutError:
                continue
            if request is None or not request.HasField("output"):
                text = f"{self._why}; what was run may go on until the attempt ends"
                raise UnavailableError(text, reason=Reason.ENTRY_BROKEN, metadata=metadata)
            yield request.output
            if request.output.HasField("end"):
                return

    async def _next(self) -> _Out:
        """Return the host's next message; None: there is none any more."""
        message = asyncio.create_task(self._to_user.get())
        over = asyncio.create_task(self._is_over.wait())
        try:
            await asyncio.wait({message, over}, return_when=asyncio.FIRST_COMPLETED)
            if message.done():
                return message.result()
            return self._to_user.get_nowait() if not self._to_user.empty() else None
        finally:
            message.cancel()
            over.cancel()

    def end(self, why: str) -> None:
        """Have both sides go. Idempotent: the first reason stays."""
        if not self._is_over.is_set():
            self._why = why
            self._is_over.set()


class Meetings:
    """
    All of this controller.

    Args:
        now_ms: A clock that only rises.
        idle_ms: After so long without a byte one is ended.
    """

    def __init__(self, now_ms: Callable[[], int], idle_ms: int = limits.ENTRY_IDLE_MS) -> None:
        self._now_ms = now_ms
        self._idle_ms = idle_ms
        self._register = Register()
        self._meetings: dict[str, Meeting] = {}

    def __len__(self) -> int:
        return len(self._meetings)

    def open(self, user: str, place: Place) -> Meeting:
        """
        Begin one; whoever does closes it.

        Raises:
            ResourceExhaustedError: there are too many.
        """
        key = secrets.token_urlsafe(24)
        self._register.open(key, user, place.host_id, self._now_ms())
        meeting = self._meetings[key] = Meeting(key, place)
        return meeting

    def close(self, meeting: Meeting) -> None:
        """End one. Idempotent."""
        meeting.end("the user went")
        self._meetings.pop(meeting.key, None)
        self._register.close(meeting.key)

    def end_all(self) -> None:
        """End all, as this controller leads no more: who may was asked of what it no longer knows."""
        for meeting in self._meetings.values():
            meeting.end("the controller no longer leads")

    async def responses(
        self, meeting: Meeting, requests: AsyncIterator[job_pb2.EnterJobRequest]
    ) -> AsyncGenerator[job_pb2.EnterJobResponse, None]:
        """Yield to the user what comes of an entry, once its host was asked."""
        await meeting.begin(limits.ENTRY_KEY_MS / 1000)
        place = meeting.place
        yield job_pb2.EnterJobResponse(started=job_pb2.EntryStarted(attempt_id=place.attempt_id, host=place.host_name))
        sender = asyncio.create_task(_send_all(meeting, requests))
        try:
            async for output in meeting.outputs(self._idle_ms / 1000):
                if sender.done():
                    sender.result()  # raises what was wrong with the user's message
                yield job_pb2.EnterJobResponse(output=output)
            # Were the stream over now, what they write would cost them what they have not read (grpc.aio).
            await asyncio.wait({sender}, timeout=LEAVE_S)
        finally:
            sender.cancel()

    async def carry(
        self, requests: AsyncIterator[pb.CarryEntryRequest], host_id: HostId | None
    ) -> AsyncGenerator[pb.CarryEntryResponse, None]:
        """
        Serve a host's stream.

        Args:
            requests: What it says, its key first.
            host_id: Whose key it has proved; None: it is of this machine.

        Raises:
            NotFoundError: its key opens nothing.
        """
        first = await anext(requests, None)
        key = first.key if first is not None else ""
        self._register.use(key, host_id, self._now_ms())
        async for response in self._meetings[key].carry(requests):
            yield response


async def _send_all(meeting: Meeting, requests: AsyncIterator[job_pb2.EnterJobRequest]) -> None:
    async for request in requests:
        check_piece(len(request.input.data))
        if request.input.WhichOneof("message") is not None:
            await meeting.send(request.input)
