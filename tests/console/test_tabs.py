"""Which tab is told what, and when: no loop, no clock."""

from __future__ import annotations

import pytest

from batchyard_gateway.console.tabs import (
    AGAIN_S,
    GATHERED_S,
    REMEMBERED_MAX,
    TABS_MAX,
    FullError,
    Tab,
    Tabs,
    Told,
)

A, B = "00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b"


class Watched:
    """Tabs whose clock the test sets; each tab counts how often it was woken."""

    def __init__(self) -> None:
        self.tabs = Tabs("boot")
        self.now_s = 100.0
        self.woken = 0

    def open(self, topics: str = "", ids: str = "", since: str | None = None) -> Tab:
        place = self.tabs.position if since is None else since
        return self.tabs.open(topics.split(), ids.split(), place, self.now_s, self._wake)

    def told(self, tab: Tab, after_s: float = AGAIN_S) -> list[tuple[str, str]]:
        self.now_s += after_s
        return [(told.event, told.data) for told in self.tabs.take(tab, self.now_s)]

    def _wake(self) -> None:
        self.woken += 1


@pytest.fixture
def watched() -> Watched:
    """Return tabs to which all is known."""
    made = Watched()
    for topic in ("counts", "hosts", "jobs", "queues"):
        made.tabs.begin(topic)
    return made


def test_a_change_is_told_to_whoever_wants_it(watched: Watched) -> None:
    hosts, counts = watched.open("hosts"), watched.open("counts")
    watched.tabs.change("hosts", watched.now_s)
    assert watched.told(hosts) == [("look", "hosts")]
    assert watched.told(counts) == []


def test_a_change_after_a_silence_is_told_at_once(watched: Watched) -> None:
    tab = watched.open("hosts")
    watched.tabs.change("hosts", 100.0)
    assert watched.tabs.take(tab, 100.5) == [Told(event="look", data="hosts")]
    watched.tabs.change("hosts", 100.6)
    assert watched.tabs.wait_s(tab, 101.1) == pytest.approx(0.4)
    assert watched.tabs.take(tab, 101.5) == [Told(event="look", data="hosts")]
    watched.tabs.change("hosts", 105.0)
    assert watched.tabs.wait_s(tab, 105.0) == GATHERED_S, "after a silence as soon as ever"


def test_changes_are_gathered(watched: Watched) -> None:
    tab = watched.open("counts hosts", A)
    watched.tabs.change("hosts", 100.0)
    watched.tabs.change_jobs([A], 100.2)
    watched.tabs.change("hosts", 100.4)
    assert watched.woken == 1
    assert watched.tabs.wait_s(tab, 100.1) == pytest.approx(0.4)
    assert watched.tabs.take(tab, 100.49) == []
    assert watched.tabs.take(tab, 100.5) == [Told(event="look", data="hosts jobs")]
    assert watched.tabs.take(tab, 101.0) == []
    assert watched.tabs.wait_s(tab, 101.0) is None


def test_a_busy_yard_is_told_of_once_a_second(watched: Watched) -> None:
    tab, told = watched.open("", A), 0
    for step in range(1000):
        watched.tabs.change_jobs([A], 100 + step / 100)
        told += len(watched.tabs.take(tab, 100 + step / 100))
    assert told == 10


def test_a_job_is_told_to_those_who_show_it(watched: Watched) -> None:
    a, b, child = watched.open("", A), watched.open("", B), watched.open("", f"{A}:7")
    watched.tabs.change_jobs([A], watched.now_s)
    assert [watched.told(tab) for tab in (a, b, child)] == [[("look", "jobs")], [], [("look", "jobs")]]


def test_without_ids_jobs_are_told_when_their_numbers_change(watched: Watched) -> None:
    every, certain = watched.open("jobs"), watched.open("jobs", B)
    watched.tabs.change_jobs([A], watched.now_s)
    assert watched.told(every) == []
    watched.tabs.change("counts", watched.now_s)
    assert watched.told(every) == [("look", "jobs")]
    assert watched.told(certain) == []


def test_a_slow_tab_costs_a_set_of_topics(watched: Watched) -> None:
    tab = watched.open("counts hosts queues", A)
    for step in range(10_000):
        for topic in ("counts", "hosts", "queues"):
            watched.tabs.change(topic, 100.0 + step)
        watched.tabs.change_jobs([A, B], 100.0 + step)
    assert len(tab.pending) == 4
    assert watched.woken == 1


