"""
SinkService: sinks, and their relay, which takes a part of the trail and says what it has delivered.

A sink is pulled by one relay at a time: by whoever came first, until it is silent for longer than a call may wait.
Who that is is not stored: after a change of the leader the first to come has it, and begins where all before is
known to be delivered.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from batchyard.errors import FailedPreconditionError, Reason, Violation
from batchyard.states import JobState
from batchyard.v1 import event_pb2, job_pb2
from batchyard.v1 import sink_pb2 as pb
from batchyard.v1 import sink_pb2_grpc as rpc
from batchyard_controller.convert.events import event_message
from batchyard_controller.convert.jobs import job_state_number
from batchyard_controller.core import limits
from batchyard_controller.core.model.sinks import ChildMoves, Sink
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.requests import sinks
from batchyard_controller.core.requests.checks import Violations, check_range, check_text, refuse
from batchyard_controller.core.world.world import World
from batchyard_controller.driver import Driver
from batchyard_controller.leadership import Leadership
from batchyard_controller.store.moves import Place
from batchyard_controller.trail import Trail, parts_of, write_cursor
from batchyard_controller.vault import Vault

from .events import WAIT_MS_MAX

HELD_S = 30.0
"""How long a relay may be silent before another takes its place."""
GATHER_S = 0.05
"""How long it is waited for more, once there is something: a sink's progress is a commit."""


class Sinks(rpc.SinkServiceServicer):
    """Thin: checks fields, seals, lets admission decide; and reads the trail for relays."""

    def __init__(self, leadership: Leadership, vault: Vault, clock: Callable[[], Instant]) -> None:
        self._leadership = leadership
        self._vault = vault
        self._clock = clock
        self._relays: dict[str, tuple[str, float, int]] = {}
        """Of each sink who pulls it, since when nothing was heard of it, and in which epoch."""

    async def CreateSink(self, request: pb.CreateSinkRequest, context: Any) -> pb.CreateSinkResponse:
        out: Violations = []
        sink = _sink_of(out, request)
        sinks.check_sink(out, sink, request.secret)
        refuse(out)
        secret = ""
        if sinks.is_webhook(sink.url):
            made = sinks.SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()
            secret = request.secret or made
        sealed = self._vault.seal("sink", sink.name, secret) if secret else None
        driver = self._leadership.driver

        def decide(world: World, now: Instant) -> tuple[Any, Sink]:
            return sinks.create_sink(world, replace(sink, sealed=sealed), driver.trail.end, now)

        created = await driver.request(decide)
        return pb.CreateSinkResponse(sink=self._message(created, driver), secret=secret)

    async def ListSinks(self, request: pb.ListSinksRequest, context: Any) -> pb.ListSinksResponse:
        driver = self._leadership.driver
        await driver.trail.recalled()

        def look(world: World) -> pb.ListSinksResponse:
            return pb.ListSinksResponse(sinks=[self._message(sink, driver) for _, sink in sorted(world.sinks.items())])

        return await driver.read(look)

    async def UpdateSink(self, request: pb.UpdateSinkRequest, context: Any) -> pb.UpdateSinkResponse:
        driver = self._leadership.driver
        changed = await driver.request(
            lambda world, _: sinks.switch_sink(world, request.name, is_disabled=request.is_disabled)
        )
        return pb.UpdateSinkResponse(sink=self._message(changed, driver))

    async def DeleteSink(self, request: pb.DeleteSinkRequest, context: Any) -> pb.DeleteSinkResponse:
        await self._leadership.driver.request(lambda world, _: (sinks.delete_sink(world, request.name), None))
        self._relays.pop(request.name, None)
        return pb.DeleteSinkResponse()

    async def PullEvents(self, request: pb.PullEventsRequest, context: Any) -> pb.PullEventsResponse:
        refuse(_check_pull(request))
        driver = self._leadership.driver
        await driver.trail.recalled()
        parts = parts_of(request.delivered)
        delivered = None if parts is None else parts[:2]

        def decide(world: World, now: Instant) -> tuple[Any, Sink]:
            sinks.find_sink(world, request.name)
            self._hold(request.name, request.relay, driver.epoch)
            return sinks.advance_sink(
                world, request.name, delivered, request.count, request.error, now, is_gone=request.is_gone
            )

        sink = await driver.request(decide)
        answer = await self._pull(driver, sink, max(sink.place, delivered or sink.place), request)
        self._hold(request.name, request.relay, driver.epoch)
        if sink.sealed is not None:
            answer.secret = self._vault.open("sink", sink.name, sink.sealed)
        return answer

    async def _pull(
        self, driver: Driver, sink: Sink, place: Place, request: pb.PullEventsRequest
    ) -> pb.PullEventsResponse:
        """Return what follows a place that the sink wants, once there is any, or it was waited for long enough."""
        trail, answer = driver.trail, pb.PullEventsResponse(sink=self._message(sink, driver))
        if place < trail.lost:
            answer.lost_from, answer.lost_to = write_cursor(place, 0), write_cursor(trail.lost, 0)
            place = trail.lost
        loop = asyncio.get_running_loop()
        until = loop.time() + request.wait_ms / 1000
        limit = request.limit or limits.PAGE_SIZE_DEFAULT
        while True:
            events, place = await driver.read(partial(_look, sink=sink, trail=trail, place=place, limit=limit))
            if events or sink.is_disabled or answer.lost_to or (place >= trail.end and loop.time() >= until):
                break
            if place >= trail.end:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(until):
                        await trail.wait(place)
                        await asyncio.sleep(GATHER_S)
        answer.events.extend(events)
        answer.through = write_cursor(place, events[-1].at_ms if events else 0)
        return answer

    def _hold(self, name: str, relay: str, epoch: int) -> None:
        """
        Note that a relay pulls a sink.

        Raises:
            FailedPreconditionError: another does.
        """
        now_s = asyncio.get_running_loop().time()
        held = self._relays.get(name)
        if held is not None and held[0] != relay and held[2] == epoch and now_s - held[1] < HELD_S:
            text = f"relay {held[0]} passes the events of sink {name} on"
            raise FailedPreconditionError(text, reason=Reason.SINK_HELD, metadata={"name": name, "relay": held[0]})
        self._relays[name] = (relay, now_s, epoch)

    def _message(self, sink: Sink, driver: Driver) -> pb.Sink:
        relay, heard_s, epoch = self._relays.get(sink.name, ("", 0.0, 0))
        is_held = epoch == driver.epoch and asyncio.get_running_loop().time() - heard_s < HELD_S
        lag, oldest_ms = driver.trail.behind(sink.place)
        return pb.Sink(
            name=sink.name,
            url=sink.url,
            endpoint_url=sink.endpoint_url,
            region=sink.region,
            queues=sink.queues,
            states=[job_state_number(state) for state in sink.states],
            children=pb.SinkChildren.Value(f"SINK_CHILDREN_{sink.children}"),
            is_disabled=sink.is_disabled,
            created_at_ms=sink.created_at_ms,
            delivered=sink.delivered,
            error=sink.error,
            error_at_ms=sink.error_at_ms,
            lag=lag,
            lag_ms=max(0, self._clock().wall_ms - oldest_ms) if lag else 0,
            has_lost=sink.place < driver.trail.lost,
            relay=relay if is_held else "",
        )


