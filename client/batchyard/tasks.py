"""
Tasks: what one attempt runs, in the words of controller and agent alike.

Records alone: what they may say is the controller's to check, how they are started is
the agent's. `task_messages` turns them into messages of the contract and back.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from batchyard.pairs import Pairs
from batchyard.pods import NO_SECURITY, Pod, SecurityContext
from batchyard.resources import NOTHING, RESOURCE_KINDS, Resources
from batchyard.runtimes import KUBERNETES, runtime_of

DEFAULT_NAME = "default"
"""What a container is called that was given no name (AWS's word)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ulimit:
    """One process limit inside the container."""

    name: str
    soft_limit: int
    hard_limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """
    A named host folder; without a path, an empty one that lives as long as the attempt.

    Attributes:
        medium: Of pods, of an empty folder: ``Memory``, or, empty, the host's disk.
        size_limit: Of pods, of an empty folder: as Kubernetes writes amounts; empty: no bound.
        secret_name: Of pods: in place of a folder a secret of the cluster.
        secret_optional: The pod starts although there is no such secret.
        claim_name: Of pods: in place of a folder a persistent volume claim of the cluster.
        claim_read_only: It can be mounted to be read alone.
    """

    name: str
    host_source_path: str = ""
    medium: str = ""
    size_limit: str = ""
    secret_name: str = ""
    secret_optional: bool = False
    claim_name: str = ""
    claim_read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MountPoint:
    """Where a volume, or of pods a folder in it, appears in the container."""

    source_volume: str
    container_path: str
    read_only: bool = False
    sub_path: str = ""


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


class SecretDelivery(StrEnum):
    """How a secret is handed to a job."""

    VARIABLE = "VARIABLE"
    """As an environment variable (AWS)."""
    FILE = "FILE"
    """As a file in memory, below the folder that ``BATCHYARD_SECRETS_DIR`` names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """An environment variable, or a file, whose value comes from the secret store."""

    name: str
    value_from: str
    delivery: SecretDelivery = SecretDelivery.VARIABLE


class Condition(StrEnum):
    """What a container waits for in another of its task (AWS: TaskContainerDependency.condition)."""

    START = "START"
    """That it has been started."""
    COMPLETE = "COMPLETE"
    """That it has exited, whatever its code."""
    SUCCESS = "SUCCESS"
    """That it has exited with 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerDependency:
    """What a container waits for before it is started."""

    container: str
    condition: Condition

    def is_met_by(self, other: ContainerEnd) -> bool:
        """Say whether the other container has come so far; one that never ran meets nothing."""
        match self.condition:
            case Condition.START:
                return bool(other.started_at_ms)
            case Condition.COMPLETE:
                return bool(other.started_at_ms) and other.exit_code is not None
            case Condition.SUCCESS:
                return bool(other.started_at_ms) and other.exit_code == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """
    One program and its surroundings. Empty image or ``process://``: a plain process.

    Attributes:
        name: Among the containers of its task; may be empty where it is the only one.
        essential: Its end, whatever it is, is the end of the task.
        depends_on: What has to be before it is started.
        start_timeout_s: How long it waits for others, and others for it once it was started, before the task
            fails; 0: without end (AWS: startTimeout).
        stop_timeout_s: From SIGTERM to SIGKILL; 0: as whoever stops it says, 30 s mostly (AWS: stopTimeout).
        working_directory_optional: Of plain processes: where its host has no such folder it starts in an empty one.
        stdin: What it reads; not of pods.
        output_path: Where a copy of its log goes, on its host, with ``%`` and a letter for what differs
            (`output_paths`); absolute where there is an image; not of pods.
        terminal_grace_s: It has a terminal, and ends once nobody has been at that for so long; 0: it has none.
        entrypoint: Of pods: in place of the image's, whose arguments *command* then is.
        image_pull_policy: Of pods; empty: by the image's tag (`pods.pull_policy`).
        cpu_limit_millis: Of pods: most CPU that it gets, in thousandths; 0: no bound.
        security: Of pods.
    """

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
    name: str = ""
    essential: bool = True
    depends_on: tuple[ContainerDependency, ...] = ()
    start_timeout_s: int = 0
    stop_timeout_s: int = 0
    working_directory_optional: bool = False
    stdin: bytes = b""
    output_path: str = ""
    terminal_grace_s: int = 0
    entrypoint: tuple[str, ...] = ()
    image_pull_policy: str = ""
    cpu_limit_millis: int = 0
    security: SecurityContext = NO_SECURITY

    @property
    def shown_name(self) -> str:
        """Its name, or the one that it goes by without."""
        return self.name or DEFAULT_NAME

    @property
    def has_secret_files(self) -> bool:
        """Whether any of its secrets is a file."""
        return any(secret.delivery is SecretDelivery.FILE for secret in self.secrets)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerEnd:
    """
    How one container of a task ended, or that it runs; without times, code and reason: that it has not run yet.

    Attributes:
        exit_code: None while it runs, and where there is none to tell.
        reason: What the runtime says beyond the code, or why it never ran.
        started_at_ms: Wall clock; 0 if it never ran.
        stopped_at_ms: Wall clock; 0 while it runs, and if it never ran.
        container_id: The engine's; empty where it is not known.
        image_digest: Which image it ran, ``sha256:...``; empty where it is not known.
    """

    name: str
    exit_code: int | None = None
    reason: str = ""
    started_at_ms: int = 0
    stopped_at_ms: int = 0
    container_id: str = ""
    image_digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """
    One or several containers that start and end together on one host.

    Attributes:
        containers: What runs.
        volumes: Folders of the host, or empty ones, that any of the containers may mount.
        pid_mode: ``task``: they see each other's processes; empty: each its own, of plain processes as their host has it.
        ipc_mode: ``task``: they share memory segments, ``none``: no one has any; empty: as the engine has it. Plain
            processes share those of their host: ``task`` or ``host``.
        init_containers: Of a pod: run one after the other before *containers*.
        pod: What it is as a pod of Kubernetes; None: it is none, though a cluster may run it as one.
    """

    containers: tuple[Container, ...] = (Container(),)
    volumes: tuple[Volume, ...] = ()
    pid_mode: str = ""
    ipc_mode: str = ""
    init_containers: tuple[Container, ...] = ()
    pod: Pod | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it is one container that shares nothing, as most tasks are."""
        return len(self.containers) == 1 and self.pod is None and not (self.pid_mode or self.ipc_mode)

    @property
    def all_containers(self) -> tuple[Container, ...]:
        """Its containers, and after them those that run before."""
        return self.containers + self.init_containers

    @property
    def main(self) -> Container:
        """The first container; that of a plain task."""
        return self.containers[0]

    @property
    def resources(self) -> Resources:
        """What an attempt holds of its host: all that its containers ask for, or one that runs before them, if more."""
        first, *others = self.containers
        asked = sum((other.resources for other in others), first.resources) if others else first.resources
        for before in self.init_containers:
            asked = Resources(**{k: max(getattr(asked, k), getattr(before.resources, k)) for k in RESOURCE_KINDS})
        return asked

    @property
    def runtime(self) -> str:
        """The runtime that the host has to offer."""
        return runtime_of(self.main.image) if self.pod is None else KUBERNETES

    @property
    def images(self) -> str:
        """All images that its host has to get, each once, with spaces between."""
        every = self.all_containers
        return self.main.image if len(every) == 1 else " ".join(sorted({c.image for c in every}))


NO_TASK = Task()
