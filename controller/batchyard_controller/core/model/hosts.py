"""Hosts: what they are, in their agents' words, and what is known of their liveness."""

from __future__ import annotations

from dataclasses import dataclass, field

from batchyard.ids import AttemptId, HostId, JobId
from batchyard.pairs import Pairs
from batchyard.resources import NOTHING, Resources
from batchyard.tasks import ContainerEnd
from batchyard_controller.core import limits

from .attempts import Attempt
from .values import Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFacts:
    """One GPU of a host. A ``fault`` keeps it from getting work."""

    uuid: str
    model: str = ""
    memory_mib: int = 0
    fault: str = ""


PLATFORMS_DEFAULT = ("EC2",)
"""Of a host whose agent names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessIsolation:
    """
    How jobs without an image are kept apart on a host, in its agent's words.

    Attributes:
        enforcement: ``cgroup-v2``, ``cgroup-v1`` or ``rlimit``; empty: it takes no such jobs, or does not say.
        user: Whom they run as.
    """

    enforcement: str = ""
    user: str = ""
    no_new_privileges: bool = False
    hides_processes: bool = False
    hides_gpus: bool = False


UNKNOWN_ISOLATION = ProcessIsolation()


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesFacts:
    """
    Where a host that is a node of a cluster belongs.

    Attributes:
        namespace: Where its agent puts pods that name none.
        node_uid: The node's, in its cluster.
        other_namespaces: Where it may put those that name one of these.
    """

    cluster: str
    namespace: str
    node_uid: str = ""
    other_namespaces: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """
    What a host is, in its agent's words.

    Attributes:
        reclaimed_at_ms: When its provider takes it away, by its own wall clock; by then
            its agent kills what it runs. 0: not that it knows.
        address: Where other hosts reach it; empty of agents that do not say so.
        price_per_hour: What an hour of it costs, in whatever currency all hosts use; 0: nothing is said.
        platforms: Which jobs it takes (AWS: platform capabilities); empty: `PLATFORMS_DEFAULT`.
        cpu_architecture: X86_64, ARM64; empty: not told.
        sandbox: The engine's runtime in which Fargate's jobs run; empty: its usual one.
        enforces_disk: A container can write no more to its disk than it asked for.
        features: What its agent can do that older ones cannot.
        kubernetes: Of a node of a cluster, whose jobs are pods; None of others.
    """

    name: str
    boot_id: str = ""
    agent_version: str = ""
    capacity: Resources = NOTHING
    gpus: tuple[GpuFacts, ...] = ()
    runtimes: tuple[str, ...] = ()
    host_type: str = "workstation"
    purchase_option: str = "on-demand"
    zone: str = ""
    price_per_hour: float = 0.0
    labels: Pairs = ()
    operating_system: str = ""
    cpu_model: str = ""
    allows_privileged: bool = False
    volume_paths: tuple[str, ...] = ()
    device_paths: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    reclaimed_at_ms: int = 0
    platforms: tuple[str, ...] = ()
    cpu_architecture: str = ""
    sandbox: str = ""
    enforces_disk: bool = False
    processes: ProcessIsolation = UNKNOWN_ISOLATION
    features: tuple[str, ...] = ()
    address: str = ""
    kubernetes: KubernetesFacts | None = None


HEARD_SAVE_MS = 3600 * 1000
"""Stored so seldom, as a write a heartbeat would be most of all writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRecord:
    """
    What the store keeps of a host.

    Attributes:
        heard_at_ms: When it was last heard of, by the controller's calendar (`jobs/retention.py`); up to
            `HEARD_SAVE_MS` too early.
        machine_id: Of the operating system on which its agent ran last; empty: unknown.
        reclaim_at_ms: When it is taken away, by the word of an operator; 0: nobody said so.
        fence_ms: The longest fence that its agent may go by, of those that it was told; 0: never.
        approved: Up to which amounts one that has joined is believed; None: what it says is.
        awaiting: What it says, while an operator has yet to approve some of it; None: *facts* is all.
        replaced_by: The host that joined from the same machine under the same name, while this one was away, as
            after its agent's state was lost; empty: none, or this one has come back.
        gone_at_ms: When it was removed or forgotten; 0 while it is known. Of one that is gone
            only its name still counts, for jobs that ran there.
    """

    id: HostId
    facts: HostFacts
    cordoned: bool = False
    draining: bool = False
    heard_at_ms: int = 0
    machine_id: str = ""
    gone_at_ms: int = 0
    reclaim_at_ms: int = 0
    fence_ms: int = limits.FENCE_MS
    approved: Resources | None = None
    awaiting: HostFacts | None = None
    replaced_by: str = ""

    @property
    def reclaimed_at_ms(self) -> int:
        """When it is taken away, by whoever says it sooner; 0 if nobody does."""
        announced, asked = self.facts.reclaimed_at_ms, self.reclaim_at_ms
        return min(announced, asked) if announced and asked else announced or asked


