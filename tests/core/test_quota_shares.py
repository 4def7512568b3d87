"""Quota shares: who uses whose capacity, and how it is given back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.law import Shelf
from tests.core.yard import EPOCH, Yard, container

from batchyard.states import EndCause, JobState
from batchyard_controller.core.attempt_reports import Phase, Report
from batchyard_controller.core.events import Planned, PolicyChanged, QueueDeleted, QuotaShareChanged
from batchyard_controller.core.model.policies import QuotaSharePolicy, SchedulingPolicy
from batchyard_controller.core.model.quota_shares import CapacityLimit, QuotaShare, SharingStrategy
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement.quotas import SCALES, Ledger, use_of
from batchyard_controller.core.requests.quota_shares import update_quota_share
from batchyard_controller.core.requests.submissions import update_job

RESERVE, LEND, BORROW = SharingStrategy


def share(
    name: str, strategy: SharingStrategy = RESERVE, limits: dict[str, int] | None = None, **fields: Any
) -> QuotaShare:
    return QuotaShare(
        job_queue="q",
        name=name,
        sharing_strategy=strategy,
        capacity_limits=tuple(
            CapacityLimit(capacity_unit=unit, max_capacity=most) for unit, most in (limits or {"VCPU": 4}).items()
        ),
        **fields,
    )


def shared_yard(*shares: QuotaShare, **host: Any) -> Yard:
    yard = Yard()
    yard.environment()
    yard.apply(PolicyChanged(policy=SchedulingPolicy(name="quota", quota_share=QuotaSharePolicy())))
    yard.queue("q", scheduling_policy="quota")
    for each in shares:
        yard.apply(QuotaShareChanged(share=each))
    if host:
        yard.host("h", **host)
    return yard


def submit(yard: Yard, name: str, cpu: int = 1000, gpu: int = 0, size: int = 0, priority: int = 0) -> Any:
    return yard.submit(
        "q",
        share_identifier=name,
        scheduling_priority=priority,
        array_size=size,
        container=container(cpu=cpu, gpu=gpu),
    )


def use(world: Any) -> dict[str, Counter[str]]:
    """Return what the live attempts of each share use, by unit of capacity, reckoned afresh."""
    used: dict[str, Counter[str]] = {}
    for attempt in world.attempts.values():
        unit = world.unit_of(attempt)
        host_type = world.hosts[attempt.host_id].record.facts.host_type
        for name, amount in use_of(unit.task.resources, host_type).items():
            used.setdefault(name, Counter())[unit.job.spec.share_identifier] += amount
    return used


def stopping(yard: Yard) -> list[str]:
    return sorted(a.id for a in yard.world.attempts.values() if a.preempted_for)


def stop(yard: Yard) -> None:
    """Let those end who are told to."""
    for name in stopping(yard):
        yard.ended(name, 137, EndCause.STOPPED)


# The ledger ---------------------------------------------------------------------------

LIMITS = st.integers(1, 6)
SHARES = st.lists(
    st.tuples(st.sampled_from([RESERVE, LEND, BORROW]), LIMITS, st.sampled_from([-1, 0, 50, 100, 250])),
    min_size=1,
    max_size=4,
)


@given(SHARES, st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), max_size=30))
def test_a_ledger_admits_what_limits_loans_and_borrow_limits_leave(
    given_shares: list[tuple[SharingStrategy, int, int]], asks: list[tuple[int, int]]
):
    """Of what is admitted one after the other: all use no more than all have, RESERVE lends nothing, and loans are bounded."""
    shares = {
        f"s{i}": share(f"s{i}", strategy, {"VCPU": limit}, borrow_limit=borrow if strategy is BORROW else -1)
        for i, (strategy, limit, borrow) in enumerate(given_shares)
    }
    limits = {f"s{i}": limit * 1000 for i, (_, limit, _) in enumerate(given_shares)}
    ledger = Ledger()
    ledger.set_shares(shares.values())
    used: Counter[str] = Counter()
    for number, cpu in asks:
        name = f"s{number % len(shares)}"
        asked = {"VCPU": cpu * 1000}
        may = ledger.lacks(name, asked) == []
        then = used + Counter({name: cpu * 1000})
        borrowed = {each: max(0, then[each] - limits[each]) for each in shares}
        idle = sum(max(0, limits[e] - then[e]) for e in shares if shares[e].sharing_strategy is not RESERVE)
        percent = shares[name].borrow_limit
        is_bounded = percent == -1 or borrowed[name] <= limits[name] * percent // 100
        borrows = borrowed[name] > 0
        is_lent = sum(borrowed.values()) <= idle or (not borrows and shares[name].sharing_strategy is RESERVE)
        assert may == (is_lent and (not borrows or (shares[name].sharing_strategy is BORROW and is_bounded)))
        if may:
            ledger.add(name, asked)
            used = then
        assert sum(used.values()) <= sum(limits.values())
        accounts = [ledger.account(each, "VCPU") for each in shares]
        assert sum(account.lent for account in accounts) == sum(account.borrowed for account in accounts)
        assert all(a.lent == 0 for a, s in zip(accounts, shares.values(), strict=True) if s.sharing_strategy is RESERVE)
        assert [account.used for account in accounts] == [used[each] for each in shares]


def test_a_unit_that_only_others_list_is_none_of_ones_own():
    """A share without a limit of GPUs has none, though it may borrow some; one that nobody lists is not counted."""
    yard = shared_yard(share("a", LEND, {"VCPU": 4, "GPU": 1}), share("b", BORROW), share("c"), cpu=16000, gpus=2)
    borrower, other = submit(yard, "b", gpu=1000), submit(yard, "c", gpu=1000)
    yard.plan()
    assert yard.state(borrower.id) is JobState.STARTING
    assert yard.state(other.id) is JobState.RUNNABLE
    assert "1 GPU asked, quota share c of queue q uses 0 of its limit of 0 and borrows nothing" in str(yard.refusals())


def test_jobs_on_hosts_of_a_type_are_counted():
    """A share has its limit on hosts of that type; on others it is free."""
    yard = shared_yard(share("a", RESERVE, {"big": 2}), cpu=8000, host_type="big")
    jobs = submit(yard, "a", size=3)
    yard.plan()
    assert jobs.children.count(JobState.STARTING) == 2
    assert "1 big asked, quota share a of queue q uses 2 of its limit of 2" in str(yard.refusals())
    yard.host("small", cpu=1000, host_type="small")
    yard.plan()
    assert jobs.children.count(JobState.STARTING) == 3


# Whom others give way to ----------------------------------------------------------------


def test_who_is_stopped_may_be_on_another_host():
    """There is room on one host, and capacity only if one is stopped on another."""
    yard = shared_yard(share("own", LEND, {"VCPU": 2}), share("guest", BORROW, {"VCPU": 1}), cpu=3000)
    guests = submit(yard, "guest", size=3)
    yard.plan()
    assert guests.children.count(JobState.STARTING) == 3
    yard.host("other", cpu=4000)
    own = submit(yard, "own", cpu=2000)
    yard.plan()
    assert len(stopping(yard)) == 2
    assert yard.state(own.id) is JobState.RUNNABLE, "what is used by those who leave is not free yet"
    stop(yard)
    yard.plan()
    assert yard.state(own.id) is JobState.STARTING
    assert guests.children.count(JobState.STARTING) == 1


def test_room_is_kept_for_the_owner():
    """What was given back is not borrowed again before its owner has it."""
    yard = shared_yard(share("own", LEND, {"VCPU": 3}), share("guest", BORROW, {"VCPU": 1}), cpu=4000)
    submit(yard, "guest", size=4)
    yard.plan()
    own = submit(yard, "own", cpu=3000)
    yard.plan()
    first, *rest = stopping(yard)
    assert len(rest) == 2
    yard.ended(first, 137, EndCause.STOPPED)
    submit(yard, "guest", cpu=500)
    yard.plan()
    assert yard.state(own.id) is JobState.RUNNABLE
    assert len(yard.live()) == 3, "nobody took a part of it"
    stop(yard)
    yard.plan()
    assert yard.state(own.id) is JobState.STARTING


def test_lowered_limits_make_way_whatever_the_strategy():
    """A share that was given less holds more than its own; another within its own gets that."""
    yard = shared_yard(share("a"), share("b", RESERVE, {"VCPU": 4}), cpu=8000)
    for name in ("a", "b"):
        submit(yard, name, size=4)
    yard.plan()
    fewer = (CapacityLimit(capacity_unit="VCPU", max_capacity=1),)
    yard.apply(update_quota_share(yard.world, "q", "a", {"capacity_limits": fewer}))
    yard.plan()
    assert not stopping(yard), "nobody waits"
    more = (CapacityLimit(capacity_unit="VCPU", max_capacity=6),)
    yard.apply(update_quota_share(yard.world, "q", "b", {"capacity_limits": more}))
    submit(yard, "b", cpu=2000)
    yard.plan()
    assert len(stopping(yard)) == 3, "all use 8 of the 7 that there are, and 2 more are asked"


def test_within_a_share_priority_goes_first_where_it_says_so():
    """The one of lower scheduling priority is stopped, of this share alone."""
    for is_enabled in (True, False):
        yard = shared_yard(share("a", in_share_preemption=is_enabled, limits={"VCPU": 1}), share("b"), cpu=8000)
        low, other = submit(yard, "a", priority=1), submit(yard, "b", priority=0)
        yard.plan()
        high = submit(yard, "a", priority=5)
        yard.plan()
        assert stopping(yard) == ([f"{low.id}#1"] if is_enabled else [])
        stop(yard)
        yard.plan()
        assert yard.state(high.id) is (JobState.STARTING if is_enabled else JobState.RUNNABLE)
        assert yard.state(other.id) is JobState.STARTING
        assert low.attempts == () or low.attempts[0].gave_back is False


def test_who_borrows_stops_nobody():
    """Idle capacity that another borrowed first is his."""
    yard = shared_yard(share("own", LEND), share("a", BORROW, {"VCPU": 1}), share("b", BORROW, {"VCPU": 1}), cpu=16000)
    submit(yard, "a", size=5)
    yard.plan()
    late = submit(yard, "b", size=2)
    yard.plan()
    assert not stopping(yard)
    assert late.children.count(JobState.STARTING) == 1


def test_what_is_ones_own_is_not_taken_for_want_of_room():
    """A full host is cleared of what was borrowed, and not of those who could start again by right."""
    yard = shared_yard(share("own"), share("guest", BORROW, {"VCPU": 3}), share("idle", LEND), cpu=4000)
    for cpu in (1000, 3000):
        submit(yard, "guest", cpu=cpu)
    yard.plan()
    submit(yard, "own", cpu=4000)
    yard.plan()
    assert not stopping(yard), "without both there would be room, but one of them is within what is its share's own"
    yard.ended(next(iter(yard.live())))
    submit(yard, "guest", cpu=1000)
    small = submit(yard, "own", cpu=1000)
    yard.plan()
    assert len(stopping(yard)) <= 1
    stop(yard)
    yard.plan()
    assert yard.state(small.id) is JobState.STARTING


def test_one_who_would_do_is_found_behind_those_who_would_not():
    """Either may be stopped, and not both; the one that counts less has too little memory."""
    limits = {"VCPU": 3, "MEMORY_MIB": 4000}
    yard = shared_yard(share("own", LEND, limits), share("guest", BORROW, limits), cpu=16000)
    large = yard.submit("q", share_identifier="guest", container=container(cpu=2000, memory=3000))
    yard.submit("q", share_identifier="guest", container=container(cpu=2000, memory=100))
    yard.plan()
    assert len(yard.live()) == 2
    own = yard.submit("q", share_identifier="own", container=container(cpu=1000, memory=3000))
    yard.plan()
    assert stopping(yard) == [f"{large.id}#1"]
    stop(yard)
    yard.plan()
    assert yard.state(own.id) is JobState.STARTING


def test_several_who_would_do_are_found_by_what_is_lacking():
    """Those with most memory, if it is memory that the host lacks, and not those with most vCPUs."""
    limits = {"VCPU": 4, "MEMORY_MIB": 4000}
    yard = shared_yard(share("own", LEND, limits), share("guest", BORROW, limits), cpu=16000)
    for cpu, memory in ((1000, 1500), (1000, 1500), (2000, 100), (2000, 100)):
        yard.submit("q", share_identifier="guest", container=container(cpu=cpu, memory=memory))
    yard.plan()
    assert len(yard.live()) == 4
    own = yard.submit("q", share_identifier="own", container=container(cpu=1000, memory=3800))
    yard.plan()
    assert len(stopping(yard)) == 2
    stop(yard)
    yard.plan()
    assert yard.state(own.id) is JobState.STARTING


def test_who_has_borrowed_longest_waited_borrows_first():
    """Idle capacity goes to those who came first, of whichever share."""
    yard = shared_yard(
        share("own", LEND, {"VCPU": 1}), share("z", BORROW, {"VCPU": 1}), share("a", BORROW, {"VCPU": 1}), cpu=16000
    )
    first = submit(yard, "z", size=2)
    second = submit(yard, "a", size=2)
    yard.plan()
    assert first.children.count(JobState.STARTING) == 2
    assert second.children.count(JobState.STARTING) == 1


def test_a_deleted_queue_of_the_same_name_starts_with_what_is_left():
    """Attempts of the former queue's jobs use capacity until they have ended."""
    yard = shared_yard(share("a", limits={"VCPU": 2}), cpu=8000)
    submit(yard, "a", cpu=2000)
    yard.plan()
    yard.apply(QueueDeleted(name="q"))
    assert not yard.world.quota_shares
    yard.queue("q", scheduling_policy="quota")
    yard.apply(QuotaShareChanged(share=share("a", limits={"VCPU": 2})))
    again = submit(yard, "a")
    yard.plan()
    assert yard.state(again.id) is JobState.RUNNABLE
    for name in list(yard.live()):
        yard.ended(name, 137, EndCause.STOPPED)
    yard.plan()
    assert yard.state(again.id) is JobState.STARTING


