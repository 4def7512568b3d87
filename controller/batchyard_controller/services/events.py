"""EventService: the trail, as far as the caller may read it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from batchyard.errors import FailedPreconditionError, Reason
from batchyard.ids import split_job_id
from batchyard.v1 import event_pb2 as pb
from batchyard.v1 import event_pb2_grpc as rpc
from batchyard_controller.convert.events import event_message
from batchyard_controller.core import limits
from batchyard_controller.core.access.roles import Kind, Principal, Thing, Verb
from batchyard_controller.core.commands import Published
from batchyard_controller.core.requests.checks import Violations, check_range, check_text, refuse
from batchyard_controller.core.requests.hosts import find_host
from batchyard_controller.core.requests.permission import no_such_job, permit
from batchyard_controller.core.views.happenings import may_see, of_host, of_job
from batchyard_controller.core.world.world import World
from batchyard_controller.driver import Driver
from batchyard_controller.leadership import Leadership
from batchyard_controller.store.moves import START, Place
from batchyard_controller.trail import write_cursor

from .callers import caller

WAIT_MS_MAX = 20_000

Pick = Callable[[Published], Iterator[Published]]


class Events(rpc.EventServiceServicer):
    """Thin: checks fields, reads the trail."""

    def __init__(self, leadership: Leadership) -> None:
        self._leadership = leadership

    async def ListEvents(self, request: pb.ListEventsRequest, context: Any) -> pb.ListEventsResponse:
        refuse(_check(request))
        driver, reader = self._leadership.driver, caller()
        await driver.trail.recalled()
        place = after_cursor(driver, request.after) if request.after else None
        until = asyncio.get_running_loop().time() + request.wait_ms / 1000
        while True:
            answer = await driver.read(partial(_look, request=request, reader=reader, driver=driver, place=place))
            place, left_s = _place_of(answer), until - asyncio.get_running_loop().time()
            if answer.events or answer.is_partial or left_s <= 0:
                return answer
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await driver.trail.wait(place)


def _look(
    world: World, request: pb.ListEventsRequest, reader: Principal, driver: Driver, place: Place | None
) -> pb.ListEventsResponse:
    needle, pick = _asked(world, request, reader)
    limit, trail = request.limit or limits.PAGE_SIZE_DEFAULT, driver.trail
    if request.latest_first:
        part, last = trail.look_back(place, limit, needle, request.since_ms), START
    else:
        part, last = trail.look(place or START, limit, needle, request.since_ms), trail.end
    events: list[pb.Event] = []
    reached, is_cut = part.end, False
    for at, told in part.told:
        if told.at_ms < request.since_ms:
            continue
        if len(events) >= limit:
            is_cut = True
            break
        reached = at
        events += [
            event_message(world, each, at[0], write_cursor(at, each.at_ms))
            for each in pick(told)
            if may_see(world, reader, each)
        ]
    reached = reached if is_cut else part.end
    at_ms = events[-1].at_ms if events else 0
    return pb.ListEventsResponse(
        events=events, cursor=write_cursor(reached, at_ms), is_partial=is_cut or part.end != last
    )


def _place_of(answer: pb.ListEventsResponse) -> Place:
    epoch, number, _ = map(int, answer.cursor.split("-"))
    return epoch, number


def after_cursor(driver: Driver, cursor: str) -> Place:
    """
    Return the place of a cursor.

    Raises:
        FailedPreconditionError: not all that followed it is kept.
    """
    place = driver.trail.resume(cursor)
    if place is None:
        text = f"not all events after {cursor!r} are kept; ask without it"
        raise FailedPreconditionError(text, reason=Reason.EVENTS_LOST, metadata={"after": cursor})
    return place


def _asked(world: World, request: pb.ListEventsRequest, reader: Principal) -> tuple[bytes, Pick]:
    """Return a text that all that is asked for holds, and what picks it."""
    if request.job_id:
        job_id, index = split_job_id(request.job_id)
        if job_id not in world.jobs and not reader.is_administrator:
            raise no_such_job(request.job_id)
        return job_id.encode(), partial(of_job, job_id=job_id, index=index)
    if request.host:
        permit(reader, Verb.READ, Thing(Kind.HOST))
        is_gone = request.host in world.gone_hosts
        host_id = request.host if is_gone else find_host(world, request.host).record.id
        return host_id.encode(), partial(of_host, host_id=host_id)
    return b"", lambda told: iter((told,))


def _check(request: pb.ListEventsRequest) -> Violations:
    out: Violations = []
    check_text(out, "job_id", request.job_id, limits.JOB_ID_LENGTH_MAX)
    check_text(out, "host", request.host, limits.HOST_NAME_LENGTH_MAX)
    check_text(out, "after", request.after, limits.CURSOR_LENGTH_MAX)
    check_range(out, "since_ms", request.since_ms, 0, limits.WALL_MS_MAX)
    check_range(out, "limit", request.limit, 0, limits.PAGE_SIZE_MAX, "events")
    check_range(out, "wait_ms", request.wait_ms, 0, 0 if request.latest_first else WAIT_MS_MAX, "ms")
    return out
