"""
WatchJobs: present states, then changes, for as long as the caller listens.

Law: a cursor is handed out only with the last message of what it stands for, so
that a stream that breaks anywhere is resumed without missing an end.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import TypeVar

from batchyard.errors import InvalidArgumentError, Reason, Violation
from batchyard.ids import JobId
from batchyard.v1 import job_pb2 as pb
from batchyard_controller.convert.jobs import job_state_number
from batchyard_controller.core import limits
from batchyard_controller.core.commands import PublishMove
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.requests import settings
from batchyard_controller.core.requests.checks import refuse
from batchyard_controller.core.requests.names import check_lengths
from batchyard_controller.core.views.snapshot import Watched, take_snapshot
from batchyard_controller.core.world.world import World
from batchyard_controller.driver import Driver
from batchyard_controller.move_log import MoveLog, seen_at_ms

from .job_view import summary_message

T = TypeVar("T")

EVENTS_PER_MESSAGE = 500


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
        refuse(check_lengths("job_ids", request.job_ids, limits.JOB_ID_LENGTH_MAX))
        self._watched = Watched(ids=frozenset(map(JobId, request.job_ids)), queue=request.queue)
        self._cursor = request.cursor if len(request.cursor) <= limits.CURSOR_LENGTH_MAX else ""
        self._now_ms = now_ms

    async def stream(self, driver: Driver, log: MoveLog) -> AsyncGenerator[pb.WatchJobsResponse]:
        """
        Yield what is to be told.

        Raises:
            NotFoundError: there is no such queue, nor any job that was in it.
            UnavailableError: the term ended.
        """
        place = log.resume(self._cursor)
        while True:
            if place is None:
                place, at_ms = log.end, self._now_ms()
                units = await driver.read(self._take_snapshot)
                after = log.cursor(place, at_ms)
                for units_told, is_last in list(_parts(units)) or [([], True)]:
                    events = await driver.read(partial(self._present, units=units_told))
                    cursor = after if is_last else self._cursor
                    yield pb.WatchJobsResponse(events=events, cursor=cursor, snapshot=True)
                self._cursor = after
            await log.wait(place)
            moves = log.since(place, EVENTS_PER_MESSAGE)
            if moves is None:
                place = None
                continue
            place += len(moves)
            after = log.cursor(place, moves[-1].at_ms)
            singles = (s for move in moves for s in move.single() if self._watched.has_unit(s.job_id, s.index))
            for moves_told, is_last in _parts(singles):
                events = await driver.read(partial(self._changes, moves=moves_told))
                if events:
                    yield pb.WatchJobsResponse(events=events, cursor=after if is_last else self._cursor)
            self._cursor = after

    def _take_snapshot(self, world: World) -> list[Unit]:
        queue = self._watched.queue
        if queue and queue not in world.by_queue:
            settings.find_queue(world, queue)
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
            if (job := world.jobs.get(move.job_id)) is not None and self._watched.has_queue(job)
        ]


def _parts(items: Iterable[T]) -> Iterator[tuple[list[T], bool]]:
    """Cut what is to be told into messages; say of each whether it is the last."""
    rest = iter(items)
    part = list(islice(rest, EVENTS_PER_MESSAGE))
    while part:
        following = list(islice(rest, EVENTS_PER_MESSAGE))
        yield part, not following
        part = following