# Whatever happens -------------------------------------------------------------------------

NAMES = ("lender", "borrower", "bounded", "closed", "strict")


def _story_shares() -> list[QuotaShare]:
    return [
        share("lender", LEND, {"VCPU": 3, "GPU": 1}),
        share("borrower", BORROW, {"VCPU": 3, "GPU": 1}, in_share_preemption=True),
        share("bounded", BORROW, {"VCPU": 2}, borrow_limit=100),
        share("closed", RESERVE, {"VCPU": 2}),
        share("strict", BORROW, {"VCPU": 1, "big": 1}, in_share_preemption=True),
    ]


class Story:
    """A small yard in which jobs come, borrow, give back and end."""

    def __init__(self, is_roomy: bool) -> None:
        self.yard = shared_yard(*_story_shares())
        self.is_roomy = is_roomy
        for name, host_type in (("h1", "big"), ("h2", "")):
            self.yard.host(name, cpu=64_000 if is_roomy else 5000, memory=1 << 20, gpus=2, host_type=host_type)
        self._shelf = Shelf()

    def submit(self, name: str, cpu: int, gpu: int, size: int, priority: int) -> None:
        submit(self.yard, name, cpu, gpu, size, priority)

    def change(self, name: str, most: int) -> None:
        limits = (CapacityLimit(capacity_unit="VCPU", max_capacity=most),)
        self.yard.apply(update_quota_share(self.yard.world, "q", name, {"capacity_limits": limits}))

    def end(self, number: int) -> None:
        live = sorted(self.yard.live())
        if live:
            self.yard.ended(live[number % len(live)])

    def stop(self) -> None:
        stop(self.yard)

    def rank(self, number: int, priority: int) -> None:
        waiting = [job for job in self.yard.world.jobs.values() if not job.state.is_final]
        if waiting:
            event = update_job(self.yard.world, waiting[number % len(waiting)].id, priority)
            if event is not None:
                self.yard.apply(event)

    def store(self) -> None:
        """Store all, and see that a new leader would find it so."""
        self._shelf.check(self.yard.world, self.yard.now)

    def plan(self, steps_max: int | None) -> int:
        """Plan in slices, check each, and return how many were told to stop."""
        world, evicted = self.yard.world, 0
        world.wants_plan = True
        while world.wants_plan:
            world.wants_plan = False
            plan = self.yard.make_plan(steps_max)
            _check_evictions(world, plan)
            before = use(world)
            self.yard.apply(Planned(plan=plan, epoch=EPOCH))
            _check_use(world, before)
            evicted += sum(len(eviction.attempt_ids) for eviction in plan.evictions)
        now = self.yard.now
        self.yard.now = Instant(wall_ms=now.wall_ms + 1000, boot_ms=now.boot_ms + 1000)
        return evicted


