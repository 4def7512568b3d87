"""
Job rows: what a line of a list of jobs shows.

Pure: jobs of the contract in, records for a template out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from batchyard import wording
from batchyard.ids import split_job_id
from batchyard.states import ACTIVE_STATES, FINAL_STATES, WAITING_STATES, JobState
from batchyard.v1 import job_pb2 as pb

SHORT_ID = 8
"""Last characters of an id that tell jobs of one list apart (an id begins with its time)."""

BAR = 120
"""Width of a bar, in its own units."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """
    How far an array is.

    Attributes:
        done: Children that have SUCCEEDED.
    """

    size: int
    done: int
    failed: int
    active: int

    @property
    def text(self) -> str:
        """In words."""
        parts = [f"{self.done:,} of {self.size:,} done"]
        parts += [f"{self.failed:,} failed"] if self.failed else []
        parts += [f"{self.active:,} active"] if self.active else []
        return ", ".join(parts)

    @property
    def parts(self) -> list[tuple[str, int, int]]:
        """For a bar: word, beginning and width; what there is of is seen, however few."""
        found, at = [], 0
        for word, count in (("failed", self.failed), ("done", self.done), ("active", self.active)):
            width = min(max(round(BAR * count / self.size), 2), BAR - at) if count else 0
            if width:
                found.append((word, at, width))
            at += width
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """
    One line.

    Attributes:
        short_id: Its end; of a child ``:index``.
        reason: Why it waits or why it failed; empty of what runs or went well.
        ran_ms: How long it ran, or runs until now; None before that.
    """

    id: str
    short_id: str
    name: str
    queue: str
    state: str
    progress: Progress | None
    exit_code: str
    reason: str
    ran_ms: int | None
    host: str
    attempts: int
    created_at_ms: int

    @property
    def is_array(self) -> bool:
        """Whether it has children of its own."""
        return self.progress is not None

    @property
    def label(self) -> str:
        """What it is called where several are named; of a child with its index."""
        return self.name + (f" {self.short_id}" if self.short_id.startswith((":", "#")) else "")


def row_of(job: pb.Job, now_ms: int) -> JobRow:
    """Return the line of a job, an array or a child."""
    last = job.attempts[-1] if job.attempts else None
    return JobRow(
        id=job.id,
        short_id=short(job.id),
        name=job.name,
        queue=job.queue,
        state=wording.job_state(job),
        progress=progress_of(job),
        exit_code=str(job.exit_code) if job.HasField("exit_code") else "",
        reason=reason_of(job),
        ran_ms=ran_ms(job.started_at_ms, job.stopped_at_ms, now_ms),
        host=last.host_name if last is not None else "",
        attempts=len(job.attempts),
        created_at_ms=job.created_at_ms,
    )


def reason_of(job: pb.Job) -> str:
    """Return why a job waits, or what ended it; nothing of one that runs or SUCCEEDED."""
    state = wording.job_state(job)
    if state in FINAL_STATES:
        return job.ending_cause if state is JobState.FAILED else ""
    return job.waiting_reason or job.status_reason


def is_array(job: pb.Job | pb.JobSummary) -> bool:
    """Say whether a job has children of its own."""
    return job.array.size > 0 and not job.array.HasField("index")


def progress_of(job: pb.Job) -> Progress | None:
    """Return how far an array is; None of what is none."""
    if not is_array(job):
        return None
    counts = job.array.status_summary
    return Progress(
        size=job.array.size,
        done=counts.get(JobState.SUCCEEDED, 0),
        failed=counts.get(JobState.FAILED, 0),
        active=sum(counts.get(state, 0) for state in ACTIVE_STATES),
    )


def open_children(counts: Mapping[str, int]) -> int:
    """Return how many children have not ended."""
    return sum(counts.get(state, 0) for state in (*WAITING_STATES, *ACTIVE_STATES))


def ran_ms(started_at_ms: int, stopped_at_ms: int, now_ms: int) -> int | None:
    """Return how long something ran, or runs until now; None if it never did."""
    return max(0, (stopped_at_ms or now_ms) - started_at_ms) if started_at_ms else None


def short(job_id: str) -> str:
    """Return the end of an id that people tell jobs apart by; of a child or node its index."""
    parent, _ = split_job_id(job_id)
    return job_id.removeprefix(parent) or parent[-SHORT_ID:]
