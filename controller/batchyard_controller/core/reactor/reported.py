"""
What hosts report, within bounds: times that can be, and reasons that can be shown.

An agent that is broken, or not ours, must spoil no more than its own attempts. Law: what
an honest agent says passes unchanged.
"""

from __future__ import annotations

from dataclasses import replace

from batchyard.resources import Usage
from batchyard_controller.core import limits
from batchyard_controller.core.events import Report
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.requests.checks import printable


def bounded(report: Report, now: Instant) -> Report:
    """Return a report as it may be believed."""

    def time_ms(said_ms: int) -> int:
        return min(max(said_ms, 0), now.wall_ms + limits.CLOCK_AHEAD_MS_MAX)

    end = report.end
    if end is not None:
        reason = printable(end.reason, limits.CONTAINER_REASON_LENGTH_MAX)
        started_at_ms, stopped_at_ms = time_ms(end.started_at_ms), time_ms(end.stopped_at_ms)
        said = (end.usage.peak_memory_kib, end.usage.user_cpu_ms, end.usage.system_cpu_ms)
        peak_kib, user_ms, system_ms = (min(max(amount, 0), limits.INT32_MAX) for amount in said)
        usage = Usage(peak_memory_kib=peak_kib, user_cpu_ms=user_ms, system_cpu_ms=system_ms)
        end = replace(end, started_at_ms=started_at_ms, stopped_at_ms=stopped_at_ms, reason=reason, usage=usage)
    return replace(report, started_at_ms=time_ms(report.started_at_ms), end=end)