def _limits(world: Any) -> dict[str, dict[str, int]]:
    limits: dict[str, dict[str, int]] = {}
    for each in world.quota_shares.values():
        for limit in each.capacity_limits:
            of_unit = limits.setdefault(limit.capacity_unit, dict.fromkeys(NAMES, 0))
            of_unit[each.name] = limit.max_capacity * SCALES.get(limit.capacity_unit, 1)
    return limits


def _check_use(world: Any, before: dict[str, Counter[str]]) -> None:
    """What started has brought no use above what the laws allow."""
    after, shares = use(world), {each.name: each for each in world.quota_shares.values()}
    for unit, limits in _limits(world).items():
        was, now = before.get(unit, Counter()), after.get(unit, Counter())
        assert sum(now.values()) <= max(sum(limits.values()), sum(was.values())), f"all use too much {unit}: {now}"
        for name, limit in limits.items():
            strategy, percent = shares[name].sharing_strategy, shares[name].borrow_limit
            most = limit if strategy is not BORROW else 10**9 if percent == -1 else limit + limit * percent // 100
            assert now[name] <= max(most, was[name]), f"{name} uses {now[name]} {unit}"
        assert _overdraft(now, limits, shares) <= max(0, _overdraft(was, limits, shares)), f"{unit} is lent twice"


