"""ConsumableResourceService: wire to admission and back."""

from __future__ import annotations

import heapq
from typing import Any

from batchyard.ids import NAME_LENGTH_MAX
from batchyard.v1 import consumable_resource_pb2 as pb
from batchyard.v1 import consumable_resource_pb2_grpc as rpc
from batchyard_controller.convert.consumables import consumable, consumable_message, consumable_operation
from batchyard_controller.convert.values import check_describe
from batchyard_controller.core import limits
from batchyard_controller.core.model.consumables import ConsumableResource
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.requests import consumables
from batchyard_controller.core.requests.checks import Violations, check_range, check_text, refuse
from batchyard_controller.core.requests.sharing_rules import check_consumable
from batchyard_controller.core.views.listing import matches_name
from batchyard_controller.core.world.world import World
from batchyard_controller.leadership import Leadership

from .paging import decode_token, encode_token, page_size

LISTED = "consumables"


def view(world: World, record: ConsumableResource) -> pb.ConsumableResource:
    """Describe a consumable resource, and what is in use of it."""
    return consumable_message(record, world.fleet.bounds.consumable_held(record.name))


class ConsumableResources(rpc.ConsumableResourceServiceServicer):
    """Thin: checks fields, lets admission decide."""

    def __init__(self, leadership: Leadership) -> None:
        self._leadership = leadership

    async def CreateConsumableResource(
        self, request: pb.CreateConsumableResourceRequest, context: Any
    ) -> pb.CreateConsumableResourceResponse:
        record = consumable(request)
        refuse(check_consumable(record))

        def decide(world: World, now: Instant) -> tuple[Any, None]:
            return consumables.create_consumable(world, record, now), None

        await self._leadership.driver.request(decide)
        return pb.CreateConsumableResourceResponse(consumable_resource=await self._view(record.name))

    async def DescribeConsumableResources(
        self, request: pb.DescribeConsumableResourcesRequest, context: Any
    ) -> pb.DescribeConsumableResourcesResponse:
        names = list(request.names)
        check_describe("names", names)

        def look(world: World) -> list[pb.ConsumableResource]:
            return [view(world, world.consumables[name]) for name in names if name in world.consumables]

        return pb.DescribeConsumableResourcesResponse(consumable_resources=await self._leadership.driver.read(look))

    async def ListConsumableResources(
        self, request: pb.ListConsumableResourcesRequest, context: Any
    ) -> pb.ListConsumableResourcesResponse:
        size, after = page_size(request.page_size), decode_token(LISTED, request.page_token)
        out: Violations = []
        check_text(out, "name", request.name, NAME_LENGTH_MAX + 1)
        refuse(out)

        def look(world: World) -> pb.ListConsumableResourcesResponse:
            wanted = (n for n in world.consumables if n > after and (not request.name or matches_name(request.name, n)))
            names = heapq.nsmallest(size + 1, wanted)  # of many thousands
            return pb.ListConsumableResourcesResponse(
                consumable_resources=[view(world, world.consumables[name]) for name in names[:size]],
                next_page_token=encode_token(LISTED, names[size - 1]) if len(names) > size else "",
            )

        return await self._leadership.driver.read(look)

    async def UpdateConsumableResource(
        self, request: pb.UpdateConsumableResourceRequest, context: Any
    ) -> pb.UpdateConsumableResourceResponse:
        operation = consumable_operation(request.operation)
        out: Violations = []
        check_range(out, "quantity", request.quantity, 0, limits.CONSUMABLE_QUANTITY_MAX)
        check_text(out, "request_id", request.request_id, limits.REQUEST_ID_LENGTH_MAX)
        refuse(out)

        def decide(world: World, now: Instant) -> tuple[Any, None]:
            event = consumables.update_consumable(
                world, request.name, operation, request.quantity, request.request_id, now
            )
            return event, None

        await self._leadership.driver.request(decide)
        return pb.UpdateConsumableResourceResponse(consumable_resource=await self._view(request.name))

    async def DeleteConsumableResource(
        self, request: pb.DeleteConsumableResourceRequest, context: Any
    ) -> pb.DeleteConsumableResourceResponse:
        def decide(world: World, now: Instant) -> tuple[Any, None]:
            return consumables.delete_consumable(world, request.name), None

        await self._leadership.driver.request(decide)
        return pb.DeleteConsumableResourceResponse()

    async def _view(self, name: str) -> pb.ConsumableResource:
        return await self._leadership.driver.read(lambda world: view(world, consumables.find_consumable(world, name)))
