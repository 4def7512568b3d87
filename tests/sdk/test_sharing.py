"""Scheduling policies, consumable resources, caps and priorities through the SDK."""

from __future__ import annotations

import pytest
from tests.sdk.yard import AsyncYard

from batchyard import Client, FailedPreconditionError, InvalidArgumentError, NotFoundError, container
from batchyard.v1.job_queue_pb2 import PREEMPTION_LOWER_PRIORITY, PREEMPTION_NEVER
from batchyard.v1.scheduling_policy_pb2 import FairsharePolicy, QuotaSharePolicy, ShareWeight

TRUE = container(["true"])


async def test_a_policy_is_made_given_to_a_queue_and_changed(async_yard: AsyncYard) -> None:
    client = async_yard.client
    weights = [ShareWeight(share_identifier="A", weight_factor=0.25, max_vcpus=4)]
    made = await client.create_scheduling_policy("fair", fairshare=FairsharePolicy(share_distribution=weights))
    assert [row async for row in client.list_scheduling_policies(page_size=1)] == [made]
    queue = await client.create_job_queue("shared", scheduling_policy="fair", max_running=2)
    assert (queue.scheduling_policy, queue.max_running, queue.max_vcpus) == ("fair", 2, 0)
    queue = await client.update_job_queue("shared", max_vcpus=9)
    assert (queue.max_running, queue.max_vcpus) == (2, 9)
    changed = await client.update_scheduling_policy("fair", fairshare=FairsharePolicy(compute_reservation=50))
    assert list(changed.fairshare.share_distribution) == []
    assert await client.describe_scheduling_policies(["nobody", "fair"]) == [changed]
    with pytest.raises(FailedPreconditionError, match="is used by job queues: shared"):
        await client.delete_scheduling_policy("fair")
    await client.create_scheduling_policy("alone")
    await client.delete_scheduling_policy("alone")


async def test_a_quota_share_is_made_used_changed_and_deleted(async_yard: AsyncYard) -> None:
    client = async_yard.client
    await client.create_scheduling_policy("quota", quota_share=QuotaSharePolicy())
    await client.create_job_queue("shared", scheduling_policy="quota")
    made = await client.create_quota_share(
        "shared", "own", capacity_limits={"VCPU": 2, "MEMORY_MIB": 4096}, sharing_strategy="LEND", tags={"a": "b"}
    )
    assert [(use.capacity_unit, use.max_capacity, use.used) for use in made.use] == [
        ("VCPU", 2.0, 0.0),
        ("MEMORY_MIB", 4096.0, 0.0),
    ]
    await client.create_quota_share(
        "shared", "guest", capacity_limits={"VCPU": 1}, sharing_strategy="LEND_AND_BORROW", borrow_limit=100
    )
    assert [row.name async for row in client.list_quota_shares("shared", page_size=1)] == ["guest", "own"]
    assert await client.describe_quota_shares("shared", ["nobody", "own"]) == [made]
    changed = await client.update_quota_share("shared", "guest", sharing_strategy="LEND", in_share_preemption=True)
    assert (changed.borrow_limit, changed.in_share_preemption) == (-1, True)
    job = await client.submit_job(name="j", queue="shared", share_identifier="own", container=TRUE)
    answer = await client.get_job_queue_snapshot("shared")
    assert [(each.name, each.first.job_id) for each in answer.quota_shares] == [("guest", ""), ("own", job.job_id)]
    await client.update_quota_share("shared", "own", state="DISABLED", capacity_limits={"VCPU": 1})
    with pytest.raises(FailedPreconditionError, match="quota share own of job queue shared is DISABLED"):
        await client.submit_job(name="j", queue="shared", share_identifier="own", container=TRUE)
    await client.delete_quota_share("shared", "own")
    assert (await client.describe_job(job.job_id)).status_reason == "QuotaShare deleted"
    with pytest.raises(NotFoundError, match="quota share 'own' of job queue 'shared' not found"):
        await client.delete_quota_share("shared", "own")


