"""`controller restore` refuses what is no backup put back, and what is learnt after it is told to operators."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from batchyard.features import TELLS_ALL
from batchyard.v1 import host_pb2
from batchyard_controller import restore_command
from batchyard_controller.core.jobs.retention import Retention
from batchyard_controller.core.model.restores import FIRST_S, LAST_RESTORE, Restore
from batchyard_controller.core.world.world import World
from batchyard_controller.store.codec import encode_record
from batchyard_controller.store.memory import MemoryData
from batchyard_controller.store.sqlite import SqliteStore

from .controller import Controller, MemoryController, refusal
from .hand_agent import HandAgent, running


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "controller.db"


def call(file: Path, *flags: str) -> tuple[int, str]:
    done = CliRunner().invoke(restore_command.restore, ["--store", f"sqlite://{file}", *flags])
    return done.exit_code, done.output


async def furnish(file: Path) -> None:
    async with Controller(SqliteStore(file)) as controller:
        await controller.until_leads()
        await controller.furnish()


def call_in_thread(file: Path) -> str:
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(call, file).result()[1]


async def test_a_restore_is_told_of_and_a_dry_run_changes_nothing(file: Path) -> None:
    await furnish(file)
    code, told = await asyncio.to_thread(call, file, "--dry-run")
    assert (code, told.splitlines()[-1]) == (0, "nothing was changed")
    code, told = await asyncio.to_thread(call, file)
    assert (code, "a backup of 0 jobs (0 not ended), 0 live attempts and 0 hosts" in told) == (0, True)
    assert "restored before" not in told
    code, told = await asyncio.to_thread(call, file)
    assert (code, "it was restored before, at 2" in told) == (0, True), "once more does no harm"


async def test_it_refuses_while_a_controller_leads(file: Path) -> None:
    async with Controller(SqliteStore(file)) as controller:
        await controller.until_leads()
        assert "a controller leads; stop all controllers of this store first" in call(file)[1]


async def test_it_refuses_what_is_no_store_or_an_empty_one(file: Path) -> None:
    assert f"there is no store {file}: put the backup there first" in call(file)[1]
    assert not file.exists(), "none is made"
    file.write_text("no database")
    assert "file is not a database" in call_in_thread(file)
    file.unlink()
    store = SqliteStore(file)
    await store.campaign("one")
    await store.close()
    assert "the store holds nothing of a yard" in call_in_thread(file)


async def test_it_refuses_a_file_beside_which_the_log_of_another_lies(file: Path) -> None:
    """SQLite would write what stands in it over the backup."""
    await furnish(file)
    with sqlite3.connect(file) as open_store:
        open_store.execute("PRAGMA journal_mode = WAL")
        open_store.execute("INSERT INTO kv VALUES ('job/x', '{}')")
        open_store.commit()
        shutil.copyfile(f"{file}-wal", file.with_name("left"))
    open_store.close()
    shutil.copyfile(file.with_name("left"), f"{file}-wal")
    assert f"{file}-wal lies beside {file}" in call_in_thread(file)


async def test_it_refuses_a_clock_that_goes_back(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await furnish(file)
    assert call_in_thread(file).startswith("sqlite://")
    monkeypatch.setattr(restore_command, "read_wall_s", lambda: FIRST_S + 5.0)
    told = call_in_thread(file)
    assert "this machine's clock says 2026-01-01T00:00:05Z, which is before the last restore of this store" in told


async def test_what_is_nobodys_is_told_of_and_stopped_where_an_operator_says_so() -> None:
    world = World(Retention())
    world.restores[LAST_RESTORE] = Restore(generation=77, at_ms=1_000, last_seq=3)
    data = MemoryData()
    data.pairs[f"restore/{LAST_RESTORE}"] = encode_record(world, "restore", LAST_RESTORE) or b""
    async with MemoryController(data) as yard:
        await yard.until_leads()
        agent, stray = HandAgent(yard, features=[TELLS_ALL]), "01a00000-0000-7000-8000-000000000000#1"
        await agent.open(agent.hello([running(stray)], epoch=5))
        welcome = await agent.hear("welcome")
        assert (welcome.asks_all, welcome.epoch >> 32) == (True, 77)
        told = await yard.hosts.DescribeRestore(host_pb2.DescribeRestoreRequest())
        assert (told.restored_at_ms, told.generation, told.is_over) == (1_000, 77, False)
        assert [(each.attempt_id, each.host_name, each.started_at_ms) for each in told.strays] == [
            (stray, "alpha", 1_000)
        ]
        await agent.hear_nothing()
        await yard.hosts.StopStray(host_pb2.StopStrayRequest(attempt_id=stray))
        assert (await agent.hear("stop")).attempt_id == stray
        again = await refusal(yard.hosts.StopStray(host_pb2.StopStrayRequest(attempt_id="x#1")))
        assert (again.reason, again.metadata) == ("STRAY_NOT_FOUND", {"attempt_id": "x#1"})
