"""JobQueueService: wire to admission and back."""

from __future__ import annotations

from typing import Any

from batchyard.v1 import job_queue_pb2 as pb
from batchyard.v1 import job_queue_pb2_grpc as rpc
from batchyard_controller.convert.quota_shares import use_messages
from batchyard_controller.convert.settings import queue, queue_changes, queue_message
from batchyard_controller.convert.values import check_describe
from batchyard_controller.core.access.roles import Principal, Verb, may
from batchyard_controller.core.access.things import counts_thing, queue_thing
from batchyard_controller.core.events import FrontAsked
from batchyard_controller.core.model.settings import JobQueue
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement.front import Front, FrontPlace
from batchyard_controller.core.requests import settings
from batchyard_controller.core.requests.checks import refuse
from batchyard_controller.core.requests.settings_rules import check_queue
from batchyard_controller.core.views import words
from batchyard_controller.core.views.utilization import accounts, utilization
from batchyard_controller.core.world.world import World
from batchyard_controller.leadership import Leadership

from .callers import caller
from .paging import decode_token, encode_token, page_size

LISTED = "queues"


def view(world: World, reader: Principal, record: JobQueue) -> pb.JobQueue:
    """Describe a queue with its job counts, if *reader* may read them."""
    platforms = (environment.platform for environment in world.environments_of(record))
    is_counted = may(reader, Verb.READ, counts_thing(record.name))
    counts = world.counts.get(record.name) if is_counted else None
    return queue_message(record, words.QUEUE_HEALTHY, counts or {}, platforms)


def _is_seen(reader: Principal, name: str) -> bool:
    return may(reader, Verb.READ, queue_thing(name))


def _snapshot(world: World, name: str) -> pb.GetJobQueueSnapshotResponse:
    queue = settings.find_queue(world, name)
    front, held = world.fronts.get(name, Front()), utilization(world, name)
    has_shares = bool(queue.scheduling_policy) and not world.has_quota_shares(queue)
    firsts = dict(front.shares)
    top = held.top_shares if has_shares else ()
    return pb.GetJobQueueSnapshotResponse(
        front=[_place(each) for each in front.places],
        cpu_millis=held.cpu_millis,
        active_shares=held.shares if has_shares else 0,
        top_shares=[pb.ShareUtilization(share_identifier=share, cpu_millis=cpu) for share, cpu in top],
        has_shares=has_shares,
        seen_at_ms=front.seen_at_ms,
        quota_shares=[
            pb.QuotaShareFront(
                name=share.name,
                first=_place(firsts[share.name]) if share.name in firsts else None,
                use=use_messages(accounts(world, share)),
            )
            for share in world.shares_of(name)
        ],
    )


def _place(place: FrontPlace) -> pb.FrontOfQueueJob:
    return pb.FrontOfQueueJob(job_id=place.unit_id, since_ms=place.since_ms)


class JobQueues(rpc.JobQueueServiceServicer):
    """Thin: checks fields, lets admission decide."""

    def __init__(self, leadership: Leadership) -> None:
        self._leadership = leadership

    async def CreateJobQueue(self, request: pb.CreateJobQueueRequest, context: Any) -> pb.CreateJobQueueResponse:
        record = queue(request)
        refuse(check_queue(record))

        def decide(world: World, now: Instant) -> tuple[Any, None]:
            return settings.create_queue(world, record, now), None

        await self._leadership.driver.request(decide)
        return pb.CreateJobQueueResponse(job_queue=await self._view(caller(), record.name))

    async def DescribeJobQueues(
        self, request: pb.DescribeJobQueuesRequest, context: Any
    ) -> pb.DescribeJobQueuesResponse:
        names = list(request.names)
        check_describe("names", names)
        reader = caller()

        def look(world: World) -> list[pb.JobQueue]:
            seen = (name for name in names if name in world.queues and _is_seen(reader, name))
            return [view(world, reader, world.queues[name]) for name in seen]

        return pb.DescribeJobQueuesResponse(job_queues=await self._leadership.driver.read(look))

    async def ListJobQueues(self, request: pb.ListJobQueuesRequest, context: Any) -> pb.ListJobQueuesResponse:
        size, after = page_size(request.page_size), decode_token(LISTED, request.page_token)
        reader = caller()

        def look(world: World) -> pb.ListJobQueuesResponse:
            names = sorted(name for name in world.queues if name > after and _is_seen(reader, name))
            return pb.ListJobQueuesResponse(
                job_queues=[view(world, reader, world.queues[name]) for name in names[:size]],
                next_page_token=encode_token(LISTED, names[size - 1]) if len(names) > size else "",
            )

        return await self._leadership.driver.read(look)

    async def GetJobQueueSnapshot(
        self, request: pb.GetJobQueueSnapshotRequest, context: Any
    ) -> pb.GetJobQueueSnapshotResponse:
        def decide(world: World, now: Instant) -> tuple[FrontAsked, None]:
            return FrontAsked(queue=settings.find_queue(world, request.name).name), None

        await self._leadership.driver.request(decide)
        return await self._leadership.driver.read(lambda world: _snapshot(world, request.name))

    async def UpdateJobQueue(self, request: pb.UpdateJobQueueRequest, context: Any) -> pb.UpdateJobQueueResponse:
        changes = queue_changes(request)

        def decide(world: World, now: Instant) -> tuple[Any, None]:
            return settings.update_queue(world, request.name, changes), None

        await self._leadership.driver.request(decide)
        return pb.UpdateJobQueueResponse(job_queue=await self._view(caller(), request.name))

    async def DeleteJobQueue(self, request: pb.DeleteJobQueueRequest, context: Any) -> pb.DeleteJobQueueResponse:
        def decide(world: World, now: Instant) -> tuple[Any, None]:
            return settings.delete_queue(world, request.name), None

        await self._leadership.driver.request(decide)
        return pb.DeleteJobQueueResponse()

    async def _view(self, reader: Principal, name: str) -> pb.JobQueue:
        return await self._leadership.driver.read(lambda world: view(world, reader, settings.find_queue(world, name)))
