"""
Calls about events: what became of jobs and hosts, and where that is passed on.

Thin: arguments are checked, one request is sent, its answer returned.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from batchyard import arguments, wording
from batchyard.calls import Caller
from batchyard.v1 import event_pb2 as pb
from batchyard.v1 import job_pb2, sink_pb2

WAIT_MS = 10_000
"""How long a call waits for the next event; within any deadline that makes sense."""


class EventCalls(Caller):
    """The part of the client that is about events."""

    async def list_events(
        self,
        *,
        job_id: str = "",
        host: str = "",
        since_ms: int = 0,
        after: str = "",
        follow: bool = False,
        latest_first: bool = False,
    ) -> AsyncGenerator[pb.Event, None]:
        """
        Iterate over what is kept of the moves of jobs and hosts, with their causes.

        Args:
            job_id: Of this job, of an array or a multi-node job with all its children or nodes, or of this child.
            host: Of this host, by name or id, and of what ran there. Default: of all.
            since_ms: At this moment or later.
            after: After the event with this ``cursor``; before it, if the latest come first.
            follow: Go on with what comes, for ever; while the controller is away, for ``retry_s`` of the client.
            latest_first: In that order; by default the oldest come first. Does not go with *follow*.

        Raises:
            InvalidArgumentError: naming the argument.
            NotFoundError: there is no such job or host.
            FailedPreconditionError: what followed *after* is no longer all kept.
        """
        request = arguments.request(
            pb.ListEventsRequest,
            job_id=job_id,
            host=host,
            since_ms=since_ms,
            after=after,
            limit=1000,
            latest_first=latest_first,
        )
        while True:
            page = await self.calls.list_events(request, retry=True)
            for event in page.events:
                yield event
            if not page.is_partial and not follow:
                return
            request.after = page.cursor
            request.wait_ms = min(WAIT_MS, int(self._connection.timeout_s * 500)) if follow else 0

    async def create_sink(
        self,
        name: str,
        url: str,
        *,
        endpoint_url: str = "",
        region: str = "",
        queues: Sequence[str] = (),
        states: Sequence[str] = (),
        children: str = "ENDS",
        secret: str = "",
    ) -> sink_pb2.CreateSinkResponse:
        """
        Have events passed on from now on, by the relay. Keep a webhook's ``secret``: it is told here and never again.

        Args:
            name: Up to 128 letters, digits, ``-`` and ``_``.
            url: ``https://HOST/PATH`` (or http), ``file:NAME``, ``exec:NAME``, ``sqs:QUEUE_URL``, ``sns:TOPIC_ARN``
                or ``events:BUS``.
            endpoint_url: Where one of AWS's services is. Default: AWS's own.
            region: Its region. Default: as its address or ARN says, or the relay's environment.
            queues: Only moves of jobs of these, at most 50.
            states: Only moves to these, as ``FAILED``.
            children: Of arrays and multi-node jobs ``ENDS``, ``ALL`` or ``NONE``.
            secret: Of a webhook: ``whsec_`` and base 64 of 24 to 64 bytes. Default: one is made.

        Raises:
            AlreadyExistsError: there is one of this name.
            NotFoundError: there is no such queue.
        """
        request = arguments.request(
            sink_pb2.CreateSinkRequest,
            name=name,
            url=url,
            endpoint_url=endpoint_url,
            region=region,
            queues=arguments.texts("queues", queues),
            states=[
                wording.number(job_pb2.JobState, f"states[{i}]", state)
                for i, state in enumerate(arguments.texts("states", states))
            ],
            children=wording.number(sink_pb2.SinkChildren, "children", children),
            secret=secret,
        )
        return await self.calls.create_sink(request)

    async def list_sinks(self) -> list[sink_pb2.Sink]:
        """Return all sinks in name order, and how far each is."""
        return list((await self.calls.list_sinks(sink_pb2.ListSinksRequest(), retry=True)).sinks)

    async def switch_sink(self, name: str, *, is_disabled: bool) -> sink_pb2.Sink:
        """
        Switch a sink off or on; what happens while it is off waits for it, as far as it is kept.

        Raises:
            NotFoundError: there is no such sink.
        """
        request = arguments.request(sink_pb2.UpdateSinkRequest, name=name, is_disabled=is_disabled)
        return (await self.calls.update_sink(request, retry=True)).sink

    async def delete_sink(self, name: str) -> None:
        """
        End a sink; what it was not told it is never told.

        Raises:
            NotFoundError: there is no such sink.
        """
        await self.calls.delete_sink(arguments.request(sink_pb2.DeleteSinkRequest, name=name))
