"""A person at a terminal of their own: a command line in a pseudo-terminal, what it shows, and what is typed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from types import TracebackType
from typing import Self

LIMIT_S = 90.0


class Person:
    """One command line of Batchyard's, run in a terminal of 33 rows and 99 columns."""

    def __init__(self, address: str, *arguments: str) -> None:
        self.shown = b""
        self.pid, self._terminal = pty.fork()
        if not self.pid:
            os.environ["TERM"] = "vt100"
            os.execv(sys.executable, [sys.executable, "-m", "batchyard", "--address", address, *arguments])
        self._resize(33, 99)

    def see(self, words: bytes) -> None:
        """Wait until it has shown *words* since this was last asked."""
        give_up_at_s = time.monotonic() + LIMIT_S
        while words not in self.shown:
            assert time.monotonic() < give_up_at_s, f"not shown: {words!r}; shown: {self.shown!r}"
            assert self._read(1.0), f"it ended without {words!r}; shown: {self.shown!r}"
        self.shown = self.shown.partition(words)[2]

    def press(self, keys: bytes) -> None:
        os.write(self._terminal, keys)

    def resize(self, rows: int, columns: int) -> None:
        self._resize(rows, columns)
        os.kill(self.pid, signal.SIGWINCH)

    def _resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def _read(self, limit_s: float) -> bool:
        if select.select([self._terminal], [], [], limit_s)[0]:
            try:
                data = os.read(self._terminal, 65536)
            except OSError:
                return False
            self.shown += data
            return bool(data)
        return True

    def end(self) -> int:
        """Wait for the end and return the exit code."""
        give_up_at_s = time.monotonic() + LIMIT_S
        while self._read(1.0):
            assert time.monotonic() < give_up_at_s, f"it does not end; shown: {self.shown!r}"
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.pid = 0
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._terminal)
