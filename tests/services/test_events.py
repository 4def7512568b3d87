"""ListEvents: the trail over the wire: of a job, of a host, waiting, over terms, and for whom."""

from __future__ import annotations

from typing import Any

import pytest

from batchyard.v1 import event_pb2 as pb
from batchyard.v1 import host_pb2, job_pb2

from .controller import MemoryController
from .hand_agent import HandAgent


async def listed(yard: MemoryController, **fields: Any) -> pb.ListEventsResponse:
    answer = await yard.events.ListEvents(pb.ListEventsRequest(**fields))
    assert isinstance(answer, pb.ListEventsResponse)
    return answer


def told(answer: pb.ListEventsResponse) -> list[str]:
    return [event.what for event in answer.events]


async def test_a_jobs_trail_has_causes_and_outlives_its_controllers_term(yard: MemoryController) -> None:
    agent = HandAgent(yard)
    await agent.join()
    job_id = await yard.submit()
    (spec,) = await agent.hear_starts()
    await agent.finish(spec.attempt_id, exit_code=3)
    yard.data.depose()
    await yard.until_deposed()
    await yard.until_leads()
    answer = await listed(yard, job_id=job_id)
    assert told(answer) == ["RELEASED", "CLAIMED", "STARTED", "FAILED"]
    last = answer.events[-1]
    assert (last.attempt, last.exit_code, last.host_name, last.state) == (1, 3, "alpha", job_pb2.JOB_STATE_FAILED)
    assert last.text == "the attempt failed and no other is allowed; attempt 1 on alpha; exit code 3"
    assert not answer.is_partial
    assert told(await listed(yard, job_id=job_id, after=answer.events[1].cursor)) == ["STARTED", "FAILED"]


async def test_a_host_has_its_own_and_what_ran_there(yard: MemoryController) -> None:
    agent = HandAgent(yard)
    await agent.join()
    await yard.submit()
    (spec,) = await agent.hear_starts()
    await agent.finish(spec.attempt_id)
    await yard.hosts.CordonHost(host_pb2.CordonHostRequest(host="alpha"))
    assert told(await listed(yard, host="alpha")) == ["JOINED", "CLAIMED", "STARTED", "SUCCEEDED", "CORDONED"]
    first = await listed(yard, host="alpha", limit=2)
    assert (told(first), first.is_partial) == (["JOINED", "CLAIMED"], True)
    rest = await listed(yard, host="alpha", after=first.cursor)
    assert told(rest) == ["STARTED", "SUCCEEDED", "CORDONED"]


async def test_the_latest_first_page_by_page(yard: MemoryController) -> None:
    ids = [await yard.submit() for _ in range(5)]
    found: list[str] = []
    page = await listed(yard, latest_first=True, limit=2)
    while page.is_partial:
        assert len(page.events) == 2
        found += [event.job_id for event in page.events]
        page = await listed(yard, latest_first=True, limit=2, after=page.cursor)
    found += [event.job_id for event in page.events]
    assert found == ids[::-1]
    assert [event.job_id for event in (await listed(yard, latest_first=True, job_id=ids[1])).events] == [ids[1]]


async def test_the_latest_first_does_not_wait(yard: MemoryController) -> None:
    with pytest.raises(Exception, match="wait_ms"):
        await listed(yard, latest_first=True, wait_ms=1)


async def test_one_that_waits_is_told_what_comes(yard: MemoryController) -> None:
    end = (await listed(yard)).cursor
    assert not (await listed(yard, after=end, wait_ms=10)).events
    first = await yard.submit()
    assert [event.job_id for event in (await listed(yard, after=end, wait_ms=20_000)).events] == [first]


async def test_a_child_has_its_own_moves_and_those_of_runs(yard: MemoryController) -> None:
    array = await yard.submit(array_size=5)
    await yard.jobs.TerminateJob(job_pb2.TerminateJobRequest(job_id=array, reason="all"))
    (moved,) = (await listed(yard, job_id=f"{array}:3")).events
    assert (moved.job_id, moved.words) == (f"{array}:3", "all")
    whole = (await listed(yard, job_id=array)).events
    assert [(event.job_id.partition(":")[2], event.children) for event in whole] == [("", 0), ("0", 5), ("", 0)]


@pytest.mark.parametrize("after", ["99-1-0", "nonsense"])
async def test_events_after_what_is_not_known_are_refused(yard: MemoryController, after: str) -> None:
    with pytest.raises(Exception, match="not all events after"):
        await listed(yard, after=after)
