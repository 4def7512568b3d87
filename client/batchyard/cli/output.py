"""
Output: tables for people, JSON for scripts; data on stdout, notes on stderr.

JSON is the contract's own (protobuf's JSON mapping, names as in the ``.proto``
files, fields at their default included), with two departures: 64-bit integers are
numbers, not strings, so that ``jq`` can count with them, and enums are the words that
flags take and tables show. ``json_input`` reads both forms. Commands that read by name
or list give a list, commands about one thing give an object.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import click

from batchyard.cli import harmless
from batchyard.errors import NotFoundError

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

FORMATS = ("table", "wide", "json", "name")

T = TypeVar("T", bound="Message")

STYLES = {
    "RUNNING": "cyan",
    "STARTING": "cyan",
    "RUNNABLE": "yellow",
    "PENDING": "yellow",
    "SUBMITTED": "yellow",
    "SUCCEEDED": "green",
    "FAILED": "red",
    "READY": "green",
    "VALID": "green",
    "ENABLED": "green",
    "ACTIVE": "green",
    "CORDONED": "yellow",
    "DRAINING": "yellow",
    "DRAINED": "yellow",
    "DISABLED": "yellow",
    "INACTIVE": "yellow",
    "UNREACHABLE": "red",
    "INVALID": "red",
}
"""Colours of words that stand alone in a cell."""

PAGE_WIDTH = 1000
"""Width when stdout is no terminal: nothing is cut off that a script may want."""

GAP = 2
"""Blanks between columns."""

ELASTIC_WIDTH_MIN = 5
"""Least width of a column that may be cut off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column(Generic[T]):
    """
    One column of a table.

    Attributes:
        title: Its heading.
        cell: What a row shows.
        is_wide: Whether it is left out but with ``-o wide``.
        is_number: Whether it is aligned to the right.
        is_elastic: Whether it is cut off where the terminal is too narrow.
    """

    title: str
    cell: Callable[[T], str]
    is_wide: bool = False
    is_number: bool = False
    is_elastic: bool = False


def show_rows(output: str, rows: Sequence[T], columns: Sequence[Column[T]], name: Callable[[T], str]) -> None:
    """Write a list in the format asked."""
    match output:
        case "json":
            write_json([to_plain(row) for row in rows])
        case "name":
            show_names(map(name, rows))
        case _:
            chosen = [column for column in columns if output == "wide" or not column.is_wide]
            show_table(
                [column.title for column in chosen],
                [[column.cell(row) for column in chosen] for row in rows],
                numbers={column.title for column in chosen if column.is_number},
                elastic={column.title for column in chosen if column.is_elastic},
            )


def show_described(
    output: str,
    noun: str,
    names: Sequence[str],
    found: Mapping[str, T],
    fields: Callable[[T], Sequence[tuple[str, str]]],
) -> None:
    """
    Write what was found of *names*, in their order.

    Raises:
        NotFoundError: naming those that were not found, after the others are written.
    """
    present = [found[name] for name in dict.fromkeys(names) if name in found]
    match output:
        case "json":
            write_json([to_plain(row) for row in present])
        case "name":
            show_names(name for name in dict.fromkeys(names) if name in found)
        case _:
            for position, row in enumerate(present):
                if position:
                    click.echo()
                show_fields(fields(row))
    missing = [name for name in dict.fromkeys(names) if name not in found]
    if missing:
        raise NotFoundError(f"no such {noun}: {', '.join(missing)}")


def show_names(names: Iterable[str]) -> None:
    """Write one name a line."""
    for name in names:
        click.echo(harmless.line(name))


def write_json(plain: object) -> None:
    """Write JSON to stdout."""
    click.echo(harmless.json_text(plain, indent=2))


def show_table(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numbers: Collection[str] = (),
    elastic: Collection[str] = (),
) -> None:
    """
    Write a table; words with a meaning are coloured where stdout is a terminal.

    Args:
        titles: Headings.
        rows: Cells, as many in each row as there are headings.
        numbers: Columns aligned to the right.
        elastic: Columns cut off where the terminal is too narrow. The others never
            are: ids are there to be copied.
    """
    from rich.cells import cell_len
    from rich.table import Table  # 80 ms that only tables pay

    wanted = [max(map(cell_len, column)) for column in zip(titles, *rows, strict=True)]
    console = _console()
    widths = fitted(wanted, [title in elastic for title in titles], console.width)
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for title, width in zip(titles, widths, strict=True):
        table.add_column(title, justify="right" if title in numbers else "left", no_wrap=True, width=width)
    for row in rows:
        table.add_row(*(styled(cell) for cell in row))
    # Where even the narrowest form is too wide, the terminal wraps it, and nothing is lost.
    console.width = max(console.width, sum(widths) + GAP * len(widths))
    _print(console, table)


def fitted(wanted: Sequence[int], elastic: Sequence[bool], width: int) -> list[int]:
    """Return the widths of columns: of the elastic ones the widest is cut, until all are ``ELASTIC_WIDTH_MIN``."""
    widths = list(wanted)
    cut = [position for position, can in enumerate(elastic) if can and widths[position] > ELASTIC_WIDTH_MIN]
    excess = sum(widths) + GAP * (len(widths) - 1) - width
    while excess > 0 and cut:
        widest = max(cut, key=lambda position: widths[position])
        widths[widest] -= 1
        excess -= 1
        if widths[widest] == ELASTIC_WIDTH_MIN:
            cut.remove(widest)
    return widths


def show_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Write ``name  value`` lines, one below the other; those without a value are left out."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fields:
        if value:
            table.add_row(name, styled(value))
    _print(_console(), table)


def styled(cell: str) -> Text:
    """Colour a cell that is one known word; what a terminal would obey is made harmless."""
    from rich.text import Text

    return Text(harmless.line(cell), style=STYLES.get(cell, ""))


def note(message: str) -> None:
    """Tell the person something, on stderr."""
    click.echo(harmless.line(f"batchyard: {message}"), err=True)


def to_plain(message: Message) -> dict[str, Any]:
    """Return a message as JSON takes it."""
    from google.protobuf.json_format import MessageToDict

    plain = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    return _as_said(message.DESCRIPTOR, plain)


def _as_said(descriptor: Any, plain: dict[str, Any]) -> dict[str, Any]:
    """Write 64-bit integers as numbers and enums in the words of the command line."""
    for name, value in plain.items():
        field = descriptor.fields_by_name[name]
        inner = field.message_type
        if inner is not None and inner.GetOptions().map_entry:
            if inner.fields_by_name["value"].cpp_type == field.CPPTYPE_INT64:
                plain[name] = {key: int(number) for key, number in value.items()}
        elif inner is not None:
            for part in value if isinstance(value, list) else [value]:
                _as_said(inner, part)
        elif field.cpp_type == field.CPPTYPE_INT64:
            plain[name] = [int(number) for number in value] if isinstance(value, list) else int(value)
        elif field.enum_type is not None:
            plain[name] = [_said(field, one) for one in value] if isinstance(value, list) else _said(field, value)
    return plain


def _said(field: Any, value: str | int) -> str:
    from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

    from batchyard import wording

    enum = EnumTypeWrapper(field.enum_type)
    return wording.word(enum, enum.Value(value) if isinstance(value, str) else value)


def is_terminal() -> bool:
    """Say whether a person reads stdout at once."""
    return sys.stdout.isatty()


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, width=None if is_terminal() else PAGE_WIDTH)


def _print(console: Console, table: Table) -> None:
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        click.echo(line.rstrip(), color=True)
