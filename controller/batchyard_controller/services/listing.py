"""ListJobs: one page of a queue's jobs or of an array's children."""

from __future__ import annotations

from batchyard.errors import NotFoundError, Reason, Violation
from batchyard.ids import NAME_LENGTH_MAX, JobId
from batchyard.states import JobState
from batchyard.v1 import job_pb2 as pb
from batchyard_controller.convert.jobs import job_states
from batchyard_controller.core import limits
from batchyard_controller.core.model.jobs import JobKind
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.requests import settings
from batchyard_controller.core.requests.checks import Violations, check_range, check_text, quote, refuse
from batchyard_controller.core.views.listing import JobFilter, find_page
from batchyard_controller.core.world.submitted import SubmittedJobs
from batchyard_controller.core.world.world import World

from .job_view import summary_message
from .paging import decode_number, encode_token, page_size

_NOT_FOR_CHILDREN = (
    "queue",
    "name",
    "job_definition",
    "created_before_ms",
    "created_after_ms",
    "share_identifier",
    "consumable",
)


class Listing:
    """
    One request to list, checked and ready to look at the world.

    Raises:
        InvalidArgumentError: a field breaks a rule.
    """

    def __init__(self, request: pb.ListJobsRequest) -> None:
        self._request = request
        self._size = page_size(request.page_size)
        array = request.array_job_id
        self._listed = f"children/{array}" if array else f"jobs/{request.queue}"
        self._after = decode_number(self._listed, request.page_token)
        self._states = job_states(request.states)
        refuse(_check(request))

    def look(self, world: World) -> pb.ListJobsResponse:
        """
        Return the page.

        Raises:
            NotFoundError: there is no such queue or array.
        """
        return self._list_children(world) if self._request.array_job_id else self._list_jobs(world)

    def _list_jobs(self, world: World) -> pb.ListJobsResponse:
        request = self._request
        submitted = world.all_jobs
        if request.queue:
            settings.find_queue(world, request.queue)
            submitted = world.by_queue.get(request.queue) or SubmittedJobs()
        wanted = JobFilter(
            states=self._states,
            name=request.name,
            definition=request.job_definition,
            created_after_ms=request.created_after_ms,
            created_before_ms=request.created_before_ms,
            share_identifier=request.share_identifier,
            consumable=request.consumable,
        )
        page = find_page(submitted, wanted, self._after, self._size)
        return pb.ListJobsResponse(
            jobs=[summary_message(world, Unit(job)) for job in page.jobs], next_page_token=self._token(page.next_before)
        )

    def _list_children(self, world: World) -> pb.ListJobsResponse:
        job = world.jobs.get(JobId(self._request.array_job_id))
        if job is None or job.kind is not JobKind.ARRAY:
            text = f"array job {quote(self._request.array_job_id)} not found"
            raise NotFoundError(text, reason=Reason.JOB_NOT_FOUND, metadata={"job_id": self._request.array_job_id})
        first = -1 if self._after is None else self._after
        found: list[int] = []
        for index in job.children.indices(self._states or frozenset(JobState)):
            if index > first:
                found.append(index)
                if len(found) > self._size:
                    break
        return pb.ListJobsResponse(
            jobs=[summary_message(world, Unit(job, index)) for index in found[: self._size]],
            next_page_token=self._token(found[self._size - 1] if len(found) > self._size else None),
        )

    def _token(self, place: int | None) -> str:
        return "" if place is None else encode_token(self._listed, str(place))


def _check(request: pb.ListJobsRequest) -> Violations:
    out: Violations = []
    if request.array_job_id:
        text = "is not for the children of an array; leave it out, or array_job_id"
        out += [Violation(name, text, Reason.CONFLICT) for name in _NOT_FOR_CHILDREN if getattr(request, name)]
    check_text(out, "name", request.name, NAME_LENGTH_MAX + 1)
    check_text(out, "job_definition", request.job_definition, limits.DEFINITION_KEY_LENGTH_MAX + 1)
    check_text(out, "consumable", request.consumable, NAME_LENGTH_MAX)
    check_text(out, "share_identifier", request.share_identifier, limits.SHARE_IDENTIFIER_LENGTH_MAX)
    for name in ("created_before_ms", "created_after_ms"):
        check_range(out, name, getattr(request, name), 0, limits.INT64_MAX)
    return out
