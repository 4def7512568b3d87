"""Mixed yards: queues with quota shares, with fair shares, plain ones and ones that preempt, on the same hosts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.test_node_laws import nodes
from tests.core.test_quota_shares import BORROW, LEND, share, use
from tests.core.yard import EPOCH, Yard, container

from batchyard.states import EndCause
from batchyard_controller.core.events import Planned, PolicyChanged, QuotaShareChanged
from batchyard_controller.core.model.policies import QuotaSharePolicy, SchedulingPolicy, ShareWeight
from batchyard_controller.core.model.quota_shares import SharingStrategy
from batchyard_controller.core.model.settings import DispatchOrder, Preemption
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement.plan import Plan
from batchyard_controller.core.placement.quotas import use_of

HOSTS = {"one": (5, 2), "two": (4, 0), "three": (3, 1)}
"""Their vCPUs and GPUs."""
NAMES = ("lender", "borrower", "closed", "a", "b")
QUEUES = ("q", "q", "q", "fair", "plain", "alike", "urgent", "low")


def _shares() -> dict[str, Any]:
    made = [
        share("lender", LEND, {"VCPU": 4, "GPU": 1}),
        share("borrower", BORROW, {"VCPU": 3, "GPU": 1}, borrow_limit=100, in_share_preemption=True),
        share("closed", limits={"VCPU": 2}),
    ]
    return {each.name: each for each in made}


class Story:
    """A small yard of all kinds of queues."""

    def __init__(self, order: DispatchOrder, *, stops: bool) -> None:
        self.yard = yard = Yard()
        # What is expected is looked at as rounds begin, and slices may have other rounds than plans have.
        yard.world.rankings.packing._patience = 1 << 60
        yard.environment()
        yard.apply(PolicyChanged(policy=SchedulingPolicy(name="quota", quota_share=QuotaSharePolicy())))
        yard.policy("p", ShareWeight(share_identifier="a"), ShareWeight(share_identifier="b"))
        taking: dict[str, Any] = {"preemption": Preemption.LOWER_PRIORITY} if stops else {}
        yard.queue("q", priority=2, scheduling_policy="quota", preemptible=stops, **taking)
        yard.queue("fair", priority=2, scheduling_policy="p", preemptible=stops)
        yard.queue("plain", priority=2, dispatch_order=order)
        yard.queue("alike", priority=3, dispatch_order=order)
        yard.queue("urgent", priority=4, dispatch_order=order, **taking)
        yard.queue("low", priority=1, preemptible=stops)
        for each in _shares().values():
            yard.apply(QuotaShareChanged(share=each))
        for name, (cpu, gpus) in HOSTS.items():
            yard.host(name, cpu=1000 * cpu, gpus=gpus)
        self.has_stopped = False

    def submit(self, queue: str, number: int, cpu: int, gpu: int, size: int, priority: int, timeout_s: int) -> None:
        name = {"q": NAMES[number % 3], "fair": NAMES[3 + number % 2]}.get(queue, "")
        more = {"share_identifier": name, "scheduling_priority": priority} if name else {}
        what = container(cpu=cpu, gpu=gpu)
        self.yard.submit(queue, array_size=size, container=what, timeout_s=timeout_s, **more)

    def submit_gang(self, queue: str, number: int, cpu: int, size: int, priority: int) -> None:
        name = {"q": NAMES[number % 3], "fair": NAMES[3 + number % 2]}.get(queue, "")
        more = {"share_identifier": name, "scheduling_priority": priority} if name else {}
        self.yard.submit(queue, nodes=nodes(size, cpu=cpu), task=None, container=None, **more)

    def end(self, number: int) -> None:
        live = sorted(self.yard.live())
        if live:
            self.yard.ended(live[number % len(live)])

    def cancel(self, number: int) -> None:
        waiting = [job for job in self.yard.world.jobs.values() if not job.state.is_final]
        if waiting:
            self.yard.cancel(waiting[number % len(waiting)].id)

    def stop(self) -> None:
        """Let those end who are told to."""
        for name in sorted(a.id for a in self.yard.world.attempts.values() if a.preempted_for):
            self.yard.ended(name, 137, EndCause.STOPPED)

    def plan(self, steps_max: int | None) -> int:
        """Plan in slices, look at each, and return how many were told to stop."""
        world, told, plans = self.yard.world, 0, 0
        world.wants_plan = True
        while world.wants_plan:
            plans += 1
            assert plans < 300, "each plan asks for another"
            world.wants_plan = False
            plan, before = self.yard.make_plan(steps_max), use_of_quota(world)
            _check_evictions(world, plan)
            self.yard.apply(Planned(plan=plan, epoch=EPOCH))
            _check_use(before, use_of_quota(world))
            told += sum(len(eviction.attempt_ids) for eviction in plan.evictions)
        now = self.yard.now
        self.yard.now = Instant(wall_ms=now.wall_ms + 1000, boot_ms=now.boot_ms + 1000)
        self.has_stopped |= bool(told)
        return told


def use_of_quota(world: Any) -> dict[str, dict[str, int]]:
    """Return what the shares of the quota queue use, by unit of capacity."""
    return {unit: {name: used[name] for name in _shares()} for unit, used in use(world).items()}


def _check_use(before: dict[str, dict[str, int]], after: dict[str, dict[str, int]]) -> None:
    """The limits stand; who lends is not lent from twice, who reserves lends nothing, and who may borrow does so within bounds."""
    for unit, now in after.items():
        was, shares = before.get(unit, dict.fromkeys(now, 0)), _shares()
        limits = {
            name: sum(1000 * limit.max_capacity for limit in each.capacity_limits if limit.capacity_unit == unit)
            for name, each in shares.items()
        }
        if not any(limits.values()):
            continue
        assert sum(now.values()) <= sum(limits.values()), f"all use too much {unit}: {now}"
        borrowed = {name: max(0, used - limits[name]) for name, used in now.items()}
        lenders = [name for name, each in shares.items() if each.sharing_strategy is not SharingStrategy.RESERVE]
        assert sum(borrowed.values()) <= sum(max(0, limits[name] - now[name]) for name in lenders), f"{now}, {was}"
        assert not borrowed["lender"] + borrowed["closed"]
        assert borrowed["borrower"] <= limits["borrower"]


def _check_evictions(world: Any, plan: Plan) -> None:
    """Who is stopped is of a queue of lower priority that allows it, or a share that borrows or is of lower rank."""
    for eviction in plan.evictions:
        spec = world.jobs[eviction.job_id].spec
        for attempt in (world.attempts[name] for name in eviction.attempt_ids):
            assert not attempt.is_stopping
            other = world.unit_of(attempt).job.spec
            if other.queue != spec.queue:
                assert world.queues[spec.queue].preemption is Preemption.LOWER_PRIORITY
                assert world.queues[other.queue].preemptible
                assert world.queues[other.queue].priority < world.queues[spec.queue].priority
            elif other.share_identifier == spec.share_identifier:
                assert (other.scheduling_priority or 0) < (spec.scheduling_priority or 0)
            else:
                assert (spec.queue, other.share_identifier) == ("q", "borrower")


SUBMITS: st.SearchStrategy[Callable[[Story], Any]] = st.builds(
    lambda *given: lambda story: story.submit(*given),
    st.sampled_from(QUEUES),
    st.integers(0, 5),
    st.sampled_from([500, 1000, 2000, 3000, 4000]),
    st.sampled_from([0, 0, 0, 500, 1000]),
    st.sampled_from([0, 0, 3]),
    st.sampled_from([0, 0, 1, 2]),
    st.sampled_from([0, 0, 60, 600, 3600]),
)
STEPS: st.SearchStrategy[Callable[[Story], Any]] = st.one_of(
    SUBMITS,
    SUBMITS,
    st.builds(
        lambda *given: lambda story: story.submit_gang(*given),
        st.sampled_from(QUEUES),
        st.integers(0, 5),
        st.sampled_from([500, 1000, 2000, 3000]),
        st.sampled_from([2, 3]),
        st.sampled_from([0, 1, 2]),
    ),
    st.just(Story.stop),
    st.builds(lambda number: lambda story: story.end(number), st.integers(0, 99)),
    st.builds(lambda number: lambda story: story.cancel(number), st.integers(0, 99)),
)


@pytest.mark.timeout(300)
@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(DispatchOrder),
    st.lists(st.tuples(STEPS, st.sampled_from([0, None, 1, 3])), min_size=8, max_size=40),
)
def test_a_mixed_yard_keeps_all_its_laws_and_comes_to_rest(
    order: DispatchOrder, steps: list[tuple[Callable[[Story], Any], int | None]]
):
    """Nobody is stopped for ever, nobody waits beside room that he may have, and all run in the end."""
    story = Story(order, stops=True)
    for step, steps_max in steps:
        step(story)
        if steps_max != 0:
            story.plan(steps_max)
    for _ in range(100):
        story.stop()
        if not story.plan(None):
            break
    else:
        raise AssertionError("they stop each other for ever")
    _check_nobody_waits_beside_room(story.yard)
    for _ in range(2000):
        if not story.yard.world.attempts:
            break
        if any(a.preempted_for for a in story.yard.world.attempts.values()):
            story.stop()
        else:
            story.end(0)
        story.plan(None)
    for queue in story.yard.world.queues:
        for line in story.yard.world.lines.of_queue(queue):
            assert not _may_run(story.yard, line.shape), f"{line.shape} waits for ever"


def _check_nobody_waits_beside_room(yard: Yard) -> None:
    """But where the room is promised to another, or one before him in a queue in which nobody passes waits."""
    world = yard.world
    for name, queue in world.queues.items():
        if queue.dispatch_order is DispatchOrder.STRICT:
            continue
        for line in world.lines.of_queue(name):
            unit = line.head()
            kept = {r.host_id for r in world.reservations if not r.is_for(unit.job.id, unit.index)}
            free = [host for host in world.hosts if host not in kept and _has_room(world, host, line.shape)]
            is_beside = bool(free) and not line.shape.parts  # which need more than one
            assert not is_beside or not _may_use(world, line.shape), f"{line.shape} waits beside {free}"


def _has_room(world: Any, host_id: str, shape: Any) -> bool:
    cpu, gpus = HOSTS[host_id]
    attempts = world.hosts[host_id].attempts.values()
    free = [1000] * gpus
    for attempt in attempts:
        for gpu in attempt.gpus:
            free[int(gpu.uuid.rpartition("-")[2])] -= gpu.millis
    asked = shape.resources
    left = 1000 * cpu - sum(world.unit_of(attempt).task.resources.cpu_millis for attempt in attempts)
    return left >= asked.cpu_millis and (not asked.gpu_millis or max(free, default=0) >= asked.gpu_millis)


def _may_use(world: Any, shape: Any) -> bool:
    quota = world.fleet.quotas.of(shape.queue)
    return quota is None or not quota.ledger.lacks(shape.share, use_of(shape.resources))


def _may_run(yard: Yard, shape: Any) -> bool:
    """Say whether there is a host for it in an empty yard."""
    if shape.parts:  # of two or three nodes, for which the hosts are large enough
        return _may_use(yard.world, shape)
    return _may_use(yard.world, shape) and any(_has_room(yard.world, host_id, shape) for host_id in yard.world.hosts)


@pytest.mark.timeout(300)
@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(DispatchOrder),
    st.lists(st.tuples(STEPS, st.sampled_from([0, 1, 2, 3, 7])), min_size=8, max_size=40),
)
def test_slices_place_as_one_plan_does_in_a_mixed_yard(
    order: DispatchOrder, steps: list[tuple[Callable[[Story], Any], int]]
):
    """As long as nobody is stopped: who is may be another in slices."""
    whole, sliced = Story(order, stops=False), Story(order, stops=False)
    for step, steps_max in steps:
        step(whole)
        step(sliced)
        if steps_max:
            whole.plan(None)
            sliced.plan(steps_max)
            if whole.has_stopped or sliced.has_stopped:
                return
            assert sliced.yard.live() == whole.yard.live()
