"""
What hosts report, within bounds: times that can be, and reasons that can be shown.

An agent that is broken, or not ours, must spoil no more than its own attempts. Law: what
an honest agent says passes unchanged.
"""

from __future__ import annotations

from dataclasses import replace

from batchyard.resources import Usage
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
        containers = _bounded_parts(end.containers, last_ms)
        times = 0 <= end.started_at_ms <= last_ms and 0 <= end.stopped_at_ms <= last_ms
        said = (end.usage.peak_memory_kib, end.usage.user_cpu_ms, end.usage.system_cpu_ms)
        is_bounded = all(0 <= amount <= limits.USAGE_MAX for amount in said)
        if not times or not is_bounded or (reason, containers) != (end.reason, end.containers):
            started_at_ms, stopped_at_ms = _within(end.started_at_ms, last_ms), _within(end.stopped_at_ms, last_ms)
            peak_kib, user_ms, system_ms = (_within(amount, limits.USAGE_MAX) for amount in said)
            usage = Usage(peak_memory_kib=peak_kib, user_cpu_ms=user_ms, system_cpu_ms=system_ms)
            end = replace(
                end,
                started_at_ms=started_at_ms,
                stopped_at_ms=stopped_at_ms,
                reason=reason,
                usage=usage,
                containers=containers,
            )
    parts = _bounded_parts(report.containers, last_ms)
    if end is report.end and 0 <= report.started_at_ms <= last_ms and parts == report.containers:
        return report
    return replace(report, started_at_ms=_within(report.started_at_ms, last_ms), end=end, containers=parts)


def _bounded_parts(parts: tuple[ContainerEnd, ...], last_ms: int) -> tuple[ContainerEnd, ...]:
    return tuple(_bounded_part(part, last_ms) for part in parts[: 2 * limits.CONTAINERS_MAX])


def _bounded_part(part: ContainerEnd, last_ms: int) -> ContainerEnd:
    return replace(
        part,
        name=printable(part.name, limits.CONTAINER_NAME_LENGTH_MAX),
        exit_code=None if part.exit_code is None else _within(part.exit_code, limits.EXIT_CODE_MAX),
        reason=printable(part.reason, limits.CONTAINER_REASON_LENGTH_MAX) if part.reason else "",
        started_at_ms=_within(part.started_at_ms, last_ms),
        stopped_at_ms=_within(part.stopped_at_ms, last_ms),
        container_id=printable(part.container_id, limits.HOST_TEXT_LENGTH_MAX) if part.container_id else "",
    )


def _within(said: int, most: int) -> int:
    return min(max(said, 0), most)
