"""Array rules: how many children a submission may have, and what they are told."""

from __future__ import annotations

import re

from batchyard.array_values import ITEM, NO_VALUES, ArrayValues, numbers_of
from batchyard.errors import Reason, Violation
from batchyard_controller.core import limits
from batchyard_controller.core.jobs.resolution import Submission

from .checks import Violations, check_range, quote

_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def check_array(out: Violations, submission: Submission) -> None:
    """Check what a submission says of its children."""
    size, values = submission.array_size, submission.array_values
    if size != 0:
        least = limits.ARRAY_SIZE_MIN if values == NO_VALUES else 1
        check_range(out, "array_size", size, least, limits.ARRAY_SIZE_MAX)
    if submission.array_concurrency != 0:
        check_range(out, "array_concurrency", submission.array_concurrency, 1, limits.ARRAY_SIZE_MAX, "children")
    if submission.array_max_fails is not None:
        check_range(out, "array_max_fails", submission.array_max_fails, 0, limits.ARRAY_SIZE_MAX, "children")
    given = {
        "array_concurrency": submission.array_concurrency != 0,
        "array_values": values != NO_VALUES,
        "array_max_fails": submission.array_max_fails is not None,
    }
    if not size:
        text = "is only for an array job"
        out.extend(Violation(name, text, Reason.CONFLICT) for name, is_given in given.items() if is_given)
    elif values != NO_VALUES:
        _check_values(out, values, size)


def _check_values(out: Violations, values: ArrayValues, size: int) -> None:
    before = len(out)
    _check_numbers(out, values)
    _check_items(out, values)
    if len(out) > before:
        return
    if values.children != size:
        text = f"{size} is not the number of children that array_values has, {values.children}"
        out.append(Violation("array_size", text, Reason.CONFLICT))
    count = values.items_count
    if values.numbers and count and (largest := numbers_of(values.numbers).largest) >= count:
        text = f"{largest} has no item: there are {count}, counted from 0"
        out.append(Violation("array_values.numbers", text, Reason.OUT_OF_RANGE))


def _check_numbers(out: Violations, values: ArrayValues) -> None:
    length = len(values.numbers)
    if length > limits.ARRAY_NUMBERS_LENGTH_MAX:
        text = f"{length} characters; at most {limits.ARRAY_NUMBERS_LENGTH_MAX} are allowed"
        out.append(Violation("array_values.numbers", text, Reason.TOO_LONG))
    elif values.numbers:
        try:
            numbers_of(values.numbers)
        except ValueError as err:
            out.append(Violation("array_values.numbers", str(err), Reason.MALFORMED))


def _check_items(out: Violations, values: ArrayValues) -> None:
    if values.items and values.sweep:
        out.append(Violation("array_values.sweep", "give either items or a sweep, not both", Reason.CONFLICT))
    field = "array_values.sweep" if values.sweep else "array_values.items"
    texts = [*values.items, *(text for axis in values.sweep for text in axis.values)]
    if (size := sum(len(text.encode()) + 1 for text in texts)) > limits.ARRAY_ITEMS_BYTES_MAX:
        text = f"{size} bytes, one more an item; at most {limits.ARRAY_ITEMS_BYTES_MAX} are allowed"
        out.append(Violation(field, text, Reason.TOO_LONG))
        return
    told = [values.items, *(axis.values for axis in values.sweep)]
    if (
        size := sum(max((len(text.encode()) for text in each), default=0) for each in told)
    ) > limits.ARRAY_ITEM_BYTES_MAX:
        text = f"an item of {size} bytes; at most {limits.ARRAY_ITEM_BYTES_MAX} are allowed"
        out.append(Violation(field, text, Reason.TOO_LONG))
    if wrong := next((text for text in texts if _CONTROL.search(text)), None):
        out.append(Violation(field, f"{quote(wrong)} holds a control character", Reason.BAD_CHARACTERS))
    if len(values.sweep) > limits.SWEEP_AXES_MAX:
        text = f"{len(values.sweep)} given; at most {limits.SWEEP_AXES_MAX} are allowed"
        out.append(Violation(field, text, Reason.TOO_MANY))
    names = [axis.name for axis in values.sweep]
    for i, axis in enumerate(values.sweep[: limits.SWEEP_AXES_MAX]):
        if not _NAME.fullmatch(axis.name) or axis.name == ITEM:
            text = f"{quote(axis.name)} must be letters, digits, '-' and '_', and not {ITEM}"
            out.append(Violation(f"{field}[{i}].name", text, Reason.BAD_CHARACTERS))
        elif names.count(axis.name) > 1:
            out.append(Violation(f"{field}[{i}].name", f"{quote(axis.name)} is swept twice", Reason.DUPLICATE))
        if not axis.values:
            out.append(Violation(f"{field}[{i}].values", "at least one value is required", Reason.REQUIRED))
