"""
Plays seeds: ``make sim SEED=7`` tells one story, ``make sim SEEDS=2000`` counts many, ``make sim BUGS=1`` plants bugs.

Ends with 1 if an invariant broke, or a planted bug was not found.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from .bugs import BUGS
from .play import Outcome, play, shrink

TOTALS = ("faults", "terms", "acknowledged", "starts", "reads", "lost", "twice", "overlaps")
AT_A_TIME = 10
"""Seeds that a worker takes at a time."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make sim", description=__doc__)
    parser.add_argument("--seed", type=int, help="tell what happens in this one, and make it shorter if it fails")
    parser.add_argument("--seeds", type=int, default=2000, help="how many are played (2000)")
    parser.add_argument("--first", type=int, default=1, help="the first of them (1)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--bug", choices=sorted(BUGS), default="", help="plant this one")
    parser.add_argument(
        "--bugs", action="store_true", help="plant all, one by one, and say after how many seeds each is found"
    )
    parser.add_argument("--whole", action="store_true", help="do not make a failing one shorter")
    given = parser.parse_args()
    if given.bugs:
        return _plant_all(given.seeds, given.workers)
    if given.seed is not None:
        return _tell(given.seed, given.bug, is_whole=given.whole)
    return _count(range(given.first, given.first + given.seeds), given.workers, given.bug)


def _tell(seed: int, bug: str, *, is_whole: bool) -> int:
    """Tell a seed's story; of one that fails the shortest part that does."""
    outcome = play(seed, bug, tell=True)
    if outcome.violations and not is_whole:
        steps = shrink(seed, bug)
        outcome = play(seed, bug, steps, tell=True)
        print(f"# the shortest part of seed {seed} that breaks {outcome.invariant}: {len(steps)} steps")
    print("\n".join(outcome.transcript))
    print(_totals(outcome.counts))
    for violation in outcome.violations:
        print(violation)
    return bool(outcome.violations)


def _count(seeds: range, workers: int, bug: str) -> int:
    """Play many, and add up what was seen."""
    began_s, counts, broken = time.monotonic(), Counter[str](), 0
    with ProcessPoolExecutor(workers) as pool:
        for outcome in pool.map(partial(play, bug=bug), seeds, chunksize=AT_A_TIME):
            counts += outcome.counts
            if outcome.violations:
                broken += 1
                print(f"make sim SEED={outcome.seed}: {outcome.violations[0]}", flush=True)
    print(f"{len(seeds)} seeds in {time.monotonic() - began_s:.0f} s: {_totals(counts)}; {broken} broke an invariant")
    return bool(broken)


def _plant_all(most: int, workers: int) -> int:
    missed = 0
    with ProcessPoolExecutor(workers) as pool:
        for name, (number, outcome) in zip(BUGS, pool.map(partial(find, most=most), BUGS), strict=True):
            found = f"found after {number} seeds by {outcome.invariant}" if outcome else f"not found in {number} seeds"
            missed += outcome is None
            print(f"{name:<16} {BUGS[name].text}: {found}", flush=True)
    print(f"{len(BUGS) - missed} of {len(BUGS)} planted bugs are found")
    return bool(missed)


def find(bug: str, most: int) -> tuple[int, Outcome | None]:
    """Return after how many seeds a planted bug is found, and how."""
    for seed in range(1, most + 1):
        outcome = play(seed, bug)
        if outcome.violations:
            return seed, outcome
    return most, None


def _totals(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[name]} {name}" for name in TOTALS)


if __name__ == "__main__":
    sys.exit(main())
