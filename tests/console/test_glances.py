"""Glances: a job is given again for a second, and not once it may have changed."""

from __future__ import annotations

from batchyard.v1.job_pb2 import Job
from batchyard_gateway.console.live import glances
from batchyard_gateway.console.live.glances import KEPT_S, Glances
from batchyard_gateway.console.live.tabs import REMEMBERED_MAX, Tabs

IDS = ("a", "b", "c:3")


def watched() -> tuple[Tabs, Glances]:
    """Return what is told, from the beginning on, and what was read of three jobs at 10 s."""
    tabs = Tabs("boot")
    tabs.begin("jobs")
    read = Glances(tabs.has_changed)
    read.keep([Job(id=job_id) for job_id in IDS], tabs.turn, 10.0)
    return tabs, read


def test_what_did_not_change_is_given_again_for_a_while() -> None:
    _, read = watched()
    assert list(read.again((*IDS, "d"), 10.9)) == list(IDS)
    assert not read.again(IDS, 10.0 + KEPT_S)


def test_what_was_told_of_since_is_read_anew() -> None:
    tabs, read = watched()
    tabs.change_jobs(["a", "c"], 10.1)
    assert list(read.again(IDS, 10.2)) == ["b"], "a child goes with its array"
    read.keep([Job(id="a")], tabs.turn, 10.2)
    assert list(read.again(IDS, 10.3)) == ["a", "b"]


def test_nobody_is_sure_where_changes_may_have_been_missed() -> None:
    tabs, read = watched()
    tabs.end("jobs")
    assert not read.again(IDS, 10.1)
    tabs.begin("jobs")
    assert not read.again(IDS, 10.2), "it was read before"
    tabs, read = watched()
    tabs.change_jobs([f"job-{number}" for number in range(REMEMBERED_MAX + 1)], 10.1)
    assert not read.again(IDS, 10.2), "the oldest changes are forgotten"


def test_so_many_are_kept() -> None:
    tabs, read = watched()
    read.keep([Job(id=f"job-{number}") for number in range(glances.KEPT_MAX)], tabs.turn, 10.0)
    assert not read.again(IDS, 10.0)
