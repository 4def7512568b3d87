"""
Stories: what users ask and what fails, drawn from a seed, as a list of steps at their times.

A story holds no state of the world, so any part of it can be played alone: that is how a failing
one is made shorter. Each seed draws which kinds of faults it has and how many, so that some
worlds are crowded with one kind and others with all (swarm testing, Groce et al., ISSTA 2012). What
is so in a world from its beginning (`Traits`) is drawn likewise, each for some worlds only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from batchyard_controller.core.model.chunks import CHUNK

CHAOS_S = 150.0
"""How long things are asked and fail; then all is mended, and has to come to rest."""
MACHINES = ("alpha", "beta", "gamma")
CONTROLLERS = ("one", "two")
CPUS = {"alpha": 2000, "beta": 4000, "gamma": 3000}
JOBS = (6, 14)
FAULTS = (4, 14)
KINDS = (1, 1, 2, 2, 3, 3, 4, 6)
"""How many kinds of faults a world has: the fewer, the more often each of them befalls it."""
LICENCE, TOKEN, LICENCES, TOKENS = "licence", "token", 3, 1_000
"""What jobs hold one of while they run, and what they use up; how many there are of each."""
ELASTIC = "elastic"
"""The queue whose hosts are launched."""
FAIR, QUOTA = "fair", "quota"
"""Queues whose jobs have shares."""
FENCE_S = 30
"""The shortest that may be set (FENCE_S_MIN): more happens in a minute."""
FENCES_S = (0, 0, 30, 60, -1)
"""What jobs and queues say of their fence where they say any: nothing, seconds, never."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that somebody does, or that fails."""

    at: float
    verb: str
    args: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        words = " ".join(f"{name}={value}" for name, value in self.args.items() if value not in ("", 0, (), False))
        return f"{self.verb} {words}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """
    What is so in a world from its beginning.

    Attributes:
        keep_jobs: Ended jobs that stay in the store, beyond which they go into an archive; None: there is none.
        quota_bytes: Size that etcd's file may reach; 0: any.
        fence_s: The fence of hosts.
        has_fences: Jobs say a fence of their own.
        low_fence_s, high_fence_s: The fences of the queues.
        old_agent: The machine whose agent knows of no fences but its host's; empty: none.
        is_narrow: Each transaction of the store holds one atom.
        chunk: Children of an array that have a record in common.
        has_consumables: There are licences and tokens.
        has_shares: There are queues whose jobs have shares.
        has_cloud: There is an environment whose hosts are launched and stopped.
    """

    keep_jobs: int | None = None
    quota_bytes: int = 0
    fence_s: int = FENCE_S
    has_fences: bool = False
    low_fence_s: int = 0
    high_fence_s: int = 0
    old_agent: str = ""
    is_narrow: bool = False
    chunk: int = CHUNK
    has_consumables: bool = False
    has_shares: bool = False
    has_cloud: bool = False


def traits(seed: int, more: tuple[str, ...] = ()) -> Traits:
    """Draw what is so in the world of a seed; *more* names what surely is."""
    dice = Random(f"traits {seed}")
    keeps, quota, fences = dice.choice((0, 1, 3)), dice.choice((60_000, 120_000, 200_000)), dice.random() < 0.5
    is_old = "old-agent" in more
    fences |= is_old or "fences" in more
    return Traits(
        keep_jobs=keeps if dice.random() < 0.3 or "archive" in more else None,
        quota_bytes=quota if dice.random() < 0.2 or "quota" in more else 0,
        is_narrow=dice.random() < 0.3 or "narrow" in more,
        fence_s=max(dice.choice((FENCE_S, FENCE_S, 2 * FENCE_S)), 4 * FENCE_S * is_old),
        has_fences=fences,
        low_fence_s=dice.choice(FENCES_S) * fences,
        high_fence_s=dice.choice(FENCES_S) * fences,
        old_agent=dice.choice(MACHINES) if dice.random() < 0.2 or is_old else "",
        chunk=2 if "orders" in more else CHUNK,  # as if its arrays were long
        has_consumables="orders" in more,
        has_shares="shares" in more,
        has_cloud="cloud" in more,
    )


def story(seed: int, more: tuple[str, ...] = ()) -> list[Step]:
    """Draw the story of a seed; *more* are kinds of faults, and traits, that it has besides those that it draws."""
    dice, world = Random(f"story {seed}"), traits(seed, more)
    steps = _wishes(dice, has_fences=world.has_fences)
    draws = DRAWS | (OF_ARCHIVES if world.keep_jobs is not None else {}) | (OF_QUOTAS if world.quota_bytes else {})
    kinds = dice.sample(sorted(draws), dice.choice(KINDS))
    for _ in range(dice.randint(*FAULTS)):
        kind = dice.choice(kinds)
        steps.append(Step(round(dice.uniform(3, CHAOS_S - 5), 1), kind, draws[kind](dice)))
    for kind in more:
        steps += EXTRA[kind](dice) if kind in EXTRA else []
    return sorted(steps, key=lambda step: step.at)


def _wishes(dice: Random, *, has_fences: bool) -> list[Step]:
    steps = []
    labels: list[str] = []
    times = sorted(round(dice.uniform(0.5, CHAOS_S * 0.8), 1) for _ in range(dice.randint(*JOBS)))
    for label, at in zip("abcdefghijklmnopqrstuvwxyz", times, strict=False):
        steps.append(Step(at, "submit", {"label": label, **_job(dice, labels, has_fences=has_fences)}))
        labels.append(label)
        if dice.random() < 0.2:
            verb = dice.choice(["cancel", "terminate"])
            steps.append(Step(round(min(at + dice.uniform(1, 60), CHAOS_S), 1), verb, {"label": label}))
    return steps


def _job(dice: Random, labels: list[str], *, has_fences: bool) -> dict[str, Any]:
    shape = dice.choices(["single", "array", "nodes"], [6, 2, 2])[0]
    fields: dict[str, Any] = {
        "shape": shape,
        "size": 0 if shape == "single" else dice.randint(2, 5 if shape == "array" else 3),
        "cpu": dice.choice([1000, 1000, 2000, 3000]) if shape != "nodes" else 1000,
        "duration": round(dice.choice([0.2, 3.0, 10.0, 30.0, 60.0]) * dice.uniform(0.5, 1.5), 1),
        "exit": dice.choices([0, 1], [4, 1])[0],
        "queue": dice.choice(["low", "low", "high"]),
        "attempts": dice.choice([1, 1, 2, 3]),
        "manners": dice.choice(["good", "good", "stubborn"]),
    }
    if dice.random() < 0.5:
        fields["timeout"] = dice.choice([60, 90])
    if has_fences:
        fields["fence"] = dice.choice(FENCES_S)
    if labels and dice.random() < 0.3:
        fields["after"] = tuple(sorted(dice.sample(labels, min(len(labels), dice.randint(1, 2)))))
    return fields


def _span(dice: Random) -> float:
    """Draw how long something lasts: around each of the limits that programs have."""
    return round(dice.choice([0.5, 3, 8, 20, 35, 50, 70, 90, 110]) * dice.uniform(0.6, 1.3), 1)


def _machine(dice: Random) -> str:
    return dice.choice(MACHINES)


DRAWS: dict[str, Callable[[Random], dict[str, Any]]] = {
    "kill-controller": lambda dice: {"who": dice.choice(CONTROLLERS), "span": _span(dice)},
    "stop-controller": lambda dice: {"who": dice.choice(("leader", *CONTROLLERS)), "span": _span(dice)},
    "kill-leader": lambda dice: {"span": _span(dice)},
    "kill-agent": lambda dice: {"who": _machine(dice), "span": _span(dice)},
    "stop-agent": lambda dice: {"who": _machine(dice), "span": _span(dice)},
    "power-cut": lambda dice: {"who": _machine(dice), "span": _span(dice)},
    "wipe": lambda dice: {"who": _machine(dice), "span": _span(dice)},
    "twin": lambda dice: {"who": _machine(dice), "span": _span(dice)},
    "reclaim": lambda dice: {"who": _machine(dice), "notice": dice.choice([2, 30, 90]), "span": _span(dice)},
    "cut": lambda dice: {
        "a": dice.choice((*MACHINES, "user")),
        "b": dice.choice(("controllers", *CONTROLLERS)),
        "way": dice.choice(("both", "there", "back")),
        "span": _span(dice),
    },
    "cut-store": lambda dice: {
        "a": dice.choice(CONTROLLERS),
        "b": "etcd",
        "way": dice.choice(("both", "there", "back")),
        "span": _span(dice),
    },
    "slow": lambda dice: {
        "a": dice.choice((*MACHINES, "etcd", "user")),
        "b": "controllers",
        "delay": dice.choice([0.5, 3, 8]),
        "span": _span(dice),
    },
    "kill-etcd": lambda dice: {"span": _span(dice)},
    "stop-etcd": lambda dice: {"span": _span(dice)},
    "slow-etcd": lambda dice: {"delay": dice.choice([0.3, 1, 4]), "span": _span(dice)},
    "commit": lambda dice: {"how": dice.choice(("unsaid", "undone", "late", "full"))},
    "cut-hosts": lambda dice: {
        "b": dice.choice(("controllers", "controllers", *CONTROLLERS)),
        "way": dice.choice(("both", "there", "back")),
        "span": round(dice.choice([20, 60, 100]) * dice.uniform(0.6, 1.3), 1),
    },
    "compact": lambda dice: {"who": dice.choice(CONTROLLERS)},
    "lose-lease": lambda dice: {},
    "two-leaders": lambda dice: {"who": _machine(dice), "span": round(dice.uniform(1.6, 2.6), 1)},
    "clock": lambda dice: {
        "who": dice.choice((*MACHINES, *CONTROLLERS)),
        "hours": dice.choice([-240, -2, -0.02, 0.02, 2, 240]),
    },
    "clock-and-kill": lambda dice: {"who": _machine(dice), "hours": dice.choice([-2, 2]), "span": 0.5},
}
OF_ARCHIVES: dict[str, Callable[[Random], dict[str, Any]]] = {
    "archive": lambda dice: {"how": dice.choice(("away", "slow")), "span": _span(dice)},
    "crash-archiving": lambda dice: {"how": dice.choice(("before", "after", "between")), "span": _span(dice)},
}
"""Of worlds with an archive."""
OF_QUOTAS: dict[str, Callable[[Random], dict[str, Any]]] = {
    "fill-etcd": lambda dice: {"share": dice.choice([0.3, 0.7, 1.0])}
}
"""Of worlds whose etcd has a quota."""


def _restores(dice: Random) -> list[Step]:
    saved_at = round(dice.uniform(5, 60), 1)
    restored_at = round(saved_at + dice.uniform(10, 60), 1)
    return [Step(saved_at, "back-up"), Step(restored_at, "restore")]


def _compactions(dice: Random) -> list[Step]:
    at = round(dice.uniform(10, 100), 1)
    behind = [Step(at, "compact", {"who": who}) for who in CONTROLLERS]
    return [*behind, Step(round(at + dice.uniform(5, 40), 1), "kill-leader", {"span": _span(dice)})]


def _lonely_runs(dice: Random) -> list[Step]:
    """Cut a host off for longer than a fence of jobs on it, which run for longer still; the host's own is yet longer."""
    long = {"shape": "single", "size": 0, "cpu": 2000, "duration": 145.0, "exit": 0, "queue": "high", "attempts": 1}
    steps = [Step(2.0, "submit", {"label": label, **long, "manners": "good", "fence": FENCE_S}) for label in "wxyz"]
    cut = {"a": _machine(dice), "b": "controllers", "way": "both", "span": 100.0}
    return [*steps, Step(round(dice.uniform(10, 30), 1), "cut", cut)]


