"""A state folder that was copied: two real agents of one identity, before a real controller."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import grpc
import pytest

from batchyard.v1 import host_pb2
from batchyard_agent import app, session
from batchyard_agent.config import Config
from batchyard_agent.journal import Journal
from batchyard_agent.session import TwinError
from batchyard_controller.driver import _Request
from batchyard_controller.store.memory import MemoryStore
from batchyard_controller.store.protocol import Atom

from .controller import PATIENCE_S, Controller, MemoryController, amounts, container
from .hand_agent import HOST_ID, HandAgent, running

ROUNDS = 20
JOBS = 3


class HeldStore(MemoryStore):
    """A store whose commits wait while they are told to."""

    def __init__(self) -> None:
        super().__init__()
        self.is_committing, self.may_commit = asyncio.Event(), asyncio.Event()
        self.may_commit.set()

    async def commit(self, atoms: Sequence[Atom], epoch: int) -> None:
        if not self.may_commit.is_set():
            self.is_committing.set()
            await self.may_commit.wait()
        await super().commit(atoms, epoch)


def _config(yard: MemoryController, folder: Path) -> Config:
    return Config(
        controller=yard.address, name="alpha", state_dir=folder, runtimes=("fake",), cpu_millis=8000, is_insecure=True
    )


@contextlib.asynccontextmanager
async def _agent(config: Config) -> AsyncIterator[asyncio.Task[None]]:
    """Run an agent as ``app.run`` does, but for the signals, of which a process has one set."""
    stop = asyncio.Event()

    async def work() -> None:
        journal = Journal.open(config.state_dir, HOST_ID)
        try:
            standing = await app.begin(config, journal, stop)
            assert standing is not None
            await app.Agent(config, journal, standing).run(stop)
        finally:
            journal.close()

    task = asyncio.create_task(work())
    try:
        yield task
    finally:
        stop.set()
        await asyncio.wait({task})


async def _until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not is_so():
            await asyncio.sleep(0.01)


async def _until_all_run(yard: Controller, jobs: list[str]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while {await yard.state(job) for job in jobs} != {"RUNNING"}:
            await asyncio.sleep(0.02)


async def test_copied_state_folder(yard: MemoryController, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty rounds: the first agent keeps its jobs, the second ends with one sentence."""
    monkeypatch.setattr(session, "TWIN_PATIENCE_MS", 0)
    first = tmp_path / "first"
    work = container("sleep", "3600", image="fake://", resources=amounts())
    async with _agent(_config(yard, first)) as running:
        jobs = [await yard.submit(container=work) for _ in range(JOBS)]
        await _until_all_run(yard, jobs)
        for number in range(ROUNDS):
            copied = tmp_path / f"copy-{number}"
            shutil.copytree(first, copied)
            async with _agent(_config(yard, copied)) as second, asyncio.timeout(PATIENCE_S):
                with pytest.raises(ExceptionGroup) as ended:
                    await asyncio.shield(second)
            (twin,) = ended.value.exceptions
            assert isinstance(twin, TwinError)
            assert str(twin) == (
                f"another agent with this one's host id {HOST_ID} is connected, from this machine: "
                "one's state folder is a copy of the other's; start this one with an empty folder"
            )
            assert not running.done()
        await _until_all_run(yard, jobs)
        assert [len((await yard.describe(job)).attempts) for job in jobs] == [1] * JOBS
        (host,) = (await yard.hosts.ListHosts(host_pb2.ListHostsRequest())).hosts
        assert (host.state, host.attempts) == (host_pb2.HOST_STATE_READY, JOBS)


async def test_an_agent_that_is_started_again_waits_for_its_own_dead_session(
    yard: MemoryController, tmp_path: Path
) -> None:
    """It is refused as a twin at first, as nobody can tell a dead agent's open stream from another's."""
    before = HandAgent(yard, nonce="of the run before")
    await before.join()
    async with _agent(_config(yard, tmp_path)) as task:
        await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE_S):
            while not tmp_path.joinpath("journal.db").exists():
                await asyncio.sleep(0.02)
        before.drop()
        job = await yard.submit(container=container("sleep", "3600", image="fake://"))
        await _until_all_run(yard, [job])
        assert not task.done()


async def test_the_first_leaves_while_the_other_is_looked_at() -> None:
    """It came while the first was connected; what runs there is as well the first one's when that has gone meanwhile."""
    store = HeldStore()
    async with Controller(store) as yard:
        await yard.until_leads()
        await yard.furnish()
        first = HandAgent(yard, nonce="first")
        await first.join()
        job = await yard.submit()
        (spec,) = await first.hear_starts()
        await first.report(running(spec.attempt_id))
        await _until_all_run(yard, [job])
        other = HandAgent(yard, nonce="other")
        hello = other.hello()
        hello.hello.machine_id = "another"
        store.may_commit.clear()
        change = asyncio.create_task(yard.submit())
        await store.is_committing.wait()
        await other.open(hello)
        inbox = yard.leadership.driver._inbox
        await _until(lambda: other._call.done() or any(isinstance(each, _Request) for each in inbox))
        first.drop()
        await _until(lambda: not yard.sessions._sessions)
        store.may_commit.set()
        await change
        with pytest.raises(grpc.aio.AioRpcError, match="one's state folder is a copy of the other's"):
            await other.read()
        assert await yard.state(job) == "RUNNING"