def _look(world: World, sink: Sink, trail: Trail, place: Place, limit: int) -> tuple[list[event_pb2.Event], Place]:
    """Return about *limit* events that a sink wants, and up to where was looked."""
    part = trail.look(place, limit)
    events: list[event_pb2.Event] = []
    for at, told in part.told:
        if sinks.wants(world, sink, told):
            if len(events) >= limit:
                return events, (at[0], at[1] - 1)
            events.append(event_message(world, told, at[0], write_cursor(at, told.at_ms)))
    return events, part.end


def _sink_of(out: Violations, request: pb.CreateSinkRequest) -> Sink:
    states: list[JobState] = []
    for i, number in enumerate(request.states):
        if number in job_pb2.JobState.values() and number:
            states.append(JobState(job_pb2.JobState.Name(number).removeprefix("JOB_STATE_")))
        else:
            out.append(Violation(f"states[{i}]", f"{number} is no state of a job", Reason.UNKNOWN_VALUE))
    children = ChildMoves.ENDS
    if request.children in pb.SinkChildren.values():
        named = pb.SinkChildren.Name(request.children).removeprefix("SINK_CHILDREN_")
        children = ChildMoves.ENDS if request.children == 0 else ChildMoves(named)
    else:
        out.append(Violation("children", f"{request.children} says nothing of children", Reason.UNKNOWN_VALUE))
    return Sink(
        name=request.name,
        url=request.url,
        endpoint_url=request.endpoint_url,
        region=request.region,
        queues=tuple(dict.fromkeys(request.queues)),
        states=tuple(dict.fromkeys(states)),
        children=children,
    )


def _check_pull(request: pb.PullEventsRequest) -> Violations:
    out: Violations = []
    if not request.relay:
        out.append(Violation("relay", "a name is required", Reason.REQUIRED))
    check_text(out, "relay", request.relay, limits.ACCESS_KEY_ID_LENGTH_MAX)
    check_text(out, "delivered", request.delivered, limits.CURSOR_LENGTH_MAX)
    if request.delivered and parts_of(request.delivered) is None:
        out.append(Violation("delivered", "is no cursor", Reason.MALFORMED))
    check_range(out, "count", request.count, 0, limits.INT32_MAX)
    check_range(out, "limit", request.limit, 0, limits.PAGE_SIZE_MAX, "events")
    check_range(out, "wait_ms", request.wait_ms, 0, WAIT_MS_MAX, "ms")
    return out
