"""
What is asked of the Docker Engine for one attempt, as the engine's own JSON.

Pure: a ``LaunchSpec`` in, a body for ``POST /containers/create`` out (Docker
Engine API 1.41). It must never talk to the engine. Law: a job gets no more of
the host than it asked for, and its container never restarts by itself.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from batchyard.tasks import Container, Tmpfs
from batchyard_agent.keeper.guard import FENCE_LABEL
from batchyard_agent.runtimes.protocol import HOLDER, LaunchSpec, Mount
from batchyard_agent.runtimes.secret_files import CONTAINER_FOLDER, FOLDER_VARIABLE

HOST_LABEL = "batchyard.host"
"""Names the agent that a container belongs to; two agents may share one engine."""
HOME_LABEL = "batchyard.home"
"""Which state folder the container belongs to; outlives a host id."""
ATTEMPT_LABEL = "batchyard.attempt"
PART_LABEL = "batchyard.container"
"""Which of several containers of an attempt it is; what holds them together has none, nor has an only one."""
JOB_LABEL = "batchyard.job"

BRIDGE, HOST, NONE = NETWORKS = ("bridge", "host", "none")
"""The engine's network modes that an operator may choose from."""

MEMORY_MIB_MIN = 6
"""The engine refuses less (Docker Engine: "Minimum memory limit allowed is 6MB")."""

PIDS_MAX = 4096
SECURED_PIDS_MAX = 1024
"""Processes and threads, at a security level."""
ENGINE_LOG_FILES = 2
TEMPORARY = "/tmp"  # noqa: S108  # a container's
_BRIDGE_LENGTH_MAX = 15
_PREFIX_DIGITS = 5
_CPU_SHARES_PER_CPU = 1024
_MIB = 1 << 20
_NANO_CPUS_PER_MILLI = 1_000_000
_UNSAFE_IN_HOST_NAME = re.compile(r"[^A-Za-z0-9-]")
_UNSAFE_IN_NAME = re.compile(r"[^A-Za-z0-9.-]")


def container_name(attempt_id: str, part: str = "") -> str:
    """
    Name the container of an attempt, of several one of them: the same always gets the same name.

    The engine lets one container bear a name, which is what makes a second
    launch of an attempt fail. ``:`` becomes ``.`` and ``#`` becomes ``_``.
    """
    name = "batchyard-" + _UNSAFE_IN_NAME.sub("_", attempt_id.replace(":", "."))
    return f"{name}-{part}" if part else name


def network_name(scope: str, queue: str) -> str:
    """Name the network of a queue's containers on a host, one of an agent's own."""
    return f"batchyard-{_digest(scope, _PREFIX_DIGITS)}-{queue}"


def bridge_prefix(scope: str) -> str:
    """Return with what the kernel's names of an agent's networks begin, and of no other's."""
    return f"by{_digest(scope, _PREFIX_DIGITS)}-"


def bridge_name(scope: str, queue: str) -> str:
    """Return the kernel's name of a queue's network; it may have 15 characters (Linux: IFNAMSIZ)."""
    return bridge_prefix(scope) + _digest(queue, _BRIDGE_LENGTH_MAX - len(bridge_prefix(scope)))


