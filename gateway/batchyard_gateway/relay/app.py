"""
App: for each sink of the yard a task that pulls its events, delivers them in their order, and says so.

Law: an event is told to be delivered only once its receiver has taken it; whatever is cut off in between is
delivered again, from there on. Sinks know nothing of each other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import structlog

from batchyard.arns import Account
from batchyard.client import AsyncClient
from batchyard.errors import BatchyardError, NotFoundError, Reason
from batchyard.v1 import job_pb2
from batchyard.v1 import sink_pb2 as pb
from batchyard_gateway.batch.names import Names

from .aws import AwsReceiver
from .bodies import Body, bodies_of, job_ids, lost_body
from .config import Config
from .files import FileReceiver
from .programs import ProgramReceiver
from .receivers import DeliveryError, Receiver
from .webhook import WebhookReceiver

LOOK_S = 2.0
"""How often it is asked which sinks there are."""
PULLED = 500
"""Events that are taken at once."""
WAIT_MS = 10_000
WAITS_S = (1.0, 2.0, 5.0, 15.0, 60.0, 300.0)
"""After failures, one after the other; the last again and again."""
HOLD_S = 10.0
"""How often it says that it is still there while it waits."""
_DESCRIBED = 1_000

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Done:
    """What is to be told of a sink by the next pull."""

    cursor: str = ""
    count: int = 0
    error: str = ""
    is_gone: bool = False


class Relay:
    """Passes events on until it is cancelled."""

    def __init__(self, config: Config, client: AsyncClient) -> None:
        self._config = config
        self._client = client
        self._names = Names(Account(region=config.region, account_id=config.account_id))
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def serve(self) -> None:
        """Serve the sinks that there are, and those that come."""
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    sinks = await self._client.list_sinks()
                except BatchyardError as err:
                    log.warning("does not reach the controller", error=str(err))
                    sinks = []
                for sink in sinks:
                    task = self._tasks.get(sink.name)
                    if not sink.is_disabled and (task is None or task.done()):
                        self._tasks[sink.name] = group.create_task(self._serve_sink(sink))
                await asyncio.sleep(LOOK_S)

    async def _serve_sink(self, sink: pb.Sink) -> None:
        """Serve one sink until it is deleted, switched off, or another relay has it."""
        log.info("serves sink", sink=sink.name, url=sink.url)
        receiver: Receiver | None = None
        done, failures = _Done(), 0
        try:
            while True:
                answer = await self._pull(sink.name, done, WAIT_MS if not failures else 0)
                if answer is None or answer.sink.is_disabled:
                    return
                if failures:
                    await self._wait(sink.name, WAITS_S[min(failures, len(WAITS_S)) - 1])
                bodies = await self._bodies(answer)
                try:
                    if receiver is None:
                        receiver = await asyncio.to_thread(self._open, sink)
                    if bodies:
                        await asyncio.to_thread(receiver.deliver, bodies, answer.secret)
                    done, failures = _Done(answer.through, len(bodies)), 0
                except DeliveryError as err:
                    log.warning("sink failed", sink=sink.name, error=str(err))
                    done = replace(_last_of(bodies[: err.delivered]), error=str(err), is_gone=err.is_gone)
                    failures += 1
        finally:
            if receiver is not None:
                receiver.close()

    async def _pull(self, name: str, done: _Done, wait_ms: int) -> pb.PullEventsResponse | None:
        """Say what is done and take what follows, however long the controller is away; None: it is no longer ours."""
        request = pb.PullEventsRequest(
            name=name,
            relay=self._config.name,
            delivered=done.cursor,
            count=done.count,
            error=done.error,
            is_gone=done.is_gone,
            limit=PULLED,
            wait_ms=wait_ms,
        )
        while True:
            try:
                return await self._client.calls.pull_events(request)
            except NotFoundError:
                return None
            except BatchyardError as err:
                if err.reason == Reason.SINK_HELD:
                    log.info("another relay serves sink", sink=name)
                    return None
                log.warning("does not reach the controller", error=str(err))
                await asyncio.sleep(1)

    async def _wait(self, name: str, seconds: float) -> None:
        """Wait, and let the controller know meanwhile that this relay is there."""
        while seconds > 0:
            await asyncio.sleep(min(seconds, HOLD_S))
            seconds -= HOLD_S
            if seconds > 0:
                await self._pull(name, _Done(), 0)

    async def _bodies(self, answer: pb.PullEventsResponse) -> list[Body]:
        events = list(answer.events)
        ids = job_ids(events)
        jobs: dict[str, job_pb2.Job] = {}
        for start in range(0, len(ids), _DESCRIBED):
            part = ids[start : start + _DESCRIBED]
            found = await self._describe(part)
            jobs |= {job.id: job for job in found}
        bodies = [body for event in events for body in bodies_of(event, jobs, self._names)]
        if answer.lost_to:
            now_ms = time.time_ns() // 1_000_000
            bodies.insert(0, lost_body(answer.lost_from, answer.lost_to, now_ms, self._names))
        return bodies

    async def _describe(self, ids: list[str]) -> list[job_pb2.Job]:
        """Describe jobs, however long the controller is away."""
        while True:
            try:
                answer = await self._client.calls.describe_jobs(job_pb2.DescribeJobsRequest(job_ids=ids), retry=True)
                return list(answer.jobs)
            except BatchyardError as err:
                log.warning("does not reach the controller", error=str(err))
                await asyncio.sleep(1)

    def _open(self, sink: pb.Sink) -> Receiver:
        """
        Return what delivers to a sink.

        Raises:
            DeliveryError: nothing can, as this relay is.
        """
        kind, _, rest = sink.url.partition(":")
        match kind:
            case "file":
                return FileReceiver(self._config.files, rest, _utc_now)
            case "exec":
                if self._config.programs is None:
                    raise DeliveryError("this relay runs no programs; start it with --programs FOLDER")
                return ProgramReceiver(self._config.programs / rest)
            case "http" | "https":
                return WebhookReceiver(sink.url, time.time, allows_loopback=self._config.allow_loopback)
            case _:
                return AwsReceiver(sink)


def _last_of(bodies: list[Body]) -> _Done:
    """Return what is done once these are delivered: up to the last whose place is all delivered."""
    whole = [place for place, body in enumerate(bodies, start=1) if body.cursor]
    return _Done(bodies[whole[-1] - 1].cursor, whole[-1]) if whole else _Done()


def _utc_now() -> datetime:
    return datetime.now(UTC)


async def serve(config: Config, stop: Callable[[], asyncio.Event]) -> None:
    """Relay until *stop* is set."""
    stopped = stop()
    async with AsyncClient(config.controller, role="relay") as client:
        relay = asyncio.create_task(Relay(config, client).serve())
        waiter = asyncio.create_task(stopped.wait())
        await asyncio.wait({relay, waiter}, return_when=asyncio.FIRST_COMPLETED)
        waiter.cancel()
        relay.cancel()
        await asyncio.wait({relay})
        if not relay.cancelled():
            relay.result()
