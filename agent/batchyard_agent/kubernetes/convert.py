"""
From the contract to the launch of a pod. Protobuf stops here.

What a pod of this agent cannot be is refused by name, never left out.
"""

from __future__ import annotations

from batchyard import task_messages
from batchyard.ids import AttemptId
from batchyard.pod_limits import not_as_pod
from batchyard.runtimes import KUBERNETES
from batchyard.tasks import NO_TASK, Container, Task
from batchyard.v1 import agent_pb2
from batchyard_agent.convert import LogPlaces
from batchyard_agent.core.attempts import AttemptSpec, GpuClaim
from batchyard_agent.core.containers import STOP_TIMEOUT_S
from batchyard_agent.kubernetes.limits import PodLimits
from batchyard_agent.runtimes.protocol import LaunchSpec


def spec_from(message: agent_pb2.AttemptSpec, logs: LogPlaces, limits: PodLimits) -> AttemptSpec:
    """Read an attempt's spec as it comes over the wire or out of the journal."""
    task = task_messages.read_task(message) or NO_TASK
    timeouts = [container.stop_timeout_s for container in task.containers]
    return AttemptSpec(
        attempt_id=AttemptId(message.attempt_id),
        runtime=KUBERNETES,
        launch=_launch_spec(message, task, logs),
        timeout_s=message.timeout_s,
        gpus=tuple(GpuClaim(uuid=claim.uuid, millis=claim.millis) for claim in message.gpus),
        wire=message.SerializeToString(),
        refusal=_refusal(task, limits),
        stop_timeout_s=max(timeout_s or STOP_TIMEOUT_S for timeout_s in timeouts) if any(timeouts) else 0,
    )


def _refusal(task: Task, limits: PodLimits) -> str:
    if asked := not_as_pod(task):
        return f"a pod cannot have {asked}"
    return limits.refusal(task)


def _launch_spec(message: agent_pb2.AttemptSpec, task: Task, logs: LogPlaces) -> LaunchSpec:
    parts = () if task.is_plain else tuple(_launch_one(message, c, logs, c.shown_name) for c in task.all_containers)
    return LaunchSpec(
        attempt_id=message.attempt_id,
        job_id=message.job_id,
        container=task.main if task.is_plain else NO_TASK.main,
        environment=_environment(message, task.main) if task.is_plain else {},
        log_path=logs.path(AttemptId(message.attempt_id)),
        log_bytes_max=_log_bytes_max(task.main, logs),
        labels=dict(message.tags),
        parts=parts,
        node_address=message.node.address if message.HasField("node") else None,
        task=task,
        compute_environment=message.compute_environment_uuid,
    )


def _launch_one(message: agent_pb2.AttemptSpec, container: Container, logs: LogPlaces, part: str) -> LaunchSpec:
    return LaunchSpec(
        attempt_id=message.attempt_id,
        job_id=message.job_id,
        container=container,
        environment=_environment(message, container),
        log_path=logs.path(AttemptId(message.attempt_id), part),
        log_bytes_max=_log_bytes_max(container, logs),
        part=part,
    )


def _environment(message: agent_pb2.AttemptSpec, container: Container) -> dict[str, str]:
    return {**dict(container.environment), **message.environment}


def _log_bytes_max(container: Container, logs: LogPlaces) -> int:
    return container.log_size_mib << 20 or logs.bytes_max
