"""JobService: submit, read, stop, watch, enter, and read logs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing
from typing import Any

from batchyard.errors import FailedPreconditionError, NotFoundError, Reason, Violation
from batchyard.ids import HostId, JobId
from batchyard.v1 import job_pb2 as pb
from batchyard.v1 import job_pb2_grpc as rpc
from batchyard_controller.convert.values import check_describe
from batchyard_controller.core import limits
from batchyard_controller.core.access.roles import Principal, Verb, may
from batchyard_controller.core.access.things import job_thing
from batchyard_controller.core.events import Event
from batchyard_controller.core.model.jobs import JobKind
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.requests import submissions
from batchyard_controller.core.requests.checks import Violations, check_range, check_text, refuse
from batchyard_controller.core.requests.entering import container_of
from batchyard_controller.core.requests.names import check_job_id, check_lengths
from batchyard_controller.core.requests.permission import find_unit
from batchyard_controller.core.views import history, words
from batchyard_controller.core.views.causes import ending_cause
from batchyard_controller.core.world.world import World
from batchyard_controller.leadership import Leadership
from batchyard_controller.sessions import Sessions

from .callers import caller
from .entries import Entries
from .job_view import digest_message, explain_message, job_message
from .listing import Listing, find_array
from .submissions import Submissions
from .watching import Watch


class Jobs(rpc.JobServiceServicer):
    """Thin: checks fields, lets admission decide, shows the stored world."""

    def __init__(
        self, leadership: Leadership, sessions: Sessions, new_job_id: Callable[[], JobId], now_ms: Callable[[], int]
    ) -> None:
        self._now_ms = now_ms
        self._leadership = leadership
        self._sessions = sessions
        self._submissions = Submissions(leadership, new_job_id)
        self._entries = Entries(leadership, sessions)

    async def SubmitJob(self, request: pb.SubmitJobRequest, context: Any) -> pb.SubmitJobResponse:
        return await self._submissions.submit(request)

    async def SubmitJobs(
        self, request_iterator: AsyncIterator[pb.SubmitJobsRequest], context: Any
    ) -> AsyncIterator[pb.SubmitJobsResponse]:
        async with aclosing(self._submissions.submit_all(request_iterator)) as responses:
            async for response in responses:
                yield response

    async def DescribeJobs(self, request: pb.DescribeJobsRequest, context: Any) -> pb.DescribeJobsResponse:
        ids = list(request.job_ids)
        check_describe("job_ids", ids)
        refuse(check_lengths("job_ids", ids, limits.JOB_ID_LENGTH_MAX))
        reader = caller()

        def look(world: World) -> list[pb.Job]:
            return [job_message(world, unit) for unit in _find_units(world, reader, ids)]

        return pb.DescribeJobsResponse(jobs=await self._leadership.driver.read(look))

    async def ListJobs(self, request: pb.ListJobsRequest, context: Any) -> pb.ListJobsResponse:
        return await self._leadership.driver.read(Listing(request).look)

    async def GetArrayDigest(self, request: pb.GetArrayDigestRequest, context: Any) -> pb.GetArrayDigestResponse:
        out: Violations = []
        check_job_id(out, "job_id", request.job_id)
        check_range(out, "cells", request.cells, 0, limits.DIGEST_CELLS_MAX)
        refuse(out)
        cells, reader = request.cells or limits.DIGEST_CELLS_MAX, caller()
        return await self._leadership.driver.read(
            lambda world: digest_message(find_array(world, reader, request.job_id).children, cells)
        )

    async def CancelJob(self, request: pb.CancelJobRequest, context: Any) -> pb.CancelJobResponse:
        _check_stop(request)
        await self._change(request.job_id, lambda world: submissions.cancel_job(world, request.job_id, request.reason))
        return pb.CancelJobResponse()

    async def UpdateJob(self, request: pb.UpdateJobRequest, context: Any) -> pb.UpdateJobResponse:
        out: Violations = []
        check_job_id(out, "job_id", request.job_id)
        if request.HasField("scheduling_priority"):
            check_range(out, "scheduling_priority", request.scheduling_priority, 0, limits.SCHEDULING_PRIORITY_MAX)
        else:
            out.append(Violation("scheduling_priority", "nothing to change is said", Reason.REQUIRED))
        refuse(out)
        await self._change(
            request.job_id, lambda world: submissions.update_job(world, request.job_id, request.scheduling_priority)
        )
        return pb.UpdateJobResponse()

    async def TerminateJob(self, request: pb.TerminateJobRequest, context: Any) -> pb.TerminateJobResponse:
        _check_stop(request)
        await self._change(
            request.job_id, lambda world: submissions.terminate_job(world, request.job_id, request.reason)
        )
        return pb.TerminateJobResponse()

    async def _change(self, job_id: str, admit: Callable[[World], Event | None]) -> None:
        """Have something done to a job that the caller may change."""
        changer = caller()

        def decide(world: World, now: Instant) -> tuple[Event | None, None]:
            find_unit(world, changer, Verb.CHANGE, job_id)
            return admit(world), None

        await self._leadership.driver.request(decide)

    async def WatchJobs(self, request: pb.WatchJobsRequest, context: Any) -> AsyncIterator[pb.WatchJobsResponse]:
        watch = Watch(request, self._now_ms)
        async with aclosing(watch.stream(self._leadership.driver)) as responses:
            async for response in responses:
                yield response

    async def ReadLogs(self, request: pb.ReadLogsRequest, context: Any) -> AsyncIterator[pb.ReadLogsResponse]:
        _check_read(request)
        log = await self._await_attempt(request)
        offset = request.offset
        tail = request.tail_lines if request.HasField("tail_lines") else None
        while True:
            piece = await self._sessions.read_log(*log, offset, tail, follow=request.follow)
            tail, offset = None, piece.next_offset
            # Without data it still tells where the log ends now.
            if piece.data or not request.follow:
                yield pb.ReadLogsResponse(data=piece.data, next_offset=offset)
            if piece.end or not (piece.data or request.follow):
                return

    async def _await_attempt(self, request: pb.ReadLogsRequest) -> _LogPlace:
        """Find the attempt whose log is asked for; when following, wait for one to start."""
        reader = caller()
        while True:
            driver = self._leadership.driver
            place = driver.trail.end
            found = await driver.read(lambda world: _find_attempt(world, reader, request))
            if found is not None:
                return found
            if not request.follow:
                text = f"job {request.job_id} has not started; there is no log yet"
                raise FailedPreconditionError(text, reason=Reason.JOB_NOT_STARTED, metadata={"job_id": request.job_id})
            await driver.trail.wait(place)

    async def EnterJob(
        self, request_iterator: AsyncIterator[pb.EnterJobRequest], context: Any
    ) -> AsyncIterator[pb.EnterJobResponse]:
        async with aclosing(self._entries.enter(request_iterator)) as responses:
            async for response in responses:
                yield response

    async def ExplainJob(self, request: pb.ExplainJobRequest, context: Any) -> pb.ExplainJobResponse:
        out: Violations = []
        check_job_id(out, "job_id", request.job_id)
        refuse(out)

        reader = caller()

        def look(world: World) -> pb.ExplainJobResponse:
            return explain_message(world, reader, find_unit(world, reader, Verb.READ, request.job_id))

        return await self._leadership.driver.read(look)


_LogPlace = tuple[str, str, str, str]
"""A host's id and name, an attempt, and which of several containers."""


