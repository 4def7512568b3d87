"""
Calls about what jobs share beside hosts: scheduling policies, quota shares and consumable resources.

Thin: arguments are checked, one request is sent, its answer returned.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence

from batchyard import arguments, wording
from batchyard.calls import Caller
from batchyard.v1 import consumable_resource_pb2 as consumable_pb
from batchyard.v1 import quota_share_pb2 as quota_pb
from batchyard.v1 import scheduling_policy_pb2 as policy_pb
from batchyard.v1.compute_environment_pb2 import ResourceState


class SharingCalls(Caller):
    """The part of the client that is about scheduling policies, quota shares and consumable resources."""

    async def create_scheduling_policy(
        self,
        name: str,
        *,
        fairshare: policy_pb.FairsharePolicy | None = None,
        quota_share: policy_pb.QuotaSharePolicy | None = None,
        tags: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> policy_pb.SchedulingPolicy:
        """
        Create a scheduling policy; a queue may be created with it.

        Args:
            name: Up to 128 letters, digits, ``-`` and ``_``.
            fairshare: Weights and caps of shares; None: all have the weight 1.
            quota_share: Instead of *fairshare*: shares have capacity of their own; see :meth:`create_quota_share`.
            tags: Its tags.
            annotations: Kept and given back, never interpreted.

        Raises:
            AlreadyExistsError: the name is taken.
        """
        request = arguments.request(
            policy_pb.CreateSchedulingPolicyRequest,
            name=name,
            fairshare=fairshare,
            quota_share=quota_share,
            tags=tags,
            annotations=annotations,
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

    async def create_quota_share(
        self,
        job_queue: str,
        name: str,
        *,
        capacity_limits: Mapping[str, int],
        sharing_strategy: str = "RESERVE",
        borrow_limit: int | None = None,
        in_share_preemption: bool = False,
        state: str = "ENABLED",
        tags: Mapping[str, str] | None = None,
    ) -> quota_pb.QuotaShare:
        """
        Create a quota share of a queue; jobs choose it as their share identifier.

        Args:
            job_queue: One whose scheduling policy has quota shares.
            name: Up to 128 letters, digits, ``-`` and ``_``.
            capacity_limits: What is its own: 1 to 5 whole numbers by ``VCPU``, ``MEMORY_MIB``, ``GPU`` or a host
                type, of which jobs and children on such hosts are counted.
            sharing_strategy: ``RESERVE``; ``LEND``: others may use what is idle of its own; ``LEND_AND_BORROW``:
                it may also use what is idle of others.
            borrow_limit: With the last: in per cent of its own; -1, as None, for as much as is idle.
            in_share_preemption: Whether its jobs may be stopped for others of it of higher scheduling priority.
            state: ``ENABLED``, or ``DISABLED``: it takes no jobs.
            tags: Its tags.

        Raises:
            AlreadyExistsError: the queue has one of this name.
            FailedPreconditionError: the queue has no policy with quota shares.
            ResourceExhaustedError: the queue has 20.
        """
        request = arguments.request(
            quota_pb.CreateQuotaShareRequest,
            job_queue=job_queue,
            name=name,
            capacity_limits=_limits(capacity_limits),
            sharing_strategy=_strategy(sharing_strategy),
            borrow_limit=borrow_limit,
            in_share_preemption=in_share_preemption,
            state=_state(state),
            tags=tags,
        )
        return (await self.calls.create_quota_share(request)).quota_share

    async def describe_quota_shares(self, job_queue: str, names: Sequence[str]) -> list[quota_pb.QuotaShare]:
        """
        Describe quota shares of a queue, with what they use, lend and borrow; unknown names are left out.

        Raises:
            NotFoundError: there is no such queue.
        """
        request = arguments.request(quota_pb.DescribeQuotaSharesRequest, job_queue=job_queue, names=names)
        return list((await self.calls.describe_quota_shares(request)).quota_shares)

    async def list_quota_shares(
        self, job_queue: str, *, page_size: int = 100
    ) -> AsyncGenerator[quota_pb.QuotaShare, None]:
        """Iterate over the quota shares of a queue in name order."""
        request = arguments.request(quota_pb.ListQuotaSharesRequest, job_queue=job_queue, page_size=page_size)
        while True:
            page = await self.calls.list_quota_shares(request)
            for share in page.quota_shares:
                yield share
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def update_quota_share(
        self,
        job_queue: str,
        name: str,
        *,
        capacity_limits: Mapping[str, int] | None = None,
        sharing_strategy: str | None = None,
        borrow_limit: int | None = None,
        in_share_preemption: bool | None = None,
        state: str | None = None,
    ) -> quota_pb.QuotaShare:
        """
        Change what is not None; jobs that wait follow at once, and what runs beyond lowered limits counts as borrowed.

        Raises:
            NotFoundError: there is none of this name.
        """
        request = arguments.request(
            quota_pb.UpdateQuotaShareRequest,
            job_queue=job_queue,
            name=name,
            capacity_limits=_limits(capacity_limits or {}),
            sharing_strategy=0 if sharing_strategy is None else _strategy(sharing_strategy),
            borrow_limit=borrow_limit,
            in_share_preemption=in_share_preemption,
            state=0 if state is None else _state(state),
        )
        return (await self.calls.update_quota_share(request)).quota_share

    async def delete_quota_share(self, job_queue: str, name: str) -> None:
        """
        Delete a DISABLED quota share; jobs left in it end FAILED.

        Raises:
            NotFoundError: there is none of this name.
            FailedPreconditionError: it is ENABLED.
        """
        request = arguments.request(quota_pb.DeleteQuotaShareRequest, job_queue=job_queue, name=name)
        await self.calls.delete_quota_share(request)

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


def _limits(given: object) -> list[quota_pb.CapacityLimit]:
    numbers = arguments.integer_map("capacity_limits", given)
    return [quota_pb.CapacityLimit(capacity_unit=unit, max_capacity=most) for unit, most in numbers.items()]


def _strategy(text: str) -> quota_pb.SharingStrategy.ValueType:
    kind = quota_pb.SharingStrategy
    return kind.ValueType(wording.number(kind, "sharing_strategy", text))


def _state(text: str) -> ResourceState.ValueType:
    return ResourceState.ValueType(wording.number(ResourceState, "state", text))
