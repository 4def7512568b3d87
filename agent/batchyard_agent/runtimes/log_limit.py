"""
The size limit of a log that a process writes straight into.

Output goes from the attempt's processes to the file without a copier between, so
nothing stops a write at the limit. Law: once ``enforce`` has seen the file beyond
the limit, its first *limit* bytes and the marker line behind them never change, and
what comes later takes no disk beyond the next call. Until ``finish`` the file's size may be
larger than that (the rest is a hole); readers stop behind the marker.
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

_FALLOC_KEEP_SIZE = 0x01
_FALLOC_PUNCH_HOLE = 0x02
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def marker(limit_bytes: int) -> bytes:
    """Return the line that stands behind the last byte kept."""
    return f"\n[batchyard: the log reached its limit of {limit_bytes} bytes; the rest was dropped]\n".encode()


def enforce(path: Path, limit_bytes: int) -> None:
    """Drop what a running attempt has written beyond the limit, and say so in the log."""
    if size_bytes(path) <= limit_bytes:
        return
    line = marker(limit_bytes)
    end = limit_bytes + len(line)
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        if size > end:
            _punch(fd, end, size - end)
        os.pwrite(fd, line, limit_bytes)
    finally:
        os.close(fd)


def finish(path: Path, limit_bytes: int) -> None:
    """Cut the log of an ended attempt behind its marker, if it went beyond the limit."""
    if size_bytes(path) > limit_bytes:
        enforce(path, limit_bytes)
        os.truncate(path, limit_bytes + len(marker(limit_bytes)))


def size_bytes(path: Path) -> int:
    """Return the size of a file; 0 when somebody has removed it."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _punch(fd: int, offset: int, length: int) -> None:
    if _libc.fallocate(fd, _FALLOC_PUNCH_HOLE | _FALLOC_KEEP_SIZE, offset, length) == 0:
        return
    number = ctypes.get_errno()
    if number != errno.EOPNOTSUPP:  # a file system without holes: the rest goes at the end
        raise OSError(number, os.strerror(number))
