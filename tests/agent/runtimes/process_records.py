"""What a keeper has written down, read from outside: which attempts live, and an end to all of them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

from batchyard_agent.keeper import groups, marks, record

POLL_S = 0.05
END_LIMIT_S = 60.0


def kept(folder: Path) -> dict[str, record.Kept]:
    """Return the attempts in the journal of a keeper's folder, ended ones too."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with contextlib.suppress(FileNotFoundError):
        return record.parse((folder / record.NAME).read_bytes(), boot_id)
    return {}


def living(folder: Path) -> list[tuple[str, int]]:
    """Return names and commands' process ids of the attempts that live."""
    return [(name, each.pid) for name, each in kept(folder).items() if each.ended is None and each.pid]


def keeper(folder: Path) -> int:
    """Return the process id of the keeper of a folder; 0: it has none."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        pid = int((folder / "lock").read_text())
        if b"keeper" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    return 0


def signal_keeper(folder: Path, number: int = signal.SIGKILL) -> int:
    """Send a folder's keeper a signal, and return its process id; 0: it has none, and a signal to 0 ends all tests."""
    if pid := keeper(folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    return pid


def end_attempts(folder: Path) -> None:
    """End the attempts that outlived their agent and their keeper, and remove what is left of both."""
    deadline = time.monotonic() + END_LIMIT_S
    attempts = kept(folder)
    signal_keeper(folder)
    for each in attempts.values():
        while left := marks.marked(each.mark):
            assert time.monotonic() < deadline, f"attempts cannot be killed: {left}"
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(POLL_S)
        while each.groups and not groups.remove(each.groups):
            assert time.monotonic() < deadline, f"cannot remove {each.groups}"
            time.sleep(POLL_S)
    shutil.rmtree(folder, ignore_errors=True)
