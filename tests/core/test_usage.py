"""What sums of usage count, and that a look counts few."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.core.yard import Yard, container

from batchyard.ids import AttemptId
from batchyard.resources import Usage
from batchyard.states import EndCause
from batchyard_controller.core.access.roles import Grant, Principal, Role
from batchyard_controller.core.attempt_reports import Phase, Report
from batchyard_controller.core.model.attempts import AttemptEnd
from batchyard_controller.core.model.jobs import RetryStrategy
from batchyard_controller.core.model.usage import UsageSum
from batchyard_controller.core.views import usage
from batchyard_controller.core.views.listing import JobFilter
from batchyard_controller.core.views.readings import readings
from batchyard_controller.core.views.usage import UsageKey, UsageQuery, sum_usage

DAY_MS = 24 * 3600 * 1000


def end(yard: Yard, attempt: str, ran_ms: int, *, stopped_at_ms: int = 60_000, code: int = 0, **used: int) -> None:
    ended = AttemptEnd(
        cause=EndCause.EXITED,
        started_at_ms=stopped_at_ms - ran_ms,
        stopped_at_ms=stopped_at_ms,
        exit_code=code,
        usage=Usage(**used),
    )
    yard.report(Report(attempt_id=AttemptId(attempt), phase=Phase.ENDED, end=ended))


def sums(yard: Yard, *keys: UsageKey, **fields: Any) -> dict[tuple[str, ...], UsageSum]:
    look = sum_usage(yard.world, UsageQuery(keys=keys, **fields), None)
    assert look.next_beyond is None
    return look.sums


@pytest.fixture
def ran(yard: Yard) -> Yard:
    """Two jobs of Ann's, one tried twice, and an array of Bob's of which one child has ended."""
    yard.now = replace(yard.now, wall_ms=30_000)
    yard.host("h", cpu=64_000, memory=64_000, gpus=2)
    small = yard.submit(owner="ann")
    twice = yard.submit(
        owner="ann",
        container=container(2000, 1024, 1000),
        retry=RetryStrategy(attempts=2),
    )
    array = yard.submit(owner="bob", array_size=3)
    yard.plan()
    end(yard, f"{small.id}#1", 10_000, peak_memory_kib=50 * 1024, user_cpu_ms=3_000, system_cpu_ms=1_000)
    end(yard, f"{twice.id}#1", 1_000, code=1, peak_memory_kib=512 * 1024)
    yard.plan()
    yard.now = replace(yard.now, wall_ms=60_000 + DAY_MS)
    end(yard, f"{twice.id}#2", 4_000, stopped_at_ms=60_000 + DAY_MS, peak_memory_kib=256 * 1024)
    end(yard, f"{array.id}:1#1", 2_000)
    return yard


def test_an_attempt_takes_what_it_held_for_as_long_as_it_ran(ran: Yard):
    assert sums(ran, UsageKey.USER) == {
        ("ann",): UsageSum(
            attempts=3,
            failed=1,
            wall_ms=15_000,
            cpu_asked_ms=10_000 + 2 * 5_000,
            cpu_used_ms=4_000,
            gpu_asked_ms=5_000,
            memory_asked_mib_s=100 * 10 + 1024 * 5,
            memory_used_mib_s=50 * 10 + 512 + 256 * 4,
            peak_memory_kib=512 * 1024,
            peak_asked_mib=1024,
        ),
        ("bob",): UsageSum(attempts=1, wall_ms=2_000, cpu_asked_ms=2_000),
    }


def test_sums_go_by_several_keys_at_once_and_without_any_are_one(ran: Yard):
    assert {key: found.attempts for key, found in sums(ran, UsageKey.DAY, UsageKey.USER).items()} == {
        ("1970-01-01", "ann"): 2,
        ("1970-01-02", "ann"): 1,
        ("1970-01-01", "bob"): 1,
    }
    assert [found.attempts for found in sums(ran).values()] == [4]
    assert len(sums(ran, UsageKey.JOB)) == 3
    assert list(sums(ran, UsageKey.QUEUE, UsageKey.DEFINITION)) == [("q", "")]


def test_filters_are_of_jobs_and_of_when_attempts_ended(ran: Yard):
    assert list(sums(ran, UsageKey.USER, jobs=JobFilter(owner="bob"))) == [("bob",)]
    assert sums(ran, jobs=JobFilter(queues=frozenset({"other"}))) == {}
    assert sums(ran, ended_after_ms=60_001)[()].attempts == 1
    assert sums(ran, ended_before_ms=60_001)[()].attempts == 3


def test_who_asks_is_told_of_what_they_may_read(ran: Yard):
    ann = Principal(user="ann", grants=(Grant(role=Role.SUBMITTER, queue="q"),))
    assert list(sums(ran, UsageKey.USER, jobs=JobFilter(reader=ann))) == [("ann",)]
    assert sums(ran, jobs=JobFilter(reader=ann, owner="bob")) == {}


def test_a_look_counts_few_and_looks_add_up(ran: Yard, monkeypatch: pytest.MonkeyPatch):
    """However the walk is cut, in the middle of an array too, each attempt is counted once."""
    more = ran.submit(array_size=7)
    ran.plan()
    for index in range(7):
        end(ran, f"{more.id}:{index}#1", 1_000)
    whole = {key: found.attempts for key, found in sums(ran, UsageKey.JOB).items()}
    for most in range(1, 12):
        monkeypatch.setattr(usage, "LOOKS_MAX", most)
        counted: dict[tuple[str, ...], int] = {}
        beyond, looks = None, 0
        while looks == 0 or beyond is not None:
            look = sum_usage(ran.world, UsageQuery(keys=(UsageKey.JOB,)), beyond)
            for key, found in look.sums.items():
                counted[key] = counted.get(key, 0) + found.attempts
            beyond, looks = look.next_beyond, looks + 1
        assert counted == whole
        assert looks >= 10 // most


def test_a_monitor_is_told_what_each_queue_took_and_used(ran: Yard):
    """Counted as attempts end, since this controller leads."""
    told = {(each.metric, *each.labels): each.value for each in readings(ran.world, ran.now) if "q" in each.labels}
    assert told["attempts", "q", "succeeded"] == 3
    assert told["attempts", "q", "failed"] == 1
    assert told["attempt_seconds", "q"] == 17
    assert told["asked_seconds", "q", "cpu"] == 22
    assert told["asked_seconds", "q", "gpu"] == 5
    assert told["used_seconds", "q", "cpu"] == 4
    assert told["used_seconds", "q", "memory_mib"] == 2036
