"""What docs/errors.md tells of reasons."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/errors.md"
_CODE = re.compile(r"`([^`]+)`")


def _rows(heading: str) -> list[list[str]]:
    """Return the cells of the table under a heading, without its head."""
    section = PAGE.read_text(encoding="utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


DEFAULTS = {_CODE.findall(name)[0]: _CODE.findall(reason)[0] for name, _, _, reason in _rows("Classes")}
"""Of each class the reason where no closer one is known."""

METADATA = {_CODE.findall(row[0])[0]: set(_CODE.findall(row[1])) for row in _rows("Reasons of errors")}
"""Of each closer reason the names of its metadata."""

OF_VIOLATIONS = {_CODE.findall(row[0])[0] for row in _rows("Reasons of violations")}
