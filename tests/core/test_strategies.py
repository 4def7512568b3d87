"""Strategies: which hosts come first, each as a picture of hosts and jobs; none over-commits a host."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.yard import Yard, container

from batchyard.ids import HostId
from batchyard_controller.core.events import HostHeard, HostLeft, HostReclaimed, Ticked
from batchyard_controller.core.model.settings import AllocationStrategy, CapacityType, ComputeResources
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement.pools import PRIOR_H, PRIOR_RATE, Pool, Pools
from batchyard_controller.core.placement.strategies import Offers, least_cost_of_work, ranks_of

Strategies = AllocationStrategy
HOUR_MS = 3_600_000


def yard_of(strategy: AllocationStrategy, *types: str) -> Yard:
    is_spot = strategy.startswith("SPOT_")
    selected = ComputeResources(
        type=CapacityType.SPOT if is_spot else CapacityType.EC2, allocation_strategy=strategy, instance_types=types
    )
    yard = Yard()
    yard.environment(compute_resources=selected)
    yard.queue()
    return yard


def spot(yard: Yard, name: str, pool: str, **more: Any) -> None:
    yard.host(name, host_type=pool, zone="z", purchase_option="spot", **more)


def placed(yard: Yard, count: int, cpu: int = 1000) -> list[str]:
    """Return the hosts of so many jobs that come one after the other."""
    hosts = []
    for _ in range(count):
        before = set(yard.live())
        yard.submit(container=container(cpu=cpu))
        yard.plan()
        hosts += [host for attempt, host in yard.live().items() if attempt not in before]
    return hosts


def test_best_fit_takes_the_cheapest_host_that_could_take_the_job_and_waits_for_it():
    yard = yard_of(Strategies.BEST_FIT)
    yard.host("dear", cpu=4000, price_per_hour=2.0)
    yard.host("cheap", cpu=2000, price_per_hour=0.5)
    assert placed(yard, 3) == ["cheap", "cheap"]
    (refusal,) = yard.refusals()
    assert refusal.message == (
        "compute environment ce waits for the cheapest host that could take it (BEST_FIT): those that have room cost more"
    )
    assert placed(yard, 1, cpu=3000) == ["dear"]  # the other could never take it
    yard.ended(next(iter(yard.live())))
    yard.plan()
    assert sorted(yard.live().values()) == ["cheap", "cheap", "dear"]


def test_best_fit_is_promised_a_host_of_those_that_it_waits_for():
    """Not the dear one, though that would have room sooner."""
    yard = yard_of(Strategies.BEST_FIT)
    yard.host("cheap", cpu=2000, price_per_hour=0.5)
    yard.submit(container=container(cpu=2000), timeout_s=7200)
    yard.plan()
    yard.host("dear", cpu=2000, price_per_hour=2.0)
    yard.submit(container=container(cpu=2000), timeout_s=600)
    yard.plan()
    assert [promise.host_id for promise in yard.world.reservations] == ["cheap"]


def test_best_fit_does_not_wait_for_a_host_that_gets_no_work():
    yard = yard_of(Strategies.BEST_FIT)
    yard.host("dear", price_per_hour=2.0)
    yard.host("cheap", price_per_hour=0.5)
    yard.apply(HostLeft(host_id=HostId("cheap"), session=1))
    assert placed(yard, 1) == ["dear"]


def test_without_prices_the_tightest_host_is_taken():
    for strategy in (Strategies.BEST_FIT, Strategies.BEST_FIT_PROGRESSIVE):
        yard = yard_of(strategy)
        yard.host("large", cpu=4000)
        yard.host("small", cpu=2000)
        assert placed(yard, 3) == ["small", "small", "large"]


def test_best_fit_progressive_takes_the_cheapest_vcpu_and_goes_on_to_the_next():
    """Four vCPUs for 2.0 are cheaper than one for 0.6; hosts at the same price are filled as any."""
    yard = yard_of(Strategies.BEST_FIT_PROGRESSIVE)
    yard.host("small", cpu=1000, price_per_hour=0.6)
    yard.host("large", cpu=4000, price_per_hour=2.0)
    yard.host("tight", cpu=2000, price_per_hour=1.0)
    assert placed(yard, 7) == ["tight", "tight", "large", "large", "large", "large", "small"]


def test_best_fit_progressive_ordered_goes_by_the_order_of_types():
    yard = yard_of(Strategies.BEST_FIT_PROGRESSIVE_ORDERED, "b.large", "a")
    yard.host("1", host_type="a.small", cpu=1000)
    yard.host("2", host_type="b.large", cpu=2000, price_per_hour=9.0)
    assert placed(yard, 3) == ["2", "2", "1"]


def test_spot_capacity_optimized_takes_the_pool_that_loses_least_for_how_much_of_it_is_used():
    """Without reclaims it spreads over pools, the deeper ones first; hosts of a pool are packed."""
    yard = yard_of(Strategies.SPOT_CAPACITY_OPTIMIZED)
    for name in ("a1", "a2", "a3"):
        spot(yard, name, "a", cpu=3000)
    for name in ("b1", "b2"):
        spot(yard, name, "b", cpu=3000)
    assert placed(yard, 4) == ["a1", "b1", "a1", "a1"]
    reclaim(yard, "a3")
    assert placed(yard, 2) == ["b1", "b1"]


def reclaim(yard: Yard, name: str) -> None:
    """Let a host announce that it is taken away, over and over until it is, as an agent does."""
    for _ in range(3):
        yard.apply(HostReclaimed(host_id=HostId(name), at_ms=yard.now.wall_ms + 120_000))


def test_a_host_that_is_reclaimed_counts_once_for_its_pool():
    yard = yard_of(Strategies.SPOT_CAPACITY_OPTIMIZED)
    spot(yard, "a1", "a")
    reclaim(yard, "a1")
    assert yard.world.pools.rate(Pool("a", "z")) == pytest.approx((PRIOR_RATE * PRIOR_H + 1) / PRIOR_H)


def test_spot_capacity_optimized_prioritized_goes_by_the_order_of_types_where_risks_are_alike():
    yard = yard_of(Strategies.SPOT_CAPACITY_OPTIMIZED_PRIORITIZED, "b", "a")
    for name in ("a1", "a2", "a3", "a4", "a5"):
        spot(yard, name, "a")
    for name in ("b1", "b2", "b3", "b4"):
        spot(yard, name, "b")
    assert placed(yard, 2) == ["b1", "b1"]  # though the other pool is deeper
    for _ in range(3):
        yard.world.note_reclaim(yard.world.hosts[HostId("b1")])
    assert placed(yard, 1) == ["a1"]


def test_spot_price_capacity_optimized_weighs_price_and_what_reclaims_waste():
    """A pool at half the price is taken until it loses so many hosts that its jobs cost more."""
    yard = yard_of(Strategies.SPOT_PRICE_CAPACITY_OPTIMIZED)
    for name in ("a1", "a2", "a3", "a4"):
        spot(yard, name, "a", price_per_hour=1.0)
    for name in ("b1", "b2", "b3", "b4"):
        spot(yard, name, "b", price_per_hour=0.5)
    assert placed(yard, 1) == ["b1"]
    for _ in range(40):
        yard.world.note_reclaim(yard.world.hosts[HostId("b1")])
    assert placed(yard, 1) == ["a1"]


def test_spot_price_capacity_optimized_takes_long_jobs_to_safer_hosts_than_short_ones():
    """For a quarter less a pool that loses a host each third hour: good for ten minutes, dear for a day."""
    for timeout_s, host in ((600, "b1"), (86_400, "a1")):
        yard = yard_of(Strategies.SPOT_PRICE_CAPACITY_OPTIMIZED)
        spot(yard, "a1", "a", price_per_hour=1.0)
        spot(yard, "b1", "b", price_per_hour=0.75)
        for _ in range(6):
            yard.world.note_reclaim(yard.world.hosts[HostId("b1")])
        yard.submit(timeout_s=timeout_s)
        yard.plan()
        assert list(yard.live().values()) == [host]


def test_the_cost_of_work_is_the_mean_time_that_a_job_takes_that_begins_again_after_each_reclaim():
    """At a reclaim an hour, a job of one hour takes e - 1 hours in the mean."""
    one = np.ones(2)
    offers = Offers(price=one, vcpus=one, order=one, rate=np.array([1.0, 1e-9]), depth=one, run_h=1.0)
    assert least_cost_of_work(offers)[0].tolist() == pytest.approx([np.e - 1, 1.0])


def test_pools_forget_half_in_a_day_and_lean_on_what_is_usual():
    pools, pool = Pools(), Pool("t", "z")
    assert pools.rate(pool) == PRIOR_RATE
    pools.note_time({pool: 10}, Instant(wall_ms=0, boot_ms=0))
    pools.note_time({pool: 10}, Instant(wall_ms=0, boot_ms=6 * HOUR_MS))
    pools.note_reclaim(pool)
    assert pools.rate(pool) == pytest.approx((PRIOR_RATE * PRIOR_H + 1) / (PRIOR_H + 60))
    pools.note_time({}, Instant(wall_ms=0, boot_ms=30 * HOUR_MS))
    assert pools.rate(pool) == pytest.approx((PRIOR_RATE * PRIOR_H + 0.5) / (PRIOR_H + 30))


def test_hours_count_of_spot_hosts_that_are_here():
    yard = yard_of(Strategies.SPOT_CAPACITY_OPTIMIZED)
    spot(yard, "here", "a")
    spot(yard, "gone", "b")
    yard.host("own", host_type="c")
    yard.apply(Ticked())
    yard.apply(HostLeft(host_id=HostId("gone"), session=1))
    yard.now = Instant(wall_ms=HOUR_MS, boot_ms=yard.now.boot_ms + HOUR_MS)
    for name in ("here", "own"):
        yard.apply(HostHeard(host_id=HostId(name)))
    yard.apply(Ticked())
    rates = [yard.world.pools.rate(Pool(name, zone)) for name, zone in (("a", "z"), ("b", "z"), ("c", ""))]
    assert rates == [pytest.approx(1 / 21), PRIOR_RATE, PRIOR_RATE]


def test_ranks_are_those_of_sorted_keys_and_equal_ones_share_one():
    first, second = np.array([2.0, 1.0, 2.0, 1.0]), np.array([0.0, 5.0, 0.0, 4.0])
    assert ranks_of((first, second)).tolist() == [2, 1, 2, 0]
    assert ranks_of((np.zeros(3),)).tolist() == [0, 0, 0]
    assert ranks_of((np.zeros(0),)).tolist() == []


JOBS = st.tuples(st.sampled_from([500, 1000, 3000]), st.sampled_from([0, 0, 300, 400, 1000, 2000]))
HOSTS = st.tuples(st.integers(1, 8), st.integers(0, 3), st.sampled_from("ab"), st.sampled_from([0.0, 0.5, 2.0]))


@pytest.mark.parametrize("strategy", AllocationStrategy)
@given(st.lists(HOSTS, min_size=1, max_size=6), st.lists(JOBS, min_size=1, max_size=25), st.sampled_from([None, 1, 3]))
def test_no_strategy_over_commits_a_host_or_differs_by_slices(
    strategy: AllocationStrategy,
    hosts: list[tuple[int, int, str, float]],
    jobs: list[tuple[int, int]],
    steps_max: int | None,
):
    def story(steps_max: int | None) -> tuple[Yard, dict[str, str]]:
        yard = yard_of(strategy)
        option = "spot" if strategy.startswith("SPOT_") else "on-demand"
        for i, (vcpus, gpus, pool, price) in enumerate(hosts):
            more: dict[str, Any] = {"host_type": pool, "price_per_hour": price, "purchase_option": option}
            yard.host(f"h{i}", cpu=1000 * vcpus, gpus=gpus, **more)
        for cpu, gpu in jobs:
            yard.submit(container=container(cpu=cpu, gpu=gpu))
        yard.plan(steps_max)
        return yard, yard.live()

    yard, live = story(steps_max)
    assert live == story(None)[1]
    fleet = yard.world.fleet
    assert (fleet.free >= 0).all()
    for i, (vcpus, gpus, _, _) in enumerate(hosts):
        held = [a for a in yard.world.attempts.values() if a.host_id == f"h{i}"]
        asked = [yard.world.unit_of(a).task.resources for a in held]
        assert sum(r.cpu_millis for r in asked) <= 1000 * vcpus
        by_gpu: dict[str, int] = {}
        for attempt in held:
            for gpu in attempt.gpus:
                by_gpu[gpu.uuid] = by_gpu.get(gpu.uuid, 0) + gpu.millis
        assert sum(by_gpu.values()) == sum(r.gpu_millis for r in asked)
        assert len(by_gpu) <= gpus
        assert all(millis <= 1000 for millis in by_gpu.values())
