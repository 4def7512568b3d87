"""SchedulingPolicyService: wire to admission and back."""

from __future__ import annotations

from typing import Any

from batchyard.v1 import scheduling_policy_pb2 as pb
from batchyard.v1 import scheduling_policy_pb2_grpc as rpc
from batchyard_controller.convert.policies import policy, policy_changes, policy_message
from batchyard_controller.convert.values import check_describe
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.requests import policies
from batchyard_controller.core.requests.checks import refuse
from batchyard_controller.core.requests.sharing_rules import check_policy
from batchyard_controller.core.world.world import World
from batchyard_controller.leadership import Leadership

from .paging import decode_token, encode_token, page_size

LISTED = "policies"


class SchedulingPolicies(rpc.SchedulingPolicyServiceServicer):
    """Thin: checks fields, lets admission decide."""

    def __init__(self, leadership: Leadership) -> None:
        self._leadership = leadership

    async def CreateSchedulingPolicy(
        self, request: pb.CreateSchedulingPolicyRequest, context: Any
    ) -> pb.CreateSchedulingPolicyResponse:
        record = policy(request)
        refuse(check_policy(record))

        def decide(world: World, now: Instant) -> tuple[Any, None]:
            return policies.create_policy(world, record, now), None

        await self._leadership.driver.request(decide)
        return pb.CreateSchedulingPolicyResponse(scheduling_policy=await self._view(record.name))

    async def DescribeSchedulingPolicies(
        self, request: pb.DescribeSchedulingPoliciesRequest, context: Any
    ) -> pb.DescribeSchedulingPoliciesResponse:
        names = list(request.names)
        check_describe("names", names)

        def look(world: World) -> list[pb.SchedulingPolicy]:
            return [policy_message(world.policies[name]) for name in names if name in world.policies]

        return pb.DescribeSchedulingPoliciesResponse(scheduling_policies=await self._leadership.driver.read(look))

    async def ListSchedulingPolicies(
        self, request: pb.ListSchedulingPoliciesRequest, context: Any
    ) -> pb.ListSchedulingPoliciesResponse:
        size, after = page_size(request.page_size), decode_token(LISTED, request.page_token)

        def look(world: World) -> pb.ListSchedulingPoliciesResponse:
            names = sorted(name for name in world.policies if name > after)
            return pb.ListSchedulingPoliciesResponse(
                scheduling_policies=[policy_message(world.policies[name]) for name in names[:size]],
                next_page_token=encode_token(LISTED, names[size - 1]) if len(names) > size else "",
            )

        return await self._leadership.driver.read(look)

    async def UpdateSchedulingPolicy(
        self, request: pb.UpdateSchedulingPolicyRequest, context: Any
    ) -> pb.UpdateSchedulingPolicyResponse:
        changes = policy_changes(request)

        def decide(world: World, now: Instant) -> tuple[Any, None]:
            return policies.update_policy(world, request.name, changes), None

        await self._leadership.driver.request(decide)
        return pb.UpdateSchedulingPolicyResponse(scheduling_policy=await self._view(request.name))

    async def DeleteSchedulingPolicy(
        self, request: pb.DeleteSchedulingPolicyRequest, context: Any
    ) -> pb.DeleteSchedulingPolicyResponse:
        def decide(world: World, now: Instant) -> tuple[Any, None]:
            return policies.delete_policy(world, request.name), None

        await self._leadership.driver.request(decide)
        return pb.DeleteSchedulingPolicyResponse()

    async def _view(self, name: str) -> pb.SchedulingPolicy:
        return await self._leadership.driver.read(lambda world: policy_message(policies.find_policy(world, name)))
