"""
Sinks: may events be passed on there, and what becomes of a sink.

Only who may do all makes one: the yard calls what it says. Laws as in `submissions`.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import replace
from urllib.parse import urlsplit

from batchyard.errors import AlreadyExistsError, NotFoundError, Reason, Violation
from batchyard.ids import NAME_LENGTH_MAX
from batchyard_controller.core import limits
from batchyard_controller.core.commands import Published, PublishMove, Subject
from batchyard_controller.core.events import SinkChanged, SinkDeleted
from batchyard_controller.core.model.sinks import ChildMoves, Sink
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.world.world import World

from .checks import Violations, check_range, check_text, printable, quote, require_room
from .names import check_lengths, check_name

SECRET_PREFIX = "whsec_"  # noqa: S105  # what Standard Webhooks begin a secret with
_FILE = re.compile(r"[A-Za-z0-9_%-][A-Za-z0-9._%-]*", re.ASCII)
_PROGRAM = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", re.ASCII)
_BUS = re.compile(r"[A-Za-z0-9._:/-]+", re.ASCII)
_TOPIC = re.compile(r"arn:[a-z-]+:sns:[a-z0-9-]*:\d*:[A-Za-z0-9_.-]+", re.ASCII)
_FORMS = "https://HOST/PATH, http://HOST/PATH, file:NAME, exec:NAME, sqs:QUEUE_URL, sns:TOPIC_ARN or events:BUS"
PROGRESS_KEPT = 2_000
"""How much of what a sink does not want it passes before that is stored."""


def is_webhook(url: str) -> bool:
    """Say whether a sink is called by HTTP, and what it gets is signed."""
    return url.startswith(("https:", "http:"))


def check_sink(out: Violations, sink: Sink, secret: str) -> None:
    """Check what a sink is to be, as far as that can be said without calling it."""
    check_name(out, "name", sink.name)
    check_text(out, "url", sink.url, limits.SINK_URL_LENGTH_MAX)
    check_text(out, "endpoint_url", sink.endpoint_url, limits.SINK_URL_LENGTH_MAX)
    check_text(out, "region", sink.region, limits.SIGNING_SCOPE_LENGTH_MAX)
    check_range(out, "queues", len(sink.queues), 0, limits.LIST_FILTERS_MAX, "queues")
    out += check_lengths("queues", sink.queues, NAME_LENGTH_MAX)
    if out:
        return
    _check_url(out, sink.url)
    if sink.endpoint_url:
        _check_address(out, "endpoint_url", sink.endpoint_url)
    if secret and not is_webhook(sink.url):
        out.append(Violation("secret", "is for webhooks alone", Reason.NOT_ALLOWED))
    elif secret and not is_signing_secret(secret):
        text = f"must be {SECRET_PREFIX} and base 64 of 24 to 64 bytes"
        out.append(Violation("secret", text, Reason.MALFORMED))


def is_signing_secret(secret: str) -> bool:
    """Say whether a text is what webhooks are signed with (Standard Webhooks: 24 to 64 bytes)."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return False
    return secret.startswith(SECRET_PREFIX) and 24 <= len(key) <= 64


def _check_url(out: Violations, url: str) -> None:
    kind, colon, rest = url.partition(":")
    match kind if colon else "":
        case "https" | "http":
            _check_address(out, "url", url)
        case "file" if _FILE.fullmatch(rest):
            pass
        case "exec" if _PROGRAM.fullmatch(rest):
            pass
        case "sqs" if rest.startswith(("https://", "http://")):
            _check_address(out, "url", rest)
        case "sns" if _TOPIC.fullmatch(rest):
            pass
        case "events" if _BUS.fullmatch(rest):
            pass
        case _:
            out.append(Violation("url", f"{quote(url)} must be {_FORMS}", Reason.MALFORMED))


