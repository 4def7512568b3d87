"""What a watcher is shown who may have missed changes: no end may be missing."""

from __future__ import annotations

from dataclasses import replace

from tests.core.yard import Yard, container

from batchyard.states import JobState
from batchyard_controller.core.views.snapshot import CLOCK_SLACK_MS, Watched, take_snapshot
from batchyard_controller.trail import Trail, seen_at_ms, write_cursor

LATER_MS = 10 * CLOCK_SLACK_MS


def shown(yard: Yard, seen_ms: int | None = None, *ids: str, queue: str = "") -> list[str]:
    watched = Watched(ids=frozenset(ids), queue=queue)  # type: ignore[arg-type]  # plain texts for ids
    units = take_snapshot(yard.world, watched, seen_ms)
    return [unit.id for unit in units]


def at(yard: Yard, wall_ms: int) -> None:
    yard.now = replace(yard.now, wall_ms=wall_ms)


def test_without_a_moment_what_lives_is_shown(yard: Yard):
    """Ended jobs are history then, unless they are asked for by id."""
    done = yard.submit()
    yard.run_all()
    lives = yard.submit(container=container(cpu=64_000))
    assert shown(yard) == [lives.id]
    assert shown(yard, None, done.id) == [done.id]
    assert shown(yard, None, "nobody") == []


def test_what_ended_since_a_moment_is_shown_too(yard: Yard):
    """With a slack for clocks, the moment itself included."""
    at(yard, LATER_MS)
    old, edge, new = yard.submit(), yard.submit(), yard.submit()
    for job, ended_ms in ((old, LATER_MS), (edge, LATER_MS + 1), (new, LATER_MS + 500)):
        at(yard, ended_ms)
        yard.cancel(job.id)
    lives = yard.submit(container=container(cpu=64_000))
    seen_ms = LATER_MS + 1 + CLOCK_SLACK_MS
    assert set(shown(yard, seen_ms)) == {lives.id, edge.id, new.id}
    assert shown(yard, seen_ms, queue="other") == []


def test_children_that_ended_since_are_shown_of_arrays_dead_or_alive(yard: Yard):
    """Each child by itself, before its array; those that wait or ended before are left out."""
    at(yard, LATER_MS)
    lives, ends = yard.submit(array_size=200), yard.submit(array_size=3)
    yard.cancel(f"{lives.id}:7")
    at(yard, 2 * LATER_MS)
    yard.cancel(f"{lives.id}:130")
    yard.cancel(ends.id)
    children = [f"{ends.id}:{i}" for i in range(3)]
    assert yard.state(ends.id) is JobState.FAILED
    assert shown(yard, 2 * LATER_MS) == [f"{lives.id}:130", lives.id, *children, ends.id]
    assert shown(yard, 2 * LATER_MS, ends.id) == [*children, ends.id]
    assert shown(yard, 2 * LATER_MS, f"{ends.id}:1") == [f"{ends.id}:1"]
    assert shown(yard, 0, lives.id) == [f"{lives.id}:7", f"{lives.id}:130", lives.id]
    assert shown(yard, None, ends.id) == [ends.id]
    assert shown(yard, 9 * LATER_MS) == [lives.id]


def test_each_unit_is_shown_once(yard: Yard):
    """Also if a child is watched by itself and with its array."""
    array = yard.submit(array_size=2)
    yard.cancel(f"{array.id}:1")
    assert sorted(shown(yard, yard.now.wall_ms, array.id, f"{array.id}:1")) == [array.id, f"{array.id}:1"]


def test_a_cursor_says_until_when_all_was_seen():
    """Whatever its term; what is no cursor says nothing."""
    log = Trail(7)
    assert write_cursor(log.end, 123) == "7-0-123"
    assert seen_at_ms("9-5-123") == 123
    assert log.resume("7-0-123") == (7, 0)
    for other in ("", "7-0", "7-1-5", "8-0-123", "7-0-", "7-0--1", "7-0-1-1", "7-0-\u0661", f"7-0-{'9' * 19}"):
        assert log.resume(other) is None, other
    for broken in ("", "7-0", "7-0-", "7-0-x", "\0"):
        assert seen_at_ms(broken) is None, broken
