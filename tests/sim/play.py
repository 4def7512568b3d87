"""Playing: one seed's story, with a bug planted or none; and making a failing one shorter."""

from __future__ import annotations

import contextlib
import gc
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from .bugs import BUGS
from .stand_ins import in_place_of_the_real
from .story import Step, story, traits
from .witness import Violation
from .yard import Yard

_KEPT: list[Yard] = []
"""What is finalized would act once more, so nothing ever is."""

_OF_DIGITS: dict[int, tuple[str, ...]] = {
    0: ("cloud", "restore"),
    2: ("marks",),
    3: ("orders",),
    4: ("shares",),
    5: ("crowd",),
    6: ("cloud",),
    7: ("marks", "orders"),
    8: ("orders", "restore"),
    9: ("shares", "changes"),
}
"""What a seed's story has besides what it draws, by its last digit."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one story."""

    seed: int
    violations: tuple[Violation, ...]
    counts: Counter[str]
    transcript: tuple[str, ...] = ()

    @property
    def invariant(self) -> str:
        """Which invariant broke first; empty: none."""
        return self.violations[0].invariant if self.violations else ""


def steps_of(seed: int, bug: str = "") -> list[Step]:
    """
    Return the story of a seed, with what a planted bug needs to show.

    Without one its last digit says what it has besides.
    """
    return story(seed, _needs(seed, bug))


def _needs(seed: int, bug: str) -> tuple[str, ...]:
    return BUGS[bug].needs if bug else _OF_DIGITS.get(seed % 10, ())


def play(seed: int, bug: str = "", steps: Sequence[Step] | None = None, *, tell: bool = False) -> Outcome:
    """
    Play the story of *seed*, or these *steps* of it.

    Args:
        bug: Which planted bug is in the programs; empty: none.
        tell: Return the transcript too.
    """
    with _no_garbage():
        return _play(seed, bug, steps_of(seed, bug) if steps is None else steps, tell=tell)


def play_and_keep(seeds: Sequence[int], bug: str = "") -> list[Outcome]:
    """
    Play many seeds in a process that ends thereafter: to collect what is left of a world takes a fifth of its time.

    Args:
        seeds: Each leaves about 10 MB behind.
        bug: As of ``play``.
    """
    gc.disable()
    return [_play(seed, bug, steps_of(seed, bug), keep=_KEPT.append) for seed in seeds]


def _play(
    seed: int, bug: str, steps: Sequence[Step], *, tell: bool = False, keep: Callable[[Yard], None] = lambda _: None
) -> Outcome:
    yard, of_seed = Yard.__new__(Yard), traits(seed, _needs(seed, bug))
    keep(yard)
    with in_place_of_the_real(yard, of_seed), BUGS[bug].plant() if bug else contextlib.nullcontext():
        yard.__init__(seed, of_seed)  # type: ignore[misc]  # its programs already look for its network
        yard.play(list(steps))
        yard.shelf.clear()
        label = yard.witness.label
        told = tuple(f"{at:8.3f}  {who:<10} {label(what)}" for at, who, what in yard.transcript) if tell else ()
        outcome = Outcome(seed, tuple(yard.witness.violations), yard.witness.counts, told)
        del yard, label
        return outcome


def shrink(seed: int, bug: str = "") -> list[Step]:
    """Return as few steps of a failing seed's story as break the same invariant, none of which can be left out."""
    steps = steps_of(seed, bug)
    wanted = play(seed, bug, steps).invariant
    assert wanted, f"seed {seed} breaks nothing"
    size = max(1, len(steps) // 2)
    while True:
        for start in range(0, len(steps), size):
            fewer = steps[:start] + steps[start + size :]
            if wanted in {violation.invariant for violation in play(seed, bug, fewer).violations}:
                steps = fewer
                break
        else:
            if size == 1:
                return steps
            size = max(1, size // 2)


@contextlib.contextmanager
def _no_garbage() -> Iterator[None]:
    """Collect nothing while a world lives, and all of it afterwards: what is finalized would act in it."""

    def be_silent(_: object) -> None:
        """What ends in the middle of a wait complains, as nobody closes a world."""

    former = sys.unraisablehook
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        sys.unraisablehook = be_silent
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # that what was killed was never awaited
            gc.collect(0)  # the youngest: all that was made meanwhile
        sys.unraisablehook = former
        if was_enabled:
            gc.enable()
