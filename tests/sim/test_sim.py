"""
Forty worlds, and the planted bugs that fall quickly; the long form is ``make sim`` (docs/reliability.md).

Which seeds these are is fixed, so that a failure is the change's, and each says how to see it again.
"""

from __future__ import annotations

import pytest

from .bugs import BUGS
from .play import play, shrink, steps_of

SEEDS = range(1, 41)
PORTION = 10
FOUND = {
    "B4": 10,
    "B5": 9,
    "B7": 3,
    "B8": 1,
    "answers-first": 5,
    "blind-commits": 5,
    "forgets-requests": 1,
}
"""Which seed finds each of those that fall quickly."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", SEEDS[::PORTION])
def test_every_invariant_holds(first: int) -> None:
    for seed in range(first, first + PORTION):
        violations = play(seed).violations
        assert not violations, f"make sim SEED={seed}: {violations[0]}"


def test_a_seed_has_one_history() -> None:
    first, second = (play(6, tell=True) for _ in range(2))
    assert first.transcript == second.transcript
    assert first.counts["faults"] > 1
    assert first.counts["acknowledged"] > 1


@pytest.mark.timeout(300)
@pytest.mark.parametrize("bug", FOUND)
def test_a_planted_bug_is_found(bug: str) -> None:
    assert play(FOUND[bug], bug).violations, BUGS[bug].text


def test_a_failing_story_is_made_shorter() -> None:
    bug, seed = "blind-commits", FOUND["blind-commits"]
    steps = shrink(seed, bug)
    assert len(steps) < len(steps_of(seed, bug))
    assert play(seed, bug, steps).invariant == play(seed, bug).invariant
