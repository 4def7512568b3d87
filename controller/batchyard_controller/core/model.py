"""
Records: what the controller knows, as plain values.

Nothing here decides or moves anything. Frozen records are replaced whole; `Job`
and `Attempt` change in place, their ``state`` through ``lifecycle`` alone.
Defaults mean "not given" and are left out of the store. Maps that belong to a
`JobSpec` are sorted tuples of pairs, so that equal specs hash alike and are kept
once in memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from batchyard.ids import AttemptId, HostId, JobId, attempt_id, child_id
from batchyard.resources import Resources
from batchyard.states import EndCause, JobState

NOTHING = Resources()

Pairs = tuple[tuple[str, str], ...]
"""A map with text keys and values, sorted by key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instant:
    """
    One moment, as an argument of every decision.

    Attributes:
        wall_ms: Milliseconds since the epoch; recorded and shown, never compared
            with another machine's.
        boot_ms: Milliseconds of a clock that only rises; timers use it.
    """

    wall_ms: int
    boot_ms: int


class EnvironmentType(StrEnum):
    """AWS: type of a compute environment."""

    MANAGED = "MANAGED"
    UNMANAGED = "UNMANAGED"


class ResourceState(StrEnum):
    """Whether a compute environment or a queue takes new work."""

    ENABLED = "ENABLED"
    DISABLED = "DISABLED"


class CapacityType(StrEnum):
    """Which hosts an environment takes: EC2 is on-demand, SPOT may be reclaimed."""

    EC2 = "EC2"
    SPOT = "SPOT"


class AllocationStrategy(StrEnum):
    """AWS: how the environment's hosts are chosen."""

    BEST_FIT = "BEST_FIT"
    BEST_FIT_PROGRESSIVE = "BEST_FIT_PROGRESSIVE"
    SPOT_CAPACITY_OPTIMIZED = "SPOT_CAPACITY_OPTIMIZED"
    SPOT_PRICE_CAPACITY_OPTIMIZED = "SPOT_PRICE_CAPACITY_OPTIMIZED"


class DefinitionType(StrEnum):
    """AWS: type of a job definition; only CONTAINER is built so far."""

    CONTAINER = "container"
    MULTINODE = "multinode"


class DefinitionStatus(StrEnum):
    """Whether new jobs may be made from a definition."""

    ACTIVE = "ACTIVE"
    INACTIVE = "INACTIVE"


class DependencyType(StrEnum):
    """What part of the other job is waited for."""

    WHOLE = "WHOLE"
    N_TO_N = "N_TO_N"
    SEQUENTIAL = "SEQUENTIAL"
    AFTER_ANY = "AFTER_ANY"
    AFTER_FAILURE = "AFTER_FAILURE"


class ResourceKind(StrEnum):
    """What can be tagged."""

    JOB = "JOB"
    JOB_QUEUE = "JOB_QUEUE"
    JOB_DEFINITION = "JOB_DEFINITION"
    COMPUTE_ENVIRONMENT = "COMPUTE_ENVIRONMENT"


