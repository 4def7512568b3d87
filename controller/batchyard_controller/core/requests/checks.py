"""
Checks: what every rule about a request is made of.

They know numbers and texts, and no request. Each appends a `Violation` that
names the field, the value and the limit; `refuse` raises what has come together.
"""

from __future__ import annotations

import re

from batchyard.errors import InvalidArgumentError, Reason, ResourceExhaustedError, Violation
from batchyard_controller.core import limits

Violations = list[Violation]

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def refuse(violations: Violations) -> None:
    """
    Raise if anything is wrong.

    Raises:
        InvalidArgumentError: with all violations.
    """
    if violations:
        raise InvalidArgumentError.from_violations(violations)


def require_room(present: int, most: int, what: str, reason: Reason) -> None:
    """
    Raise if there are already as many of a kind as are kept.

    Raises:
        ResourceExhaustedError: naming *what* they are, and the limit.
    """
    if present >= most:
        text = f"there are {most} {what}, the most allowed"
        raise ResourceExhaustedError(text, reason=reason, metadata={"limit": str(most)})


def quote(value: str) -> str:
    """Show a value in a message, cut if it is long."""
    return repr(value if len(value) <= 40 else value[:37] + "...")


def printable(value: str, length_max: int) -> str:
    """Return a text of a stranger in one line: what cannot be printed is replaced, what is too long cut."""
    shown = value[:length_max]
    return (
        shown if shown.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in shown)
    )


def check_range(out: Violations, field: str, value: float, low: float, high: float, unit: str = "") -> None:
    """Check that a number lies between two limits, both allowed."""
    if not low <= value <= high:
        unit_text = f" {unit}" if unit else ""
        out.append(Violation(field, f"{value}{unit_text} is not between {low} and {high}", Reason.OUT_OF_RANGE))


def check_fence(out: Violations, fence_s: int) -> None:
    """Check the fence of a job or a queue; 0: it says nothing."""
    if fence_s and fence_s != limits.FENCE_NEVER_S and not limits.FENCE_S_MIN <= fence_s <= limits.FENCE_S_MAX:
        bounds = f"between {limits.FENCE_S_MIN} and {limits.FENCE_S_MAX}, nor {limits.FENCE_NEVER_S}, which is never"
        out.append(Violation("fence_s", f"{fence_s} seconds is neither {bounds}", Reason.OUT_OF_RANGE))


def check_text(out: Violations, field: str, value: str, length_max: int) -> None:
    """Check a free text: its length, and that it holds lines and tabs but no other control characters."""
    if len(value) > length_max:
        out.append(Violation(field, f"{len(value)} characters; at most {length_max} are allowed", Reason.TOO_LONG))
    elif control := _CONTROL.search(value):
        text = f"{quote(value)} holds the control character {control[0]!r}"
        out.append(Violation(field, text, Reason.BAD_CHARACTERS))