def _crowds(dice: Random) -> list[Step]:
    """Fill the hosts, have jobs make room among others that take their time to end, and lose a host meanwhile."""
    low = {"shape": "single", "size": 0, "cpu": 1000, "exit": 0, "queue": "low", "attempts": 3}
    high = {"shape": "nodes", "exit": 0, "queue": "high", "attempts": 2, "manners": "good"}
    steps = []
    for n in range(sum(CPUS.values()) // 1000 + 2):
        how = {"manners": dice.choice(("stubborn", "good")), "duration": round(dice.uniform(60, 140), 1)}
        steps.append(Step(round(1 + 0.1 * n, 1), "submit", {"label": f"low{n}", **low, **how}))
    for n in range(dice.randint(1, 3)):
        at, cpu = round(dice.uniform(10, 80), 1), dice.choice([1000, 1000, 2000])
        what = {"size": dice.randint(2, 3 if cpu > 1000 else 5), "cpu": cpu, "duration": round(dice.uniform(3, 20), 1)}
        steps.append(Step(at, "submit", {"label": f"high{n}", **high, **what}))
        kind = dice.choice(("kill-agent", "power-cut", "power-cut", "wipe", "cut"))
        steps.append(Step(round(at + dice.uniform(0.2, 10), 1), kind, DRAWS[kind](dice)))
    return steps


def _marks(dice: Random) -> list[Step]:
    """Have hosts cordoned, drained and taken away for a while."""
    return [
        Step(
            round(dice.uniform(3, CHAOS_S - 30), 1),
            "mark",
            {"who": _machine(dice), "how": dice.choice(["cordon", "drain", "reclaim"]), "span": _span(dice)},
        )
        for _ in range(dice.randint(2, 5))
    ]


def _orders(dice: Random) -> list[Step]:
    """Ask for arrays whose children wait for one another, or are bounded, and for what waits for an end of some kind."""
    size, at = dice.randint(3, 5), dice.uniform(1, 40)

    def array(**more: Any) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "shape": "array",
            "size": size,
            "cpu": 1000,
            "duration": round(dice.choice([0.2, 3.0, 10.0]) * dice.uniform(0.5, 1.5), 1),
            "exit": 0,
            "queue": dice.choice(["low", "low", "high"]),
            "attempts": dice.choice([1, 2, 3]),
            "manners": dice.choice(["good", "stubborn"]),
        }
        if dice.random() < 0.3:
            fields["fails"] = (dice.randrange(size),)
        if dice.random() < 0.3:
            fields["bound"] = dice.randint(1, 2)
        if dice.random() < 0.5:
            fields["takes"] = tuple(dice.sample([LICENCE, TOKEN], dice.randint(1, 2)))
        return fields | more

    wishes = {
        "first": array(is_sequential=dice.random() < 0.5),
        "second": array(is_sequential=dice.random() < 0.3, counterpart="first"),
        "third": array(counterpart=dice.choice(["first", "second"])),
        "bounded": array(size=8, bound=dice.randint(1, 3), max_fails=dice.choice([None, None, 0, 1])),
    }
    for label in ("last", "after-all"):
        after = tuple(dice.sample(["first", "second", "bounded"], 2))
        shape = dice.choice([{"shape": "single", "size": 0}, {"shape": "nodes", "size": 2, "fails": ()}])
        wishes[label] = array(**shape, bound=0, after=after, kind=dice.choice(["", "AFTER_ANY", "AFTER_FAILURE"]))
    steps = []
    for label, wish in wishes.items():
        steps.append(Step(round(at, 1), "submit", {"label": label, **wish}))
        at += dice.choice([0.1, 2.0, 15.0]) * dice.uniform(0.5, 1.5)
        if dice.random() < 0.15:
            verb = dice.choice(["cancel", "terminate"])
            steps.append(Step(round(at + dice.uniform(0, 30), 1), verb, {"label": label}))
    return steps


