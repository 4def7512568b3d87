"""The provider that starts agents on this machine, with real ones; no controller answers them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from batchyard.ids import LaunchId
from batchyard.resources import Resources
from batchyard_controller.core.model.hosts import HostFacts
from batchyard_controller.core.model.launches import Launch
from batchyard_controller.core.scaling.catalogue import LaunchType
from batchyard_controller.providers.local import LocalProvider
from batchyard_controller.providers.protocol import ProviderError, Wanted

LAUNCH = Launch(id=LaunchId("burst-1"), environment="burst", provider="local", host_type="small", cpu_millis=1000)
SMALL = LaunchType(facts=HostFacts(name="", host_type="small", capacity=Resources(cpu_millis=1000, memory_mib=512)))
WANTED = Wanted(launch=LAUNCH, type=SMALL)


class Local:
    """A provider after the other over one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "hosts"
        self._scratch = folder / "scratch"
        self._socket = f"unix:{folder / 'nobody.sock'}"

    def provider(self) -> LocalProvider:
        return LocalProvider(self.folder, self._scratch, self._socket)

    def agents(self) -> list[int]:
        found = []
        for process in psutil.process_iter():
            try:
                if any(argument.startswith(str(self.folder)) for argument in process.cmdline()):
                    found.append(process.pid)
            except psutil.Error:
                continue
        return found

    async def one(self) -> int:
        """Return the only agent; the kernel shows a program's arguments a moment after it has begun."""
        async with asyncio.timeout(20):
            while len(found := self.agents()) != 1:  # nobody else says it
                await asyncio.sleep(0.01)
        return found[0]


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[Local]:
    made = Local(tmp_path)
    yield made
    for pid in made.agents():
        os.kill(pid, signal.SIGKILL)


async def test_a_host_is_started_once_and_stopped_without_a_trace(local: Local) -> None:
    provider = local.provider()
    assert await provider.existing() == frozenset()
    await provider.launch(WANTED)
    pid = await local.one()
    arguments = psutil.Process(pid).cmdline()
    assert arguments[arguments.index("--cpus") + 1] == "1"
    assert "batchyard.launch=burst-1" in arguments
    await provider.launch(WANTED)
    assert local.agents() == [pid]
    assert await provider.existing() == {"burst-1"}
    await provider.stop(LAUNCH)
    assert local.agents() == []
    assert list(local.folder.iterdir()) == []
    await provider.stop(LAUNCH)


async def test_the_next_controller_finds_what_a_killed_one_started(local: Local) -> None:
    killed = local.provider()
    await killed.launch(WANTED)
    pid = await local.one()
    after = local.provider()
    await after.launch(WANTED)
    assert local.agents() == [pid]
    assert await after.existing() == {"burst-1"}
    await after.stop(LAUNCH)
    assert local.agents() == []
    await killed.close()  # it lives on in this process, and has to learn the end of its child


async def test_agents_end_with_the_controller_and_come_back(local: Local) -> None:
    provider = local.provider()
    await provider.launch(WANTED)
    before = await local.one()
    await provider.close()
    assert local.agents() == []
    after = local.provider()
    assert await after.existing() == {"burst-1"}
    now = await local.one()
    assert now != before
    await after.stop(LAUNCH)


async def test_an_agent_that_ends_at_once_says_why(local: Local) -> None:
    broken = replace(SMALL, facts=replace(SMALL.facts, volume_paths=("not/absolute",)))
    with pytest.raises(ProviderError, match="'not/absolute' is no absolute path"):
        await local.provider().launch(Wanted(launch=LAUNCH, type=broken))
