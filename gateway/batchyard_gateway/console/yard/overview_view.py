"""
Overview view: what a yard is doing, on one page.

Pure: queues, hosts and jobs of the contract in, records for a template out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from batchyard.states import JobState
from batchyard.v1 import host_pb2, job_pb2
from batchyard_gateway.console.figures.charts import Chart, Series, draw, nice_millis, power_of_two
from batchyard_gateway.console.figures.samples import RESOURCES, Seen, per_minute
from batchyard_gateway.console.hosts.host_view import STATES
from batchyard_gateway.console.writing import amounts

_HELD = {
    "cpu_millis": ("vCPUs", amounts.millis, nice_millis),
    "memory_mib": ("Memory", amounts.memory, power_of_two),
    "gpu_millis": ("GPUs", amounts.millis, nice_millis),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """
    A job that failed.

    Attributes:
        children: How many children of an array failed, and of how many, in words; empty of others.
    """

    job_id: str
    name: str
    queue: str
    reason: str
    children: str
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosts:
    """How many hosts are in each state, and what is held of those that are reachable."""

    counts: Mapping[str, int]
    held: Sequence[tuple[str, str, int]]
    alarm: str = ""
    """Said where many hosts fell silent at once."""


def hosts_of(summary: host_pb2.SummarizeHostsResponse) -> Hosts:
    """Return the tile of hosts."""
    counts = {state: summary.hosts_by_state[state] for state in STATES if summary.hosts_by_state.get(state)}
    alarm = f"{summary.brake.silent:,} of {summary.brake.hosts:,} hosts fell silent at once: they are waited for."
    held = amounts.held(summary.allocated, summary.capacity)
    return Hosts(counts=counts, held=held, alarm=alarm if summary.HasField("brake") else "")


def failed_array(job: job_pb2.JobSummary) -> bool:
    """Say whether children of an array have failed."""
    return bool(job.array.status_summary.get(JobState.FAILED))


def failures_of(summaries: Sequence[job_pb2.JobSummary], jobs: Sequence[job_pb2.Job]) -> list[Failure]:
    """
    Return the jobs that failed, as they are listed.

    Args:
        summaries: In order.
        jobs: The same in full, in any; what is not among them was forgotten meanwhile.
    """
    by_id = {job.id: job for job in jobs}
    return [_failure(by_id[each.id]) for each in summaries if each.id in by_id]


def _failure(job: job_pb2.Job) -> Failure:
    failed = job.array.status_summary.get(JobState.FAILED, 0)
    return Failure(
        job_id=job.id,
        name=job.name,
        queue=job.queue,
        reason=_reason(job),
        children=f"{failed:,} of {job.array.size:,} children failed" if failed else "",
        at_ms=job.stopped_at_ms or job.array.status_summary_updated_at_ms or job.created_at_ms,
    )


def _reason(job: job_pb2.Job) -> str:
    """Return why a job failed, with its exit code where it has one: AWS's words alone are the same for all."""
    text = job.ending_cause or job.status_reason
    last = job.attempts[-1] if job.attempts else None
    if last is None or not last.HasField("exit_code") or "exit code" in text:
        return text
    return f"{text}, exit code {last.exit_code}"


def charts_of(samples: Seen, period: str, now_ms: int) -> list[Chart]:
    """Draw jobs by state, what ends, and what is held of what there is; GPUs where there are some."""
    since_ms = samples.since_ms(now_ms)
    states = [
        Series(name=state, look=state.lower(), figures=samples.of_yard(period, state))
        for state in reversed(JobState)
        if not state.is_final
    ]
    ended = [
        Series(name=state, look=state.lower(), figures=per_minute(samples.of_yard(period, state), period))
        for state in (JobState.SUCCEEDED, JobState.FAILED)
    ]
    charts = [
        draw("jobs", "Jobs by state", states, period=period, now_ms=now_ms, since_ms=since_ms),
        draw("ended", "Jobs ended a minute", ended, period=period, now_ms=now_ms, since_ms=since_ms),
    ]
    for resource in RESOURCES:
        title, write, nice = _HELD[resource]
        there = samples.of_yard(period, f"there {resource}")
        if resource == "gpu_millis" and not any(there):
            continue
        series = [
            Series(name="held", look="held", figures=samples.of_yard(period, f"held {resource}")),
            Series(name="capacity", look="capacity", figures=there, is_line=True),
        ]
        if resource != "gpu_millis":
            figures = samples.of_yard(period, f"used {resource}")
            series.append(Series(name="in use", look="used", figures=figures, is_line=True))
        charts.append(
            draw(resource, title, series, period=period, now_ms=now_ms, since_ms=since_ms, write=write, nice=nice)
        )
    return charts