def _work(dice: Random, cpus: list[int]) -> dict[str, Any]:
    """Draw what runs: one that holds one of these *cpus*, or several that hold 1,000 each."""
    shape = dice.choices(["single", "array", "nodes"], [5, 2, 1])[0]
    return {
        "shape": shape,
        "size": {"single": 0, "array": dice.randint(2, 4), "nodes": 2}[shape],
        "cpu": dice.choice(cpus) if shape == "single" else 1000,
        "duration": round(dice.choice([0.2, 3.0, 10.0, 30.0]) * dice.uniform(0.5, 1.5), 1),
        "exit": dice.choices([0, 1], [6, 1])[0],
    }


def _shares(dice: Random) -> list[Step]:
    """Ask for more than shares may have, at times for what is to go first, and change what one of them has."""
    steps = []
    for n in range(dice.randint(8, 14)):
        queue = dice.choice([FAIR, QUOTA])
        wish = {
            "label": f"share{n}",
            "queue": queue,
            **_work(dice, [1000, 1000, 2000]),
            "share": dice.choice(["teamA", "teamB", "guest"] if queue == FAIR else ["saver", "lender", "borrower"]),
            "priority": dice.choice([0, 0, 5]),
            "attempts": dice.choice([1, 2, 3]),
            "manners": dice.choice(["good", "stubborn"]),
        }
        steps.append(Step(round(dice.uniform(0.5, CHAOS_S * 0.6), 1), "submit", wish))
    return [*steps, *_changes_of(dice, ["lends-less"])]


