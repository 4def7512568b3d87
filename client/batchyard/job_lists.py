"""
Calls about many jobs at once: lists, page by page or one after the other, and digests.

Thin: arguments are checked, one request is sent, its answer returned.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import TypedDict, Unpack

from batchyard import arguments, wording
from batchyard.calls import Caller
from batchyard.errors import Reason
from batchyard.v1 import job_pb2 as pb


class JobsWanted(TypedDict, total=False):
    """What :meth:`JobLists.list_jobs_page` takes beside a token."""

    queue: str | Sequence[str]
    array_job_id: str
    states: Sequence[str]
    name: str
    job_definition: str
    created_after_ms: int
    created_before_ms: int
    share_identifier: str
    consumable: str
    tags: Mapping[str, str | None] | None
    host: str
    oldest_first: bool
    owner: str
    page_size: int


class JobLists(Caller):
    """The part of the client that lists jobs."""

    async def list_jobs(self, **wanted: Unpack[JobsWanted]) -> AsyncGenerator[pb.JobSummary, None]:
        """
        Iterate over jobs, newest first; pages are fetched as they are needed.

        Arguments are those of :meth:`list_jobs_page`.
        """
        token = ""
        while True:
            page = await self.list_jobs_page(**wanted, page_token=token)
            for job in page.jobs:
                yield job
            token = page.next_page_token
            if not token:
                return

    async def list_jobs_page(
        self,
        *,
        queue: str | Sequence[str] = "",
        array_job_id: str = "",
        states: Sequence[str] = (),
        name: str = "",
        job_definition: str = "",
        created_after_ms: int = 0,
        created_before_ms: int = 0,
        share_identifier: str = "",
        consumable: str = "",
        tags: Mapping[str, str | None] | None = None,
        host: str = "",
        oldest_first: bool = False,
        owner: str = "",
        page_size: int = 100,
        page_token: str = "",
    ) -> pb.ListJobsResponse:
        """
        Return one page of jobs, newest first.

        Args:
            queue: Jobs of one queue, or of several; empty is all queues. Not with *array_job_id*.
            array_job_id: One array's children, or one job's nodes, by index.
            states: Only these, such as ``JobState.RUNNING`` or ``"RUNNING"``.
            name: Only jobs of this name; a trailing ``*`` matches any rest, letter case
                does not matter. This and what follows is not for an array's children.
            job_definition: Only jobs of ``name`` (any revision), ``name:revision``, or a
                beginning with a trailing ``*``.
            created_after_ms: Only jobs created after this moment, since the epoch.
            created_before_ms: Only jobs created before it.
            share_identifier: Only jobs of this share.
            consumable: Only jobs that ask for this consumable resource.
            tags: Only jobs with all of these tags; None is whatever value.
            host: Only what has, or had, an attempt on this host, by its id or name; of an
                array its children are listed, and not itself.
            oldest_first: In order of submission.
            owner: Only jobs of this user; ``administrator``: of the administrator.
            page_size: Jobs a call, at most 1000.
            page_token: The last page's ``next_page_token``; empty begins.

        Returns:
            ``jobs``, and a ``next_page_token`` while there may be more. A page may come short,
            or empty, and yet have one: a call looks at 50,000 jobs at most.

        Raises:
            NotFoundError: there is no such queue, host or array.
            InvalidArgumentError: a filter breaks a rule, or the token is of another list.
        """
        request = arguments.request(
            pb.ListJobsRequest,
            queues=([queue] if queue else []) if isinstance(queue, str) else queue,
            array_job_id=array_job_id,
            states=[_state("states", state) for state in arguments.texts("states", states)],
            name=name,
            job_definition=job_definition,
            created_after_ms=created_after_ms,
            created_before_ms=created_before_ms,
            share_identifier=share_identifier,
            consumable=consumable,
            tags=_tags(tags),
            host=host,
            oldest_first=oldest_first,
            owner=owner,
            page_size=page_size,
            page_token=page_token,
        )
        return await self.calls.list_jobs(request)

    async def get_array_digest(self, job_id: str, *, cells: int = 1000) -> pb.GetArrayDigestResponse:
        """
        Tell how many children of an array are in which state, by ranges of their indexes.

        Args:
            job_id: The array.
            cells: Into how many ranges of equal width they are divided, at most; 1 to 1000.

        Returns:
            ``cells``, each with its ``counts`` by state name; cell *i* begins with child
            *i* times ``width``, and the last may have fewer than that.

        Raises:
            NotFoundError: there is no such array.
        """
        if arguments.integer("cells", cells) == 0:
            raise arguments.refuse("cells", "must be at least 1", Reason.OUT_OF_RANGE)
        request = arguments.request(pb.GetArrayDigestRequest, job_id=job_id, cells=cells)
        return await self.calls.get_array_digest(request)


def _state(field: str, text: str) -> pb.JobState.ValueType:
    return pb.JobState.ValueType(wording.number(pb.JobState, field, text))


def _tags(given: object) -> list[pb.TagFilter]:
    tags = {} if given is None else given
    if not isinstance(tags, Mapping):
        raise arguments.refuse("tags", f"must be a mapping of str to str or None, not {type(tags).__name__}")
    return [
        pb.TagFilter(
            key=arguments.text("tags key", key),
            value=None if value is None else arguments.text(f"tags[{key!r}]", value),
        )
        for key, value in tags.items()
    ]
