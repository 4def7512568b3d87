"""Why, over the wire: where a job stands, and who is first in a queue."""

from __future__ import annotations

import time
from functools import partial

from batchyard.v1 import agent_pb2
from batchyard.v1 import job_pb2 as pb
from batchyard.v1 import job_queue_pb2 as jq
from batchyard.v1 import scheduling_policy_pb2 as sp

from .controller import MemoryController, amounts, container, queue
from .hand_agent import HandAgent


async def explain(yard: MemoryController, job_id: str) -> pb.ExplainJobResponse:
    answer = await yard.jobs.ExplainJob(pb.ExplainJobRequest(job_id=job_id))
    assert isinstance(answer, pb.ExplainJobResponse)
    return answer


async def snapshot(yard: MemoryController, name: str) -> jq.GetJobQueueSnapshotResponse:
    answer = await yard.queues.GetJobQueueSnapshot(jq.GetJobQueueSnapshotRequest(name=name))
    assert isinstance(answer, jq.GetJobQueueSnapshotResponse)
    return answer


async def test_who_waits_is_told_for_whom_room_is_kept_and_when_that_starts(yard: MemoryController) -> None:
    """The times are those of a wall clock."""
    agent = HandAgent(yard)
    await agent.join()
    await yard.submit(container=container(resources=amounts(3000)), timeout_s=600)
    (spec,) = await agent.hear_starts()
    began_ms = int(time.time() * 1000)
    await agent.report(
        agent_pb2.AttemptReport(
            attempt_id=spec.attempt_id, phase=agent_pb2.ATTEMPT_PHASE_RUNNING, started_at_ms=began_ms
        )
    )
    first = await yard.submit(container=container(resources=amounts(4000)), timeout_s=60)
    turned_away = await yard.submit(container=container(resources=amounts(1000)), timeout_s=900)
    promised = await explain(yard, first)
    assert (promised.position, promised.position_is_least, promised.first_job_id) == (1, False, "")
    assert [refusal.kind for refusal in promised.refusals] == ["cpu_millis", "reservation"]
    assert abs(promised.estimated_start_at_ms - began_ms - 600_000) < 10_000
    told = await explain(yard, turned_away)
    assert (told.position, told.first_job_id, told.estimated_start_at_ms) == (2, first, 0)
    assert [refusal.kind for refusal in told.refusals] == ["kept"]
    assert f"host alpha has room, but is kept for {first} until about 2" in told.summary
    assert told.summary.endswith(f"; 1 of its queue comes before it, first {first}")


async def test_a_snapshot_tells_who_is_first_and_what_is_held(yard: MemoryController) -> None:
    agent = HandAgent(yard)
    await agent.join()
    await yard.policies.CreateSchedulingPolicy(sp.CreateSchedulingPolicyRequest(name="fair"))
    await yard.queues.CreateJobQueue(queue("shared", scheduling_policy="fair"))
    submit = partial(yard.submit, queue="shared", container=container(resources=amounts(2000)))
    for name in ("A", "A", "B"):
        await submit(share_identifier=name)
    waits = await submit(share_identifier="A", array_size=2)
    await agent.hear_starts(2)
    first = await snapshot(yard, "shared")
    assert [each.job_id for each in first.front][1:] == [f"{waits}:0", f"{waits}:1"]
    assert first.seen_at_ms > 0
    assert {each.since_ms for each in first.front} == {first.seen_at_ms}
    assert (first.cpu_millis, first.has_shares, first.active_shares) == (4000, True, 1)
    assert [(each.share_identifier, each.cpu_millis) for each in first.top_shares] == [("A", 4000)]
    again = await snapshot(yard, "shared")
    assert [each.since_ms for each in again.front] == [each.since_ms for each in first.front]
    empty = await snapshot(yard, "default")
    assert (list(empty.front), empty.cpu_millis, empty.has_shares, empty.active_shares) == ([], 0, False, 0)
