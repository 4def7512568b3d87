"""
Calls about events: what became of jobs and hosts, and where that is passed on.

Thin: arguments are checked, one request is sent, its answer returned.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from batchyard import arguments
from batchyard.calls import Caller
from batchyard.v1 import event_pb2 as pb

WAIT_MS = 10_000
"""How long a call waits for the next event; within any deadline that makes sense."""


class EventCalls(Caller):
    """The part of the client that is about events."""

    async def list_events(
        self, *, job_id: str = "", host: str = "", since_ms: int = 0, after: str = "", follow: bool = False
    ) -> AsyncGenerator[pb.Event, None]:
        """
        Iterate over what is kept of the moves of jobs and hosts, oldest first, with their causes.

        Args:
            job_id: Of this job, of an array or a multi-node job with all its children or nodes, or of this child.
            host: Of this host, by name or id, and of what ran there. Default: of all.
            since_ms: At this moment or later.
            after: After the event with this ``cursor``.
            follow: Go on with what comes, for ever; while the controller is away, for ``retry_s`` of the client.

        Raises:
            NotFoundError: there is no such job or host.
            FailedPreconditionError: what followed *after* is no longer all kept.
        """
        request = arguments.request(
            pb.ListEventsRequest, job_id=job_id, host=host, since_ms=since_ms, after=after, limit=1000
        )
        while True:
            page = await self.calls.list_events(request, retry=True)
            for event in page.events:
                yield event
            if not page.is_partial and not follow:
                return
            request.after = page.cursor
            request.wait_ms = min(WAIT_MS, int(self._connection.timeout_s * 500)) if follow else 0
