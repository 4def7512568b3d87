"""WatchJobs: present states, changes, resuming without a gap, filters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from batchyard.v1 import job_pb2 as pb
from batchyard_controller import trail as trail_module
from batchyard_controller.services import watching
from batchyard_controller.trail import TrailBounds

from .controller import PATIENCE_S, MemoryController, container, queue
from .hand_agent import HandAgent, ended


class Watcher:
    """One stream of changes, read as a test asks for them."""

    def __init__(self, yard: MemoryController, **fields: Any) -> None:
        self._call = yard.jobs.WatchJobs(pb.WatchJobsRequest(**fields))
        self.cursor = ""

    async def next_part(self) -> pb.WatchJobsResponse:
        """Return the next message, which may be one of several that share a cursor."""
        async with asyncio.timeout(PATIENCE_S):
            response = await self._call.read()
        assert isinstance(response, pb.WatchJobsResponse), "the stream ended"
        return response

    async def next(self) -> pb.WatchJobsResponse:
        response = await self.next_part()
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


def _forget(yard: MemoryController, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the trail keep one move from now on."""
    trail = yard.leadership.driver.trail
    monkeypatch.setattr(trail, "_bounds", TrailBounds(moves_max=1))
    monkeypatch.setattr(trail_module, "_TRIM_MIN", 1)


Watch = Callable[..., Watcher]

BIG = container(resources={"cpu_millis": 64_000, "memory_mib": 64})


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
    waits = await yard.submit(container=BIG)
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


async def test_cursor_of_another_term_goes_on_where_it_was(yard: MemoryController, watch: Watch) -> None:
    watcher = watch()
    await watcher.snapshot()
    first = await yard.submit()
    yard.data.depose()
    await yard.until_deposed()
    await yard.until_leads()
    second = await yard.submit()
    assert await watch(cursor=watcher.cursor).moves(2) == _life(first)[:1] + _life(second)[:1]


async def test_cursor_of_no_term_of_this_yard_starts_with_present_states(yard: MemoryController, watch: Watch) -> None:
    job_id = await yard.submit()
    for cursor in ("99-1-0", "1-99-0"):
        assert await watch(cursor=cursor).snapshot() == {job_id: "RUNNABLE"}


async def test_ends_that_a_new_term_brought_before_the_watcher_came_are_shown(
    yard: MemoryController, watch: Watch
) -> None:
    """Of single jobs, arrays and their children; what the watcher may have seen end comes again."""
    agent = HandAgent(yard)
    await agent.join()
    watcher = watch()
    await watcher.snapshot()
    seen = await _run(yard, agent)
    single, array = await yard.submit(), await yard.submit(array_size=2)
    specs = await agent.hear_starts(3)
    await watcher.moves(4 + 2 + 1 + 2)
    watcher.close()
    agent.drop()
    yard.data.depose()
    await yard.until_deposed()
    await yard.until_leads()
    agent = HandAgent(yard)
    await agent.join([ended(spec.attempt_id) for spec in specs])
    assert await yard.state(array) == "SUCCEEDED"
    ends = [seen, single, array, f"{array}:0", f"{array}:1"]
    cursor = f"99-1-{watcher.cursor.split('-')[2]}"  # of which but the moment is known
    assert await watch(cursor=cursor).snapshot() == dict.fromkeys(ends, "SUCCEEDED")
    assert await watch(cursor=cursor, job_ids=[f"{array}:1"]).snapshot() == {f"{array}:1": "SUCCEEDED"}
    assert await watch(cursor=cursor, queue="default", job_ids=[array]).snapshot() == dict.fromkeys(
        ends[2:], "SUCCEEDED"
    )
    assert await watch().snapshot() == {}, "without a cursor, what has ended is history"


