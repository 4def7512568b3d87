"""
The archive: jobs that have ended, in files of a folder that all controllers of a store share.

Each term of leadership writes a file of its own, named after its generation and epoch, so that two
controllers never write the same, whatever a shared file system makes of locks. A job that is
in the archive is on the disk; only then is it deleted in the store, by a commit that the epoch
guards. So a crash, or a leader that is too late, leaves a job in both, and it counts once: by
its id, and as the store has it. Archived jobs are read on demand, in a thread, and kept by nobody.
"""

from __future__ import annotations

import asyncio
import heapq
import sqlite3
import zlib
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import msgspec

from batchyard.errors import Reason, UnavailableError
from batchyard.ids import HostId, JobId
from batchyard.state_folder import make_private_folder
from batchyard.states import JobState
from batchyard_controller.core.model.jobs import Job, JobKind
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.reactor.recovery import restore_ended
from batchyard_controller.core.views.listing import JobFilter, Page, Place
from batchyard_controller.core.world.world import RequestKey, World, request_key

from .codec import Decoder, encode_record
from .keys import key_of

LAYOUT = 1
LOOKS_MAX = 20_000
"""Jobs that one page looks at."""

RECENT_MAX = 5_000
"""Jobs of which it is known without a look that they are here: they may have left the store since somebody looked."""

SMALL_JOBS = 100_000
"""A file with fewer is taken over into the next term's, so that there are few."""

_ALL = 1 << 30
"""Behind every unit of a job."""

_TABLE = """
CREATE TABLE jobs (
    seq INTEGER NOT NULL, id TEXT PRIMARY KEY, queue TEXT NOT NULL, owner TEXT NOT NULL, state TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL, ended_at_ms INTEGER NOT NULL, request_id TEXT NOT NULL, records BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX by_seq ON jobs (seq, queue, owner, state, created_at_ms);
CREATE INDEX by_request ON jobs (request_id, owner) WHERE request_id != '';
CREATE INDEX by_end ON jobs (ended_at_ms);
"""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Archived:
    """A job as it goes into the archive, with its records as the store has them."""

    job: Job
    pairs: tuple[tuple[str, bytes], ...]


@dataclass(slots=True)
class Recalled:
    """Some archived jobs, to be found by id or by request."""

    by_id: dict[JobId, Job] = field(default_factory=dict)
    by_request: dict[RequestKey, Job] = field(default_factory=dict)

    def add(self, job: Job) -> None:
        """Have another."""
        self.by_id[job.id] = job
        if job.request_id:
            self.by_request[request_key(job)] = job

    def drop(self, job: Job) -> None:
        """Have one no more."""
        self.by_id.pop(job.id, None)
        self.by_request.pop(request_key(job), None)

    def of(self, ids: Collection[str], requests: Collection[RequestKey]) -> Iterator[Job]:
        """Yield who goes by these ids and requests."""
        yield from (self.by_id[JobId(each)] for each in ids if each in self.by_id)
        yield from (self.by_request[each] for each in requests if each in self.by_request)


def archived(world: World, job: Job) -> Archived:
    """Return a job as it is archived."""
    names: list[tuple[str, str]] = [("job", job.id), ("state", job.id)]
    names += [("children", f"{job.id}/{number}") for number in job.children.chunks]
    records = ((key_of(kind, name), encode_record(world, kind, name)) for kind, name in names)
    return Archived(job, tuple((key, value) for key, value in records if value is not None))


