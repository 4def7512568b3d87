"""
The size limit of a log, of which both ends are kept: the beginning and, where causes stand, the end.

A job's processes write straight into the file, without a copier between, so nothing stops
a write at the limit. Instead the middle is given back to the disk, again and again as the
file grows, and a hole is left: a byte's offset in the file is its offset in the output, and
stays so. Law: once ``enforce`` has seen a file that takes more disk than its limit, it
takes no more than that and a block until more is written; a marker line stands before the
hole; and readers skip holes (``stretches``), whoever made them.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from pathlib import Path

_FALLOC_KEEP_SIZE = 0x01
_FALLOC_PUNCH_HOLE = 0x02
_STAT_BLOCK_BYTES = 512
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def marker(limit_bytes: int) -> bytes:
    """Return the line that stands between the two ends kept."""
    return f"\n[batchyard: the log reached its limit of {limit_bytes} bytes; what stood here was dropped]\n".encode()


def head_end(fd: int, limit_bytes: int) -> int:
    """Return where the hole of a log begins that goes beyond its limit; the marker ends there."""
    block = _block_bytes(fd)
    return max(block, limit_bytes // 2 // block * block)


def enforce(path: Path, limit_bytes: int) -> bool:
    """
    Give the middle of a log back to the disk if it takes more than its limit, and say so in the log.

    Returns:
        False where the file system makes no holes: the log is bounded by ``finish`` alone.
    """
    if used_bytes(path) <= limit_bytes:
        return True
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        start = head_end(fd, limit_bytes)
        end = _tail_start(fd, limit_bytes)
        if end <= start:
            return True
        line = marker(limit_bytes)
        os.pwrite(fd, line, start - len(line))
        return _punch(fd, start, end - start)
    finally:
        os.close(fd)


def finish(path: Path, limit_bytes: int) -> None:
    """Bound the log of an ended attempt. Where there are no holes its end moves up to the marker."""
    if enforce(path, limit_bytes):
        return
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        position = head_end(fd, limit_bytes)
        source, size = _tail_start(fd, limit_bytes), os.fstat(fd).st_size
        while source < size:
            data = os.pread(fd, min(1 << 20, size - source), source)
            os.pwrite(fd, data, position)
            source, position = source + len(data), position + len(data)
        os.ftruncate(fd, position)
    finally:
        os.close(fd)


def used_bytes(path: Path) -> int:
    """Return what a file takes of the disk, its holes not; 0 when somebody has removed it."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return 0
    # A file system may have set aside more than was written.
    return min(stat.st_blocks * _STAT_BLOCK_BYTES, stat.st_size)


def stretches(fd: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield beginning and end of what stands in a file between two offsets, without its holes."""
    while start < end:
        try:
            start = os.lseek(fd, start, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # nothing but a hole up to the end
                raise
            return
        if start < end:
            stop = min(end, os.lseek(fd, start, os.SEEK_HOLE))
            yield start, stop
            start = stop


def _block_bytes(fd: int) -> int:
    return os.fstatvfs(fd).f_bsize


def _tail_start(fd: int, limit_bytes: int) -> int:
    block = _block_bytes(fd)
    return (os.fstat(fd).st_size - limit_bytes // 2) // block * block


def _punch(fd: int, offset: int, length: int) -> bool:
    if _libc.fallocate(fd, _FALLOC_PUNCH_HOLE | _FALLOC_KEEP_SIZE, offset, length) == 0:
        return True
    number = ctypes.get_errno()
    if number != errno.EOPNOTSUPP:
        raise OSError(number, os.strerror(number))
    return False
