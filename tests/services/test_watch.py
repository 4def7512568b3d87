"""WatchJobs: present states, changes, resuming without a gap, filters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from batchyard.v1 import job_pb2 as pb

from .controller import PATIENCE_S, MemoryController, container, queue
from .hand_agent import HandAgent


class Watcher:
    """One stream of changes, read as a test asks for them."""

    def __init__(self, yard: MemoryController, **fields: Any) -> None:
        self._call = yard.jobs.WatchJobs(pb.WatchJobsRequest(**fields))
        self.cursor = ""

    async def next(self) -> pb.WatchJobsResponse:
        async with asyncio.timeout(PATIENCE_S):
            response = await self._call.read()
        assert isinstance(response, pb.WatchJobsResponse), "the stream ended"
        assert response.cursor
        self.cursor = response.cursor
        return response

    async def snapshot(self) -> dict[str, str]:
        """Return the present states with which a stream begins."""
        response = await self.next()
        assert response.snapshot
        return {event.job.id: _name(event.job.state) for event in response.events}

    async def moves(self, count: int) -> list[tuple[str, str, str]]:
        """Return the next *count* changes as (id, from, to)."""
        seen: list[tuple[str, str, str]] = []
        while len(seen) < count:
            response = await self.next()
            assert not response.snapshot
            seen += [(e.job.id, _name(e.previous_state), _name(e.job.state)) for e in response.events]
        assert len(seen) == count, seen
        return seen

    def close(self) -> None:
        self._call.cancel()


def _name(state: pb.JobState.ValueType) -> str:
    return pb.JobState.Name(state).removeprefix("JOB_STATE_")


Watch = Callable[..., Watcher]


@pytest.fixture
def watch(yard: MemoryController) -> Watch:
    return lambda **fields: Watcher(yard, **fields)


async def _run(yard: MemoryController, agent: HandAgent, name: str = "hello", **fields: Any) -> str:
    job_id = await yard.submit(name, **fields)
    (spec,) = await agent.hear_starts()
    await agent.finish(spec.attempt_id)
    return job_id


def _life(job_id: str) -> list[tuple[str, str, str]]:
    states = ("SUBMITTED", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED")
    return [(job_id, before, after) for before, after in pairwise(states)]


async def test_watch_begins_with_present_states_and_goes_on_with_changes(yard: MemoryController, watch: Watch) -> None:
    agent = HandAgent(yard)
    await agent.join()
    await _run(yard, agent)
    big = container(resources={"cpu_millis": 64_000, "memory_mib": 64})
    waits = await yard.submit(container=big)
    watcher = watch()
    assert await watcher.snapshot() == {waits: "RUNNABLE"}, "jobs that have not ended"
    job_id = await _run(yard, agent)
    assert await watcher.moves(4) == _life(job_id)


async def test_watch_of_an_empty_yard_begins_with_an_empty_snapshot(watch: Watch) -> None:
    assert await watch().snapshot() == {}


async def test_watch_of_an_ended_job_says_so_at_once(yard: MemoryController, watch: Watch) -> None:
    agent = HandAgent(yard)
    await agent.join()
    job_id = await _run(yard, agent)
    assert await watch(job_ids=[job_id, "nobody"]).snapshot() == {job_id: "SUCCEEDED"}


async def test_watch_resumes_after_its_cursor_without_gap_or_repeat(yard: MemoryController, watch: Watch) -> None:
    agent = HandAgent(yard)
    await agent.join()
    watcher = watch()
    await watcher.snapshot()
    first = await _run(yard, agent)
    assert await watcher.moves(4) == _life(first)
    watcher.close()
    second = await _run(yard, agent)
    third = await _run(yard, agent)
    resumed = watch(cursor=watcher.cursor)
    assert await resumed.moves(8) == [*_life(second), *_life(third)]


@pytest.mark.parametrize("cursor", ["1-999", "7-0", "nonsense", "-", "1-", "1-\u0661", "1-" + "9" * 5000, "\0", "1--1"])
async def test_cursor_that_is_not_known_starts_with_present_states(
    yard: MemoryController, watch: Watch, cursor: str
) -> None:
    job_id = await yard.submit()
    assert await watch(cursor=cursor).snapshot() == {job_id: "RUNNABLE"}


async def test_cursor_of_another_term_starts_with_present_states(yard: MemoryController, watch: Watch) -> None:
    watcher = watch()
    await watcher.snapshot()
    yard.data.depose()
    await yard.until_deposed()
    await yard.until_leads()
    job_id = await yard.submit()
    assert await watch(cursor=watcher.cursor).snapshot() == {job_id: "RUNNABLE"}


async def test_watch_filters_by_queue_and_by_job(yard: MemoryController, watch: Watch) -> None:
    agent = HandAgent(yard)
    await agent.join()
    await yard.queues.CreateJobQueue(queue("other"))
    by_queue = watch(queue="other")
    assert await by_queue.snapshot() == {}
    await _run(yard, agent, "unseen")
    seen = await _run(yard, agent, "seen", queue="other")
    assert await by_queue.moves(4) == _life(seen)


async def test_watch_of_an_array_shows_its_children_and_of_a_child_that_child_alone(
    yard: MemoryController, watch: Watch
) -> None:
    array = await yard.submit(array_size=2)
    whole, child = watch(job_ids=[array]), watch(job_ids=[f"{array}:1"])
    assert await whole.snapshot() == {array: "PENDING"}
    assert await child.snapshot() == {f"{array}:1": "RUNNABLE"}
    agent = HandAgent(yard)
    await agent.join()
    specs = await agent.hear_starts(2)
    for spec in specs:
        await agent.finish(spec.attempt_id)
    lives = {f"{array}:{i}": _life(f"{array}:{i}")[1:] for i in range(2)}
    seen = await whole.moves(7)
    assert seen[-1] == (array, "PENDING", "SUCCEEDED")
    for child_id, life in lives.items():
        assert [move for move in seen if move[0] == child_id] == life
    assert await child.moves(3) == lives[f"{array}:1"]
    child.close()


async def test_watch_ends_with_the_term_and_is_told_to_come_again(yard: MemoryController, watch: Watch) -> None:
    watcher = watch()
    await watcher.snapshot()
    yard.data.depose()
    async with asyncio.timeout(PATIENCE_S):
        assert (await watcher._call.code()).name == "UNAVAILABLE"
