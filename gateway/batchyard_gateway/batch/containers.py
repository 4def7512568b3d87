"""
Containers: AWS's container properties to the contract's and back.

Pure. A container is given as ``containerProperties``, or as one of ``ecsProperties``
(see `tasks`). What the contract cannot say is the residue, see `mapping`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from batchyard.runtimes import PROCESS, runtime_of
from batchyard.tasks import DEFAULT_NAME
from batchyard.v1 import job_definition_pb2 as pb
from batchyard_gateway.errors import ClientException, ExecutionException
from batchyard_gateway.services import Members

from . import amounts, rules
from .mapping import LISTED, MAPPED, NAMED_VALUES, Nested, NestedList, Plain, Row, residue, to_members, to_message

FARGATE = "FARGATE"

_USER = re.compile(r"[a-z0-9_][a-z0-9_-]{0,30}", re.ASCII)
_SECRET_ARN = re.compile(r"arn:[^:]*:secretsmanager:[^:]*:[^:]*:secret:([^:]+)(:.*)?", re.ASCII)
_PARAMETER_ARN = re.compile(r"arn:[^:]*:ssm:[^:]*:[^:]*:parameter/(.+)", re.ASCII)


class _SecretName(Plain):
    """Where a secret is: an ARN of Secrets Manager or of a parameter stands for the name in it."""

    def into(self, value: str) -> str:
        """Return the secret's name."""
        match = _SECRET_ARN.fullmatch(value) or _PARAMETER_ARN.fullmatch(value)
        return match[1] if match else value


_LINUX = (
    Row(
        "devices",
        "devices",
        NestedList(
            (
                Row("hostPath", "host_path"),
                Row("containerPath", "container_path"),
                Row("permissions", "permissions", LISTED),
            ),
            pb.Device,
        ),
        always=True,
    ),
    Row("initProcessEnabled", "init_process_enabled"),
    Row("sharedMemorySize", "shared_memory_size_mib"),
    Row(
        "tmpfs",
        "tmpfs",
        NestedList(
            (
                Row("containerPath", "container_path"),
                Row("size", "size_mib"),
                Row("mountOptions", "mount_options", LISTED),
            ),
            pb.Tmpfs,
        ),
        always=True,
    ),
    Row("maxSwap", "max_swap_mib"),
    Row("swappiness", "swappiness"),
)
_ULIMIT = (
    Row("hardLimit", "hard_limit", always=True),
    Row("name", "name", always=True),
    Row("softLimit", "soft_limit", always=True),
)
_MOUNT_POINT = (
    Row("containerPath", "container_path"),
    Row("readOnly", "read_only"),
    Row("sourceVolume", "source_volume"),
)
_LOG = (Row("logDriver", "log_driver", always=True), Row("options", "options", MAPPED, always=True))
_SECRET = (Row("name", "name", always=True), Row("valueFrom", "value_from", _SecretName(), always=True))

ROWS = (
    Row("image", "image", always=True),
    Row("command", "command", LISTED, always=True),
    Row("jobRoleArn", "job_role_arn"),
    Row("executionRoleArn", "execution_role_arn"),
    Row(
        "volumes",
        "volumes",
        NestedList((Row("host.sourcePath", "host_source_path"), Row("name", "name")), pb.Volume),
        always=True,
    ),
    Row("environment", "environment", NAMED_VALUES, always=True),
    Row("mountPoints", "mount_points", NestedList(_MOUNT_POINT, pb.MountPoint), always=True),
    Row("readonlyRootFilesystem", "readonly_root_filesystem"),
    Row("privileged", "privileged"),
    Row("ulimits", "ulimits", NestedList(_ULIMIT, pb.Ulimit), always=True),
    Row("user", "user"),
    Row("linuxParameters", "linux_parameters", Nested(_LINUX, pb.LinuxParameters)),
    Row("logConfiguration", "log_configuration", Nested(_LOG, pb.LogConfiguration)),
    Row("secrets", "secrets", NestedList(_SECRET, pb.Secret), always=True),
)

_EMPTY: Members = {row.member: [] for row in ROWS if row.always and row.member != "image"} | {
    "resourceRequirements": []
}
"""Lists that AWS gives back empty where they were not given."""

_BY_SUBMISSION = ("command", "environment")
"""What a job's overrides may change, so that the definition's residue does not hold for a job."""

_DEPRECATED = ("vcpus", "memory")
_NOT_FOR_FARGATE = ("privileged", "ulimits", "instanceType", "ipcMode")
_LINUX_NOT_FOR_FARGATE = ("devices", "sharedMemorySize", "tmpfs", "maxSwap", "swappiness")
_FARGATE_LOG_DRIVERS = ("awslogs", "splunk")
_NOT_FOR_EC2 = (
    "networkConfiguration",
    "fargatePlatformConfiguration",
    "platformVersion",
    "ephemeralStorage",
    "runtimePlatform",
)
_HOST_MODE, _BRIDGE_MODE, _LINUX_FAMILY = "host", "bridge", "LINUX"
_PID_MODES, _IPC_MODES = (_HOST_MODE, "task"), (_HOST_MODE, "task", "none")
_NOT_OFFERED = {"firelensConfiguration": "logs are kept by the agent, whatever would route them"}
_VOLUMES_NOT_OFFERED = ("efsVolumeConfiguration", "s3filesVolumeConfiguration")


def container(members: Members, *, fargate: bool) -> pb.ContainerProperties:
    """Return the contract's container; one that breaks AWS's rules is refused."""
    message = to_message(ROWS, pb.ContainerProperties, members)
    message.resources.CopyFrom(amounts.amounts(members, fargate=fargate))
    message.resources.disk_mib = members.get("ephemeralStorage", {}).get("sizeInGiB", 0) << 10
    message.cpu_architecture = members.get("runtimePlatform", {}).get("cpuArchitecture", "")
    return message


