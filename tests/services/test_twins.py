"""A state folder that was copied: two real agents of one identity, before a real controller."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from batchyard.v1 import host_pb2
from batchyard_agent import app, session
from batchyard_agent.config import Config
from batchyard_agent.journal import Journal
from batchyard_agent.session import TwinError

from .controller import PATIENCE_S, MemoryController, amounts, container
from .hand_agent import HOST_ID, HandAgent

ROUNDS = 20
JOBS = 3


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


async def _until_all_run(yard: MemoryController, jobs: list[str]) -> None:
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