def told_fence(facts: HostFacts, fence_ms: int) -> int:
    """Return which fence an agent is told: none where its host is a node of a cluster, on which nobody keeps one."""
    return 0 if facts.kubernetes is not None else fence_ms


def own_fence(facts: HostFacts, *said_s: int) -> int | None:
    """
    Return the fence of an attempt in milliseconds, where it has one of its own; None: it has that of its host.

    Args:
        facts: Of the host that it is placed on; one that is a node of a cluster keeps none.
        said_s: What its job says, and its queue, in seconds; -1: never, 0: nothing. The first that says something
            counts.
    """
    said = next((fence_s for fence_s in said_s if fence_s), 0)
    if not said or facts.kubernetes is not None:
        return None
    return 0 if said == limits.FENCE_NEVER_S else said * 1000


def longer_fence(one_ms: int, other_ms: int) -> int:
    """Return the longer of two fences; 0, which is never, is the longest."""
    return max(one_ms, other_ms) if one_ms and other_ms else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedStart:
    """A start that failed for reasons of its host."""

    unit_id: JobId
    reason: str
    at_boot_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """An image that a host could not get."""

    reason: str
    until_boot_ms: int
    """It is not asked for it again before."""


@dataclass(slots=True, kw_only=True)
class Trust:
    """
    What the latest starts on a host say of it; never stored, as it may be mended meanwhile.

    Attributes:
        proven_until_boot_ms: A start has succeeded shortly before; 0 if none has.
        failures: Starts that failed since one succeeded, oldest first.
        rests_until_boot_ms: It gets no work before; 0 if it may have some.
        strikes: How often it was suspected in a row.
        suspicion: What is said of a host that is suspected.
        lacks: Images that it could not get lately.
    """

    proven_until_boot_ms: int = 0
    failures: list[FailedStart] = field(default_factory=list)
    rests_until_boot_ms: int = 0
    strikes: int = 0
    suspicion: str = ""
    lacks: dict[str, Lack] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Host:
    """
    A host and what is known of its liveness, which is never stored.

    Attributes:
        session: Number of the stream by which it is reached; 0 when it is not. Who is
            silent for the contact limit loses it, so placement, listings and logs all
            ask this alone.
        heard_boot_ms: When it was last heard, on our clock; a new leader starts
            every host afresh.
        clock_off_ms: How far its clock was ahead of ours when it was found to be off, less
            than 0 if behind; 0: it is right, as far as we know.
        clock_misses: Heartbeats in a row that told of a clock that is off.
        killed_by_boot_ms: When, by our clock, it has surely killed what it runs, as it is taken away; None: it has
            not announced that in this session.
        spoken_for_by: Whose certificate its session came with; None without one.
        is_stopped: Whether its session was told to stop all attempts, as its time is over.
        is_missing: Whether its provider has it no more, while it was silent, and it has not been heard since.
        attempts: Live claims on it.
        containers: How each of several containers of these is, as it last told; after a new leader's start,
            or its own, it tells it again.
        hindrances: What keeps attempts from starting, as it last told.
        reserved: What others than this yard hold of its capacity, as its agent said last.
        trust: What its latest starts say of it.
    """

    record: HostRecord
    session: int = 0
    heard_boot_ms: int = 0
    heard_wall_ms: int = 0
    clock_off_ms: int = 0
    clock_misses: int = 0
    killed_by_boot_ms: int | None = None
    spoken_for_by: HostId | None = None
    is_stopped: bool = False
    is_missing: bool = False
    reserved: Resources = NOTHING
    attempts: dict[AttemptId, Attempt] = field(default_factory=dict)
    containers: dict[AttemptId, tuple[ContainerEnd, ...]] = field(default_factory=dict)
    hindrances: dict[AttemptId, str] = field(default_factory=dict)
    trust: Trust = field(default_factory=Trust)

    def hinder(self, attempt_id: AttemptId, reason: str) -> None:
        """Take what keeps an attempt from starting; empty: nothing."""
        if reason:
            self.hindrances[attempt_id] = reason
        else:
            self.hindrances.pop(attempt_id, None)

    @property
    def is_reachable(self) -> bool:
        """Whether it is connected and was heard of within the contact limit."""
        return self.session != 0

    @property
    def clock_fault(self) -> str:
        """What is said of a clock that is off; nothing of others."""
        if not self.clock_off_ms:
            return ""
        side = "ahead of" if self.clock_off_ms > 0 else "behind"
        return f"its clock is {abs(self.clock_off_ms) // 1000} s {side} the controller's"

    def is_silent(self, now: Instant, limit_ms: int) -> bool:
        """Say whether it was not heard for longer than *limit_ms*."""
        return now.boot_ms - self.heard_boot_ms > limit_ms
