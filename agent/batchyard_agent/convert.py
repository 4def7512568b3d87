"""
Between the wire and the core, both ways. Protobuf stops here.

What this agent does not support is refused by name, never left out: a job that
silently ran without its volume would be worse than one that did not run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from batchyard import task_messages, tasks
from batchyard.ids import AttemptId
from batchyard.resources import GPU_WHOLE, NO_USAGE, Resources, Usage
from batchyard.rows import ListOf, Rows, Words
from batchyard.runtimes import DOCKER, PROCESS, runtime_of
from batchyard.security import SecurityLevel
from batchyard.states import EndCause
from batchyard.tasks import NO_TASK, Container, Task
from batchyard.v1 import agent_pb2, attempt_pb2, resources_pb2, security_pb2
from batchyard_agent.core import gpu
from batchyard_agent.core.attempts import Attempt, AttemptSpec, GpuClaim, Phase
from batchyard_agent.core.containers import STOP_TIMEOUT_S
from batchyard_agent.core.events import (
    EndAcknowledged,
    FromController,
    RevokeRequested,
    StartRequested,
    StopRequested,
)
from batchyard_agent.runtimes.protocol import Device, LaunchSpec, Mount

PHASES = {
    Phase.ACCEPTED: agent_pb2.ATTEMPT_PHASE_STARTING,
    Phase.LAUNCHING: agent_pb2.ATTEMPT_PHASE_STARTING,
    Phase.RUNNING: agent_pb2.ATTEMPT_PHASE_RUNNING,
    Phase.ENDED: agent_pb2.ATTEMPT_PHASE_ENDED,
    Phase.DONE: agent_pb2.ATTEMPT_PHASE_ENDED,
}
PERMISSIONS = {"READ": "r", "WRITE": "w", "MKNOD": "m"}
"""AWS's words for what a container may do with a device, and the engine's."""
PLANS_MAX = 128
"""So many different tasks are remembered: most attempts have the same as many others."""
_LEVELS = Words(SecurityLevel, security_pb2.SecurityLevel.DESCRIPTOR)
_USAGE = Rows(Usage, attempt_pb2.Usage)
_RESOURCES = Rows(Resources, resources_pb2.Resources)
_GPU_CLAIMS = ListOf(Rows(GpuClaim, agent_pb2.GpuClaim))
CAUSES = {cause: attempt_pb2.EndCause.Value(f"END_CAUSE_{cause}") for cause in EndCause}


class LogPlaces(Protocol):
    """Where the logs of attempts are, and how long they may grow."""

    bytes_max: int

    def path(self, attempt_id: AttemptId, part: str = "") -> Path:
        """Return the file of an attempt's log, or of one of its containers'."""


Decode = Callable[[agent_pb2.AttemptSpec, LogPlaces], AttemptSpec]
"""Reads an attempt's spec as it comes over the wire or out of the journal."""


def events_from(response: agent_pb2.ConnectResponse, logs: LogPlaces, decode: Decode) -> Iterable[FromController]:
    """Yield the wishes that a message from the controller holds; none for other messages."""
    epoch = response.epoch
    match response.WhichOneof("message"):
        case "start":
            for message in response.start.attempts:
                yield StartRequested(epoch=epoch, session=response.start.session, spec=decode(message, logs))
        case "ack":
            for attempt_id in response.ack.attempt_ids:
                yield EndAcknowledged(epoch=epoch, attempt_id=AttemptId(attempt_id))
        case "stop":
            stop = response.stop
            yield StopRequested(epoch=epoch, attempt_id=AttemptId(stop.attempt_id), grace_s=stop.grace_s)
        case "revoke":
            yield RevokeRequested(epoch=epoch, attempt_id=AttemptId(response.revoke.attempt_id))
        case _:
            pass


def spec_from(
    message: agent_pb2.AttemptSpec, logs: LogPlaces, least: SecurityLevel = SecurityLevel.PRIVILEGED
) -> AttemptSpec:
    """
    Read an attempt's spec as it comes over the wire or out of the journal.

    Args:
        message: The spec.
        logs: Where its logs are.
        least: The security level of this host, which that of its queue does not lower.
    """
    plan = _plan(task_messages.read_task(message) or NO_TASK)
    gpus: tuple[GpuClaim, ...] = _GPU_CLAIMS.read(message.gpus) if message.gpus else ()
    return AttemptSpec(
        attempt_id=AttemptId(message.attempt_id),
        runtime=plan.runtime,
        launch=_launch_spec(message, plan, gpus, logs, _level(message).or_stricter(least)),
        timeout_s=message.timeout_s,
        gpus=gpus,
        resources=plan.resources,
        wire=message.SerializeToString(),
        needs_secrets=plan.needs_secrets,
        refusal=plan.refusal,
        stop_timeout_s=plan.stop_timeout_s,
        fence_ms=_fence(message),
    )


