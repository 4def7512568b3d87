"""
Audit: who changed or was refused what, from where, in files that show when they were tampered with.

One JSON object a line, each with the hash of the line before it (see ``batchyard.audit_log``),
written before the caller is answered. Files are rotated at a size and the oldest deleted, so
that they are bounded; the chain goes on from file to file. Law: no body of a request, no
secret and no credential is written, only names.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
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
        if self.folder is None:
            return
        named = str(getattr(request, row.named, ""))[:NAME_LENGTH_MAX] if row.named else ""
        entry = {
            "at": datetime.fromtimestamp(self._now_ms() / 1000, UTC).isoformat(timespec="milliseconds"),
            "who": principal.name or "nobody",
            "via": principal.via,
            "from": peer.address or peer.kind.value,
            "call": method.rpartition("/")[2],
            "thing": named,
            "outcome": "OK" if error is None else str(error.reason),
        }
        line, head = add(self.head, entry)
        try:
            self._append(self.folder, f"{line}\n".encode())
        except OSError as failed:
            text = f"the audit log cannot be written ({failed.strerror}); whether this was carried out is unknown"
            raise UnavailableError(text, reason=Reason.AUDIT_FAILED) from failed
        self.head = head

    def _append(self, folder: Path, data: bytes) -> None:
        if self._size and self._size + len(data) > self._file_bytes_max:
            self._rotate(folder)
        written = os.write(self._descriptor, data)
        if written != len(data):  # a full disk: no half line stays
            os.ftruncate(self._descriptor, self._size)
            raise OSError(None, "no room")
        self._size += written

    def _rotate(self, folder: Path) -> None:
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
                self.head = read(whole.rpartition(b"\n")[2].decode(errors="replace"))
