"""An etcd whose file reaches its quota: it takes writes again by itself, with and without somebody who leads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest
from tests.contract.etcd_server import EtcdServer

from batchyard_controller.core.model.room import Room
from batchyard_controller.store.etcd_client import EtcdClient
from batchyard_controller.store.etcd_wire.v3 import etcd_pb2 as wire
from batchyard_controller.store.open import open_store
from batchyard_controller.store.protocol import Put, Store, StoreError, UnknownOutcomeError

MIB = 1 << 20
QUOTA_BYTES = 16 * MIB
HEALED_S = 60.0

pytestmark = pytest.mark.etcd


@pytest.fixture(params=[1, 3], ids=["alone", "three members"])
def servers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[EtcdServer]]:
    """A cluster whose members' files may reach 16 MiB."""
    members = EtcdServer.cluster(tmp_path, request.param, ["--quota-backend-bytes", str(QUOTA_BYTES)])
    try:
        with ThreadPoolExecutor(len(members)) as threads:
            list(threads.map(EtcdServer.start, members))
        yield members
    finally:
        for member in members:
            member.kill()


def store_of(servers: list[EtcdServer]) -> Store:
    return open_store(f"etcd://{','.join(server.endpoint for server in servers)}/full?lease_ttl_s=4")


async def fill(store: Store, epoch: int, *, keys: int) -> None:
    """Write the same keys again and again until no more is taken."""
    with pytest.raises(UnknownOutcomeError, match="database space exceeded"):
        await _write_for_ever(store, epoch, keys)


async def _write_for_ever(store: Store, epoch: int, keys: int) -> None:
    for i in count():
        await store.commit([(Put(f"k{i % keys}", b"x" * 100_000),)], epoch)


async def lead_again(store: Store) -> float:
    """Return how long it took to lead and write again."""
    began_s = time.monotonic()
    async with asyncio.timeout(HEALED_S):
        while True:
            try:
                await store.commit([(Put("after", b"1"),)], await store.campaign("again"))
            except StoreError:
                await asyncio.sleep(0.2)
            else:
                return time.monotonic() - began_s


async def alarms(server: EtcdServer) -> int:
    client = EtcdClient([server.endpoint])
    try:
        return len((await client.ask("Maintenance/Alarm", wire.AlarmRequest(), wire.AlarmResponse)).alarms)
    finally:
        await client.close()


async def test_a_store_full_of_history_is_healed_by_one_that_waits(
    servers: list[EtcdServer], record_property: Callable[[str, object], None]
) -> None:
    """Nobody can be elected while the alarm is on, as that is a write; who waits sees to it."""
    leader, waiting = store_of(servers), store_of(servers)
    await fill(leader, await leader.campaign("first"), keys=10)
    await leader.close()  # its lease can be given back: that is no write
    assert await alarms(servers[0])
    rooms: list[Room] = []
    tending = asyncio.create_task(waiting.tend(rooms.append))
    took_s = await lead_again(waiting)
    record_property("healed_s", took_s)
    print(f"healed in {took_s:.1f} s with {len(servers)} members")
    assert not await alarms(servers[0])
    assert dict([pair async for page in waiting.load("after") for pair in page]) == {"after": b"1"}
    assert rooms[0].quota_bytes == QUOTA_BYTES
    assert rooms[-1].size_bytes < QUOTA_BYTES / 2
    assert not rooms[-1].fault
    tending.cancel()
    await waiting.close()


async def test_live_records_over_the_quota_are_said_and_nothing_is_forced(tmp_path: Path) -> None:
    server = EtcdServer(tmp_path, ["--quota-backend-bytes", str(QUOTA_BYTES)])
    server.start()
    store = store_of([server])
    try:
        await fill(store, await store.campaign("first"), keys=1_000)
        told: asyncio.Queue[Room] = asyncio.Queue()
        tending = asyncio.create_task(store.tend(told.put_nowait))
        async with asyncio.timeout(HEALED_S):
            while not (room := await told.get()).fault:
                pass
        assert "nothing left to forget" in room.fault
        assert room.is_tight
        assert await alarms(server)
        tending.cancel()
    finally:
        await store.close()
        server.kill()


async def test_a_quota_that_is_raised_before_the_alarm_is_on_counts(tmp_path: Path) -> None:
    """An operator is told to when the store is nearly full, and takes new jobs then without another controller."""
    server = EtcdServer(tmp_path, ["--quota-backend-bytes", str(QUOTA_BYTES)])
    server.start()
    store = store_of([server])
    told: asyncio.Queue[Room] = asyncio.Queue()
    try:
        epoch = await store.campaign("first")
        for i in range(140):
            await store.commit([(Put(f"k{i}", b"x" * 100_000),)], epoch)
        tending = asyncio.create_task(store.tend(told.put_nowait))
        async with asyncio.timeout(HEALED_S):
            while not (await told.get()).is_tight:
                pass
            assert not await alarms(server)
            server.stop()
            server.arguments = ("--quota-backend-bytes", str(4 * QUOTA_BYTES))
            server.start()
            while (room := await told.get()).is_tight:
                pass
        assert room.quota_bytes == 4 * QUOTA_BYTES
        assert not room.fault
        tending.cancel()
    finally:
        await store.close()
        server.kill()
