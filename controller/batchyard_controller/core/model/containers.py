"""Containers: what runs in an attempt, and what it asks of its surroundings."""

from __future__ import annotations

from dataclasses import dataclass

from batchyard.resources import Resources

from .values import NOTHING, Pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class Ulimit:
    """One process limit inside the container."""

    name: str
    soft_limit: int
    hard_limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A named host folder; without a path, an empty one that lives as long as the attempt."""

    name: str
    host_source_path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MountPoint:
    """Where a volume appears in the container."""

    source_volume: str
    container_path: str
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A host device in the container."""

    host_path: str
    container_path: str = ""
    permissions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tmpfs:
    """A memory file system in the container."""

    container_path: str
    size_mib: int
    mount_options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LinuxParameters:
    """AWS: linuxParameters."""

    devices: tuple[Device, ...] = ()
    init_process_enabled: bool | None = None
    shared_memory_size_mib: int = 0
    tmpfs: tuple[Tmpfs, ...] = ()
    max_swap_mib: int | None = None
    swappiness: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfiguration:
    """AWS: logConfiguration; stored, since logs are always kept by the agent."""

    log_driver: str = ""
    options: Pairs = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """An environment variable whose value comes from the secret store."""

    name: str
    value_from: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One program and its surroundings. Empty image or ``process://``: a plain process."""

    image: str = ""
    command: tuple[str, ...] = ()
    environment: Pairs = ()
    resources: Resources = NOTHING
    user: str = ""
    working_directory: str = ""
    privileged: bool = False
    readonly_root_filesystem: bool = False
    ulimits: tuple[Ulimit, ...] = ()
    mount_points: tuple[MountPoint, ...] = ()
    linux_parameters: LinuxParameters = LinuxParameters()
    log_configuration: LogConfiguration = LogConfiguration()
    secrets: tuple[Secret, ...] = ()
    job_role_arn: str = ""
    execution_role_arn: str = ""
