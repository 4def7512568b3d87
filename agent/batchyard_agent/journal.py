"""
The agent's memory across its own death: one SQLite file and a lock.

It stores what the core hands it and decides nothing. Law: when ``commit``
returns, what it was given survives this process, however that dies; and a power cut too if
it held ``Meta``, with all before it (WAL; synchronous=FULL for these), or as soon as ``sync``
has returned. A power cut ends all attempts as well: the controller counts as lost what it claimed in an earlier boot of a
host and the host does not know, so that no start has to wait for the disk. All
writing happens in one thread, so that the event loop never waits for the disk.
A full disk ends nothing: the journal's files hold room that is written over, then a
reserve is given up, and when that is used up too, ``commit`` says so and is to be called
again.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO

import structlog

from batchyard.ids import AttemptId
from batchyard.resources import Usage
from batchyard.state_folder import make_private_folder
from batchyard.states import EndCause
from batchyard.tasks import ContainerEnd
from batchyard_agent.core.attempts import Attempt, AttemptSpec, Meta, Phase, Stop
from batchyard_agent.reserve import Reserve

SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS attempts (
    attempt_id TEXT PRIMARY KEY,
    phase TEXT NOT NULL,
    runtime TEXT NOT NULL,
    launched INTEGER NOT NULL,
    started_at_ms INTEGER NOT NULL,
    stopped_at_ms INTEGER NOT NULL,
    exit_code INTEGER,
    cause TEXT,
    reason TEXT NOT NULL,
    stop_cause TEXT,
    stop_reason TEXT,
    stop_grace_ms INTEGER,
    stop_kill_at_ms INTEGER,
    done_at_ms INTEGER NOT NULL,
    spec BLOB,
    timeout_at_ms INTEGER,
    peak_memory_kib INTEGER NOT NULL DEFAULT 0,
    user_cpu_ms INTEGER NOT NULL DEFAULT 0,
    system_cpu_ms INTEGER NOT NULL DEFAULT 0,
    containers TEXT
) WITHOUT ROWID;
"""
_COLUMNS = (
    *("attempt_id", "phase", "runtime", "launched", "started_at_ms", "stopped_at_ms", "exit_code", "cause", "reason"),
    *("stop_cause", "stop_reason", "stop_grace_ms", "stop_kill_at_ms", "done_at_ms", "spec", "timeout_at_ms"),
    *Usage.__slots__,
    "containers",
)
_WRITE = f"INSERT OR REPLACE INTO attempts ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608
_BURY = "UPDATE attempts SET phase = 'DONE', done_at_ms = ?, spec = NULL WHERE attempt_id = ?"
"""All else stays as it was when the attempt had ended."""

ROOM_BYTES = 8 << 20
"""What the database and its log have in themselves; a log of the usual 1000 pages is written over from its beginning."""
ROOM_DISK_SHARE = 4
"""Room is made where it takes at most one part in so many of what is free."""

_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)

log = structlog.get_logger()

DecodeSpec = Callable[[bytes], AttemptSpec]


class StateDirectoryError(Exception):
    """The state folder cannot be used; the text says why."""


