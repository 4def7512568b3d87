"""The hub over a real controller: it looks once however many look on, and not at all when nobody does."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

import pytest
from tests.gateway.endpoint import Anybody
from tests.services.controller import MemoryController

from batchyard.client import AsyncClient
from batchyard.v1 import job_pb2
from batchyard_gateway.app import Gateway, make_console
from batchyard_gateway.batch.operations import SERVICE
from batchyard_gateway.config import Config
from batchyard_gateway.console.live import hub as live
from batchyard_gateway.console.live import hubs
from batchyard_gateway.console.live.hub import Hub, Looker

PATIENCE_S = 20.0


class Counted:
    """A client that counts what is asked of it, and what of it is going on."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self.asked: Counter[str] = Counter()
        self.is_watching = asyncio.Event()
        self.is_free = asyncio.Event()

    def list_job_queues(self) -> AsyncGenerator[Any, None]:
        self.asked["queues"] += 1
        return self._client.list_job_queues()

    def list_hosts(self) -> AsyncGenerator[Any, None]:
        self.asked["hosts"] += 1
        return self._client.list_hosts()

    async def describe_jobs(self, job_ids: Sequence[str]) -> Sequence[Any]:
        self.asked["described"] += len(job_ids)
        return await self._client.describe_jobs(job_ids)

    async def watch_changes(self) -> AsyncGenerator[Any, None]:
        self.asked["watches"] += 1
        self.is_watching.set()
        try:
            async for message in self._client.watch_changes():
                yield message
        finally:
            self.is_free.set()


@pytest.fixture
async def yard() -> AsyncIterator[MemoryController]:
    """Return a controller with a queue."""
    async with MemoryController() as controller:
        await controller.until_leads()
        await controller.furnish()
        yield controller


@pytest.fixture
async def client(yard: MemoryController) -> AsyncIterator[AsyncClient]:
    """Return a client of it."""
    async with AsyncClient(yard.address) as opened:
        yield opened


def hub_of(counted: Counted) -> Hub:
    loop = asyncio.get_running_loop()
    return Hub(counted, boot="boot", read_s=loop.time, read_wall_s=loop.time)


async def yes() -> bool:
    return True


def looker(*topics: str, ids: tuple[str, ...] = ()) -> Looker:
    return Looker(topics=topics, ids=ids, since="", is_signed_in=yes, write_time=str)


async def look(stream: AsyncGenerator[bytes, None]) -> str:
    """Wait until a stream says that something is to be looked at."""
    async with asyncio.timeout(PATIENCE_S):
        async for event in stream:
            if b"event: look" in event:
                return event.decode()
    raise AssertionError("the stream ended")


async def test_twenty_tabs_are_one_look_and_one_watch(
    yard: MemoryController, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "COUNTS_S", 1000.0)
    monkeypatch.setattr(live, "HOSTS_S", 1000.0)
    job_id = await yard.submit()
    counted = Counted(client)
    hub = hub_of(counted)
    running = asyncio.create_task(hub.run())
    streams = [hub.stream(looker("counts", "hosts", "queues", ids=(job_id,))) for _ in range(20)]
    assert len(await asyncio.gather(*map(look, streams))) == 20
    async with asyncio.timeout(PATIENCE_S):
        await counted.is_watching.wait()
    await asyncio.gather(*(hub.queues() for _ in range(20)))
    await client.terminate_job(job_id, "enough")
    told = await asyncio.gather(*map(look, streams))
    assert all("jobs" in event for event in told)
    assert counted.asked == {"queues": 1, "hosts": 1, "watches": 1}
    for stream in streams:
        await stream.aclose()
    running.cancel()


async def test_twenty_tabs_read_what_they_show_once_a_moment(yard: MemoryController, client: AsyncClient) -> None:
    ids = [await yard.submit() for _ in range(3)]
    counted = Counted(client)
    hub = hub_of(counted)
    running = asyncio.create_task(hub.run())
    stream = hub.stream(looker(ids=tuple(ids)))
    await look(stream)
    for _ in range(20):
        assert list(await hub.describe_jobs(ids)) == ids
    assert counted.asked["described"] == 3
    await client.terminate_job(ids[0], "enough")
    assert "jobs" in await look(stream)
    for _ in range(20):
        assert (await hub.describe_jobs(ids))[ids[0]].state == job_pb2.JOB_STATE_FAILED
    assert counted.asked["described"] in (4, 6), "what was told of alone, unless a second went by"
    await stream.aclose()
    running.cancel()


async def test_nothing_is_asked_while_nobody_looks(client: AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "LINGER_S", 0.0)
    counted = Counted(client)
    hub = hub_of(counted)
    running = asyncio.create_task(hub.run())
    stream = hub.stream(looker("counts"))
    await look(stream)
    assert counted.asked["hosts"] == 0, "nobody wants them"
    async with asyncio.timeout(PATIENCE_S):
        await counted.is_watching.wait()
        await stream.aclose()
        await counted.is_free.wait()
    stream = hub.stream(looker("counts"))
    assert "counts" in await look(stream)
    await stream.aclose()
    running.cancel()


async def test_a_session_that_ended_ends_its_stream(client: AsyncClient) -> None:
    async def no() -> bool:
        return False

    hub = hub_of(Counted(client))
    ended = Looker(topics=("counts",), ids=(), since="", is_signed_in=no, write_time=str)
    assert [event async for event in hub.stream(ended)][1:] == [b"event: ended\ndata: -\n\n"]


async def test_a_stop_ends_all_streams(client: AsyncClient) -> None:
    hub = hub_of(Counted(client))
    stream = hub.stream(looker("counts"))
    await anext(stream)
    rest = asyncio.create_task(anext(stream, None))
    await asyncio.sleep(0)
    hub.close()
    async with asyncio.timeout(PATIENCE_S):
        assert await rest is None


async def test_a_hub_that_breaks_ends_the_gateway(client: AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_: Hub) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Hub, "run", broken)
    config = Config(controller=client.address)
    gateway = Gateway(config=config, client=client, services=(SERVICE,), guard=Anybody())
    console = make_console(gateway)

    async def visit() -> None:
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
            group.create_task(console.run())
            await asyncio.sleep(0)
            console.hubs.of("BYAK")  # as for the first page of a key

    with pytest.raises(ExceptionGroup) as died:
        await visit()
    assert died.group_contains(RuntimeError, match="a bug")


async def test_each_key_has_a_hub_of_its_own_and_those_that_are_idle_are_few(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hubs, "HUBS_MAX", 2)
    kept = hubs.Hubs(lambda _: hub_of(Counted(client)))

    async def serve() -> None:
        async with asyncio.TaskGroup() as group:
            kept.begin(group)
            await asyncio.Event().wait()

    serving = asyncio.create_task(serve())
    await asyncio.sleep(0)
    first, second = kept.of("a"), kept.of("b")
    assert kept.of("a") is first is not second
    stream = first.stream(looker("counts"))
    await anext(stream)
    kept.of("c")
    kept.of("d")
    assert kept.of("a") is first, "an open page keeps its hub"
    assert kept.of("b") is not second
    await stream.aclose()
    serving.cancel()
    await asyncio.wait({serving})
