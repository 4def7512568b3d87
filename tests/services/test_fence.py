"""The fence that an operator sets: how it is said, and that agents are told it and hosts keep it."""

from __future__ import annotations

import pytest

from batchyard.ids import HostId
from batchyard.v1 import job_queue_pb2
from batchyard_controller.config import parse_fence

from .controller import MemoryController, queue
from .hand_agent import HOST_ID, HandAgent


@pytest.mark.parametrize(("text", "fence_ms"), [("never", 0), ("30", 30_000), ("86400", 86_400_000)])
def test_a_fence_is_never_or_a_number_of_seconds(text: str, fence_ms: int) -> None:
    assert parse_fence(text) == fence_ms


@pytest.mark.parametrize("text", ["", "0", "29", "86401", "-30", "30s", "1e3", "Never", "٣٠"])
def test_what_is_no_fence_is_refused_with_the_limits(text: str) -> None:
    with pytest.raises(ValueError, match="neither never nor a whole number of seconds from 30 to 86400"):
        parse_fence(text)


@pytest.mark.parametrize("fence_ms", [30_000, 0])
async def test_agents_are_told_the_fence_and_hosts_keep_it(fence_ms: int) -> None:
    async with MemoryController(fence_ms=fence_ms) as yard:
        agent = HandAgent(yard)
        assert (await agent.join()).fence_ms == fence_ms
        await agent.beat()
        await agent.hear("heartbeat_ack")
        driver = yard.leadership.driver
        assert await driver.read(lambda world: world.hosts[HostId(HOST_ID)].record.fence_ms) == fence_ms


async def test_an_attempt_is_told_its_jobs_fence_else_its_queues_and_a_new_leader_knows_it() -> None:
    async with MemoryController() as yard:
        await yard.until_leads()
        await yard.furnish()
        await yard.queues.CreateJobQueue(queue("patient", fence_s=-1))
        agent = HandAgent(yard)
        await agent.join()
        jobs = [await yard.submit(), await yard.submit(fence_s=30), await yard.submit(queue="patient")]
        told = {spec.job_id: spec for spec in await agent.hear_starts(3)}
        assert [told[job].HasField("fence_ms") for job in jobs] == [False, True, True]
        assert [told[job].fence_ms for job in jobs[1:]] == [30_000, 0]
        await yard.queues.UpdateJobQueue(job_queue_pb2.UpdateJobQueueRequest(name="patient", fence_s=60))
        yard.data.depose()
        await yard.until_leads(2)
        driver = yard.leadership.driver
        kept = await driver.read(lambda world: {str(a.job_id): a.fence_ms for a in world.attempts.values()})
        assert [kept[job] for job in jobs] == [None, 30_000, 0]
        assert (await yard.describe(jobs[1])).fence_s == 30
