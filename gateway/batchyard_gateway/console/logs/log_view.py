"""
Log view: bytes of a log as the lines that a page shows, and why there may be none.

It must never know where bytes come from. Law: a slice begins at the beginning of a line, the next
one where it ends, and none is longer than a page can hold, however long a line is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from batchyard.errors import BatchyardError, Reason
from batchyard.v1 import job_definition_pb2 as definition_pb
from batchyard.v1 import job_pb2
from batchyard_gateway.log_pages import continues
from batchyard_gateway.log_slices import Piece

from .ansi import PLAIN, Span, Style, parse_line

SLICE_BYTES = 64 << 10
LINES_MAX = 2_000
"""Lines of one slice."""

LEAD_BYTES = 16 << 10
"""Of what stands before a slice, to know the style in which it begins: programs end one soon after they began it."""

PIECE_BYTES = 8 << 10
"""A longer line is shown in pieces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """
    One line, or a piece of a long one.

    Attributes:
        number: From 1; 0 where it is not known.
        is_more: It goes on where the one before was cut.
        is_open: More of it may be written: it is shown again by the next slice.
    """

    offset: int
    number: int
    spans: Sequence[Span]
    is_more: bool = False
    is_open: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """
    Some lines in order.

    Attributes:
        start: The offset of the first.
        end: Where the next slice begins.
        has_gap: What stood before the first was dropped.
        style: In which the next slice begins.
        number: Of the next slice's first line; 0 where it is not known.
    """

    lines: Sequence[Line]
    start: int
    end: int
    has_gap: bool
    style: Style
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cut:
    """Where a line, or a piece of one, stands in the bytes."""

    start: int
    stop: int
    is_more: bool
    is_whole: bool


def forward(piece: Piece, *, style: Style, number: int, is_final: bool) -> Slice:
    """
    Return the first lines of a piece.

    Args:
        piece: From the beginning of a line on, or of what was kept of one.
        style: In which it begins.
        number: Of the first line; 0 where it is not known.
        is_final: Nothing is written behind it, now or later.
    """
    has_gap = piece.start > piece.asked
    return _slice(piece.data, piece.start, LINES_MAX, style, 0 if has_gap else number, has_gap, is_final)


def around(piece: Piece, lead: bytes = b"", *, is_final: bool) -> Slice:
    """Return the first lines of a piece that begins anywhere, behind *lead*, as ``forward`` does."""
    skipped = _rest_of_line(piece)
    number = 0 if piece.start or skipped else 1
    has_gap = piece.start > piece.asked
    style = _style_behind(lead + piece.data[:skipped])
    return _slice(piece.data[skipped:], piece.start + skipped, LINES_MAX, style, number, has_gap, is_final)


def backward(piece: Piece, lead: bytes = b"", *, is_final: bool) -> Slice:
    """Return the last lines of a piece that begins anywhere, behind *lead*, as ``forward`` does."""
    skipped = _rest_of_line(piece)
    starts = [cut.start for cut in _cuts(piece.data[skipped:])]
    skipped += starts[-LINES_MAX] if len(starts) > LINES_MAX else 0
    start = piece.start + skipped
    has_gap = piece.start > piece.asked and not skipped
    style = _style_behind(lead + piece.data[:skipped])
    return _slice(piece.data[skipped:], start, LINES_MAX, style, 0 if start else 1, has_gap, is_final)


def _style_behind(data: bytes) -> Style:
    """Return the style in which bytes end; what began before them and goes on is not known, and plain."""
    return parse_line(data.decode(errors="replace"), PLAIN)[1]


def _rest_of_line(piece: Piece) -> int:
    """Return how much of a piece belongs to a line that began before it."""
    if not piece.start or piece.start > piece.asked:
        return 0
    length = piece.data.find(b"\n") + 1
    return 0 if length == len(piece.data) else length  # one line, longer than this: better its end than nothing