def test_who_missed_nothing_is_told_nothing(watched: Watched) -> None:
    watched.tabs.change("counts", watched.now_s)
    assert watched.told(watched.open("counts hosts jobs", A)) == []


def test_who_missed_something_is_told_that(watched: Watched) -> None:
    place = watched.tabs.position
    watched.tabs.change("counts", watched.now_s)
    watched.tabs.change_jobs([A], watched.now_s)
    assert watched.told(watched.open("counts hosts", A, since=place)) == [("look", "counts jobs")]
    assert watched.told(watched.open("counts hosts", B, since=place)) == [("look", "counts")]
    assert watched.told(watched.open("jobs", since=place)) == [("look", "jobs")]


@pytest.mark.parametrize("place", ["", "boot", "other-9", "boot-", "boot-x", "boot--1", "boot-²", "boot-0"])
def test_a_place_that_means_nothing_looks_at_everything(watched: Watched, place: str) -> None:
    assert watched.told(watched.open("counts hosts queues", A, since=place)) == [("look", "counts hosts jobs queues")]


def test_what_nobody_looked_at_is_looked_at(watched: Watched) -> None:
    place = watched.tabs.position
    watched.tabs.end("hosts")
    assert watched.told(watched.open("hosts counts", since=place)) == [("look", "hosts")]
    watched.tabs.begin("hosts")
    assert watched.told(watched.open("hosts counts", since=place)) == [("look", "hosts")]
    assert watched.told(watched.open("hosts counts")) == []


def test_what_is_no_longer_remembered_is_looked_at(watched: Watched) -> None:
    watched.tabs.change_jobs([A], watched.now_s)
    place = watched.tabs.position
    for number in range(REMEMBERED_MAX + 1):
        watched.tabs.change_jobs([str(number)], watched.now_s)
    assert watched.told(watched.open("", A, since=place)) == [("look", "jobs")]
    assert watched.told(watched.open("", A)) == []


def test_missed_changes_of_jobs_are_looked_for(watched: Watched) -> None:
    tab, other, place = watched.open("", A), watched.open("hosts"), watched.tabs.position
    watched.tabs.miss_jobs(watched.now_s)
    assert watched.told(tab) == [("look", "jobs")]
    assert watched.told(other) == []
    assert watched.told(watched.open("", A, since=place)) == [("look", "jobs")]


def test_a_controller_that_is_away_is_told_once_and_all_is_looked_at_after(watched: Watched) -> None:
    tab = watched.open("counts hosts")
    watched.tabs.change("hosts", watched.now_s)
    watched.tabs.leave(5_000)
    watched.tabs.leave(9_000)
    assert watched.told(tab) == [("stale", "5000")]
    assert watched.told(tab) == []
    assert watched.tabs.wait_s(tab, watched.now_s) is None, "there is nothing to read"
    assert watched.told(watched.open("counts")) == [("stale", "5000")], "also who comes then"
    watched.tabs.come_back(watched.now_s)
    assert watched.tabs.wait_s(tab, watched.now_s) == 0
    assert watched.told(tab) == [("fresh", "-"), ("look", "counts hosts")]


def test_a_short_absence_that_nobody_was_told_of_is_told_to_nobody(watched: Watched) -> None:
    tab = watched.open("counts")
    watched.tabs.leave(5_000)
    watched.tabs.come_back(watched.now_s)
    assert watched.told(tab) == [("look", "counts")]


def test_there_is_room_for_so_many_tabs(watched: Watched) -> None:
    tabs = [watched.open("counts", A) for _ in range(TABS_MAX)]
    with pytest.raises(FullError):
        watched.open("counts")
    watched.tabs.close(tabs[0])
    watched.open("counts")


def test_a_closed_tab_leaves_nothing(watched: Watched) -> None:
    tab = watched.open("counts", f"{A} {B}")
    watched.tabs.close(tab)
    watched.tabs.change("counts", watched.now_s)
    watched.tabs.change_jobs([A], watched.now_s)
    assert len(watched.tabs) == 0
    assert not watched.tabs.wants("counts")
    assert not tab.pending
    assert not watched.tabs._of_job