def _overdraft(used: Counter[str], limits: dict[str, int], shares: dict[str, QuotaShare]) -> int:
    idle = sum(max(0, limits[n] - used[n]) for n, each in shares.items() if each.sharing_strategy is not RESERVE)
    return sum(max(0, used[n] - limits[n]) for n in limits) - idle


def _check_evictions(world: Any, plan: Any) -> None:
    """Others give way to what is within a share's own; in a share those of lower priority, where it says so."""
    limits, shares = _limits(world), {each.name: each for each in world.quota_shares.values()}
    used = use(world)
    for eviction in plan.evictions:
        job = world.jobs[eviction.job_id]
        name = job.spec.share_identifier
        for attempt in (world.attempts[each] for each in eviction.attempt_ids):
            assert not attempt.is_stopping
            other = world.unit_of(attempt)
            if other.job.spec.share_identifier == name:
                assert shares[name].in_share_preemption
                assert (other.job.spec.scheduling_priority or 0) < (job.spec.scheduling_priority or 0)
                continue
            its_use = use_of(other.task.resources, world.hosts[attempt.host_id].record.facts.host_type)
            its_share = other.job.spec.share_identifier
            assert any(
                used[u][its_share] + _promised(world, plan, its_share, u) > limits[u][its_share]
                for u in its_use
                if u in limits
            ), "it borrows nothing"
            asked = use_of(job.spec.task.resources)
            own = Counter({u: used.get(u, Counter())[name] for u in asked})
            assert all(
                own[u] + amount <= limits[u][name] + _leaving(world, plan, name, u)
                for u, amount in asked.items()
                if u in limits
            )