def _changes(dice: Random) -> list[Step]:
    """Have a queue and an environment shut for a while, and a queue served before others."""
    return _changes_of(dice, ["queue-off", "environment-off", "served-first"])


def _changes_of(dice: Random, kinds: list[str]) -> list[Step]:
    return [
        Step(round(dice.uniform(3, CHAOS_S - 30), 1), "change", {"what": dice.choice(kinds), "span": _span(dice)})
        for _ in range(dice.randint(1, 4))
    ]


def _launches(dice: Random) -> list[Step]:
    """Ask for what only launched hosts run, and let launches, hosts and their provider fail, and whoever leads then."""
    steps = []
    for n in range(dice.randint(4, 10)):
        wish = {
            "label": f"cloud{n}",
            "queue": ELASTIC,
            **_work(dice, [1000, 2000, 3000]),
            "attempts": 3,
            "manners": dice.choice(["good", "stubborn"]),
        }
        steps.append(Step(round(dice.uniform(0.5, CHAOS_S * 0.7), 1), "submit", wish))
    for _ in range(dice.randint(1, 6)):
        how = dice.choice(["away", "unsaid", "dud", "take", "cut"])
        steps.append(Step(round(dice.uniform(3, CHAOS_S - 5), 1), "cloud", {"how": how, "span": _span(dice)}))
    if dice.random() < 0.5:
        steps.append(Step(round(dice.uniform(3, CHAOS_S - 30), 1), "kill-leader", {"span": _span(dice)}))
    return steps


EXTRA: dict[str, Callable[[Random], list[Step]]] = {
    "restore": _restores,
    "compact": _compactions,
    "old-agent": _lonely_runs,
    "crowd": _crowds,
    "orders": _orders,
    "marks": _marks,
    "shares": _shares,
    "changes": _changes,
    "cloud": _launches,
}
"""Faults, and wishes, at times at which they matter to each other; see `play.steps_of`."""
