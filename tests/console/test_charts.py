"""Charts: from figures to shapes."""

from __future__ import annotations

import pytest

from batchyard_gateway.console.figures.charts import HEIGHT, WIDTH, Chart, Series, draw, nice_top
from batchyard_gateway.console.figures.samples import HOUR, Figures


def drawn(*series: Series, since_ms: int = 0) -> Chart:
    return draw("c", "Jobs", series, period=HOUR, now_ms=1_000_000, since_ms=since_ms)


def area(name: str, figures: Figures) -> Series:
    return Series(name=name, look=name, figures=figures)


@pytest.mark.parametrize(
    ("most", "top"),
    [(0, 2), (1, 2), (2, 2), (3, 4), (7, 8), (9, 10), (11, 20), (99, 100), (100, 200), (41_000, 60_000)],
)
def test_an_axis_ends_at_a_round_number(most: float, top: float) -> None:
    assert nice_top(most) == top


def test_areas_stand_on_one_another() -> None:
    lower, upper = drawn(area("a", [1, 1]), area("b", [1, 1])).shapes
    half = HEIGHT // 2
    assert lower.path == f"M0 {half}L{WIDTH} {half}L{WIDTH} {HEIGHT}L0 {HEIGHT}Z"
    assert upper.path == f"M0 0L{WIDTH} 0L{WIDTH} {half}L0 {half}Z"


def test_a_line_is_no_area() -> None:
    held, there = drawn(area("held", [2, 1]), Series(name="there", look="t", figures=[4, 4], is_line=True)).shapes
    assert there.path == f"M0 0L{WIDTH} 0"
    assert there.is_line
    assert held.path.endswith("Z")


def test_a_gap_stays_a_gap() -> None:
    (shape,) = drawn(area("a", [1, 1, None, 1, None])).shapes
    assert shape.path.count("M") == 2
    assert shape.path.count("Z") == 2


def test_nothing_heard_is_nothing_drawn() -> None:
    chart = drawn(area("a", [None] * 5))
    assert chart.shapes[0].path == ""
    assert chart.legend == [("a", "a", "-")]
    assert chart.heights == ("2", "1", "0")


def test_what_goes_on_level_is_left_out() -> None:
    (shape,) = drawn(area("a", [1] * 360)).shapes
    assert shape.path.count("L") == 3


def test_the_table_has_the_same_figures_newest_first() -> None:
    chart = drawn(area("a", list(range(360))), area("b", [None] * 360))
    assert len(chart.rows) == 12
    assert chart.rows[0] == (1_000_000, ["359", "-"])
    assert chart.rows[1] == (700_000, ["329", "-"])
    assert chart.summary == "Jobs, now: a 359, b -."


@pytest.mark.parametrize(("since_ms", "told"), [(0, 0), (960_000, 0), (985_000, 985_000)])
def test_the_caption_says_since_when_only_if_that_was_later(since_ms: int, told: int) -> None:
    assert drawn(area("a", [1] * 5), since_ms=since_ms).since_ms == told
