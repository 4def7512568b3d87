"""
Array input: which children an array has, by what a person gives: numbers, lines, JSON, sweeps.

Pure, but for reading files that are open. How much is kept, the controller says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO

from batchyard.array_values import NO_VALUES, ArrayValues, Axis, numbers_of

if TYPE_CHECKING:
    from batchyard.v1.job_pb2 import ArrayValues as ArrayMessage

_SPAN = re.compile(r"(-?\d+)\.\.(-?\d+)(?:\.\.(\d+))?", re.ASCII)
_SPAN_MAX = 100_000


def read(
    numbers: str, lines: BinaryIO | None, elements: BinaryIO | None, sweeps: Sequence[str]
) -> tuple[int, ArrayValues]:
    """
    Return how many children there are, 0 for no array, and what they are told.

    Args:
        numbers: ``20``, or numbers with ranges; of items: which of them.
        lines: Its lines are items, without their ends.
        elements: Holds a JSON array; its elements are items.
        sweeps: ``NAME=VALUES`` each.

    Raises:
        ValueError: naming what is wrong.
    """
    given = [bool(sweeps), lines is not None, elements is not None]
    if sum(given) > 1:
        raise ValueError("give one of --each-line, --from-json and --sweep")
    items: tuple[str, ...] = ()
    if lines is not None:
        items = tuple(lines.read().decode().splitlines())
    elif elements is not None:
        items = _elements(elements.read())
    axes = tuple(_axis(text) for text in sweeps)
    if any(given) and not (items or axes):
        raise ValueError("there is no item, so the array would have no child")
    if numbers.isdecimal():
        size = int(numbers)
        if not any(given):
            if size < 2:  # an array of one is a job
                raise ValueError(f"--array {numbers}: an array has at least 2 children")
            return size, NO_VALUES
        raise ValueError(f"--array {numbers} beside items says which of them: {numbers}-{numbers}, or 0-{numbers}")
    if not numbers and not any(given):
        return 0, NO_VALUES
    try:
        numbers = "" if not numbers else numbers.replace(" ", "")
        values = ArrayValues(numbers=numbers, items=items, sweep=axes)
        return len(numbers_of(numbers)) if numbers else values.items_count, values
    except ValueError as err:
        raise ValueError(f"--array: {err}") from err


def message(values: ArrayValues) -> ArrayMessage | None:
    """Return the contract's message; None of an array that has only a size."""
    if values == NO_VALUES:
        return None
    from batchyard.v1 import job_pb2

    sweep = [job_pb2.SweepAxis(name=axis.name, values=axis.values) for axis in values.sweep]
    return job_pb2.ArrayValues(numbers=values.numbers, items=values.items, sweep=sweep)


def _elements(data: bytes) -> tuple[str, ...]:
    found = json.loads(data)
    if not isinstance(found, list):
        raise ValueError("--from-json: the file holds no JSON array")  # noqa: TRY004  # as all that is wrong with it
    return tuple(each if isinstance(each, str) else json.dumps(each, ensure_ascii=False) for each in found)


def _axis(text: str) -> Axis:
    name, equals, rest = text.partition("=")
    if not name or not equals or not rest:
        raise ValueError(f"--sweep {text!r} is not NAME=VALUES, such as lr=0.1,0.2 or seed=1..5")
    values: list[str] = []
    for part in rest.split(","):
        span = _SPAN.fullmatch(part)
        if span is None:
            values.append(part)
            continue
        first, last, step = int(span[1]), int(span[2]), int(span[3] or 1)
        if last < first or not step or (last - first) // step >= _SPAN_MAX:
            raise ValueError(f"--sweep {text!r}: {part} is an empty range, or has more than {_SPAN_MAX} values")
        values += map(str, range(first, last + 1, step))
    return Axis(name=name, values=tuple(values))
