"""
Copies of logs where jobs want them: the file is the job's user's, who opens it, so that it is nowhere that he may not write.

The log is what counts: a file that cannot be written says so there, and keeps no attempt
from running or ending. Law: when an attempt's end is told its copy holds all that the log
holds. After a restart of the agent a copy is made anew, from the log's beginning.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path

import structlog

from batchyard_agent.runtimes import log_limit
from batchyard_agent.runtimes.job_user import JobUser

INTERVAL_S = 0.5
"""Between looks at what a log has more."""
FINISH_LIMIT_S = 10.0
"""How long the end of an attempt waits for its copy: the file may lie on a file system that has gone away."""

_READ_BYTES = 1 << 18

# Its words are arguments and never a part of it. What it cannot open it says on stderr, in the shell's words.
_WRITE = """
cd -- "$2" 2>/dev/null || cd -- "$3" || exit
case $1 in */*) mkdir -p -- "${1%/*}" || exit ;; esac
exec 3>"$1" && exec cat >&3
"""

_log = structlog.get_logger(__name__)


class OutputCopy:
    """
    The copy of one log.

    Args:
        path: Where it goes, as the job says.
        folders: Where that begins if it is not absolute: the first that can be entered.
        log_path: What is copied.
        user: Who writes it; None: this process's own user.
    """

    def __init__(self, path: str, folders: tuple[str, str], log_path: Path, user: JobUser | None) -> None:
        self._path = path
        self._folders = folders
        self._log_path = log_path
        self._user = user
        self._position = 0
        self._has_ended = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def finish(self) -> None:
        """Copy what is left, now that nothing more is written, and close the file."""
        self._has_ended.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(FINISH_LIMIT_S):
                await asyncio.shield(self._task)
                return
        _log.warning("copy of a log not finished", log=str(self._log_path), path=self._path)
        await self.close()

    async def close(self) -> None:
        """Copy no more."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        try:
            writer = await self._open()
        except OSError as error:
            await self._has_ended.wait()
            self._complain(str(error))
            return
        assert writer.stdin is not None
        assert writer.stderr is not None
        try:
            with suppress(BrokenPipeError, ConnectionResetError):
                await self._copy(writer.stdin)
            writer.stdin.close()
            said = await writer.stderr.read()  # a shell writes one line piece by piece
            if await writer.wait():
                await self._has_ended.wait()  # a container's log is filled by the engine meanwhile
                self._complain(said.decode(errors="replace").strip())
        finally:
            if writer.returncode is None:
                writer.kill()

    async def _open(self) -> asyncio.subprocess.Process:
        who = self._user.popen_arguments if self._user else {}
        return await asyncio.create_subprocess_exec(
            *("/bin/sh", "-c", _WRITE, "batchyard-output", self._path, *self._folders),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            cwd="/",
            env={"PATH": os.defpath},
            start_new_session=True,
            **who,
        )

    async def _copy(self, sink: asyncio.StreamWriter) -> None:
        while True:
            is_last = self._has_ended.is_set()  # before the look: nothing is written any more after it
            await self._copy_new(sink)
            if is_last:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL_S):
                    await self._has_ended.wait()

    async def _copy_new(self, sink: asyncio.StreamWriter) -> None:
        try:
            fd = os.open(self._log_path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            size = os.fstat(fd).st_size
            for start, stop in log_limit.stretches(fd, min(self._position, size), size):
                for first in range(start, stop, _READ_BYTES):
                    sink.write(os.pread(fd, min(_READ_BYTES, stop - first), first))
                    await sink.drain()
            self._position = size
        finally:
            os.close(fd)

    def _complain(self, why: str) -> None:
        """Say in the log that there is no copy."""
        why = " ".join(why.removeprefix("batchyard-output: ").split())
        line = f"[batchyard: the output file {self._path} cannot be written: {why or 'no reason known'}]\n"
        try:
            with self._log_path.open("a") as log:
                log.write(line)
        except OSError as error:
            _log.warning("log not written", log=str(self._log_path), error=str(error))
