"""Readings: what a monitor is told of a yard, and what became of promises."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import pytest
from tests.core.test_order import SMALL, WHOLE
from tests.core.test_why import kept_for
from tests.core.yard import Yard, container

from batchyard.states import JobState
from batchyard_controller.core.model.settings import DispatchOrder
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.views import readings as module
from batchyard_controller.core.views.promise_keeping import Outcome, Settled, settled
from batchyard_controller.core.views.readings import readings


def read(yard: Yard) -> dict[str, dict[tuple[str, ...], float]]:
    told: dict[str, dict[tuple[str, ...], float]] = {}
    for each in readings(yard.world, yard.now):
        told.setdefault(each.metric, {})[each.labels] = each.value
    return told


def test_who_waits_is_counted_by_queue_and_reason(yard: Yard) -> None:
    day, _ = kept_for(yard)
    day.submit(60, container=SMALL, timeout_s=601)
    yard.queue("capped", max_running=1)
    yard.queue("strict", dispatch_order=DispatchOrder.STRICT)
    yard.plan()
    new = yard.submit("capped")
    day.run(3)
    yard.submit("strict", container=WHOLE, array_size=5)
    yard.submit("strict", container=SMALL)
    told = read(yard)
    assert told["waiting"] == {
        ("capped", "kept"): 1,
        ("q", "capacity"): 1,
        ("q", "kept"): 1,
        ("strict", "new"): 5,
        ("strict", "order"): 1,
    }
    assert told["oldest_wait_seconds"] == {("capped",): 1, ("q",): 2, ("strict",): 0}
    assert told["environment_capacity"] == {("ce", "cpu"): 4, ("ce", "memory_mib"): 4096, ("ce", "gpu"): 0}
    assert told["environment_allocated"] == {("ce", "cpu"): 3, ("ce", "memory_mib"): 300, ("ce", "gpu"): 0}
    assert told["hosts_being_reclaimed"] == {(): 0}
    assert new.state is JobState.RUNNABLE


def test_of_more_shapes_than_are_cheap_the_rest_is_counted_as_others(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINES_MAX", 5)
    for i in range(7):
        yard.submit(container=container(cpu=9000, memory=100 + i))
    assert read(yard)["waiting"] == {("q", "new"): 5, ("q", "others"): 2}


def test_a_promise_is_told_as_made_and_as_kept_or_missed(yard: Yard) -> None:
    day, _ = kept_for(yard)
    (reservation,) = yard.world.reservations
    plan = replace(yard.make_plan(), placements=())
    assert list(settled((), plan, yard.now)) == [Settled(Outcome.MADE)]
    assert list(settled(yard.world.reservations, plan, yard.now)) == []
    assert list(settled(yard.world.reservations, replace(plan, reservations=()), yard.now)) == [
        Settled(Outcome.DROPPED)
    ]
    for attempt_id in list(islice(yard.world.attempts, 3)):
        yard.ended(attempt_id)
    placed = yard.make_plan()
    assert [each.job_id for each in placed.placements] == [reservation.job_id]
    for late_ms, outcome in ((-598_000, Outcome.KEPT), (5_001, Outcome.MISSED)):
        now = Instant(wall_ms=0, boot_ms=reservation.promised_ms + late_ms)
        assert list(settled((reservation,), placed, now)) == [Settled(outcome, late_ms)]
    assert day.now_s == 2
