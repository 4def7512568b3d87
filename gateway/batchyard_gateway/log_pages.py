"""
Pages of a log: bytes as CloudWatch's events, and tokens that say where to go on.

It must never know where bytes come from. An event is a line without its end; empty
lines are none, as for Docker's awslogs driver. Law: a token holds a byte offset at
the beginning of an event, so that no page needs more of a log than a window of it,
and pages one way and the other show each event once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

WINDOW_BYTES = 1 << 20
"""Bytes of a log that one page looks at (AWS: at most 1 MiB of events a page)."""

EVENT_BYTES_MAX = 256 << 10
"""Longer lines become several events. It is below the window, so that each page gets on."""

_TOKEN = re.compile(r"([fb])/([0-9]{1,18})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a page begins: ``f`` forward from *offset*, ``b`` backward from it."""

    way: Literal["f", "b"]
    offset: int

    def __str__(self) -> str:
        return f"{self.way}/{self.offset:018}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One event's text and its first byte's offset."""

    offset: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """
    Some lines, in order.

    Attributes:
        start: A page backward from here has the lines before these.
        end: A page forward from here has the lines behind these.
    """

    lines: tuple[Line, ...]
    start: int
    end: int


def place_from(token: str) -> Place | None:
    """Read a token; None when it is none of ours."""
    match = _TOKEN.fullmatch(token)
    if match is None:
        return None
    return Place(way="f" if match[1] == "f" else "b", offset=int(match[2]))


def window(place: Place) -> tuple[int, int]:
    """Return the offset and the length of what a page needs of a log."""
    if place.way == "f":
        return place.offset, WINDOW_BYTES
    # One byte more tells whether a line begins at the window's beginning.
    start = max(0, place.offset - WINDOW_BYTES - 1)
    return start, place.offset - start


def page_forward(data: bytes, offset: int, *, limit: int, is_last: bool) -> Page:
    """
    Return the first lines of *data*.

    Args:
        data: What stands in the log from *offset* on.
        offset: The beginning of a line.
        limit: Most lines.
        is_last: Nothing comes behind *data*, now or later: an unfinished line is one, too.
    """
    lines: list[Line] = []
    position = 0
    while position < len(data) and len(lines) < limit:
        stop = _line_end(data, position, is_last=is_last)
        if stop is None:
            break
        text = data[position:stop].decode(errors="replace").removesuffix("\n")
        if text:
            lines.append(Line(offset=offset + position, text=text))
        position = stop
    return Page(lines=tuple(lines), start=offset, end=offset + position)


def page_backward(data: bytes, offset: int, *, limit: int, is_last: bool) -> Page:
    """
    Return the last lines of *data*.

    Args:
        data: A window of the log, see ``window``.
        offset: Where it begins in the log.
        limit: Most lines.
        is_last: An unfinished line at the end is one, too.
    """
    skipped = data.find(b"\n") + 1 if offset else 0
    if skipped == len(data):
        # One line longer than the window: better to cut it than to stand still.
        skipped = 0
    page = page_forward(data[skipped:], offset + skipped, limit=len(data), is_last=is_last)
    if len(page.lines) <= limit:
        return page
    lines = page.lines[-limit:]
    return Page(lines=lines, start=lines[0].offset, end=page.end)


def _line_end(data: bytes, position: int, *, is_last: bool) -> int | None:
    """Return where the event from *position* on ends; None when that is not known yet."""
    longest = position + EVENT_BYTES_MAX
    newline = data.find(b"\n", position, longest)
    if newline >= 0:
        return newline + 1
    if len(data) <= longest:
        return len(data) if is_last else None
    # Not within a letter of UTF-8.
    return next((stop for stop in range(longest, longest - 4, -1) if not continues(data, stop)), longest)


def continues(data: bytes, position: int) -> bool:
    """Say whether a byte is one within a letter of UTF-8."""
    return position < len(data) and data[position] & 0xC0 == 0x80
