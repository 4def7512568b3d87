"""The journal keeps what it acknowledged, whatever kills its process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.disks import fill, mounted
from tests.processes import running

from batchyard.ids import AttemptId
from batchyard.resources import Usage
from batchyard.states import EndCause
from batchyard_agent.core.attempts import Attempt, Meta, Phase, Stop
from batchyard_agent.journal import Journal, StateDirectoryError
from batchyard_agent.reserve import Reserve

from .core.builders import A, B, C, spec

HOST = "0192f000-0000-7000-8000-000000000001"


def wired(attempt_id):
    return replace(spec(attempt_id), wire=attempt_id.encode())


def decode(wire: bytes):
    return wired(type(A)(wire.decode()))


RUNNING = Attempt(
    attempt_id=A,
    phase=Phase.RUNNING,
    runtime="process",
    spec=wired(A),
    launched=True,
    started_at_ms=5,
    timeout_at_ms=65,
    stop=Stop(cause=EndCause.STOPPED, reason="why", grace_ms=9, kill_at_ms=7),
)
ENDED = Attempt(
    attempt_id=B,
    phase=Phase.ENDED,
    runtime="docker",
    spec=wired(B),
    launched=True,
    started_at_ms=5,
    stopped_at_ms=9,
    exit_code=137,
    cause=EndCause.OUT_OF_MEMORY,
    reason="OutOfMemoryError: Container killed due to memory usage",
    usage=Usage(peak_memory_kib=4_000, user_cpu_ms=7, system_cpu_ms=2),
)
DONE = Attempt(attempt_id=C, phase=Phase.DONE, stopped_at_ms=3, cause=EndCause.STOPPED, done_at_ms=4)
META = Meta(host_id=HOST, epoch=12, boot_id="boot-1", contact_ms=99, fence_ms=900_000)


async def test_what_was_committed_is_read_again(tmp_path):
    journal = Journal.open(tmp_path, HOST)
    assert journal.load_meta() == Meta(host_id=HOST)
    await journal.commit([RUNNING, ENDED, DONE], (), META)
    journal.close()

    again = Journal.open(tmp_path, "another id, as the agent makes one at each start")
    assert again.load_meta() == META
    assert sorted(again.load_attempts(decode), key=lambda a: a.attempt_id) == [RUNNING, ENDED, DONE]
    again.close()


@pytest.mark.parametrize("lacks", [["timeout_at_ms"], ["peak_memory_kib", "user_cpu_ms", "system_cpu_ms"]])
def test_a_journal_of_an_earlier_version_is_read(tmp_path, lacks):
    """From before timeouts were kept, and what attempts use."""
    Journal.open(tmp_path, HOST).close()
    with contextlib.closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
        for name in lacks:
            connection.execute(f"ALTER TABLE attempts DROP COLUMN {name}")
    journal = Journal.open(tmp_path, HOST)
    asyncio.run(journal.commit([RUNNING, ENDED]))
    assert list(journal.load_attempts(decode)) == [RUNNING, ENDED]
    journal.close()


async def test_a_tombstone_keeps_all_of_an_end_but_what_was_to_run(tmp_path):
    """Beside one of which the journal has no row yet, too."""
    journal = Journal.open(tmp_path, HOST)
    await journal.commit([RUNNING, ENDED])
    done = replace(ENDED, phase=Phase.DONE, spec=None, done_at_ms=4)
    await journal.commit([done])
    assert list(journal.load_attempts(decode)) == [RUNNING, done]
    later = replace(done, done_at_ms=5)
    await journal.commit([later, DONE, RUNNING])
    assert {a.attempt_id: a for a in journal.load_attempts(decode)} == {A: RUNNING, done.attempt_id: later, C: DONE}
    journal.close()


async def test_a_row_is_replaced_and_forgotten(tmp_path):
    journal = Journal.open(tmp_path, HOST)
    await journal.commit([RUNNING])
    ended = replace(RUNNING, phase=Phase.ENDED, cause=EndCause.STOPPED, exit_code=143, stopped_at_ms=8)
    await journal.commit([ended, DONE])
    assert {a.attempt_id: a for a in journal.load_attempts(decode)} == {A: ended, C: DONE}
    await journal.commit([], [C])
    assert list(journal.load_attempts(decode)) == [ended]
    journal.close()


async def test_tombstones_come_by_age(tmp_path):
    journal = Journal.open(tmp_path, HOST)
    dones = [replace(DONE, attempt_id=i, done_at_ms=at) for i, at in ((A, 30), (B, 10), (C, 20))]
    await journal.commit(dones)
    assert [a.attempt_id for a in journal.load_attempts(decode)] == [B, C, A]
    journal.close()


async def test_a_commit_that_fails_writes_nothing(tmp_path):
    journal = Journal.open(tmp_path, HOST)
    with pytest.raises(sqlite3.Error):
        await journal.commit([RUNNING, replace(ENDED, reason=object())])
    assert list(journal.load_attempts(decode)) == []
    await journal.commit([RUNNING])
    assert list(journal.load_attempts(decode)) == [RUNNING]
    journal.close()


def test_two_agents_cannot_share_a_folder(tmp_path):
    journal = Journal.open(tmp_path, HOST)
    with pytest.raises(StateDirectoryError, match=rf"another agent \(pid {os.getpid()}\) uses the state folder"):
        Journal.open(tmp_path, HOST)
    journal.close()
    Journal.open(tmp_path, HOST).close()


def test_a_folder_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StateDirectoryError, match=r"cannot use the state folder .*file/state"):
        Journal.open(tmp_path / "file" / "state", HOST)


def test_a_broken_or_foreign_journal_is_refused(tmp_path):
    (tmp_path / "journal.db").write_bytes(b"no database" * 1000)
    with pytest.raises(StateDirectoryError, match="cannot use the journal"):
        Journal.open(tmp_path, HOST)
    (tmp_path / "journal.db").unlink()
    Journal.open(tmp_path, HOST).close()
    with sqlite3.connect(tmp_path / "journal.db") as connection:
        connection.execute("UPDATE meta SET value = 99 WHERE key = 'schema_version'")
    connection.close()
    with pytest.raises(StateDirectoryError, match="it has version 99; this agent reads version 1"):
        Journal.open(tmp_path, HOST)


def test_others_may_not_read_the_folder(tmp_path):
    Journal.open(tmp_path / "state", HOST).close()
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "state" / "journal.db").stat().st_mode & 0o777 == 0o600


WRITER = """
import asyncio, sys
from pathlib import Path
from batchyard.ids import AttemptId
from batchyard_agent.core.attempts import Attempt, Phase
from batchyard_agent.journal import Journal

