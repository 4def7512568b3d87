"""Bounds: what jobs hold together beside hosts, and what a plan may still take of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.yard import Yard, container

from batchyard_controller.core import limits
from batchyard_controller.core.model.policies import ShareWeight
from batchyard_controller.core.placement.bounds import CONSUMABLE, CPU, QUEUE_LIMIT, SHARE_LIMIT, UNITS, Bound
from batchyard_controller.core.placement.refusals import Block


def test_a_unit_without_bounds_takes_of_none() -> None:
    """Where nothing is capped, caps cost a plan nothing."""
    yard = Yard()
    yard.environment()
    yard.queue()
    yard.submit()
    (line,) = yard.world.lines.of_queue("q")
    assert yard.world.fleet.bounds.draw_of(line.shape) == ()


@pytest.mark.parametrize("steps_max", [None, 1, 3])
def test_no_slice_takes_more_than_there_is(steps_max: int | None) -> None:
    """Lines of several shapes draw on one cap, and on one resource."""
    yard = Yard()
    yard.environment()
    yard.consumable("licence", 5)
    yard.queue(max_running=4, max_vcpus=6)
    yard.host("a", cpu=100_000, memory=100_000)
    for i in range(12):
        yard.submit(container=container(cpu=1000 + 1000 * (i % 2)), consumables=(("licence", 1 + i % 3),))
    yard.plan(steps_max)
    world = yard.world
    asked = [world.unit_of(attempt).job.spec for attempt in world.attempts.values()]
    assert len(asked) <= 4
    assert sum(spec.task.resources.cpu_millis for spec in asked) <= 6000
    assert sum(quantity for spec in asked for _, quantity in spec.consumables) <= 5
    assert not yard.plan(), "nobody is left who would fit"


def test_caps_come_and_go_with_what_is_held_already() -> None:
    """A cap that is set while attempts run counts these."""
    yard = Yard()
    yard.environment()
    yard.policy("p")
    yard.queue(scheduling_policy="p")
    yard.host("a", cpu=10_000)
    for share in ("A1", "A2", "B"):
        yard.submit(share_identifier=share)
    yard.plan()
    yard.policy("p", ShareWeight(share_identifier="A*", max_running=2, max_vcpus=9), ShareWeight(share_identifier="B"))
    bounds = yard.world.fleet.bounds
    assert bounds.held(Bound(SHARE_LIMIT, "q/A*", UNITS)) == 2
    assert bounds.held(Bound(SHARE_LIMIT, "q/A*", CPU)) == 2000
    waiting = yard.submit(share_identifier="A3")
    assert not yard.plan()
    assert [r.kind for r in yard.refusals()] == [SHARE_LIMIT]
    yard.policy("p")
    assert len(yard.plan()) == 1
    assert yard.live()[f"{waiting.id}#1"] == "a"
    yard.policy("p", ShareWeight(share_identifier="A3", max_running=1))
    yard.ended(f"{waiting.id}#1")
    assert bounds.held(Bound(SHARE_LIMIT, "q/A3", UNITS)) == 0
    assert bounds.held(Bound(QUEUE_LIMIT, "q", UNITS)) == 3


def test_what_each_refusal_amounts_to() -> None:
    """A queue at its own cap blocks nobody; a lack of a resource does, and counts as capacity."""
    yard = Yard()
    yard.environment()
    yard.consumable("licence", 1)
    yard.queue(max_running=1, max_vcpus=4)
    yard.queue("other")
    yard.host("a", cpu=10_000)
    yard.submit()
    capped, short = yard.submit(), yard.submit("other", consumables=(("licence", 2),))
    yard.plan()
    (cap,) = [r for r in yard.refusals() if r.kind == QUEUE_LIMIT]
    assert (cap.asked, cap.free, cap.largest_capacity, cap.block) == (1, 0, 1, None)
    assert yard.reason(capped.id) == ""
    (lack,) = [r for r in yard.refusals() if r.kind == CONSUMABLE]
    assert (lack.asked, lack.free, lack.largest_capacity, lack.block) == (2, 1, 1, Block.NO_CAPACITY)
    assert yard.reason(short.id) == f"{Block.NO_CAPACITY} - 2 of consumable resource licence asked, 1 free of 1"
    yard.queue("tiny", max_vcpus=1)
    huge = yard.submit("tiny", container=container(cpu=2000))
    yard.plan()
    assert yard.reason(huge.id).startswith(Block.BEYOND_ENVIRONMENTS)


def test_a_queue_has_so_many_active_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more fails at submission, until all jobs of another have ended (AWS)."""
    monkeypatch.setattr(limits, "ACTIVE_SHARES_MAX", 2)
    yard = Yard()
    yard.environment()
    yard.policy("p")
    yard.queue(scheduling_policy="p")
    first = yard.submit(share_identifier="A")
    yard.submit(share_identifier="B")
    yard.submit(share_identifier="B")
    with pytest.raises(Exception, match="JobQueue q has 2 active shares, the most allowed"):
        yard.submit(share_identifier="C")
    yard.cancel(first.id)
    yard.submit(share_identifier="C")


def test_a_changed_priority_moves_who_waits_to_another_line() -> None:
    """Of an array all children, those that were tried and those that were not."""
    yard = Yard()
    yard.environment()
    yard.policy("p")
    yard.queue(scheduling_policy="p")
    array = yard.submit(share_identifier="A", array_size=3, scheduling_priority=1)
    event = yard.updated(array.id, 7)
    yard.apply(event)
    (line,) = yard.world.lines.of_queue("q")
    assert (line.shape.priority, len(list(line.units()))) == (7, 3)
    assert array.spec.scheduling_priority == 7
    assert yard.world.jobs[array.id].spec == replace(array.spec, scheduling_priority=7)
