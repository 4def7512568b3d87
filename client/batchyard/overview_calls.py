"""
Calls that tell of a yard as a whole: how its hosts stand, and what a text may mean.

Thin: arguments are checked, one request is sent, its answer returned.
"""

from __future__ import annotations

from batchyard import arguments
from batchyard.calls import Caller
from batchyard.errors import Reason
from batchyard.v1 import host_pb2, search_pb2


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
