"""
What former versions left on a host, for agents that are upgraded.

Law: nothing here touches what a living attempt uses. Each part names what it is for, and
goes when nobody upgrades from that any more.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

from batchyard_agent.keeper import groups, marks

RETRY_S = 0.01


def remove_former_scratch(process_dir: Path) -> None:
    """
    Remove working folders whose attempts are gone from below the process runtime's state.

    They lay there before there was ``--scratch-dir``. An attempt has its record beside
    them until it is let go of. Blocks; never fails.
    """
    former = process_dir / "scratch"
    with suppress(OSError):  # mostly there is none
        for folder in list(former.iterdir()):
            if not (process_dir / "attempts" / folder.name).exists():
                shutil.rmtree(folder, ignore_errors=True)
        former.rmdir()


def end_former_attempts(process_dir: Path) -> set[str]:
    """
    End what runs under a supervisor of its own, as attempts did before there was a keeper, and return its names.

    Nobody would learn how it ends. Its record is in ``attempts``, held open by the supervisor as
    its stdin; what is in its cgroup, or else its session, is killed. Blocks.
    """
    former = process_dir / "attempts"
    found = sorted(former.iterdir()) if former.exists() else []
    for record in found:
        with suppress(ValueError, KeyError, TypeError, IndexError, OSError):
            header, *lines = record.read_text(errors="replace").splitlines()
            folders = [str(folder) for folder in json.loads(header)["cgroup"]]
            pids = [int(line.split()[1]) for line in lines if line.startswith("pid ")][:1]
            _end(record, pids, folders)
        record.unlink(missing_ok=True)
    with suppress(OSError):
        former.rmdir()
    return {record.name for record in found}


def _end(record: Path, supervisors: list[int], folders: list[str]) -> None:
    while True:
        left = groups.pids(folders) if folders else []
        for pid in marks.pids():
            with suppress(OSError):
                if os.getsid(pid) in supervisors and marks.lives(pid) and _keeps(os.getsid(pid), record):
                    left.append(pid)
        if not left:
            break
        # The supervisor last: as long as it lives, its number is its session's.
        for pid in sorted(left, key=lambda pid: pid in supervisors):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(RETRY_S)
    while folders and not groups.remove(folders):
        time.sleep(RETRY_S)


def _keeps(pid: int, record: Path) -> bool:
    with suppress(OSError):
        return record.samefile(f"/proc/{pid}/fd/0")
    return False
