"""
Plays seeds: ``make sim SEED=7`` tells one story, ``make sim SEEDS=2000`` counts many, ``make sim BUGS=1`` plants bugs.

Ends with 1 if an invariant broke, or a planted bug was not found.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial

from .bugs import BUGS
from .play import Outcome, play, play_and_keep, shrink

TOTALS = ("faults", "terms", "acknowledged", "starts", "reads", "repeats", "archived", "lost", "twice", "overlaps")
AT_A_TIME = 20
"""Seeds that a process plays before it ends."""


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
    parser.add_argument("--minutes", type=float, default=1e6, help="begin none after so long a time")
    parser.add_argument("--whole", action="store_true", help="do not make a failing one shorter")
    given = parser.parse_args()
    if given.bugs:
        return _plant_all(given.seeds, given.workers)
    if given.seed is not None:
        return _tell(given.seed, given.bug, is_whole=given.whole)
    seeds = range(given.first, given.first + given.seeds)
    return _count(seeds, given.workers, given.bug, ends_s=time.monotonic() + given.minutes * 60)


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


def _count(seeds: range, workers: int, bug: str, ends_s: float) -> int:
    """Play many, and add up what was seen."""
    began_s, counts, played, broken = time.monotonic(), Counter[str](), 0, 0
    for outcome in _play_all(seeds, workers, bug):
        counts += outcome.counts
        played += 1
        if outcome.violations:
            broken += 1
            print(f"make sim SEED={outcome.seed}{f' BUG={bug}' * bool(bug)}: {outcome.violations[0]}", flush=True)
        if time.monotonic() > ends_s:
            break
    print(f"{played} seeds in {time.monotonic() - began_s:.0f} s: {_totals(counts)}; {broken} broke an invariant")
    return bool(broken)


def _plant_all(most: int, workers: int) -> int:
    missed = 0
    for name, bug in BUGS.items():
        found = next((each for each in _play_all(range(1, most + 1), workers, name) if each.violations), None)
        missed += found is None
        how = f"found after {found.seed} seeds by {found.invariant}" if found else f"not found in {most} seeds"
        print(f"{name:<16} {bug.text}: {how}", flush=True)
    print(f"{len(BUGS) - missed} of {len(BUGS)} planted bugs are found")
    return bool(missed)


def _play_all(seeds: range, workers: int, bug: str) -> Iterator[Outcome]:
    """Play seeds in processes of their own, each of which plays some and ends; in the order of the seeds."""
    portions = [seeds[start : start + AT_A_TIME] for start in range(0, len(seeds), AT_A_TIME)]
    with multiprocessing.get_context("fork").Pool(workers, maxtasksperchild=1) as pool:
        for outcomes in pool.imap(partial(play_and_keep, bug=bug), portions):
            yield from outcomes


def _totals(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[name]} {name}" for name in TOTALS)


if __name__ == "__main__":
    sys.exit(main())
