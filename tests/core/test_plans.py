"""Plans: what the engine finds by looking at little is what a plain search through everything finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.plain_placement import Claim, plain_claims
from tests.core.yard import Yard, container, facts

from batchyard.ids import AttemptId, HostId
from batchyard.states import EndCause, JobState
from batchyard_controller.core.attempt_reports import Phase, Report
from batchyard_controller.core.events import (
    HostJoined,
    HostLeft,
    HostMarked,
    HostReclaimed,
    HostRemoved,
    PolicyChanged,
    Ticked,
)
from batchyard_controller.core.model.attempts import AttemptEnd
from batchyard_controller.core.model.consumables import ConsumableOperation
from batchyard_controller.core.model.hosts import GpuFacts
from batchyard_controller.core.model.jobs import RetryStrategy
from batchyard_controller.core.model.policies import FairsharePolicy, SchedulingPolicy, ShareWeight
from batchyard_controller.core.model.settings import (
    AllocationStrategy,
    CapacityType,
    ComputeResources,
    DispatchOrder,
    ResourceState,
)
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement import plan
from batchyard_controller.core.requests.consumables import update_consumable
from batchyard_controller.core.requests.settings import update_queue

HOSTS = {"a": (2, 0), "b": (3, 1), "c": (3, 2), "d": (5, 0), "e": (8, 3), "f": (6, 4)}
"""Their vCPUs and GPUs; the larger ones have less memory."""
OF_ONE_KIND = "f"
"""Whose GPUs are alike; others have several kinds."""
SPOT = "bd"
MODELS = ("A100", "T4", "A100")
MEMORIES = (40_000, 16_000, 80_000)
NAMES = st.sampled_from(sorted(HOSTS))


def claims(yard: Yard, before: set[AttemptId]) -> set[Claim]:
    return {
        (a.unit_id, a.host_id, a.compute_environment, tuple((gpu.uuid, gpu.millis) for gpu in a.gpus))
        for a in yard.world.attempts.values()
        if a.id not in before
    }


class Story:
    """A small yard in which everything changes, two environments with hosts in common and a bound on one."""

    def __init__(self) -> None:
        self.yard = Yard()
        self.yard.environment("bounded", compute_resources=ComputeResources(max_vcpus=5))
        best_fit = ComputeResources(instance_types=("large",), allocation_strategy=AllocationStrategy.BEST_FIT)
        self.yard.environment("large", compute_resources=best_fit)
        self.yard.queue("q", "bounded", "large")
        self.yard.queue("strict", "bounded", dispatch_order=DispatchOrder.STRICT)
        self.yard.queue("urgent", "large", "bounded", priority=3)
        self.yard.consumable("licence", 2)
        self.yard.consumable("ticket", 4, is_replenishable=False)
        self.yard.environment("spot", compute_resources=ComputeResources(type=CapacityType.SPOT))
        self.yard.queue("mixed", "spot", "bounded")
        self.yard.queue("spotty", "spot")
        self._session = 0
        for name in "abce":
            self.join(name, is_large=name == "e", is_proven=name != "c", fault="")

    def join(self, name: str, is_large: bool, is_proven: bool, fault: str, price: float = 0.0) -> None:
        """Let a host join, or come again as another kind of host, or as one with other faults."""
        self._session += 1
        size, gpus = HOSTS[name]
        more: dict[str, Any] = {"host_type": "large"} if is_large else {}
        more |= {"purchase_option": "spot"} if name in SPOT else {}
        told = facts(name, cpu=1000 * size, memory=500 * (9 - size), price_per_hour=price, **more)
        kinds = zip(MODELS, MEMORIES, strict=True) if name not in OF_ONE_KIND else [("A100", 40_000)] * gpus
        told = replace(
            told,
            gpus=tuple(
                GpuFacts(uuid=f"GPU-{name}-{i}", model=model, memory_mib=memory, fault=fault if i else "")
                for i, (model, memory) in zip(range(gpus), kinds, strict=False)
            ),
        )
        self.yard.apply(HostJoined(host_id=HostId(name), facts=told, session=self._session))
        host = self.yard.world.hosts[HostId(name)]
        host.trust.proven_until_boot_ms = (1 << 60) * is_proven
        self.yard.world.refresh_host(host)

    def submit(
        self,
        queue: str,
        size: int,
        cpu: int,
        memory: int,
        gpu: int,
        image: str,
        timeout_s: int,
        needs: str,
        models: str,
        gpu_memory: int,
        **more: Any,
    ) -> None:
        asked = container(cpu=cpu, memory=memory, gpu=gpu, image=image)
        if gpu:
            asked = replace(asked, gpu_models=tuple(models.split()), gpu_memory_mib=gpu_memory)
        retry = RetryStrategy(spot_attempts=1) if queue in ("mixed", "spotty") else None
        consumables = ((needs, 1),) if needs else ()
        self.yard.submit(
            queue, array_size=size, container=asked, timeout_s=timeout_s, consumables=consumables, retry=retry, **more
        )

    def end(self, number: int, cause: EndCause) -> None:
        """End an attempt, or let it fail to start."""
        live = sorted(self.yard.world.attempts)
        if not live:
            return
        name = live[number % len(live)]
        if cause is EndCause.EXITED:
            self.yard.ended(name)
        else:
            end = AttemptEnd(cause=cause, stopped_at_ms=3_000)
            self.yard.report(Report(attempt_id=name, phase=Phase.ENDED, end=end))

    def start(self, number: int) -> None:
        live = sorted(self.yard.world.attempts)
        if live:
            self.yard.started(live[number % len(live)])

    def leave(self, name: str, how: str) -> None:
        host = self.yard.world.hosts.get(HostId(name))
        if host is None:
            return
        if how == "remove":
            self.yard.apply(HostRemoved(host_id=host.record.id))
        elif how == "reclaim":
            self.yard.apply(HostReclaimed(host_id=host.record.id, at_ms=0 if host.record.reclaim_at_ms else 1))
        elif how == "cordon":
            self.yard.apply(HostMarked(host_id=host.record.id, cordoned=not host.record.cordoned, draining=False))
        else:
            self.yard.apply(HostLeft(host_id=host.record.id, session=host.session))

    def wait(self, passed_s: int) -> None:
        now = self.yard.now
        self.yard.now = Instant(wall_ms=now.wall_ms + 1000 * passed_s, boot_ms=now.boot_ms + 1000 * passed_s)
        for host in self.yard.world.hosts.values():
            host.heard_boot_ms = self.yard.now.boot_ms
        self.yard.apply(Ticked())

    def cap(self, running: int, vcpus: int) -> None:
        changes = {"max_running": running, "max_vcpus": vcpus}
        self.yard.apply(update_queue(self.yard.world, "urgent", changes))

    def change_licences(self, total: int) -> None:
        """Raise or lower them, also below what is in use."""
        event = update_consumable(self.yard.world, "licence", ConsumableOperation.SET, total, "", self.yard.now)
        assert event is not None
        self.yard.apply(event)

    def turn_off(self, is_on: bool) -> None:
        state = ResourceState.ENABLED if is_on else ResourceState.DISABLED
        self.yard.environment("bounded", state=state, compute_resources=ComputeResources(max_vcpus=5))


SUBMITS: st.SearchStrategy[Callable[[Story], None]] = st.builds(
    lambda *given: lambda story: story.submit(*given),
    st.sampled_from(["q", "q", "urgent", "strict", "mixed", "spotty"]),
    st.sampled_from([0, 0, 2, 6]),
    st.sampled_from([500, 1000, 3000]),
    st.sampled_from([100, 700]),
    st.sampled_from([0, 0, 300, 400, 700, 1000, 2000]),
    st.sampled_from(["", "", "x"]),
    st.sampled_from([0, 0, 60, 600]),
    st.sampled_from(["", "", "licence", "ticket"]),
    st.sampled_from(["", "", "a100", "T4", "T4 a100"]),
    st.sampled_from([0, 0, 20_000, 50_000]),
)
STEPS: st.SearchStrategy[Callable[[Story], None]] = st.one_of(
    SUBMITS,
    SUBMITS,
    st.builds(
        lambda *given: lambda story: story.join(*given),
        NAMES,
        st.booleans(),
        st.booleans(),
        st.sampled_from(["", "", "XID 79"]),
        st.sampled_from([0.0, 0.0, 1.0, 2.0]),
    ),
    st.builds(
        lambda *given: lambda story: story.end(*given),
        st.integers(0, 99),
        st.sampled_from([EndCause.EXITED, EndCause.STOPPED, EndCause.HOST_ERROR, EndCause.IMAGE_UNAVAILABLE]),
    ),
    st.builds(lambda number: lambda story: story.start(number), st.integers(0, 99)),
    st.builds(
        lambda *given: lambda story: story.leave(*given),
        NAMES,
        st.sampled_from(["remove", "cordon", "lose", "reclaim"]),
    ),
    st.builds(lambda passed_s: lambda story: story.wait(passed_s), st.sampled_from([1, 30, 400])),
    st.builds(lambda *caps: lambda story: story.cap(*caps), st.sampled_from([0, 1, 3]), st.sampled_from([0, 0, 2])),
    st.builds(lambda total: lambda story: story.change_licences(total), st.sampled_from([0, 1, 3])),
    st.builds(lambda is_on: lambda story: story.turn_off(is_on), st.booleans()),
)


@pytest.mark.timeout(240)
@given(st.lists(st.tuples(STEPS, st.sampled_from([0, None, None, 1, 2, 3, 7])), min_size=15, max_size=50))
def test_plans_and_slices_place_as_a_plain_search_does(steps: list[tuple[Callable[[Story], None], int | None]]):
    """Whatever happened before, in one plan or in slices of any size."""
    story = Story()
    for step, steps_max in steps:
        step(story)
        if steps_max != 0:
            expected, before = plain_claims(story.yard.world, story.yard.now), set(story.yard.world.attempts)
            story.yard.plan(steps_max)
            assert claims(story.yard, before) == set(expected)


class FairStory(Story):
    """The same with queues of which shares take turns, one of them beside one in which nobody passes."""

    def __init__(self, reservation: int) -> None:
        super().__init__()
        # What is expected is looked at as rounds begin, and slices may have other rounds than plans have.
        self.yard.world.rankings.packing._patience = 1 << 60
        weights = (ShareWeight(share_identifier="a", weight_factor=0.5), ShareWeight(share_identifier="b*"))
        fairshare = FairsharePolicy(share_distribution=weights, compute_reservation=reservation)
        self.yard.apply(PolicyChanged(policy=SchedulingPolicy(name="p", fairshare=fairshare)))
        self.yard.queue("fair", "bounded", "large", scheduling_policy="p")
        self.yard.queue("shared", "large", "spot", scheduling_policy="p")
        self.yard.queue("rigid", "large", scheduling_policy="p", dispatch_order=DispatchOrder.STRICT, priority=3)


SHARED_SUBMITS: st.SearchStrategy[Callable[[Story], None]] = st.builds(
    lambda queue, size, cpu, gpu, timeout_s, share, priority: (
        lambda story: story.submit(
            queue, size, cpu, 100, gpu, "", timeout_s, "", "", 0, share_identifier=share, scheduling_priority=priority
        )
    ),
    st.sampled_from(["fair", "fair", "shared", "rigid"]),
    st.sampled_from([0, 0, 2, 6]),
    st.sampled_from([500, 1000, 3000]),
    st.sampled_from([0, 0, 0, 300, 1000]),
    st.sampled_from([0, 60, 600]),
    st.sampled_from(["a", "b1", "b2", "c"]),
    st.sampled_from([0, 0, 0, 5]),
)


@pytest.mark.timeout(240)
@given(
    st.sampled_from([0, 0, 30]),
    st.lists(
        st.tuples(st.one_of(SHARED_SUBMITS, SHARED_SUBMITS, STEPS), st.sampled_from([0, 1, 1, 2, 3, 7])),
        min_size=15,
        max_size=50,
    ),
)
def test_slices_place_as_one_plan_does_where_shares_take_turns(
    reservation: int, steps: list[tuple[Callable[[Story], None], int]]
):
    """Two yards of which one makes one plan at a time, and the other one slices."""
    whole, sliced = FairStory(reservation), FairStory(reservation)
    for step, steps_max in steps:
        step(whole)
        step(sliced)
        if steps_max:
            whole.yard.plan()
            sliced.yard.plan(steps_max)
            assert claims(sliced.yard, set()) == claims(whole.yard, set())


@pytest.fixture
def yard() -> Yard:
    made = Yard()
    made.environment()
    made.queue()
    return made


def test_a_slice_ends_after_its_work_and_asks_for_the_next(yard: Yard):
    """What is committed meanwhile is true for the next one."""
    yard.host("h", cpu=9000)
    jobs = [yard.submit(container=container(cpu=1000 + i % 2)) for i in range(6)]
    first = yard.slice(2)
    assert (len(first.placements), first.is_whole) == (2, False)
    assert yard.world.wants_plan
    yard.cancel(jobs[2].id)
    yard.host("tight", cpu=1001)
    yard.plan(2)
    assert yard.live() == {f"{job.id}#1": "tight" if job is jobs[3] else "h" for job in jobs if job is not jobs[2]}
    assert not yard.slice(2).placements


def test_a_round_of_many_lines_begins_in_slices_too(yard: Yard, monkeypatch: pytest.MonkeyPatch):
    """No slice puts all lines in order, and the first in order is the one that is placed."""
    monkeypatch.setattr(plan, "_LINES_A_SLICE", 4)
    yard.host("h")
    yard.submit(container=container(cpu=4000), timeout_s=60)
    yard.plan(1)
    jobs = [yard.submit(container=container(cpu=4000), timeout_s=600 - i) for i in range(9)]
    slices = [yard.slice(100) for _ in range(3)]
    assert [(each.refused, each.ends_round, each.is_whole) for each in slices[:2]] == [((), True, False)] * 2
    assert len(slices[2].refused) == 9
    yard.ended(next(iter(yard.world.attempts)))
    jobs.append(yard.submit(container=container(cpu=4000), timeout_s=300))
    yard.plan(100)
    assert [job.state for job in jobs].index(JobState.STARTING) == 9


def test_nobody_waits_behind_those_who_are_refused_again_and_again(yard: Yard):
    """A yard that grows with every turn asks all of them, the later ones too."""
    yard.host("h", cpu=2000)
    for i in range(40):
        yard.submit(container=container(cpu=3000 + i))
    last = yard.submit()
    for _ in range(15):
        yard.world.fleet.grown += 1
        yard.slice(4)
    assert last.state is JobState.STARTING


def test_who_was_refused_is_asked_again_before_later_ones_if_the_yard_has_grown(yard: Yard):
    """Between two slices, too."""
    yard.host("h", cpu=2000)
    large = yard.submit(container=container(cpu=4000))
    for i in range(8):
        yard.submit(container=container(cpu=500, memory=100 + i))
    assert not yard.slice(4).is_whole
    yard.host("new", cpu=4000)
    yard.slice(4)
    assert large.state is JobState.STARTING


def test_a_plan_that_is_thrown_away_leaves_nothing_behind(yard: Yard):
    """It may be made again, and says the same."""
    yard.host("h", cpu=1000)
    yard.submit()
    yard.submit()
    made = yard.make_plan()
    assert (len(made.placements), len(made.refused)) == (1, 1)
    assert yard.make_plan() == made


def test_a_gpu_that_is_mended_is_not_given_twice(yard: Yard):
    """Who had it while it was said to be faulty has it still."""
    yard.host("h", gpus=2)
    first = yard.submit(container=container(gpu=1000))
    yard.plan()
    (held,) = [gpu.uuid for a in yard.world.attempts.values() for gpu in a.gpus]
    for fault in ("XID 79", ""):
        gpus = tuple(GpuFacts(uuid=f"GPU-h-{i}", fault=fault if f"GPU-h-{i}" == held else "") for i in range(2))
        report = Report(attempt_id=AttemptId(f"{first.id}#1"), phase=Phase.RUNNING, started_at_ms=1)
        told = replace(facts("h"), gpus=gpus)
        yard.apply(HostJoined(host_id=HostId("h"), facts=told, session=2, reports=(report,)))
    second = yard.submit(container=container(gpu=1000))
    yard.plan()
    assert second.state is JobState.STARTING
    assert len({gpu.uuid for a in yard.world.attempts.values() for gpu in a.gpus}) == 2


def test_a_host_that_is_another_at_each_word_is_judged_as_it_is(yard: Yard):
    """Its former kinds are forgotten in time, and rankings look again."""
    yard.host("h")
    yard.environment("ce", compute_resources=ComputeResources(labels=(("turn", "1200"),)))
    fleet = yard.world.fleet
    for turn in range(1, 1201):
        fleet.set_host(HostId("h"), facts("h", labels=(("turn", str(turn)),)))
        if turn == 1100:
            yard.submit()
            yard.plan()
            assert not yard.live()
    assert len(fleet.kinds) < 1100
    yard.plan()
    assert list(yard.live().values()) == ["h"]
