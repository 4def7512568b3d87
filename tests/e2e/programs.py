"""
Our programs as real processes: started, killed and started again, by pid alone.

A program writes into a log file that is never truncated, so that after a failed
test the whole story of all its lives can be read. This module knows arguments
and signals; what the programs do is for ``yard``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from batchyard.errors import WorldError

POLL_S = 0.05
LIMIT_S = 30.0
LOG_TAIL_LINES = 60


class Program:
    """
    One program under our control.

    Args:
        name: What a person calls it.
        arguments: The argument vector.
        log: Where its output and errors go.
        environment: Over that of the tests.
    """

    def __init__(
        self, name: str, arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.arguments = list(arguments)
        self.log = log
        self.environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, *more: str) -> None:
        """Start it, or start it again, in a session of its own; *more* arguments count for this life only."""
        assert not self.is_running, f"{self.name} is running already"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            log.write(f"--- started: {' '.join([*self.arguments, *more])}\n".encode())
            log.flush()
            self._process = subprocess.Popen(
                [*self.arguments, *more],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **self.environment},
            )

    def kill(self) -> None:
        """End it on the spot, as a crash would."""
        assert self.is_running, f"{self.name} ended by itself, with {self._returncode()}:\n{self.tail()}"
        self._end(signal.SIGKILL, LIMIT_S)

    def stop(self, limit_s: float = LIMIT_S) -> int:
        """Ask it to end and return its exit code."""
        assert self.is_running, f"{self.name} ended by itself, with {self._returncode()}:\n{self.tail()}"
        return self._end(signal.SIGTERM, limit_s)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.is_running, f"{self.name} is not running"
        os.kill(self.pid, number)

    def wait(self, limit_s: float = LIMIT_S) -> int:
        """Wait until it ends by itself and return its exit code."""
        assert self._process is not None
        return self._process.wait(limit_s)

    def sweep(self) -> None:
        """Kill it if it runs. Idempotent."""
        if self.is_running:
            self._end(signal.SIGKILL, LIMIT_S)

    def text(self) -> str:
        """Return its whole log."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def tail(self) -> str:
        """Return the end of its log."""
        return "\n".join(self.text().splitlines()[-LOG_TAIL_LINES:])

    def _returncode(self) -> int | None:
        return self._process.returncode if self._process is not None else None

    def _end(self, number: signal.Signals, limit_s: float) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(limit_s)


def until(holds: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> None:
    """
    Wait until *holds* is true; a controller that is away counts as not yet.

    Raises:
        AssertionError: it was not within *limit_s*.
    """
    deadline = time.monotonic() + limit_s
    trouble = ""
    while True:
        try:
            if holds():
                return
            trouble = ""
        except WorldError as error:
            trouble = f" ({error})"
        assert time.monotonic() < deadline, f"not within {limit_s:g} s: {what}{trouble}"
        time.sleep(POLL_S)
