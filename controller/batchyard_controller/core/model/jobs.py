"""
Jobs, and the definitions that they are made of: plain values.

Nothing here decides or moves anything. Frozen records are replaced whole; `Job`
and `Attempt` change in place, their ``state`` through ``lifecycle`` alone.
Defaults mean "not given" and are left out of the store. Maps that belong to a
`JobSpec` are sorted tuples of pairs, so that equal specs hash alike and are kept
once in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from batchyard.array_values import NO_VALUES, ArrayValues
from batchyard.ids import JobId
from batchyard.pairs import Pairs
from batchyard.resources import Resources
from batchyard.states import JobState
from batchyard.tasks import NO_TASK, Task

from .attempts import EndedAttempt
from .children import NO_CHILDREN, Children
from .consumables import Quantities
from .dependencies import Dependency
from .endings import Ending
from .nodes import Nodes

INFRASTRUCTURE_RETRIES = 5
"""Unless a retry strategy says otherwise (reliability, P6)."""


class DefinitionType(StrEnum):
    """AWS: type of a job definition."""

    CONTAINER = "container"
    MULTINODE = "multinode"


class DefinitionStatus(StrEnum):
    """Whether new jobs may be made from a definition."""

    ACTIVE = "ACTIVE"
    INACTIVE = "INACTIVE"


class ExitAction(StrEnum):
    """What a matching evaluate-on-exit rule says."""

    RETRY = "RETRY"
    EXIT = "EXIT"


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
        infrastructure_retries: Tries that failed for reasons of their host and do not
            count, at most.
        spot_attempts: After so many tries whose host was reclaimed it goes to hosts of
            on-demand environments alone, if its queue has any; 0: never.
        preemption_retries_before_termination: How often it runs again after it was preempted, which
            counts as no try (AWS: ServiceJobPreemptionConfiguration); None, or -1: always.
    """

    attempts: int = 1
    rules: tuple[ExitRule, ...] = ()
    infrastructure_retries: int = INFRASTRUCTURE_RETRIES
    spot_attempts: int = 0
    preemption_retries_before_termination: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDefinition:
    """
    One revision of a template; only its status ever changes.

    Attributes:
        task: What a job of it runs; of type MULTINODE *nodes* say that.
        owner: The user who registered the first revision of its name; empty: the administrator.
        fence_s: Of its attempts; -1: never; 0: that of their queue.
    """

    name: str
    revision: int
    type: DefinitionType = DefinitionType.CONTAINER
    status: DefinitionStatus = DefinitionStatus.ACTIVE
    task: Task = NO_TASK
    nodes: Nodes | None = None
    parameters: Pairs = ()
    retry: RetryStrategy | None = None
    timeout_s: int = 0
    scheduling_priority: int | None = None
    consumables: Quantities = ()
    propagate_tags: bool = False
    tags: Pairs = ()
    platform_capabilities: tuple[str, ...] = ()
    annotations: Pairs = ()
    created_at_ms: int = 0
    owner: str = ""
    fence_s: int = 0

    @property
    def key(self) -> str:
        """``name:revision``."""
        return f"{self.name}:{self.revision}"


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True)
class JobSpec:
    """
    What all jobs of one kind share, resolved at submission; kept once in memory.

    Attributes:
        task: What each unit runs; nothing of a multi-node job, of which *nodes* say that.
        consumables: What each unit holds of consumable resources while it is active; of a multi-node job
            its main node, for all.
        definition_tags: Those of the definition, if they go on to the containers.
        submitted_by: By what it was submitted, in the caller's words, as the access key that signed.
        owner: The user who submitted it; empty: the administrator.
        platform_capabilities: Environments of which platforms may have it (AWS: platformCapabilities); empty: of any.
        fence_s: Of its attempts; -1: never; 0: that of their queue.
    """

    queue: str
    task: Task = NO_TASK
    nodes: Nodes | None = None
    definition: str = ""
    parameters: Pairs = ()
    retry: RetryStrategy = RetryStrategy()
    timeout_s: int = 0
    share_identifier: str = ""
    scheduling_priority: int | None = None
    consumables: Quantities = ()
    propagate_tags: bool = False
    tags: Pairs = ()
    definition_tags: Pairs = ()
    annotations: Pairs = ()
    submitted_by: str = ""
    owner: str = ""
    platform_capabilities: tuple[str, ...] = ()
    fence_s: int = 0

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What its units run, each kind once."""
        return (self.task,) if self.nodes is None else tuple(dict.fromkeys(group.task for group in self.nodes.groups))

    @property
    def resources(self) -> Resources:
        """What is placed at once: one unit, or all nodes together."""
        return self.task.resources if self.nodes is None else self.nodes.resources


class JobKind(StrEnum):
    """What a job's units are: itself, the children of an array, or the nodes of a multi-node job."""

    SINGLE = "SINGLE"
    ARRAY = "ARRAY"
    NODES = "NODES"


