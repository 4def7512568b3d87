"""ListJobs: one page of queues' jobs or of an array's children."""

from __future__ import annotations

from itertools import islice

from batchyard.errors import NotFoundError, Reason, Violation
from batchyard.ids import NAME_LENGTH_MAX, HostId, JobId
from batchyard.states import FINAL_STATES, JobState
from batchyard.v1 import job_pb2 as pb
from batchyard_controller.convert.jobs import job_states
from batchyard_controller.core import limits
from batchyard_controller.core.access.roles import Kind, Principal, Thing, Verb, may
from batchyard_controller.core.access.things import job_thing, queue_thing
from batchyard_controller.core.model.jobs import Job, JobKind
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.requests import settings
from batchyard_controller.core.requests.checks import Violations, check_range, check_text, quote, refuse
from batchyard_controller.core.requests.hosts import find_host_id
from batchyard_controller.core.requests.permission import permit
from batchyard_controller.core.views.listing import JobFilter, Page, Place, find_page, merge_pages
from batchyard_controller.core.world.world import World
from batchyard_controller.leadership import Leadership

from . import recalling
from .callers import caller
from .job_view import summary_message
from .paging import as_number, decode_token, encode_token, page_size

_NOT_FOR_CHILDREN = (
    "queues",
    "name",
    "job_definition",
    "created_before_ms",
    "created_after_ms",
    "share_identifier",
    "consumable",
    "tags",
    "host",
    "oldest_first",
    "owner",
)


class Listing:
    """
    One request to list, checked.

    Raises:
        InvalidArgumentError: a field breaks a rule.
    """

    def __init__(self, request: pb.ListJobsRequest) -> None:
        self._request = request
        self._reader = caller()
        self._size = page_size(request.page_size)
        self._listed = _listed(request)
        self._beyond = _place(decode_token(self._listed, request.page_token))
        self._states = job_states(request.states)
        refuse(_check(request))

    async def list(self, leadership: Leadership) -> pb.ListJobsResponse:
        """
        Return the page, with archived jobs among those that are kept.

        Raises:
            NotFoundError: there is no such queue, host or array.
            UnavailableError: the term ended, or the archive cannot be read.
        """
        if self._request.array_job_id:
            return await recalling.read(leadership, [self._request.array_job_id], self._list_children)
        driver, archive = leadership.driver, leadership.archive
        if archive is None or (self._states and not self._states & FINAL_STATES):
            return await driver.read(lambda world: self._page(world, self._find(world)[1]))
        wanted, kept = await driver.read(self._find)
        page = merge_pages((kept, await archive.page(wanted, self._beyond, self._size)), wanted, self._size)
        return await driver.read(lambda world: self._page(world, page))

    def _find(self, world: World) -> tuple[JobFilter, Page]:
        """Return what is wanted, and a page of it of the jobs that are kept."""
        request = self._request
        wanted = JobFilter(
            queues=frozenset(self._find_queue(world, name) for name in request.queues),
            states=self._states,
            name=request.name,
            definition=request.job_definition,
            created_after_ms=request.created_after_ms,
            created_before_ms=request.created_before_ms,
            share_identifier=request.share_identifier,
            consumable=request.consumable,
            tags=tuple((tag.key, tag.value if tag.HasField("value") else None) for tag in request.tags),
            host_id=self._find_host(world, request.host) if request.host else "",
            oldest_first=request.oldest_first,
            owner=request.owner,
            reader=self._reader,
        )
        return wanted, find_page(world, wanted, self._beyond, self._size)

    def _find_queue(self, world: World, name: str) -> str:
        permit(self._reader, Verb.READ, queue_thing(name))
        return settings.find_queue(world, name).name

    def _find_host(self, world: World, host: str) -> HostId:
        permit(self._reader, Verb.READ, Thing(Kind.HOST))
        return find_host_id(world, host)

    def _list_children(self, world: World) -> pb.ListJobsResponse:
        job = find_array(world, self._reader, self._request.array_job_id)
        first = 0 if self._beyond is None else self._beyond[0] + 1
        found = list(islice(job.children.indices(self._states or frozenset(JobState), first), self._size + 1))
        units = [Unit(job, index) for index in found[: self._size]]
        return self._page(world, Page(units, (found[self._size - 1], 0) if len(found) > self._size else None))

    def _page(self, world: World, page: Page) -> pb.ListJobsResponse:
        beyond = page.next_beyond
        place = "" if beyond is None else f"{beyond[0]}.{beyond[1]}" if self._request.host else str(beyond[0])
        return pb.ListJobsResponse(
            jobs=[summary_message(world, unit) for unit in page.units],
            next_page_token=encode_token(self._listed, place) if place else "",
        )


def find_array(world: World, reader: Principal, job_id: str) -> Job:
    """
    Return an array job, or a multi-node job, that *reader* may read.

    Raises:
        NotFoundError: there is none of this id.
    """
    job = world.jobs.get(JobId(job_id))
    if job is None or job.kind is JobKind.SINGLE or not may(reader, Verb.READ, job_thing(job.spec)):
        text = f"array job {quote(job_id)} not found"
        raise NotFoundError(text, reason=Reason.JOB_NOT_FOUND, metadata={"job_id": job_id})
    return job


def _listed(request: pb.ListJobsRequest) -> str:
    """Name a list, so that a token of it is none of another in another order."""
    if request.array_job_id:
        return f"children/{request.array_job_id}"
    return "/".join(
        [
            "oldest" if request.oldest_first else "jobs",
            ",".join(sorted(set(request.queues))),
            *([request.host] if request.host else []),
        ]
    )


def _place(text: str) -> Place | None:
    if not text:
        return None
    seq, _, index = text.partition(".")
    return as_number(seq), as_number(index or "0")


def _check(request: pb.ListJobsRequest) -> Violations:
    out: Violations = []
    if request.array_job_id:
        text = "is not for the children of an array; leave it out, or array_job_id"
        out += [Violation(name, text, Reason.CONFLICT) for name in _NOT_FOR_CHILDREN if getattr(request, name)]
    for name in ("queues", "tags"):
        check_range(out, name, len(getattr(request, name)), 0, limits.LIST_FILTERS_MAX, name)
    check_text(out, "name", request.name, NAME_LENGTH_MAX + 1)
    check_text(out, "job_definition", request.job_definition, limits.DEFINITION_KEY_LENGTH_MAX + 1)
    check_text(out, "consumable", request.consumable, NAME_LENGTH_MAX)
    check_text(out, "share_identifier", request.share_identifier, limits.SHARE_IDENTIFIER_LENGTH_MAX)
    check_text(out, "host", request.host, limits.HOST_TEXT_LENGTH_MAX)
    check_text(out, "owner", request.owner, limits.USER_LENGTH_MAX)
    for i, tag in enumerate(request.tags[: limits.LIST_FILTERS_MAX]):
        check_text(out, f"tags[{i}].key", tag.key, limits.TAG_KEY_LENGTH_MAX)
        check_text(out, f"tags[{i}].value", tag.value, limits.TAG_VALUE_LENGTH_MAX)
        if not tag.key:
            out.append(Violation(f"tags[{i}].key", "a key must not be empty", Reason.REQUIRED))
    for name in ("created_before_ms", "created_after_ms"):
        check_range(out, name, getattr(request, name), 0, limits.INT64_MAX)
    return out
