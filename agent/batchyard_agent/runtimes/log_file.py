"""
The log file of a container whose engine keeps its output too, and offers that from its beginning.

So the file is its own bookmark: whoever takes up a log again reads from the beginning and
skips what the file holds, or held before ``log_limit`` dropped it. Law: the file takes about
``log_bytes_max`` of the disk, no byte is written twice while the engine has the output's
beginning, and where output was lost the file says so.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from batchyard_agent.runtimes import log_limit

_BOUND_EVERY_BYTES = 1 << 20
"""What a log may grow beyond its limit before its middle is dropped."""

LOST_MARKER = b"\n[batchyard: some output was lost here]\n"


class LogFile:
    """
    Takes one container's output, offered from its beginning.

    A context manager; one thread at a time opens, fills and closes it.

    Args:
        path: The log; what it holds is taken for the output's beginning.
        bytes_max: See ``LaunchSpec.log_bytes_max``.

    Raises:
        OSError: the file cannot be opened, read or written.
    """

    def __init__(self, path: Path, bytes_max: int) -> None:
        self._path = path
        self._bytes_max = bytes_max
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._held = os.fstat(self._fd).st_size
        self._bounded = self._held
        self._offered = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take no more, and bound what was taken."""
        os.close(self._fd)
        log_limit.finish(self._path, self._bytes_max)

    def take(self, data: bytes) -> None:
        """Take the next bytes of output: skip what is held, append the rest."""
        if known := min(len(data), self._held - self._offered):
            if self._holds(data[:known]):
                self._offered += known
                data = data[known:]
            else:
                # The beginning was thrown away by whoever keeps it.
                self._append(LOST_MARKER)
                self._offered = self._held
        self._append(data)
        self._offered += len(data)
        if self._held - self._bounded >= _BOUND_EVERY_BYTES:
            log_limit.enforce(self._path, self._bytes_max)
            self._bounded = self._held

    def _holds(self, data: bytes) -> bool:
        """Say whether *data* stands where output was offered last, as far as it was not dropped."""
        start, end = self._offered, self._offered + len(data)
        line = log_limit.marker(self._bytes_max)
        marked = log_limit.head_end(self._fd, self._bytes_max) - len(line)
        if os.pread(self._fd, len(line), marked) == line:
            parts = [(start, min(end, marked)), (max(start, marked + len(line)), end)]
        else:
            parts = [(start, end)]
        return all(
            os.pread(self._fd, stop - first, first) == data[first - start : stop - start]
            for part in parts
            for first, stop in log_limit.stretches(self._fd, *part)
        )

    def _append(self, data: bytes) -> None:
        while data:
            written = os.write(self._fd, data)
            self._held += written
            data = data[written:]
