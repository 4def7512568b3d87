"""
Calls that tell of a yard as a whole: how its hosts stand, whose they are, and what a text may mean.

Thin: arguments are checked, one request is sent, its answer returned.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from batchyard import arguments, wording
from batchyard.calls import Caller
from batchyard.errors import Reason
from batchyard.v1 import compute_environment_pb2 as environment_pb
from batchyard.v1 import host_pb2, search_pb2, usage_pb2


class OverviewCalls(Caller):
    """The part of the client that looks at all of a yard."""

    async def summarize_hosts(self) -> host_pb2.SummarizeHostsResponse:
        """
        Tell how many hosts are in each state, and what of those that are reached is held.

        Returns:
            ``hosts_by_state`` by names such as ``READY``, states of none left out;
            ``capacity`` and ``allocated`` of all that are reached.
        """
        return await self.calls.summarize_hosts(host_pb2.SummarizeHostsRequest())

    async def list_environment_hosts(
        self,
        name: str = "",
        *,
        compute_resources: environment_pb.ComputeResources | None = None,
        kubernetes: environment_pb.KubernetesCluster | None = None,
        page_size: int = 1000,
    ) -> AsyncGenerator[environment_pb.EnvironmentHost, None]:
        """
        Iterate over all hosts in name order, each with whether it belongs to an environment, and if not, why.

        Args:
            name: The environment; with *compute_resources* it may be a new one, or empty.
            compute_resources: Tells how it would be if the environment had these; None: as it is.
            kubernetes: With *compute_resources*: its cluster.
            page_size: Hosts a call, at most 1000.

        Raises:
            NotFoundError: there is no such environment.
            InvalidArgumentError: *compute_resources* break a rule.
        """
        request = arguments.request(
            environment_pb.ListEnvironmentHostsRequest,
            name=name,
            compute_resources=compute_resources,
            kubernetes=kubernetes,
            page_size=page_size,
        )
        while True:
            page = await self.calls.list_environment_hosts(request)
            for host in page.hosts:
                yield host
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def search(self, text: str, *, limit: int = 10) -> search_pb2.SearchResponse:
        """
        Find what a text may mean: jobs, queues, environments, definitions and hosts.

        Args:
            text: The beginning of a name, or 4 characters or more with which an id begins or,
                of a job, ends. A whole id of a job or child finds that alone. Letter case
                does not matter.
            limit: Most of each kind, 1 to 50.

        Returns:
            All that was found, jobs newest first; ``is_partial`` says that there may be more.
        """
        if arguments.integer("limit", limit) == 0:
            raise arguments.refuse("limit", "must be at least 1", Reason.OUT_OF_RANGE)
        return await self.calls.search(arguments.request(search_pb2.SearchRequest, text=text, limit=limit))

    async def sum_usage(
        self,
        by: Sequence[str] = (),
        *,
        queue: str | Sequence[str] = "",
        owner: str = "",
        job_definition: str = "",
        name: str = "",
        ended_after_ms: int = 0,
        ended_before_ms: int = 0,
    ) -> list[usage_pb2.UsageSum]:
        """
        Sum what attempts took and used that have ended, of jobs that are kept; in as many calls as that takes.

        Args:
            by: ``USER``, ``QUEUE``, ``DEFINITION``, ``DAY`` (of the attempt's end, UTC) or ``JOB``, or
                several; none: one sum of all.
            queue: Of jobs of this queue, or these.
            owner: Of jobs of this user.
            job_definition: As of `list_jobs_page`.
            name: As of `list_jobs_page`.
            ended_after_ms: Attempts that ended then or later.
            ended_before_ms: Attempts that ended before.

        Returns:
            A sum for each combination of the keys' values that there is, in their order.

        Raises:
            NotFoundError: no such queue.
            InvalidArgumentError: a key is none of these.
        """
        keys = [wording.number(usage_pb2.UsageKey, f"by[{i}]", key) for i, key in enumerate(arguments.texts("by", by))]
        request = arguments.request(
            usage_pb2.SumUsageRequest,
            by=keys,
            queues=arguments.texts("queue", [queue] if isinstance(queue, str) and queue else queue or []),
            owner=owner,
            job_definition=job_definition,
            name=name,
            ended_after_ms=ended_after_ms,
            ended_before_ms=ended_before_ms,
        )
        sums: dict[tuple[str, ...], usage_pb2.UsageSum] = {}
        while True:
            page = await self.calls.sum_usage(request)
            for each in page.sums:
                _add(sums.setdefault(tuple(each.keys), usage_pb2.UsageSum(keys=each.keys)), each)
            if not page.next_page_token:
                return [sums[key] for key in sorted(sums)]
            request.page_token = page.next_page_token


_PEAK = ("peak_memory_kib", "peak_asked_mib")


def _add(total: usage_pb2.UsageSum, part: usage_pb2.UsageSum) -> None:
    """Add a sum to another."""
    if part.peak_memory_kib > total.peak_memory_kib:
        for name in _PEAK:
            setattr(total, name, getattr(part, name))
    for field in part.DESCRIPTOR.fields:
        if field.name not in ("keys", *_PEAK):
            setattr(total, field.name, getattr(total, field.name) + getattr(part, field.name))
