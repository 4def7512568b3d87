"""Scheduling policies, consumable resources, caps and priorities, over the wire and over a restart."""

from __future__ import annotations

from typing import Any

from batchyard.errors import Reason
from batchyard.v1 import consumable_resource_pb2 as cr
from batchyard.v1 import job_pb2
from batchyard.v1 import job_queue_pb2 as jq
from batchyard.v1 import scheduling_policy_pb2 as sp
from batchyard_controller.store.memory import MemoryData

from .controller import MemoryController, queue, refusal, submission
from .hand_agent import HandAgent

WEIGHTS = (
    sp.ShareWeight(share_identifier="A", weight_factor=0.5, max_running=2),
    sp.ShareWeight(share_identifier="B*"),
)

PREEMPTION: dict[str, Any] = {"preemption": jq.PREEMPTION_LOWER_PRIORITY, "preemptible": True}

ADD = cr.UpdateConsumableResourceRequest(
    name="licence", operation=cr.CONSUMABLE_RESOURCE_OPERATION_ADD, quantity=1, request_id="once"
)


async def make(yard: MemoryController) -> None:
    """Make a policy, a queue with it, and a consumable resource."""
    fairshare = sp.FairsharePolicy(share_decay_s=60, compute_reservation=5, share_distribution=WEIGHTS)
    request = sp.CreateSchedulingPolicyRequest(name="fair", fairshare=fairshare, tags={"a": "b"})
    made = (await yard.policies.CreateSchedulingPolicy(request)).scheduling_policy
    assert made.created_at_ms > 0
    assert [w.weight_factor for w in made.fairshare.share_distribution] == [0.5, 1.0]
    await yard.queues.CreateJobQueue(
        queue("shared", scheduling_policy="fair", max_running=3, max_vcpus=8, **PREEMPTION)
    )
    await yard.consumables.CreateConsumableResource(cr.CreateConsumableResourceRequest(name="licence", total=2))


async def consumable(yard: MemoryController, name: str = "licence") -> tuple[int, int, int]:
    """Return total, in use, available."""
    request = cr.DescribeConsumableResourcesRequest(names=[name, "nobody"])
    (found,) = (await yard.consumables.DescribeConsumableResources(request)).consumable_resources
    return found.total, found.in_use, found.available


async def test_what_is_made_is_described_and_kept() -> None:
    """A second controller over the same store knows all of it."""
    data = MemoryData()
    names = sp.DescribeSchedulingPoliciesRequest(names=["fair", "nobody"])
    async with MemoryController(data) as first:
        await first.until_leads()
        await first.furnish()
        await make(first)
        described = await first.policies.DescribeSchedulingPolicies(names)
        await first.consumables.UpdateConsumableResource(ADD)
    async with MemoryController(data) as second:
        await second.until_leads()
        assert await second.policies.DescribeSchedulingPolicies(names) == described
        (found,) = (await second.queues.DescribeJobQueues(jq.DescribeJobQueuesRequest(names=["shared"]))).job_queues
        assert (found.scheduling_policy, found.max_running, found.max_vcpus) == ("fair", 3, 8)
        assert (found.preemption, found.preemptible) == (jq.PREEMPTION_LOWER_PRIORITY, True)
        assert await consumable(second) == (3, 0, 3)
        await second.consumables.UpdateConsumableResource(ADD)
        assert await consumable(second) == (3, 0, 3), "the same request counts once"


async def test_an_update_of_a_policy_replaces_what_it_says(yard: MemoryController) -> None:
    await make(yard)
    update = sp.UpdateSchedulingPolicyRequest
    answer = await yard.policies.UpdateSchedulingPolicy(update(name="fair", annotations={"k": "v"}))
    assert answer.scheduling_policy.fairshare.compute_reservation == 5
    given = sp.FairsharePolicy(share_distribution=WEIGHTS[:1])
    answer = await yard.policies.UpdateSchedulingPolicy(update(name="fair", fairshare=given))
    assert answer.scheduling_policy.fairshare == given
    assert answer.scheduling_policy.annotations == {"k": "v"}
    await yard.policies.CreateSchedulingPolicy(sp.CreateSchedulingPolicyRequest(name="other"))
    await yard.queues.UpdateJobQueue(jq.UpdateJobQueueRequest(name="shared", scheduling_policy="other", max_running=0))
    await yard.policies.DeleteSchedulingPolicy(sp.DeleteSchedulingPolicyRequest(name="fair"))
    listed = await yard.policies.ListSchedulingPolicies(sp.ListSchedulingPoliciesRequest(page_size=1))
    assert [each.name for each in listed.scheduling_policies] == ["other"]


