"""
Entries: a command in the attempt of a job that runs, and what goes in and comes out.

Thin, as all calls. Law: nothing is held but the piece under way, so that who is slow makes the
command wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from batchyard import arguments
from batchyard.calls import Caller
from batchyard.errors import Reason, UnavailableError
from batchyard.v1 import entry_pb2, job_pb2

if TYPE_CHECKING:
    from batchyard.connection import Dialogue

PIECE_BYTES = 64 * 1024
"""Most that is sent at once (the contract's limit)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """
    A piece of what a command writes.

    Attributes:
        is_error: Of stderr; with a terminal all is stdout's.
    """

    data: bytes
    is_error: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecResult:
    """
    What a command has written, and how it ended.

    Attributes:
        exit_code: As a shell gives it: 126 or 127 if it could not be started; None: nobody knows.
        error: Why it could not be, or why its code is not known; empty mostly.
    """

    stdout: bytes
    stderr: bytes
    exit_code: int | None
    error: str = ""


class AsyncExecution:
    """
    A command that runs in an attempt. `AsyncClient.exec` makes it; leave it by ``async with``, or ``close``.

    Iterating over it yields its output to its end. One task reads, and one writes, at a time.

    Attributes:
        attempt_id: Of the attempt.
        host: Name of the host.
        exit_code: As of `ExecResult`; None until all output was read.
        error: Likewise.
    """

    def __init__(
        self, dialogue: Dialogue[job_pb2.EnterJobRequest, job_pb2.EnterJobResponse], started: job_pb2.EntryStarted
    ) -> None:
        self._dialogue = dialogue
        self.attempt_id = started.attempt_id
        self.host = started.host
        self.exit_code: int | None = None
        self.error = ""
        self._has_ended = False

    async def read(self) -> Output | None:
        """
        Return what comes next; None: it has ended, and `exit_code` says how.

        Raises:
            UnavailableError: the stream broke off, as when the controller went.
            BatchyardError: the controller ended it, as when the caller's rights have changed.
        """
        while not self._has_ended:
            response = await self._dialogue.read()
            if response is None:
                text = "the stream ended before the command; what was run may go on until the attempt ends"
                raise UnavailableError(text, reason=Reason.ENTRY_BROKEN)
            output = response.output
            match output.WhichOneof("message"):
                case "stdout":
                    return Output(data=output.stdout)
                case "stderr":
                    return Output(data=output.stderr, is_error=True)
                case "end":
                    self._has_ended = True
                    self.exit_code = output.end.exit_code if output.end.HasField("exit_code") else None
                    self.error = output.end.error
        return None

    def __aiter__(self) -> AsyncIterator[Output]:
        return self

    async def __anext__(self) -> Output:
        if (output := await self.read()) is None:
            raise StopAsyncIteration
        return output

    async def write(self, data: bytes) -> None:
        """Have the command read this; it waits while the command is slow. Of no effect once that has ended."""
        for start in range(0, len(data), PIECE_BYTES):
            await self._send(entry_pb2.EntryInput(data=data[start : start + PIECE_BYTES]))

    async def close_stdin(self) -> None:
        """Let the command find the end of what it reads."""
        await self._send(entry_pb2.EntryInput(end=True))

    async def resize(self, rows: int, columns: int) -> None:
        """Let its terminal have another size."""
        await self._send(entry_pb2.EntryInput(size=entry_pb2.WindowSize(rows=rows, columns=columns)))

    async def communicate(self, data: bytes = b"") -> ExecResult:
        """
        Have the command read *data*, and return all that it writes, in memory, and how it ended.

        Raises:
            BatchyardError: as of `read`.
        """

        async def feed() -> None:
            await self.write(data)
            await self.close_stdin()

        feeding = asyncio.create_task(feed())
        written: dict[bool, list[bytes]] = {False: [], True: []}
        try:
            async for output in self:
                written[output.is_error].append(output.data)
        finally:
            feeding.cancel()
        return ExecResult(
            stdout=b"".join(written[False]),
            stderr=b"".join(written[True]),
            exit_code=self.exit_code,
            error=self.error,
        )

    async def _send(self, piece: entry_pb2.EntryInput) -> None:
        await self._dialogue.write(job_pb2.EnterJobRequest(input=piece))

    async def close(self) -> None:
        """Leave it: a command that has not ended is hung up on where that can be done. Idempotent."""
        self._dialogue.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class EntryCalls(Caller):
    """The part of the client that is about commands in attempts."""

    async def exec(
        self,
        job_id: str,
        command: Sequence[str],
        *,
        container: str = "",
        stdin: bool = True,
        terminal: bool = False,
        rows: int = 0,
        columns: int = 0,
        terminal_type: str = "",
    ) -> AsyncExecution:
        """
        Run a command in the attempt of a job that runs now; it has begun when this returns.

        It runs as the job's own processes do, with their user, rights, folder, variables and limits, and
        ends with the attempt. It is not repeated: a stream ends with its controller.

        Args:
            job_id: A job, an array child or a node; of a multi-node job it is the main node's attempt.
            command: Program and arguments, word by word; no shell.
            container: Which of several containers.
            stdin: What is written reaches it; otherwise it reads nothing.
            terminal: It has a terminal of its own, and one output.
            rows: Of the terminal; 0: as the system has it.
            columns: Likewise.
            terminal_type: The command's TERM; default ``xterm``.

        Raises:
            NotFoundError: no such job.
            PermissionDeniedError: the job is another's.
            FailedPreconditionError: it does not run now, or its host cannot do this.
            ResourceExhaustedError: too many run already.
            UnavailableError: its host is not connected.
        """
        size = entry_pb2.WindowSize(rows=arguments.integer("rows", rows), columns=arguments.integer("columns", columns))
        wanted = entry_pb2.EntryCommand(
            command=arguments.texts("command", command),
            stdin=stdin,
            terminal=terminal,
            size=size,
            terminal_type=arguments.text("terminal_type", terminal_type),
        )
        opening = job_pb2.EnterJobOpening(
            job_id=arguments.text("job_id", job_id), container=arguments.text("container", container), command=wanted
        )
        dialogue, first = await self.calls.enter_job(job_pb2.EnterJobRequest(open=opening))
        return AsyncExecution(dialogue, first.started)

    async def attach(self, job_id: str, *, rows: int = 0, columns: int = 0, terminal_type: str = "") -> AsyncExecution:
        """
        Go to the terminal of a job that has one (``terminal_grace_s`` of its container), as it runs now.

        Its command is started for the first who comes; who was there before leaves. To leave
        it ends nothing, unless nobody comes back within the job's grace.

        Args:
            job_id: A job, or an array child.
            rows: As of `exec`.
            columns: Likewise.
            terminal_type: Likewise.

        Raises:
            FailedPreconditionError: it does not run now, or has no terminal.
            BatchyardError: as of `exec`.
        """
        size = entry_pb2.WindowSize(rows=arguments.integer("rows", rows), columns=arguments.integer("columns", columns))
        wanted = entry_pb2.EntryCommand(
            stdin=True, terminal=True, size=size, terminal_type=arguments.text("terminal_type", terminal_type)
        )
        opening = job_pb2.EnterJobOpening(job_id=arguments.text("job_id", job_id), command=wanted, attach=True)
        dialogue, first = await self.calls.enter_job(job_pb2.EnterJobRequest(open=opening))
        return AsyncExecution(dialogue, first.started)
