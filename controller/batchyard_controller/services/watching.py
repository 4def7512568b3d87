"""
WatchJobs: present states, then changes or whose they are, for as long as the caller listens.

Law: a cursor is handed out only with the last message of what it stands for, so
that a stream that breaks anywhere is resumed without missing an end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import TypeVar

from batchyard.errors import InvalidArgumentError, Reason, Violation
from batchyard.ids import JobId
from batchyard.v1 import job_pb2 as pb
from batchyard_controller.convert.jobs import job_state_number
from batchyard_controller.core import limits
from batchyard_controller.core.access.roles import Verb
from batchyard_controller.core.access.things import queue_thing
from batchyard_controller.core.commands import PublishMove
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.requests import settings
from batchyard_controller.core.requests.checks import refuse
from batchyard_controller.core.requests.names import check_lengths
from batchyard_controller.core.requests.permission import permit
from batchyard_controller.core.views.snapshot import Watched, take_snapshot
from batchyard_controller.core.world.world import World
from batchyard_controller.driver import Driver
from batchyard_controller.trail import Part, seen_at_ms, write_cursor

from .callers import caller
from .job_view import summary_message

T = TypeVar("T")

EVENTS_PER_MESSAGE = 500
MOVES_GATHERED_MAX = 10_000
"""Moves of which one message tells whose they are."""
GATHER_S = 0.2
"""How long those who are only told ids wait for more of them."""


class Watch:
    """
    One watcher.

    Raises:
        InvalidArgumentError: the request breaks a rule.
    """

    def __init__(self, request: pb.WatchJobsRequest, now_ms: Callable[[], int]) -> None:
        if len(request.job_ids) > limits.WATCH_MAX:
            text = f"{len(request.job_ids)} given; at most {limits.WATCH_MAX} are allowed"
            raise InvalidArgumentError.from_violations([Violation("job_ids", text, Reason.TOO_MANY)])
        out = check_lengths("job_ids", request.job_ids, limits.JOB_ID_LENGTH_MAX)
        if request.content not in pb.WatchContent.values():
            out.append(Violation("content", f"{request.content} is no content of a watch", Reason.UNKNOWN_VALUE))
        refuse(out)
        self._watched = Watched(ids=frozenset(map(JobId, request.job_ids)), queue=request.queue, reader=caller())
        self._cursor = request.cursor if len(request.cursor) <= limits.CURSOR_LENGTH_MAX else ""
        self._content = request.content
        self._now_ms = now_ms

    async def stream(self, driver: Driver) -> AsyncGenerator[pb.WatchJobsResponse]:
        """
        Yield what is to be told.

        Raises:
            NotFoundError: there is no such queue, nor any job that was in it.
            UnavailableError: the term ended.
        """
        log = driver.trail
        if self._cursor:
            await log.recalled()
        place = log.resume(self._cursor)
        if place is None and self._content and seen_at_ms(self._cursor) is None:
            place, self._cursor = log.end, write_cursor(log.end, self._now_ms())
            await driver.read(self._check_queue)
            yield pb.WatchJobsResponse(cursor=self._cursor)
        while True:
            if place is None:
                place = log.end
                async for response in self._catch_up(driver, write_cursor(place, self._now_ms())):
                    yield response
            await log.wait(place)
            if self._content == pb.WATCH_CONTENT_CHANGED_IDS:
                await asyncio.sleep(GATHER_S)
                part = log.since(place, MOVES_GATHERED_MAX)
            else:
                part = log.since(place, EVENTS_PER_MESSAGE)
            place = None
            if part is not None:
                tell = self._tell_ids if self._content == pb.WATCH_CONTENT_CHANGED_IDS else self._tell_changes
                async for response in tell(driver, part):
                    yield response
                place = part.end

    async def _catch_up(self, driver: Driver, after: str) -> AsyncGenerator[pb.WatchJobsResponse]:
        """Tell what makes up for changes that are not known; *after* is the cursor then."""
        if self._content == pb.WATCH_CONTENT_CHANGED_IDS:
            await driver.read(self._check_queue)
            yield pb.WatchJobsResponse(missed=True, cursor=after)
        else:
            units = await driver.read(self._take_snapshot)
            for units_told, is_last in list(_parts(units)) or [([], True)]:
                events = await driver.read(partial(self._present, units=units_told))
                yield pb.WatchJobsResponse(events=events, cursor=after if is_last else self._cursor, snapshot=True)
        self._cursor = after

    async def _tell_changes(self, driver: Driver, part: Part) -> AsyncGenerator[pb.WatchJobsResponse]:
        """Tell the changes after a place."""
        moves = _moves(part)
        if not moves:
            return
        after = write_cursor(part.end, moves[-1].at_ms)
        singles = (s for move in moves for s in move.single() if self._watched.has_unit(s.job_id, s.index))
        for moves_told, is_last in _parts(singles):
            events = await driver.read(partial(self._changes, moves=moves_told))
            if events:
                yield pb.WatchJobsResponse(events=events, cursor=after if is_last else self._cursor)
        self._cursor = after

    async def _tell_ids(self, driver: Driver, part: Part) -> AsyncGenerator[pb.WatchJobsResponse]:
        """Tell whose states changed after a place, each once."""
        moves = _moves(part)
        if not moves:
            return
        ids = await driver.read(partial(self._changed_ids, moves=moves))
        self._cursor = write_cursor(part.end, moves[-1].at_ms)
        if ids:
            yield pb.WatchJobsResponse(changed_ids=ids, cursor=self._cursor)

    def _check_queue(self, world: World) -> None:
        queue = self._watched.queue
        if queue:
            permit(self._watched.reader, Verb.READ, queue_thing(queue))
        if queue and queue not in world.by_queue:
            settings.find_queue(world, queue)

    def _take_snapshot(self, world: World) -> list[Unit]:
        self._check_queue(world)
        return take_snapshot(world, self._watched, seen_at_ms(self._cursor))

    def _present(self, world: World, units: list[Unit]) -> list[pb.JobEvent]:
        """Show present states, those of jobs that are no longer kept left out."""
        return [
            pb.JobEvent(job=summary_message(world, unit)) for unit in units if world.jobs.get(unit.job.id) is unit.job
        ]

    def _changes(self, world: World, moves: list[PublishMove]) -> list[pb.JobEvent]:
        """Turn changes into events, those of jobs that are no longer kept left out."""
        return [
            pb.JobEvent(
                job=summary_message(world, Unit(job, move.index), move.after),
                previous_state=job_state_number(move.before),
                at_ms=move.at_ms,
            )
            for move in moves
            if (job := world.jobs.get(move.job_id)) is not None and self._watched.has_job(job)
        ]

    def _changed_ids(self, world: World, moves: list[PublishMove]) -> list[JobId]:
        """Return who is to be looked at again; whoever is no longer kept is in no queue, and nobody's."""
        watched = self._watched
        ids = {
            each: None
            for move in moves
            if watched.is_of_all or ((job := world.jobs.get(move.job_id)) is not None and watched.has_job(job))
            for each in watched.changed_ids(move)
        }
        return list(ids)


def _moves(part: Part) -> list[PublishMove]:
    return [each for _, each in part.told if isinstance(each, PublishMove)]


def _parts(items: Iterable[T]) -> Iterator[tuple[list[T], bool]]:
    """Cut what is to be told into messages; say of each whether it is the last."""
    rest = iter(items)
    part = list(islice(rest, EVENTS_PER_MESSAGE))
    while part:
        following = list(islice(rest, EVENTS_PER_MESSAGE))
        yield part, not following
        part = following
