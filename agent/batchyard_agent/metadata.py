"""
What a running attempt may read about itself: Amazon ECS's task metadata, version 4.

Pure: records and messages in, documents out. A field is left out where a yard has
nothing true to say (networks, image ids, AWS's own accounts). Law: a document
holds nothing secret, above all no environment.

Source: Amazon ECS Developer Guide, "Task metadata endpoint version 4".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from batchyard import arns
from batchyard.ids import task_id
from batchyard.runtimes import DOCKER
from batchyard.v1 import agent_pb2
from batchyard_agent.core.attempts import Attempt, Phase
from batchyard_agent.runtimes.docker_spec import container_name

CPU_UNITS = 1024
"""ECS counts a vCPU as so many units."""

_STATUS = {
    Phase.ACCEPTED: "PULLED",
    Phase.LAUNCHING: "CREATED",
    Phase.RUNNING: "RUNNING",
    Phase.ENDED: "STOPPED",
    Phase.DONE: "STOPPED",
}

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Documents:
    """The answers to ``GET <uri>`` and ``GET <uri>/task``."""

    container: Document
    task: Document


def documents(attempt: Attempt, account: arns.Account, zone: str) -> Documents | None:
    """
    Describe an attempt to itself; None when all but its end is forgotten.

    Args:
        attempt: From the table.
        account: What AWS names are made of.
        zone: Where the host stands.
    """
    if attempt.spec is None:
        return None
    message = agent_pb2.AttemptSpec.FromString(attempt.spec.wire)
    environment = message.environment.get("AWS_BATCH_CE_NAME", "")
    task = task_id(attempt.attempt_id)
    shared = {
        "cluster": account.cluster(environment),
        "task": account.task(environment, task),
        "family": message.log_stream_name.partition("/")[0],
    }
    container = _container(attempt, message, account, shared)
    return Documents(
        container=container,
        task=_present(
            Cluster=shared["cluster"],
            TaskARN=shared["task"],
            Family=shared["family"],
            DesiredStatus="STOPPED" if attempt.stop is not None or attempt.is_over else "RUNNING",
            KnownStatus=_STATUS[attempt.phase],
            Limits=_limits(message),
            AvailabilityZone=zone,
            LaunchType="EC2",
            Containers=[container],
        ),
    )


def _container(
    attempt: Attempt, message: agent_pb2.AttemptSpec, account: arns.Account, shared: Mapping[str, str]
) -> Document:
    name = container_name(attempt.attempt_id)
    is_docker = attempt.runtime == DOCKER
    cpu_millis = message.container.resources.cpu_millis
    return _present(
        # A name that the engine answers to, as to an id.
        DockerId=name if is_docker else task_id(attempt.attempt_id),
        DockerName=name if is_docker else "",
        Name="default",
        Image=message.container.image if is_docker else "",
        Labels={
            "com.amazonaws.ecs.cluster": shared["cluster"],
            "com.amazonaws.ecs.container-name": "default",
            "com.amazonaws.ecs.task-arn": shared["task"],
            "com.amazonaws.ecs.task-definition-family": shared["family"],
        },
        DesiredStatus="STOPPED" if attempt.stop is not None or attempt.is_over else "RUNNING",
        KnownStatus=_STATUS[attempt.phase],
        ExitCode=attempt.exit_code,
        Limits={"CPU": cpu_millis * CPU_UNITS // 1000, "Memory": message.container.resources.memory_mib},
        StartedAt=_time(attempt.started_at_ms),
        FinishedAt=_time(attempt.stopped_at_ms),
        Type="NORMAL",
        LogDriver="awslogs",
        LogOptions={
            "awslogs-group": arns.LOG_GROUP,
            "awslogs-region": account.region,
            "awslogs-stream": message.log_stream_name,
        },
        ContainerARN=f"{shared['task'].replace(':task/', ':container/')}/default",
    )


def _limits(message: agent_pb2.AttemptSpec) -> Document:
    """Of a task ECS counts CPU in vCPUs, of a container in units."""
    amounts = message.container.resources
    return {"CPU": amounts.cpu_millis / 1000, "Memory": amounts.memory_mib}


def _present(**fields: Any) -> Document:
    return {name: value for name, value in fields.items() if value not in ("", None)}


def _time(at_ms: int) -> str:
    if not at_ms:
        return ""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