class ExitAction(StrEnum):
    """What a matching evaluate-on-exit rule says."""

    RETRY = "RETRY"
    EXIT = "EXIT"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeResources:
    """Selects hosts and bounds their use. ``max_vcpus`` 0 means no bound."""

    type: CapacityType = CapacityType.EC2
    allocation_strategy: AllocationStrategy = AllocationStrategy.BEST_FIT_PROGRESSIVE
    min_vcpus: int = 0
    max_vcpus: int = 0
    desired_vcpus: int = 0
    instance_types: tuple[str, ...] = ()
    labels: Pairs = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeEnvironment:
    """A named selection of hosts."""

    name: str
    type: EnvironmentType = EnvironmentType.MANAGED
    state: ResourceState = ResourceState.ENABLED
    compute_resources: ComputeResources = ComputeResources()
    unmanaged_vcpus: int = 0
    service_role: str = ""
    tags: Pairs = ()
    annotations: Pairs = ()
    created_at_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentOrder:
    """One step of a queue's way through compute environments, lowest order first."""

    order: int
    compute_environment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StateTimeLimit:
    """AWS: jobStateTimeLimitActions entry."""

    reason: str
    state: str
    max_time_s: int
    action: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobQueue:
    """Where jobs wait. Higher priority is served first."""

    name: str
    state: ResourceState = ResourceState.ENABLED
    priority: int = 0
    environment_order: tuple[EnvironmentOrder, ...] = ()
    scheduling_policy: str = ""
    state_time_limits: tuple[StateTimeLimit, ...] = ()
    tags: Pairs = ()
    annotations: Pairs = ()
    created_at_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockedHead:
    """
    Who could not be placed at the head of a queue; never stored.

    Attributes:
        code: Why, as AWS's code.
        since_boot_ms: When that was first seen, on our clock.
    """

    job_id: JobId
    index: int | None
    code: str
    since_boot_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A value that only the vault can read. ``key_id`` names the key that encrypts it."""

    key_id: str
    nonce: bytes
    ciphertext: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSecret:
    """What jobs get as an environment variable and nobody can read back."""

    name: str
    sealed: Sealed
    created_at_ms: int = 0
    updated_at_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessKey:
    """Who may call the AWS Batch gateway; its secret is sealed."""

    id: str
    sealed: Sealed
    description: str = ""
    created_at_ms: int = 0


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
    """What an attempt runs. Empty image or ``process://``: a plain process."""

    image: str = ""
    command: tuple[str, ...] = ()
    environment: Pairs = ()
    resources: Resources = NOTHING
    user: str = ""
    working_directory: str = ""
    privileged: bool = False
    readonly_root_filesystem: bool = False
    ulimits: tuple[Ulimit, ...] = ()
    volumes: tuple[Volume, ...] = ()
    mount_points: tuple[MountPoint, ...] = ()
    linux_parameters: LinuxParameters = LinuxParameters()
    log_configuration: LogConfiguration = LogConfiguration()
    secrets: tuple[Secret, ...] = ()
    job_role_arn: str = ""
    execution_role_arn: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitRule:
    """One evaluate-on-exit rule; patterns that are empty are not asked."""

    action: ExitAction
    on_status_reason: str = ""
    on_reason: str = ""
    on_exit_code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryStrategy:
    """
    When a job is tried again.

    Attributes:
        attempts: Counts tries, not retries: 3 means at most 3 containers.
        infrastructure_retries: Tries lost with their host that do not count.
    """

    attempts: int = 1
    rules: tuple[ExitRule, ...] = ()
    infrastructure_retries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDefinition:
    """One revision of a template; only its status ever changes."""

    name: str
    revision: int
    type: DefinitionType = DefinitionType.CONTAINER
    status: DefinitionStatus = DefinitionStatus.ACTIVE
    container: Container = Container()
    parameters: Pairs = ()
    retry: RetryStrategy | None = None
    timeout_s: int = 0
    scheduling_priority: int | None = None
    propagate_tags: bool = False
    tags: Pairs = ()
    platform_capabilities: tuple[str, ...] = ()
    annotations: Pairs = ()
    created_at_ms: int = 0

    @property
    def key(self) -> str:
        """``name:revision``."""
        return f"{self.name}:{self.revision}"


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True)
class JobSpec:
    """
    What all jobs of one kind share, resolved at submission; kept once in memory.

    Attributes:
        definition_tags: Those of the definition, if they go on to the containers.
    """

    queue: str
    container: Container
    definition: str = ""
    parameters: Pairs = ()
    retry: RetryStrategy = RetryStrategy()
    timeout_s: int = 0
    share_identifier: str = ""
    scheduling_priority: int | None = None
    propagate_tags: bool = False
    tags: Pairs = ()
    definition_tags: Pairs = ()
    annotations: Pairs = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """Another job that this one waits for; empty id with SEQUENTIAL."""

    job_id: str = ""
    type: DependencyType = DependencyType.WHOLE


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedAttempt:
    """One try that is over. Times are wall-clock; 0 means it did not get there."""

    number: int
    host_id: str = ""
    claimed_at_ms: int = 0
    started_at_ms: int = 0
    stopped_at_ms: int = 0
    exit_code: int | None = None
    reason: str = ""
    status_reason: str = ""
    gpu_uuids: tuple[str, ...] = ()
    epoch: int = 0


