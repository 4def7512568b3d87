"""The three stores as one fixture, and an etcd to run them on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from tests.contract.etcd_server import EtcdServer
from tests.processes import running

from batchyard_controller.store.memory import MemoryData, MemoryStore
from batchyard_controller.store.open import open_store
from batchyard_controller.store.protocol import Store

WRITER = Path(__file__).with_name("writer.py")
LEASE_TTL_S = 3


class Home:
    """Where the data of one test lies, whoever opens a store on it."""

    def __init__(self, kind: str, make: Callable[[], Store], lose_leader: Callable[[], int]) -> None:
        self.kind = kind
        self.lose_leader = lose_leader
        """Let another candidate lead and die without a word; returns its epoch."""
        self._make = make
        self._stores: list[Store] = []

    def open(self) -> Store:
        """Open one more store, closed at the end of the test."""
        self._stores.append(self._make())
        return self._stores[-1]

    async def close(self) -> None:
        for store in self._stores:
            await store.close()


def writing(url: str) -> AbstractContextManager[subprocess.Popen[str]]:
    """Run another process that campaigns on *url*, then writes and tells; see writer.py."""
    return running([sys.executable, str(WRITER), url], stdout=subprocess.PIPE)


def kill_a_leader(url: str) -> int:
    with writing(url) as writer:
        assert writer.stdout is not None
        words = writer.stdout.readline().split()
        writer.kill()
    assert words[:1] == ["epoch"]
    return int(words[1])


async def lead_and_vanish(data: MemoryData) -> int:
    epoch = await MemoryStore(data).campaign("gone")
    data.depose()
    return epoch


def make_memory_home() -> Home:
    data = MemoryData()

    def lose_leader() -> int:
        # Nobody leads, so the campaign never waits and can be driven by hand.
        try:
            lead_and_vanish(data).send(None)
        except StopIteration as end:
            return int(end.value)
        raise AssertionError("someone leads already")

    return Home("memory", lambda: MemoryStore(data), lose_leader)


@pytest.fixture(scope="session")
def etcd_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    """An etcd for all tests that leave it as they found it; take a prefix of your own."""
    server = EtcdServer(tmp_path_factory.mktemp("etcd"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def own_etcd_server(tmp_path: Path) -> Iterator[EtcdServer]:
    """An etcd that the test may stop, kill and pause."""
    server = EtcdServer(tmp_path / "etcd")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def etcd_url(etcd_server: EtcdServer, tmp_path: Path) -> str:
    """Where a store on an etcd may keep this test's data alone."""
    return f"{etcd_server.url}{tmp_path}?lease_ttl_s={LEASE_TTL_S}"


@pytest.fixture(params=["memory", "sqlite", pytest.param("etcd", marks=pytest.mark.etcd)])
async def home(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Home]:
    """Each of the three stores in turn."""
    if request.param == "memory":
        home = make_memory_home()
    else:
        url = f"sqlite://{tmp_path}/state/store.db"
        if request.param == "etcd":
            url = request.getfixturevalue("etcd_url")
        home = Home(request.param, lambda: open_store(url), lambda: kill_a_leader(url))
    yield home
    await home.close()
