"""
Surroundings: what a container may ask for around its command, by itself.

User, paths, volumes, devices, limits of its processes, kernel settings, log. It
knows nothing of hosts: whether one allows what is asked, `feasibility` says.
Rules: AWS Batch API reference (ContainerProperties, LinuxParameters).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from batchyard.errors import Reason, Violation
from batchyard.tasks import Container, LinuxParameters, Task, Tmpfs, Ulimit, Volume
from batchyard_controller.core import limits
from batchyard_controller.core.jobs.output_paths import LETTERS, unknown_marks

from .checks import Violations, check_range, check_text, quote

_USER = re.compile(r"[a-z0-9_][a-z0-9_-]{0,30}(:[a-z0-9_][a-z0-9_-]{0,30})?", re.ASCII)
_VOLUME = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_LOG_DRIVERS = ("json-file", "syslog", "journald", "gelf", "fluentd", "awslogs", "splunk", "awsfirelens")
"""AWS: LogConfiguration; stored, since logs are always kept by the agent."""
_PERMISSIONS = ("READ", "WRITE", "MKNOD")
_ULIMITS = (
    *("core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice"),
    *("nofile", "nproc", "rss", "rtprio", "rttime", "sigpending", "stack"),
)
"""AWS: Ulimit; those that Docker knows."""
_TMPFS_FLAGS = (
    *("defaults", "ro", "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "sync", "async", "dirsync"),
    *("remount", "mand", "nomand", "atime", "noatime", "diratime", "nodiratime", "bind", "rbind"),
    *("unbindable", "runbindable", "private", "rprivate", "shared", "rshared", "slave", "rslave"),
    *("relatime", "norelatime", "strictatime", "nostrictatime"),
)
_TMPFS_VALUES = ("mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol")
"""AWS: Tmpfs.mountOptions, without and with a value. A comma would smuggle in another, such as a size."""
_TMPFS_OPTION = re.compile(f"({'|'.join(_TMPFS_FLAGS)})|({'|'.join(_TMPFS_VALUES)})=[A-Za-z0-9:=-]+", re.ASCII)


def check_surroundings(out: Violations, field: str, container: Container, task: Task) -> None:
    """Check all of a container of a task but its image, command, variables and amounts."""
    if container.user and not _USER.fullmatch(container.user):
        # AWS knows no ":group"; natively it is allowed, as Docker takes it.
        text = (
            f"User {quote(container.user)} does not match regex ^([a-z0-9_][a-z0-9_-]{{0,30}})$, nor two such with ':'"
        )
        out.append(Violation(f"{field}.user", text, Reason.MALFORMED))
    driver = container.log_configuration.log_driver
    if driver and driver not in _LOG_DRIVERS:
        text = f"{quote(driver)} is not one of {', '.join(_LOG_DRIVERS)}"
        out.append(Violation(f"{field}.log_configuration.log_driver", text, Reason.UNKNOWN_VALUE))
    check_range(out, f"{field}.log_size_mib", container.log_size_mib, 0, limits.LOG_SIZE_MIB_MAX, "MiB")
    _check_gpus(out, field, container)
    if container.working_directory:
        _check_path(out, f"{field}.working_directory", container.working_directory)
    _check_streams(out, field, container)
    _check_terminal(out, field, container, task)
    for i, ulimit in enumerate(container.ulimits):
        _check_ulimit(out, f"{field}.ulimits[{i}]", ulimit)
    _check_mount_points(out, field, container, task)
    _check_linux(out, f"{field}.linux_parameters", container.linux_parameters)
    _check_places(out, field, container)


def _check_streams(out: Violations, field: str, container: Container) -> None:
    """Check what a process reads, and where what it writes goes beside its log."""
    if (size := len(container.stdin)) > limits.STDIN_BYTES_MAX:
        text = f"{size} bytes; at most {limits.STDIN_BYTES_MAX} are allowed"
        out.append(Violation(f"{field}.stdin", text, Reason.TOO_LONG))
    path = container.output_path
    check_text(out, f"{field}.output_path", path, limits.PATH_LENGTH_MAX)
    if path.endswith("/"):
        out.append(Violation(f"{field}.output_path", f"{quote(path)} names no file", Reason.MALFORMED))
    if unknown := unknown_marks(path):
        known = ", ".join(f"%{letter}" for letter in LETTERS)
        text = f"{quote(unknown[0])} is not one of {known}"
        out.append(Violation(f"{field}.output_path", text, Reason.UNKNOWN_VALUE))


def _check_terminal(out: Violations, field: str, container: Container, task: Task) -> None:
    at = f"{field}.terminal_grace_s"
    if not container.terminal_grace_s:
        return
    check_range(out, at, container.terminal_grace_s, limits.TERMINAL_GRACE_S_MIN, limits.TERMINAL_GRACE_S_MAX, "s")
    if not task.is_plain:
        out.append(Violation(at, "a terminal is for a job of one container, and for no pod", Reason.CONFLICT))
    if not container.command:
        out.append(Violation(at, "a job with a terminal says its command", Reason.REQUIRED))
    if container.stdin:
        out.append(Violation(at, "a job with a terminal reads that, and no stdin", Reason.CONFLICT))


def _check_gpus(out: Violations, field: str, container: Container) -> None:
    """Check which GPUs will do; how many are asked for may still be said at submission."""
    check_range(out, f"{field}.gpu_memory_mib", container.gpu_memory_mib, 0, limits.MEMORY_MIB_MAX, "MiB")
    if len(container.gpu_models) > limits.GPU_MODELS_MAX:
        text = f"{len(container.gpu_models)} given; at most {limits.GPU_MODELS_MAX} are allowed"
        out.append(Violation(f"{field}.gpu_models", text, Reason.TOO_MANY))
    for i, name in enumerate(container.gpu_models[: limits.GPU_MODELS_MAX]):
        check_text(out, f"{field}.gpu_models[{i}]", name, limits.GPU_MODEL_LENGTH_MAX)
        if not re.search(r"[A-Za-z0-9]", name):
            text = f"{quote(name)} holds no letter or digit by which a model could be known"
            out.append(Violation(f"{field}.gpu_models[{i}]", text, Reason.MALFORMED))


def _check_ulimit(out: Violations, at: str, ulimit: Ulimit) -> None:
    if ulimit.name not in _ULIMITS:
        text = f"{quote(ulimit.name)} is not one of {', '.join(_ULIMITS)}"
        out.append(Violation(f"{at}.name", text, Reason.UNKNOWN_VALUE))
    check_range(out, f"{at}.soft_limit", ulimit.soft_limit, -1, limits.INT64_MAX)
    check_range(out, f"{at}.hard_limit", ulimit.hard_limit, -1, limits.INT64_MAX)
    if ulimit.hard_limit >= 0 and not 0 <= ulimit.soft_limit <= ulimit.hard_limit:
        text = f"{ulimit.soft_limit} is not between 0 and the hard limit {ulimit.hard_limit}"
        out.append(Violation(f"{at}.soft_limit", text, Reason.OUT_OF_RANGE))


def check_volumes(out: Violations, field: str, volumes: tuple[Volume, ...]) -> None:
    """Check names and host paths (AWS: Volume)."""
    names = Counter(volume.name for volume in volumes)
    for i, volume in enumerate(volumes):
        at = f"{field}.volumes[{i}]"
        if not volume.name:
            out.append(Violation(f"{at}.name", "a name is required", Reason.REQUIRED))
        elif len(volume.name) > limits.VOLUME_NAME_LENGTH_MAX:
            text = f"{len(volume.name)} characters; at most {limits.VOLUME_NAME_LENGTH_MAX} are allowed"
            out.append(Violation(f"{at}.name", text, Reason.TOO_LONG))
        elif not _VOLUME.fullmatch(volume.name):
            text = f"{quote(volume.name)} may hold only letters, digits, '-' and '_'"
            out.append(Violation(f"{at}.name", text, Reason.BAD_CHARACTERS))
        elif names[volume.name] > 1:
            text = f"{quote(volume.name)} is the name of {names[volume.name]} volumes"
            out.append(Violation(f"{at}.name", text, Reason.DUPLICATE))
        if volume.host_source_path:
            _check_path(out, f"{at}.host_source_path", volume.host_source_path)


def _check_mount_points(out: Violations, field: str, container: Container, task: Task) -> None:
    """Check which volume goes where (AWS: MountPoint)."""
    paths = {volume.name: volume.host_source_path for volume in task.volumes}
    uses = Counter(point.source_volume for point in container.mount_points)
    for i, point in enumerate(container.mount_points):
        at = f"{field}.mount_points[{i}]"
        name = point.source_volume
        if name not in paths:
            text = f"no volume of the container is named {quote(name)}"
            out.append(Violation(f"{at}.source_volume", text, Reason.UNKNOWN_VALUE))
        elif task.is_plain and not paths[name] and uses[name] > 1:
            # An engine's anonymous volume cannot be mounted twice.
            text = f"{quote(name)} has no path on the host, so it can be mounted once, not {uses[name]} times"
            out.append(Violation(f"{at}.source_volume", text, Reason.DUPLICATE))
        _check_place(out, f"{at}.container_path", point.container_path)


def _check_linux(out: Violations, field: str, linux: LinuxParameters) -> None:
    """Check amounts and paths (AWS: LinuxParameters)."""
    check_range(out, f"{field}.shared_memory_size_mib", linux.shared_memory_size_mib, 0, limits.MEMORY_MIB_MAX, "MiB")
    if linux.max_swap_mib is not None:
        check_range(out, f"{field}.max_swap_mib", linux.max_swap_mib, 0, limits.MEMORY_MIB_MAX, "MiB")
    if linux.swappiness is not None:
        check_range(out, f"{field}.swappiness", linux.swappiness, 0, limits.SWAPPINESS_MAX)
    for i, tmpfs in enumerate(linux.tmpfs):
        _check_tmpfs(out, f"{field}.tmpfs[{i}]", tmpfs)
    for i, device in enumerate(linux.devices):
        at = f"{field}.devices[{i}]"
        _check_path(out, f"{at}.host_path", device.host_path)
        if device.container_path:
            _check_place(out, f"{at}.container_path", device.container_path)
        for permission in device.permissions:
            if permission not in _PERMISSIONS:
                text = f"{quote(permission)} is not one of {', '.join(_PERMISSIONS)}"
                out.append(Violation(f"{at}.permissions", text, Reason.UNKNOWN_VALUE))


def _check_tmpfs(out: Violations, at: str, tmpfs: Tmpfs) -> None:
    _check_place(out, f"{at}.container_path", tmpfs.container_path)
    check_range(out, f"{at}.size_mib", tmpfs.size_mib, 1, limits.MEMORY_MIB_MAX, "MiB")
    for option in tmpfs.mount_options:
        if not _TMPFS_OPTION.fullmatch(option):
            text = (
                f"{quote(option)} is no flag such as ro or noexec, nor {', '.join(_TMPFS_VALUES)} with '=' and a value"
            )
            out.append(Violation(f"{at}.mount_options", text, Reason.UNKNOWN_VALUE))


def _check_places(out: Violations, field: str, container: Container) -> None:
    """Check that no two things are to appear at one place."""
    linux = container.linux_parameters
    places = Counter(_places(container))
    for name, paths in (
        ("mount_points", [point.container_path for point in container.mount_points]),
        ("linux_parameters.tmpfs", [tmpfs.container_path for tmpfs in linux.tmpfs]),
        ("linux_parameters.devices", [device.container_path or device.host_path for device in linux.devices]),
    ):
        for i, path in enumerate(paths):
            if (place := path.rstrip("/")) and places[place] > 1:
                text = f"{quote(path)} is the place of {places[place]} mounts"
                out.append(Violation(f"{field}.{name}[{i}].container_path", text, Reason.DUPLICATE))


def _places(container: Container) -> Iterable[str]:
    linux = container.linux_parameters
    for point in container.mount_points:
        yield point.container_path.rstrip("/")
    for tmpfs in linux.tmpfs:
        yield tmpfs.container_path.rstrip("/")
    for device in linux.devices:
        yield (device.container_path or device.host_path).rstrip("/")


def _check_place(out: Violations, field: str, path: str) -> None:
    """Check where something is to appear in the container: anywhere but in place of all of it."""
    before = len(out)
    _check_path(out, field, path)
    if len(out) == before and not path.strip("/."):
        out.append(Violation(field, f"{quote(path)} is the root of the container", Reason.NOT_ALLOWED))


def _check_path(out: Violations, field: str, path: str) -> None:
    if not path.startswith("/"):
        out.append(Violation(field, f"{quote(path)} is no absolute path", Reason.MALFORMED))
    elif ".." in path.split("/"):
        out.append(Violation(field, f"{quote(path)} holds '..'", Reason.NOT_ALLOWED))
    check_text(out, field, path, limits.PATH_LENGTH_MAX)
