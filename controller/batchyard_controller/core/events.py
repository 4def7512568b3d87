"""
Events: facts that have happened, the only input of the reactor.

Past tense, never rejected. What a user asks for becomes one only once `requests` has found nothing wrong with it.
"""

from __future__ import annotations

from dataclasses import dataclass

from batchyard.ids import AttemptId, HostId, JobId, LaunchId
from batchyard.pairs import Pairs
from batchyard.resources import NOTHING, Resources
from batchyard_controller.core.attempt_reports import Report
from batchyard_controller.core.model.consumables import ConsumableResource
from batchyard_controller.core.model.enrolment import JoinToken, Member
from batchyard_controller.core.model.hosts import HostFacts
from batchyard_controller.core.model.identities import Binding, Token
from batchyard_controller.core.model.jobs import Job, JobDefinition
from batchyard_controller.core.model.policies import SchedulingPolicy
from batchyard_controller.core.model.quota_shares import QuotaShare
from batchyard_controller.core.model.room import Room
from batchyard_controller.core.model.secrets import AccessKey, StoredSecret
from batchyard_controller.core.model.settings import ComputeEnvironment, JobQueue
from batchyard_controller.core.model.sinks import Sink
from batchyard_controller.core.placement.plan import Plan
from batchyard_controller.core.scaling.orders import Operation


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSubmitted:
    """
    A job was accepted, perhaps only to end FAILED at once for its tags (AWS). Its ``seq`` is set when this is applied.

    Attributes:
        recalled: Archived jobs that it waits for.
    """

    job: Job
    has_too_many_tags: bool = False
    recalled: tuple[Job, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsArchived:
    """Jobs that have ended are in the archive, as they are."""

    jobs: tuple[Job, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTagged:
    """Someone changed a job's tags; these are all it has now."""

    job_id: JobId
    tags: Pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPriorityChanged:
    """Someone changed the scheduling priority of a job, or of all children of an array."""

    job_id: JobId
    scheduling_priority: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCancelled:
    """Someone asked to cancel a job, all children of an array, or one child."""

    job_id: JobId
    index: int | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTerminated:
    """Someone asked to stop a job, all children of an array, or one child."""

    job_id: JobId
    index: int | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostJoined:
    """
    An agent opened a session and said all that it keeps.

    Attributes:
        by: Who has proved that they may; None on the controller's own machine.
        run, nonce: Number and nonce of the agent's run.
    """

    host_id: HostId
    facts: HostFacts
    session: int
    machine_id: str = ""
    by: HostId | None = None
    run: int = 0
    nonce: str = ""
    reports: tuple[Report, ...] = ()
    reserved: Resources = NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLeft:
    """A session ended. An event of a session that was replaced means nothing."""

    host_id: HostId
    session: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HostHeard:
    """
    A heartbeat came, in a session (0: unknown), with facts when the host has changed.

    Attributes:
        wall_ms: What its clock showed; 0 when it did not say.
        reserved: What others than this yard hold of it.
    """

    host_id: HostId
    session: int = 0
    facts: HostFacts | None = None
    wall_ms: int = 0
    reserved: Resources = NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class HostMarked:
    """An operator cordoned, drained or freed a host."""

    host_id: HostId
    cordoned: bool
    draining: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HostReclaimed:
    """An operator said when a host is taken away, by the controller's wall clock; 0: that it is not."""

    host_id: HostId
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HostApproved:
    """An operator approved what a host says of itself."""

    host_id: HostId


@dataclass(frozen=True, slots=True, kw_only=True)
class BrakeReleased:
    """An operator said that hosts that are silent are not to be waited for beyond their fences."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRemoved:
    """An operator said that a host is gone for good, and that nothing runs there any more."""

    host_id: HostId


@dataclass(frozen=True, slots=True, kw_only=True)
class StrayStopped:
    """An operator asked to stop an attempt that a host keeps and that is nobody's, as after a restore."""

    host_id: HostId
    attempt_id: AttemptId


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptsReported:
    """A host reported on attempts; *is_all*: with these it has told all that it knows of the past, as it was asked."""

    host_id: HostId
    reports: tuple[Report, ...]
    is_all: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentChanged:
    """A compute environment was created or updated."""

    environment: ComputeEnvironment


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentDeleted:
    """A compute environment was deleted."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueChanged:
    """A job queue was created or updated."""

    queue: JobQueue


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDeleted:
    """A job queue was deleted; its jobs end."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyChanged:
    """A scheduling policy was created or updated."""

    policy: SchedulingPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyDeleted:
    """A scheduling policy was deleted that no queue names."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaShareChanged:
    """A quota share was created or updated."""

    share: QuotaShare


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaShareDeleted:
    """A quota share was deleted; its jobs end."""

    share: QuotaShare


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumableChanged:
    """A consumable resource was created or updated."""

    resource: ConsumableResource


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumableDeleted:
    """A consumable resource was deleted that no job names."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DefinitionChanged:
    """A revision was registered or deregistered."""

    definition: JobDefinition


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedChanged:
    """Secrets, access keys or sinks were made or changed, or deleted and revoked for ever."""

    kept: tuple[StoredSecret | AccessKey | Sink, ...] = ()
    dropped: tuple[StoredSecret | AccessKey | Sink, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleChanged:
    """A user was given a role, or it was taken from them."""

    binding: Binding
    is_bound: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenChanged:
    """A token was made, or revoked for ever."""

    token: Token
    is_made: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinTokenCreated:
    """A token was made with which hosts may join."""

    join_token: JoinToken


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinTokenRevoked:
    """Nobody joins with a token any more."""

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostEnrolled:
    """A host has joined, with a token that is now as *join_token*; without uses left it is gone."""

    member: Member
    join_token: JoinToken


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan was made of the world as it is."""

    plan: Plan
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderAnswered:
    """A provider has done what it was asked, or could not: *error* says why."""

    launch_id: LaunchId
    operation: Operation
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderListed:
    """A provider said which launches there are; *missing* it had launched before it was asked, and they are not there."""

    missing: frozenset[LaunchId]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontAsked:
    """Somebody asked who stands first in a queue."""

    queue: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticked:
    """Time has passed, *late_ms* more than should between two ticks, when nobody was heard; *room* is the store's."""

    late_ms: int = 0
    room: Room | None = None


Event = (
    JobSubmitted
    | JobTagged
    | JobPriorityChanged
    | JobCancelled
    | JobTerminated
    | JobsArchived
    | HostJoined
    | HostLeft
    | HostHeard
    | HostMarked
    | HostReclaimed
    | HostApproved
    | HostRemoved
    | BrakeReleased
    | StrayStopped
    | AttemptsReported
    | EnvironmentChanged
    | EnvironmentDeleted
    | QueueChanged
    | QueueDeleted
    | PolicyChanged
    | PolicyDeleted
    | QuotaShareChanged
    | QuotaShareDeleted
    | ConsumableChanged
    | ConsumableDeleted
    | DefinitionChanged
    | SealedChanged
    | RoleChanged
    | TokenChanged
    | JoinTokenCreated
    | JoinTokenRevoked
    | HostEnrolled
    | Planned
    | ProviderAnswered
    | ProviderListed
    | FrontAsked
    | Ticked
)