class Archive:
    """
    Jobs in SQLite files below *folder*, which is made, mode 0700, if it is missing.

    Every call raises ``UnavailableError`` where the files cannot be reached.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.recent = Recalled()
        self.is_open = False
        """Whether the last that was asked of the files was answered; else they are to be opened anew."""
        self._order: deque[Job] = deque()
        # The rest belongs to the worker thread.
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="archive")
        self._files: list[sqlite3.Connection] = []
        """The term's own first."""

    async def open_term(self, term: int) -> int:
        """Begin to write a file for a term, an epoch with its generation; return the highest number in the order of submission that is there."""
        seq = await self._in_worker(self._open_term, term)
        self.is_open = True
        return seq

    async def add(self, jobs: Sequence[Archived]) -> None:
        """Keep jobs; when this returns they are on the disk."""
        await self._in_worker(self._add, jobs)
        for each in jobs:
            self.recent.add(each.job)
            self._order.append(each.job)
        while len(self._order) > RECENT_MAX:
            self.recent.drop(self._order.popleft())

    async def fetch(self, ids: Collection[str], requests: Collection[RequestKey] = ()) -> list[Job]:
        """Return the jobs of these ids and of these requests, as far as they are here."""
        return await self._in_worker(self._fetch, ids, requests)

    async def page(self, wanted: JobFilter, beyond: Place | None, size: int) -> Page:
        """Return up to *size* jobs, or units that ran on a host, as ``listing.find_page`` does."""
        return await self._in_worker(self._page, wanted, beyond, size)

    async def begun_with(self, beginning: str, limit: int) -> list[Job]:
        """Return the newest jobs whose ids begin so."""
        return await self._in_worker(self._begun_with, beginning, limit)

    async def forget(self, ended_before_ms: int) -> None:
        """Forget who ended before a moment."""
        await self._in_worker(self._forget, ended_before_ms)

    async def close(self) -> None:
        """Close all files."""
        await self._in_worker(self._close_files)
        self._worker.shutdown(wait=False)

    async def _in_worker(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            result = await asyncio.wrap_future(self._worker.submit(work, *args, **kwargs))
        except (sqlite3.Error, OSError) as err:
            self.is_open = False
            text = f"the archive of ended jobs at {self._folder} cannot be reached: {err}"
            raise UnavailableError(text, reason=Reason.ARCHIVE_UNAVAILABLE) from err
        return result

    # What follows runs in the worker thread.

    def _open_term(self, term: int) -> int:
        make_private_folder(self._folder)
        self._close_files()
        own = self._folder / f"jobs-{term:020}.db"
        try:
            self._files.append(_open(own))
            for path in sorted(self._folder.glob("jobs-*.db"), reverse=True):
                if path != own:
                    self._open_former(path)
        except BaseException:
            self._close_files()  # who knows a part alone would take the rest for what was never there
            raise
        return max(file.execute("SELECT max(seq) FROM jobs").fetchone()[0] or 0 for file in self._files)

    def _opened(self) -> list[sqlite3.Connection]:
        if not self._files:
            raise OSError("it was not opened")
        return self._files

    def _open_former(self, path: Path) -> None:
        """Read the file of a former term on, or take it over and delete it where it is small."""
        file = _open(path)
        (count,) = file.execute("SELECT count(*) FROM (SELECT 1 FROM jobs LIMIT ?)", (SMALL_JOBS,)).fetchone()
        if count >= SMALL_JOBS:
            self._files.append(file)
            return
        with self._files[0] as own:  # one transaction
            own.executemany(
                "INSERT OR IGNORE INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", file.execute("SELECT * FROM jobs")
            )
        file.close()
        path.unlink()

    def _add(self, jobs: Sequence[Archived]) -> None:
        rows = [(*_row(each.job), _pack(each.pairs)) for each in jobs]
        with self._opened()[0] as own:
            own.executemany("INSERT OR REPLACE INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def _fetch(self, ids: Collection[str], requests: Collection[RequestKey]) -> list[Job]:
        found: dict[str, bytes] = {}
        for file in self._opened():
            for job_id in ids:
                for row in file.execute("SELECT id, records FROM jobs WHERE id = ?", (job_id,)):
                    found.setdefault(*row)
            for owner, request_id in requests:
                query = "SELECT id, records FROM jobs WHERE request_id = ? AND request_id != '' AND owner = ?"
                for row in file.execute(query, (request_id, owner)):
                    found.setdefault(*row)
        return _unpack(found.values())

    def _page(self, wanted: JobFilter, beyond: Place | None, size: int) -> Page:
        units: list[Unit] = []
        last = beyond
        for looks, (seq, file, suits) in enumerate(self._steps(wanted, beyond)):
            if looks == LOOKS_MAX:
                return Page(units, last)
            for unit in self._units(file, seq, wanted) if suits else ():
                is_told = beyond is not None and seq == beyond[0] and unit.place[1] <= beyond[1]
                if is_told or not wanted.predicate()(unit.job, unit.state):  # one remembers no spec that is gone
                    continue
                if len(units) == size:
                    return Page(units, last)
                units.append(unit)
                last = unit.place
            last = (seq, _ALL if wanted.host_id else 0)
        return Page(units, None)

    def _units(self, file: sqlite3.Connection, seq: int, wanted: JobFilter) -> Iterator[Unit]:
        """Yield what of a job a list shows: itself, or its units that ran on the host that is asked for."""
        (job,) = _unpack([file.execute("SELECT records FROM jobs WHERE seq = ?", (seq,)).fetchone()[0]])
        if not wanted.host_id:
            yield Unit(job)
            return
        host_id = HostId(wanted.host_id)
        units = [Unit(job)] if job.kind is JobKind.SINGLE else (Unit(job, i) for i in job.children.tried())
        yield from (unit for unit in units if unit.had_host(host_id))

    def _steps(self, wanted: JobFilter, beyond: Place | None) -> Iterator[tuple[int, sqlite3.Connection, bool]]:
        """Yield each job once that stands beyond a place, and whether as much as its row tells is wanted."""
        order, side = ("ASC", ">") if wanted.oldest_first else ("DESC", "<")
        is_resumed = beyond is not None and bool(wanted.host_id) and beyond[1] < _ALL  # more units of that job may come
        where = "" if beyond is None else f"WHERE seq {side}{'=' if is_resumed else ''} {int(beyond[0])}"
        query = f"SELECT seq, queue, owner, state, created_at_ms FROM jobs {where} ORDER BY seq {order}"  # noqa: S608  (a number and two words of ours)
        walks = [zip(repeat(i), file.execute(query)) for i, file in enumerate(self._opened())]
        former = -1
        rows = heapq.merge(*walks, key=lambda walked: walked[1][0], reverse=not wanted.oldest_first)
        for i, (seq, queue, owner, state, created_at_ms) in rows:
            if seq != former:
                former = seq
                suits = (
                    (not wanted.queues or queue in wanted.queues)
                    and (not wanted.states or JobState(state) in wanted.states or bool(wanted.host_id))
                    and (not wanted.owner or owner == wanted.owner or not owner)
                    and created_at_ms > wanted.created_after_ms
                    and (not wanted.created_before_ms or created_at_ms < wanted.created_before_ms)
                )
                yield seq, self._files[i], suits

    def _begun_with(self, beginning: str, limit: int) -> list[Job]:
        query = "SELECT id, records FROM jobs WHERE id >= ? AND id < ? ORDER BY id DESC LIMIT ?"
        found: dict[str, bytes] = {}
        for file in self._opened():
            for row in file.execute(query, (beginning, f"{beginning}g", limit)):  # ids are of hexadecimal digits
                found.setdefault(*row)
        return _unpack([found[each] for each in sorted(found, reverse=True)[:limit]])

    def _forget(self, ended_before_ms: int) -> None:
        for file in self._opened():
            with file:
                file.execute("DELETE FROM jobs WHERE ended_at_ms < ?", (ended_before_ms,))

    def _close_files(self) -> None:
        for file in self._files:
            file.close()
        self._files.clear()


def _open(path: Path) -> sqlite3.Connection:
    file = sqlite3.connect(path, timeout=5.0, check_same_thread=False)
    try:
        _set_up(file)
    except BaseException:
        file.close()
        raise
    return file


def _set_up(file: sqlite3.Connection) -> None:
    # No WAL, which needs memory that machines do not share.
    file.execute("PRAGMA synchronous = EXTRA")
    (layout,) = file.execute("PRAGMA user_version").fetchone()
    if layout == 0:
        file.executescript(f"BEGIN IMMEDIATE; {_TABLE} PRAGMA user_version = {LAYOUT}; COMMIT;")
    elif layout != LAYOUT:
        raise OSError(f"it has layout {layout}; this Batchyard knows layout {LAYOUT} alone")


def _row(job: Job) -> tuple[Any, ...]:
    spec = job.spec
    whose = (job.seq, job.id, spec.queue, spec.owner, job.state)
    return (*whose, job.created_at_ms, job.aged_from_ms, job.request_id)  # an end is kept to forget the job by


def _pack(pairs: Sequence[tuple[str, bytes]]) -> bytes:
    return zlib.compress(msgspec.json.encode({key: msgspec.Raw(value) for key, value in pairs}), level=1)


def _unpack(packed: Collection[bytes]) -> list[Job]:
    decoder = Decoder()
    for each in packed:
        pairs = msgspec.json.decode(zlib.decompress(each), type=dict[str, msgspec.Raw])
        decoder.take((key, bytes(value)) for key, value in pairs.items())
    return restore_ended(decoder.finish())
