"""The process runtime's records, read from outside: which attempts live, and an end to all of them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from batchyard_agent.runtimes import cgroup, supervisor

POLL_S = 0.05
END_LIMIT_S = 10.0


def records(folder: Path) -> list[Path]:
    """Return the records that the runtime of this folder keeps, of ended attempts too."""
    return [*(folder / "attempts").glob("*")]


def supervisors(folder: Path) -> list[tuple[Path, int]]:
    """Return the records of the attempts that live, each with its supervisor's process id."""
    found = []
    for path in records(folder):
        with contextlib.suppress(FileNotFoundError):  # it ended just now
            record = supervisor.read_record(path)
            if supervisor.is_locked(path) and record is not None and record.pid is not None:
                found.append((path, record.pid))
    return found


def end_attempts(folder: Path) -> None:
    """End the attempts that outlived their agent, as they are made to, and remove their cgroups."""
    deadline = time.monotonic() + END_LIMIT_S
    while living := supervisors(folder):
        assert time.monotonic() < deadline, f"attempts cannot be killed: {living}"
        for _, pid in living:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        time.sleep(POLL_S)
    for path in records(folder):
        record = supervisor.read_record(path)
        while record is not None and not cgroup.remove(record.cgroup):
            assert time.monotonic() < deadline, f"cannot remove {record.cgroup}"
            time.sleep(POLL_S)
