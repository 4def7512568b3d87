"""
Log streams: attempts that have run, by CloudWatch's names.

Nothing is kept here. A stream's name leads to its attempt by the task id in it, and
lists of streams are made from the controller's list of jobs; of that only a page is
ever held. What is unknown to a log is not invented: a line has no time, so all of a
stream's events are as old as its attempt's start.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from batchyard.client import AsyncClient
from batchyard.ids import (
    NAME_LENGTH_MAX,
    attempt_id,
    attempt_id_of_task,
    is_uuid,
    log_stream_prefix,
    split_attempt_id,
    task_id,
)
from batchyard.tasks import DEFAULT_NAME
from batchyard.v1 import job_pb2

from .errors import ApiError

_UUID_LENGTH = 36
_JOBS_A_CALL = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """
    One attempt's log, or that of one of its containers.

    Attributes:
        container: Of several: which.
        is_over: Nothing more will be written.
    """

    name: str
    job_id: str
    attempt: int
    container: str
    started_at_ms: int
    last_at_ms: int
    is_over: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What a list of jobs tells of a stream; whether its attempt ever ran is not in it."""

    name: str
    job_id: str
    last_at_ms: int


Key = Callable[[Head], tuple[Any, ...]]


def by_name(head: Head) -> tuple[Any, ...]:
    """Order streams by name."""
    return (head.name,)


def by_last_event(head: Head) -> tuple[Any, ...]:
    """Order streams by their jobs' last sign of life, as far as a list of jobs tells it."""
    return (head.last_at_ms, head.name)


async def find_stream(client: AsyncClient, name: str) -> Stream:
    """
    Find a stream by its name.

    Raises:
        ApiError: there is none.
    """
    attempt = attempt_id_of_task(name.rpartition("/")[2])
    if attempt is not None:
        job_id, _, _ = split_attempt_id(attempt)
        for stream in await _describe(client, [job_id]):
            if stream.name == name:
                return stream
    raise ApiError("ResourceNotFoundException", "The specified log stream does not exist.")


async def list_streams(
    client: AsyncClient,
    *,
    prefix: str = "",
    key: Key = by_name,
    is_descending: bool = False,
    after: tuple[Any, ...] | None = None,
    limit: int,
) -> tuple[list[Stream], tuple[Any, ...] | None]:
    """
    List streams in order, a page a call.

    Args:
        client: The SDK's.
        prefix: Only names that begin so.
        key: What they are ordered by.
        is_descending: The other way round.
        after: Where the last page ended.
        limit: Most streams; attempts that never ran count, but have none.

    Returns:
        The streams, and where the next page goes on; None at the end.
    """

    def cut(heads: list[Head]) -> list[Head]:
        return sorted(heads, key=key, reverse=is_descending)[: limit + 1]

    best: list[Head] = []
    async with aclosing(_heads(client, prefix)) as heads:
        async for head in heads:
            if after is None or (key(head) < after if is_descending else key(head) > after):
                best.append(head)
            if len(best) > 4 * limit + 4:
                best = cut(best)
    best = cut(best)
    page = best[:limit]
    streams = {stream.name: stream for stream in await _describe(client, sorted({head.job_id for head in page}))}
    return [streams[head.name] for head in page if head.name in streams], key(page[-1]) if len(best) > limit else None


async def _describe(client: AsyncClient, job_ids: list[str]) -> list[Stream]:
    if not job_ids:
        return []
    return [
        Stream(
            name=each.log_stream_name,
            job_id=job.id,
            attempt=attempt.number,
            container=each.name if isinstance(each, job_pb2.ContainerStatus) else "",
            started_at_ms=each.started_at_ms or attempt.started_at_ms or attempt.claimed_at_ms,
            last_at_ms=each.stopped_at_ms or attempt.stopped_at_ms or each.started_at_ms or attempt.claimed_at_ms,
            is_over=bool(attempt.stopped_at_ms),
        )
        for job in await client.describe_jobs(job_ids)
        for attempt in job.attempts
        for each in attempt.containers or [attempt]
        if each.log_stream_name
    ]


async def _heads(client: AsyncClient, prefix: str) -> AsyncGenerator[Head, None]:
    """Yield what may be streams with that prefix, in no order."""
    async for job in _jobs(client, prefix):
        named = (log_stream_prefix(job.job_definition, job.name, part) for part in job.containers or [DEFAULT_NAME])
        names = [name for name in named if name.startswith(prefix) or prefix.startswith(name)]
        if not names:
            continue
        units = client.list_jobs(array_job_id=job.id, page_size=_JOBS_A_CALL) if job.array.size else _only(job)
        async with aclosing(units):
            async for unit in units:
                ids = unit.attempt_ids or [attempt_id(unit.id, number) for number in range(1, unit.attempts + 1)]
                for attempt in ids:
                    for name in names:
                        stream = name + task_id(attempt)
                        if stream.startswith(prefix):
                            yield Head(name=stream, job_id=unit.id, last_at_ms=unit.stopped_at_ms or unit.started_at_ms)


async def _jobs(client: AsyncClient, prefix: str) -> AsyncGenerator[job_pb2.JobSummary, None]:
    """Yield the jobs whose streams may have that prefix: one, when a job's id is in it."""
    first, slash, rest = prefix.partition("/")
    named = rest.rpartition("/")[2][:_UUID_LENGTH]
    if is_uuid(named):
        for job in await client.describe_jobs([named]):
            yield _summary(job)
        return
    if len(first) > NAME_LENGTH_MAX:
        return
    word = first if slash else f"{first}*"
    of_definitions = client.list_jobs(job_definition=word if first else "", page_size=_JOBS_A_CALL)
    async with aclosing(of_definitions) as jobs:
        async for summary in jobs:
            yield summary
    if not first:
        return
    # Streams of jobs without a definition bear the job's name.
    async with aclosing(client.list_jobs(name=word, page_size=_JOBS_A_CALL)) as jobs:
        async for summary in jobs:
            if not summary.job_definition:
                yield summary


def _summary(job: job_pb2.Job) -> job_pb2.JobSummary:
    return job_pb2.JobSummary(
        id=job.id,
        name=job.name,
        job_definition=job.job_definition,
        started_at_ms=job.started_at_ms,
        stopped_at_ms=job.stopped_at_ms,
        attempts=len(job.attempts),
        attempt_ids=[attempt.id for attempt in job.attempts],
        array=job.array if job.HasField("array") else None,
        containers=[container.name for container in (*job.task.containers, *job.task.init_containers)],
    )


async def _only(job: job_pb2.JobSummary) -> AsyncGenerator[job_pb2.JobSummary, None]:
    yield job