async def main():
    journal = Journal.open(Path(sys.argv[1]), "host")
    for number in range(100_000):
        row = Attempt(attempt_id=AttemptId(f"job#{number}"), phase=Phase.ACCEPTED, runtime="process")
        await journal.commit([row])
        print(number, flush=True)

asyncio.run(main())
"""


def test_no_acknowledged_row_is_lost_to_kill_9(tmp_path):
    """A process commits row after row and says so; it is killed; every row that it told of is there."""
    with running([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        told = [int(writer.stdout.readline()) for _ in range(50)]
        writer.kill()
        told += [int(line) for line in writer.stdout]

    journal = Journal.open(tmp_path, HOST)
    assert journal.load_meta().host_id == "host"
    kept = {int(a.attempt_id.partition("#")[2]) for a in journal.load_attempts(decode)}
    assert set(told) <= kept
    assert kept <= set(range(max(told) + 2))
    journal.close()


async def test_a_power_cut_takes_nothing_of_what_the_fence_and_the_epoch_go_by(tmp_path):
    """A commit of these waits for the disk, with all before it (SQLite: synchronous = FULL is 2, NORMAL 1)."""
    journal = Journal.open(tmp_path, HOST)

    def waited():
        assert journal._connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        return journal._connection.execute("PRAGMA synchronous").fetchone()[0] == 2

    try:
        assert await journal.commit([ENDED])
        assert not waited()
        assert await journal.commit([ENDED], meta=Meta(host_id=HOST, epoch=2))
        assert waited()
    finally:
        journal.close()


async def test_what_was_committed_is_on_the_disk_when_it_was_synced(tmp_path, monkeypatch):
    """Once for many commits, and not at all where nothing was committed since, or all of that has waited itself."""
    synced = []
    monkeypatch.setattr(os, "fdatasync", lambda fd: synced.append(str(Path(f"/proc/self/fd/{fd}").readlink())))
    journal = Journal.open(tmp_path, HOST)
    try:
        await journal.sync()
        assert not synced
        for _ in range(3):
            assert await journal.commit([ENDED])
        await journal.sync()
        await journal.sync()
        assert synced == [str(tmp_path / "journal.db-wal")]
        assert await journal.commit([ENDED])
        assert await journal.commit([ENDED], meta=Meta(host_id=HOST, epoch=2))
        await journal.sync()
        assert len(synced) == 1
    finally:
        journal.close()


async def test_a_full_disk_takes_what_is_known_from_the_reserve(small_disk):
    """And when that is used up too, the journal says so, and takes it when there is room."""
    journal = Journal.open(small_disk, "host")
    fill(small_disk)
    rows = [replace(ENDED, attempt_id=AttemptId(f"job-{number}#1")) for number in range(500)]
    assert await journal.commit(rows)
    assert not (small_disk / "reserve").exists()
    fill(small_disk)
    more = [replace(ENDED, attempt_id=AttemptId(f"more-{number}#1")) for number in range(5_000)]
    assert not await journal.commit(more)
    (small_disk / "filler").unlink()
    assert await journal.commit(more)
    journal.close()
    again = Journal.open(small_disk, "other")
    assert len(list(again.load_attempts(decode))) == 5_500
    assert again.load_meta().host_id == "host"
    assert (small_disk / "reserve").stat().st_size > 1 << 20
    again.close()


async def test_the_journal_needs_no_room_of_a_full_disk(tmp_path):
    """Nor a reserve, which whoever fills the disk may take: his end has to be written, before what he left can go."""
    with mounted(tmp_path / "disk", 100) as disk:
        journal = Journal.open(disk, "host")
        (disk / "reserve").unlink()
        fill(disk)
        for number in range(3_000):
            assert await journal.commit([replace(ENDED, attempt_id=AttemptId(f"job-{number}#1"))])
        journal.close()


def test_an_agent_starts_on_a_full_disk(small_disk):
    Journal.open(small_disk, "host").close()
    fill(small_disk)
    journal = Journal.open(small_disk, "other")
    assert journal.load_meta().host_id == "host"
    journal.close()


def test_a_new_folder_on_a_full_disk_is_refused_in_words(small_disk):
    fill(small_disk)
    with pytest.raises(StateDirectoryError, match=r"cannot use the journal in .*: the disk is full"):
        Journal.open(small_disk / "state", "host")


def test_a_reserve_of_a_nearly_full_disk_grows_with_the_room(small_disk):
    """Also an empty one, as a kill leaves it that comes while it is made."""
    reserve, file = Reserve(small_disk), small_disk / "reserve"
    fill(small_disk)
    os.truncate(small_disk / "filler", (small_disk / "filler").stat().st_size - 40_960)
    reserve.fill()
    assert 0 < file.stat().st_size < 40_960
    (small_disk / "filler").unlink()
    reserve.fill()
    assert file.stat().st_size > 4_000_000
    os.truncate(file, 0)
    reserve.fill()
    assert file.stat().st_blocks * 512 > 4_000_000
    assert (reserve.release(), reserve.release()) == (True, False)
