"""Frozen records are copied as `dataclasses` would, only sooner."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchyard.records import replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    x: int
    y: int = 0
    names: tuple[str, ...] = ()
    hidden: str = field(default="", repr=False)


CHANGES = st.fixed_dictionaries(
    {}, optional={"x": st.integers(), "y": st.integers(), "names": st.just(("a",)), "hidden": st.text()}
)


@given(x=st.integers(), changes=CHANGES)
def test_a_copy_is_what_dataclasses_would_make(x, changes):
    """The first one stays as it was."""
    point = Point(x=x)
    assert replace(point, **changes) == dataclasses.replace(point, **changes)
    assert point == Point(x=x)


def test_an_unknown_field_is_refused():
    """A name that is spelt wrong changes nothing silently."""
    with pytest.raises(AttributeError):
        replace(Point(x=1), z=2)


@dataclass(frozen=True, slots=True)
class Checked:
    low: int
    high: int

    def __post_init__(self) -> None:
        assert self.low <= self.high


@dataclass(frozen=True)
class Loose:
    a: int
    b: int


@pytest.mark.parametrize("record", [Checked(1, 2), Loose(1, 2)])
def test_what_checks_itself_or_has_no_slots_is_not_copied(record):
    """Such a copy would leave out a check, or all fields."""
    with pytest.raises(TypeError, match=type(record).__name__):
        replace(record)
