"""
Output: tables for people, JSON for scripts; data on stdout, notes on stderr.

JSON is the contract's own (protobuf's JSON mapping, names as in the ``.proto``
files, fields at their default included), with two departures: 64-bit integers are
numbers, not strings, so that ``jq`` can count with them, and enums are the words that
flags take and tables show. ``json_input`` reads both forms. Commands that read by name
or list give a list, commands about one thing give an object.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import click

from batchyard.cli import harmless
from batchyard.errors import NotFoundError

if TYPE_CHECKING:
    from google.protobuf.message import Message

FORMATS = ("table", "wide", "json", "name")
CSV = "csv"
"""A further one, of lists alone."""

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

CUT_OFF = "\N{HORIZONTAL ELLIPSIS}"
"""Stands for the rest of a cell."""

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
        case "csv":
            write_csv(rows)
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


def write_csv(rows: Sequence[Message]) -> None:
    """Write messages of one kind as comma-separated values; nothing where there are none."""
    from batchyard.cli import flat_rows

    if rows:
        kind = rows[0].DESCRIPTOR
        flat_rows.write([flat_rows.flat(kind, to_plain(row)) for row in rows], flat_rows.titles(kind))


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
    from rich.cells import cell_len, set_cell_size  # rich's own tables cost ten times as much as JSON

    lines = [list(titles), *([harmless.line(cell) for cell in row] for row in rows)]
    taken = [[cell_len(cell) for cell in line] for line in lines]
    widths = fitted([max(column) for column in zip(*taken, strict=True)], [t in elastic for t in titles], _width())
    is_coloured = _is_coloured()
    for number, (line, lengths) in enumerate(zip(lines, taken, strict=True)):
        shown = []
        for title, cell, length, width in zip(titles, line, lengths, widths, strict=True):
            cut = cell if length <= width else set_cell_size(cell, width - 1) + CUT_OFF
            text = _styled(cut, is_heading=not number) if is_coloured else cut
            blanks = " " * (width - length)
            shown.append(blanks + text if title in numbers else text + blanks)
        click.echo((" " * GAP).join(shown).rstrip(), color=is_coloured)


def fitted(wanted: Sequence[int], elastic: Sequence[bool], width: int) -> list[int]:
    """
    Return the widths of columns: of the elastic ones the widest is cut, until all are ``ELASTIC_WIDTH_MIN``.

    Where even the narrowest form is too wide, the terminal wraps it, and nothing is lost.
    """
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
    import textwrap

    present = [(name, harmless.line(value)) for name, value in fields if value]
    indent = max((len(name) for name, _ in present), default=0) + GAP
    is_coloured = _is_coloured()
    for name, value in present:
        room = max(_width() - indent, 1)
        first, *more = textwrap.wrap(value, room, break_on_hyphens=False) if len(value) > room else [value]
        head = click.style(name, bold=True) if is_coloured else name
        text = _styled(first) if is_coloured and not more else first
        click.echo(f"{head}{' ' * (indent - len(name))}{text}".rstrip(), color=is_coloured)
        for part in more:
            click.echo(" " * indent + part)


def _styled(cell: str, *, is_heading: bool = False) -> str:
    """Colour a cell that is one known word, or a heading."""
    if is_heading:
        return click.style(cell, bold=True)
    return click.style(cell, fg=STYLES[cell]) if cell in STYLES else cell


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


def _width() -> int:
    """Return how many columns stdout has room for."""
    import shutil

    return shutil.get_terminal_size().columns if is_terminal() else PAGE_WIDTH


def _is_coloured() -> bool:
    """Say whether stdout takes colours (https://no-color.org)."""
    no_colour = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"  # noqa: TID251  # not our settings
    return is_terminal() and not no_colour