def members_of(message: pb.ContainerProperties) -> Members:
    """Return AWS's members of a container."""
    return {**to_members(ROWS, message), "resourceRequirements": amounts.requirements(message.resources)}


def residue_of(given: Members, message: pb.ContainerProperties) -> Members:
    """Return what of a given container the contract cannot say."""
    return residue({**_EMPTY, **given}, members_of(message))


def job_members(message: pb.ContainerProperties, kept: Members) -> Members:
    """
    Return AWS's members of a job's container.

    Args:
        message: Resolved: the definition's and what the submission replaced.
        kept: The residue of the definition's container.
    """
    shown = members_of(message)
    requirements = shown["resourceRequirements"]
    members = {**shown, **{name: value for name, value in kept.items() if name not in _BY_SUBMISSION}}
    deprecated = {
        "VCPU": ("vcpus", message.resources.cpu_millis // 1000),
        "MEMORY": ("memory", message.resources.memory_mib),
    }
    for kind, (name, amount) in deprecated.items():
        if name in kept:
            members[name] = amount
            requirements = [each for each in requirements if each["type"] != kind]
    members["resourceRequirements"] = requirements
    return members


def name_in(kept: Members) -> str:
    """Return the name of the container of a definition, given what is kept of it."""
    if "ecsProperties" not in kept:
        return DEFAULT_NAME
    return str(kept["ecsProperties"]["taskProperties"][0]["containers"][0].get("name") or DEFAULT_NAME)


def check(members: Members, capabilities: Sequence[str], *, is_alone: bool = True) -> None:
    """
    Check a definition's container.

    Args:
        members: AWS's, of container properties.
        capabilities: Of the definition's platform.
        is_alone: On Fargate it has to have one of its sizes by itself; of several the controller knows the sum.

    Raises:
        ClientException: it breaks a rule.
    """
    if not members.get("image"):
        raise ExecutionException("Image is required.")
    rules.check_not_given(members, _NOT_OFFERED)
    _check_modes(members)
    rules.check_variables(members.get("environment", ()))
    user = members.get("user", "")
    if user and not _USER.fullmatch(user):
        raise ExecutionException(f"User '{user[:50]}' does not match regex ^([a-z0-9_][a-z0-9_-]{{0,30}})$")
    for volume in members.get("volumes", ()):
        for name in _VOLUMES_NOT_OFFERED:
            if rules.is_said(volume.get(name)):
                raise ClientException(
                    f"{name} is not offered by Batchyard: mount the file system on the hosts and give host.sourcePath"
                )
    fargate = FARGATE in capabilities
    if fargate:
        _check_fargate(members)
    found = amounts.amounts(members, fargate=fargate)
    if not found.cpu_millis:
        raise ExecutionException("vCPU is not provided.")
    if not found.memory_mib:
        raise ExecutionException("Memory is not provided.")
    if fargate and is_alone:
        amounts.check_fargate(found)
    if not fargate:
        for name in _NOT_FOR_EC2:
            if rules.is_said(members.get(name)):
                raise ExecutionException(f"{name} not applicable for EC2.")


def _check_modes(members: Members) -> None:
    """Check what a container shares with others: with one container, those of its task are its own."""
    pid, ipc, network = (members.get(name) for name in ("pidMode", "ipcMode", "networkMode"))
    if pid and pid not in _PID_MODES:
        raise ExecutionException(f"Capability {pid[:50]} is not valid. Valid capabilities: [{', '.join(_PID_MODES)}]")
    if ipc and ipc not in _IPC_MODES:
        raise ExecutionException(f"ipcMode {ipc[:50]} is not valid. Valid values are: [{', '.join(_IPC_MODES)}]")
    shares_host = runtime_of(members.get("image", "")) == PROCESS  # its memory segments, whatever is asked
    for name, mode in (("pidMode", pid), ("ipcMode", ipc if not shares_host else "")):
        if mode == _HOST_MODE:
            raise ClientException(f"{name} {_HOST_MODE} is not offered by Batchyard: jobs do not see the host's own")
    if network and network != _BRIDGE_MODE:
        text = "the operator of a host says which network its containers are on"
        raise ClientException(f"networkMode {network[:50]} is not offered by Batchyard: {text}")
    family = members.get("runtimePlatform", {}).get("operatingSystemFamily") or _LINUX_FAMILY
    if family != _LINUX_FAMILY:
        raise ClientException(f"operatingSystemFamily {family[:50]} is not offered by Batchyard: hosts run Linux")


def _check_fargate(members: Members) -> None:
    for name in _DEPRECATED:
        if name in members:
            raise ExecutionException(f"{name} is not applicable for Fargate. Use resource requirements instead.")
    given = [name for name in _NOT_FOR_FARGATE if rules.is_said(members.get(name))]
    given += [name for name in _LINUX_NOT_FOR_FARGATE if rules.is_said(members.get("linuxParameters", {}).get(name))]
    given += ["GPU" for each in members.get("resourceRequirements", ()) if each["type"] == "GPU"]
    given += ["host" for volume in members.get("volumes", ()) if volume.get("host", {}).get("sourcePath")]
    if given:
        raise ExecutionException(f"{given[0]} is not applicable for Fargate.")
    driver = members.get("logConfiguration", {}).get("logDriver")
    if driver and driver not in _FARGATE_LOG_DRIVERS:
        raise ExecutionException(f"Log driver for Fargate is not valid: {driver}")
    if not members.get("executionRoleArn"):
        raise ExecutionException("executionRoleArn is required for Fargate.")
    size = members.get("ephemeralStorage", {}).get("sizeInGiB")
    rules.check_between("ephemeralStorage.sizeInGiB", size, 21, 200)
