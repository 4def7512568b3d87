"""Retry strategies and job definitions."""

from __future__ import annotations

from batchyard.rows import Custom, ListOf, Row, Rows, Words
from batchyard.task_messages import read_task, task_fields
from batchyard.tasks import NO_TASK
from batchyard.v1 import job_definition_pb2 as pb
from batchyard_controller.core.model.jobs import DefinitionStatus, JobDefinition, RetryStrategy
from batchyard_controller.core.model.nodes import NodeRange, Nodes, Spread

_RETRY = Rows(RetryStrategy, pb.RetryStrategy, Row("rules", "evaluate_on_exit"))


def retry(message: pb.RetryStrategy) -> RetryStrategy:
    """Turn a retry strategy into the core's; no number of attempts means one, but rules need a number."""
    if message.evaluate_on_exit and not message.attempts:
        return _RETRY.read(message, attempts=0)
    return _RETRY.read(message)


RETRY = Custom(retry, _RETRY.write)

_TASK = ("container", "task")
"""The fields of messages that hold a definition's task; see `task_messages`."""
_NODE_RANGE = Rows(NodeRange, pb.NodeRange, record_only=("task",), message_only=_TASK)


def _node_range(message: pb.NodeRange) -> NodeRange:
    return _NODE_RANGE.read(message, task=read_task(message) or NO_TASK)


def _node_range_message(value: NodeRange) -> pb.NodeRange:
    return _NODE_RANGE.write(value, **task_fields(value.task))


NODES = Rows(
    Nodes,
    pb.NodeProperties,
    Row("count", "num_nodes"),
    Row("main", "main_node"),
    Row("ranges", kind=ListOf(Custom(_node_range, _node_range_message))),
    Row("spread", unset=Spread.IF_POSSIBLE),
    record_only=("groups",),
)
_SPELT = (Row("nodes", kind=NODES), Row("retry", "retry_strategy", RETRY))
_REGISTRATION = Rows(
    JobDefinition,
    pb.RegisterJobDefinitionRequest,
    *_SPELT,
    record_only=("task", "revision", "status", "created_at_ms", "owner"),
    message_only=_TASK,
)
_DEFINITION = Rows(JobDefinition, pb.JobDefinition, *_SPELT, record_only=("task",), message_only=_TASK)
_STATUS = Words(DefinitionStatus, pb.JobDefinitionStatus.DESCRIPTOR)


def definition(message: pb.RegisterJobDefinitionRequest, owner: str, now_ms: int) -> JobDefinition:
    """Turn a user's registration into a definition whose revision is not chosen yet."""
    task = read_task(message) or NO_TASK
    return _REGISTRATION.read(message, task=task, revision=0, created_at_ms=now_ms, owner=owner)


def definition_message(value: JobDefinition) -> pb.JobDefinition:
    """Turn a definition into a message."""
    return _DEFINITION.write(value, **task_fields(value.task))


def definition_status(number: int) -> DefinitionStatus | None:
    """Turn a status into the core's; None for UNSPECIFIED."""
    return _STATUS.read(number, "status") if number else None