@dataclass(slots=True, kw_only=True)
class Job:
    """
    A job, single or array parent.

    Attributes:
        seq: Place in the order of all submissions; a retry keeps it.
        array_size: 0 for a single job.
        array_concurrency: Most children that are RUNNABLE or active at once; 0 means no bound.
        ended_at_ms: When it came to its final state, by the controller's clock; 0 until then.
        terminate_reason: Intent, not fact: set when someone asked to stop it.
        attempts: Ended tries of a single job; children keep theirs themselves.
        unmet: Whole jobs it still waits for; derived, not stored.
    """

    id: JobId
    name: str
    spec: JobSpec
    seq: int
    created_at_ms: int
    array_size: int = 0
    array_concurrency: int = 0
    depends_on: tuple[Dependency, ...] = ()
    request_id: str = ""
    state: JobState = JobState.SUBMITTED
    status_reason: str = ""
    started_at_ms: int = 0
    stopped_at_ms: int = 0
    ended_at_ms: int = 0
    is_cancelled: bool = False
    terminate_reason: str = ""
    attempts: tuple[EndedAttempt, ...] = ()
    unmet: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuClaim:
    """Thousandths of one GPU that an attempt holds."""

    uuid: str
    millis: int


@dataclass(slots=True, kw_only=True)
class Attempt:
    """
    A live claim on a host: one try that has not ended.

    Exists if and only if its job (or child) is STARTING or RUNNING, and holds
    the job's resources on its host for exactly that long.
    """

    job_id: JobId
    index: int | None
    number: int
    host_id: HostId
    compute_environment: str
    epoch: int
    claimed_at_ms: int
    started_at_ms: int = 0
    gpus: tuple[GpuClaim, ...] = ()
    terminate_reason: str = ""

    @property
    def unit_id(self) -> JobId:
        """The id of the job or child."""
        return self.job_id if self.index is None else child_id(self.job_id, self.index)

    @property
    def id(self) -> AttemptId:
        """Never reused, as numbers only rise."""
        return attempt_id(self.unit_id, self.number)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnd:
    """How an attempt ended, as its agent (or the fence) says it."""

    cause: EndCause
    started_at_ms: int = 0
    stopped_at_ms: int = 0
    exit_code: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFacts:
    """One GPU of a host. A ``fault`` keeps it from getting work."""

    uuid: str
    model: str = ""
    memory_mib: int = 0
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """What a host is, in its agent's words."""

    name: str
    boot_id: str = ""
    agent_version: str = ""
    capacity: Resources = NOTHING
    gpus: tuple[GpuFacts, ...] = ()
    runtimes: tuple[str, ...] = ()
    host_type: str = "workstation"
    purchase_option: str = "on-demand"
    zone: str = ""
    labels: Pairs = ()
    operating_system: str = ""
    cpu_model: str = ""
    allows_privileged: bool = False
    volume_paths: tuple[str, ...] = ()
    device_paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRecord:
    """What the store keeps of a host."""

    id: HostId
    facts: HostFacts
    cordoned: bool = False
    draining: bool = False


@dataclass(slots=True, kw_only=True)
class Host:
    """
    A host and what is known of its liveness, which is never stored.

    Attributes:
        session: Number of the stream it is connected by; 0 when it is not.
        heard_boot_ms: When it was last heard, on our clock; a new leader starts
            every host afresh.
        attempts: Live claims on it.
    """

    record: HostRecord
    session: int = 0
    heard_boot_ms: int = 0
    heard_wall_ms: int = 0
    attempts: dict[AttemptId, Attempt] = field(default_factory=dict)
