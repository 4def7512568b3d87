"""
Tasks: AWS's ecsProperties to the contract's containers and back.

Pure. One container is told as the contract's one, as if it were given in
``containerProperties``; several as its task. A definition's ecsProperties are kept as they
were given; of a job they show what was overridden, and how each container ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from batchyard.tasks import DEFAULT_NAME, Condition
from batchyard.v1 import job_definition_pb2 as pb
from batchyard.v1 import job_pb2
from batchyard_gateway.errors import ClientException, ExecutionException
from batchyard_gateway.services import Members

from . import containers
from .mapping import NestedList, Row, Word, to_members, to_message

ECS = "ecsProperties"

_DEPENDENCY = (
    Row("containerName", "container"),
    Row("condition", "condition", Word(pb.ContainerCondition)),
)
_NOTHING_TO_WAIT_FOR = "Container dependency can not be used in a single-container job."
"""AWS's text."""
_OF_TASKS = {"taskRoleArn": "jobRoleArn"}
"""Members of a task that go by another name in container properties."""
_SHARED = ("pidMode", "ipcMode")
_BY_SUBMISSION = ("command", "environment", "resourceRequirements")
_ENDING = (Row("exitCode", "exit_code"), Row("reason", "reason"), Row("logStreamName", "log_stream_name"))

ROWS = (
    Row("name", "name"),
    Row("essential", "essential"),
    Row("dependsOn", "depends_on", NestedList(_DEPENDENCY, pb.ContainerDependency), always=True),
    Row("startTimeout", "start_timeout_s"),
    Row("stopTimeout", "stop_timeout_s"),
)
"""What a container of a task may say beyond one of container properties."""


def parts(ecs_properties: Members) -> list[Members]:
    """
    Return the containers of a task, each with what the task says of all.

    Raises:
        ClientException: it is no one task, or has no container.
    """
    task = _only(ecs_properties)
    found: list[Members] = task["containers"]
    if not found:
        raise ClientException("A task needs at least one container")
    outer = {_OF_TASKS.get(name, name): value for name, value in task.items() if name != "containers"}
    return [{**each, **outer} for each in found]


def _only(ecs_properties: Members) -> Members:
    found: list[Members] = ecs_properties["taskProperties"]
    if len(found) != 1:
        raise ClientException(f"{ECS} must have exactly one element of taskProperties, not {len(found)}")
    return found[0]


def check(ecs_properties: Members, capabilities: Sequence[str]) -> None:
    """
    Check the containers of a definition's task; of what they are to each other the controller knows the rules.

    Raises:
        ClientException: one breaks a rule of AWS's.
    """
    found = parts(ecs_properties)
    if len(found) == 1 and found[0].get("dependsOn"):
        raise ClientException(_NOTHING_TO_WAIT_FOR)
    for part in found:
        for name in ("startTimeout", "stopTimeout"):
            if part.get(name) == 0:  # which in the contract says nothing
                raise ExecutionException(f"{name} must be at least 2, not 0")
        for dependency in part.get("dependsOn", ()):
            condition = dependency.get("condition", "")
            if condition not in Condition.__members__:
                raise ClientException(f"Condition {condition[:50]} is not one of {', '.join(Condition)}")
        containers.check(part, capabilities, is_alone=len(found) == 1)


def request_fields(ecs_properties: Members, *, fargate: bool) -> dict[str, Any]:
    """Return the field of a registration that says a checked task: its one container, or all."""
    found = parts(ecs_properties)
    messages = [_message(part, fargate=fargate) for part in found]
    if len(messages) == 1:
        return {"container": messages[0]}
    task = pb.TaskProperties(containers=messages, volumes=messages[0].volumes)
    for message in task.containers:
        del message.volumes[:]
    for message in task.containers[1:]:
        message.resources.ClearField("disk_mib")  # which all of a task have together
    task.pid_mode, task.ipc_mode = (found[0].get(name, "") for name in _SHARED)
    return {"task": task}


def _message(part: Members, *, fargate: bool) -> pb.ContainerProperties:
    message = containers.container(part, fargate=fargate)
    message.MergeFrom(to_message(ROWS, pb.ContainerProperties, part))
    return message


def shown(task: pb.TaskProperties) -> Members:
    """Return AWS's members of a task that no gateway was told, as one that was registered natively."""
    found = []
    for container in task.containers:
        members = {**containers.members_of(container), **to_members(ROWS, container)}
        del members["volumes"]
        found.append(members)
    members = {"containers": found}
    volumes = containers.members_of(pb.ContainerProperties(volumes=task.volumes))["volumes"]
    members |= {"volumes": volumes} if volumes else {}
    members |= {name: mode for name, mode in zip(_SHARED, (task.pid_mode, task.ipc_mode), strict=True) if mode}
    return {"taskProperties": [members]}


def job_members(job: job_pb2.Job, kept: Members, where: Members) -> Members:
    """
    Return AWS's ecsProperties of a job.

    Args:
        job: Resolved: the definition's and what the submission replaced.
        kept: The ecsProperties of its definition; empty of one that was registered natively.
        where: Where its latest attempt ran.
    """
    resolved = _containers_of(job)
    task = _only(kept or shown(job.task))
    latest = job.attempts[-1] if job.attempts else None
    ends = _ends(latest) if latest is not None else [{"networkInterfaces": []} for _ in resolved]
    found = [
        given | {name: containers.members_of(message)[name] for name in _BY_SUBMISSION} | end
        for given, message, end in zip(task["containers"], resolved, ends, strict=True)
    ]
    return {"taskProperties": [{**task, **where, "containers": found}]}


def attempt_members(job: job_pb2.Job, attempt: job_pb2.Attempt, kept: Members, where: Members) -> Members:
    """Return AWS's taskProperties of an attempt; arguments as of `job_members`."""
    task = _only(kept or shown(job.task))
    names = [each.get("name") or DEFAULT_NAME for each in task["containers"]]
    found = [{"name": name, **end} for name, end in zip(names, _ends(attempt), strict=True)]
    return {"taskProperties": [{**where, "containers": found}]}


def _containers_of(job: job_pb2.Job) -> Sequence[pb.ContainerProperties]:
    return job.task.containers if job.HasField("task") else [job.container]


def _ends(attempt: job_pb2.Attempt) -> list[Members]:
    """Return how each container of an attempt ended; of its only one, as the attempt did."""
    return [{**to_members(_ENDING, each), "networkInterfaces": []} for each in attempt.containers or [attempt]]
