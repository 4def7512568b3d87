"""
What hosts report, within bounds: times that can be, and reasons that can be shown.

An agent that is broken, or not ours, must spoil no more than its own attempts. Law: what
an honest agent says passes unchanged.
"""

from __future__ import annotations

from dataclasses import replace

from batchyard.tasks import ContainerEnd
from batchyard_controller.core import limits
from batchyard_controller.core.events import Report
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.requests.checks import printable


def bounded(report: Report, now: Instant) -> Report:
    """Return a report as it may be believed; the same one where that is as it was said, as nearly always."""
    last_ms, end = now.wall_ms + limits.CLOCK_AHEAD_MS_MAX, report.end
    if end is not None:
        reason = printable(end.reason, limits.CONTAINER_REASON_LENGTH_MAX) if end.reason else ""
        containers = tuple(_bounded_part(part, last_ms) for part in end.containers[: limits.CONTAINERS_MAX])
        times = 0 <= end.started_at_ms <= last_ms and 0 <= end.stopped_at_ms <= last_ms
        if not times or (reason, containers) != (end.reason, end.containers):
            started_at_ms, stopped_at_ms = _within(end.started_at_ms, last_ms), _within(end.stopped_at_ms, last_ms)
            end = replace(
                end, started_at_ms=started_at_ms, stopped_at_ms=stopped_at_ms, reason=reason, containers=containers
            )
    if end is report.end and 0 <= report.started_at_ms <= last_ms:
        return report
    return replace(report, started_at_ms=_within(report.started_at_ms, last_ms), end=end)


def _bounded_part(part: ContainerEnd, last_ms: int) -> ContainerEnd:
    return replace(
        part,
        name=printable(part.name, limits.CONTAINER_NAME_LENGTH_MAX),
        exit_code=None if part.exit_code is None else _within(part.exit_code, limits.EXIT_CODE_MAX),
        reason=printable(part.reason, limits.CONTAINER_REASON_LENGTH_MAX) if part.reason else "",
        started_at_ms=_within(part.started_at_ms, last_ms),
        stopped_at_ms=_within(part.stopped_at_ms, last_ms),
    )


def _within(said_ms: int, last_ms: int) -> int:
    return min(max(said_ms, 0), last_ms)