def _find_units(world: World, reader: Principal, ids: Iterable[str]) -> list[Unit]:
    found = map(world.find, ids)
    return [unit for unit in found if unit is not None and may(reader, Verb.READ, job_thing(unit.job.spec))]


def _check_stop(request: pb.CancelJobRequest | pb.TerminateJobRequest) -> None:
    out: Violations = []
    check_job_id(out, "job_id", request.job_id)
    if not request.reason:
        out.append(Violation("reason", "a reason is required", Reason.REQUIRED))
    check_text(out, "reason", request.reason, limits.REASON_LENGTH_MAX)
    refuse(out)


def _check_read(request: pb.ReadLogsRequest) -> None:
    out: Violations = []
    check_job_id(out, "job_id", request.job_id)
    check_range(out, "attempt", request.attempt, 0, limits.INT32_MAX)
    check_range(out, "offset", request.offset, 0, limits.INT64_MAX)
    check_range(out, "tail_lines", request.tail_lines, 0, limits.INT32_MAX)
    check_text(out, "container", request.container, limits.CONTAINER_NAME_LENGTH_MAX)
    refuse(out)


def _find_attempt(world: World, reader: Principal, request: pb.ReadLogsRequest) -> _LogPlace | None:
    """Return where the log of an attempt is, None if the job has none yet."""
    unit = find_unit(world, reader, Verb.READ_LOG, request.job_id)
    if unit.is_parent and unit.job.kind is JobKind.ARRAY:
        text = f"{unit.id} is an array; name a child, such as {unit.id}:0"
        raise FailedPreconditionError(text, reason=Reason.JOB_IS_ARRAY, metadata={"job_id": unit.id})
    whose = unit.main.id if unit.is_parent else unit.id
    hosts = {ended.number: ended.host_id for ended in unit.attempts}
    names = {ended.number: ended.id_of(whose) for ended in unit.attempts}
    live = history.live_attempt(world, unit)
    if live is not None:
        hosts[live.number], names[live.number] = live.host_id, live.id
    if request.attempt and request.attempt not in hosts:
        raise NotFoundError(
            f"job {request.job_id} has no attempt {request.attempt}; it has {len(hosts)}",
            reason=Reason.ATTEMPT_NOT_FOUND,
            metadata={"job_id": request.job_id, "attempt": str(request.attempt)},
        )
    if not hosts:
        if unit.state.is_final:
            text = f"job {request.job_id} ended without running, so there is no log: {ending_cause(world, unit)}"
            raise FailedPreconditionError(text, reason=Reason.JOB_NEVER_RAN, metadata={"job_id": request.job_id})
        return None
    number = request.attempt or max(hosts)
    container = container_of(unit, request.container)
    for ended in unit.attempts:
        has_log = ended.started_at_ms or any(part.started_at_ms for part in ended.containers)
        if ended.number == number and not has_log:
            why = ended.reason or words.attempt_reason(unit, ended)
            text = f"attempt {number} of job {request.job_id} did not start, so it has no log: {why}"
            raise FailedPreconditionError(text, reason=Reason.JOB_NEVER_RAN, metadata={"job_id": request.job_id})
    _check_host_is_kept(world, request.job_id, number, hosts[number])
    return hosts[number], words.host_name(world, hosts[number]), names[number], container


def _check_host_is_kept(world: World, job_id: str, number: int, host_id: str) -> None:
    """Refuse the log of an attempt whose host nobody waits for any more: it will not be back."""
    if HostId(host_id) not in world.hosts:
        name = words.host_name(world, host_id)
        text = f"host {name} was removed, and the log of attempt {number} of job {job_id} with it"
        metadata = {"job_id": job_id, "attempt": str(number), "host_id": host_id}
        raise NotFoundError(text, reason=Reason.HOST_REMOVED, metadata=metadata)
