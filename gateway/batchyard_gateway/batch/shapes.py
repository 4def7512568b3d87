"""
Shapes: what values of JSON may look like, and a check that says where one does not.

It must never know an operation. Law: what comes out has only known members of the
right types; unknown members are dropped, as newer clients send them, and cost nothing.
A null and a structure in which nothing is given are as good as absent; an empty list or
map is not, as it may mean "none from now on". Constraint texts are AWS's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from batchyard_gateway.errors import ApiError, ClientException

SHOWN_LENGTH_MAX = 100


class Shape(Protocol):
    """Says whether a value is right."""

    def check(self, value: Any, at: str) -> Any:
        """
        Return the value without what is unknown.

        Args:
            value: Out of JSON, not None.
            at: Where it stands, for messages.

        Raises:
            ApiError: it has the wrong type, or breaks a constraint.
        """


@dataclass(frozen=True, slots=True)
class Text:
    """A text of some length."""

    length_min: int = 0
    length_max: int = 0

    def check(self, value: Any, at: str) -> str:
        """Check type and length."""
        if not isinstance(value, str):
            raise _wrong_type(value, at, "a String")
        if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise ApiError("SerializationException", f"The text at '{at}' is no Unicode: it holds half a character.")
        if len(value) < self.length_min:
            raise constraint(value, at, f"Member must have length greater than or equal to {self.length_min}")
        if self.length_max and len(value) > self.length_max:
            raise constraint(value, at, f"Member must have length less than or equal to {self.length_max}")
        return value


@dataclass(frozen=True, slots=True)
class Words:
    """
    One of some words (an enum).

    Attributes:
        words: As the model spells them.
        any_case: They are taken in any letter case, and kept in lower case, as AWS does.
    """

    words: tuple[str, ...]
    any_case: bool = False

    def check(self, value: Any, at: str) -> str:
        """Check type and word."""
        if not isinstance(value, str):
            raise _wrong_type(value, at, "a String")
        if (value.upper() if self.any_case else value) not in self.words:
            raise constraint(value, at, f"Member must satisfy enum value set: [{', '.join(self.words)}]")
        return value.lower() if self.any_case else value


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number of so many bits."""

    bits: int = 32

    def check(self, value: Any, at: str) -> int:
        """Check type and width."""
        if isinstance(value, bool) or not isinstance(value, int):
            raise _wrong_type(value, at, "an Integer" if self.bits == 32 else "a Long")
        bound = 1 << self.bits - 1
        if not -bound <= value < bound:
            raise ApiError("SerializationException", f"The number at '{at}' does not fit {self.bits} bits.")
        return value


@dataclass(frozen=True, slots=True)
class Number:
    """A number that need not be whole."""

    def check(self, value: Any, at: str) -> float:
        """Check the type."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _wrong_type(value, at, "a Float")
        return float(value)


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false."""

    def check(self, value: Any, at: str) -> bool:
        """Check the type."""
        if not isinstance(value, bool):
            raise _wrong_type(value, at, "a Boolean")
        return value


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    item: Shape
    count_min: int = 0
    count_max: int = 0

    def check(self, value: Any, at: str) -> list[Any]:
        """Check type, number and each item; those that are null are left out."""
        if not isinstance(value, list):
            raise _wrong_type(value, at, "a List")
        given = [(i, item) for i, item in enumerate(value, 1) if item is not None]
        _check_count(given, at, self.count_min, self.count_max)
        return [self.item.check(item, f"{at}.{i}.member") for i, item in given]


@dataclass(frozen=True, slots=True)
class Table:
    """A map of texts to texts."""

    key: Text = Text()
    value: Text = Text()
    count_min: int = 0
    count_max: int = 0

    def check(self, value: Any, at: str) -> dict[str, str]:
        """Check type, number, keys and values; entries that are null are left out."""
        if not isinstance(value, dict):
            raise _wrong_type(value, at, "a Map")
        given = {key: text for key, text in value.items() if text is not None}
        _check_count(given, at, self.count_min, self.count_max)
        return {self.key.check(key, f"{at}.key"): self.value.check(text, f"{at}.value") for key, text in given.items()}


class Structure:
    """
    Members by name; one whose name ends in ``*`` is required.

    Attributes:
        members: Shape of each, by its plain name.
        required: Names of those that must be there.
    """

    def __init__(self, members: Mapping[str, Shape]) -> None:
        self.members = {name.rstrip("*"): shape for name, shape in members.items()}
        self.required = tuple(name.rstrip("*") for name in members if name.endswith("*"))

    def check(self, value: Any, at: str) -> dict[str, Any]:
        """Check type, required members and each known member."""
        if not isinstance(value, dict):
            raise _wrong_type(value, at, "a Structure")
        prefix = f"{at}." if at else ""
        for name in self.required:
            if value.get(name) is None:
                raise ClientException(_failed(f"Value null at '{prefix}{name}'", "Member must not be null"))
        return {
            name: shape.check(value[name], prefix + name)
            for name, shape in self.members.items()
            if name in self.required or _is_given(shape, value.get(name))
        }


@dataclass(frozen=True, slots=True)
class Anything:
    """A part that is not offered: only its presence counts."""

    def check(self, value: Any, at: str) -> bool:
        """Keep that it was there."""
        return True


def _is_given(shape: Shape, value: Any) -> bool:
    """Say whether a member says anything."""
    match shape:
        case Structure() if isinstance(value, dict):
            return any(_is_given(inner, value.get(name)) for name, inner in shape.members.items())
        case Anything():
            return not _is_empty(value)
        case _:
            return value is not None


def _is_empty(value: Any) -> bool:
    """Say whether nothing but nulls, empty structures and empty lists is in it; of any depth, so without recursion."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)
        elif each is not None:
            return False
    return True


def constraint(value: object, at: str, rule: str) -> ClientException:
    """Return the error for a value that breaks a constraint, in AWS's words."""
    shown = str(value)
    cut = shown if len(shown) <= SHOWN_LENGTH_MAX else shown[:SHOWN_LENGTH_MAX] + "..."
    return ClientException(_failed(f"Value '{cut}' at '{at}'", rule))


def _failed(what: str, rule: str) -> str:
    return f"1 validation error detected: {what} failed to satisfy constraint: {rule}"


def _check_count(value: list[Any] | dict[str, Any], at: str, count_min: int, count_max: int) -> None:
    if len(value) < count_min:
        raise constraint(f"{len(value)} entries", at, f"Member must have length greater than or equal to {count_min}")
    if count_max and len(value) > count_max:
        raise constraint(f"{len(value)} entries", at, f"Member must have length less than or equal to {count_max}")


_NAMES: Mapping[type, str] = {
    str: "STRING_VALUE",
    bool: "BOOLEAN_VALUE",
    int: "NUMBER_VALUE",
    float: "NUMBER_VALUE",
    list: "LIST_VALUE",
    dict: "STRUCTURE_VALUE",
}


def _wrong_type(value: object, at: str, wanted: str) -> ApiError:
    text = f"{_NAMES[type(value)]} can not be converted to {wanted}"
    return ApiError("SerializationException", f"{text} (at '{at}')." if at else f"{text}.")
