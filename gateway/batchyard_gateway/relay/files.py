"""Files: events as lines of JSON, for whoever follows a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from .bodies import Body
from .receivers import DeliveryError


class FileReceiver:
    """
    Appends to the file of a name below *folder*; on the disk once it returns.

    Args:
        name: With ``%Y``, ``%m``, ``%d`` and ``%H`` a file for each such time, in UTC.
        now: The present moment, in UTC.
    """

    def __init__(self, folder: Path, name: str, now: Callable[[], datetime]) -> None:
        self._folder = folder
        self._name = name
        self._now = now
        self._path: Path | None = None
        self._file: BinaryIO | None = None

    def deliver(self, bodies: Sequence[Body], secret: str) -> None:
        """See ``Receiver``."""
        lines = "".join(f"{body.text()}\n" for body in bodies).encode()
        try:
            file = self._open()
            end = file.seek(0, os.SEEK_END)
            if end and not self._ends_a_line(end):
                lines = b"\n" + lines  # a crash cut the last one short; its event comes again
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        except OSError as err:
            self.close()
            raise DeliveryError(f"{self._path or self._folder}: {err.strerror}") from err

    def _open(self) -> BinaryIO:
        path = self._folder / self._now().strftime(self._name)
        is_moved = self._file is not None and not _is_there(path, self._file)
        if self._file is None or path != self._path or is_moved:
            self.close()
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            self._file, self._path = os.fdopen(descriptor, "r+b", buffering=0), path
        return self._file

    def _ends_a_line(self, end: int) -> bool:
        assert self._file is not None, "it was opened"
        return os.pread(self._file.fileno(), 1, end - 1) == b"\n"

    def close(self) -> None:
        """See ``Receiver``."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _is_there(path: Path, file: BinaryIO) -> bool:
    """Say whether a file still bears its name: logrotate moves files away."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
