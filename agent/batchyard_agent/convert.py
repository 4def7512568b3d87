"""
Between the wire and the core, both ways. Protobuf stops here.

What this agent does not support is refused by name, never left out: a job that
silently ran without its volume would be worse than one that did not run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from batchyard.ids import AttemptId
from batchyard.resources import Resources
from batchyard.runtimes import DOCKER, runtime_of
from batchyard.states import EndCause
from batchyard.v1 import agent_pb2, attempt_pb2, job_definition_pb2
from batchyard_agent.core import gpu
from batchyard_agent.core.attempts import Attempt, AttemptSpec, GpuClaim, Phase
from batchyard_agent.core.events import (
    EndAcknowledged,
    FromController,
    RevokeRequested,
    StartRequested,
    StopRequested,
)
from batchyard_agent.runtimes.protocol import Device, LaunchSpec, Mount, Tmpfs, Ulimit

LOG_BYTES_MAX = 10 << 20
"""Bytes of output kept for one attempt."""

PHASES = {
    Phase.ACCEPTED: agent_pb2.ATTEMPT_PHASE_STARTING,
    Phase.LAUNCHING: agent_pb2.ATTEMPT_PHASE_STARTING,
    Phase.RUNNING: agent_pb2.ATTEMPT_PHASE_RUNNING,
    Phase.ENDED: agent_pb2.ATTEMPT_PHASE_ENDED,
    Phase.DONE: agent_pb2.ATTEMPT_PHASE_ENDED,
}
PERMISSIONS = {"READ": "r", "WRITE": "w", "MKNOD": "m"}
"""AWS's words for what a container may do with a device, and the engine's."""
CAUSES = {cause: attempt_pb2.EndCause.Value(f"END_CAUSE_{cause}") for cause in EndCause}

LogPath = Callable[[AttemptId], Path]


def events_from(response: agent_pb2.ConnectResponse, log_path: LogPath) -> Iterable[FromController]:
    """Yield the wishes that a message from the controller holds; none for other messages."""
    epoch = response.epoch
    match response.WhichOneof("message"):
        case "start":
            for message in response.start.attempts:
                yield StartRequested(epoch=epoch, spec=spec_from(message, log_path))
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


def spec_from(message: agent_pb2.AttemptSpec, log_path: LogPath) -> AttemptSpec:
    """Read an attempt's spec as it comes over the wire or out of the journal."""
    attempt_id = AttemptId(message.attempt_id)
    gpus = tuple(GpuClaim(uuid=claim.uuid, millis=claim.millis) for claim in message.gpus)
    runtime = runtime_of(message.container.image)
    return AttemptSpec(
        attempt_id=attempt_id,
        runtime=runtime,
        launch=_launch_spec(message, runtime, gpus, log_path(attempt_id)),
        timeout_s=message.timeout_s,
        gpus=gpus,
        wire=message.SerializeToString(),
        needs_secrets=bool(message.container.secrets),
        refusal=_refusal(message.container),
    )


def report_from(attempt: Attempt) -> agent_pb2.AttemptReport:
    """Tell the whole present truth about an attempt."""
    return agent_pb2.AttemptReport(
        attempt_id=attempt.attempt_id,
        phase=PHASES[attempt.phase],
        started_at_ms=attempt.started_at_ms,
        stopped_at_ms=attempt.stopped_at_ms,
        exit_code=attempt.exit_code,
        cause=CAUSES[attempt.cause] if attempt.cause is not None else attempt_pb2.END_CAUSE_UNSPECIFIED,
        reason=attempt.reason,
    )


def _launch_spec(
    message: agent_pb2.AttemptSpec, runtime: str, gpus: tuple[GpuClaim, ...], log_path: Path
) -> LaunchSpec:
    container = message.container
    linux = container.linux_parameters
    return LaunchSpec(
        attempt_id=message.attempt_id,
        job_id=message.job_id,
        image=container.image if runtime == DOCKER else "",
        command=tuple(container.command),
        environment={**container.environment, **message.environment, **gpu.visibility(gpus)},
        resources=_resources(container),
        gpu_uuids=tuple(claim.uuid for claim in gpus),
        log_path=log_path,
        labels=dict(message.tags),
        log_bytes_max=LOG_BYTES_MAX,
        user=container.user,
        working_directory=container.working_directory,
        readonly_root=container.readonly_root_filesystem,
        init=linux.init_process_enabled if linux.HasField("init_process_enabled") else True,
        shared_memory_mib=linux.shared_memory_size_mib,
        max_swap_mib=linux.max_swap_mib if linux.HasField("max_swap_mib") else None,
        swappiness=linux.swappiness if linux.HasField("swappiness") else None,
        ulimits=tuple(
            Ulimit(name=limit.name, soft_limit=limit.soft_limit, hard_limit=limit.hard_limit)
            for limit in container.ulimits
        ),
        tmpfs=tuple(
            Tmpfs(container_path=t.container_path, size_mib=t.size_mib, mount_options=tuple(t.mount_options))
            for t in linux.tmpfs
        ),
        privileged=container.privileged,
        mounts=_mounts(container),
        devices=tuple(_device(device) for device in linux.devices),
    )


def _mounts(container: job_definition_pb2.ContainerProperties) -> tuple[Mount, ...]:
    paths = {volume.name: volume.host_source_path for volume in container.volumes}
    return tuple(
        Mount(container_path=m.container_path, host_path=paths[m.source_volume], read_only=m.read_only)
        for m in container.mount_points
        if m.source_volume in paths  # others are refused below
    )


def _device(device: job_definition_pb2.Device) -> Device:
    letters = "".join(letter for word, letter in PERMISSIONS.items() if word in device.permissions)
    return Device(
        host_path=device.host_path,
        container_path=device.container_path or device.host_path,
        permissions=letters or "rwm",
    )


def _resources(container: job_definition_pb2.ContainerProperties) -> Resources:
    amounts = container.resources
    return Resources(
        cpu_millis=amounts.cpu_millis,
        memory_mib=amounts.memory_mib,
        gpu_millis=amounts.gpu_millis,
        disk_mib=amounts.disk_mib,
    )


def _refusal(container: job_definition_pb2.ContainerProperties) -> str:
    names = {volume.name for volume in container.volumes}
    if unknown := [m.source_volume for m in container.mount_points if m.source_volume not in names]:
        return f"no volume is named {unknown[0]!r}"
    if unknown := [p for d in container.linux_parameters.devices for p in d.permissions if p not in PERMISSIONS]:
        return f"{unknown[0]!r} is no permission on a device; there are {', '.join(PERMISSIONS)}"
    return ""
