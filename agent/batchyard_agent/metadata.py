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

from batchyard import arns, task_messages
from batchyard.ids import task_id
from batchyard.runtimes import DOCKER
from batchyard.tasks import DEFAULT_NAME, NO_TASK, Container, ContainerEnd
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
    """The answers to ``GET <uri>``, by name of the container, and ``GET <uri>/task``."""

    containers: Mapping[str, Document]
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
    found = task_messages.read_task(message) or NO_TASK
    parts = {"" if found.is_plain else container.shown_name: container for container in found.containers}
    containers = {
        part or DEFAULT_NAME: _container(attempt, message, account, shared, container, part)
        for part, container in parts.items()
    }
    return Documents(
        containers=containers,
        task=_present(
            Cluster=shared["cluster"],
            TaskARN=shared["task"],
            Family=shared["family"],
            DesiredStatus="STOPPED" if attempt.stop is not None or attempt.is_over else "RUNNING",
            KnownStatus=_STATUS[attempt.phase],
            # Of a task ECS counts CPU in vCPUs, of a container in units.
            Limits={"CPU": found.resources.cpu_millis / 1000, "Memory": found.resources.memory_mib},
            AvailabilityZone=zone,
            LaunchType="EC2",
            Containers=list(containers.values()),
        ),
    )


def _container(
    attempt: Attempt,
    message: agent_pb2.AttemptSpec,
    account: arns.Account,
    shared: Mapping[str, str],
    container: Container,
    part: str,
) -> Document:
    """Describe a container; of several, *part* is its name."""
    name = container_name(attempt.attempt_id, part)
    is_docker = attempt.runtime == DOCKER
    end = next((end for end in attempt.containers if end.name == part), None)
    return _present(
        # A name that the engine answers to, as to an id.
        DockerId=name if is_docker else "-".join(filter(None, (task_id(attempt.attempt_id), part))),
        DockerName=name if is_docker else "",
        Name=container.shown_name,
        Image=container.image if is_docker else "",
        Labels={
            "com.amazonaws.ecs.cluster": shared["cluster"],
            "com.amazonaws.ecs.container-name": container.shown_name,
            "com.amazonaws.ecs.task-arn": shared["task"],
            "com.amazonaws.ecs.task-definition-family": shared["family"],
        },
        DesiredStatus="STOPPED" if attempt.stop is not None or attempt.is_over else "RUNNING",
        KnownStatus=_status(attempt, end),
        ExitCode=end.exit_code if end is not None else attempt.exit_code,
        Limits={
            "CPU": container.resources.cpu_millis * CPU_UNITS // 1000,
            "Memory": container.resources.memory_mib,
        },
        StartedAt=_time(end.started_at_ms if end is not None else attempt.started_at_ms),
        FinishedAt=_time(end.stopped_at_ms if end is not None else attempt.stopped_at_ms),
        Type="NORMAL",
        LogDriver="awslogs",
        LogOptions={
            "awslogs-group": arns.LOG_GROUP,
            "awslogs-region": account.region,
            "awslogs-stream": _stream(message.log_stream_name, part),
        },
        ContainerARN=f"{shared['task'].replace(':task/', ':container/')}/{container.shown_name}",
    )


def _status(attempt: Attempt, end: ContainerEnd | None) -> str:
    """Say how far a container has come, in Amazon ECS's words."""
    if end is None or attempt.is_over:
        return _STATUS[attempt.phase]
    if not end.started_at_ms:
        return "STOPPED" if end.reason else "CREATED"
    return "STOPPED" if end.stopped_at_ms else "RUNNING"


def _stream(of_attempt: str, name: str) -> str:
    """Return a container's log stream: ``definition/container/task id``."""
    family, _, rest = of_attempt.partition("/")
    return f"{family}/{name}/{rest.rpartition('/')[2]}" if name else of_attempt


def _present(**fields: Any) -> Document:
    return {name: value for name, value in fields.items() if value not in ("", None)}


def _time(at_ms: int) -> str:
    if not at_ms:
        return ""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
