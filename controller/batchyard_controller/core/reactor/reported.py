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
from batchyard_controller.core.attempt_reports import Phase, Report
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.requests.checks import printable


def bounded(report: Report, now: Instant) -> Report:
    """Return a report as it may be believed; the same one where that is as it was said, as nearly always."""
    last_ms, end = now.wall_ms + limits.CLOCK_AHEAD_MS_MAX, report.end
    if end is not None:
        reason = printable(end.reason, limits.CONTAINER_REASON_LENGTH_MAX) if end.reason else ""
        containers, digest = _bounded_parts(end.containers, last_ms), _bounded_text(end.image_digest)
        times = 0 <= end.started_at_ms <= last_ms and 0 <= end.stopped_at_ms <= last_ms
        said = (end.usage.peak_memory_kib, end.usage.user_cpu_ms, end.usage.system_cpu_ms)
        is_bounded = all(0 <= amount <= limits.USAGE_MAX for amount in said)
        if (
            not times
            or not is_bounded
            or (reason, containers, digest) != (end.reason, end.containers, end.image_digest)
        ):
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
                image_digest=digest,
            )
    parts, digest = _bounded_parts(report.containers, last_ms), _bounded_text(report.image_digest)
    hindrance = printable(report.hindrance, limits.CONTAINER_REASON_LENGTH_MAX) if report.hindrance else ""
    is_so = (parts, digest, hindrance) == (report.containers, report.image_digest, report.hindrance)
    first_ms = 1 if report.phase is Phase.RUNNING else 0  # what runs has started
    if end is report.end and first_ms <= report.started_at_ms <= last_ms and is_so:
        return report
    started_at_ms = _within(report.started_at_ms, last_ms) or first_ms * now.wall_ms
    return replace(
        report,
        started_at_ms=started_at_ms,
        end=end,
        containers=parts,
        image_digest=digest,
        hindrance=hindrance,
    )


def _bounded_text(said: str) -> str:
    return printable(said, limits.HOST_TEXT_LENGTH_MAX) if said else ""


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
        container_id=_bounded_text(part.container_id),
        image_digest=_bounded_text(part.image_digest),
    )


def _within(said: int, most: int) -> int:
    return min(max(said, 0), most)
