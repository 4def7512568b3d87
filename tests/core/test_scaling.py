"""Which hosts are launched and stopped; the stories are in tests/scenarios/scaling.txt."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.yard import Yard, container, ended_report, facts

from batchyard.features import FEATURES
from batchyard.ids import AttemptId, HostId, LaunchId
from batchyard.pairs import pairs
from batchyard.states import JobState
from batchyard_controller.core.attempt_reports import Phase, Report
from batchyard_controller.core.events import (
    AttemptsReported,
    HostHeard,
    HostLeft,
    HostMarked,
    ProviderAnswered,
    ProviderListed,
    Ticked,
)
from batchyard_controller.core.model.launches import ENVIRONMENT_LABEL, LAUNCH_LABEL, Launch, LaunchState
from batchyard_controller.core.model.restores import LAST_RESTORE, Restore
from batchyard_controller.core.model.settings import AllocationStrategy, CapacityType, ComputeResources
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.reactor import adoption
from batchyard_controller.core.scaling.capacity import UNDER_WAY_MAX
from batchyard_controller.core.scaling.catalogue import Catalogue, LaunchType
from batchyard_controller.core.scaling.memory import RETRY_MS_MAX, RETRY_MS_MIN, Memory, retry_ms
from batchyard_controller.core.scaling.orders import Operation, orders
from batchyard_controller.core.scaling.types import ORDERS, Candidate
from batchyard_controller.core.views.waiting import waiting_reason

SMALL = LaunchType(facts=facts("", cpu=1000, memory=1000, host_type="small"), price=1)
LARGE = LaunchType(facts=facts("", cpu=4000, memory=4000, host_type="large"), price=5)
GPU = LaunchType(facts=facts("", cpu=4000, memory=4000, gpus=2, host_type="gpu"), price=50)


class ScalingYard(Yard):
    """A yard with an environment that provider ``p`` launches hosts for, and a queue over it."""

    def __init__(self, *types: LaunchType, **resources: Any) -> None:
        super().__init__()
        catalogue = Catalogue(provider="p", types={each.name: each for each in types})
        self.world.scaling.catalogues = {"p": catalogue}
        self.resources = ComputeResources(**{"provider": "p", "max_vcpus": 100, **resources})
        self.environment("ce", compute_resources=self.resources)
        self.queue()

    def tick(self, seconds: int = 1) -> list[Launch]:
        """Place whom there is room for, let time pass, and return what is launched."""
        before = set(self.world.launches)
        self.plan()
        self.now = Instant(wall_ms=self.now.wall_ms + seconds * 1000, boot_ms=self.now.boot_ms + seconds * 1000)
        for host in self.world.hosts.values():
            host.heard_boot_ms = self.now.boot_ms if host.session else host.heard_boot_ms
        self.apply(Ticked())
        return [launch for name, launch in self.world.launches.items() if name not in before]

    def types(self, seconds: int = 1) -> list[str]:
        return [launch.host_type for launch in self.tick(seconds)]

    def arrive(self, launch: Launch, **fields: Any) -> None:
        labels = pairs({LAUNCH_LABEL: launch.id, ENVIRONMENT_LABEL: launch.environment})
        known = {"cpu": launch.cpu_millis, "memory": 4000, "host_type": launch.host_type, "labels": labels}
        self.host(str(launch.id), **{**known, **fields})

    def fail(self, launch: Launch) -> None:
        for operation, error in ((Operation.LAUNCH, "no"), (Operation.STOP, "")):
            self.apply(ProviderAnswered(launch_id=launch.id, operation=operation, error=error))

    def wanted(self) -> list[Launch]:
        return [launch for launch in self.world.launches.values() if launch.is_wanted]


# What is launched ---------------------------------------------------------------------


def test_hosts_are_packed_with_what_waits():
    yard = ScalingYard(LARGE)
    for _ in range(5):
        yard.submit(container=container(cpu=2000))
    assert yard.types() == ["large"] * 3


def test_shapes_share_the_hosts_that_are_launched():
    yard = ScalingYard(LARGE)
    yard.submit(container=container(cpu=3000))
    yard.submit(container=container(cpu=1000))
    assert yard.types() == ["large"]


def test_what_is_under_way_is_reckoned_with():
    yard = ScalingYard(SMALL)
    yard.submit()
    assert yard.types() == ["small"]
    assert yard.types() == []
    yard.submit()
    assert yard.types() == ["small"]


def test_who_has_room_already_needs_no_host():
    yard = ScalingYard(LARGE)
    yard.submit()
    (launch,) = yard.tick()
    yard.arrive(launch)
    yard.submit()
    assert yard.types() == []
    assert len(yard.live()) == 2


def test_nothing_is_launched_for_those_whom_a_host_would_not_help():
    """A licence is held, and the queue may have three at once; raised, both let more go."""
    yard = ScalingYard(SMALL)
    yard.consumable("licence", 1)
    yard.queue("capped", max_running=3)
    for _ in range(4):
        yard.submit(consumables=(("licence", 1),))
        yard.submit("capped")
    launched = yard.tick()
    assert len(launched) == 4
    for launch in launched:
        yard.arrive(launch)
    assert yard.types() == []
    yard.consumable("licence", 2)
    yard.queue("capped", max_running=4)
    assert yard.types() == ["small", "small"]


def test_only_a_type_that_is_large_enough_is_launched():
    yard = ScalingYard(SMALL, LARGE)
    yard.submit(container=container(cpu=1000, memory=2000))
    assert yard.types() == ["large"]


def test_gpus_are_launched_for_who_asks_for_them():
    yard = ScalingYard(SMALL, GPU)
    for gpu in (1000, 1000, 1000):
        yard.submit(container=container(gpu=gpu))
    assert yard.types() == ["gpu", "gpu"]


def test_nothing_is_launched_that_could_never_run_it():
    yard = ScalingYard(SMALL)
    job = yard.submit(container=container(cpu=2000))
    assert yard.types() == []
    assert "launches no type of host that could ever fit it" in waiting_reason(yard.world, yard.unit(job.id))
    assert yard.reason(job.id).startswith("MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT")


def test_a_runtime_that_is_missing_in_truth_is_learnt():
    """A host is declared to run containers, and cannot: no second one is launched for the same."""
    yard = ScalingYard(SMALL)
    yard.submit(container=container(image="busybox"))
    (launch,) = yard.tick()
    yard.arrive(launch, runtimes=("process",))
    assert yard.types() == []
    yard.tick(seconds=400)
    assert yard.wanted() == []
    assert yard.types() == []
    assert yard.types(seconds=900) == ["small"], "it may have been mended"


def test_what_a_host_gains_after_it_has_joined_is_learnt():
    """As where its engine starts after its agent."""
    yard = ScalingYard(SMALL)
    for _ in range(2):
        yard.submit(container=container(image="busybox"))
    first, second = yard.tick()
    yard.fail(second)
    yard.arrive(first, runtimes=("process",))
    assert yard.types() == []
    host = yard.world.hosts[HostId(first.id)]
    known = replace(host.record.facts, runtimes=("docker", "process"))
    yard.apply(HostHeard(host_id=host.record.id, facts=known))
    assert yard.types() == ["small"]


def test_hosts_of_a_restarted_controller_are_waited_for():
    """A leader that has just begun knows no host that is connected, and launches none in their place."""
    yard = ScalingYard(LARGE)
    yard.submit()
    (launch,) = yard.tick()
    yard.arrive(launch)
    yard.tick()
    yard.apply(HostLeft(host_id=HostId(launch.id), session=1))
    yard.submit()
    assert yard.types() == []


def test_a_cordoned_host_is_replaced():
    yard = ScalingYard(SMALL)
    yard.submit()
    (launch,) = yard.tick()
    yard.arrive(launch)
    yard.apply(HostMarked(host_id=HostId(launch.id), cordoned=True, draining=False))
    assert yard.types() == ["small"]


def test_higher_queues_come_first_at_the_bound():
    yard = ScalingYard(SMALL, GPU, max_vcpus=1, allocation_strategy=AllocationStrategy.BEST_FIT)
    yard.queue("high", "ce", priority=9)
    yard.submit(container=container(gpu=1000))
    yard.submit("high")
    assert yard.types() == ["small"]


def test_so_many_are_launched_at_once():
    yard = ScalingYard(SMALL, max_vcpus=1000)
    yard.submit(array_size=500)
    assert len(yard.tick()) == UNDER_WAY_MAX
    assert yard.tick() == []


def test_a_host_of_an_environment_with_a_provider_is_its_own_alone():
    yard = ScalingYard(SMALL)
    yard.environment("own")
    yard.queue("others", "own")
    yard.submit()
    (launch,) = yard.tick()
    yard.arrive(launch)
    yard.host("mine", cpu=9000)
    yard.submit("others", container=container(cpu=500))
    yard.tick()
    assert sorted(yard.live().values()) == sorted([str(launch.id), "mine"])
    yard.submit(container=container(cpu=9000))
    yard.tick()
    assert len(yard.live()) == 2


def test_best_fit_that_has_no_type_within_the_bound_says_so():
    yard = ScalingYard(SMALL, LARGE, max_vcpus=2, allocation_strategy=AllocationStrategy.BEST_FIT)
    job = yard.submit(container=container(cpu=2000))
    assert yard.types() == []
    assert "could ever fit it within 2 vCPUs" in waiting_reason(yard.world, yard.unit(job.id))


# What is stopped ----------------------------------------------------------------------


def test_no_host_is_stopped_on_which_something_runs():
    yard = ScalingYard(SMALL, scale_down_delay_s=0)
    job = yard.submit()
    (launch,) = yard.tick()
    yard.arrive(launch)
    yard.tick(seconds=4000)
    assert yard.wanted()
    assert yard.state(job.id) is JobState.STARTING
    yard.ended(f"{job.id}#1")
    yard.tick()
    assert not yard.wanted()
    world = yard.world
    (order,) = orders(world.launches.values(), world.hosts, world.scaling, world.spared)
    assert order.operation is Operation.STOP


def test_hosts_that_their_provider_has_no_more_are_not_waited_for_beyond_their_fence():
    yard = ScalingYard(SMALL)
    yard.world.fence_ms = 30_000
    for _ in range(3):
        yard.submit()
    for launch in (launches := yard.tick()):
        yard.arrive(launch)
    yard.tick()
    for host_id in (hosts := [HostId(launch.id) for launch in launches]):
        yard.apply(HostHeard(host_id=host_id, session=1, wall_ms=yard.now.wall_ms))
        yard.apply(HostLeft(host_id=host_id, session=1))
    for _ in range(80):
        yard.tick()
    assert len(yard.live()) == 3, "who fall silent at once are waited for"
    yard.apply(ProviderListed(missing=frozenset(launch.id for launch in launches)))
    yard.tick()
    assert not [host for host in yard.live().values() if host in hosts]
    assert yard.world.brake.since_boot_ms is None
    assert not [launch for launch in yard.wanted() if launch in launches]


class Restored(ScalingYard):
    """A yard that was put back from a backup, which does not know what its hosts run."""

    def __init__(self) -> None:
        super().__init__(SMALL, scale_down_delay_s=0)
        self.stray = Report(attempt_id=AttemptId("unknown#1"), phase=Phase.RUNNING, started_at_ms=1)

    def put_back(self, *, is_over: bool = False) -> None:
        self.world.restores[LAST_RESTORE] = Restore(generation=7, at_ms=self.now.wall_ms, is_over=is_over)
        adoption.begin(self.world, self.now)

    def hello(self, launch: Launch) -> None:
        """Let its host come back, which runs a job of after the backup."""
        labels = pairs({LAUNCH_LABEL: launch.id, ENVIRONMENT_LABEL: launch.environment})
        told = facts(str(launch.id), cpu=1000, memory=4000, host_type="small", labels=labels, features=FEATURES)
        self.join(told, self.stray, session=2)
        self.apply(AttemptsReported(host_id=HostId(launch.id), reports=(), is_all=True))

    def stops(self) -> list[LaunchId]:
        found = orders(self.world.launches.values(), self.world.hosts, self.world.scaling, self.world.spared)
        return [order.launch.id for order in found if order.operation is Operation.STOP]


def test_no_host_is_stopped_that_may_run_what_a_backup_does_not_know():
    yard = Restored()
    job = yard.submit()
    (launch,) = yard.tick()
    yard.arrive(launch)
    yard.tick()
    yard.ended(f"{job.id}#1")
    yard.put_back()
    yard.tick(seconds=40)
    assert yard.wanted(), "its host has told nothing yet"
    yard.hello(launch)
    yard.tick(seconds=40)
    assert not yard.world.is_restoring
    yard.tick(seconds=40)
    assert yard.wanted(), "something runs there"
    yard.report(ended_report(yard.stray.attempt_id), str(launch.id))
    yard.tick()
    assert yard.stops() == [launch.id]


@pytest.mark.parametrize("is_wanted", [True, False])
def test_nothing_is_waited_for_of_a_host_that_its_provider_has_no_more(is_wanted):
    yard = Restored()
    yard.submit()
    (launch,) = yard.tick()
    yard.arrive(launch)
    yard.cancel(next(iter(yard.world.jobs)))
    if not is_wanted:
        yard.tick()
    yard.put_back()
    yard.apply(HostLeft(host_id=HostId(launch.id), session=1))
    yard.apply(ProviderListed(missing=frozenset({launch.id})))
    assert yard.stops() == [], "it was heard just now"
    yard.tick(seconds=46)
    assert yard.stops() == []
    yard.apply(ProviderListed(missing=frozenset({launch.id})))
    assert yard.stops() == [launch.id]
    yard.apply(ProviderAnswered(launch_id=launch.id, operation=Operation.STOP))
    assert not yard.world.hosts


def test_no_later_leader_stops_a_host_before_it_has_told_what_runs_there():
    yard = Restored()
    yard.put_back()
    launch = Launch(id=LaunchId("ce-later-1"), environment="ce", provider="p", host_type="small", cpu_millis=1000)
    yard.hello(launch)
    yard.apply(HostLeft(host_id=HostId(launch.id), session=2))
    yard.put_back(is_over=True)
    assert yard.stops() == [], "what is nobody's is stored by nobody"
    yard.tick(seconds=1000)
    assert yard.stops() == [launch.id], "its fence has passed"
    yard.put_back(is_over=True)
    yard.hello(launch)
    assert yard.stops() == []
    yard.report(ended_report(yard.stray.attempt_id), str(launch.id))
    assert yard.stops() == [launch.id]


def test_what_runs_on_a_host_that_a_backup_does_not_know_is_left_to_end():
    yard = Restored()
    yard.put_back()
    launch = Launch(id=LaunchId("ce-later-1"), environment="ce", provider="p", host_type="small", cpu_millis=1000)
    yard.hello(launch)
    (late,) = yard.world.launches.values()
    assert late.stop_reason == "its launch is over"
    for _ in range(3):
        assert yard.stops() == []
        yard.tick(seconds=40)
    yard.apply(ProviderAnswered(launch_id=launch.id, operation=Operation.STOP))
    assert yard.world.hosts, "whoever was asked before the restore did not know either"
    yard.report(ended_report(yard.stray.attempt_id), str(launch.id))
    assert yard.stops() == [launch.id]
    yard.apply(ProviderAnswered(launch_id=launch.id, operation=Operation.STOP))
    assert not yard.world.hosts


def test_the_longest_idle_is_stopped_first():
    yard = ScalingYard(SMALL, min_vcpus=1, scale_down_delay_s=10)
    jobs = [yard.submit(), yard.submit()]
    launches = yard.tick()
    for launch in launches:
        yard.arrive(launch)
    yard.tick()
    on = {host: attempt for attempt, host in yard.live().items()}
    first, second = (on[str(launch.id)] for launch in launches)
    yard.ended(second)
    yard.tick(seconds=5)
    yard.ended(first)
    yard.tick(seconds=20)
    yard.tick(seconds=20)
    assert [launch.id for launch in yard.wanted()] == [launches[0].id]
    assert len(jobs) == 2


def test_a_host_that_stays_away_is_given_up():
    yard = ScalingYard(SMALL, scale_down_delay_s=9999)
    yard.submit()
    (launch,) = yard.tick()
    yard.arrive(launch)
    yard.tick()
    yard.ended(next(iter(yard.live())))
    yard.apply(HostLeft(host_id=HostId(launch.id), session=1))
    yard.tick(seconds=599)
    assert yard.wanted()
    yard.tick(seconds=2)
    assert not yard.wanted()


# Failures -----------------------------------------------------------------------------


def test_failures_back_off_within_bounds():
    waits = [retry_ms(n) for n in range(1, 40)]
    assert waits[:3] == [RETRY_MS_MIN, 2 * RETRY_MS_MIN, 4 * RETRY_MS_MIN]
    assert waits == sorted(waits)
    assert waits[-1] == RETRY_MS_MAX


def test_launches_that_fail_together_count_once():
    memory, now = Memory(), Instant(wall_ms=1, boot_ms=1)
    several = [
        Launch(id=LaunchId(f"ce-{n}"), environment="ce", provider="p", host_type="small", cpu_millis=1000)
        for n in range(5)
    ]
    for launch in several:
        memory.watch(launch, now)
    for launch in several:
        memory.note_failure(launch, "no", Instant(wall_ms=5, boot_ms=5))
    assert memory.troubles["ce", "small"].strikes == 1


def test_a_type_that_failed_is_tried_with_one_host():
    yard = ScalingYard(SMALL)
    for _ in range(4):
        yard.submit()
    launches = yard.tick()
    assert len(launches) == 4
    for launch in launches:
        yard.fail(launch)
    assert yard.types() == []
    assert yard.types(seconds=5) == ["small"]
    yard.arrive(yard.wanted()[0])
    assert yard.types() == ["small"] * 3


def test_nobody_waits_for_a_type_that_is_tried_again():
    """It may never join, so the next type is launched beside it; those that came before the failure count."""
    yard = ScalingYard(SMALL, LARGE)
    for _ in range(2):
        yard.submit()
    first, second = yard.tick()
    yard.fail(first)
    assert yard.types() == ["large"]
    yard.fail(second)
    (large,) = (launch for launch in yard.wanted() if launch.host_type == "large")
    yard.fail(large)
    assert yard.types() == []
    assert yard.types(seconds=5) == ["small", "large"]
    assert yard.types() == []


# Strategies ---------------------------------------------------------------------------

_BASE = Candidate(name="a", place=0, price=4.0, cpu_millis=4000, jobs=4, waiting=4, spare=10, strikes=0)


@pytest.mark.parametrize(
    ("strategy", "better", "worse"),
    [
        ("BEST_FIT", {"price": 4.0}, {"price": 3.0, "jobs": 2}),
        ("BEST_FIT", {"waiting": 1, "price": 1.0, "jobs": 1}, {"waiting": 1, "jobs": 1, "price": 4.0}),
        ("BEST_FIT", {"cpu_millis": 4000}, {"cpu_millis": 8000, "jobs": 4}),
        ("BEST_FIT_PROGRESSIVE", {"cpu_millis": 8000, "price": 7.0}, {"price": 4.0}),
        ("BEST_FIT_PROGRESSIVE", {"place": 0}, {"place": 1}),
        ("BEST_FIT_PROGRESSIVE_ORDERED", {"place": 0, "price": 9.0}, {"place": 1, "price": 1.0}),
        ("SPOT_CAPACITY_OPTIMIZED", {"spare": 20, "price": 9.0}, {"spare": 10}),
        ("SPOT_CAPACITY_OPTIMIZED", {"spare": 1, "strikes": 0}, {"spare": 20, "strikes": 1}),
        ("SPOT_CAPACITY_OPTIMIZED_PRIORITIZED", {"place": 0, "spare": 1}, {"place": 1, "spare": 20}),
        ("SPOT_PRICE_CAPACITY_OPTIMIZED", {"price": 3.0, "spare": 5}, {"price": 4.0, "spare": 20}),
        ("SPOT_PRICE_CAPACITY_OPTIMIZED", {"price": 4.0}, {"price": 3.0, "strikes": 1}),
        ("SPOT_PRICE_CAPACITY_OPTIMIZED", {"price": 4.0}, {"price": 3.5, "spare": 1}),
    ],
)
def test_strategies_prefer(strategy: str, better: dict[str, Any], worse: dict[str, Any]):
    assert ORDERS[strategy](replace(_BASE, **better)) < ORDERS[strategy](replace(_BASE, **worse))


def test_every_strategy_has_an_order():
    assert set(AllocationStrategy) <= ORDERS.keys()


def test_best_fit_on_spot_may_exceed_the_bound_by_one_host():
    for capacity, launched in ((CapacityType.EC2, 1), (CapacityType.SPOT, 2)):
        yard = ScalingYard(LARGE, max_vcpus=6, type=capacity, allocation_strategy=AllocationStrategy.BEST_FIT)
        yard.submit(array_size=6)
        assert len(yard.tick()) == launched


# Laws ---------------------------------------------------------------------------------


@given(
    st.lists(st.sampled_from([500, 1000, 2000, 4000]), max_size=30),
    st.sampled_from(list(AllocationStrategy)[:2]),
    st.integers(min_value=1, max_value=20),
    st.integers(min_value=0, max_value=1 << 30),
)
def test_bounds_hold_and_all_that_fits_runs(sizes: list[int], strategy: AllocationStrategy, bound: int, seed: int):
    """Whatever fails and in whatever order hosts join: the bound holds, all jobs run, and in the end nothing is left."""
    dice = random.Random(seed)
    yard = ScalingYard(SMALL, LARGE, max_vcpus=bound, allocation_strategy=strategy, scale_down_delay_s=60)
    extra = 4 if strategy is AllocationStrategy.BEST_FIT_PROGRESSIVE else 0
    largest = bound * 1000 if extra or bound >= 4 else 1000  # of BEST_FIT a large host must be within the bound
    jobs = [yard.submit(container=container(cpu=size, memory=10)) for size in sizes if size <= largest]
    for _ in range(400):
        yard.tick(seconds=5)
        wanted = yard.wanted()
        assert sum(launch.cpu_millis for launch in wanted) < (bound + extra) * 1000 + (not extra)
        for launch in [each for each in wanted if each.state is not LaunchState.JOINED]:
            if dice.random() < 0.2:
                yard.fail(launch)
            elif dice.random() < 0.5:
                yard.arrive(launch)
        for attempt_id in list(yard.world.attempts):
            if dice.random() < 0.5:
                yard.ended(attempt_id)
        world = yard.world
        for order in orders(world.launches.values(), world.hosts, world.scaling, world.spared):
            if order.operation is Operation.STOP:
                yard.apply(ProviderAnswered(launch_id=order.launch.id, operation=Operation.STOP))
        if not world.launches and all(yard.state(job.id).is_final for job in jobs):
            break
    assert all(yard.state(job.id) is JobState.SUCCEEDED for job in jobs)
    assert not yard.world.launches
    assert not yard.world.hosts
