"""While its store is away a controller that has led answers who takes that with what it knew last, and says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from batchyard import AsyncClient
from batchyard.errors import Reason, UnavailableError
from batchyard.v1 import job_queue_pb2 as queue_pb
from batchyard_controller.app import clock
from batchyard_controller.store.memory import MemoryStore
from batchyard_controller.store.protocol import News, StoreError

from .controller import PATIENCE_S, Controller, MemoryController, container, refusal


class Store(MemoryStore):
    """A store that one controller cannot reach for a while."""

    is_away = False

    async def campaign(self, candidate: str) -> int:
        if self.is_away:
            raise StoreError("it is away")
        return await super().campaign(candidate)

    async def follow(self) -> AsyncIterator[News]:
        if self.is_away:
            raise StoreError("it is away")
        async for news in super().follow():
            yield news

    def go(self) -> None:
        """Be away, so that the lease is lost."""
        self.is_away = True
        self._data.depose()


async def test_reads_go_on_marked_and_nothing_can_be_changed() -> None:
    store, told = Store(), list[int]()
    began_ms = clock().wall_ms
    async with Controller(store) as yard, AsyncClient(yard.address, retry_s=0.1, on_stale=told.append) as client:
        await yard.until_leads()
        await yard.furnish()
        job_id = await yard.submit()
        assert (await client.describe_job(job_id)).name == "hello"
        assert told == []
        store.go()
        await yard.until_deposed()
        assert (await client.describe_job(job_id)).name == "hello"
        assert [queue.name async for queue in client.list_job_queues()] == ["default"]
        assert (await client.summarize_hosts()).hosts_by_state == {}
        assert len(told) == 3
        assert all(began_ms <= since_ms <= clock().wall_ms for since_ms in told)
        for change in (client.submit_job(name="more", container=container()), client.cancel_job(job_id, reason="no")):
            with pytest.raises(UnavailableError) as refused:
                await change
            assert refused.value.reason == Reason.NOT_LEADING
        # Who does not say that it takes such an answer gets none.
        assert (await refusal(yard.queues.ListJobQueues(queue_pb.ListJobQueuesRequest()))).reason == "NOT_LEADING"
        store.is_away = False
        await yard.until_leads(2)
        assert (await client.describe_job(job_id)).name == "hello"
        assert len(told) == 3


async def test_who_knows_another_controller_asks_that_and_nobody_is_answered_by_one_that_knows_who_leads() -> None:
    store, told = Store(), list[int]()
    async with Controller(store) as former, MemoryController(store._data) as second:
        await former.until_leads()
        await former.furnish()
        store.go()
        await second.until_leads()
        await second.queues.UpdateJobQueue(queue_pb.UpdateJobQueueRequest(name="default", priority=7))
        both = f"{former.address},{second.address}"
        async with AsyncClient(both, retry_s=PATIENCE_S, on_stale=told.append) as client:
            assert [queue.priority async for queue in client.list_job_queues()] == [7]
        assert told == []
        assert former.leadership.stale_since_ms > 0
        store.is_away = False
        async with asyncio.timeout(PATIENCE_S):
            while former.leadership.stale_since_ms:  # nothing is set when a standby hears who leads
                await asyncio.sleep(0.01)
