"""Why: what those who wait are told, where they stand, and that both are what plans do."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.test_order import SMALL, WHOLE, Day
from tests.core.yard import Yard, container

from batchyard.ids import AttemptId, HostId
from batchyard.states import JobState
from batchyard_controller.core.attempt_reports import Phase, Report
from batchyard_controller.core.events import FrontAsked, HostHeard, PolicyChanged, Ticked
from batchyard_controller.core.model.jobs import Job
from batchyard_controller.core.model.policies import FairsharePolicy, SchedulingPolicy, ShareWeight
from batchyard_controller.core.model.settings import ComputeResources, DispatchOrder
from batchyard_controller.core.model.units import Unit, units_of
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement import heads
from batchyard_controller.core.placement.explain import ROOM
from batchyard_controller.core.views.utilization import utilization
from batchyard_controller.core.views.waiting import place_of, refusals, summary, waiting_reason
from batchyard_controller.core.world.order import ahead_of, first_of, next_of
from batchyard_controller.core.world.waiting import shape_of
from batchyard_controller.core.world.world import World

HOUR_S = 3_600


def reason(yard: Yard, job: Job) -> str:
    return waiting_reason(yard.world, Unit(job)).removeprefix("waits for a host: ")


def waiting(world: World) -> list[Unit]:
    return [unit for job in world.jobs.values() for unit in units_of(job) if unit.state is JobState.RUNNABLE]


# What they are told ---------------------------------------------------------------------


def test_what_keeps_an_attempt_from_starting_is_told_until_it_starts(yard: Yard) -> None:
    yard.host("h1", cpu=1000)
    job = yard.submit()
    yard.plan()
    attempt_id = AttemptId(f"{job.id}#1")
    stuck = Report(attempt_id=attempt_id, phase=Phase.STARTING, hindrance="no volume\x1b[31m" + "x" * 300)
    yard.report(stuck)
    said = reason(yard, yard.world.jobs[job.id])
    assert said.startswith("no volume")
    assert (len(said), "\x1b" in said) == (255, False)
    assert summary(yard.world, Unit(yard.world.jobs[job.id]), None).endswith(f"attempt 1; {said}")
    yard.report(Report(attempt_id=attempt_id, phase=Phase.STARTING))
    assert reason(yard, yard.world.jobs[job.id]) == ""
    yard.report(stuck)
    yard.ended(attempt_id)
    assert yard.world.hosts[HostId("h1")].hindrances == {}


def kept_for(yard: Yard) -> tuple[Day, Job]:
    """Return a day on which the host is kept for a job from 00:10:01 on, with one vCPU free until then."""
    day = Day(yard)
    for _ in range(3):
        day.submit(600, container=SMALL, timeout_s=600)
    day.run(1)
    large = day.submit(100, container=WHOLE, timeout_s=100)
    day.run(2)
    return day, large


def test_the_first_is_told_which_host_is_kept_for_it_and_from_when(yard: Yard) -> None:
    day, large = kept_for(yard)
    assert reason(yard, large) == (
        "4 vCPU asked, at most 1 free on one host (largest host: 4); host h1 is kept for it from about 1970-01-01T00:10:01Z"
    )
    place = place_of(yard.world, Unit(large))
    assert place is not None
    assert (place.ahead, place.is_exact, place.first_id, place.starts_at_ms) == (0, True, "", 601_000)
    day.run(602)
    assert day.started_s[large.id] == 601
    assert place_of(yard.world, Unit(large)) is None


def test_who_is_turned_away_is_told_for_whom_the_room_is_kept(yard: Yard) -> None:
    day, large = kept_for(yard)
    late = day.submit(60, container=SMALL, timeout_s=601)
    day.run(3)
    assert reason(yard, late) == (
        f"host h1 has room, but is kept for {large.id} until about 1970-01-01T00:10:01Z, and it would not have ended by then"
    )
    assert summary(yard.world, Unit(late), place_of(yard.world, Unit(late))).endswith(
        f"; 1 of its queue comes before it, first {large.id}"
    )
    yard.queue("other")
    alone = day.submit(60, queue="other", container=SMALL, timeout_s=601)
    day.run(4)
    assert reason(yard, alone).startswith("host h1 has room, but is kept for ")
    assert yard.reason(alone.id).startswith("CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - ")


def test_vcpus_of_a_bound_are_kept_as_hosts_are(yard: Yard) -> None:
    yard.environment(compute_resources=ComputeResources(max_vcpus=4))
    yard.host("other", cpu=4000)
    day, large = kept_for(yard)
    late = day.submit(60, container=SMALL, timeout_s=601)
    day.run(3)
    assert reason(yard, late).startswith(
        f"compute environment ce has vCPUs left within its bound, but they are kept for {large.id} until about "
    )


def test_where_a_promise_was_missed_for_long_nobody_passes_and_all_are_told(yard: Yard) -> None:
    yard.queue(max_overtake_s=60)
    day = Day(yard)
    for _ in range(3):
        day.submit(10 * HOUR_S, container=SMALL)
    day.run(1)
    day.submit(100, container=WHOLE, timeout_s=100)
    day.run(2)
    day.run(3 * HOUR_S)
    late = day.submit(60, container=SMALL, timeout_s=30)
    day.run(3 * HOUR_S + 1)
    assert reason(yard, late).endswith("Z, and that was expected sooner, so nobody passes any more")


def test_in_a_strict_queue_all_wait_for_the_first(yard: Yard) -> None:
    yard.queue(dispatch_order=DispatchOrder.STRICT)
    day = Day(yard)
    day.submit(600, container=SMALL, timeout_s=600)
    day.run(1)
    first, other = day.submit(1, container=WHOLE, timeout_s=1), day.submit(1, container=SMALL, timeout_s=1)
    day.run(2)
    assert reason(yard, other) == f"queue q starts nobody before {first.id}, which comes first and waits"
    assert "is kept for it from about" in reason(yard, first)


def shared(yard: Yard, reservation: int = 0, **weights: float) -> None:
    shares = tuple(ShareWeight(share_identifier=name, weight_factor=weight) for name, weight in weights.items())
    fairshare = FairsharePolicy(share_distribution=shares, compute_reservation=reservation)
    yard.apply(PolicyChanged(policy=SchedulingPolicy(name="p", fairshare=fairshare)))
    yard.queue("s", scheduling_policy="p")


def test_what_is_kept_for_shares_without_jobs_is_told(yard: Yard) -> None:
    shared(yard, reservation=50)
    jobs = [yard.submit("s", share_identifier="a", container=SMALL) for _ in range(3)]
    yard.plan()
    assert [job.state.is_active for job in jobs] == [True, True, False]
    assert reason(yard, jobs[2]) == (
        "what is free is kept for shares without jobs, by the computeReservation of the queue's scheduling policy"
    )


def test_of_shares_the_first_of_the_one_whose_turn_it_is_comes_first(yard: Yard) -> None:
    """And blocks its queue, so that it is the one to be told AWS's reason."""
    shared(yard, a=1, b=1)
    day = Day(yard)
    day.submit(600, queue="s", share_identifier="a", container=WHOLE, timeout_s=600)
    day.run(1)
    behind = day.submit(1, queue="s", share_identifier="a", container=SMALL, timeout_s=1)
    first = day.submit(1, queue="s", share_identifier="b", container=SMALL, timeout_s=1)
    day.run(2)
    assert [yard.reason(job.id).partition(" - ")[0] for job in (behind, first)] == [
        "",
        "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY",
    ]
    assert summary(yard.world, Unit(behind), place_of(yard.world, Unit(behind))).endswith(
        f"; 1 of its queue comes before it, first {first.id}"
    )


