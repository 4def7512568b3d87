"""What only the sqlite store can suffer: kill -9, a disk that fails, files of others."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.contract.conftest import writing

from batchyard_controller.store.protocol import DeposedError, Put, Store, StoreUnavailableError, UnknownOutcomeError
from batchyard_controller.store.sqlite import SqliteStore

SOON_S = 60.0
"""What must be heard without a wait, on a busy machine too."""


async def load(store: Store) -> dict[str, bytes]:
    return dict([pair async for page in store.load() for pair in page])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "store.db"


async def test_acknowledged_writes_survive_kill_9(path: Path) -> None:
    """All that the killed controller told of is there, no atom is half there, and the epoch rises."""
    acknowledged: set[str] = set()
    epochs: list[int] = []
    for _ in range(3):
        with writing(f"sqlite://{path}") as writer:
            assert writer.stdout is not None
            words = [writer.stdout.readline() for _ in range(200)]
            writer.kill()
            words += [word for word in writer.stdout.readlines() if word.endswith("\n")]
        epochs.append(int(words[0].split()[1]))
        acknowledged |= {f"{int(word):06}" for word in words[1:]}
    store = SqliteStore(path)
    epochs.append(await store.campaign("next"))
    pairs = await load(store)
    await store.close()
    halves = [{key.partition("/")[2] for key in pairs if key.startswith(half)} for half in ("first/", "second/")]
    assert epochs == [1, 2, 3, 4]
    assert len(acknowledged) >= 199
    assert acknowledged <= halves[0]
    assert halves[0] == halves[1]


async def test_second_process_waits_for_the_first(path: Path) -> None:
    """The lock is between processes, not only inside one."""
    with writing(f"sqlite://{path}") as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "epoch 1\n"
        store = SqliteStore(path)
        waiting = asyncio.create_task(store.campaign("next"))
        done, _ = await asyncio.wait([waiting], timeout=0.5)
        assert not done
        writer.kill()
        assert await waiting == 2
        await store.close()


@contextmanager
def full_disk(at_bytes: int) -> Iterator[None]:
    """Let no file of this process grow beyond *at_bytes*."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (at_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


async def test_disk_error_is_an_unknown_outcome(path: Path) -> None:
    """The term ends with it; what was acknowledged is there, and once there is room all goes on."""
    store = SqliteStore(path)
    epoch = await store.campaign("one")
    await store.commit([(Put("a", b"1"),)], epoch)
    with (
        full_disk(path.with_name("store.db-wal").stat().st_size),
        pytest.raises(UnknownOutcomeError, match=r"store\.db"),
    ):
        await store.commit([(Put("big", bytes(200_000)),), (Put("b", b"1"),)], epoch)
    with pytest.raises(DeposedError):
        await store.commit([(Put("late", b""),)], epoch)
    async with asyncio.timeout(SOON_S):
        await store.deposed()
    next_epoch = await store.campaign("one")
    assert await load(store) == {"a": b"1"}
    await store.commit([(Put("big", bytes(200_000)), Put("b", b"1"))], next_epoch)
    assert set(await load(store)) == {"a", "big", "b"}
    await store.close()


async def test_epoch_in_the_file_is_the_guard(path: Path) -> None:
    """Were the lock worth nothing, a leader that was followed would still write nothing, and hear of it."""
    old, new = SqliteStore(path), SqliteStore(path)
    old_epoch = await old.campaign("old")
    path.with_name("store.db.lock").unlink()
    new_epoch = await new.campaign("new")
    with pytest.raises(DeposedError):
        await old.commit([(Put("a", b"old"),)], old_epoch)
    async with asyncio.timeout(SOON_S):
        await old.deposed()
    await new.commit([(Put("a", b"new"),)], new_epoch)
    assert await load(old) == {"a": b"new"}
    await old.close()
    await new.close()


async def test_files_are_the_owners_alone(path: Path) -> None:
    """Records may hold environment variables of jobs, so nobody else may read them."""
    store = SqliteStore(path)
    await store.commit([(Put("a", b"1"),)], await store.campaign("one"))
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == dict.fromkeys(["store.db", "store.db-wal", "store.db-shm", "store.db.lock"], 0o600)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    await store.close()


async def test_commits_are_synchronous(path: Path) -> None:
    """WAL and synchronous=FULL: the setting behind "committed is on the disk"."""
    store = SqliteStore(path)
    await store.campaign("one")
    connection = store._connect()
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    connection.close()
    await store.close()


async def test_file_that_is_no_store_is_refused(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("my diary\n" * 100)
    store = SqliteStore(path)
    with pytest.raises(StoreUnavailableError, match="not a database"):
        await store.campaign("one")
    await store.close()
    assert path.read_text().startswith("my diary")


async def test_layout_of_another_version_is_refused(path: Path) -> None:
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    store = SqliteStore(path)
    with pytest.raises(StoreUnavailableError, match="has layout 2"):
        await store.campaign("one")
    await store.close()


async def test_cancelled_commit_is_over_before_another_leads(path: Path) -> None:
    """A commit that nobody waits for any more still ends within its term."""
    old, new = SqliteStore(path), SqliteStore(path)
    epoch = await old.campaign("old")
    committing = asyncio.create_task(old.commit([(Put(f"k/{n}", bytes(10_000)),) for n in range(500)], epoch))
    await asyncio.sleep(0)
    committing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await committing
    await old.resign()
    await new.campaign("new")
    assert len(await load(new)) in (0, 500)
    await old.close()
    await new.close()


async def test_closed_store_says_so(path: Path) -> None:
    store = SqliteStore(path)
    await store.close()
    with pytest.raises(StoreUnavailableError, match="closed"):
        await store.campaign("one")