async def test_a_priority_is_changed_until_the_end(yard: MemoryController) -> None:
    await make(yard)
    job_id = await yard.submit(queue="shared", share_identifier="A")
    assert not (await yard.describe(job_id)).HasField("scheduling_priority")
    update = job_pb2.UpdateJobRequest(job_id=job_id, scheduling_priority=0)
    await yard.jobs.UpdateJob(update)
    assert (await yard.describe(job_id)).HasField("scheduling_priority")
    update.scheduling_priority = 9999
    await yard.jobs.UpdateJob(update)
    assert (await yard.describe(job_id)).scheduling_priority == 9999
    await yard.jobs.CancelJob(job_pb2.CancelJobRequest(job_id=job_id, reason="r"))
    told = await refusal(yard.jobs.UpdateJob(update))
    assert (told.code, told.reason, told.metadata) == (
        "FAILED_PRECONDITION",
        Reason.JOB_HAS_ENDED,
        {"job_id": job_id},
    )


async def test_jobs_are_found_by_what_they_ask_for(yard: MemoryController) -> None:
    """Those of one share, and those of one consumable resource."""
    await make(yard)
    one = await yard.submit(queue="shared", share_identifier="A", consumables={"licence": 1})
    other = await yard.submit(queue="shared", share_identifier="B1", consumables={"licence": 2})
    plain = await yard.submit()

    async def found(**fields: Any) -> list[str]:
        return [job.id for job in (await yard.jobs.ListJobs(job_pb2.ListJobsRequest(**fields))).jobs]

    assert await found(consumable="licence") == [other, one]
    assert await found(consumable="licence", queues=["default"]) == []
    assert await found(share_identifier="B1") == [other]
    assert await found(queues=["default"]) == [plain]
    assert (await yard.describe(other)).consumables == {"licence": 2}


async def test_what_attempts_hold_is_given_back(yard: MemoryController) -> None:
    """A job that lacks some says how much, and goes when it is raised."""
    await make(yard)
    agent = HandAgent(yard)
    await agent.join()
    first = await yard.submit(consumables={"licence": 2})
    (started,) = await agent.hear_starts()
    assert started.attempt_id == f"{first}#1"
    second = await yard.submit(consumables={"licence": 2})
    answer = await yard.jobs.ExplainJob(job_pb2.ExplainJobRequest(job_id=second))
    (told,) = answer.refusals
    assert (told.kind, told.asked, told.free, told.largest_capacity) == ("consumable", 2, 0, 2)
    assert await consumable(yard) == (2, 2, 0)
    add = cr.UpdateConsumableResourceRequest(
        name="licence", operation=cr.CONSUMABLE_RESOURCE_OPERATION_ADD, quantity=2, request_id="r"
    )
    await yard.consumables.UpdateConsumableResource(add)
    (started,) = await agent.hear_starts()
    assert started.attempt_id == f"{second}#1"
    answer = await yard.consumables.UpdateConsumableResource(add)
    assert (answer.consumable_resource.total, answer.consumable_resource.in_use) == (4, 4)


async def test_a_list_of_consumables_goes_by_name(yard: MemoryController) -> None:
    for name in ("licence-a", "Licence-b", "token"):
        await yard.consumables.CreateConsumableResource(cr.CreateConsumableResourceRequest(name=name))

    async def found(**fields: Any) -> list[str]:
        answer = await yard.consumables.ListConsumableResources(cr.ListConsumableResourcesRequest(**fields))
        return [each.name for each in answer.consumable_resources]

    assert await found() == ["Licence-b", "licence-a", "token"]
    assert await found(name="LICENCE*") == ["Licence-b", "licence-a"]
    assert await found(name="TOKEN") == ["token"]
    first = await yard.consumables.ListConsumableResources(cr.ListConsumableResourcesRequest(page_size=2))
    assert await found(page_token=first.next_page_token) == ["token"]


async def test_one_share_too_many_is_refused(yard: MemoryController) -> None:
    """AWS: at most 500 active ones; those that are there go on."""
    await make(yard)
    jobs = [submission(queue="shared", share_identifier=f"s{i}") for i in range(501)]
    call = yard.jobs.SubmitJobs()
    await call.write(job_pb2.SubmitJobsRequest(jobs=jobs))
    await call.done_writing()
    results = (await call.read()).results
    assert [result.WhichOneof("outcome") for result in results] == ["job"] * 500 + ["refusal"]
    assert results[-1].refusal.reason == Reason.TOO_MANY_SHARES
    assert results[-1].refusal.metadata == {"name": "shared", "limit": "500"}
    await yard.submit(queue="shared", share_identifier="s7")
