"""Parked lines: to ask the first of those that are alike comes to the same as to ask all."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from tests.core.yard import EPOCH, Yard, container

from batchyard.states import JobState
from batchyard_controller.core.events import Planned
from batchyard_controller.core.model.policies import ShareWeight
from batchyard_controller.core.model.settings import ComputeResources, DispatchOrder, Preemption
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement.due_times import DueTimes
from batchyard_controller.core.placement.plan import Plan

HOUR_MS = 3_600_000
STORIES = {DispatchOrder.DUE_TIME: 8, DispatchOrder.SUBMISSION_TIME: 6, DispatchOrder.STRICT: 2}
"""How many are told: most in the order in which lines that are alike stand apart in two ways."""


def _furnished(order: DispatchOrder) -> Yard:
    yard = Yard()
    yard.environment()
    yard.environment("bounded", compute_resources=ComputeResources(max_vcpus=6))
    yard.policy("p", ShareWeight(share_identifier="a", max_running=2), ShareWeight(share_identifier="b"))
    yard.queue("q", priority=4, dispatch_order=order)
    yard.queue("other", priority=2, dispatch_order=order)
    yard.queue("tight", "bounded", "ce", priority=5, dispatch_order=order)
    yard.queue("shared", priority=3, scheduling_policy="p")
    yard.queue("urgent", priority=6, preemption=Preemption.LOWER_PRIORITY)
    yard.queue("one", priority=1, dispatch_order=order)
    yard.queue("another", priority=1, dispatch_order=order)
    yard.queue("low", priority=0, preemptible=True, dispatch_order=order)
    for name, cpu in (("one", 3000), ("two", 4000), ("three", 6000)):
        yard.host(name, cpu=cpu, gpus=1)
    return yard


def _story(dice: random.Random) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what happens: jobs of few shapes and many timeouts, ends, cancelled ones."""
    for _ in range(70):
        queue = dice.choice(["q", "q", "q", "other", "tight", "shared", "urgent", "low", "one", "another"])
        asked = {
            "queue": queue,
            "container": container(cpu=dice.choice([1000, 1000, 3000, 6000]), gpu=dice.choice([0, 0, 0, 500])),
            "timeout_s": dice.choice([0, *range(60, 7200, 60)]),
            "array_size": dice.choice([0, 0, 0, 3]),
            "share_identifier": dice.choice("ab") if queue == "shared" else "",
        }
        yield "submit", asked
        for _ in range(dice.randrange(3)):
            what = dice.choice(["end", "end", "plan", "plan", "cancel", "lose"])
            yield what, {"part": dice.random(), "ms": dice.randrange(HOUR_MS)}


def _go(yard: Yard, what: str, how: dict[str, Any], steps_max: int | None = None) -> list[Plan]:
    yard.now = Instant(wall_ms=yard.now.wall_ms + 1000, boot_ms=yard.now.boot_ms + 1000)
    live = sorted(yard.world.attempts)
    if what == "submit":
        yard.submit(**how)
    elif what == "cancel":
        waiting = [job.id for job in yard.world.jobs.values() if job.state in (JobState.RUNNABLE, JobState.PENDING)]
        if waiting:
            yard.cancel(waiting[int(how["part"] * len(waiting))])
    elif what in ("end", "lose") and live:
        yard.now = Instant(wall_ms=yard.now.wall_ms + how["ms"], boot_ms=yard.now.boot_ms + how["ms"])
        yard.ended(live[int(how["part"] * len(live))], 0 if what == "end" else 1)
    plans = []
    if what != "submit":
        yard.world.wants_plan = True
    while yard.world.wants_plan and what != "submit":
        yard.world.wants_plan = False
        plans.append(yard.make_plan(steps_max))
        yard.apply(Planned(plan=plans[-1], epoch=EPOCH))
        assert len(plans) < 400, "each plan asks for another"
    return plans


def _told(yard: Yard) -> tuple[object, ...]:
    """Return where everybody is, what is promised, and who was refused for what; where a bound was promised too, no host need be looked at."""
    queues = yard.world.queues
    lines = [line for queue in queues for line in yard.world.lines.of_queue(queue)]
    return (
        yard.live(),
        [(r.job_id, r.index, r.host_id, r.starts_ms, r.is_cleared) for r in yard.world.reservations],
        {line.shape: (line.refused_at >= 0, line.held_back) for line in lines if line.shape.queue != "tight"},
    )


@pytest.mark.parametrize(
    ("order", "seed"), [(order, seed) for order, stories in STORIES.items() for seed in range(stories)]
)
def test_who_is_parked_gets_what_he_would_get_if_he_were_asked(
    order: DispatchOrder, seed: int, monkeypatch: pytest.MonkeyPatch
):
    parked, asked = _furnished(order), _furnished(order)
    for what, how in _story(random.Random(seed)):
        plans = _go(parked, what, how)
        with monkeypatch.context() as patch:
            patch.setattr(DueTimes, "parkable", lambda *_: set())
            others = _go(asked, what, how)
        assert [plan.placements for plan in plans] == [plan.placements for plan in others]
        assert _told(parked) == _told(asked)


@pytest.mark.parametrize("order", list(DispatchOrder))
@pytest.mark.parametrize("seed", range(2))
def test_slices_place_as_one_plan_of_all(order: DispatchOrder, seed: int):
    whole, sliced = _furnished(order), _furnished(order)
    for what, how in _story(random.Random(seed)):
        if how.get("queue") != "urgent":  # who is stopped for it may be another in slices
            _go(whole, what, how)
            _go(sliced, what, how, steps_max=7)
            assert sliced.live() == whole.live()


def test_what_a_round_asks_follows_shapes_and_not_jobs():
    yard = Yard()
    yard.environment()
    yard.queue()
    yard.host("one", cpu=2000)
    for timeout_s in range(60, 260):
        yard.submit(container=container(cpu=1000), timeout_s=timeout_s)
    yard.plan()
    yard.ended(next(iter(yard.world.attempts)))
    plan = yard.make_plan()
    assert (len(plan.placements), len(plan.refused)) == (1, 3)
