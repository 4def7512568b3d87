"""
Inputs of the services around AWS Batch: members of the right type and within bounds, or AWS's refusal.

It must never know a service. The texts are those of AWS's own validation.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any, TypeVar

from .errors import ApiError
from .services import Members

T = TypeVar("T")


def invalid(message: str) -> ApiError:
    """Return the error of an input that breaks a rule."""
    return ApiError("InvalidParameterException", message)


def text(members: Members, name: str, default: str = "") -> str:
    """Return a text, *default* when it is absent."""
    return _typed(members, name, str, default)


def required(members: Members, name: str) -> str:
    """
    Return a text that must be there.

    Raises:
        ApiError: it is absent, empty or no text.
    """
    value = text(members, name)
    if not value:
        raise invalid(
            f"1 validation error detected: Value at '{name}' failed to satisfy constraint: Member must not be null"
        )
    return value


def flag(members: Members, name: str, *, default: bool = False) -> bool:
    """Return a truth value."""
    return _typed(members, name, bool, default)


def number(members: Members, name: str, default: int, *, least: int = 0, most: int = 2**63 - 1) -> int:
    """
    Return an integer.

    Raises:
        ApiError: it is none, or out of bounds.
    """
    value = _typed(members, name, int, default)
    for is_bad, rule in (
        (value < least, f"greater than or equal to {least}"),
        (value > most, f"less than or equal to {most}"),
    ):
        if is_bad:
            raise invalid(
                f"1 validation error detected: Value '{value}' at '{name}' failed to satisfy constraint: "
                f"Member must have value {rule}"
            )
    return value


def texts(members: Members, name: str, *, most: int) -> list[str]:
    """
    Return a list of texts, empty when it is absent.

    Raises:
        ApiError: it is none, or too long.
    """
    values = _typed(members, name, list, [])
    if not all(isinstance(value, str) for value in values):
        raise _wrong_type(name)
    if len(values) > most:
        raise invalid(f"{name} has {len(values)} members; at most {most} are allowed.")
    return values


def token(*place: str | int) -> str:
    """Return an opaque token that says where to go on."""
    return base64.urlsafe_b64encode(json.dumps(place, separators=(",", ":")).encode()).decode()


def place(members: Members, read: Callable[[Any], T], name: str = "nextToken") -> T | None:
    """
    Return where a token says to go on, None when there is none.

    Args:
        members: The input.
        read: Makes a place of the token's list; raises ValueError or TypeError of another's.
        name: The token's member.

    Raises:
        ApiError: it is none of ours.
    """
    value = text(members, name)
    if not value:
        return None
    try:
        return read(json.loads(base64.b64decode(value.encode(), altchars=b"-_", validate=True)))
    except (ValueError, TypeError, RecursionError):
        raise invalid(f"The specified {name} is invalid.") from None


def _typed(members: Members, name: str, kind: type[T], default: T) -> T:
    value = members.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise _wrong_type(name)
    return value


def _wrong_type(name: str) -> ApiError:
    return ApiError("SerializationException", f"The member {name} has a value of the wrong type.")
