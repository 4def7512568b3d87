"""JobQueueService: wire to admission and back."""

from __future__ import annotations

from typing import Any

from batchyard.v1 import job_queue_pb2 as pb
from batchyard.v1 import job_queue_pb2_grpc as rpc
from batchyard_controller.convert.settings import environment_order, queue_message, resource_state, state_time_limits
from batchyard_controller.convert.values import check_describe, pairs
from batchyard_controller.core.model.settings import JobQueue, ResourceState
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.requests import settings
from batchyard_controller.core.requests.job_rules import refuse
from batchyard_controller.core.requests.settings_rules import check_queue
from batchyard_controller.core.views import words
from batchyard_controller.core.world.world import World
from batchyard_controller.leadership import Leadership

from .paging import decode_token, encode_token, page_size

LISTED = "queues"


def view(world: World, queue: JobQueue) -> pb.JobQueue:
    """Describe a queue with its job counts."""
    return queue_message(queue, words.QUEUE_HEALTHY, world.counts.get(queue.name, {}))


class JobQueues(rpc.JobQueueServiceServicer):
    """Thin: checks fields, lets admission decide."""

    def __init__(self, leadership: Leadership) -> None:
        self._leadership = leadership

    async def CreateJobQueue(self, request: pb.CreateJobQueueRequest, context: Any) -> pb.CreateJobQueueResponse:
        record = JobQueue(
            name=request.name,
            state=resource_state(request.state, ResourceState.ENABLED),
            priority=request.priority,
            environment_order=environment_order(request.compute_environment_order),
            scheduling_policy=request.scheduling_policy,
            state_time_limits=state_time_limits(request.job_state_time_limit_actions),
            tags=pairs(request.tags),
            annotations=pairs(request.annotations),
        )
        refuse(check_queue(record))

        def decide(world: World, now: Instant) -> tuple[Any, None]:
            return settings.create_queue(world, record, now), None

        await self._leadership.driver.request(decide)
        return pb.CreateJobQueueResponse(job_queue=await self._view(record.name))

    async def DescribeJobQueues(
        self, request: pb.DescribeJobQueuesRequest, context: Any
    ) -> pb.DescribeJobQueuesResponse:
        names = list(request.names)
        check_describe("names", names)

        def look(world: World) -> list[pb.JobQueue]:
            return [view(world, world.queues[name]) for name in names if name in world.queues]

        return pb.DescribeJobQueuesResponse(job_queues=await self._leadership.driver.read(look))

    async def ListJobQueues(self, request: pb.ListJobQueuesRequest, context: Any) -> pb.ListJobQueuesResponse:
        size, after = page_size(request.page_size), decode_token(LISTED, request.page_token)

        def look(world: World) -> pb.ListJobQueuesResponse:
            names = sorted(name for name in world.queues if name > after)
            return pb.ListJobQueuesResponse(
                job_queues=[view(world, world.queues[name]) for name in names[:size]],
                next_page_token=encode_token(LISTED, names[size - 1]) if len(names) > size else "",
            )

        return await self._leadership.driver.read(look)

    async def UpdateJobQueue(self, request: pb.UpdateJobQueueRequest, context: Any) -> pb.UpdateJobQueueResponse:
        state = resource_state(request.state, None) if request.state else None
        order = environment_order(request.compute_environment_order)
        replaces = request.HasField("job_state_time_limit_actions")
        time_limits = state_time_limits(request.job_state_time_limit_actions.actions) if replaces else None

        def decide(world: World, now: Instant) -> tuple[Any, None]:
            event = settings.update_queue(
                world,
                request.name,
                state=state,
                priority=request.priority if request.HasField("priority") else None,
                order=order,
                scheduling_policy=request.scheduling_policy if request.HasField("scheduling_policy") else None,
                time_limits=time_limits,
                annotations=pairs(request.annotations),
            )
            return event, None

        await self._leadership.driver.request(decide)
        return pb.UpdateJobQueueResponse(job_queue=await self._view(request.name))

    async def DeleteJobQueue(self, request: pb.DeleteJobQueueRequest, context: Any) -> pb.DeleteJobQueueResponse:
        def decide(world: World, now: Instant) -> tuple[Any, None]:
            return settings.delete_queue(world, request.name), None

        await self._leadership.driver.request(decide)
        return pb.DeleteJobQueueResponse()

    async def _view(self, name: str) -> pb.JobQueue:
        return await self._leadership.driver.read(lambda world: view(world, settings.find_queue(world, name)))
