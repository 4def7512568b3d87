"""
Tasks: what one attempt runs, in the words of controller and agent alike.

Records alone: what they may say is the controller's to check, how they are started is
the agent's. `task_messages` turns them into messages of the contract and back.
"""

from __future__ import annotations

from dataclasses import dataclass

from batchyard.pairs import Pairs
from batchyard.resources import NOTHING, Resources
from batchyard.runtimes import runtime_of


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
    log_size_mib: int = 0
    gpu_models: tuple[str, ...] = ()
    gpu_memory_mib: int = 0
    cpu_architecture: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """
    One or several containers that start and end together on one host.

    Attributes:
        containers: What runs; the first is the one that overrides are about.
        volumes: Folders of the host, or empty ones, that any of the containers may mount.
    """

    containers: tuple[Container, ...] = (Container(),)
    volumes: tuple[Volume, ...] = ()

    @property
    def main(self) -> Container:
        """The container whose end is the attempt's."""
        return self.containers[0]

    @property
    def resources(self) -> Resources:
        """What an attempt holds of its host: all that its containers ask for."""
        first, *others = self.containers
        return sum((other.resources for other in others), first.resources) if others else first.resources

    @property
    def runtime(self) -> str:
        """The runtime that the host has to offer."""
        return runtime_of(self.main.image)


NO_TASK = Task()
