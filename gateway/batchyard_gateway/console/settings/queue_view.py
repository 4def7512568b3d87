"""
Queue view: what pages show of job queues.

Pure: queues of the contract in, records for a template out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from batchyard.states import JobState
from batchyard.v1 import compute_environment_pb2 as environment_pb
from batchyard.v1 import job_pb2
from batchyard.v1 import job_queue_pb2 as pb
from batchyard.v1.security_pb2 import SecurityLevel
from batchyard.wording import job_state, word
from batchyard_gateway.console.figures.charts import Chart, Series, draw
from batchyard_gateway.console.figures.samples import Seen, per_minute
from batchyard_gateway.console.writing import amounts

STATES = tuple(JobState)
UNFINISHED = tuple(state for state in JobState if not state.is_final)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """
    Who stands in line.

    Attributes:
        since_ms: Since when it has had this place, as far as somebody looked.
    """

    job_id: str
    name: str
    state: str
    reason: str
    since_ms: int
    created_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRow:
    """
    One line of a list of queues.

    Attributes:
        counts: Jobs and children in each state, all seven.
        environments: In the order in which they are tried.
        first: Who is first in line and was not placed, if anybody.
    """

    name: str
    path: str
    priority: int
    state: str
    status: str
    status_reason: str
    counts: Mapping[str, int]
    environments: Sequence[str]
    first: Waiting | None = None


def row_of(queue: pb.JobQueue, first: Waiting | None = None) -> QueueRow:
    """Return the line of a queue."""
    return QueueRow(
        name=queue.name,
        path=quote(queue.name, safe=""),
        priority=queue.priority,
        state=word(environment_pb.ResourceState, queue.state),
        status=word(environment_pb.ResourceStatus, queue.status),
        status_reason=queue.status_reason,
        counts={state: queue.job_counts.get(state, 0) for state in STATES},
        environments=environments_of(queue),
        first=first,
    )


def environments_of(queue: pb.JobQueue) -> list[str]:
    """Return the environments of a queue in the order in which they are tried."""
    steps = sorted(queue.compute_environment_order, key=lambda step: step.order)
    return [step.compute_environment for step in steps]


def unfinished(queue: pb.JobQueue) -> int:
    """Return how many jobs and children the end of a queue would end."""
    return sum(queue.job_counts.get(state, 0) for state in UNFINISHED)


def line_of(front: Sequence[pb.FrontOfQueueJob], jobs: Sequence[job_pb2.Job]) -> list[Waiting]:
    """Return who stands first in line, in order; those that have gone on meanwhile are left out."""
    by_id = {job.id: job for job in jobs}
    found = [(each, by_id[each.job_id]) for each in front if each.job_id in by_id]
    return [
        Waiting(
            job_id=job.id,
            name=job.name + (f" {job.id.partition(':')[2]}" if ":" in job.id else ""),
            state=job_state(job),
            reason=job.waiting_reason or job.status_reason,
            since_ms=each.since_ms,
            created_at_ms=job.created_at_ms,
        )
        for each, job in found
        if job_state(job) is JobState.RUNNABLE
    ]


def facts_of(queue: pb.JobQueue) -> list[tuple[str, str]]:
    """Return what a queue is told, name by name."""
    dispatch = word(pb.DispatchOrder, queue.dispatch_order) or "DUE_TIME"
    preemption = word(pb.Preemption, queue.preemption) or "NEVER"
    return [
        ("Priority", str(queue.priority)),
        ("Scheduling policy", queue.scheduling_policy or "none: first in, first out"),
        ("At most running", amounts.count(queue.max_running) if queue.max_running else "no bound"),
        ("At most vCPUs", amounts.count(queue.max_vcpus) if queue.max_vcpus else "no bound"),
        ("Order of equals", dispatch),
        ("Overtaken for at most", f"{queue.max_overtake_s:,} s" if queue.max_overtake_s else "as timeouts say"),
        ("Security level", word(SecurityLevel, queue.security_level) or "PRIVILEGED"),
        ("Fence", amounts.fence(queue.fence_s) or "as the controller says"),
        ("Preempts", "jobs of lower priority" if preemption == "LOWER_PRIORITY" else "nobody"),
        ("May be preempted", "yes" if queue.preemptible else "no"),
        ("Tags", ", ".join(f"{key}={value}" for key, value in sorted(queue.tags.items())) or "none"),
    ]


def charts_of(queue: str, samples: Seen, period: str, now_ms: int) -> list[Chart]:
    """Draw who waits in a queue, and what ends there."""
    waiting = [Series(name="waiting", look="waiting", figures=samples.of_queue(period, queue, "waiting"))]
    ended = [
        Series(name=name, look=name, figures=per_minute(samples.of_queue(period, queue, name), period))
        for name in ("succeeded", "failed")
    ]
    since_ms = samples.since_ms(now_ms)
    return [
        draw(name, title, series, period=period, now_ms=now_ms, since_ms=since_ms)
        for name, title, series in (("waiting", "Jobs that wait", waiting), ("ended", "Jobs ended a minute", ended))
    ]
