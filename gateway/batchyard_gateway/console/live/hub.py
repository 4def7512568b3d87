"""
Live: looks at the controller once for all open pages, and tells each that it may look again.

Here are the loop and the waits; who is told what and when is decided in `tabs`. Law: what is
read here is read once however many look on, and nothing is read while nobody does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from batchyard.errors import BatchyardError
from batchyard.v1 import host_pb2, job_pb2, job_queue_pb2

from .glances import Glances
from .tabs import GATHERED_S, TABS_MAX, TOPICS, FullError, Tabs, Told

COUNTS_S = 2.0
HOSTS_S = 5.0
BEAT_S = 10.0
"""The longest silence of a stream; with the time for which a key is taken as good, a minute after its revocation."""

LINGER_S = 30.0
"""How long is gone on looking after the last page has gone: most go to another one."""

READ_S = 5.0
"""A controller that does not answer for so long is away."""

RECONNECT_MS = 3_000


class Upstream(Protocol):
    """What of the SDK's client is needed."""

    def list_job_queues(self) -> AsyncGenerator[job_queue_pb2.JobQueue, None]:
        """Iterate over queues with the counts of their jobs."""

    def list_hosts(self) -> AsyncGenerator[host_pb2.Host, None]:
        """Iterate over hosts."""

    async def describe_jobs(self, job_ids: Sequence[str]) -> Sequence[job_pb2.Job]:
        """Return jobs; unknown ids are left out."""

    def watch_changes(self) -> AsyncGenerator[job_pb2.WatchJobsResponse, None]:
        """Iterate over which jobs changed, for ever; the first message says that none is missed from then on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looker:
    """
    Who reads a stream.

    Attributes:
        topics: What is wanted, see ``tabs.TOPICS``.
        ids: Jobs that are shown.
        since: The position at which the page was read.
        is_signed_in: Whether the session goes on.
        write_time: Writes a moment, in ms since the epoch, as the reader wants it.
    """

    topics: Sequence[str]
    ids: Sequence[str]
    since: str
    is_signed_in: Callable[[], Awaitable[bool]]
    write_time: Callable[[int], str]


class Hub:
    """
    Looks once for all.

    Args:
        upstream: The controller.
        boot: Names this life of the gateway.
        read_s: The clock that no hand sets.
        read_wall_s: The clock, in seconds since the epoch.
    """

    def __init__(
        self, upstream: Upstream, *, boot: str, read_s: Callable[[], float], read_wall_s: Callable[[], float]
    ) -> None:
        self._upstream = upstream
        self._read_s = read_s
        self._read_wall_s = read_wall_s
        self._tabs = Tabs(boot)
        self._glances = Glances(self._tabs.has_changed)
        self._attended = asyncio.Event()
        self._left = asyncio.Event()
        self._lock = asyncio.Lock()
        self._queues: Sequence[job_queue_pb2.JobQueue] = ()
        self._hosts: Sequence[bytes] | None = None
        self._queues_at_s: float | None = None
        self._heard_ms = int(read_wall_s() * 1000)
        self._is_closing = False

    @property
    def position(self) -> str:
        """What a page that is read now has seen."""
        return self._tabs.position

    @property
    def is_attended(self) -> bool:
        """Whether any page is open."""
        return len(self._tabs) > 0

    @property
    def is_full(self) -> bool:
        """Whether no further stream is served."""
        return len(self._tabs) >= TABS_MAX

    async def queues(self) -> Sequence[job_queue_pb2.JobQueue]:
        """
        Return the queues as they were at most some seconds ago.

        Raises:
            BatchyardError: the controller could not be asked.
        """
        async with self._lock:
            at_s = self._queues_at_s
            if at_s is None or self._read_s() - at_s >= COUNTS_S + GATHERED_S:
                await self._read_queues()
            return self._queues

    async def describe_jobs(self, job_ids: Sequence[str]) -> dict[str, job_pb2.Job]:
        """
        Return jobs by id as they are now, or were a moment ago if nothing was told of them since; unknown ones are left out.

        For a page that looks again: whoever has just changed a job asks the controller.

        Raises:
            BatchyardError: the controller could not be asked.
        """
        now_s, turn = self._read_s(), self._tabs.turn
        found = self._glances.again(job_ids, now_s)
        if asked := [job_id for job_id in job_ids if job_id not in found]:
            read = await self._upstream.describe_jobs(asked)
            self._glances.keep(read, turn, now_s)
            found |= {job.id: job for job in read}
        return found

    async def stream(self, looker: Looker) -> AsyncGenerator[bytes, None]:
        """Yield one tab's events, as ``text/event-stream``, until the session or the gateway ends."""
        bell = asyncio.Event()
        try:
            tab = self._tabs.open(looker.topics, looker.ids, looker.since, self._read_s(), bell.set)
        except FullError:
            return
        self._left.clear()
        self._attended.set()
        try:
            yield f"retry: {RECONNECT_MS}\n\n".encode()
            while not self._is_closing:
                if not await looker.is_signed_in():
                    yield b"event: ended\ndata: -\n\n"
                    return
                told = self._tabs.take(tab, self._read_s())
                bell.clear()
                for each in told:
                    yield self._write(each, looker)
                wait_s = self._tabs.wait_s(tab, self._read_s())
                try:
                    async with asyncio.timeout(BEAT_S if wait_s is None else min(wait_s, BEAT_S)):
                        await bell.wait()
                except TimeoutError:
                    if wait_s is None or wait_s > BEAT_S:
                        yield b":\n\n"
        finally:
            self._tabs.close(tab)
            if not len(self._tabs):
                self._attended.clear()
                self._left.set()

    def close(self) -> None:
        """End all streams, so that the server can stop."""
        self._is_closing = True
        self.wake()

    def wake(self) -> None:
        """Let all streams ask whether they go on."""
        self._tabs.wake_all()

    async def run(self) -> None:
        """Look on while anybody does, for ever; what goes wrong here ends it."""
        while True:
            await self._attended.wait()
            async with asyncio.TaskGroup() as group:
                looking = [
                    group.create_task(each()) for each in (self._look_at_queues, self._look_at_hosts, self._watch)
                ]
                await self._until_left()
                for task in looking:
                    task.cancel()
            self._hosts = None
            for topic in TOPICS:
                self._tabs.end(topic)

    # Looking --------------------------------------------------------------------------

    async def _until_left(self) -> None:
        while True:
            await self._left.wait()
            try:
                async with asyncio.timeout(LINGER_S):
                    await self._attended.wait()
            except TimeoutError:
                return

    async def _look_at_queues(self) -> None:
        self._tabs.begin("counts")
        self._tabs.begin("queues")
        self._queues_at_s = None
        while True:
            try:
                async with asyncio.timeout(READ_S), self._lock:
                    await self._read_queues()
            except (BatchyardError, TimeoutError):
                self._tabs.leave(self._heard_ms)
            await asyncio.sleep(COUNTS_S)

    async def _read_queues(self) -> None:
        is_first, before = self._queues_at_s is None, self._queues
        self._queues = [queue async for queue in self._upstream.list_job_queues()]
        now_s = self._queues_at_s = self._read_s()
        self._heard_ms = int(self._read_wall_s() * 1000)
        self._tabs.come_back(now_s)
        if is_first or self._queues != before:
            self._tabs.change("queues", now_s)
        if is_first or totals(self._queues) != totals(before):
            self._tabs.change("counts", now_s)

    async def _look_at_hosts(self) -> None:
        while True:
            if self._tabs.wants("hosts"):
                await self._read_hosts()
            else:
                self._tabs.end("hosts")
                self._hosts = None
            await asyncio.sleep(HOSTS_S)

    async def _read_hosts(self) -> None:
        try:
            async with asyncio.timeout(READ_S):
                hosts = [_without_heard(host) async for host in self._upstream.list_hosts()]
        except (BatchyardError, TimeoutError):
            return  # who reads the queues tells of it
        if self._hosts is None:
            self._tabs.begin("hosts")
        if hosts != self._hosts:
            self._tabs.change("hosts", self._read_s())
        self._hosts = hosts

    async def _watch(self) -> None:
        while True:
            try:
                async with aclosing(self._upstream.watch_changes()) as messages:
                    is_first = True
                    async for message in messages:
                        if is_first or message.missed:
                            self._tabs.miss_jobs(self._read_s())
                        is_first = False
                        self._tabs.change_jobs(message.changed_ids, self._read_s())
            except BatchyardError:
                self._tabs.end("jobs")
            await asyncio.sleep(COUNTS_S)

    def _write(self, told: Told, looker: Looker) -> bytes:
        data = looker.write_time(self._tabs.away_since_ms) if told.event == "stale" else told.data
        # After a look all is told: whoever loses the stream goes on from there.
        place = f"id: {self._tabs.position}\n" if told.event == "look" else ""
        return f"{place}event: {told.event}\ndata: {data}\n\n".encode()


def totals(queues: Sequence[job_queue_pb2.JobQueue]) -> dict[str, int]:
    """Return how many jobs of all queues are in each state."""
    found: dict[str, int] = {}
    for queue in queues:
        for state, number in queue.job_counts.items():
            found[state] = found.get(state, 0) + number
    return found


def _without_heard(host: host_pb2.Host) -> bytes:
    """Return what of a host is worth another look: that it was heard again is not."""
    host.ClearField("last_heard_at_ms")
    return host.SerializeToString(deterministic=True)