def test_who_has_yet_to_be_tried_is_not_told_that_it_is_placed_next(yard: Yard) -> None:
    """Room there is; whether it gets it the next plan says."""
    job = yard.submit()
    assert reason(yard, job) == "a host has room for it: it is tried when its turn comes"


# Where they stand -----------------------------------------------------------------------


def test_of_many_that_stand_before_it_only_so_many_are_counted_as_are_cheap(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of its own shape; of like ones the place is exact however many there are."""
    monkeypatch.setattr(heads, "LOOKS_MAX", 20)
    jobs = [yard.submit(container=container(memory=100 + i)) for i in range(25)]
    yard.queue("other")
    like = [yard.submit("other") for _ in range(25)]
    told = [place_of(yard.world, Unit(each)) for each in (jobs[19], jobs[24], like[24])]
    assert [(place.ahead, place.is_exact) for place in told if place is not None] == [
        (19, True),
        (20, False),
        (24, True),
    ]
    assert str(told[1]) == f"more than 20 of its queue come before it, first {jobs[0].id}"


def test_an_array_stands_where_its_next_child_does(yard: Yard) -> None:
    first = yard.submit(container=WHOLE)
    array = yard.submit(array_size=10, container=WHOLE)
    yard.plan()
    yard.cancel(f"{array.id}:0")
    places = [place_of(yard.world, Unit(array)), place_of(yard.world, Unit(array, 5))]
    assert [place.ahead for place in places if place is not None] == [0, 4]
    assert first.state is JobState.STARTING


SUBMISSION = st.tuples(
    st.sampled_from([500, 1000, 3000]), st.sampled_from([0, 60, 900]), st.integers(0, 4), st.sampled_from("abc")
)
"""vCPU thousandths, timeout, children, share."""


def submitted(yard: Yard, queue: str, asked: list[tuple[int, int, int, str]]) -> None:
    for number, (cpu, timeout_s, size, share) in enumerate(asked):
        yard.now = Instant(wall_ms=yard.now.wall_ms + 7_000, boot_ms=yard.now.boot_ms + 7_000)
        fields: dict[str, Any] = {"share_identifier": share, "scheduling_priority": number % 2} if queue == "s" else {}
        yard.submit(queue, container=container(cpu=cpu), timeout_s=timeout_s, array_size=size, **fields)


@given(st.lists(SUBMISSION, min_size=1, max_size=12), st.lists(SUBMISSION, max_size=4), st.booleans(), st.data())
def test_the_order_that_is_told_is_the_one_in_which_a_plan_would_place_all(
    asked: list[tuple[int, int, int, str]],
    first: list[tuple[int, int, int, str]],
    has_shares: bool,
    data: st.DataObject,
) -> None:
    """Some run already, some leave; then there is room for all."""
    yard = Yard()
    yard.environment()
    yard.queue("q")
    shared(yard, a=1, b=2)
    queue = "s" if has_shares else "q"
    yard.host("h", cpu=4000)
    submitted(yard, queue, first)
    yard.plan()
    submitted(yard, queue, asked)
    for unit in waiting(yard.world):
        if data.draw(st.integers(0, 4)) == 0:
            yard.cancel(unit.id)
    yard.plan()
    told = [unit.id for _, unit in next_of(yard.world, queue)]
    assert sorted(told) == sorted(unit.id for unit in waiting(yard.world))
    found = first_of(yard.world, queue)
    assert (found[1].id if found is not None else None) == next(iter(told), None)
    for unit in waiting(yard.world):
        line = yard.world.lines.find(shape_of(yard.world, unit))
        assert line is not None
        ahead = ahead_of(yard.world, unit, line)
        assert (ahead.count, ahead.is_all) == (told.index(unit.id), True)
    yard.host("huge", cpu=1_000_000, memory=1_000_000)
    placed = [Unit(yard.world.jobs[p.job_id], p.index).id for p in yard.make_plan().placements]
    assert placed == told


YARDS = st.fixed_dictionaries(
    {
        "hosts": st.lists(st.sampled_from([1000, 4000, 6000]), min_size=1, max_size=4),
        "order": st.sampled_from(list(DispatchOrder)),
        "max_vcpus": st.sampled_from([0, 0, 5]),
        "max_running": st.sampled_from([0, 0, 2]),
        "reservation": st.sampled_from([0, 50]),
        "asked": st.lists(st.tuples(st.sampled_from("qs"), SUBMISSION), max_size=14),
        "steps": st.sampled_from([None, 3]),
    }
)


@given(YARDS)
def test_after_a_plan_whoever_waits_is_told_something_that_stands_against_it(it: dict[str, Any]) -> None:
    """Never that there is room, and no more: if nothing else happens, the next plan places nobody."""
    yard = Yard()
    yard.environment(compute_resources=ComputeResources(max_vcpus=it["max_vcpus"]))
    yard.queue("q", dispatch_order=it["order"], max_running=it["max_running"], priority=2)
    shared(yard, it["reservation"], a=1, b=2)
    for number, cpu in enumerate(it["hosts"]):
        yard.host(f"h{number}", cpu=cpu)
    for queue, each in it["asked"]:
        submitted(yard, queue, [each])
        yard.plan(it["steps"])
    for unit in waiting(yard.world):
        told = refusals(yard.world, unit)
        assert told
        assert ROOM not in {refusal.kind for refusal in told}, f"{unit.id}: {told}"
        assert all(refusal.message for refusal in told)
    assert not yard.make_plan().placements


# Who stands first, and since when ---------------------------------------------------------


def front(yard: Yard) -> list[tuple[str, int]]:
    return [(each.unit_id, each.since_ms) for each in yard.world.fronts["q"].places]


def at(yard: Yard, at_s: int) -> None:
    yard.now = Instant(wall_ms=1000 * at_s, boot_ms=1000 * at_s)
    for host_id in yard.world.hosts:
        yard.apply(HostHeard(host_id=host_id))
    yard.apply(Ticked())


def test_a_place_is_had_since_somebody_looked_and_saw_it_taken(yard: Yard) -> None:
    yard.submit(container=WHOLE)
    yard.plan()
    a, b = yard.submit(container=WHOLE), yard.submit(array_size=200, container=WHOLE)
    at(yard, 10)
    assert yard.world.fronts == {}
    yard.apply(FrontAsked(queue="q"))
    assert len(front(yard)) == 100
    assert front(yard)[:2] == [(a.id, 10_000), (f"{b.id}:0", 10_000)]
    at(yard, 20)
    yard.cancel(a.id)
    at(yard, 30)
    assert front(yard)[:2] == [(f"{b.id}:0", 30_000), (f"{b.id}:1", 30_000)]
    at(yard, 40)
    assert front(yard)[:2] == [(f"{b.id}:0", 30_000), (f"{b.id}:1", 30_000)]
    at(yard, 641)
    assert yard.world.fronts == {}


def test_a_front_goes_with_its_queue(yard: Yard) -> None:
    yard.apply(FrontAsked(queue="nobody"))
    assert yard.world.fronts == {}


def test_what_a_queue_and_its_shares_hold_is_told_of_those_that_hold_most(yard: Yard) -> None:
    yard.host("huge", cpu=1_000_000, memory=1_000_000)
    shared(yard)
    for number in range(30):
        for _ in range(1 + (number > 27)):
            yard.submit("s", share_identifier=f"u{number:02}", container=SMALL)
    yard.plan()
    held = utilization(yard.world, "s")
    assert (held.cpu_millis, held.shares, len(held.top_shares)) == (32_000, 30, 20)
    assert held.top_shares[:3] == (("u28", 2000), ("u29", 2000), ("u00", 1000))
