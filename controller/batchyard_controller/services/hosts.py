"""HostService: wire to admission and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from batchyard.v1 import host_pb2 as pb
from batchyard.v1 import host_pb2_grpc as rpc
from batchyard.wording import word
from batchyard_controller.convert.hosts import host_facts_message, room_message
from batchyard_controller.convert.values import resources_message
from batchyard_controller.core.access.roles import Verb, may
from batchyard_controller.core.access.things import job_thing
from batchyard_controller.core.model.claims import awaited
from batchyard_controller.core.model.hosts import Host
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.requests.hosts import (
    approve_host,
    find_host,
    mark_host,
    reclaim_host,
    release_brake,
    remove_host,
    stop_stray,
)
from batchyard_controller.core.views.suspicion import held_against
from batchyard_controller.core.views.words import host_name
from batchyard_controller.core.world.world import World
from batchyard_controller.leadership import Leadership
from batchyard_controller.sessions import Sessions

from .callers import caller
from .paging import decode_token, encode_token, page_size

LISTED = "hosts"
STRAYS_MAX = 10_000
PAGE_BYTES_MAX = 2 << 20
"""A page that grows beyond it ends: hosts may say much of themselves, and clients take no answer of any length."""
Clock = Callable[[], Instant]


class Hosts(rpc.HostServiceServicer):
    """Thin: shows hosts, lets admission decide on marks."""

    def __init__(self, leadership: Leadership, sessions: Sessions, clock: Clock) -> None:
        self._leadership = leadership
        self._sessions = sessions
        self._clock = clock

    async def ListHosts(self, request: pb.ListHostsRequest, context: Any) -> pb.ListHostsResponse:
        size, after = page_size(request.page_size), decode_token(LISTED, request.page_token)

        def look(world: World) -> pb.ListHostsResponse:
            places = sorted((f"{h.record.facts.name}/{h.record.id}", h) for h in world.hosts.values())
            rest = [(place, host) for place, host in places if place > after]
            page, bytes_left = pb.ListHostsResponse(), PAGE_BYTES_MAX
            for i, (place, host) in enumerate(rest[:size], start=1):
                page.hosts.append(self._view(world, host))
                bytes_left -= page.hosts[-1].ByteSize()
                if i < len(rest) and (i == size or bytes_left < 0):
                    page.next_page_token = encode_token(LISTED, place)
                    break
            return page

        return await self._leadership.driver.read(look)

    async def SummarizeHosts(self, request: pb.SummarizeHostsRequest, context: Any) -> pb.SummarizeHostsResponse:
        def look(world: World) -> pb.SummarizeHostsResponse:
            states = Counter(self._state(world, host, held_against(world, host)[0]) for host in world.hosts.values())
            capacity, allocated = world.fleet.sums(
                host_id for host_id, host in world.hosts.items() if host.is_reachable
            )
            return pb.SummarizeHostsResponse(
                hosts_by_state={word(pb.HostState, state): number for state, number in states.items()},
                capacity=resources_message(capacity),
                allocated=resources_message(allocated),
                store=None if world.room is None else room_message(world.room),
                brake=_brake(world),
            )

        return await self._leadership.driver.read(look)

    async def DescribeHost(self, request: pb.DescribeHostRequest, context: Any) -> pb.DescribeHostResponse:
        reader = caller()

        def look(world: World) -> pb.DescribeHostResponse:
            host = find_host(world, request.host)
            attempts = [
                each
                for each in host.attempts.values()
                if may(reader, Verb.READ, job_thing(world.unit_of(each).job.spec))
            ]
            return pb.DescribeHostResponse(
                host=self._view(world, host),
                attempt_ids=[attempt.id for attempt in attempts],
                job_ids=[attempt.unit_id for attempt in attempts],
            )

        return await self._leadership.driver.read(look)

    async def CordonHost(self, request: pb.CordonHostRequest, context: Any) -> pb.CordonHostResponse:
        host = await self._mark(request.host, cordoned=not request.undo, draining=False)
        return pb.CordonHostResponse(host=host)

    async def DrainHost(self, request: pb.DrainHostRequest, context: Any) -> pb.DrainHostResponse:
        return pb.DrainHostResponse(host=await self._mark(request.host, cordoned=True, draining=True))

    async def ReclaimHost(self, request: pb.ReclaimHostRequest, context: Any) -> pb.ReclaimHostResponse:
        def decide(world: World, now: Instant) -> tuple[Any, None]:
            return reclaim_host(world, request.host, request.delay_s, now, undo=request.undo), None

        await self._leadership.driver.request(decide)
        return pb.ReclaimHostResponse(host=await self._shown(request.host))

    async def ApproveHost(self, request: pb.ApproveHostRequest, context: Any) -> pb.ApproveHostResponse:
        def decide(world: World, now: Instant) -> tuple[Any, tuple[str, ...]]:
            return approve_host(world, request.host)

        approved = await self._leadership.driver.request(decide)
        return pb.ApproveHostResponse(host=await self._shown(request.host), approved=approved)

    async def RemoveHost(self, request: pb.RemoveHostRequest, context: Any) -> pb.RemoveHostResponse:
        def decide(world: World, now: Instant) -> tuple[Any, None]:
            return remove_host(world, request.host, force=request.force), None

        await self._leadership.driver.request(decide)
        return pb.RemoveHostResponse()

    async def ReleaseBrake(self, request: pb.ReleaseBrakeRequest, context: Any) -> pb.ReleaseBrakeResponse:
        def decide(world: World, now: Instant) -> tuple[Any, int]:
            return release_brake(world)

        return pb.ReleaseBrakeResponse(hosts=await self._leadership.driver.request(decide))

    async def DescribeRestore(self, request: pb.DescribeRestoreRequest, context: Any) -> pb.DescribeRestoreResponse:
        return await self._leadership.driver.read(restore_message)

    async def StopStray(self, request: pb.StopStrayRequest, context: Any) -> pb.StopStrayResponse:
        def decide(world: World, now: Instant) -> tuple[Any, None]:
            return stop_stray(world, request.attempt_id), None

        await self._leadership.driver.request(decide)
        return pb.StopStrayResponse()

    async def _mark(self, name: str, *, cordoned: bool, draining: bool) -> pb.Host:
        def decide(world: World, now: Instant) -> tuple[Any, None]:
            return mark_host(world, name, cordoned=cordoned, draining=draining), None

        await self._leadership.driver.request(decide)
        return await self._shown(name)

    async def _shown(self, name: str) -> pb.Host:
        return await self._leadership.driver.read(lambda world: self._view(world, find_host(world, name)))

    def _view(self, world: World, host: Host) -> pb.Host:
        record = host.record
        facts = host_facts_message(record.facts)
        suspicion, until_boot_ms = held_against(world, host)
        allocated = world.fleet.gpu_allocated(record.id)
        for gpu in facts.gpus:
            gpu.allocated_millis = allocated.get(gpu.uuid, 0)
        if host.clock_fault:
            facts.faults.append(host.clock_fault)
        return pb.Host(
            id=record.id,
            facts=facts,
            state=self._state(world, host, suspicion),
            allocated=resources_message(world.fleet.allocated(record.id)),
            usage=self._sessions.usage(record.id),
            last_heard_at_ms=host.heard_wall_ms or record.heard_at_ms,
            attempts=len(host.attempts),
            cordoned=record.cordoned,
            draining=record.draining,
            suspicion=suspicion,
            suspected_until_ms=self._wall_ms(until_boot_ms) if suspicion else 0,
            reclaimed_at_ms=record.reclaimed_at_ms,
            awaiting=awaited(record),
            replaced_by=record.replaced_by,
        )

    def _wall_ms(self, boot_ms: int) -> int:
        now = self._clock()
        return now.wall_ms + max(0, boot_ms - now.boot_ms)

    @staticmethod
    def _state(world: World, host: Host, suspicion: str) -> pb.HostState.ValueType:
        if not host.is_reachable:
            return pb.HOST_STATE_UNREACHABLE
        if host.record.reclaimed_at_ms:
            return pb.HOST_STATE_RECLAIMED
        if host.record.draining or world.retired(host):
            return pb.HOST_STATE_DRAINING if host.attempts else pb.HOST_STATE_DRAINED
        if host.record.cordoned or world.has_wrong_clock(host):
            return pb.HOST_STATE_CORDONED
        return pb.HOST_STATE_SUSPECTED if suspicion else pb.HOST_STATE_READY


def _brake(world: World) -> pb.Brake | None:
    brake = world.brake
    if brake.since_boot_ms is None:
        return None
    return pb.Brake(since_ms=brake.since_wall_ms, silent=brake.silent, hosts=brake.hosts)


def restore_message(world: World) -> pb.DescribeRestoreResponse:
    """Tell what came of the last restore; nothing where there was none."""
    record, adoption = world.restore, world.adoption
    if record is None:
        return pb.DescribeRestoreResponse()
    strays = sorted(adoption.strays.values(), key=lambda stray: (stray.host_id, stray.attempt_id))
    return pb.DescribeRestoreResponse(
        restored_at_ms=record.at_ms,
        generation=record.generation,
        is_over=record.is_over,
        waits_for=sorted(host_name(world, host_id) for host_id in adoption.waits_for),
        adopted=record.adopted,
        ended=record.ended,
        unlearnt=record.unlearnt,
        strays=[
            pb.Stray(
                attempt_id=stray.attempt_id,
                host_id=stray.host_id,
                host_name=host_name(world, stray.host_id),
                started_at_ms=stray.report.started_at_ms,
            )
            for stray in strays[:STRAYS_MAX]
        ],
    )
