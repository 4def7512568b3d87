"""
Submissions: requests to jobs, one by one, or many in one turn of the driver.

Law of a stream: answers come in the order of the messages, each after its jobs are
stored; a few messages are under way at once, and no more are read before the first
of these is answered, so that a caller's speed costs no memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from batchyard.errors import InvalidArgumentError, Reason, RequestError, Violation
from batchyard.ids import BY_REQUEST, JobId
from batchyard.v1 import job_pb2 as pb
from batchyard_controller.convert.jobs import submission
from batchyard_controller.core import limits
from batchyard_controller.core.events import JobSubmitted
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.requests import submissions
from batchyard_controller.core.requests.checks import check_range, refuse
from batchyard_controller.core.requests.job_rules import check_submission
from batchyard_controller.core.requests.permission import permit_submission
from batchyard_controller.core.world.recalling import recalling
from batchyard_controller.core.world.world import RequestKey, World
from batchyard_controller.leadership import Leadership
from batchyard_controller.store.archive import Archive, Recalled

from .callers import caller
from .errors import metadata_of

if TYPE_CHECKING:
    from batchyard_controller.core.jobs.resolution import Submission
    from batchyard_controller.core.model.jobs import Job
    from batchyard_controller.driver import Decide

UNDER_WAY_MAX = 4
"""Messages of one stream that are read and not yet answered."""


_UnderWay: TypeAlias = "asyncio.Queue[asyncio.Task[pb.SubmitJobsResponse] | None]"


class Submissions:
    """Checks requests, lets admission decide, and says what became of each job."""

    def __init__(self, leadership: Leadership, new_job_id: Callable[[], JobId]) -> None:
        self._leadership = leadership
        self._new_job_id = new_job_id

    async def submit(self, request: pb.SubmitJobRequest) -> pb.SubmitJobResponse:
        """
        Submit one job.

        Raises:
            RequestError: it is refused.
        """
        recalled = _Recall(self._leadership.archive)
        decide = self._decide(request, recalled)
        await recalled.fetch()
        return _answer(await self._leadership.driver.request(decide))

    async def submit_all(self, requests: AsyncIterator[pb.SubmitJobsRequest]) -> AsyncGenerator[pb.SubmitJobsResponse]:
        """
        Answer message by message, for as long as they come.

        Raises:
            InvalidArgumentError: a message holds too many jobs, or cannot be read.
        """
        under_way: _UnderWay = asyncio.Queue()
        room = asyncio.Semaphore(UNDER_WAY_MAX)
        reader = asyncio.create_task(self._read(requests, under_way, room))
        task: asyncio.Task[pb.SubmitJobsResponse] | None = None
        try:
            while (task := await under_way.get()) is not None:
                yield await task
                room.release()
            await reader
        finally:
            # The caller went away, or something failed; what the driver has been given it may still carry out.
            left: list[asyncio.Task[Any]] = [reader] if task is None else [reader, task]
            while not under_way.empty():
                left += filter(None, [under_way.get_nowait()])
            for each in left:
                each.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _read(
        self, requests: AsyncIterator[pb.SubmitJobsRequest], under_way: _UnderWay, room: asyncio.Semaphore
    ) -> None:
        try:
            await room.acquire()
            async for request in requests:
                under_way.put_nowait(asyncio.create_task(self._submit_some(request)))
                await room.acquire()
        finally:
            under_way.put_nowait(None)

    async def _submit_some(self, request: pb.SubmitJobsRequest) -> pb.SubmitJobsResponse:
        out: list[Violation] = []
        check_range(out, "jobs", len(request.jobs), 0, limits.SUBMIT_MANY_MAX, "jobs in a message")
        refuse(out)
        results = [pb.SubmitResult(request_id=job.request_id) for job in request.jobs]
        decides: list[Decide[Job]] = []
        admitted: list[pb.SubmitResult] = []
        recalled = _Recall(self._leadership.archive)
        for job, result in zip(request.jobs, results, strict=True):
            try:
                decides.append(self._decide(job, recalled))
            except RequestError as err:
                result.refusal.CopyFrom(_refusal(err))
            else:
                admitted.append(result)
        await recalled.fetch()
        for result, outcome in zip(admitted, await self._leadership.driver.request_all(decides), strict=True):
            if isinstance(outcome, RequestError):
                result.refusal.CopyFrom(_refusal(outcome))
            elif isinstance(outcome, Exception):
                raise outcome
            else:
                result.job.CopyFrom(_answer(outcome))
        return pb.SubmitJobsResponse(results=results)

    def _decide(self, request: pb.SubmitJobRequest, recalled: _Recall) -> Decide[Job]:
        """
        Check a request by itself and return what is left to decide in the world, once *recalled* is fetched.

        Raises:
            InvalidArgumentError: a field breaks a rule.
        """
        sender = caller()
        wanted = submission(request, sender.user)
        violations = check_submission(wanted)
        if (size := _payload_bytes(request)) > limits.SUBMIT_BYTES_MAX:
            text = f"the payload has {size} bytes; at most {limits.SUBMIT_BYTES_MAX} are allowed"
            violations.append(Violation("request", text, Reason.TOO_LONG))
        refuse(violations)
        job_id = self._new_job_id()
        ids, requests = recalled.want(wanted)

        def decide(world: World, now: Instant) -> tuple[JobSubmitted | None, Job]:
            jobs = recalled.of(ids, requests)
            with recalling(world, jobs):
                permit_submission(world, sender, wanted)
                event, job = submissions.submit_job(world, wanted, job_id, now)
            return event if event is None or not jobs else replace(event, recalled=jobs), job

        return decide


class _Recall:
    """Archived jobs that some submissions name: those that they wait for, and those that were submitted by their request."""

    def __init__(self, archive: Archive | None) -> None:
        self._archive = archive
        self._ids: set[str] = set()
        self._requests: set[RequestKey] = set()
        self._found = Recalled()

    def want(self, wanted: Submission) -> tuple[list[str], list[RequestKey]]:
        """Note whom a submission names, and return them."""
        if self._archive is None:
            return [], []
        names = [each.job_id for each in wanted.depends_on if each.job_id]
        ids = [each for each in names if not each.startswith(BY_REQUEST)]
        requests = [(wanted.owner, each.removeprefix(BY_REQUEST)) for each in names if each.startswith(BY_REQUEST)]
        if wanted.request_id:
            requests.append((wanted.owner, wanted.request_id))
        self._ids.update(ids)
        self._requests.update(requests)
        return ids, requests

    async def fetch(self) -> None:
        """Look for all of them in the archive."""
        if self._archive is not None and (self._ids or self._requests):
            for job in await self._archive.fetch(self._ids, self._requests):
                self._found.add(job)

    def of(self, ids: list[str], requests: list[RequestKey]) -> tuple[Job, ...]:
        """Return those of one submission, also those that have left the store since."""
        if self._archive is None:
            return ()
        return (*self._found.of(ids, requests), *self._archive.recent.of(ids, requests))


def _payload_bytes(request: pb.SubmitJobRequest) -> int:
    """Return how long a submission is, without the parts that have limits of their own."""
    size = request.ByteSize()
    if size > limits.SUBMIT_BYTES_MAX:  # most are short, and copying takes time
        payload = pb.SubmitJobRequest()
        payload.CopyFrom(request)
        payload.ClearField("annotations")
        payload.ClearField("depends_on")
        payload.ClearField("array_values")
        if payload.HasField("container"):
            payload.container.ClearField("stdin")
        size = payload.ByteSize()
    return size


def _answer(job: Job) -> pb.SubmitJobResponse:
    return pb.SubmitJobResponse(job_id=job.id, name=job.name)


def _refusal(err: RequestError) -> pb.SubmitRefusal:
    violations = err.violations if isinstance(err, InvalidArgumentError) else ()
    return pb.SubmitRefusal(
        code=type(err).__name__.removesuffix("Error"),
        message=str(err),
        violations=[pb.SubmitViolation(field=v.field, message=v.message, reason=v.reason) for v in violations],
        reason=err.reason,
        metadata=metadata_of(err),
    )
