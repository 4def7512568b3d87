"""
Rows: messages of the contract to records and back, over equal names.

A row is a field of a record and the field of a message that bears the same name; how
a value is written on each side follows from their types. Whatever is otherwise is
spelt out as a `Row`, beside the pair of types that it belongs to. It must never know
what a field means. Laws: a field that one side alone has is named there, or nothing
starts; what a message does not say is the record's default; a wrong number of an enum
is a violation, with the field's path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import MISSING, Field, dataclass, fields
from enum import StrEnum
from types import NoneType
from typing import Any, Generic, Protocol, TypeVar, get_args, get_type_hints

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from batchyard.errors import InvalidArgumentError, Reason, Violation
from batchyard.pairs import pairs

E = TypeVar("E", bound=StrEnum)
R = TypeVar("R")
M = TypeVar("M", bound=Message)

_Way = Callable[[Any], Any] | None
"""How a value is turned; None: it is left as it is."""


class Kind(Protocol):
    """How a value is written on each side."""

    def read(self, value: Any, /) -> Any:
        """Return the record's value of the contract's."""

    def write(self, value: Any, /) -> Any:
        """Return the contract's value of the record's."""


@dataclass(frozen=True, slots=True)
class Custom:
    """A kind of two functions."""

    read: Callable[[Any], Any]
    write: Callable[[Any], Any]


class Words(Generic[E]):
    """
    Words of an enum, by the names of their numbers in the contract.

    A word that the contract does not have is what no number at all means.
    """

    def __init__(self, type_: type[E], enum: EnumDescriptor, unknown: str = "") -> None:
        """
        Pair words with numbers.

        Args:
            type_: The core's words.
            enum: The contract's.
            unknown: What is said of a number without a word; by default, which words there are.

        Raises:
            TypeError: the contract has a word that the core does not, or lacks more than one.
        """
        prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
        numbers = {value.name.removeprefix(prefix): value.number for value in enum.values if value.number}
        if not numbers.keys() <= {word.name for word in type_} or len(numbers) < len(type_) - 1:
            raise TypeError(f"{type_.__name__} has not the words {', '.join(numbers)}")
        self._words = {number: type_[name] for name, number in numbers.items()}
        self._numbers = {word: number for number, word in self._words.items()}
        self._allowed = ", ".join(word.name for word in self._words.values())
        self._unknown = unknown

    def read(self, number: int, field: str = "") -> E:
        """
        Return the word of a number.

        Raises:
            InvalidArgumentError: naming *field*; it has none.
        """
        word = self._words.get(number)
        if word is None:
            text, reason = f"{number} {self._unknown}", Reason.UNKNOWN_VALUE
            if not self._unknown:
                text = f"{number} is not one of {self._allowed}"
                if not number:
                    text, reason = f"is required, one of {self._allowed}", Reason.REQUIRED
            raise InvalidArgumentError.from_violations([Violation(field, text, reason)])
        return word

    def write(self, word: E) -> Any:
        """Return a word's number."""
        return self._numbers.get(word, 0)


@dataclass(frozen=True, slots=True)
class Row:
    """
    A field that is not simply the same on both sides.

    Attributes:
        field: The record's.
        name: The contract's; empty: the same.
        kind: How values are written; None: as the types say.
        unset: What it is when the message does not say it; None: the record's default.
        required: The message must say it; so must any word that has no default.
        always: It is in the message even if nothing is in it.
    """

    field: str
    name: str = ""
    kind: Kind | None = None
    unset: Any = None
    required: bool = False
    always: bool = False


