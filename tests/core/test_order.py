"""Order: who starts first, who may pass whom, and what a promise is worth."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.day import Day, states
from tests.core.law import Shelf
from tests.core.yard import Yard, container

from batchyard.resources import Resources
from batchyard_controller.core.model.attempts import GpuClaim
from batchyard_controller.core.model.settings import ComputeResources, DispatchOrder, JobQueue
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement.due_times import DueTimes
from batchyard_controller.core.placement.line import Shape
from batchyard_controller.core.placement.reservations import BoundForecast, Forecast
from batchyard_controller.core.placement.run_times import Owner, Run, RunTimes
from batchyard_controller.core.placement.tenants import Stay, Tenant

SMALL = container(cpu=1000)
WHOLE = container(cpu=4000)


@pytest.fixture
def yard() -> Yard:
    made = Yard()
    made.environment()
    made.queue()
    made.host("h", cpu=4000)
    return made


# Passing -------------------------------------------------------------------------------


def test_a_large_job_starts_before_a_stream_of_small_ones_that_would_delay_it(yard: Yard):
    """Its host is kept for it; nobody is let in who would still be there."""
    day = Day(yard)
    for _ in range(3):
        day.submit(600, container=SMALL, timeout_s=600)
    day.run(1)
    large = day.submit(100, container=WHOLE, timeout_s=100)
    for at_s in range(2, 600, 60):
        day.run(at_s)
        day.submit(600, container=SMALL, timeout_s=600)
    day.run(602)
    assert day.started_s[large.id] == 601


def test_who_has_ended_by_then_passes(yard: Yard):
    """One free vCPU is used by those who are quick, and by nobody else."""
    day = Day(yard)
    for _ in range(3):
        day.submit(600, container=SMALL, timeout_s=600)
    day.run(1)
    large = day.submit(100, container=WHOLE, timeout_s=100)
    long, quick = (day.submit(60, container=SMALL, timeout_s=timeout_s) for timeout_s in (601, 599))
    day.run(2)
    assert states(large, long, quick) == ["waits", "waits", "in"]


def test_who_leaves_room_passes(yard: Yard):
    """However long it stays."""
    yard.submit(container=SMALL, timeout_s=600)
    yard.submit(container=container(cpu=2000), timeout_s=6000)
    yard.plan()
    large, thin, wide = (
        yard.submit(container=container(cpu=cpu), timeout_s=timeout_s)
        for cpu, timeout_s in ((2000, 60), (100, 6000), (1000, 6000))
    )
    yard.plan()
    assert states(large, thin, wide) == ["waits", "waits", "waits"]
    narrow = yard.submit(container=container(cpu=1500), timeout_s=60)
    yard.cancel(large.id)
    yard.plan()
    assert states(thin, wide, narrow) == ["in", "waits", "waits"]


def test_other_hosts_are_free_to_all(yard: Yard):
    """A promise costs one host, not the yard."""
    yard.host("i", cpu=4000)
    for _ in range(6):
        yard.submit(container=SMALL, timeout_s=600)
    yard.plan()
    large = yard.submit(container=WHOLE, timeout_s=60)
    small = [yard.submit(container=SMALL, timeout_s=6000) for _ in range(2)]
    yard.plan()
    (reservation,) = yard.world.reservations
    assert states(large, *small).count("in") == 2
    assert reservation.host_id not in {
        a.host_id for a in yard.world.attempts.values() if a.job_id in {j.id for j in small}
    }


def test_the_smallest_passes_first(yard: Yard):
    """Of those that may."""
    yard.submit(container=container(cpu=3000), timeout_s=6000)
    yard.plan()
    large = yard.submit(container=WHOLE, timeout_s=60)
    slow, quick = (yard.submit(container=SMALL, timeout_s=timeout_s) for timeout_s in (3000, 300))
    yard.plan()
    assert states(large, slow, quick) == ["waits", "waits", "in"]


def test_nobody_passes_where_the_queue_says_so(yard: Yard):
    """AWS's order; other queues go on."""
    yard.queue("strict", dispatch_order=DispatchOrder.STRICT)
    yard.submit("strict", container=container(cpu=3000), timeout_s=600)
    yard.plan()
    large, small = (yard.submit("strict", container=asked, timeout_s=60) for asked in (WHOLE, SMALL))
    other = yard.submit("q", container=SMALL, timeout_s=60)
    yard.plan()
    assert states(large, small, other) == ["waits", "waits", "in"]


