"""
Audit: who changed or was refused what, from where, in files that show when they were tampered with.

One JSON object a line, each with the hash of the line before it (see ``batchyard.audit_log``),
written before the caller is answered. Files are rotated at a size and the oldest deleted, so
that they are bounded; the chain goes on from file to file. Law: no body of a request, no
secret and no credential is written, only names.
"""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Callable
from datetime import UTC, datetime
from functools import reduce
from pathlib import Path
from typing import Any

from batchyard.audit_log import Link, add, file_name, files_of, number_of, read
from batchyard.errors import BatchyardError, Reason, UnavailableError
from batchyard.state_folder import make_private_folder

from .core.access.roles import Principal
from .core.access.table import Row
from .doors import Peer

FILE_BYTES_MAX = 64 << 20
FILES_MAX = 16
"""So that all together are at most a gibibyte."""
NAME_LENGTH_MAX = 200
_TAIL_BYTES = 1 << 16
"""A line is shorter."""


class _Batch:
    """Lines that are written together, and what stood against it."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.error: OSError | None = None


class Audit:
    """
    The log of one controller.

    Args:
        folder: Of it alone; made for its owner alone. None: nothing is written.
        now_ms: The wall clock.
        file_bytes_max: When the next file is begun.

    Raises:
        OSError: it cannot be written.
        BrokenChainError: what stands last in it is no line of an audit log.
    """

    def __init__(self, folder: Path | None, now_ms: Callable[[], int], file_bytes_max: int = FILE_BYTES_MAX) -> None:
        self.folder = folder
        self.head = Link()
        """Where the files have come to."""
        self._end = Link()
        """The same with what is about to be written."""
        self._batch = _Batch()
        self._now_ms = now_ms
        self._file_bytes_max = file_bytes_max
        self._size = 0
        self._descriptor = -1
        if folder is not None:
            make_private_folder(folder)
            present = files_of(folder)
            self._number = number_of(present[-1]) if present else 1
            self._open(folder)

    def close(self) -> None:
        """Write no more."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def write(
        self,
        method: str,
        row: Row,
        peer: Peer,
        principal: Principal,
        request: Any,
        error: BatchyardError | None = None,
    ) -> None:
        """
        Write one line.

        Raises:
            UnavailableError: it could not be written.
        """
        if self.folder is not None:
            self._add(method, row, peer, principal, request, error)
            self._settle(self._batch)

    async def write_together(self, method: str, row: Row, peer: Peer, principal: Principal, request: Any) -> None:
        """
        Write one line of a call that was carried out, in one with those of others that are answered now.

        A write for each would let go of the interpreter as often, which costs more than the write.

        Raises:
            UnavailableError: it could not be written.
        """
        if self.folder is not None:
            self._add(method, row, peer, principal, request, None)
            batch = self._batch
            try:
                await asyncio.sleep(0)
            finally:
                self._settle(batch)

    def _add(
        self, method: str, row: Row, peer: Peer, principal: Principal, request: Any, error: BatchyardError | None
    ) -> None:
        entry = {
            "at": datetime.fromtimestamp(self._now_ms() / 1000, UTC).isoformat(timespec="milliseconds"),
            "who": principal.name or "nobody",
            "via": principal.via,
            "from": peer.address or peer.kind.value,
            "call": method.rpartition("/")[2],
            "thing": _named(request, row.named)[:NAME_LENGTH_MAX],
            "outcome": "OK" if error is None else str(error.reason),
        }
        line, self._end = add(self._end, entry)
        self._batch.lines.append(f"{line}\n".encode())

    def _settle(self, batch: _Batch) -> None:
        """Write a batch, if nobody has, and say how that went."""
        if batch is self._batch:
            self._batch = _Batch()
            try:
                self._append(b"".join(batch.lines))
                self.head = self._end
            except OSError as error:
                batch.error, self._end = error, self.head
        if batch.error is not None:
            text = f"the audit log cannot be written ({batch.error.strerror}); whether this was carried out is unknown"
            raise UnavailableError(text, reason=Reason.AUDIT_FAILED) from batch.error

    def _append(self, data: bytes) -> None:
        if self._size and self._size + len(data) > self._file_bytes_max:
            self._rotate()
        written = os.write(self._descriptor, data)
        if written != len(data):  # a full disk: no half line stays
            os.ftruncate(self._descriptor, self._size)
            raise OSError(None, "no room")
        self._size += written

    def _rotate(self) -> None:
        folder = self.folder
        assert folder is not None, "nothing is written without"
        os.fsync(self._descriptor)
        self.close()
        self._number += 1
        self._open(folder)
        for old in files_of(folder)[:-FILES_MAX]:
            old.unlink()

    def _open(self, folder: Path) -> None:
        path = folder / file_name(self._number)
        self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._descriptor).st_size
        if self._size:
            tail = os.pread(self._descriptor, _TAIL_BYTES, max(0, self._size - _TAIL_BYTES))
            whole, _, cut = tail.rpartition(b"\n")
            if cut:  # the machine went down while it was written, and nobody was answered
                self._size -= len(cut)
                os.ftruncate(self._descriptor, self._size)
            if whole:
                self.head = self._end = read(whole.rpartition(b"\n")[2].decode(errors="replace"))


def _named(request: Any, path: str) -> str:
    """Return the fields of a request that name its thing, words as a shell would take them; empty without."""
    if request is None or not path:
        return ""
    found = [
        reduce(lambda message, name: getattr(message, name, ""), each.split("."), request) for each in path.split()
    ]
    return " ".join(each if isinstance(each, str) else shlex.join(each) for each in found if each)
