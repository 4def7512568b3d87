"""
Charts: figures over time as shapes, with an axis, and the same figures as a table.

Shapes are paths in a box of fixed size that a template stretches; words stand beside it as
text, so that they keep their size. It must never know where figures come from, or a clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from batchyard_gateway.console.writing import amounts

from .samples import DAY, HOUR, PERIODS, Figures

WIDTH, HEIGHT = 720, 160
ROWS = 12
"""Rows of the table, over the whole time."""

_TIMES = {HOUR: ("1 h ago", "45 min", "30 min", "15 min", "now"), DAY: ("24 h ago", "18 h", "12 h", "6 h", "now")}
_HEIGHTS = (2, 4, 6, 8, 10, 20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """
    One figure over time.

    Attributes:
        name: For a person.
        look: Class of its shape and of its mark in the legend.
        is_line: Drawn as a line of its own; else as an area on top of those before it.
    """

    name: str
    look: str
    figures: Figures
    is_line: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """
    A path.

    Attributes:
        look: Its class.
        path: As SVG's ``d``; empty where nothing was heard.
    """

    look: str
    path: str
    is_line: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """
    What a template draws.

    Attributes:
        name: For ids.
        title: What is shown.
        summary: The same as a sentence with the last figures, for who cannot see it.
        heights: Words at the top, the middle and the bottom of the axis.
        times: Words along it.
        legend: Class, name and last figure.
        rows: Milliseconds since the epoch, and a word a series.
        since_ms: When the first figure was taken, if that was after the chart's beginning; else 0.
    """

    name: str
    title: str
    summary: str
    heights: Sequence[str]
    times: Sequence[str]
    shapes: Sequence[Shape]
    legend: Sequence[tuple[str, str, str]]
    rows: Sequence[tuple[int, Sequence[str]]]
    since_ms: int


def nice_top(most: float) -> float:
    """Return where an axis ends that holds a figure: an even number of one digit, or a tenth of some."""
    if most <= 0:
        return 2.0
    size = 10.0 ** (len(str(int(most))) - 1)
    return next(height * size for height in _HEIGHTS if height * size >= most)


def nice_millis(most: float) -> float:
    """Return where an axis of thousandths ends."""
    return 1000 * nice_top(most / 1000)


def power_of_two(most: float) -> float:
    """Return where an axis ends that holds an amount of memory."""
    return 2.0 ** max(1, math.ceil(math.log2(most))) if most > 0 else 2.0


def draw(
    name: str,
    title: str,
    series: Sequence[Series],
    *,
    period: str,
    now_ms: int,
    since_ms: int,
    write: Callable[[float], str] = amounts.count,
    nice: Callable[[float], float] = nice_top,
) -> Chart:
    """
    Draw a chart.

    Args:
        name: For ids.
        title: What is shown.
        series: At least one, all of one length; areas are stacked in their order.
        period: ``1h`` or ``24h``.
        now_ms: When the last figure was taken.
        since_ms: When the first one was; 0 if none was yet.
        write: How a figure is written.
        nice: Returns where an axis ends that holds a figure.
    """
    stacks = _stacked(series)
    step_s = PERIODS[period][0]
    top = nice(max((value for _, _, upper in stacks for value in upper if value is not None), default=0))
    length = len(series[0].figures)
    legend = [(each.look, each.name, _word(_last(each.figures), write)) for each in series]
    began_ms = now_ms - (length - 1) * step_s * 1000
    return Chart(
        name=name,
        title=title,
        summary=f"{title}, now: {', '.join(f'{name} {word}' for _, name, word in legend)}.",
        heights=(write(top), write(top / 2), "0"),
        times=_TIMES[period],
        shapes=[
            Shape(look=s.look, path=_path(lower, upper, top, s.is_line), is_line=s.is_line)
            for s, lower, upper in stacks
        ],
        legend=legend,
        rows=[
            (now_ms - (length - 1 - i) * step_s * 1000, [_word(each.figures[i], write) for each in series])
            for i in _picked(length)
        ],
        since_ms=since_ms if since_ms > began_ms + step_s * 1000 else 0,
    )


def _stacked(series: Sequence[Series]) -> list[tuple[Series, Figures, Figures]]:
    """Return each with its lower and its upper edge."""
    stacks: list[tuple[Series, Figures, Figures]] = []
    base: Figures = [0.0] * len(series[0].figures)
    for each in series:
        if each.is_line:
            stacks.append((each, each.figures, each.figures))
            continue
        upper = [
            None if figure is None or below is None else below + figure
            for below, figure in zip(base, each.figures, strict=True)
        ]
        stacks.append((each, base, upper))
        base = upper
    return stacks


def _path(lower: Figures, upper: Figures, top: float, is_line: bool) -> str:
    """Return the outline of an area, or a line: one piece between two gaps."""
    last = max(1, len(upper) - 1)
    pieces: list[str] = []
    run: list[tuple[int, int, int]] = []
    for i, (low, high) in enumerate([*zip(lower, upper, strict=True), (None, None)]):
        if low is not None and high is not None:
            run.append((round(i * WIDTH / last), _y(low, top), _y(high, top)))
        elif run:
            pieces.append(_piece(run, is_line))
            run = []
    return "".join(pieces)


def _piece(run: Sequence[tuple[int, int, int]], is_line: bool) -> str:
    if len(run) == 1:  # a moment between two gaps is seen, too
        x, low, high = run[0]
        run = [(x - 1, low, high), (x + 1, low, high)]
    ahead = _line([(x, high) for x, _, high in run])
    return f"M{ahead}" if is_line else f"M{ahead}L{_line([(x, low) for x, low, _ in reversed(run)])}Z"


def _line(points: Sequence[tuple[int, int]]) -> str:
    """Return the corners of a line: points that go on level say nothing."""
    ends = (0, len(points) - 1)
    kept = [(x, y) for i, (x, y) in enumerate(points) if i in ends or not points[i - 1][1] == y == points[i + 1][1]]
    return "L".join(f"{x} {y}" for x, y in kept)


def _y(value: float, top: float) -> int:
    return HEIGHT - round(HEIGHT * value / top)


def _last(figures: Figures) -> float | None:
    """Return the newest figure, if it is of one of the last two steps."""
    return next((figure for figure in reversed(figures[-2:]) if figure is not None), None)


def _word(figure: float | None, write: Callable[[float], str]) -> str:
    return "-" if figure is None else write(figure)


def _picked(length: int) -> list[int]:
    """Return which figures the table shows: the newest, and those at even distances before it."""
    step = max(1, length // ROWS)
    return list(range(length - 1, -1, -step))[:ROWS]