def test_who_was_turned_away_tries_again_when_the_promise_is_off(yard: Yard):
    """At once, though nothing has grown."""
    yard.submit(container=container(cpu=3000), timeout_s=600)
    yard.plan()
    large, small = yard.submit(container=WHOLE, timeout_s=60), yard.submit(container=SMALL, timeout_s=6000)
    yard.plan()
    assert states(large, small) == ["waits", "waits"]
    yard.cancel(large.id)
    assert yard.world.wants_plan
    yard.plan()
    assert states(small) == ["in"]


def test_a_bound_of_vcpus_is_kept_for_the_first_as_a_host_is(yard: Yard):
    """Small ones do not use up the environment for ever."""
    yard.environment("ce", compute_resources=ComputeResources(max_vcpus=4))
    yard.host("i", cpu=8000)
    yard.submit(container=SMALL, timeout_s=600)
    yard.plan()
    large, small = yard.submit(container=WHOLE, timeout_s=60), yard.submit(container=SMALL, timeout_s=6000)
    yard.plan()
    assert states(large, small) == ["waits", "waits"]


def test_a_promise_that_is_missed_for_long_lets_nobody_pass_who_stays(yard: Yard):
    """Where nobody says how long he runs, and what is expected turns out wrong again and again."""
    yard.queue("q", max_overtake_s=3600)
    yard.submit(container=container(cpu=3000))
    yard.plan()
    large = yard.submit(container=WHOLE)
    yard.plan()
    for at_s, may_pass in ((3590, True), (3610, False)):
        yard.now = Instant(wall_ms=1000 * at_s, boot_ms=1000 * at_s)
        quick = yard.submit(container=SMALL, timeout_s=60)
        yard.plan()
        assert states(large, quick) == ["waits", "in" if may_pass else "waits"]
        if may_pass:
            yard.ended(f"{quick.id}#1")


def test_a_higher_queue_is_not_held_up_by_a_promise_to_a_lower_one(yard: Yard):
    """And a lower one passes a higher only as others do."""
    yard.queue("urgent", priority=1)
    yard.submit(container=container(cpu=3000), timeout_s=600)
    yard.plan()
    large = yard.submit(container=WHOLE, timeout_s=60)
    yard.plan()
    urgent = yard.submit("urgent", container=SMALL, timeout_s=6000)
    yard.plan()
    assert states(large, urgent) == ["waits", "in"]


# Due times ------------------------------------------------------------------------------


def test_nobody_submitted_after_five_times_its_timeout_stands_before_a_job():
    """The bound on starvation, whatever is known of run times."""
    queue_times = DueTimes({"q": JobQueue(name="q")})
    shape = Shape("q", Resources(cpu_millis=1), "process", definition="d:1", timeout_s=600)
    assert queue_times.timing(shape).delay_ms == 5 * 600_000
    for took_ms in (1_000, 600_000, 9_000_000):
        queue_times.run_times.note(Run(Owner("q", "d"), "d:1", shape.resources, 600_000), took_ms)
        assert queue_times.timing(shape).delay_ms <= 5 * 600_000


def test_what_is_known_to_be_short_is_due_sooner():
    """By the geometric mean of what is expected and what is allowed."""
    times = DueTimes({"q": JobQueue(name="q")})
    shape = Shape("q", Resources(cpu_millis=1), "process", definition="d:1", timeout_s=1000)
    for _ in range(32):
        times.run_times.note(Run(Owner("q", "d"), "d:1", shape.resources, 0), 10_000)
    predicted = times.run_times.predict_ms(Run(Owner("q", "d"), "d:1", shape.resources, 1_000_000))
    assert predicted is not None
    assert 10_000 <= predicted < 100_000
    assert times.timing(shape).size_ms == pytest.approx((predicted * 1_000_000) ** 0.5, rel=1e-3)


