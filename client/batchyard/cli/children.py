"""
Children: the controller and agents that ``batchyard up`` starts, and how they end.

It knows nothing of what they do: argument vectors in, exit codes out. Its law: a
child that this process started is stopped by it, and only by its process id.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from batchyard.cli.clock import now_s

STOP_GRACE_S = 10.0
"""From SIGTERM to SIGKILL."""

_TAIL_BYTES = 2000

# The kernel sends SIGTERM (15) to a child whose parent has died, however it died; this
# (prctl, PR_SET_PDEATHSIG = 1) outlives exec. A parent that died before is seen by its pid.
_DIE_WITH_PARENT = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """
    What to start.

    Attributes:
        name: What a person calls it: ``controller``, ``agent-1``.
        arguments: The argument vector.
        log: Where its output and errors go, appended.
    """

    name: str
    arguments: tuple[str, ...]
    log: Path


@dataclass(slots=True)
class Child:
    """One started process; ``shown`` is how much of its log a person has seen."""

    spec: ChildSpec
    process: subprocess.Popen[bytes]
    shown: int


@dataclass(slots=True)
class Children:
    """The processes started so far, in order."""

    running: list[Child] = field(default_factory=list)

    def start(self, spec: ChildSpec) -> None:
        """
        Start a process in a session of its own, so that a terminal's Ctrl-C does not reach it.

        It is told to stop if this process dies without doing so; call from the main thread,
        whose end counts as this process's.

        Raises:
            OSError: it cannot be started or its log not be written.
        """
        spec.log.parent.mkdir(parents=True, exist_ok=True)
        with spec.log.open("ab") as log:
            # Buffered output of a child that dies would be lost, and it is what says why.
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *spec.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},  # noqa: TID251  # handed on as it is
            )
            self.running.append(Child(spec, process, log.tell()))

    def dead(self) -> Child | None:
        """Return a child that has ended, if any."""
        return next((child for child in self.running if child.process.poll() is not None), None)

    def new_log_lines(self) -> Iterator[str]:
        """Yield the whole lines that children have logged since the last call, each with its child's name."""
        for child in self.running:
            with child.spec.log.open("rb") as log:
                log.seek(child.shown)
                data = log.read()
            whole = data[: data.rfind(b"\n") + 1]
            child.shown += len(whole)
            for line in whole.decode(errors="replace").splitlines():
                yield f"{child.spec.name} | {line}"

    def stop(self) -> list[str]:
        """
        Stop all: SIGTERM, last started first, then SIGKILL after ``STOP_GRACE_S``.

        Returns:
            Names of those that had to be killed.
        """
        alive = [child for child in reversed(self.running) if child.process.poll() is None]
        for child in alive:
            child.process.send_signal(signal.SIGTERM)
        killed = []
        give_up_at = now_s() + STOP_GRACE_S
        for child in alive:
            try:
                child.process.wait(max(give_up_at - now_s(), 0))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
                killed.append(child.spec.name)
        self.running.clear()
        return killed


def last_words(spec: ChildSpec) -> Sequence[str]:
    """Return the last lines of a child's log: why it died."""
    with spec.log.open("rb") as log:
        log.seek(max(log.seek(0, os.SEEK_END) - _TAIL_BYTES, 0))
        return log.read().decode(errors="replace").splitlines()[-12:]