def _cuts(data: bytes) -> list[_Cut]:
    cuts: list[_Cut] = []
    position, is_more = 0, False
    while position < len(data):
        newline = data.find(b"\n", position, position + PIECE_BYTES)
        if newline >= 0:
            stop, is_whole, goes_on = newline + 1, True, False
        elif len(data) - position <= PIECE_BYTES:
            stop, is_whole, goes_on = len(data), False, False
        else:
            longest = position + PIECE_BYTES
            stop = next((at for at in range(longest, longest - 4, -1) if not continues(data, at)), longest)
            is_whole = goes_on = True
        cuts.append(_Cut(start=position, stop=stop, is_more=is_more, is_whole=is_whole))
        position, is_more = stop, goes_on
    return cuts


def _slice(data: bytes, start: int, most: int, style: Style, number: int, has_gap: bool, is_final: bool) -> Slice:
    lines: list[Line] = []
    end, end_style, end_number = start, style, number
    for cut in _cuts(data)[:most]:
        text = data[cut.start : cut.stop].decode(errors="replace").removesuffix("\n").removesuffix("\r")
        spans, style = parse_line(text, style)
        is_open = not cut.is_whole and not is_final
        own = 0 if cut.is_more else number
        lines.append(Line(offset=start + cut.start, number=own, spans=spans, is_more=cut.is_more, is_open=is_open))
        if number and data[cut.stop - 1 : cut.stop] == b"\n":
            number += 1
        if not is_open:
            end, end_style, end_number = start + cut.stop, style, number
    return Slice(lines=lines, start=start, end=end, has_gap=has_gap, style=end_style, number=end_number)


def container(job: job_pb2.Job, asked: str) -> str:
    """Return whose log of several containers is shown: who is asked for, else the first essential one; nothing of one."""
    several = job.task.containers
    essential = (each.name for each in several if each.essential or not each.HasField("essential"))
    return asked if any(each.name == asked for each in parts_of(job)) else next(essential, "")


def parts_of(job: job_pb2.Job) -> list[definition_pb.ContainerProperties]:
    """Return the several containers of a job, of a pod those that run before the others first; none of one."""
    return [*job.task.init_containers, *job.task.containers]


def outcome_of_container(attempt: job_pb2.Attempt, name: str) -> str:
    """Say in a word how one of several containers ended."""
    for each in (*attempt.init_containers, *attempt.containers):
        if each.name == name and each.HasField("exit_code"):
            return f"exit code {each.exit_code}"
        if each.name == name and each.reason:
            return "did not run"
    return ""


def outcome(attempt: job_pb2.Attempt) -> str:
    """Return how an attempt went, in a word or two."""
    if not attempt.stopped_at_ms:
        return "running" if attempt.started_at_ms else "starting"
    if attempt.HasField("exit_code"):
        return f"exit {attempt.exit_code}"
    return "ended" if attempt.started_at_ms else "never started"


def absence(error: BatchyardError, *, why_never: str = "", host_name: str = "", away_since: str = "") -> str:
    """
    Say why there is no log.

    Args:
        error: What the controller says.
        why_never: Why the attempt did not start, if that is so.
        host_name: Where the attempt ran; may be empty.
        away_since: When that host was heard last; may be empty.
    """
    match error.reason:
        case Reason.JOB_NOT_STARTED:
            return "No output yet: the job has not started."
        case Reason.JOB_NEVER_RAN:
            return f"The attempt never started: {why_never}"
        case Reason.LOG_NOT_FOUND:
            return (
                f"Removed: host {host_name} keeps no log of this attempt. A host keeps logs for 7 days, if it was "
                "told nothing else, and drops the oldest where they take too much room."
            )
        case Reason.HOST_REMOVED:
            return f"Removed: host {host_name} is no longer of this yard, and the log went with it."
        case Reason.HOST_DISCONNECTED | Reason.HOST_SILENT:
            since = f" since {away_since}" if away_since else ""
            return f"Host {host_name} has been away{since}. The log is there, and is shown when the host is back."
        case Reason.JOB_IS_ARRAY:
            return "An array has no log of its own: each of its children has one."
    return f"There is no log: {error}."
