"""
Calls about what jobs share beside hosts: scheduling policies and consumable resources.

Thin: arguments are checked, one request is sent, its answer returned.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence

from batchyard import arguments, wording
from batchyard.calls import Caller
from batchyard.v1 import consumable_resource_pb2 as consumable_pb
from batchyard.v1 import scheduling_policy_pb2 as policy_pb


class SharingCalls(Caller):
    """The part of the client that is about scheduling policies and consumable resources."""

    async def create_scheduling_policy(
        self,
        name: str,
        *,
        fairshare: policy_pb.FairsharePolicy | None = None,
        tags: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> policy_pb.SchedulingPolicy:
        """
        Create a scheduling policy; a queue may be created with it.

        Args:
            name: Up to 128 letters, digits, ``-`` and ``_``.
            fairshare: Weights and caps of shares; None: all have the weight 1.
            tags: Its tags.
            annotations: Kept and given back, never interpreted.

        Raises:
            AlreadyExistsError: the name is taken.
        """
        request = arguments.request(
            policy_pb.CreateSchedulingPolicyRequest, name=name, fairshare=fairshare, tags=tags, annotations=annotations
        )
        return (await self.calls.create_scheduling_policy(request)).scheduling_policy

    async def describe_scheduling_policies(self, names: Sequence[str]) -> list[policy_pb.SchedulingPolicy]:
        """Describe scheduling policies; unknown names are left out."""
        request = policy_pb.DescribeSchedulingPoliciesRequest(names=arguments.texts("names", names))
        return list((await self.calls.describe_scheduling_policies(request)).scheduling_policies)

    async def list_scheduling_policies(
        self, *, page_size: int = 100
    ) -> AsyncGenerator[policy_pb.SchedulingPolicy, None]:
        """Iterate over scheduling policies in name order."""
        request = policy_pb.ListSchedulingPoliciesRequest(page_size=arguments.integer("page_size", page_size, bits=32))
        while True:
            page = await self.calls.list_scheduling_policies(request)
            for policy in page.scheduling_policies:
                yield policy
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def update_scheduling_policy(
        self,
        name: str,
        *,
        fairshare: policy_pb.FairsharePolicy | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> policy_pb.SchedulingPolicy:
        """
        Change what is not None; *fairshare* is replaced as a whole, and jobs that wait follow at once.

        *annotations* are merged by key; an empty value removes its key.

        Raises:
            NotFoundError: there is none of this name.
        """
        request = arguments.request(
            policy_pb.UpdateSchedulingPolicyRequest, name=name, fairshare=fairshare, annotations=annotations
        )
        return (await self.calls.update_scheduling_policy(request)).scheduling_policy

    async def delete_scheduling_policy(self, name: str) -> None:
        """
        Delete a scheduling policy.

        Raises:
            NotFoundError: there is none of this name.
            FailedPreconditionError: a queue uses it.
        """
        request = policy_pb.DeleteSchedulingPolicyRequest(name=arguments.text("name", name))
        await self.calls.delete_scheduling_policy(request)

    async def create_consumable_resource(
        self, name: str, *, total: int = 0, kind: str = "REPLENISHABLE", tags: Mapping[str, str] | None = None
    ) -> consumable_pb.ConsumableResource:
        """
        Create a consumable resource, of which jobs may ask for a part.

        Args:
            name: Up to 128 letters, digits, ``-`` and ``_``.
            total: How much there is, from 0.
            kind: ``REPLENISHABLE``, or ``NON_REPLENISHABLE``: what an attempt that ran held is used up.
            tags: Its tags.

        Raises:
            AlreadyExistsError: the name is taken.
        """
        request = arguments.request(
            consumable_pb.CreateConsumableResourceRequest, name=name, total=total, type=_kind(kind), tags=tags
        )
        return (await self.calls.create_consumable_resource(request)).consumable_resource

    async def describe_consumable_resources(self, names: Sequence[str]) -> list[consumable_pb.ConsumableResource]:
        """Describe consumable resources; unknown names are left out."""
        request = consumable_pb.DescribeConsumableResourcesRequest(names=arguments.texts("names", names))
        return list((await self.calls.describe_consumable_resources(request)).consumable_resources)

    async def list_consumable_resources(
        self, *, name: str = "", page_size: int = 100
    ) -> AsyncGenerator[consumable_pb.ConsumableResource, None]:
        """Iterate over consumable resources in name order; of *name* alone, where a ``*`` at its end matches any rest."""
        request = arguments.request(consumable_pb.ListConsumableResourcesRequest, name=name, page_size=page_size)
        while True:
            page = await self.calls.list_consumable_resources(request)
            for resource in page.consumable_resources:
                yield resource
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def update_consumable_resource(
        self, name: str, operation: str, quantity: int, *, request_id: str = ""
    ) -> consumable_pb.ConsumableResource:
        """
        Change how much there is; jobs that wait for it are asked again at once.

        Args:
            name: The resource's.
            operation: ``SET`` (of a ``NON_REPLENISHABLE`` one: what is available), ``ADD`` or ``REMOVE``.
            quantity: From 0.
            request_id: A repeated update with the same id counts once, for eight hours.

        Raises:
            NotFoundError: there is none of this name.
            InvalidArgumentError: more is removed than there is.
        """
        request = arguments.request(
            consumable_pb.UpdateConsumableResourceRequest,
            name=name,
            operation=_operation(operation),
            quantity=quantity,
            request_id=request_id,
        )
        return (await self.calls.update_consumable_resource(request)).consumable_resource

    async def delete_consumable_resource(self, name: str) -> None:
        """
        Delete a consumable resource.

        Raises:
            NotFoundError: there is none of this name.
            FailedPreconditionError: a job that has not ended asks for it.
        """
        request = consumable_pb.DeleteConsumableResourceRequest(name=arguments.text("name", name))
        await self.calls.delete_consumable_resource(request)


def _kind(text: str) -> consumable_pb.ConsumableResourceType.ValueType:
    kind = consumable_pb.ConsumableResourceType
    return kind.ValueType(wording.number(kind, "kind", text))


def _operation(text: str) -> consumable_pb.ConsumableResourceOperation.ValueType:
    kind = consumable_pb.ConsumableResourceOperation
    return kind.ValueType(wording.number(kind, "operation", text))
