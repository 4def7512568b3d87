"""
The size limit of a log, of which both ends are kept: the beginning and, where causes stand, the end.

A job's processes write straight into the file, without a copier between, so nothing stops
a write at the limit. Instead the middle is given back to the disk, again and again as the
file grows, and a hole is left: a byte's offset in the file is its offset in the output, and
stays so. Law: once ``enforce`` has seen a file that holds more than its limit, it
holds no more than that and a block until more is written; a marker line stands before the
hole; and readers skip holes (``stretches``), whoever made them.

A job may also set disk aside beyond the end of its log, as ``fallocate -n`` does. Once more
the limit is left to it (file systems do so themselves); what goes beyond becomes a hole in
the log, behind which the job writes on.
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
_BLOCK_BYTES = 4096
"""What most file systems round up to; one that takes more is looked at once more than needed."""

_ASIDE_BYTES_MIN = 1 << 20
"""What may be set aside of a log however low its limit is: file systems count in blocks of their own."""

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
    Give the middle of a log back to the disk if it holds more than its limit, and say so in the log.

    Returns:
        False where the file system makes no holes: the log is bounded by ``finish`` alone.
    """
    if used_bytes(path) <= limit_bytes:
        return True
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        _give_back(fd, limit_bytes)
        return _held_bytes(fd) <= limit_bytes or _drop_middle(fd, limit_bytes)
    finally:
        os.close(fd)


def _drop_middle(fd: int, limit_bytes: int) -> bool:
    start = head_end(fd, limit_bytes)
    end = _tail_start(fd, limit_bytes)
    if end <= start:
        return True
    line = marker(limit_bytes)
    os.pwrite(fd, line, start - len(line))
    return _punch(fd, start, end - start)


def _give_back(fd: int, limit_bytes: int) -> None:
    """
    Give back what was set aside and not written, and lose nothing that is being appended.

    To cut the file off at its end would be to lose what is written between two calls. So the
    end is moved up first: below it nothing is written any more, and all that is no data there
    can go. What lies farther away is reached the next times, as the steps grow with the file.
    """
    size, left = os.fstat(fd).st_size, max(limit_bytes, _ASIDE_BYTES_MIN)
    if _aside_bytes(fd) > left and _punch_gaps(fd, 0, size) and (aside := _aside_bytes(fd)) > left:
        os.ftruncate(fd, 2 * size + aside)
        _punch_gaps(fd, size, 2 * size + aside)


def _aside_bytes(fd: int) -> int:
    used = os.fstat(fd).st_blocks * _STAT_BLOCK_BYTES  # first: what is written between the two is not aside
    return used - _held_bytes(fd)


def _punch_gaps(fd: int, position: int, end: int) -> bool:
    for start, stop in [*stretches(fd, position, end), (end, end)]:
        if start > position and not _punch(fd, position, start - position):
            return False
        position = stop
    return True


def _held_bytes(fd: int) -> int:
    return sum(stop - start for start, stop in stretches(fd, 0, os.fstat(fd).st_size))


def finish(path: Path, limit_bytes: int) -> None:
    """Bound the log of an ended attempt. Where there are no holes its end moves up to the marker."""
    used = used_bytes(path)
    if used <= limit_bytes and used < _size(path) + _BLOCK_BYTES:
        return
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.ftruncate(fd, os.fstat(fd).st_size)  # nobody writes any more: what was set aside beyond goes
        _give_back(fd, limit_bytes)
        if _held_bytes(fd) <= limit_bytes or _drop_middle(fd, limit_bytes):
            return
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
    """Return what a file takes of the disk: not its holes, but what was set aside; 0 when somebody has removed it."""
    try:
        return path.stat().st_blocks * _STAT_BLOCK_BYTES
    except FileNotFoundError:
        return 0


def was_written(path: Path) -> bool:
    """Say whether anything was made of a log; small ones may take no block of their own."""
    return used_bytes(path) > 0 or _size(path) > 0


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


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
