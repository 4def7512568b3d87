"""
Flat rows: messages as comma-separated values (RFC 4180), for a spreadsheet or a data frame.

A column is a field, by the name and in the unit that JSON gives it; what lies in another message has
that one's name before it (``facts.name``), lists and maps are JSON in their cell. So a column means the
same in every row, and a new field is a new column.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from batchyard.cli import harmless
from batchyard.rows import is_repeated


def write(rows: Sequence[Mapping[str, object]], titles: Iterable[str]) -> None:
    """Write rows with a heading; a cell without a value is empty."""
    writer = csv.DictWriter(sys.stdout, list(titles), lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)


def titles(descriptor: Any, before: str = "") -> Iterator[str]:
    """Yield the columns of a kind of message, in the order of its fields."""
    for field in descriptor.fields:
        if field.message_type is None or is_repeated(field):
            yield before + field.name
        else:
            yield from titles(field.message_type, f"{before}{field.name}.")


def flat(descriptor: Any, plain: Mapping[str, Any], before: str = "") -> dict[str, object]:
    """Return the cells of a message that is plain JSON already, by column."""
    cells: dict[str, object] = {}
    for field in descriptor.fields:
        value = plain.get(field.name)
        if is_repeated(field):
            cells[before + field.name] = harmless.json_text(value) if value else ""
        elif field.message_type is not None:
            cells |= flat(field.message_type, value or {}, f"{before}{field.name}.")
        else:
            cells[before + field.name] = harmless.line(value) if isinstance(value, str) else value
    return cells