class Journal:
    """The journal in one state folder, held by this process alone."""

    def __init__(self, connection: sqlite3.Connection, lock: IO[str], reserve: Reserve) -> None:
        self._connection = connection
        self._reserve = reserve
        self._lock = lock
        self._is_full = False
        self._is_unsynced = False
        """Something was committed for which nobody has waited until it was on the disk."""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")

    @classmethod
    def open(cls, state_dir: Path, new_host_id: str, *, sets_room_aside: bool = True) -> Journal:
        """
        Lock the folder and open the journal in it, making both if need be.

        Args:
            state_dir: The agent's folder.
            new_host_id: The host's id, if the journal is new.
            sets_room_aside: Room is set aside for a full disk; not where jobs write to other disks.

        Raises:
            StateDirectoryError: another agent uses the folder, it cannot be written to,
                or another user could.
        """
        try:
            make_private_folder(state_dir)
            lock = _lock(state_dir / "lock")
        except OSError as error:
            raise StateDirectoryError(f"cannot use the state folder {state_dir}: {error}") from error
        reserve = Reserve(state_dir)
        try:
            try:
                connection = _connect(state_dir / "journal.db", new_host_id)
            except sqlite3.OperationalError as error:
                if not (_is_full(error) and reserve.release()):
                    raise
                connection = _connect(state_dir / "journal.db", new_host_id)
        except sqlite3.Error as error:
            lock.close()
            reason = "the disk is full" if _is_full(error) else error
            raise StateDirectoryError(f"cannot use the journal in {state_dir}: {reason}") from error
        if sets_room_aside:
            _make_room(connection, state_dir)
            reserve.fill()
        return cls(connection, lock, reserve)

    def load_meta(self) -> Meta:
        """Read what is not about single attempts. For use before the first commit."""
        values = {row["key"]: row["value"] for row in self._connection.execute("SELECT key, value FROM meta")}
        del values["schema_version"]
        return Meta(**values)

    def load_attempts(self, decode_spec: DecodeSpec) -> Iterator[Attempt]:
        """Read all attempts, tombstones by age. For use before the first commit."""
        for row in self._connection.execute("SELECT * FROM attempts ORDER BY done_at_ms"):
            yield _attempt(row, decode_spec)

    async def commit(
        self, rows: Sequence[Attempt], forgotten: Sequence[AttemptId] = (), meta: Meta | None = None
    ) -> bool:
        """
        Write all of it in one transaction; with *meta* wait for the disk.

        Returns:
            False: the disk is full and the reserve used up; nothing was written.

        Raises:
            sqlite3.Error: nothing was written; the agent must not go on.
        """
        loop = asyncio.get_running_loop()
        while not await loop.run_in_executor(self._thread, self._has_written, rows, forgotten, meta):
            if not self._reserve.release():
                if not self._is_full:
                    log.warning("the disk is full; nothing is launched or reported before the journal can be written")
                self._is_full = True
                return False
            log.warning("the disk is full; the journal's reserve was given up")
        if self._is_full:
            log.info("the journal can be written again")
        self._is_full = False
        return True

    async def sync(self) -> None:
        """
        Wait until a power cut can take nothing of what was committed.

        Raises:
            OSError: the disk is broken.
        """
        if self._is_unsynced:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._sync)

    def fill_reserve(self) -> None:
        """Set room aside again after a full disk. Blocks."""
        self._reserve.fill()

    def close(self) -> None:
        """Finish what is being written and unlock the folder. Idempotent."""
        self._thread.shutdown(wait=True)
        self._connection.close()
        self._lock.close()

    def _has_written(self, rows: Sequence[Attempt], forgotten: Sequence[AttemptId], meta: Meta | None) -> bool:
        try:
            self._write(rows, forgotten, meta)
        except sqlite3.OperationalError as error:
            if not _is_full(error):
                raise
            return False
        return True

    def _sync(self) -> None:
        self._is_unsynced = False
        (_, _, path), *_ = self._connection.execute("PRAGMA database_list")
        log_file = os.open(f"{path}-wal", os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fdatasync(log_file)
        finally:
            os.close(log_file)

    def _write(self, rows: Sequence[Attempt], forgotten: Sequence[AttemptId], meta: Meta | None) -> None:
        connection = self._connection
        connection.execute(f"PRAGMA synchronous = {'NORMAL' if meta is None else 'FULL'}")
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_WRITE, map(_row, self._bury(rows)))
            if forgotten:
                connection.executemany("DELETE FROM attempts WHERE attempt_id = ?", [(a,) for a in forgotten])
            if meta is not None:
                _write_meta(connection, meta)
        self._is_unsynced = meta is None

    def _bury(self, rows: Sequence[Attempt]) -> Sequence[Attempt]:
        """Make tombstones of the rows of those that are done, and return whose rows are yet to be written whole."""
        done = [attempt for attempt in rows if attempt.phase is Phase.DONE]
        written = self._connection.executemany(_BURY, ((attempt.done_at_ms, attempt.attempt_id) for attempt in done))
        if written.rowcount < len(done):
            return rows
        return [attempt for attempt in rows if attempt.phase is not Phase.DONE]


