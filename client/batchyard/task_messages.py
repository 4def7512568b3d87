"""
Task messages: a container of the contract to a `Task` and back, for controller and agent.

The contract writes a task as one container, which has the volumes too.
"""

from __future__ import annotations

from functools import lru_cache

from batchyard.rows import Custom, Row, Rows
from batchyard.tasks import Container, Task, Volume
from batchyard.v1.job_definition_pb2 import ContainerProperties
from batchyard.v1.job_definition_pb2 import Volume as VolumeMessage

CACHED_BYTES_MAX = 4096
"""Longest container that is remembered: many jobs have the same, but none may fill the memory."""

_CONTAINER = Rows(Container, ContainerProperties, Row("resources", always=True), message_only=("volumes",))
_VOLUME = Rows(Volume, VolumeMessage)


def task(message: ContainerProperties) -> Task:
    """Turn a container, with its volumes, into a task."""
    data = message.SerializeToString(deterministic=True)
    return _same_task(data) if len(data) <= CACHED_BYTES_MAX else _task(message)


@lru_cache(maxsize=1024)
def _same_task(data: bytes) -> Task:
    return _task(ContainerProperties.FromString(data))


def _task(message: ContainerProperties) -> Task:
    volumes = tuple(_VOLUME.read(volume) for volume in message.volumes)
    return Task(containers=(_CONTAINER.read(message),), volumes=volumes)


@lru_cache(maxsize=1024)
def task_message(value: Task) -> ContainerProperties:
    """Turn a task into a message; the same one for the same task, which nobody may change."""
    return _CONTAINER.write(value.main, volumes=[_VOLUME.write(volume) for volume in value.volumes])


TASK = Custom(task, task_message)
