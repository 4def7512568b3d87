"""Logs: what an attempt wrote, a slice at a time, and the whole of it as a file."""

from __future__ import annotations

import shlex
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any
from urllib.parse import urlencode

from batchyard import wording
from batchyard.arns import LOG_GROUP
from batchyard.errors import HOST_AWAY, BatchyardError, NotFoundError, Reason, RequestError, UnavailableError
from batchyard.v1 import job_pb2
from batchyard_gateway.console.hosts.host_view import path_of
from batchyard_gateway.console.visit import Answer, Command, Page, Stream, Visit, batchyard
from batchyard_gateway.errors import ApiError
from batchyard_gateway.log_slices import BEYOND_ANY_LOG, Piece, Slices

from . import log_view
from .ansi import style_from

BEFORE_BYTES = 8 << 10
"""Shown before the line that a link leads to."""

_NEVER = frozenset({Reason.JOB_IS_ARRAY, Reason.LOG_NOT_FOUND, Reason.HOST_REMOVED})
"""There is no log, and none is waited for."""

_PLACES = ("from", "before", "at", "style", "line")


async def show(visit: Visit) -> Answer:
    """Show a slice of an attempt's log: the newest, or the one that the query names."""
    job = await visit.client.describe_job(visit.names["id"])
    chosen = _chosen(job, _number(visit, "attempt", 0))
    container = log_view.container(job, visit.query.get("container", ""))
    is_final = wording.job_state(job).is_final
    is_over = bool(chosen.stopped_at_ms) or is_final
    found, why, is_last = None, "", is_over
    try:
        found, is_last = await _slice(visit, chosen.number, container, is_over=is_over)
    except (RequestError, UnavailableError) as err:
        if isinstance(err, UnavailableError) and err.reason not in HOST_AWAY:
            raise
        why = await _absence(visit, err, job, chosen)
        is_final = is_final or err.reason in _NEVER
        is_over = is_over or err.reason in _NEVER
        is_last = is_over and err.reason not in HOST_AWAY
    if found is not None and not found.lines and not found.start:
        why = "The attempt wrote nothing." if is_over else "No output yet."
    attempts = sorted(job.attempts, key=lambda attempt: attempt.number)
    pinned = str(chosen.number) if chosen.number else None
    newer = _url(visit, attempt=None) if is_over and attempts and attempts[-1].number > chosen.number else ""
    view: Mapping[str, Any] = {
        "job": job,
        "state": wording.job_state(job),
        "attempts": [_choice(visit, attempt, chosen) for attempt in attempts],
        "chosen": chosen,
        "containers": [
            (
                each.name,
                log_view.outcome_of_container(chosen, each.name),
                each.name == container,
                _url(visit, container=each.name),
            )
            for each in log_view.parts_of(job)
        ],
        "host_path": path_of(chosen.host_name, chosen.host_id),
        "slice": found,
        "why": why,
        # Between two attempts it is not over for who follows.
        "is_over": is_over and is_last and (bool(newer) or is_final),
        "is_tail": not any(name in visit.query for name in ("from", "before", "at")),
        "older": _url(visit, attempt=pinned, before=str(found.start)) if found and found.start else "",
        "next": _next(visit, pinned, found),
        "tail": _url(visit),
        "head": _url(visit, **{"from": "0"}),
        "newer_attempt": newer,
        "is_latest": "attempt" not in visit.query,
        "at": _url(visit, attempt=str(chosen.number)) + "&at=",
        "whole": _whole(visit, chosen.number, container),
    }
    return Page(
        template="log.html", title=f"Log of {job.name}", view=view, section="Jobs", ids=[job.id],
        commands=_commands(job, chosen, container),
    )  # fmt: skip


def _choice(visit: Visit, attempt: job_pb2.Attempt, chosen: job_pb2.Attempt) -> tuple[int, str, bool, str]:
    """Return of an attempt its number, how it went, whether it is shown, and where it is."""
    here = _url(visit, attempt=str(attempt.number))
    return attempt.number, log_view.outcome(attempt), attempt.number == chosen.number, here