class Rows(Generic[R, M]):
    """The rows of a type of records and a type of messages."""

    def __init__(
        self,
        record: type[R],
        message: type[M],
        *rows: Row,
        record_only: Iterable[str] = (),
        message_only: Iterable[str] = (),
    ) -> None:
        """
        Pair the fields, once for all messages.

        Args:
            record: A dataclass.
            message: The contract's.
            rows: What is not as the types say.
            record_only: Fields that the message does not have; given to `read`, or at their defaults.
            message_only: Fields that the record does not have; given to `write`, or unset.

        Raises:
            TypeError: a field has no counterpart, or none of its type.
        """
        self._record, self._message = record, message
        self._readers: dict[FieldDescriptor, tuple[str, _Way]] = {}
        self._writers: list[tuple[str, str, _Way, bool]] = []
        self._unset: dict[str, Any] = {}
        self._required: list[tuple[str, str, Words[Any]]] = []
        spelt, skipped, types = {row.field: row for row in rows}, {*record_only}, get_type_hints(record)
        left: dict[str, Any] = {field.name: field for field in message.DESCRIPTOR.fields}
        for field in fields(record):  # type: ignore[arg-type]  # what is no dataclass fails here
            if field.name in skipped:
                skipped.remove(field.name)
            else:
                row = spelt.pop(field.name, None) or Row(field.name)
                self._pair(row, field, types[field.name], left.pop(row.name or row.field, None))
        if unpaired := [*spelt, *skipped, *(left.keys() ^ {*message_only})]:
            raise TypeError(f"no pairs in {record.__name__} and {message.DESCRIPTOR.name}: {', '.join(unpaired)}")

    def _pair(self, row: Row, field: Field[Any], type_: Any, said: FieldDescriptor | None) -> None:
        if said is None:
            raise TypeError(f"no pairs in {self._record.__name__} and {self._message.DESCRIPTOR.name}: {field.name}")
        may_be_none = NoneType in get_args(type_)
        kind = row.kind or _kind(type_, said)
        read, write = (None, None) if kind is None else (kind.read, kind.write)
        structure = None if is_repeated(said) or may_be_none else said.message_type
        if structure is not None and not row.always:
            write = _unless_empty(write)
        self._readers[said] = (field.name, read)
        self._writers.append((field.name, said.name, write, said.has_presence))
        if isinstance(kind, Words) and (row.required or (row.unset is None and field.default is MISSING)):
            self._required.append((field.name, said.name, kind))
        elif row.unset is not None:
            self._unset[field.name] = row.unset
        elif structure is not None and kind is not None:
            # Not the record's default: an empty message may say something else.
            self._unset[field.name] = kind.read(GetMessageClass(structure)())
        elif field.default is MISSING:
            self._unset[field.name] = None if may_be_none else () if is_repeated(said) else said.default_value

    def read(self, message: M, **others: Any) -> R:
        """
        Turn a message into a record.

        Args:
            message: What to read.
            others: Fields of the record beside it, or in place of what it says.

        Raises:
            InvalidArgumentError: an enum has a number without a word, or none where one is required.
        """
        values = self._unset.copy()
        self._take(message, values)
        values.update(others)
        for field, name, words in self._required:
            if field not in values:
                words.read(0, name)
        return self._record(**values)

    def said(self, message: M) -> dict[str, Any]:
        """Return those fields of a record that a message says, as `read` does."""
        values: dict[str, Any] = {}
        self._take(message, values)
        return values

    def _take(self, message: M, values: dict[str, Any]) -> None:
        for said, value in message.ListFields():
            paired = self._readers.get(said)
            if paired is not None:
                field, read = paired
                try:
                    values[field] = value if read is None else read(value)
                except InvalidArgumentError as err:
                    raise _within(said.name, err) from None

    def write(self, record: R, **others: Any) -> M:
        """Turn a record into a message, which has *others* beside what the record says."""
        for field, name, write, has_presence in self._writers:
            value = getattr(record, field)
            if value or (has_presence and value is not None):
                others[name] = value if write is None else write(value)
        return self._message(**others)


class ListOf:
    """A list of messages that is a tuple of records."""

    def __init__(self, rows: Kind) -> None:
        self._rows = rows

    def read(self, messages: Iterable[Any]) -> tuple[Any, ...]:
        """Turn messages into records."""
        records: list[Any] = []
        try:
            for message in messages:
                records.append(self._rows.read(message))  # noqa: PERF401  # it says where reading failed
        except InvalidArgumentError as err:
            raise _within(f"[{len(records)}]", err) from None
        return tuple(records)

    def write(self, records: Iterable[Any]) -> list[Any]:
        """Turn records into messages."""
        return [self._rows.write(record) for record in records]


def _kind(type_: Any, said: FieldDescriptor) -> Kind | None:
    """Return how values of a type are written; None where they are the same on both sides."""
    part = next((part for part in get_args(type_) if part not in (NoneType, Ellipsis)), type_)
    if said.message_type is not None:
        if said.message_type.GetOptions().map_entry:
            return Custom(pairs, dict)
        rows: Rows[Any, Any] = Rows(part, GetMessageClass(said.message_type))
        return ListOf(rows) if is_repeated(said) else rows
    if said.enum_type is not None:
        return Words(part, said.enum_type)
    if is_repeated(said):
        return Custom(tuple, list)
    if isinstance(part, type) and part is not type(said.default_value):
        raise TypeError(f"{said.full_name} is a {type(said.default_value).__name__}, not a {part.__name__}")
    return None


def is_repeated(said: FieldDescriptor) -> bool:
    """Say whether a field is a list, or a map."""
    return isinstance(said.default_value, list)


def _unless_empty(write: _Way) -> _Way:
    """Leave out a structure that says nothing."""

    def written(value: Any) -> Any:
        message = value if write is None else write(value)
        return message if message.ByteSize() else None

    return written


def _within(place: str, err: InvalidArgumentError) -> InvalidArgumentError:
    """Return an error about a part as one about the whole."""
    return InvalidArgumentError.from_violations(
        [
            Violation(f"{place}{'.' if v.field and not v.field.startswith('[') else ''}{v.field}", v.message, v.reason)
            for v in err.violations
        ]
    )
