"""
Array values: which number each child of an array has, and which item; in the words of controller and client alike.

Pure. Children stand one after the other, from 0; a child's number is what it is told as
its index, and by which its item is found, so that some of an array's children can be run
again as what they were. Law: what is kept is as long as what was asked for, however many
children there are, and nothing is made for all of them at once.
"""

from __future__ import annotations

import bisect
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise
from math import prod

ITEM = "item"
"""By this name a command refers to the item as it is: ``Ref::item``."""

_NAME = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
"""As ``Ref::`` takes it; members of other names are in the item alone."""
_RANGE = re.compile(r"(\d{1,9})(?:-(\d{1,9})(?::(\d{1,9}))?)?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One parameter of a sweep, and what it is in turn."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayValues:
    """
    What the children of an array are told.

    Attributes:
        numbers: Their numbers, as ``0-9``, ``1-100:5`` or ``3,7,9-12``; empty: from 0 on.
        items: The child of number n has the n-th, counted from 0.
        sweep: In place of items: each combination of values, the last axis the fastest.
    """

    numbers: str = ""
    items: tuple[str, ...] = ()
    sweep: tuple[Axis, ...] = ()

    @property
    def items_count(self) -> int:
        """How many items there are, or combinations; 0: children have none."""
        return prod(len(axis.values) for axis in self.sweep) if self.sweep else len(self.items)

    @property
    def children(self) -> int:
        """How many children they make; 0: any number."""
        return len(numbers_of(self.numbers)) if self.numbers else self.items_count

    @property
    def names(self) -> tuple[str, ...]:
        """What a command may refer to."""
        if self.sweep:
            return (ITEM, *(axis.name for axis in self.sweep))
        return (ITEM, *_members(self.items[0])) if self.items else ()

    def number(self, place: int) -> int:
        """Return the number of the child at a place."""
        return numbers_of(self.numbers).at(place) if self.numbers else place

    def item(self, number: int) -> str | None:
        """Return the item of a number; of a sweep as JSON. None: there is none."""
        if self.sweep:
            return json.dumps(self._combination(number))
        return self.items[number] if number < len(self.items) else None

    def values(self, number: int) -> dict[str, str]:
        """Return what a child of a number is told, by name: its item, and each member of one that is a JSON object."""
        item = self.item(number)
        if item is None:
            return {}
        members = self._combination(number) if self.sweep else _members(item)
        return {**members, ITEM: item}

    def _combination(self, number: int) -> dict[str, str]:
        found = {}
        for axis in reversed(self.sweep):
            number, place = divmod(number, len(axis.values))
            found[axis.name] = axis.values[place]
        return dict(reversed(found.items()))


NO_VALUES = ArrayValues()


class Numbers:
    """Numbers in ascending ranges: those that a text names, without being one by one in memory."""

    def __init__(self, ranges: list[range]) -> None:
        self._ranges = ranges
        self._ends = list(accumulate(len(each) for each in ranges))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @property
    def largest(self) -> int:
        """The last of them."""
        return self._ranges[-1][-1]

    def at(self, place: int) -> int:
        """Return the one at a place, counted from 0."""
        which = bisect.bisect_right(self._ends, place)
        return self._ranges[which][place - (self._ends[which - 1] if which else 0)]


@lru_cache(maxsize=256)
def numbers_of(text: str) -> Numbers:
    """
    Read numbers: single ones and ranges with a step, ascending, with commas between.

    Raises:
        ValueError: naming the part that is wrong.
    """
    ranges = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"{part[:40]!r} is no number, and no range such as 1-100 or 1-100:5")
        first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
        if last < first or not step:
            raise ValueError(f"{part[:40]!r} is an empty range, or one without a step")
        ranges.append(range(first, last + 1, step))
    for before, after in pairwise(ranges):
        if after[0] <= before[-1]:
            raise ValueError(f"{after[0]} stands behind {before[-1]}: numbers ascend, each once")
    return Numbers(ranges)


def numbers_text(numbers: list[int]) -> str:
    """Write ascending numbers as `numbers_of` reads them, with ranges where three or more stand in one step."""
    parts, at = [], 0
    while at < len(numbers):
        step = numbers[at + 1] - numbers[at] if at + 1 < len(numbers) else 0
        end = at
        while end + 1 < len(numbers) and numbers[end + 1] - numbers[end] == step:
            end += 1
        if end - at < 2:
            parts.append(str(numbers[at]))
            at += 1
            continue
        parts.append(f"{numbers[at]}-{numbers[end]}" + (f":{step}" if step > 1 else ""))
        at = end + 1
    return ",".join(parts)


def _members(item: str) -> dict[str, str]:
    """Return the members of an item that is a JSON object, texts as they are; none of all others."""
    if not item.startswith("{"):
        return {}
    try:
        found = json.loads(item)
    except (ValueError, RecursionError):
        return {}
    members = {key: value if isinstance(value, str) else json.dumps(value) for key, value in found.items()}
    return {key: value for key, value in members.items() if key != ITEM and _NAME.fullmatch(key) and "\0" not in value}