def _digest(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def volume_name(attempt_id: str, volume: str) -> str:
    """Name the engine's volume that is a folder of several containers of an attempt."""
    return f"{container_name(attempt_id)}-{volume}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolation:
    """
    What the engine can keep jobs to beyond the usual.

    Attributes:
        sandbox: Its runtime for jobs of Fargate; empty: the usual one.
        bounds_disk: It can bound what a container writes into its own layer.
        is_fenced: Networks of queues are closed off, so containers can be kept to a security level.
    """

    sandbox: str = ""
    bounds_disk: bool = False
    is_fenced: bool = False


def container_body(
    spec: LaunchSpec,
    *,
    scope: str,
    home: str,
    cpu_count: int,
    network: str,
    node_network: str = HOST,
    isolation: Isolation = Isolation(),
) -> dict[str, Any]:
    """
    Translate *spec* for the engine.

    Args:
        spec: The attempt.
        scope: Value of the host label.
        home: Value of the label of the state folder.
        cpu_count: CPUs of the engine's machine; it refuses a quota above them.
        network: One of ``NETWORKS``; at a security level any but ``NONE`` is that of the attempt's queue.
        node_network: Likewise, of nodes.
        isolation: What the engine can do.
    """
    container = spec.container
    if spec.node_address is not None:
        network = node_network
    elif spec.security_level.is_secured and network != NONE:
        network = network_name(scope, spec.job_queue)
    body: dict[str, Any] = {
        "Image": container.image,
        "Env": [f"{name}={value}" for name, value in _environment(spec).items()],
        # Ours last, so that no tag can pass for one of them.
        "Labels": {
            **spec.labels,
            HOST_LABEL: scope,
            HOME_LABEL: home,
            ATTEMPT_LABEL: spec.attempt_id,
            JOB_LABEL: spec.job_id,
            **({PART_LABEL: spec.part} if spec.part else {}),
            **({FENCE_LABEL: str(spec.fence_ms)} if spec.fence_ms is not None else {}),
        },
        "User": container.user,
        "WorkingDir": container.working_directory,
        "Tty": False,
        # Once: what it reads ends where what it was given does.
        **dict.fromkeys(("OpenStdin", "StdinOnce", "AttachStdin"), bool(container.stdin)),
        "HostConfig": _host_config(spec, cpu_count, network) | _isolation(spec, isolation),
    }
    if container.terminal_grace_s:
        body["Entrypoint"] = list(HOLDER)  # and so not the image's, nor its arguments
    elif container.command:
        body["Cmd"] = list(container.command)
    if spec.node_address and network == HOST and not spec.holder:
        # On the host's network its name would be the host's, which many systems know as one of the loopback.
        body["Hostname"] = _UNSAFE_IN_HOST_NAME.sub("-", spec.job_id)
        body["HostConfig"]["ExtraHosts"] = [f"{body['Hostname']}:{spec.node_address}"]
    return body


def _environment(spec: LaunchSpec) -> dict[str, str]:
    folder = {FOLDER_VARIABLE: CONTAINER_FOLDER} if spec.secrets_folder else {}
    return {**spec.environment, **spec.secrets, **folder}


def _host_config(spec: LaunchSpec, cpu_count: int, network: str) -> dict[str, Any]:
    container, linux = spec.container, spec.container.linux_parameters
    config: dict[str, Any] = {
        "Init": linux.init_process_enabled is not False,
        "RestartPolicy": {"Name": "no"},
        "NetworkMode": f"container:{spec.holder}" if spec.holder else network,
        **_shared(spec),
        **_privileges(spec),
        "PidsLimit": SECURED_PIDS_MAX if spec.security_level.is_secured else PIDS_MAX,
        "ReadonlyRootfs": container.readonly_root_filesystem,
        "LogConfig": {"Type": "json-file", "Config": _engine_log(spec.log_bytes_max)},
        **_memory(container),
        **_cpu(container.resources.cpu_millis, cpu_count),
    }
    if linux.shared_memory_size_mib:
        config["ShmSize"] = linux.shared_memory_size_mib * _MIB
    if container.ulimits:
        config["Ulimits"] = [{"Name": u.name, "Soft": u.soft_limit, "Hard": u.hard_limit} for u in container.ulimits]
    if tmpfs := {mount.container_path: _tmpfs_options(mount) for mount in linux.tmpfs} | _temporary(spec):
        config["Tmpfs"] = tmpfs
    secrets = [Mount(container_path=CONTAINER_FOLDER, host_path=spec.secrets_folder, read_only=True)]
    if mounts := [*spec.mounts, *(secrets if spec.secrets_folder else [])]:
        config["Mounts"] = [_mount(spec, mount) for mount in mounts]
    if spec.devices:
        config["Devices"] = [
            {"PathOnHost": d.host_path, "PathInContainer": d.container_path, "CgroupPermissions": d.permissions}
            for d in spec.devices
        ]
    if spec.gpu_uuids:
        config["DeviceRequests"] = [
            {"Driver": "", "Count": 0, "DeviceIDs": list(spec.gpu_uuids), "Capabilities": [["gpu"]], "Options": {}}
        ]
    return config


def _isolation(spec: LaunchSpec, isolation: Isolation) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if spec.is_fargate and isolation.sandbox:
        config["Runtime"] = isolation.sandbox
    if isolation.bounds_disk and spec.container.resources.disk_mib:
        config["StorageOpt"] = {"size": f"{spec.container.resources.disk_mib}m"}
    return config


def _privileges(spec: LaunchSpec) -> dict[str, Any]:
    if spec.container.privileged:
        return {"Privileged": True}
    # Raw sockets let a container forge its neighbours' addresses (Nomad, CVE-2021-32575).
    dropped = "ALL" if spec.security_level.forbids_root else "NET_RAW"
    return {"CapDrop": [dropped], "SecurityOpt": ["no-new-privileges"]}


def _temporary(spec: LaunchSpec) -> dict[str, str]:
    """Return room for temporary files where there is none: what is in it counts as the container's memory."""
    taken = {mount.container_path for mount in spec.mounts}
    taken |= {mount.container_path for mount in spec.container.linux_parameters.tmpfs}
    if not spec.security_level.is_secured or not spec.container.readonly_root_filesystem or TEMPORARY in taken:
        return {}
    return {TEMPORARY: "rw,nosuid,nodev,mode=1777"}


def _shared(spec: LaunchSpec) -> dict[str, str]:
    """Say what a container shares with others: of several, with what holds them together."""
    shared: dict[str, str] = {}
    if spec.pid_mode and spec.holder:
        shared["PidMode"] = f"container:{spec.holder}"
    if spec.ipc_mode == "task":
        shared["IpcMode"] = f"container:{spec.holder}" if spec.holder else "shareable"
    elif spec.ipc_mode:
        shared["IpcMode"] = spec.ipc_mode
    return shared


def _mount(spec: LaunchSpec, mount: Mount) -> dict[str, Any]:
    common = {"Target": mount.container_path, "ReadOnly": mount.read_only}
    if mount.host_path:
        # Unlike "Binds", this makes no folder on the host where there is none.
        return {"Type": "bind", "Source": mount.host_path, **common}
    if mount.volume:
        labels = {ATTEMPT_LABEL: spec.attempt_id}
        source = volume_name(spec.attempt_id, mount.volume)
        return {"Type": "volume", "Source": source, "VolumeOptions": {"Labels": labels}, **common}
    # Without a name the volume belongs to the container, and is removed with it.
    return {"Type": "volume", **common}


def _memory(container: Container) -> dict[str, int]:
    linux = container.linux_parameters
    if not container.resources.memory_mib:
        return {}
    memory = max(container.resources.memory_mib, MEMORY_MIB_MIN) * _MIB
    # The engine's MemorySwap is memory and swap together: equal means no swap.
    limits = {"Memory": memory, "MemorySwap": memory + (linux.max_swap_mib or 0) * _MIB}
    # AWS ignores swappiness without maxSwap.
    if linux.swappiness is not None and linux.max_swap_mib is not None:
        limits["MemorySwappiness"] = linux.swappiness
    return limits


def _cpu(cpu_millis: int, cpu_count: int) -> dict[str, int]:
    if not cpu_millis:
        return {}
    return {
        "NanoCpus": min(cpu_millis, cpu_count * 1000) * _NANO_CPUS_PER_MILLI,
        "CpuShares": max(2, cpu_millis * _CPU_SHARES_PER_CPU // 1000),
    }


def _engine_log(log_bytes_max: int) -> dict[str, str]:
    # The engine keeps its own copy, as JSON: some 75 bytes more for each line. Two
    # files of four times our bound drop nothing that we want of lines longer than
    # about ten bytes; for shorter ones the log says that output was lost.
    return {"max-size": f"{4 * log_bytes_max + _MIB}", "max-file": f"{ENGINE_LOG_FILES}"}


def _tmpfs_options(mount: Tmpfs) -> str:
    return ",".join((f"size={mount.size_mib}m", *mount.mount_options))
