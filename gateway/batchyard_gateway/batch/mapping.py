"""
Mapping: AWS's members to the contract's fields and back, by tables of rows.

A `Row` names a member and a field and says how a value is written on each side. It
must never know what a member means. Law: what is mapped there and back is the same,
or is in the residue: the given members that the contract cannot say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from google.protobuf.message import Message

from batchyard import wording
from batchyard_gateway.services import Members

M = TypeVar("M", bound=Message)

ANNOTATION = "aws"
"""Under this key the contract's annotations keep a residue, as JSON."""


class Kind(Protocol):
    """How a value is written on each side."""

    def into(self, value: Any) -> Any:
        """Return the contract's value of AWS's."""

    def out(self, value: Any) -> Any:
        """Return AWS's value of the contract's."""


class Plain:
    """The same on both sides."""

    def into(self, value: Any) -> Any:
        """Return it."""
        return value

    def out(self, value: Any) -> Any:
        """Return it."""
        return value


class Listed(Plain):
    """A list of plain values."""

    def out(self, value: Any) -> list[Any]:
        """Return the list."""
        return list(value)


class Mapped(Plain):
    """A map of texts."""

    def out(self, value: Any) -> dict[str, str]:
        """Return the map, in the order of its keys."""
        return dict(sorted(value.items()))


class NamedValues:
    """A map of texts that AWS writes as a list of ``{name, value}``; the last of a name wins."""

    def into(self, value: Sequence[Mapping[str, str]]) -> dict[str, str]:
        """Return the map."""
        return {each.get("name", ""): each.get("value", "") for each in value}

    def out(self, value: Mapping[str, str]) -> list[dict[str, str]]:
        """Return the list, in the order of its names."""
        return [{"name": name, "value": text} for name, text in sorted(value.items())]


@dataclass(frozen=True, slots=True)
class Word:
    """
    A word of an enum.

    Attributes:
        enum: The contract's.
        is_lower: AWS shows it in lower case.
    """

    enum: Any
    is_lower: bool = False

    def into(self, value: str) -> int:
        """Return the number."""
        return int(wording.number(self.enum, "", value))

    def out(self, value: int) -> str:
        """Return the word."""
        word = wording.word(self.enum, value)
        return word.lower() if self.is_lower else word


@dataclass(frozen=True, slots=True)
class Nested:
    """A structure of its own."""

    rows: tuple[Row, ...]
    message: type[Message]

    def into(self, value: Members) -> Message:
        """Return the message."""
        return to_message(self.rows, self.message, value)

    def out(self, value: Message) -> Members:
        """Return the members."""
        return to_members(self.rows, value)


@dataclass(frozen=True, slots=True)
class NestedList:
    """A list of structures."""

    rows: tuple[Row, ...]
    message: type[Message]

    def into(self, value: Sequence[Members]) -> list[Message]:
        """Return the messages."""
        return [to_message(self.rows, self.message, each) for each in value]

    def out(self, value: Sequence[Message]) -> list[Members]:
        """Return a list of members."""
        return [to_members(self.rows, each) for each in value]


PLAIN, LISTED, MAPPED, NAMED_VALUES = Plain(), Listed(), Mapped(), NamedValues()


@dataclass(frozen=True, slots=True)
class Row:
    """
    A member and its field.

    Attributes:
        member: AWS's name; a dot leads into a structure that the contract does not have.
        field: The contract's.
        kind: How values are written.
        always: It is shown even if it is empty.
    """

    member: str
    field: str
    kind: Kind = PLAIN
    always: bool = False


def fields(rows: Sequence[Row], members: Members) -> dict[str, Any]:
    """Return the contract's fields of those members that are given."""
    found = {}
    for row in rows:
        outer, dot, inner = row.member.partition(".")
        value = members.get(outer)
        if dot and value is not None:
            value = value.get(inner)
        if value is not None:
            found[row.field] = row.kind.into(value)
    return found


def to_message(rows: Sequence[Row], message: type[M], members: Members) -> M:
    """Build a message of those members that are given."""
    return message(**fields(rows, members))


def to_members(rows: Sequence[Row], message: Message) -> Members:
    """Return the members of a message: those that are set, and those that are always shown."""
    members: Members = {}
    for row in rows:
        value = row.kind.out(getattr(message, row.field))
        if not row.always and not _is_set(message, row.field, value):
            continue
        outer, dot, inner = row.member.partition(".")
        if dot:
            members.setdefault(outer, {})[inner] = value
        else:
            members[outer] = value
    return members


def _is_set(message: Message, field: str, value: Any) -> bool:
    if message.DESCRIPTOR.fields_by_name[field].has_presence:
        return message.HasField(field)
    return bool(value)


def residue(given: Members, shown: Members) -> Members:
    """Return the given members that would come back otherwise."""
    return {name: value for name, value in given.items() if not _is_same(value, shown.get(name))}


def _is_same(given: Any, shown: Any) -> bool:
    if isinstance(given, list) and isinstance(shown, list) and all(isinstance(each, dict) for each in given):
        # The order of variables and of requirements means nothing.
        return sorted(given, key=_name) == sorted(shown, key=_name)
    return bool(given == shown)


def _name(each: Any) -> str:
    return str(each.get("name", each.get("type", "")))


def annotated(kept: Members) -> dict[str, str]:
    """Return the annotations that keep a residue; none for an empty one."""
    return {ANNOTATION: json.dumps(kept, separators=(",", ":"), ensure_ascii=False)} if kept else {}


def kept_in(annotations: Mapping[str, str]) -> Members:
    """Return the residue that annotations keep; nothing for those that no gateway wrote."""
    text = annotations.get(ANNOTATION, "")
    try:
        kept = json.loads(text) if text else {}
    except ValueError:  # somebody else's annotation of the same name
        return {}
    return kept if isinstance(kept, dict) else {}
