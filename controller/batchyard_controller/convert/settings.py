"""Compute environments and job queues."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from batchyard.states import JobState
from batchyard.v1 import (
    compute_environment_pb2,
    job_queue_pb2,
)
from batchyard_controller.core.model.settings import (
    AllocationStrategy,
    CapacityType,
    ComputeEnvironment,
    ComputeResources,
    EnvironmentOrder,
    EnvironmentType,
    JobQueue,
    ResourceState,
    StateTimeLimit,
)

from .values import enum_value, pairs


def environment_type(value: int) -> EnvironmentType:
    """Turn an environment's type into the core's; it must be given."""
    wrapper = compute_environment_pb2.ComputeEnvironmentType
    return enum_value(wrapper, "COMPUTE_ENVIRONMENT_TYPE_", EnvironmentType, value, None, "type")


def resource_state(value: int, default: ResourceState | None) -> ResourceState:
    """Turn ENABLED or DISABLED into the core's."""
    return enum_value(compute_environment_pb2.ResourceState, "RESOURCE_STATE_", ResourceState, value, default, "state")


def compute_resources(message: compute_environment_pb2.ComputeResources) -> ComputeResources:
    """Turn an environment's selection into the core's; BEST_FIT is AWS's default strategy."""
    return ComputeResources(
        type=enum_value(
            compute_environment_pb2.CapacityType,
            "CAPACITY_TYPE_",
            CapacityType,
            message.type,
            CapacityType.EC2,
            "compute_resources.type",
        ),
        allocation_strategy=enum_value(
            compute_environment_pb2.AllocationStrategy,
            "ALLOCATION_STRATEGY_",
            AllocationStrategy,
            message.allocation_strategy,
            AllocationStrategy.BEST_FIT,
            "compute_resources.allocation_strategy",
        ),
        min_vcpus=message.min_vcpus,
        max_vcpus=message.max_vcpus,
        desired_vcpus=message.desired_vcpus,
        instance_types=tuple(message.instance_types),
        labels=pairs(message.labels),
    )


def environment_message(
    value: ComputeEnvironment, status_reason: str, host_ids: Iterable[str]
) -> compute_environment_pb2.ComputeEnvironment:
    """Turn an environment into a message."""
    pb = compute_environment_pb2
    wanted = value.compute_resources
    return pb.ComputeEnvironment(
        name=value.name,
        type=pb.ComputeEnvironmentType.Value(f"COMPUTE_ENVIRONMENT_TYPE_{value.type}"),
        state=pb.ResourceState.Value(f"RESOURCE_STATE_{value.state}"),
        status=pb.RESOURCE_STATUS_VALID,
        status_reason=status_reason,
        compute_resources=pb.ComputeResources(
            type=pb.CapacityType.Value(f"CAPACITY_TYPE_{wanted.type}"),
            allocation_strategy=pb.AllocationStrategy.Value(f"ALLOCATION_STRATEGY_{wanted.allocation_strategy}"),
            min_vcpus=wanted.min_vcpus,
            max_vcpus=wanted.max_vcpus,
            desired_vcpus=wanted.desired_vcpus,
            instance_types=wanted.instance_types,
            labels=dict(wanted.labels),
        ),
        unmanaged_vcpus=value.unmanaged_vcpus,
        service_role=value.service_role,
        tags=dict(value.tags),
        created_at_ms=value.created_at_ms,
        annotations=dict(value.annotations),
        host_ids=host_ids,
    )


def environment_order(
    messages: Iterable[job_queue_pb2.ComputeEnvironmentOrder],
) -> tuple[EnvironmentOrder, ...]:
    """Turn a queue's steps into the core's."""
    return tuple(EnvironmentOrder(order=m.order, compute_environment=m.compute_environment) for m in messages)


def state_time_limits(
    messages: Iterable[job_queue_pb2.JobStateTimeLimitAction],
) -> tuple[StateTimeLimit, ...]:
    """Turn a queue's time limits into the core's."""
    return tuple(
        StateTimeLimit(reason=m.reason, state=m.state, max_time_s=m.max_time_s, action=m.action) for m in messages
    )


def queue_message(value: JobQueue, status_reason: str, counts: Mapping[JobState, int]) -> job_queue_pb2.JobQueue:
    """Turn a queue into a message."""
    return job_queue_pb2.JobQueue(
        name=value.name,
        state=compute_environment_pb2.ResourceState.Value(f"RESOURCE_STATE_{value.state}"),
        status=compute_environment_pb2.RESOURCE_STATUS_VALID,
        status_reason=status_reason,
        priority=value.priority,
        compute_environment_order=[
            job_queue_pb2.ComputeEnvironmentOrder(order=s.order, compute_environment=s.compute_environment)
            for s in value.environment_order
        ],
        scheduling_policy=value.scheduling_policy,
        job_state_time_limit_actions=[
            job_queue_pb2.JobStateTimeLimitAction(
                reason=t.reason, state=t.state, max_time_s=t.max_time_s, action=t.action
            )
            for t in value.state_time_limits
        ],
        tags=dict(value.tags),
        created_at_ms=value.created_at_ms,
        annotations=dict(value.annotations),
        job_counts={str(state): number for state, number in counts.items() if number},
    )