def _is_full(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", None) in _FULL  # some errors are of the module, and have none


def _lock(path: Path) -> IO[str]:
    # Opened without truncating, as another agent's pid may stand in it.
    lock = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = lock.read().strip() or "unknown"
        lock.close()
        raise StateDirectoryError(f"another agent (pid {holder}) uses the state folder {path.parent}") from None
    with suppress(OSError):  # a full disk; the pid is but a courtesy, and must not be left in a buffer
        os.ftruncate(lock.fileno(), 0)
        os.write(lock.fileno(), f"{os.getpid()}\n".encode())
    return lock


def _connect(path: Path, new_host_id: str) -> sqlite3.Connection:
    # Transactions are begun by hand; the one thread is the only user.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    path.chmod(0o600)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.executescript(_SCHEMA)
    _add_columns(connection)
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        found = connection.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
        if found is None:
            connection.execute("INSERT INTO meta VALUES ('schema_version', ?)", (SCHEMA_VERSION,))
            _write_meta(connection, Meta(host_id=new_host_id))
        elif found[0] != SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"it has version {found[0]}; this agent reads version {SCHEMA_VERSION}")
    return connection


def _add_columns(connection: sqlite3.Connection) -> None:
    """Give a journal of an earlier version what was not kept then."""
    found = {row["name"] for row in connection.execute("PRAGMA table_info(attempts)")}
    if "timeout_at_ms" not in found:
        connection.execute("ALTER TABLE attempts ADD COLUMN timeout_at_ms INTEGER")
    for name in Usage.__slots__:
        if name not in found:
            connection.execute(f"ALTER TABLE attempts ADD COLUMN {name} INTEGER NOT NULL DEFAULT 0")
    if "containers" not in found:
        connection.execute("ALTER TABLE attempts ADD COLUMN containers TEXT")


def _make_room(connection: sqlite3.Connection, folder: Path) -> None:
    """
    Have the database and its log hold more pages than they use, so that writing takes nothing of the disk.

    Who fills a disk is faster than any reserve. What he fills it with is let go of only
    when his end was written, so that must not wait for room. (Where a file system writes
    nothing in its old place, this gains nothing.)
    """
    if shutil.disk_usage(folder).free < 2 * ROOM_BYTES * ROOM_DISK_SHARE:
        return
    with suppress(sqlite3.OperationalError):  # somebody was faster
        connection.execute("CREATE TABLE IF NOT EXISTS room (bytes BLOB)")
        connection.execute("INSERT INTO room VALUES (zeroblob(?))", (ROOM_BYTES,))
        connection.execute("DROP TABLE room")
        connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()


def _write_meta(connection: sqlite3.Connection, meta: Meta) -> None:
    values = {name: getattr(meta, name) for name in Meta.__slots__}
    connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())


def _row(attempt: Attempt) -> tuple[object, ...]:
    stop = attempt.stop
    return (
        attempt.attempt_id,
        attempt.phase.value,
        attempt.runtime,
        attempt.launched,
        attempt.started_at_ms,
        attempt.stopped_at_ms,
        attempt.exit_code,
        attempt.cause.value if attempt.cause is not None else None,
        attempt.reason,
        stop.cause.value if stop is not None else None,
        stop.reason if stop is not None else None,
        stop.grace_ms if stop is not None else None,
        stop.kill_at_ms if stop is not None else None,
        attempt.done_at_ms,
        attempt.spec.wire if attempt.spec is not None else None,
        attempt.timeout_at_ms,
        *(getattr(attempt.usage, name) for name in Usage.__slots__),
        json.dumps([asdict(end) for end in attempt.containers]) if attempt.containers else None,
    )


def _attempt(row: sqlite3.Row, decode_spec: DecodeSpec) -> Attempt:
    stop = None
    if row["stop_cause"] is not None:
        stop = Stop(
            cause=EndCause(row["stop_cause"]),
            reason=row["stop_reason"],
            grace_ms=row["stop_grace_ms"],
            kill_at_ms=row["stop_kill_at_ms"],
        )
    return Attempt(
        attempt_id=AttemptId(row["attempt_id"]),
        phase=Phase(row["phase"]),
        runtime=row["runtime"],
        spec=decode_spec(row["spec"]) if row["spec"] is not None else None,
        launched=bool(row["launched"]),
        started_at_ms=row["started_at_ms"],
        stopped_at_ms=row["stopped_at_ms"],
        exit_code=row["exit_code"],
        cause=EndCause(row["cause"]) if row["cause"] is not None else None,
        reason=row["reason"],
        stop=stop,
        timeout_at_ms=row["timeout_at_ms"],
        done_at_ms=row["done_at_ms"],
        usage=Usage(**{name: row[name] for name in Usage.__slots__}),
        containers=tuple(ContainerEnd(**end) for end in json.loads(row["containers"] or "[]")),
    )