async def test_a_snapshot_of_a_queue_tells_who_is_first(async_yard: AsyncYard) -> None:
    client = async_yard.client
    first, second = [await client.submit_job(name="j", container=TRUE) for _ in range(2)]
    answer = await client.get_job_queue_snapshot("default")
    assert [each.job_id for each in answer.front] == [first.job_id, second.job_id]
    with pytest.raises(NotFoundError, match="JobQueue 'nobody' not found"):
        await client.get_job_queue_snapshot("nobody")


async def test_a_queue_says_whom_it_has_stopped_and_whether_it_may_be(async_yard: AsyncYard) -> None:
    client = async_yard.client
    queue = await client.create_job_queue("urgent", preemption="lower-priority")
    assert (queue.preemption, queue.preemptible) == (PREEMPTION_LOWER_PRIORITY, False)
    queue = await client.update_job_queue("urgent", preemptible=True)
    assert (queue.preemption, queue.preemptible) == (PREEMPTION_LOWER_PRIORITY, True)
    queue = await client.update_job_queue("urgent", preemption="NEVER", preemptible=False)
    assert (queue.preemption, queue.preemptible) == (PREEMPTION_NEVER, False)
    with pytest.raises(InvalidArgumentError, match="preemption"):
        await client.update_job_queue("urgent", preemption="ALWAYS")
    made = await client.submit_job(name="j", queue="urgent", container=TRUE, preemption_retries=0)
    strategy = (await client.describe_job(made.job_id)).retry_strategy
    assert (strategy.attempts, strategy.preemption_retries_before_termination) == (1, 0)
    assert strategy.HasField("preemption_retries_before_termination")


async def test_a_priority_is_changed_while_a_job_waits(async_yard: AsyncYard) -> None:
    client = async_yard.client
    await client.create_scheduling_policy("fair")
    await client.create_job_queue("shared", scheduling_policy="fair")
    job = await client.submit_job(name="j", queue="shared", container=TRUE, share_identifier="A")
    await client.update_job(job.job_id, scheduling_priority=7)
    assert (await client.describe_job(job.job_id)).scheduling_priority == 7
    plain = await client.submit_job(name="j", container=TRUE)
    with pytest.raises(InvalidArgumentError, match="has no scheduling policy"):
        await client.update_job(plain.job_id, scheduling_priority=7)


async def test_a_consumable_is_made_asked_for_and_changed(async_yard: AsyncYard) -> None:
    client = async_yard.client
    made = await client.create_consumable_resource("licence", total=1, kind="non-replenishable")
    assert (made.total, made.available) == (1, 1)
    await client.register_job_definition("train", container=TRUE, consumables={"licence": 2})
    job = await client.submit_job(name="j", job_definition="train")
    assert (await client.describe_job(job.job_id)).consumables == {"licence": 2}
    other = await client.submit_job(name="j", job_definition="train", consumables={"licence": 1})
    assert [row.id async for row in client.list_jobs(consumable="licence")] == [other.job_id, job.job_id]
    for _ in range(2):
        changed = await client.update_consumable_resource("licence", "add", 4, request_id="once")
    assert changed.total == 5
    assert [row.name async for row in client.list_consumable_resources(name="LIC*")] == ["licence"]
    with pytest.raises(FailedPreconditionError):
        await client.delete_consumable_resource("licence")
    with pytest.raises(NotFoundError):
        await client.delete_consumable_resource("nobody")
    assert await client.describe_consumable_resources(["licence"]) == [changed]


def test_wrong_words_and_types_are_refused_before_any_call() -> None:
    with Client("127.0.0.1:1") as client:
        with pytest.raises(InvalidArgumentError, match="operation: must be one of SET, ADD, REMOVE, not 'MORE'"):
            client.update_consumable_resource("licence", "MORE", 1)
        with pytest.raises(InvalidArgumentError, match=r"consumables\['a'\]: must be an int, not float"):
            client.submit_job(name="j", container=TRUE, consumables={"a": 1.5})  # type: ignore[dict-item]
        with pytest.raises(InvalidArgumentError, match="fairshare: must be a FairsharePolicy, not dict"):
            client.create_scheduling_policy("p", fairshare={})  # type: ignore[arg-type]
