"""Which jobs a list shows, and that a page looks at few."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from tests.core.yard import Yard, container, task

from batchyard.ids import HostId, unit_order
from batchyard.states import EndCause, JobState
from batchyard_controller.core.events import HostMarked
from batchyard_controller.core.model.jobs import JobDefinition, RetryStrategy
from batchyard_controller.core.requests import settings
from batchyard_controller.core.views import listing
from batchyard_controller.core.views.listing import JobFilter, find_page
from batchyard_controller.core.world.submitted import BLOCK, SubmittedJobs


def names(yard: Yard, **fields: Any) -> list[str]:
    page = find_page(yard.world, JobFilter(**fields), None, 1000)
    assert page.next_beyond is None
    return [unit.job.name for unit in page.units]


def in_pages(yard: Yard, size: int, **fields: Any) -> tuple[list[str], list[int]]:
    """Return the ids of all pages, and how many were on each."""
    seen: list[str] = []
    sizes: list[int] = []
    beyond = None
    while True:
        page = find_page(yard.world, JobFilter(**fields), beyond, size)
        seen += [unit.id for unit in page.units]
        sizes.append(len(page.units))
        beyond = page.next_beyond
        if beyond is None:
            return seen, sizes


def at(yard: Yard, wall_ms: int) -> None:
    yard.now = replace(yard.now, wall_ms=wall_ms)


def test_names_match_whole_or_by_beginning_whatever_the_case(yard: Yard):
    """A star is special at the end alone."""
    for name in ("Train", "train-2", "other"):
        yard.submit(name=name)
    assert names(yard, name="TRAIN") == ["Train"]
    assert names(yard, name="tra*") == ["train-2", "Train"]
    assert names(yard, name="*") == ["other", "train-2", "Train"]
    assert names(yard, name="*2") == []


def test_definitions_match_by_name_revision_or_beginning(yard: Yard):
    """A name without a revision means any."""
    for name in ("d", "d", "dd"):
        yard.apply(
            settings.register_definition(yard.world, JobDefinition(name=name, revision=0, task=task(container())))
        )
    for key in ("d:1", "d:2", "dd:1"):
        yard.submit(name=key.replace(":", "-"), container=None, definition=key)
    yard.submit(name="none")
    assert names(yard, definition="d") == ["d-2", "d-1"]
    assert names(yard, definition="d:1") == ["d-1"]
    assert names(yard, definition="d*") == ["dd-1", "d-2", "d-1"]
    assert names(yard, definition="d:*") == ["d-2", "d-1"]
    assert names(yard, definition="D") == []


def test_moments_are_bounds_that_are_not_included(yard: Yard):
    """Also when the clock was set back between two submissions."""
    for wall_ms in (5_000, 7_000, 3_000):
        at(yard, wall_ms)
        yard.submit(name=f"at-{wall_ms}")
    assert names(yard, created_after_ms=3_000) == ["at-7000", "at-5000"]
    assert names(yard, created_before_ms=7_000) == ["at-3000", "at-5000"]
    assert names(yard, created_after_ms=3_000, created_before_ms=7_000) == ["at-5000"]


@pytest.mark.parametrize("has_gaps", [False, True])
def test_blocks_that_were_not_created_in_time_are_left_out(yard: Yard, has_gaps: bool):
    """The same jobs are found as without bounds, of blocks of any filling."""
    spec_job = yard.submit()
    submitted = yard.world.all_jobs = SubmittedJobs()
    jobs = [replace(spec_job, seq=i, created_at_ms=i // 2 * 10 + 1) for i in range(2 * BLOCK + 7)]
    for job in jobs:
        submitted.add(job)
    if has_gaps:
        for job in jobs[: BLOCK + 100]:
            submitted.remove(job)
        jobs = jobs[BLOCK + 100 :]
    for after, before in ((0, 0), (BLOCK * 5, 0), (0, BLOCK * 7), (BLOCK * 6, BLOCK * 6 + 50), (10**9, 0)):
        wanted = JobFilter(created_after_ms=after, created_before_ms=before)
        expected = [job.seq for job in reversed(jobs) if wanted.predicate()(job, job.state)]
        assert [unit.job.seq for unit in find_page(yard.world, wanted, None, 5000).units] == expected
        from_oldest = find_page(yard.world, replace(wanted, oldest_first=True), None, 5000).units
        assert [unit.job.seq for unit in from_oldest] == expected[::-1]
        beyond = BLOCK + 3
        rest = [job.seq for job in submitted.walk(beyond, after, before, oldest_first=True)]
        assert [seq for seq in rest if seq in expected] == [seq for seq in expected[::-1] if seq > beyond]
    assert list(submitted.walk(created_after_ms=10**9, oldest_first=False)) == []


@pytest.mark.parametrize("oldest_first", [False, True])
def test_pages_join_without_gap_or_repeat_and_look_at_few(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, oldest_first: bool
):
    """A page that found little says where the next begins."""
    monkeypatch.setattr(listing, "LOOKS_MAX", 4)
    made = [yard.submit(name="wanted" if i in (0, 1, 2, 9) else "other") for i in range(11)]
    seen, sizes = in_pages(yard, 2, name="wanted", oldest_first=oldest_first)
    wanted = [job.id for job in made if job.name == "wanted"]
    assert seen == (wanted if oldest_first else wanted[::-1])
    assert sizes == ([2, 1, 1, 0] if oldest_first else [1, 0, 2, 1])


def test_jobs_of_several_queues_stand_in_one_order(yard: Yard):
    """As they were submitted, whichever queue they are in."""
    for name in ("a", "b", "c"):
        yard.queue(name)
    for i, queue in enumerate("abcab"):
        yard.submit(queue=queue, name=f"{queue}{i}")
    assert names(yard, queues=frozenset("ab")) == ["b4", "a3", "b1", "a0"]
    assert names(yard, queues=frozenset("ac"), oldest_first=True) == ["a0", "c2", "a3"]
    assert names(yard, queues=frozenset({"q"})) == [], "a queue that never had a job"


def test_tags_match_by_key_or_by_key_and_value(yard: Yard):
    """Several are all asked for; an empty value is a value."""
    for name, tags in (("x", (("team", "x"),)), ("y", (("stage", ""), ("team", "y"))), ("none", ())):
        yard.submit(name=name, tags=tags)
    assert names(yard, tags=(("team", None),)) == ["y", "x"]
    assert names(yard, tags=(("team", "x"),)) == ["x"]
    assert names(yard, tags=(("team", None), ("stage", ""))) == ["y"]
    assert names(yard, tags=(("team", ""),)) == []


# Hosts ----------------------------------------------------------------------------


@pytest.fixture
def ran(yard: Yard) -> dict[str, str]:
    """Let a job and the children of an array run on hosts ``h1`` and ``b``; return where each ran, by id."""
    done = yard.submit(name="done")
    yard.plan()
    where = {done.id: yard.live()[f"{done.id}#1"]}
    yard.started(f"{done.id}#1")
    yard.ended(f"{done.id}#1")
    array = yard.submit(name="array", array_size=200)
    yard.host("b", cpu=64_000)
    yard.plan()
    where |= {attempt.partition("#")[0]: host for attempt, host in yard.live().items()}
    assert set(where.values()) == {"h1", "b"}
    for place in (0, 1, 65):
        yard.started(f"{array.id}:{place}#1")
        yard.ended(f"{array.id}:{place}#1", exit_code=place)
    return where


def test_host_lists_whoever_is_or_was_there(yard: Yard, ran: dict[str, str]):
    """Children in place of their array, in order of index, whatever the order of jobs."""
    for host in ("h1", "b"):
        expected = [unit_id for unit_id in ran if ran[unit_id] == host]
        oldest, _ = in_pages(yard, 1000, host_id=host, oldest_first=True)
        assert oldest == sorted(expected, key=unit_order)
        newest, _ = in_pages(yard, 1000, host_id=host)
        assert sorted(newest) == sorted(expected)
        indices = [int(each.partition(":")[2]) for each in newest if ":" in each]
        assert indices == sorted(indices)
    assert in_pages(yard, 10, host_id="gone") == ([], [0])


@pytest.mark.parametrize("states", [(), (JobState.STARTING,), (JobState.FAILED,), tuple(JobState)])
@pytest.mark.parametrize("oldest_first", [False, True])
def test_pages_of_a_host_join_wherever_they_end(
    yard: Yard, ran: dict[str, str], monkeypatch: pytest.MonkeyPatch, states: tuple[JobState, ...], oldest_first: bool
):
    """Also in the midst of an array, and of a part of it that nobody ran of."""
    fields = {"host_id": "b", "states": frozenset(states), "oldest_first": oldest_first}
    whole, _ = in_pages(yard, 1000, **fields)
    asked = set(states or JobState)
    assert sorted(whole) == sorted(each for each in ran if ran[each] == "b" and yard.state(each) in asked)
    for looks_max in (1, 2, 3, 50):
        monkeypatch.setattr(listing, "LOOKS_MAX", looks_max)
        for size in (1, 3, 1000):
            assert in_pages(yard, size, **fields)[0] == whole


def test_host_of_an_earlier_attempt_counts(yard: Yard):
    """Of a child too, whose last attempt ran elsewhere."""
    array = yard.submit(name="array", array_size=2, retry=RetryStrategy(attempts=2))
    yard.plan()
    for place in (0, 1):
        yard.started(f"{array.id}:{place}#1")
        yard.ended(f"{array.id}:{place}#1", exit_code=1)
    yard.apply(HostMarked(host_id=HostId("h1"), cordoned=True, draining=False))
    yard.host("b")
    yard.plan()
    yard.started(f"{array.id}:1#2")
    yard.ended(f"{array.id}:1#2", cause=EndCause.EXITED)
    both = [f"{array.id}:0", f"{array.id}:1"]
    assert in_pages(yard, 10, host_id="h1")[0] == both
    assert in_pages(yard, 10, host_id="b")[0] == both
    assert in_pages(yard, 10, host_id="b", states=frozenset({JobState.SUCCEEDED}))[0] == [both[1]]
    assert in_pages(yard, 10, host_id="b", queues=frozenset({"other"}))[0] == []
    live = frozenset({JobState.STARTING, JobState.RUNNING})
    assert in_pages(yard, 10, host_id="b", states=live, queues=frozenset({"other"}))[0] == []


def test_children_are_counted_by_ranges_of_any_width(yard: Yard):
    """Whether they stand in a chunk, in none, or ended with the rest."""
    array = yard.submit(array_size=300, container=container(cpu=64_000))
    for index in (0, 63, 64, 130, 299):
        yard.cancel(f"{array.id}:{index}")
    for _ in range(2):
        states = [array.children.state(i) for i in range(300)]
        for width in (1, 7, 64, 100, 300, 400):
            assert array.children.counts_by(width) == [
                dict(Counter(states[i : i + width])) for i in range(0, 300, width)
            ]
        yard.terminate(array.id)
    assert set(states) == {JobState.FAILED}


def test_children_are_found_from_any_index_on(yard: Yard):
    """Whether they stand in a chunk or not."""
    array = yard.submit(array_size=300)
    for index in (0, 63, 64, 130, 299):
        yard.cancel(f"{array.id}:{index}")
    for states in (frozenset({JobState.FAILED}), frozenset({JobState.RUNNABLE}), frozenset(JobState)):
        whole = [i for i in range(300) if array.children.state(i) in states]
        for start in (0, 1, 63, 64, 65, 131, 298, 299, 300):
            assert list(array.children.indices(states, start)) == [i for i in whole if i >= start]