async def download(visit: Visit) -> Answer:
    """Hand out the whole log as a file, a piece at a time."""
    job = await visit.client.describe_job(visit.names["id"])
    chosen = _chosen(job, _number(visit, "attempt", 0))
    container = log_view.container(job, visit.query.get("container", ""))
    pieces = visit.client.read_logs(job.id, attempt=chosen.number, container=container)
    # What is refused is told by a page: after the first piece it is too late.
    first = await anext(pieces, b"")

    async def parts() -> AsyncGenerator[bytes, None]:
        async with aclosing(pieces):
            yield first
            async for piece in pieces:
                yield piece

    part = f"-{container}" if container else ""
    name = f"{job.name}-{job.id.replace(':', '-')}-{max(chosen.number, 1)}{part}.log"
    return Stream(
        parts=parts(), content_type="text/plain; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )  # fmt: skip


def _whole(visit: Visit, attempt: int, container: str) -> str:
    """Return where the log is handed out as a file."""
    said = {"attempt": str(attempt) if attempt else "", "container": container}
    query = urlencode({name: text for name, text in said.items() if text})
    return f"{visit.path}.txt{'?' if query else ''}{query}"


async def _slice(visit: Visit, attempt: int, container: str, *, is_over: bool) -> tuple[log_view.Slice, bool]:
    """Return the slice that is asked for, and whether the log ends with it."""
    slices = Slices(client=visit.client, job_id=visit.names["id"], attempt=attempt, container=container)
    end = await slices.end()
    length = log_view.SLICE_BYTES
    if "from" in visit.query:
        offset = _number(visit, "from", 0)
        piece = await slices.read(offset, length)
        found = log_view.forward(
            piece,
            style=style_from(visit.query.get("style", "")),
            number=_number(visit, "line", 0 if offset else 1),
            # A window's end is none, and what stands before a gap goes on nowhere.
            is_final=len(piece.data) < length and (is_over or piece.end < end),
        )
    elif "at" in visit.query:
        offset = max(0, _number(visit, "at", 0) - BEFORE_BYTES)
        piece = await slices.read(offset, length)
        is_final = len(piece.data) < length and (is_over or piece.end < end)
        found = log_view.around(piece, await _lead(slices, piece), is_final=is_final)
    else:
        before = min(end, _number(visit, "before", end))
        piece = await slices.read_before(before, length + 1)
        found = log_view.backward(piece, await _lead(slices, piece), is_final=is_over or before < end)
    return found, found.end >= end


async def _lead(slices: Slices, piece: Piece) -> bytes:
    """Return what stands right before a piece; nothing where that was dropped."""
    offset = max(0, piece.start - log_view.LEAD_BYTES)
    if offset == piece.start or piece.start > piece.asked:
        return b""
    lead = await slices.read(offset, piece.start - offset)
    return lead.data if lead.end == piece.start else b""


async def _absence(visit: Visit, error: BatchyardError, job: job_pb2.Job, chosen: job_pb2.Attempt) -> str:
    since = ""
    if error.reason in HOST_AWAY:
        try:
            host = (await visit.client.describe_host(chosen.host_id)).host
        except NotFoundError:
            pass
        else:
            since = visit.clock.exact(host.last_heard_at_ms) if host.last_heard_at_ms else ""
    return log_view.absence(
        error,
        why_never=chosen.reason or chosen.status_reason or job.ending_cause or job.status_reason,
        host_name=chosen.host_name or chosen.host_id,
        away_since=since,
    )


def _chosen(job: job_pb2.Job, number: int) -> job_pb2.Attempt:
    """Return the attempt of a number, the latest for 0; one without a number if there is none yet."""
    of_number = {attempt.number: attempt for attempt in job.attempts}
    return of_number.get(number or max(of_number, default=0), job_pb2.Attempt(number=number))


def _number(visit: Visit, name: str, default: int) -> int:
    """
    Return a number of the query.

    Raises:
        ApiError: it is none.
    """
    text = visit.query.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 19 and int(text) < BEYOND_ANY_LOG):
        raise ApiError("ValidationException", f"{name}: a number, not {text[:40]!r}.", 400)
    return int(text)


def _url(visit: Visit, **changed: str | None) -> str:
    return visit.url(**{**dict.fromkeys(_PLACES), **changed})


def _next(visit: Visit, attempt: str | None, found: log_view.Slice | None) -> str:
    """Return where the next slice is: behind this one, in the style and with the number that it left off with."""
    if found is None:
        return _url(visit, attempt=attempt, **{"from": "0"})
    line = str(found.number) if found.number else None
    return _url(visit, attempt=attempt, **{"from": str(found.end)}, style=found.style.text or None, line=line)


def _commands(job: job_pb2.Job, chosen: job_pb2.Attempt, container: str) -> list[Command]:
    attempt = ["--attempt", str(chosen.number)] if chosen.number else []
    attempt += ["--container", container] if container else []
    commands = [batchyard("logs", job.id, *attempt)]
    streams = {each.name: each.log_stream_name for each in chosen.containers}
    if stream := streams.get(container, chosen.log_stream_name):
        words = ("logs", "get-log-events", "--log-group-name", LOG_GROUP, "--log-stream-name", stream)
        commands.append(Command(tool="aws", line=shlex.join(["aws", *words])))
    return commands