def _promised(world: Any, plan: Any, name: str, unit: str) -> int:
    """Return what units of a share will use for which room is cleared; of a share that says so in place of lower ones."""
    cleared = [r.shape for r in {*world.reservations, *plan.reservations} if r.is_cleared]
    return sum(use_of(s.resources, "big").get(unit, 0) for s in cleared if s.share == name)


def _leaving(world: Any, plan: Any, name: str, unit: str) -> int:
    """Return what attempts of a share use that are being stopped, or are to be."""
    told = {each for eviction in plan.evictions for each in eviction.attempt_ids}
    units = [world.unit_of(a) for a in world.attempts.values() if a.is_stopping or a.id in told]
    return sum(use_of(u.task.resources).get(unit, 0) for u in units if u.job.spec.share_identifier == name)


STEPS: st.SearchStrategy[Callable[[Story], Any]] = st.one_of(
    *[
        st.builds(
            lambda *given: lambda story: story.submit(*given),
            st.sampled_from(NAMES),
            st.sampled_from([500, 1000, 2000, 3000, 4000]),
            st.sampled_from([0, 0, 500, 1000]),
            st.sampled_from([0, 0, 3]),
            st.sampled_from([0, 1, 2]),
        )
    ]
    * 3,
    st.just(Story.stop),
    st.just(Story.store),
    st.builds(lambda number: lambda story: story.end(number), st.integers(0, 99)),
    st.builds(lambda *given: lambda story: story.rank(*given), st.integers(0, 99), st.sampled_from([0, 1, 2])),
    st.builds(lambda *given: lambda story: story.change(*given), st.sampled_from(NAMES), st.sampled_from([1, 2, 3, 5])),
)


