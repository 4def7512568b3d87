"""Lets faults befall a yard, beside each other, and remembers which did and until when."""

from __future__ import annotations

import time
from dataclasses import dataclass
from random import Random

from .faults import WEIGHTS, Fault, Kinds
from .yard import Yard


@dataclass(slots=True, kw_only=True)
class Struck:
    """
    A fault that befell.

    Attributes:
        until: When it was mended; of one that lasts, None.
    """

    kind: str
    about: str
    at: float
    until: float | None = None


class Nemesis:
    """
    Lets faults befall a yard, one after the other and beside each other.

    Args:
        yard: Which.
        dice: From which all is drawn.
        every_s: Mean time between the beginnings of two.
        kinds: Only these; empty: all.
    """

    def __init__(self, yard: Yard, dice: Random, every_s: float, kinds: tuple[str, ...] = ()) -> None:
        self._dice = dice
        self._every_s = every_s
        self._kinds = Kinds(yard, dice)
        weights = {kind: weight for kind, weight in WEIGHTS.items() if not kinds or kind in kinds}
        self._names, self._weights = [*weights], [*weights.values()]
        self._lasting: list[tuple[float, Fault, Struck]] = []
        self._log = (yard.folder / "faults.log").open("a")
        self.struck: list[Struck] = []
        self.broken: list[str] = []
        """What was said of programs that were no more when they were to be struck."""

    def strike(self) -> None:
        """Let the next befall, and mend those that are over."""
        at = time.monotonic() + self._dice.expovariate(1.0 / self._every_s)
        while (now := time.monotonic()) < at or not self._strike_now():
            time.sleep(min(0.1, max(0.01, at - now)))
            self._mend_until(time.monotonic())

    def outlast(self) -> None:
        """Let those that last go on to their ends."""
        while self._lasting:
            time.sleep(0.1)
            self._mend_until(time.monotonic())

    def mend(self) -> None:
        """Mend everything."""
        self._mend_until(float("inf"))
        self._log.close()

    def _strike_now(self) -> bool:
        kind = self._dice.choices(self._names, self._weights)[0]
        fault = self._kinds.draw(kind)
        held = frozenset[str]().union(*(each.holds for _, each, _ in self._lasting))
        if fault is None or fault.holds & held:
            return False
        struck = Struck(kind=kind, about=fault.about, at=time.time())
        self._tell(f"{kind}: {fault.about}, for {fault.lasts_s:.1f} s")
        try:
            fault.begin()
        except OSError as error:
            self._tell(f"{kind}: did not befall, {error}")
            return False
        except AssertionError as error:
            self.broken.append(f"{kind}, {fault.about}: {error}")
        self.struck.append(struck)
        self._lasting.append((time.monotonic() + fault.lasts_s, fault, struck))
        return True

    def _mend_until(self, now: float) -> None:
        for entry in sorted(self._lasting, key=lambda each: each[0]):
            until, fault, struck = entry
            if until <= now:
                try:
                    fault.end()
                except AssertionError as error:
                    self.broken.append(f"{struck.kind}, {struck.about}: {error}")
                struck.until = time.time()
                self._tell(f"{struck.kind}: {struck.about} is mended")
                self._lasting.remove(entry)

    def _tell(self, text: str) -> None:
        stamp = time.strftime("%H:%M:%S", time.gmtime(now := time.time()))
        self._log.write(f"{stamp}.{int(now * 1000) % 1000:03d} {text}\n")
        self._log.flush()