async def test_cursor_comes_with_the_last_message_of_what_it_stands_for(
    yard: MemoryController, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who breaks off between the messages of one snapshot, or of one change, is told all of it again."""
    monkeypatch.setattr(watching, "EVENTS_PER_MESSAGE", 2)
    ids = {await yard.submit() for _ in range(5)}
    first = watch()
    parts = [await first.next_part() for _ in range(3)]
    assert [(len(part.events), bool(part.cursor), part.snapshot) for part in parts] == [
        (2, False, True),
        (2, False, True),
        (1, True, True),
    ]
    assert {event.job.id for part in parts for event in part.events} == ids
    array = await yard.submit(array_size=5)
    created = await first.next()
    await yard.jobs.TerminateJob(pb.TerminateJobRequest(job_id=array, reason="enough"))
    parts = [await first.next() for _ in range(3)]
    assert [len(part.events) for part in parts] == [2, 2, 2], "five children and their array"
    assert [part.cursor == created.cursor for part in parts] == [True, True, False]
    resumed = watch(cursor=parts[1].cursor)
    assert [event for part in [await resumed.next() for _ in range(3)] for event in part.events] == [
        event for part in parts for event in part.events
    ]


async def test_watcher_that_is_too_slow_is_shown_what_ended_meanwhile(
    yard: MemoryController, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changes that are no longer kept are made up for by present states."""
    watcher = watch()
    await watcher.snapshot()
    watcher.close()
    _forget(yard, monkeypatch)
    ids = [await yard.submit() for _ in range(3)]
    for job_id in ids[:2]:
        await yard.jobs.CancelJob(pb.CancelJobRequest(job_id=job_id, reason="no"))
    expected = dict.fromkeys(ids[:2], "FAILED") | {ids[2]: "RUNNABLE"}
    assert await watch(cursor=watcher.cursor).snapshot() == expected


async def test_changes_alone_begin_with_none_and_make_up_for_what_is_lost(
    yard: MemoryController, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = await yard.submit()
    watcher = watch(content=pb.WATCH_CONTENT_CHANGES)
    began = await watcher.next()
    assert (list(began.events), began.snapshot) == ([], False)
    job_id = await yard.submit()
    assert await watcher.moves(1) == _life(job_id)[:1]
    watcher.close()
    _forget(yard, monkeypatch)
    for each in (waits, job_id):
        await yard.jobs.CancelJob(pb.CancelJobRequest(job_id=each, reason="no"))
    resumed = watch(content=pb.WATCH_CONTENT_CHANGES, cursor=watcher.cursor)
    assert await resumed.snapshot() == {waits: "FAILED", job_id: "FAILED"}


async def test_ids_are_told_once_and_children_as_their_array(yard: MemoryController, watch: Watch) -> None:
    """Children that are watched by id are told themselves, also where many are moved at once."""
    agent = HandAgent(yard)
    array = await yard.submit(array_size=3)
    whole, children = (
        watch(content=pb.WATCH_CONTENT_CHANGED_IDS, job_ids=ids) for ids in ([], [f"{array}:2", f"{array}:0"])
    )
    for watcher in (whole, children):
        assert not (await watcher.next()).changed_ids
    await agent.join()
    specs = {spec.attempt_id: spec for spec in await agent.hear_starts(3)}
    assert (await whole.next()).changed_ids == [array]
    assert sorted((await children.next()).changed_ids) == [f"{array}:0", f"{array}:2"]
    await agent.finish(f"{array}:2#1")
    assert f"{array}:2#1" in specs
    assert (await whole.next()).changed_ids == [array]
    assert (await children.next()).changed_ids == [f"{array}:2"]
    await yard.jobs.TerminateJob(pb.TerminateJobRequest(job_id=array, reason="enough"))
    other = await yard.submit(array_size=1000, container=BIG)
    some = watch(content=pb.WATCH_CONTENT_CHANGED_IDS, job_ids=[other, f"{other}:999"])
    await some.next()
    await yard.jobs.TerminateJob(pb.TerminateJobRequest(job_id=other, reason="enough"))
    assert sorted((await some.next()).changed_ids) == [other, f"{other}:999"]


async def test_ids_are_of_one_queue_and_resume_after_their_cursor(yard: MemoryController, watch: Watch) -> None:
    await yard.queues.CreateJobQueue(queue("other"))
    watcher = watch(content=pb.WATCH_CONTENT_CHANGED_IDS, queue="other")
    await watcher.next()
    await yard.submit()
    first = await yard.submit(queue="other")
    told = await watcher.next()
    assert (list(told.changed_ids), list(told.events), told.missed) == ([first], [], False)
    watcher.close()
    second = await yard.submit(queue="other")
    resumed = watch(content=pb.WATCH_CONTENT_CHANGED_IDS, queue="other", cursor=watcher.cursor)
    assert (await resumed.next()).changed_ids == [second]
    resumed.close()
    yard.data.depose()
    await yard.until_deposed()
    await yard.until_leads()
    again = watch(content=pb.WATCH_CONTENT_CHANGED_IDS, cursor="99-1-0")
    assert (await again.next()).missed
    third = await yard.submit()
    assert (await again.next()).changed_ids == [third]


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
