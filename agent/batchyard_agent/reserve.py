"""
A file that holds a piece of the disk free for the journal, given up when the disk is full.

It knows nothing of what is written. Law: losing it is never an error; it is made again
when there is room.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

BYTES = 64 << 20
DISK_SHARE = 4
"""It takes at most one part in so many of what is free."""


class Reserve:
    """The reserve in one folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "reserve"

    def release(self) -> bool:
        """Give the piece back to the disk; False when there was none."""
        try:
            self._path.unlink()
        except FileNotFoundError:
            return False
        return True

    def fill(self) -> None:
        """Make the file as large as the disk allows now; what there is of it, as after a full disk, grows."""
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return
        try:
            held_bytes = os.fstat(fd).st_size
            free_bytes = shutil.disk_usage(self._path.parent).free
            wanted_bytes = min(BYTES, (held_bytes + free_bytes) // DISK_SHARE)
            if wanted_bytes > held_bytes:
                _grow(fd, held_bytes, wanted_bytes)
        finally:
            os.close(fd)


def _grow(fd: int, held_bytes: int, wanted_bytes: int) -> None:
    try:
        os.posix_fallocate(fd, 0, wanted_bytes)
    except OSError:  # somebody was faster
        os.ftruncate(fd, held_bytes)
