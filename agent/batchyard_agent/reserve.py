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
        """Make the file if it is not there and the disk has room for more than it."""
        free_bytes = shutil.disk_usage(self._path.parent).free
        if self._path.exists() or free_bytes // DISK_SHARE < 1:
            return
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError:
            return
        try:
            os.posix_fallocate(fd, 0, min(BYTES, free_bytes // DISK_SHARE))
        except OSError:  # somebody was faster
            self._path.unlink(missing_ok=True)
        finally:
            os.close(fd)