def report_from(attempt: Attempt) -> agent_pb2.AttemptReport:
    """Tell the whole present truth about an attempt."""
    usage = _USAGE.write(attempt.usage) if attempt.usage != NO_USAGE else None
    return agent_pb2.AttemptReport(
        usage=usage,
        attempt_id=attempt.attempt_id,
        phase=PHASES[attempt.phase],
        started_at_ms=attempt.started_at_ms,
        stopped_at_ms=attempt.stopped_at_ms,
        exit_code=attempt.exit_code,
        cause=CAUSES[attempt.cause] if attempt.cause is not None else attempt_pb2.END_CAUSE_UNSPECIFIED,
        reason=attempt.hindrance if attempt.phase is Phase.LAUNCHING else attempt.reason,
        containers=task_messages.end_messages(attempt.containers),
        image_digest=attempt.image_digest,
        gpus=_GPU_CLAIMS.write(attempt.spec.gpus) if attempt.spec is not None and not attempt.is_over else (),
        resources=_RESOURCES.write(attempt.spec.resources) if attempt.spec and not attempt.is_over else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """What follows from one container of a task alone; fields as in ``LaunchSpec``."""

    container: Container
    environment: Mapping[str, str]
    mounts: tuple[Mount, ...]
    devices: tuple[Device, ...]
    part: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What follows from a task alone, whichever attempt is to run it; fields as in ``AttemptSpec``."""

    task: Task
    parts: tuple[_Part, ...]
    runtime: str
    resources: Resources
    needs_secrets: bool
    refusal: str
    stop_timeout_s: int


@lru_cache(maxsize=PLANS_MAX)
def _plan(task: Task) -> _Plan:
    timeouts = [container.stop_timeout_s for container in task.containers]
    return _Plan(
        task=task,
        parts=tuple(_part(task, container) for container in task.containers),
        runtime=task.runtime,
        resources=task.resources,
        needs_secrets=any(container.secrets for container in task.containers),
        refusal=_refusal(task),
        stop_timeout_s=max(timeout_s or STOP_TIMEOUT_S for timeout_s in timeouts) if any(timeouts) else 0,
    )


def _part(task: Task, container: Container) -> _Part:
    return _Part(
        container=container,
        environment=dict(container.environment),
        mounts=_mounts(task, container),
        devices=tuple(_device(device) for device in container.linux_parameters.devices),
        part="" if task.is_plain else container.shown_name,
    )


def _launch_spec(
    message: agent_pb2.AttemptSpec, plan: _Plan, gpus: tuple[GpuClaim, ...], logs: LogPlaces, level: SecurityLevel
) -> LaunchSpec:
    task = plan.task
    if task.is_plain:
        return _launch_one(message, task, plan.parts[0], gpus, logs, level)
    parts: list[LaunchSpec] = []
    left = list(gpus)
    for part in plan.parts:
        count = part.container.resources.gpu_millis // GPU_WHOLE
        parts.append(_launch_one(message, task, part, tuple(left[:count]), logs, level))
        del left[:count]
    return LaunchSpec(
        attempt_id=message.attempt_id,
        job_id=message.job_id,
        container=NO_TASK.main,
        environment={},
        log_path=logs.path(AttemptId(message.attempt_id)),
        labels=dict(message.tags),
        log_bytes_max=logs.bytes_max,
        parts=tuple(parts),
        pid_mode=task.pid_mode,
        ipc_mode=task.ipc_mode,
        node_address=_node_address(message),
        security_level=level,
        job_queue=message.job_queue,
        owner=message.owner,
        fence_ms=_fence(message),
    )


def _level(message: agent_pb2.AttemptSpec) -> SecurityLevel:
    return _LEVELS.read(message.security_level) if message.security_level else SecurityLevel.PRIVILEGED


def _fence(message: agent_pb2.AttemptSpec) -> int | None:
    return message.fence_ms if message.HasField("fence_ms") else None


def _node_address(message: agent_pb2.AttemptSpec) -> str | None:
    return message.node.address if message.HasField("node") else None


def _launch_one(
    message: agent_pb2.AttemptSpec,
    task: Task,
    part: _Part,
    gpus: tuple[GpuClaim, ...],
    logs: LogPlaces,
    level: SecurityLevel,
) -> LaunchSpec:
    """Say how one container is launched: the one of a plain task, or a part of another."""
    return LaunchSpec(
        attempt_id=message.attempt_id,
        job_id=message.job_id,
        container=part.container,
        environment={**part.environment, **message.environment, **gpu.visibility(gpus)},
        gpu_uuids=tuple(claim.uuid for claim in gpus),
        log_path=logs.path(AttemptId(message.attempt_id), part.part),
        labels=dict(message.tags),
        log_bytes_max=part.container.log_size_mib << 20 or logs.bytes_max,
        mounts=part.mounts,
        devices=part.devices,
        is_fargate=message.is_fargate,
        part=part.part,
        pid_mode=task.pid_mode,
        ipc_mode=task.ipc_mode,
        node_address=_node_address(message),
        security_level=level,
        job_queue=message.job_queue,
        owner=message.owner,
        fence_ms=_fence(message),
    )


def _mounts(task: Task, container: Container) -> tuple[Mount, ...]:
    paths = {volume.name: volume.host_source_path for volume in task.volumes}
    return tuple(
        Mount(
            container_path=m.container_path,
            host_path=paths[m.source_volume],
            volume="" if task.is_plain or paths[m.source_volume] else m.source_volume,
            read_only=m.read_only,
        )
        for m in container.mount_points
        if m.source_volume in paths  # others are refused below
    )


def _device(device: tasks.Device) -> Device:
    letters = "".join(letter for word, letter in PERMISSIONS.items() if word in device.permissions)
    return Device(
        host_path=device.host_path,
        container_path=device.container_path or device.host_path,
        permissions=letters or "rwm",
    )


def _refusal(task: Task) -> str:
    names = {volume.name for volume in task.volumes}
    runtimes = {runtime_of(container.image) for container in task.containers}
    if not task.is_plain and runtimes not in ({DOCKER}, {PROCESS}):
        return "containers and plain processes cannot be one job"
    if runtimes == {PROCESS} and task.ipc_mode == "none":
        return "plain processes share memory segments with all of their host"
    for container in task.containers:
        if unknown := [m.source_volume for m in container.mount_points if m.source_volume not in names]:
            return f"no volume is named {unknown[0]!r}"
        if unknown := [p for d in container.linux_parameters.devices for p in d.permissions if p not in PERMISSIONS]:
            return f"{unknown[0]!r} is no permission on a device; there are {', '.join(PERMISSIONS)}"
    return ""
