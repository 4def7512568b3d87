"""
Audit log: lines, each of which holds the hash of the one before it, in files that follow each other.

Whoever writes says when. Law: a line that was changed, left out,
put in or moved breaks the chain where it happened; one that was cut off at the end is seen
by who knows where the chain had come to.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True).encode
START = "0" * 64
"""What stands for the hash of the line before the first."""


@dataclass(frozen=True, slots=True)
class Link:
    """Where a chain has come to: number and hash of its last line."""

    seq: int = 0
    sha256: str = START


class BrokenChainError(Exception):
    """A chain does not hold; the text says where and how."""


def add(after: Link, entry: dict[str, Any]) -> tuple[str, Link]:
    """Return the line for an entry, without its end, and where the chain then is."""
    seq = after.seq + 1
    line = _encode({"seq": seq, "prev": after.sha256, **entry})
    return line, Link(seq, _hash(line))


def read(line: str) -> Link:
    """
    Return where the chain is after a line.

    Raises:
        BrokenChainError: it is no line of a chain.
    """
    try:
        seq = json.loads(line)["seq"]
    except (ValueError, KeyError, TypeError) as error:
        raise BrokenChainError(f"no line of an audit log: {line[:80]!r}") from error
    if not isinstance(seq, int) or seq < 1:
        raise BrokenChainError(f"no line of an audit log: {line[:80]!r}")
    return Link(seq, _hash(line))


def follow(lines: Iterable[str]) -> Iterator[Link]:
    """
    Yield where a chain is after each line; the first tells where it begins.

    Raises:
        BrokenChainError: a line was changed, left out, put in or moved.
    """
    last: Link | None = None
    for line in lines:
        link, prev = read(line), json.loads(line).get("prev")
        if last is None:
            if link.seq == 1 and prev != START:
                raise BrokenChainError("line 1 does not begin a chain")
        elif link.seq != last.seq + 1:
            raise BrokenChainError(f"line {link.seq} follows line {last.seq}")
        elif prev != last.sha256:
            raise BrokenChainError(f"line {last.seq} is not the one that line {link.seq} followed: one was changed")
        last = link
        yield link


def _hash(line: str) -> str:
    return hashlib.sha256(line.encode()).hexdigest()


def files_of(folder: Path) -> list[Path]:
    """Return the files of a log, oldest first."""
    return sorted(folder.glob("audit-*.jsonl"), key=number_of)


def file_name(number: int) -> str:
    """Return what the file of a number is called; the first is 1."""
    return f"audit-{number:08}.jsonl"


def number_of(path: Path) -> int:
    """Return the number of a file."""
    return int(path.stem.partition("-")[2])


def verify(folder: Path, head: Link | None = None) -> tuple[int, Link]:
    """
    Follow a log from its oldest file to its end.

    Args:
        folder: Its folder.
        head: Where the controller says that it is; lines that were written since are followed on.

    Returns:
        The number of its first line, and where it ends.

    Raises:
        BrokenChainError: it was tampered with.
        OSError: it cannot be read.
    """
    first, last, has_head = 0, Link(), head is None or head.seq == 0
    for link in follow(_lines(folder)):
        first, last = first or link.seq, link
        has_head = has_head or link == head
    if not has_head:
        assert head is not None
        if last.seq < head.seq:
            raise BrokenChainError(f"it ends with line {last.seq}; the controller has written {head.seq}")
        raise BrokenChainError(f"line {head.seq} is another than the controller wrote")
    return first, last


def _lines(folder: Path) -> Iterator[str]:
    for path in files_of(folder):
        with path.open(encoding="ascii", errors="replace") as file:
            for line in file:
                yield line.rstrip("\n")
