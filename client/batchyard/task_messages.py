"""
Task messages: what the contract says of containers to a `Task` and back, for controller and agent.

A message that holds a task has two fields for it: ``container`` for the one that nearly
all tasks are, with the volumes in it, as older agents and clients know it; and ``task``
for several, and for pods. Law: one of them is set at most, and what was read is written alike.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Protocol

from google.protobuf.message import Message

from batchyard.errors import InvalidArgumentError, Reason, Violation
from batchyard.pods import Pod
from batchyard.rows import Custom, ListOf, Row, Rows, Words
from batchyard.tasks import Container, ContainerDependency, ContainerEnd, Secret, SecretDelivery, Task, Volume
from batchyard.v1 import job_definition_pb2
from batchyard.v1.agent_pb2 import ContainerReport
from batchyard.v1.job_definition_pb2 import ContainerDependency as ContainerDependencyMessage
from batchyard.v1.job_definition_pb2 import ContainerProperties, PodProperties, TaskProperties
from batchyard.v1.job_definition_pb2 import Volume as VolumeMessage

CACHED_BYTES_MAX = 4096
"""Longest task that is remembered: many jobs have the same, but none may fill the memory."""


class _Holder(Protocol):
    """A message that holds a task."""

    container: ContainerProperties
    task: TaskProperties

    def HasField(self, field_name: Any) -> bool: ...  # noqa: N802  # protobuf's name


_ESSENTIAL = Custom(bool, lambda is_essential: None if is_essential else False)
"""What is not said is true, as it nearly always is."""
_DELIVERIES = Words(SecretDelivery, job_definition_pb2.SecretDelivery.DESCRIPTOR)
_DELIVERY = Custom(_DELIVERIES.read, lambda way: 0 if way is SecretDelivery.VARIABLE else _DELIVERIES.write(way))
"""What is not said is a variable, as it nearly always is."""
_CONTAINER = Rows(
    Container,
    ContainerProperties,
    Row("resources", always=True),
    Row("essential", kind=_ESSENTIAL),
    Row("secrets", kind=ListOf(Rows(Secret, job_definition_pb2.Secret, Row("delivery", kind=_DELIVERY)))),
    message_only=("volumes",),
)
_VOLUME = Rows(Volume, VolumeMessage)
_POD = Rows(Pod, PodProperties)
_SEVERAL = Rows(
    Task,
    TaskProperties,
    Row("containers", kind=ListOf(_CONTAINER), unset=()),
    Row("init_containers", kind=ListOf(_CONTAINER)),
    Row("pod", kind=_POD),
)
CONDITIONS = ListOf(Rows(ContainerDependency, ContainerDependencyMessage))
_ENDS = ListOf(Rows(ContainerEnd, ContainerReport))


def read_task(message: Any) -> Task | None:
    """
    Return the task that a message holds in ``container`` or ``task``; None if in neither.

    Raises:
        InvalidArgumentError: both are given, or a part cannot be read.
    """
    holder: _Holder = message
    if not holder.HasField("task"):
        return _read(holder.container, _plain, _same_plain) if holder.HasField("container") else None
    if holder.HasField("container"):
        raise _conflict("task", "give either container or task, not both")
    for name in ("containers", "init_containers"):
        for i, container in enumerate(getattr(holder.task, name)):
            if container.volumes:
                raise _conflict(f"task.{name}[{i}].volumes", "several containers have the volumes of their task")
    return _read(holder.task, _several, _same_several)


def _conflict(field: str, text: str) -> InvalidArgumentError:
    return InvalidArgumentError.from_violations([Violation(field, text, Reason.CONFLICT)])


def _read(message: Message, read: Any, read_cached: Any) -> Task:
    data = message.SerializeToString(deterministic=True)
    task: Task = read_cached(data) if len(data) <= CACHED_BYTES_MAX else read(message)
    return task


@lru_cache(maxsize=1024)
def _same_plain(data: bytes) -> Task:
    return _plain(ContainerProperties.FromString(data))


@lru_cache(maxsize=1024)
def _same_several(data: bytes) -> Task:
    return _several(TaskProperties.FromString(data))


def _plain(message: ContainerProperties) -> Task:
    volumes = tuple(_VOLUME.read(volume) for volume in message.volumes)
    try:
        return Task(containers=(_CONTAINER.read(message),), volumes=volumes)
    except InvalidArgumentError as err:
        raise _within("container", err) from None


def _several(message: TaskProperties) -> Task:
    try:
        return _SEVERAL.read(message)
    except InvalidArgumentError as err:
        raise _within("task", err) from None


def _within(place: str, err: InvalidArgumentError) -> InvalidArgumentError:
    return InvalidArgumentError.from_violations(
        [Violation(f"{place}.{each.field}", each.message, each.reason) for each in err.violations]
    )


@lru_cache(maxsize=1024)
def task_fields(value: Task) -> dict[str, Message]:
    """Return the field of a message that holds a task, by its name; the same for the same task, which nobody may change."""
    if not value.is_plain:
        return {"task": _SEVERAL.write(value)}
    return {"container": _CONTAINER.write(value.main, volumes=[_VOLUME.write(volume) for volume in value.volumes])}


def read_ends(messages: Any) -> tuple[ContainerEnd, ...]:
    """Turn what an agent reports of containers into records."""
    return _ENDS.read(messages)


def end_messages(ends: tuple[ContainerEnd, ...]) -> list[ContainerReport]:
    """Turn how containers ended into what an agent reports of them."""
    return _ENDS.write(ends)
