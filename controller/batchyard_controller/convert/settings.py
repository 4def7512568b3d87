"""Compute environments and job queues."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from batchyard.rows import Custom, ListOf, Row, Rows
from batchyard.states import JobState
from batchyard.v1 import compute_environment_pb2 as environment_pb
from batchyard.v1 import job_queue_pb2 as queue_pb
from batchyard_controller.core.model.settings import (
    AllocationStrategy,
    ComputeEnvironment,
    ComputeResources,
    JobQueue,
    Platform,
    StateTimeLimit,
)
from batchyard_controller.core.scaling.outlook import Standing

_COMPUTE_RESOURCES = Row(
    "compute_resources",
    kind=Rows(
        ComputeResources,
        environment_pb.ComputeResources,
        Row("allocation_strategy", unset=AllocationStrategy.BEST_FIT),  # AWS's default
    ),
)
_NEW_ENVIRONMENT = Rows(
    ComputeEnvironment,
    environment_pb.CreateComputeEnvironmentRequest,
    Row("type", required=True),
    _COMPUTE_RESOURCES,
    record_only=("created_at_ms",),
)
_CHANGED_ENVIRONMENT = Rows(
    ComputeEnvironment,
    environment_pb.UpdateComputeEnvironmentRequest,
    _COMPUTE_RESOURCES,
    record_only=("type", "tags", "created_at_ms", "kubernetes"),
)
_ENVIRONMENT = Rows(
    ComputeEnvironment,
    environment_pb.ComputeEnvironment,
    _COMPUTE_RESOURCES,
    message_only=("status", "status_reason", "host_ids", "scaling"),
)
_SCALING = Rows(Standing, environment_pb.ScalingStatus)

_ORDER = Row("environment_order", "compute_environment_order")
_TIME_LIMITS = ListOf(Rows(StateTimeLimit, queue_pb.JobStateTimeLimitAction))
_NEW_QUEUE = Rows(
    JobQueue,
    queue_pb.CreateJobQueueRequest,
    _ORDER,
    Row("state_time_limits", "job_state_time_limit_actions", _TIME_LIMITS),
    record_only=("created_at_ms",),
)
_CHANGED_QUEUE = Rows(
    JobQueue,
    queue_pb.UpdateJobQueueRequest,
    _ORDER,
    Row(  # in a message of its own, so that none can be told from no change
        "state_time_limits",
        "job_state_time_limit_actions",
        Custom(
            lambda message: _TIME_LIMITS.read(message.actions),
            lambda value: queue_pb.JobStateTimeLimitActions(actions=_TIME_LIMITS.write(value)),
        ),
    ),
    record_only=("tags", "created_at_ms"),
)
_QUEUE = Rows(
    JobQueue,
    queue_pb.JobQueue,
    _ORDER,
    Row("state_time_limits", "job_state_time_limit_actions", _TIME_LIMITS),
    message_only=("status", "status_reason", "job_counts", "platforms"),
)


def environment(message: environment_pb.CreateComputeEnvironmentRequest) -> ComputeEnvironment:
    """Turn a request into an environment that is not created yet."""
    return _NEW_ENVIRONMENT.read(message)


def environment_changes(message: environment_pb.UpdateComputeEnvironmentRequest) -> Mapping[str, Any]:
    """Return what an update says, by the names of an environment's fields."""
    return _CHANGED_ENVIRONMENT.said(message)


def environment_message(
    value: ComputeEnvironment,
    status_reason: str,
    host_ids: Iterable[str],
    scaling: Standing | None = None,
    *,
    is_valid: bool = True,
) -> environment_pb.ComputeEnvironment:
    """Turn an environment into a message."""
    return _ENVIRONMENT.write(
        value,
        status=environment_pb.RESOURCE_STATUS_VALID if is_valid else environment_pb.RESOURCE_STATUS_INVALID,
        status_reason=status_reason,
        host_ids=host_ids,
        scaling=None if scaling is None else _SCALING.write(scaling),
    )


def queue(message: queue_pb.CreateJobQueueRequest) -> JobQueue:
    """Turn a request into a queue that is not created yet."""
    return _NEW_QUEUE.read(message)


def queue_changes(message: queue_pb.UpdateJobQueueRequest) -> Mapping[str, Any]:
    """Return what an update says, by the names of a queue's fields."""
    return _CHANGED_QUEUE.said(message)


def queue_message(
    value: JobQueue, status_reason: str, counts: Mapping[JobState, int], platforms: Iterable[Platform]
) -> queue_pb.JobQueue:
    """Turn a queue into a message."""
    return _QUEUE.write(
        value,
        status=environment_pb.RESOURCE_STATUS_VALID,
        status_reason=status_reason,
        job_counts={str(state): number for state, number in counts.items() if number},
        platforms=dict.fromkeys(map(str, platforms)),
    )
