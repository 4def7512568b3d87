"""Notices: what is told of hosts, queues and the yard to whoever follows its events."""

from __future__ import annotations

from batchyard.ids import HostId, JobId
from batchyard_controller.core.commands import Happening, PublishNotice, Subject
from batchyard_controller.core.model.values import Instant

from .progress import Out


def tell_of_host(out: Out, host_id: HostId, what: Happening, now: Instant, words: str = "") -> None:
    """Tell what happened to a host; where its record changes with it, both are stored together."""
    out.append(PublishNotice(Subject.HOST, host_id, what, now.wall_ms, words, group=f"host/{host_id}"))


def tell_of_queue(out: Out, queue: str, what: Happening, now: Instant, words: str, unit_id: JobId) -> None:
    """Tell what happened to a queue, and by which unit."""
    out.append(PublishNotice(Subject.QUEUE, queue, what, now.wall_ms, words, unit_id))


def tell_of_yard(out: Out, what: Happening, now: Instant, words: str) -> None:
    """Tell what the whole yard's operators should know."""
    out.append(PublishNotice(Subject.YARD, "", what, now.wall_ms, words))