def _check_address(out: Violations, field: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in ("https", "http") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_whole = False
    if not is_whole:
        out.append(Violation(field, f"{quote(url)} must be https://HOST/PATH or http://HOST/PATH", Reason.MALFORMED))
    elif parts.username is not None or parts.password is not None:
        # not repeated: what it holds is secret
        out.append(Violation(field, "must not hold a user or a password", Reason.NOT_ALLOWED))


def create_sink(world: World, sink: Sink, end: tuple[int, int], now: Instant) -> tuple[SinkChanged, Sink]:
    """
    Admit a sink that is told what happens from now on.

    Raises:
        AlreadyExistsError: there is one of its name.
        NotFoundError: there is no such queue.
        ResourceExhaustedError: there are too many.
    """
    if sink.name in world.sinks:
        text = f"sink {quote(sink.name)} exists already"
        raise AlreadyExistsError(text, reason=Reason.SINK_EXISTS, metadata={"name": sink.name})
    require_room(len(world.sinks), limits.SINKS_MAX, "sinks", Reason.TOO_MANY_SINKS)
    for name in sink.queues:
        if name not in world.queues:
            text = f"job queue {quote(name)} not found"
            raise NotFoundError(text, reason=Reason.JOB_QUEUE_NOT_FOUND, metadata={"name": name})
    made = replace(sink, epoch=end[0], number=end[1], created_at_ms=now.wall_ms)
    return SinkChanged(sink=made), made


def find_sink(world: World, name: str) -> Sink:
    """
    Return a sink.

    Raises:
        NotFoundError: there is none of this name.
    """
    sink = world.sinks.get(name)
    if sink is None:
        text = f"sink {quote(name)} not found"
        raise NotFoundError(text, reason=Reason.SINK_NOT_FOUND, metadata={"name": name})
    return sink


def switch_sink(world: World, name: str, *, is_disabled: bool) -> tuple[SinkChanged, Sink]:
    """Admit that a sink is switched off or on."""
    sink = replace(find_sink(world, name), is_disabled=is_disabled, error="")
    return SinkChanged(sink=sink), sink


def delete_sink(world: World, name: str) -> SinkDeleted:
    """Admit the end of a sink."""
    return SinkDeleted(name=find_sink(world, name).name)


def advance_sink(
    world: World,
    name: str,
    delivered: tuple[int, int] | None,
    count: int,
    error: str,
    now: Instant,
    *,
    is_gone: bool = False,
) -> tuple[SinkChanged | None, Sink]:
    """
    Take what its relay says of a sink: up to where, and how many events, it has delivered, and why no more.

    What it only passed, as it did not want it, is stored now and then.
    """
    sink = find_sink(world, name)
    place = max(sink.place, delivered or sink.place)
    is_far = place[0] != sink.epoch or place[1] - sink.number >= PROGRESS_KEPT
    if not (count or error or is_gone or is_far):
        return None, sink  # it only says that it is there
    sink = replace(
        sink,
        epoch=place[0],
        number=place[1],
        delivered=sink.delivered + count,
        error="" if count and not error else printable(error, limits.REASON_LENGTH_MAX) or sink.error,
        error_at_ms=now.wall_ms if error else sink.error_at_ms,
        is_disabled=sink.is_disabled or is_gone,
    )
    return SinkChanged(sink=sink), sink


def wants(world: World, sink: Sink, told: Published) -> bool:
    """Say whether a sink wants to be told; of a job that is forgotten its queue is not known, and it counts as none."""
    if not isinstance(told, PublishMove):
        in_queue = told.subject is Subject.QUEUE and (not sink.queues or told.id in sink.queues)
        return not sink.states and (in_queue or (told.subject is not Subject.QUEUE and not sink.queues))
    if told.index is not None and (
        sink.children is ChildMoves.NONE or (sink.children is ChildMoves.ENDS and not told.after.is_final)
    ):
        return False
    if sink.states and told.after not in sink.states:
        return False
    job = world.jobs.get(told.job_id)
    return not sink.queues or (job is not None and job.spec.queue in sink.queues)