@dataclass(slots=True, kw_only=True)
class Job:
    """
    A job: one unit, or the parent of several, which runs nothing itself.

    Attributes:
        seq: Place in the order of all submissions; a retry keeps it.
        size: Children of an array, or nodes; 0 of a single job.
        concurrency: Most children that are RUNNABLE or active at once; 0 means no bound.
        values: Numbers and items of the children.
        max_fails: Once more of them have FAILED the rest is stopped; None: never.
        ending: Why it came to its final state; None until then.
        ended_at_ms: When, by the controller's clock; 0 until then.
        ended_after_ms: It surely ended no earlier, whatever clock dated its end; 0: than `ended_at_ms`.
        ended_boot_ms: When it ended, by the boot clock of the leader in whose term that was; None: in a former one.
            Never stored.
        started_at_ms: When the first child of an array ran; 0 until then. Units know by their attempts.
        is_cancelled: Someone cancelled it, or those of its children that waited.
        terminate_reason: Intent, not fact: set when someone asked to stop it.
        attempts: Ended tries of a single job; children keep theirs themselves.
        unmet: Whole jobs it still waits for; derived, not stored.
        children: Of an array, or nodes, packed; empty of a single job.
    """

    id: JobId
    name: str
    spec: JobSpec
    seq: int
    created_at_ms: int
    kind: JobKind = JobKind.SINGLE
    size: int = 0
    concurrency: int = 0
    values: ArrayValues = NO_VALUES
    max_fails: int | None = None
    depends_on: tuple[Dependency, ...] = ()
    request_id: str = ""
    state: JobState = JobState.SUBMITTED
    ending: Ending | None = None
    ended_at_ms: int = 0
    ended_after_ms: int = 0
    ended_boot_ms: int | None = None
    started_at_ms: int = 0
    is_cancelled: bool = False
    terminate_reason: str = ""
    attempts: tuple[EndedAttempt, ...] = ()
    unmet: int = 0
    children: Children = NO_CHILDREN

    def __post_init__(self) -> None:
        assert (self.kind is JobKind.SINGLE) == (self.size == 0), f"{self.id} is {self.kind} of {self.size}"
        assert (self.kind is JobKind.NODES) == (self.spec.nodes is not None), (
            f"{self.id} is {self.kind}, and its spec is not"
        )
        if self.size and self.children is NO_CHILDREN:
            self.children = Children(self.size, JobState.SUBMITTED)

    @property
    def aged_from_ms(self) -> int:
        """Since when it is history: its end, by the newest date that was known then."""
        return max(self.ended_at_ms, self.ended_after_ms)

    def note_ended_after(self, newest_ms: int) -> None:
        """Keep, at its end, the newest date that is known, where the clock is behind it."""
        self.ended_after_ms = newest_ms if newest_ms > self.ended_at_ms else 0
