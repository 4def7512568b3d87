"""Shares: each gets what its weight says, and nobody does without his turn."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
from tests.core.day import Day, states
from tests.core.yard import Yard, container

from batchyard.states import JobState
from batchyard_controller.core.events import QueueDeleted
from batchyard_controller.core.model.jobs import Job
from batchyard_controller.core.model.policies import FairsharePolicy, SchedulingPolicy, ShareWeight
from batchyard_controller.core.placement.shares import Shares, weights_of

WEIGHTS = {"a": 1.0, "b": 0.5, "c": 0.25}
"""The lower, the more."""


def shared(decay_s: int = 0, reservation: int = 0, weights: dict[str, float] = WEIGHTS, cpu: int = 16_000) -> Yard:
    yard = Yard()
    yard.environment()
    distribution = tuple(ShareWeight(share_identifier=s, weight_factor=w) for s, w in weights.items())
    policy = FairsharePolicy(share_decay_s=decay_s, compute_reservation=reservation, share_distribution=distribution)
    yard.world.policies["p"] = SchedulingPolicy(name="p", fairshare=policy)
    yard.queue("q", scheduling_policy="p")
    yard.host("h", cpu=cpu, memory=100_000)
    return yard


@pytest.mark.timeout(240)
def test_shares_get_what_their_weights_say_within_three_per_cent_of_a_day():
    """Of the vCPU time, whatever the sizes of their jobs, with a seeded stream of work that never ends."""
    day, dice, used = Day(shared()), random.Random(5), Counter[str]()
    waiting: list[tuple[str, Job, int]] = []
    while day.now_s < 86_400:
        for share in WEIGHTS:
            while sum(name == share and job.state is JobState.RUNNABLE for name, job, _ in waiting) < 8:
                cpu = dice.choice([1000, 2000])
                job = day.submit(dice.randint(60, 1800), container=container(cpu=cpu, memory=4), share_identifier=share)
                waiting.append((share, job, cpu))
        day.step(86_400)
        for share, job, cpu in [each for each in waiting if each[1].state.is_final]:
            used[share] += cpu * day.runs_s[job.id]
        waiting = [each for each in waiting if not each[1].state.is_final]
    for share, weight in WEIGHTS.items():
        due = (1 / weight) / sum(1 / w for w in WEIGHTS.values())
        assert used[share] / used.total() == pytest.approx(due, rel=0.03)


def test_who_had_nothing_for_a_while_goes_first():
    """Until that is made good."""
    day = Day(shared(weights={}, decay_s=3600, cpu=4000))
    for _ in range(40):
        day.submit(300, share_identifier="always")
    day.run(1200)
    late = [day.submit(300, share_identifier="late") for _ in range(8)]
    day.run(1202)
    assert states(*late) == ["in"] * 4 + ["waits"] * 4
    day.run(1503)
    assert states(*late) == ["over"] * 4 + ["in"] * 4


def test_some_is_kept_for_shares_that_are_not_active():
    """AWS: computeReservation to the power of the active shares; 50 keeps a half, then a quarter."""
    yard = shared(reservation=50, weights={})
    first = [yard.submit(share_identifier="a") for _ in range(16)]
    yard.plan()
    assert states(*first).count("in") == 8
    second = [yard.submit(share_identifier="b") for _ in range(16)]
    yard.plan()
    assert (states(*first).count("in"), states(*second).count("in")) == (8, 4)


def test_what_is_kept_gets_less_as_soon_as_another_share_is_active():
    """And those who waited for that are asked again."""
    yard = shared(reservation=50, weights={})
    first = [yard.submit(share_identifier="a") for _ in range(16)]
    yard.plan()
    other = yard.submit(share_identifier="b")
    yard.plan()
    assert (states(*first).count("in"), states(other)) == (11, ["in"])


def test_a_queue_made_anew_knows_what_is_left_of_the_former_ones_jobs():
    """Their ends are not taken from what its own jobs hold."""
    yard = shared()
    yard.submit(share_identifier="a")
    yard.plan()
    yard.apply(QueueDeleted(name="q"))
    yard.queue("q", scheduling_policy="p")
    assert yard.world.shares.standing("q", FairsharePolicy(), (), yard.now.boot_ms).held == 1000
    yard.submit(share_identifier="a")
    yard.plan()
    yard.ended(min(yard.world.attempts))
    assert yard.world.shares.standing("q", FairsharePolicy(), (), yard.now.boot_ms).held == 1000


@pytest.mark.parametrize(
    ("holds", "weight", "own_s"),
    [(1.5, 1.0, 0), (1.5, 1.0, 600), (1.5, 1.0, 60), (2, 0.01, 0), (2, 0.01, 60), (10, 0.01, 0)],
)
def test_a_large_job_starts_in_spite_of_a_stream_of_another_share(holds: float, weight: float, own_s: int):
    """Whatever the weights, if its own share holds no more than its part; below that, also if small jobs of its own pass."""
    day = Day(shared(weights={"b": weight}, cpu=8000))
    small, large = container(cpu=1000, memory=4), None
    streams = [("b", 590 / holds), ("a", 0.95 * own_s)] if own_s else [("b", 590 / holds)]
    moments = sorted((gap * i, share) for share, gap in streams for i in range(int(4 * 3600 / gap)))
    for at_s, share in moments:
        day.run(int(at_s) + 1)
        if at_s > 1800 and large is None:
            large = day.submit(60, container=container(cpu=8000), share_identifier="a", timeout_s=60)
        if large is not None and large.id in day.started_s:
            break
        runs_s = own_s if share == "a" else 600
        day.submit(runs_s, container=small, share_identifier=share, timeout_s=runs_s)
    assert large is not None
    assert large.id in day.started_s


def test_priority_counts_within_a_share_only():
    yard = shared(weights={}, cpu=2000)
    low, high, other = (
        yard.submit(share_identifier=share, scheduling_priority=priority)
        for share, priority in (("a", 1), ("a", 2), ("b", 0))
    )
    yard.plan()
    assert states(low, high, other) == ["waits", "in", "in"]


def test_those_that_one_entry_means_have_its_weight_together():
    """AWS: five of UserA* are each five times as heavy; an entry of its own wins."""
    policy = FairsharePolicy(
        share_distribution=(
            ShareWeight(share_identifier="UserA*", weight_factor=0.5),
            ShareWeight(share_identifier="UserB", weight_factor=2.0),
        )
    )
    shares = ["UserA1", "UserA2", "UserB", "other"]
    assert weights_of(policy, shares) == {"UserA1": 1.0, "UserA2": 1.0, "UserB": 2.0, "other": 1.0}


def test_what_was_used_fades_and_is_recalled():
    """A restart forgets of it no more than time does."""
    policy = FairsharePolicy(share_decay_s=1000)
    held, recalled = Shares(), Shares()
    for shares in (held, recalled):
        shares.set_window("q", policy, (), 1_000, 0)
    held.hold("q", "a", 4000, 1, 0)
    held.hold("q", "a", -4000, -1, 500_000)
    recalled.note_past("q", "a", 4000, 500_000, 500_000, 800_000)
    levels = [shares.standing("q", policy, (), 800_000).level("a") for shares in (held, recalled)]
    assert levels[0] == pytest.approx(levels[1])
    assert levels[0] == pytest.approx(4000 * (1 - math.exp(-0.5)) * math.exp(-0.3))
    assert held.active("q", (), 1_499_999) == {"a"}
    assert held.active("q", (), 1_500_000) == set()


def test_whose_turn_it_is_does_not_hang_on_when_it_was_counted():
    """What a plan gives a share counts as if it had held it before, to the last bit."""
    shares, policy = Shares(), FairsharePolicy(share_decay_s=10_000)
    shares.set_window("q", policy, ("a",), 60_000, 0)
    standing = shares.standing("q", policy, ("a",), 0)
    for _ in range(3):
        standing.take("a", 700)
        shares.hold("q", "a", 700, 1, 0)
    assert shares.standing("q", policy, ("a",), 0).score("a") == standing.score("a")


def test_a_window_holds_many_runs_of_the_share_that_is_due_least():
    """Or a share of a tenth could not be told from one of a twentieth."""
    policy = FairsharePolicy(share_distribution=(ShareWeight(share_identifier="a", weight_factor=9.0),))
    shares = Shares()
    shares.hold("q", "a", 1000, 1, 0)
    shares.set_window("q", policy, ("b",), 60_000, 0)
    assert shares.window("q").decay_ms == pytest.approx(64 * 60_000 * 10)
    assert shares.window("q").held_part == pytest.approx(1 / 640)


def test_a_share_with_a_heavy_weight_has_its_turn_on_a_single_host():
    """Where nobody holds anything when it is decided, only what was used can tell."""
    day = Day(shared(weights={"a": 8.0, "b": 1.0}, cpu=1000))
    jobs = [day.submit(60, share_identifier=share) for _ in range(80) for share in "ab"]
    day.run(60 * 72 + 1)
    over = Counter(job.spec.share_identifier for job in jobs if job.state.is_final)
    assert over.total() == 72
    assert over["a"] == pytest.approx(8, abs=2)


def test_shares_that_come_and_go_are_forgotten():
    """But for those that still count."""
    policy, shares = FairsharePolicy(), Shares()
    shares.hold("q", "stays", 1000, 1, 0)
    for turn in range(5000):
        for sign in (1, -1):
            shares.hold("q", f"run-{turn}", sign * 1000, sign, turn * 600_000)
    levels = shares.standing("q", policy, (), 5000 * 600_000)
    assert levels.held == 1000
    assert len(shares._uses["q"]) < 64


def test_a_share_that_was_refused_earlier_in_a_round_is_asked_again_in_it():
    """Though all others of its queue's lines have been asked, and none of its own is left."""
    yard = shared(cpu=2000)
    first = yard.submit(container=container(cpu=2000), share_identifier="a")
    yard.plan()
    waiting = [yard.submit(container=container(cpu=cpu), share_identifier=s) for cpu, s in ((1000, "a"), (1500, "b"))]
    yard.slice(1)
    yard.ended(f"{first.id}#1")
    while yard.world.wants_plan:
        yard.world.wants_plan = False
        yard.slice(1)
    assert [job.state for job in waiting] != [JobState.RUNNABLE] * 2, "the host is empty, and both wait"
