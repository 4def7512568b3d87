"""Plain names for attempts, and for each of several processes of one, as of files and cgroups; and the way back."""

from __future__ import annotations

import re

_NOT_PLAIN = re.compile(rb"[^A-Za-z0-9-]")
PART = "."
"""Stands in no attempt's plain name."""


def plain_name(attempt_id: str) -> str:
    """Return a name for files and cgroups: letters, digits and ``-``, all else as ``_`` and hex."""
    return _NOT_PLAIN.sub(lambda match: b"_%02x" % match[0][0], attempt_id.encode()).decode()


def part_name(name: str, number: int) -> str:
    """Return the plain name of one of several processes of an attempt, by that of the attempt and its place in it."""
    return f"{name}{PART}{number}"


def whole_name(name: str) -> str:
    """Return the plain name of the attempt that a process is one of; of an only one that is its own."""
    return name.partition(PART)[0]


def attempt_id_of(name: str) -> str:
    """Return the attempt id that ``plain_name`` was given, also of one of its processes."""
    return re.sub(rb"_([0-9a-f]{2})", lambda match: bytes([int(match[1], 16)]), whole_name(name).encode()).decode()
