"""A store that is put back from a backup, twice: what runs runs on and is adopted, and nothing runs a second time."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from tests.contract.etcd_server import EtcdServer
from tests.e2e.conftest import OpenYard, etcd_store
from tests.e2e.programs import until
from tests.e2e.witness import Witness
from tests.e2e.yard import Life, Yard

from batchyard import Client, JobState, container, job_state
from batchyard.ids import split_attempt_id

pytestmark = pytest.mark.timeout(400)

HOSTS = ("a", "b")
LATE = "c"
"""Joins after the backup."""
CPUS = 10


class File:
    """The file of an embedded store."""

    def __init__(self, path: Path) -> None:
        self._path, self._copy = path, path.with_suffix(".backup")

    def back_up(self) -> None:
        with closing(sqlite3.connect(self._path)) as store, closing(sqlite3.connect(self._copy)) as copy:
            store.backup(copy)

    def put_back(self) -> None:
        for beside in ("-wal", "-shm"):
            Path(f"{self._path}{beside}").unlink(missing_ok=True)
        shutil.copyfile(self._copy, self._path)


class Server:
    """An etcd, of which all that it has on the disk is kept."""

    def __init__(self, etcd: EtcdServer) -> None:
        self._etcd = etcd
        self._data, self._copy = etcd.folder / "data", etcd.folder / "backup"

    def back_up(self) -> None:
        self._etcd.stop()
        shutil.copytree(self._data, self._copy)
        self._etcd.start()

    def put_back(self) -> None:
        self._etcd.stop()
        shutil.rmtree(self._data)
        shutil.copytree(self._copy, self._data)
        self._etcd.start()


def restore(yard: Yard) -> str:
    """Call the operators' command and return what it says."""
    command = [sys.executable, "-m", "batchyard", "controller", "restore", "--store", yard.store]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return done.stdout


def submit(client: Client, witness: Witness, names: list[str], **how: float | str) -> list[str]:
    """Submit jobs and return their ids."""
    return [
        client.submit_job(name=name, container=container(witness.command(name, **how), memory=32)).job_id  # type: ignore[arg-type]
        for name in names
    ]


def states(client: Client, ids: list[str]) -> set[JobState]:
    return {job_state(job) for job in client.describe_jobs(ids)}


def runs(client: Client, ids: list[str]) -> bool:
    return states(client, ids) == {JobState.RUNNING}


def lives(yard: Yard) -> dict[str, set[Life]]:
    """Return what runs, by host."""
    return {name: yard.processes(name) for name in yard.agents}


def names(word: str, number: int) -> list[str]:
    return [f"{word}-{n}" for n in range(number)]


@pytest.mark.parametrize("store", ["sqlite", "etcd"])
def test_nothing_is_killed_started_twice_or_named_twice(
    store: str, yards: OpenYard, witness: Witness, request: pytest.FixtureRequest
) -> None:
    etcd = request.getfixturevalue("etcd") if store == "etcd" else None
    yard = yards(etcd_store(etcd) if etcd is not None else "")
    kept = Server(etcd) if etcd is not None else File(yard.folder / "controller.sqlite")
    yard.start(*HOSTS, cpus=CPUS)
    with yard.client() as client:
        before = submit(client, witness, names("before", 3), seconds="held")
        until(partial(runs, client, before), "they run")
        for host in HOSTS:
            client.cordon_host(host)
        waiting = submit(client, witness, names("waiting", 4), seconds="held")
        ending = submit(client, witness, names("ending", 4), seconds=0.2, code=3)
        kept.back_up()
        until(lambda: states(client, waiting) == {JobState.RUNNABLE}, "the controller leads again")
        yard.add_agent(LATE, cpus=CPUS).start()
        for host in HOSTS:
            client.uncordon_host(host)
        ended = submit(client, witness, names("ended", 20), seconds=0.1)
        unknown = submit(client, witness, names("unknown", 4), seconds="held")
        until(partial(runs, client, [*waiting, *unknown]), "all are placed")
        client.wait_all([*ending, *ended], timeout_s=60)
        until(lambda: yard.is_ready(client, LATE), "the late host has joined")
        late = submit(client, witness, names("late", 12), seconds="held")
        until(partial(runs, client, late), "all are placed")
    run_all, strays = lives(yard), {f"{each}#1" for each in (*unknown, *late)}
    assert run_all[LATE], "the host that the backup does not know runs something"
    assert sum(map(len, run_all.values())) == 3 + 4 + 4 + 12
    found = []
    for again in range(2):
        yard.controller.kill()
        kept.put_back()
        assert "generation" in restore(yard)
        yard.controller.start()
        with yard.client() as client:
            fresh = submit(client, witness, [f"fresh-{again}"], seconds="held")
            until(lambda: client.describe_restore().is_over, "all has been learnt")
            jobs = client.describe_jobs([*before, *waiting])
            assert [(job_state(job), job.attempts[-1].id) for job in jobs] == [
                (JobState.RUNNING, f"{job.id}#1") for job in jobs
            ], "adopted: all"
            assert [(job.exit_code, len(job.attempts)) for job in client.describe_jobs(ending)] == [(3, 1)] * 4
            until(partial(runs, client, fresh), "new jobs run")
            told = client.describe_restore()
            found.append(client.describe_jobs(fresh)[0].attempts[-1].id)
        new = {life for each in lives(yard).values() for life in each} - {
            life for each in run_all.values() for life in each
        }
        assert [life.attempt_id for life in new] == [found[-1]], "what is new has a name of its own"
        assert all(run_all[name] <= each for name, each in lives(yard).items()), "killed: none"
        assert {stray.attempt_id for stray in told.strays} == strays, "listed: all"
        assert (told.adopted, told.ended, list(told.unlearnt), list(told.waits_for)) == (4, 4, [], [])
        run_all, strays = lives(yard), strays | {found[-1]}
    generations = [split_attempt_id(each)[2] for each in found]
    assert 0 < generations[0] < generations[1]
    with yard.client() as client:
        client.stop_stray(found[0])
        until(lambda: found[0] not in {stray.attempt_id for stray in client.describe_restore().strays}, "it is stopped")
        witness.release()
        client.wait_all([*before, *waiting], timeout_s=60)
        until(lambda: not any(lives(yard).values()), "what is nobody's ends by itself")
    every = [("before", 3), ("waiting", 4), ("ending", 4), ("ended", 20), ("unknown", 4), ("late", 12)]
    started = [line.name for line in witness.lines() if line.word == "start"]
    assert sorted(started) == sorted(
        [*(name for word, number in every for name in names(word, number)), "fresh-0", "fresh-1"]
    )
    assert witness.count("OVERLAP") == 0