def test_a_queue_may_bound_overtaking_and_ask_for_the_order_of_submission():
    times = DueTimes(
        {
            "q": JobQueue(name="q", max_overtake_s=60),
            "s": JobQueue(name="s", dispatch_order=DispatchOrder.SUBMISSION_TIME),
        }
    )
    shape = Shape("q", Resources(), "process", timeout_s=6000)
    assert times.timing(shape).delay_ms == 60_000
    assert times.timing(replace(shape, queue="s")) == (0, 0)


def test_runs_of_another_revision_count_less_and_older_ones_ever_less():
    times = RunTimes()
    run = Run(Owner("q", "d"), "d:2", Resources(), 0)
    times.note(run._replace(definition="d:1"), 1_000_000)
    times.note(run, 10_000)
    predicted = times.predict_ms(run)
    mean = times.mean_ms("q")
    assert predicted is not None
    assert mean is not None
    assert predicted == pytest.approx((10_000 + 0.8 * 0.3 * 1_000_000 + 0.3 * mean) / (1 + 0.24 + 0.3), rel=1e-3)
    assert times.predict_ms(Run(Owner("other", ""), "", Resources(), 0)) is None


def test_without_a_past_the_mean_of_the_queue_as_it_is_now_tells():
    """Not as it was when somebody first asked."""
    times = RunTimes()
    unknown = Run(Owner("q", "new"), "new:1", Resources(), 0)
    times.note(Run(Owner("q", "d"), "d:1", Resources(), 0), 10_000)
    assert times.predict_ms(unknown) == 10_000
    for _ in range(10):
        times.note(Run(Owner("q", "d"), "d:1", Resources(), 0), 1_000_000)
    assert times.predict_ms(unknown) == times.mean_ms("q") > 800_000


def test_owners_of_whom_nothing_has_ended_for_long_are_forgotten():
    """However many names there are."""
    times = RunTimes()
    often, once = (Run(Owner("q", name), "", Resources(), 0) for name in ("often", "once"))
    times.note(once, 1_000_000)
    for turn in range(20_000):
        times.note(Run(Owner("q", str(turn)), "", Resources(), 0), 10_000)
        if turn % 1000 == 0:
            times.note(often, 1_000_000)
    assert (times.predict_ms(often) or 0) > 700_000
    assert times.predict_ms(once) == times.mean_ms("q")


def test_a_guess_that_is_outrun_is_doubled_and_a_bound_is_about_to_be_kept():
    guess = Stay(60_000, is_bound=False)
    assert [guess.end(0, now_ms) for now_ms in (59_999, 60_000, 180_000)] == [60_000, 2 * 90_000, 2 * 210_000]
    assert Stay(60_000, is_bound=True).end(0, 180_000) == 210_000


def test_a_forecast_knows_each_gpu():
    """Two halves of different GPUs are no whole one."""
    forecast = Forecast((0, 0, 0, 0), {"a": 0, "b": 500})
    asked = Resources(gpu_millis=1000)
    holds = [
        Tenant(at_ms, Resources(gpu_millis=500), (GpuClaim(uuid=uuid, millis=500),), "ce", came_ms=0)
        for at_ms, uuid in ((10, "a"), (20, "b"), (30, "a"))
    ]
    forecast.add(Resources(gpu_millis=1000), ())
    assert forecast.run(asked, holds, BoundForecast(0, ()), 0) == 20


def test_what_is_remembered_is_recalled_after_a_restart(yard: Yard):
    """From the jobs that are retained, an array's children too."""
    day = Day(yard)
    for runs_s in (10, 20, 40):
        day.submit(runs_s, array_size=2)
        day.run(day.now_s + 50)
    shelf = Shelf()
    shelf.commit(yard.world)
    again = shelf.restore(yard.now, yard.world.retention)
    run = Run(Owner("q", ""), "", SMALL.resources, 0)
    predicted = yard.world.lines.due_times.run_times.predict_ms(run)
    assert predicted is not None
    assert again.lines.due_times.run_times.predict_ms(run) == predicted