@settings(max_examples=60)
@given(st.booleans(), st.lists(st.tuples(STEPS, st.sampled_from([0, None, 1, 3])), min_size=5, max_size=40))
def test_whatever_happens_shares_keep_to_their_own_and_come_to_rest(
    is_roomy: bool, steps: list[tuple[Callable[[Story], Any], int | None]]
):
    """
    No use is brought above what limits and loans allow, and stopping others comes to an end.

    Where nothing comes and nothing ends, nobody is stopped for ever; where hosts have room
    for all, then nobody waits who is within his share's own. And all run in the end.
    """
    story = Story(is_roomy)
    for step, steps_max in steps:
        step(story)
        if steps_max != 0:
            story.plan(steps_max)
    story.stop()
    live = len(story.yard.world.attempts) + sum(map(len, story.yard.world.lines.of_queue("q")))
    for _ in range(2 * live + 2):
        if not story.plan(None):
            break
        story.stop()
    else:
        raise AssertionError("shares stop each other for ever")
    quota = story.yard.world.fleet.quotas.of("q")
    assert quota is not None
    for line in story.yard.world.lines.of_queue("q"):
        asked = [use_of(line.shape.resources, "big"), use_of(line.shape.resources)]
        if is_roomy and not line.shape.resources.gpu_millis:
            is_own = all(quota.ledger.is_own(line.shape.share, each) for each in asked)
            assert not is_own, f"{line.shape} waits, and is within its own: {quota.ledger.used}"
    _run_all(story)


def _run_all(story: Story) -> None:
    """Let everything end, and see that only those wait on who ask for more than they could ever have."""
    yard = story.yard
    for _ in range(3000):
        story.plan(None)
        if not yard.world.attempts:
            break
        if stopping(yard):
            story.stop()
        else:
            story.end(0)
    quota = yard.world.fleet.quotas.of("q")
    assert quota is not None
    assert not any(used for used in quota.ledger.used.values())
    for line in yard.world.lines.of_queue("q"):
        asked = line.shape.resources
        could = not quota.ledger.lacks(line.shape.share, use_of(asked))
        assert not could or asked.cpu_millis > 5000, f"{line.shape} waits for ever"


def test_a_host_that_comes_back_as_of_another_type_counts_as_that():
    """As a new leader would count it."""
    yard = shared_yard(share("a", limits={"big": 2}), cpu=8000, host_type="big")
    jobs = submit(yard, "a", size=3)
    yard.plan()
    assert jobs.children.count(JobState.STARTING) == 2
    yard.host("h", *still_there(yard), session=2, cpu=8000, host_type="small")
    quota = yard.world.fleet.quotas.of("q")
    assert quota is not None
    assert quota.ledger.account("a", "big").used == 0
    yard.plan()
    assert jobs.children.count(JobState.STARTING) == 3


def still_there(yard: Yard) -> list[Report]:
    return [Report(attempt_id=name, phase=Phase.STARTING) for name in yard.world.attempts]
