"""Figures: what a program measured, beside its baseline, as a line of text and as a record."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """
    One number beside its baseline.

    Attributes:
        name: What was measured.
        value: The number.
        unit: Unit of *value* and *baseline*.
        baseline: The same of something bare, measured in the same run.
        baseline_name: What that was.
        aim: What the project aims for; empty for nothing.
        note: What else a reader should know.
    """

    name: str
    value: float
    unit: str
    baseline: float
    baseline_name: str
    aim: str = ""
    note: str = ""

    @property
    def ratio(self) -> float:
        """*value* by *baseline*."""
        return self.value / self.baseline if self.baseline else math.nan

    def line(self) -> str:
        """Return the figure as one line."""
        aim = f"  (aim: {self.aim})" if self.aim else ""
        note = f"  [{self.note}]" if self.note else ""
        return (
            f"  {self.name:<44} {_number(self.value):>9} {self.unit:<4}"
            f"  baseline {_number(self.baseline):>9} {self.unit:<4} {self.baseline_name}"
            f"  ratio {_number(self.ratio)}{aim}{note}"
        )

    def record(self) -> dict[str, Any]:
        """Return the figure for JSON."""
        return {**asdict(self), "ratio": self.ratio}


@dataclass(frozen=True, slots=True)
class Skipped:
    """A figure that could not be measured, and why."""

    name: str
    why: str

    def line(self) -> str:
        """Return it as one line."""
        return f"  {self.name}: skipped, as {self.why}"

    def record(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {"name": self.name, "skipped": self.why}


Outcome = Figure | Skipped


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest of *values* that at least *percent* of them do not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def spread(values: Sequence[float]) -> str:
    """Say how far repeated measurements lie apart."""
    return f"median of {len(values)}, {_number(min(values))} to {_number(max(values))}"


def median(values: Sequence[float]) -> float:
    """Return the middle one."""
    return statistics.median(values)


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"
