"""
Ten worlds, and the planted bugs that fall quickly; the long form is ``make sim`` (docs/reliability.md).

Which seeds these are is fixed, so that a failure is the change's, and each says how to see it again.
"""

from __future__ import annotations

import pytest

from batchyard_controller import leadership

from .bugs import BUGS
from .patches import restoring_long
from .play import play, shrink, steps_of
from .story import story

SEEDS = range(1, 11)
FOUND = {
    "B2": (44, "I4"),
    "B3": (266, "H"),
    "B4": (16, "L"),
    "B5": (22, "I3"),
    "B7": (16, "I2"),
    "B8": (1, "L"),
    "answers-first": (2, "I10"),
    "blind-commits": (2, "I4"),
    "borrows-on": (24, "S"),
    "counts-no-runners": (2, "O"),
    "counts-no-shares": (1, "S"),
    "deletes-first": (1, "I1"),
    "forgets-archived": (1, "I10"),
    "forgets-marks": (1, "I9"),
    "forgets-requests": (1, "I9"),
    "gives-up-again": (7, "L"),
    "ignores-failures": (1, "O"),
    "launches-on": (1, "C"),
    "no-brake": (9, "B"),
    "no-fence": (6, "I3"),
    "no-tombstones": (8, "I5"),
    "old-epochs": (25, "I7"),
    "opens-again": (12, "S"),
    "places-early": (8, "I6"),
    "short-fences": (43, "I3"),
    "stops-strays": (2, "C"),
    "sums-twice": (19, "I9"),
    "trusts-old-agents": (20, "I3"),
    "uses-up-nothing": (2, "O"),
}
"""Which seed finds each of those that fall quickly, and by which invariant: one that only breaks a program shows nothing."""


@pytest.mark.timeout(300)
def test_every_invariant_holds() -> None:
    for seed in SEEDS:
        violations = play(seed).violations
        assert not violations, f"make sim SEED={seed}: {violations[0]}"


@pytest.mark.timeout(300)
def test_a_restored_backup_breaks_none() -> None:
    for seed in range(1, 6):
        outcome = play(seed, steps=story(seed, ("restore",)))
        assert not outcome.violations, f"seed {seed} with a restore: {outcome.violations[0]}"


def test_a_seed_has_one_history() -> None:
    first, second = (play(6, tell=True) for _ in range(2))
    assert first.transcript == second.transcript
    assert first.counts["faults"] > 1
    assert first.counts["acknowledged"] > 1


def test_every_bug_can_be_planted() -> None:
    """What the slower ones replace is there still."""
    for bug in BUGS.values():
        with bug.plant():
            pass


@pytest.mark.timeout(300)
@pytest.mark.parametrize("bug", FOUND)
def test_a_planted_bug_is_found(bug: str) -> None:
    seed, invariant = FOUND[bug]
    assert play(seed, bug).invariant == invariant, BUGS[bug].text


def test_a_restore_that_holds_up_the_loop_loses_no_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """B8 is mended: what it plants into the restore harms nobody, as the loop no longer renews the lease."""
    monkeypatch.setattr(leadership, "restoring", restoring_long)
    outcome = play(FOUND["B8"][0])
    assert not outcome.violations
    assert outcome.counts["terms"] > 1


@pytest.mark.timeout(300)
def test_a_failing_story_is_made_shorter() -> None:
    bug, (seed, _) = "B5", FOUND["B5"]
    steps = shrink(seed, bug)
    assert len(steps) < len(steps_of(seed, bug))
    assert play(seed, bug, steps).invariant == play(seed, bug).invariant
