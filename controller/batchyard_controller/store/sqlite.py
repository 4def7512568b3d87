"""
The sqlite store: one file on one machine, no server.

Leadership is an exclusive lock on ``<path>.lock``, which the kernel lets go of
when its holder dies, however it dies. Each leadership raises the epoch in the
file, and every commit compares it inside its own transaction. Law: a commit
that returned is on the disk (WAL, ``synchronous=FULL``). All work on the file
is done in one thread, so the event loop never waits for the disk.

The file must lie on a local disk: neither WAL nor the lock can be relied on
over a network.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ParamSpec, TypeVar

from batchyard.state_folder import make_private_folder
from batchyard_controller.core.model.room import Room
from batchyard_controller.store.packing import check, merge
from batchyard_controller.store.protocol import (
    Atom,
    Change,
    Delete,
    DeposedError,
    Put,
    StoreUnavailableError,
    UnknownOutcomeError,
)

PAGE_PAIRS = 2000
LAYOUT = 1
"""Layout of the tables, kept in ``user_version``."""

TEND_S = 10.0
RESERVE_BYTES = 64 << 20
"""Of the disk, what is kept for what becomes of jobs that are there already."""
WAL_BYTES = 64 << 20
"""Length of the write-ahead log from which on it is cut; SQLite itself lets it stay as long as it ever was."""
VACUUM_PAGES = 1_000
"""Free pages that are given back to the disk at a time; a few milliseconds."""
_FREE_SHARE = 4
"""A file is made smaller from the moment that a quarter of it is free."""

_LOCK_POLL_S = 0.1
_BUSY_S = 5.0

_TABLES = """
CREATE TABLE IF NOT EXISTS kv (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS meta (one INTEGER PRIMARY KEY CHECK (one = 1), epoch INTEGER NOT NULL, leader TEXT NOT NULL);
INSERT OR IGNORE INTO meta VALUES (1, 0, '');
"""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class _Term:
    epoch: int
    lock_fd: int
    over: asyncio.Event = field(default_factory=asyncio.Event)


def is_led(path: Path) -> bool:
    """Say whether somebody leads in the file at *path*, without opening it."""
    try:
        lock_fd = os.open(_lock_path(path), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock_fd)
    return False


def _lock_path(path: Path) -> str:
    return f"{path}.lock"


class SqliteStore:
    """
    A ``Store`` in the SQLite file at *path*.

    The file is made, mode 0600, if it is missing, and so is its folder, mode
    0700. Nothing is touched before the first call.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._term: _Term | None = None
        self._closed = False
        # The rest belongs to the worker thread.
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite-store")
        self._writer: sqlite3.Connection | None = None
        self._readers: set[sqlite3.Connection] = set()

    async def campaign(self, candidate: str) -> int:
        """See ``Store``."""
        await self.resign()
        try:
            lock_fd = await self._lock()
            try:
                epoch = await self._in_worker(self._raise_epoch, candidate)
            except BaseException:
                os.close(lock_fd)
                raise
        except (sqlite3.Error, OSError) as err:
            raise StoreUnavailableError(f"{self._path}: {err}") from err
        self._term = _Term(epoch=epoch, lock_fd=lock_fd)
        return epoch

    def leads(self, epoch: int) -> bool:
        """See ``Store``; the kernel lets nobody else have the lock."""
        return self._term is not None and self._term.epoch == epoch

    async def deposed(self) -> None:
        """See ``Store``."""
        if self._term is not None:
            await self._term.over.wait()

    async def resign(self) -> None:
        """See ``Store``."""
        if self._term is not None:
            term, self._term = self._term, None
            # A commit still under way is safe: the next epoch waits for it, or shuts it out.
            os.close(term.lock_fd)
            term.over.set()

    async def load(self, prefix: str = "") -> AsyncIterator[list[tuple[str, bytes]]]:
        """See ``Store``."""
        reader: sqlite3.Connection | None = None
        try:
            reader, rows = await self._in_worker(self._begin_read, prefix)
            while page := await self._in_worker(_next_page, rows, prefix):
                yield page
        except (sqlite3.Error, OSError) as err:
            raise StoreUnavailableError(f"{self._path}: {err}") from err
        finally:
            if reader is not None and not self._closed:
                self._worker.submit(self._end_read, reader)

    def follow(self) -> None:
        """See ``Store``; a file is of one machine, and what takes its controller takes all."""
        return None  # noqa: RET501  (None is the answer)

    async def commit(self, atoms: Sequence[Atom], epoch: int) -> None:
        """See ``Store``."""
        check(atoms)
        if self._term is None or self._term.epoch != epoch:
            raise DeposedError(f"epoch {epoch} is not led by this store")
        try:
            await self._in_worker(self._write, merge(atoms), epoch)
        except DeposedError:
            await self.resign()
            raise
        except (sqlite3.Error, OSError) as err:
            await self.resign()
            raise UnknownOutcomeError(f"{self._path}: {err}") from err

    async def tend(self, tell: Callable[[Room], None]) -> None:
        """See ``Store``; who waits for a file leaves it alone."""
        while True:
            if self._term is not None:
                with contextlib.suppress(StoreUnavailableError, sqlite3.Error, OSError):  # who needs the store says so
                    tell(await self._in_worker(self._keep))
            await asyncio.sleep(TEND_S)

    async def close(self) -> None:
        """See ``Store``."""
        if self._closed:
            return
        await self.resign()
        closing = self._worker.submit(self._close_files)
        self._closed = True
        await asyncio.wrap_future(closing)
        self._worker.shutdown(wait=False)

    async def _lock(self) -> int:
        """Wait for the lock and return the descriptor that holds it."""
        make_private_folder(self._path.parent)
        lock_fd = os.open(_lock_path(self._path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while True:
                # A blocking flock could not be cancelled.
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return lock_fd
                await asyncio.sleep(_LOCK_POLL_S)
        except BaseException:
            os.close(lock_fd)
            raise

    async def _in_worker(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._closed:
            raise StoreUnavailableError(f"{self._path}: this store is closed")
        future = self._worker.submit(work, *args, **kwargs)
        return await asyncio.wrap_future(future)

    # What follows runs in the worker thread.

    def _connect(self) -> sqlite3.Connection:
        make_private_folder(self._path.parent)
        # SQLite would make the file readable for all; its -wal and -shm copy this mode.
        # A file that is there is not opened: closing it would drop the locks that
        # this process's other connections hold on it (POSIX).
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None)
        try:
            self._set_up(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_up(self, connection: sqlite3.Connection) -> None:
        (layout,) = connection.execute("PRAGMA user_version").fetchone()
        if layout not in (0, LAYOUT):
            raise StoreUnavailableError(f"{self._path} has layout {layout}; this Batchyard knows layout {LAYOUT} alone")
        if layout == 0:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # of use before there is anything alone
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise StoreUnavailableError(f"{self._path} is on a file system that cannot hold a store (no WAL)")
        connection.execute("PRAGMA synchronous = FULL")
        if layout == 0:
            connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {LAYOUT}; COMMIT;")

    def _writing(self) -> sqlite3.Connection:
        if self._writer is None:
            self._writer = self._connect()
        return self._writer

    def _raise_epoch(self, candidate: str) -> int:
        # A fresh connection: the last one may have failed.
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        with _transaction(self._writing()) as connection:
            connection.execute("UPDATE meta SET epoch = epoch + 1, leader = ?", (candidate,))
            return _read_epoch(connection)

    def _write(self, changes: Sequence[Change], epoch: int) -> None:
        with _transaction(self._writing()) as connection:
            current = _read_epoch(connection)
            if current != epoch:
                raise DeposedError(f"epoch {epoch} does not lead; {current} does")
            puts = ((change.key, change.value) for change in changes if isinstance(change, Put))
            connection.executemany("INSERT OR REPLACE INTO kv VALUES (?, ?)", puts)
            deletes = ((change.key,) for change in changes if isinstance(change, Delete))
            connection.executemany("DELETE FROM kv WHERE key = ?", deletes)

    def _keep(self) -> Room:
        """Give back what is free, a little at a time, and tell what room there is."""
        connection = self._writing()
        pages, free, page_bytes = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        if free * _FREE_SHARE > pages:
            connection.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
        wal = Path(f"{self._path}-wal")
        if wal.exists() and wal.stat().st_size > WAL_BYTES:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        disk = os.statvfs(self._path)
        room = Room(
            size_bytes=pages * page_bytes,
            used_bytes=(pages - free) * page_bytes,
            quota_bytes=pages * page_bytes + disk.f_bavail * disk.f_frsize,
            reserve_bytes=RESERVE_BYTES,
        )
        if not room.is_tight:
            return room
        return replace(room, fault=f"the disk of {self._path} is nearly full: make room there")

    def _begin_read(self, prefix: str) -> tuple[sqlite3.Connection, sqlite3.Cursor]:
        reader = self._connect()
        self._readers.add(reader)
        reader.execute("BEGIN")
        # Any read fixes the moment that the transaction sees.
        return reader, reader.execute("SELECT key, value FROM kv WHERE key >= ? ORDER BY key", (prefix,))

    def _end_read(self, reader: sqlite3.Connection) -> None:
        self._readers.discard(reader)
        reader.close()

    def _close_files(self) -> None:
        for reader in self._readers:
            reader.close()
        self._readers.clear()
        if self._writer is not None:
            self._writer.close()
            self._writer = None


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        # Some failures, a full disk among them, have rolled back already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _read_epoch(connection: sqlite3.Connection) -> int:
    (epoch,) = connection.execute("SELECT epoch FROM meta").fetchone()
    assert isinstance(epoch, int)
    return epoch


def _next_page(rows: sqlite3.Cursor, prefix: str) -> list[tuple[str, bytes]]:
    # Keys come in order, so the first one without the prefix is past the end.
    page = rows.fetchmany(PAGE_PAIRS)
    return [(key, value) for key, value in page if key.startswith(prefix)]
