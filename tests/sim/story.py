"""
Stories: what users ask and what fails, drawn from a seed, as a list of steps at their times.

A story holds no state of the world, so any part of it can be played alone: that is how a failing
one is made shorter. Each seed draws which kinds of faults it has and how many, so that some
worlds are crowded with one kind and others with all (swarm testing, Groce et al., ISSTA 2012).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

CHAOS_S = 150.0
"""How long things are asked and fail; then all is mended, and has to come to rest."""
MACHINES = ("alpha", "beta", "gamma")
CONTROLLERS = ("one", "two")
CPUS = {"alpha": 2000, "beta": 4000, "gamma": 3000}
JOBS = (6, 14)
FAULTS = (4, 14)
KINDS = (1, 1, 2, 2, 3, 3, 4, 6)
"""How many kinds of faults a world has: the fewer, the more often each of them befalls it."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that somebody does, or that fails."""

    at: float
    verb: str
    args: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        words = " ".join(f"{name}={value}" for name, value in self.args.items() if value not in ("", 0, (), False))
        return f"{self.verb} {words}".rstrip()


def story(seed: int, more: tuple[str, ...] = ()) -> list[Step]:
    """Draw the story of a seed; *more* are kinds of faults that it has besides those that it draws."""
    dice = Random(f"story {seed}")
    steps = _wishes(dice)
    kinds = dice.sample(sorted(DRAWS), dice.choice(KINDS))
    for _ in range(dice.randint(*FAULTS)):
        kind = dice.choice(kinds)
        steps.append(Step(round(dice.uniform(3, CHAOS_S - 5), 1), kind, DRAWS[kind](dice)))
    for kind in more:
        steps += EXTRA[kind](dice)
    return sorted(steps, key=lambda step: step.at)


def _wishes(dice: Random) -> list[Step]:
    steps = []
    labels: list[str] = []
    times = sorted(round(dice.uniform(0.5, CHAOS_S * 0.8), 1) for _ in range(dice.randint(*JOBS)))
    for label, at in zip("abcdefghijklmnopqrstuvwxyz", times, strict=False):
        steps.append(Step(at, "submit", {"label": label, **_job(dice, labels)}))
        labels.append(label)
        if dice.random() < 0.2:
            verb = dice.choice(["cancel", "terminate"])
            steps.append(Step(round(min(at + dice.uniform(1, 60), CHAOS_S), 1), verb, {"label": label}))
    return steps


def _job(dice: Random, labels: list[str]) -> dict[str, Any]:
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
    if labels and dice.random() < 0.3:
        fields["after"] = tuple(sorted(dice.sample(labels, min(len(labels), dice.randint(1, 2)))))
    return fields


def _span(dice: Random) -> float:
    """Draw how long something lasts: around each of the limits that programs have."""
    return round(dice.choice([0.5, 3, 8, 20, 35, 50, 70, 90]) * dice.uniform(0.6, 1.3), 1)


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
    "lose-lease": lambda dice: {},
    "two-leaders": lambda dice: {"who": _machine(dice), "span": round(dice.uniform(1.6, 2.6), 1)},
    "clock": lambda dice: {
        "who": dice.choice((*MACHINES, *CONTROLLERS)),
        "hours": dice.choice([-240, -2, -0.02, 0.02, 2, 240]),
    },
    "clock-and-kill": lambda dice: {"who": _machine(dice), "hours": dice.choice([-2, 2]), "span": 0.5},
}


def _restores(dice: Random) -> list[Step]:
    saved_at = round(dice.uniform(5, 60), 1)
    restored_at = round(saved_at + dice.uniform(10, 60), 1)
    return [Step(saved_at, "back-up"), Step(restored_at, "restore")]


EXTRA: dict[str, Callable[[Random], list[Step]]] = {"restore": _restores}
"""Kinds of faults that no seed draws by itself: a restored backup loses what came after it, so less is held to."""
