"""
The table: of every call of the contract what it does to what, and where that is asked.

It must never know a message: fields stand by their names. Law: a call without a row here
is served to nobody, and nothing starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from .roles import Kind, Principal, Thing, Verb, may, may_at_all


class Place(Enum):
    """Where it is asked whether a caller may."""

    DOOR = "door"
    """Before the handler, of the kind and the queue that the request names."""
    LIST = "list"
    """The same; who may not is shown nothing, as if nothing were there."""
    WORLD = "world"
    """In the turn that carries it out, as only there it is known whose the thing is."""
    FILTER = "filter"
    """Of each thing by itself, where things are shown; what may not be read is left out."""
    KNOWN = "known"
    """Nowhere: whoever is somebody may."""
    OPEN = "open"
    """Nowhere: it is asked by who is nobody yet, and proves by itself what it may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """
    One call.

    Attributes:
        kind: None: the request says it.
        queue: The field that names a queue; empty: it is of none.
        named: The field that names the thing, for the audit, by its path; several with blanks; empty: none does.
    """

    verb: Verb
    kind: Kind | None
    place: Place
    queue: str = ""
    named: str = ""

    @property
    def is_change(self) -> bool:
        """Whether it may change anything."""
        return self.verb in (Verb.CREATE, Verb.CHANGE)

    def thing(self, request: Any) -> Thing:
        """Return what a request is about, as far as the request alone says."""
        assert self.kind is not None, "only the world can tell"
        return Thing(self.kind, str(getattr(request, self.queue)) if self.queue else "")

    def admits(self, principal: Principal, request: Any) -> bool:
        """Say whether a caller gets as far as the handler with this request; of a stream there is none yet."""
        if self.place in (Place.DOOR, Place.LIST):
            return may(principal, self.verb, self.thing(request))
        if self.place is Place.WORLD and self.kind is not None:
            return may_at_all(principal, self.verb, self.kind)
        return True


def _row(verb: Verb, kind: Kind | None, place: Place, named: str = "", queue: str = "") -> Row:
    return Row(verb=verb, kind=kind, place=place, named=named, queue=queue)


def _settings(noun: str, plural: str, kind: Kind) -> dict[str, Row]:
    """Return the rows of settings that are of the whole yard and of nobody."""
    return {
        f"Create{noun}": _row(Verb.CREATE, kind, Place.DOOR, "name"),
        f"Describe{plural}": _row(Verb.READ, kind, Place.LIST),
        f"List{plural}": _row(Verb.READ, kind, Place.LIST),
        f"Update{noun}": _row(Verb.CHANGE, kind, Place.DOOR, "name"),
        f"Delete{noun}": _row(Verb.CHANGE, kind, Place.DOOR, "name"),
    }


_SERVICES: Mapping[str, Mapping[str, Row]] = {
    "JobService": {
        "SubmitJob": _row(Verb.CREATE, Kind.JOB, Place.WORLD, "queue"),
        "SubmitJobs": _row(Verb.CREATE, Kind.JOB, Place.WORLD),
        "DescribeJobs": _row(Verb.READ, Kind.JOB, Place.FILTER),
        "ListJobs": _row(Verb.READ, Kind.JOB, Place.FILTER),
        "GetArrayDigest": _row(Verb.READ, Kind.JOB, Place.WORLD, "job_id"),
        "CancelJob": _row(Verb.CHANGE, Kind.JOB, Place.WORLD, "job_id"),
        "UpdateJob": _row(Verb.CHANGE, Kind.JOB, Place.WORLD, "job_id"),
        "TerminateJob": _row(Verb.CHANGE, Kind.JOB, Place.WORLD, "job_id"),
        "WatchJobs": _row(Verb.READ, Kind.JOB, Place.FILTER),
        "ReadLogs": _row(Verb.READ_LOG, Kind.JOB, Place.WORLD, "job_id"),
        "EnterJob": _row(Verb.ENTER, Kind.JOB, Place.WORLD, "open.job_id open.container open.command.command"),
        "ExplainJob": _row(Verb.READ, Kind.JOB, Place.WORLD, "job_id"),
    },
    "JobQueueService": {
        "CreateJobQueue": _row(Verb.CREATE, Kind.QUEUE, Place.DOOR, "name", "name"),
        "DescribeJobQueues": _row(Verb.READ, Kind.QUEUE, Place.FILTER),
        "ListJobQueues": _row(Verb.READ, Kind.QUEUE, Place.FILTER),
        "GetJobQueueSnapshot": _row(Verb.READ, Kind.JOB, Place.DOOR, "name", "name"),
        "UpdateJobQueue": _row(Verb.CHANGE, Kind.QUEUE, Place.DOOR, "name", "name"),
        "DeleteJobQueue": _row(Verb.CHANGE, Kind.QUEUE, Place.DOOR, "name", "name"),
    },
    "QuotaShareService": {
        "CreateQuotaShare": _row(Verb.CREATE, Kind.QUOTA_SHARE, Place.DOOR, "name", "job_queue"),
        "DescribeQuotaShares": _row(Verb.READ, Kind.QUOTA_SHARE, Place.LIST, "", "job_queue"),
        "ListQuotaShares": _row(Verb.READ, Kind.QUOTA_SHARE, Place.LIST, "", "job_queue"),
        "UpdateQuotaShare": _row(Verb.CHANGE, Kind.QUOTA_SHARE, Place.DOOR, "name", "job_queue"),
        "DeleteQuotaShare": _row(Verb.CHANGE, Kind.QUOTA_SHARE, Place.DOOR, "name", "job_queue"),
    },
    "ComputeEnvironmentService": {
        **_settings("ComputeEnvironment", "ComputeEnvironments", Kind.ENVIRONMENT),
        "ListEnvironmentHosts": _row(Verb.READ, Kind.HOST, Place.LIST),
    },
    "SchedulingPolicyService": _settings("SchedulingPolicy", "SchedulingPolicies", Kind.POLICY),
    "ConsumableResourceService": _settings("ConsumableResource", "ConsumableResources", Kind.CONSUMABLE),
    "JobDefinitionService": {
        "RegisterJobDefinition": _row(Verb.CREATE, Kind.DEFINITION, Place.WORLD, "name"),
        "DescribeJobDefinitions": _row(Verb.READ, Kind.DEFINITION, Place.FILTER),
        "ListJobDefinitions": _row(Verb.READ, Kind.DEFINITION, Place.FILTER),
        "DeregisterJobDefinition": _row(Verb.CHANGE, Kind.DEFINITION, Place.WORLD, "job_definition"),
    },
    "HostService": {
        "ListHosts": _row(Verb.READ, Kind.HOST, Place.LIST),
        "SummarizeHosts": _row(Verb.READ, Kind.HOST, Place.LIST),
        "DescribeHost": _row(Verb.READ, Kind.HOST, Place.DOOR, "host"),
        "CordonHost": _row(Verb.CHANGE, Kind.HOST, Place.DOOR, "host"),
        "DrainHost": _row(Verb.CHANGE, Kind.HOST, Place.DOOR, "host"),
        "ReclaimHost": _row(Verb.CHANGE, Kind.HOST, Place.DOOR, "host"),
        "ApproveHost": _row(Verb.CHANGE, Kind.HOST, Place.DOOR, "host"),
        "RemoveHost": _row(Verb.CHANGE, Kind.HOST, Place.DOOR, "host"),
        "ReleaseBrake": _row(Verb.CHANGE, Kind.HOST, Place.DOOR),
        "DescribeRestore": _row(Verb.READ, Kind.HOST, Place.DOOR),
        "StopStray": _row(Verb.CHANGE, Kind.HOST, Place.DOOR, "attempt_id"),
    },
    "SecretService": {
        "PutSecret": _row(Verb.CREATE, Kind.SECRET, Place.WORLD, "name"),
        "ListSecrets": _row(Verb.READ, Kind.SECRET, Place.FILTER),
        "RekeySecrets": _row(Verb.CHANGE, Kind.SECRET, Place.DOOR),
        "DeleteSecret": _row(Verb.CHANGE, Kind.SECRET, Place.WORLD, "name"),
    },
    "AccessKeyService": {
        "CreateAccessKey": _row(Verb.CREATE, Kind.ACCESS_KEY, Place.WORLD, "owner"),
        "ListAccessKeys": _row(Verb.READ, Kind.ACCESS_KEY, Place.FILTER),
        "RotateAccessKey": _row(Verb.CHANGE, Kind.ACCESS_KEY, Place.WORLD, "id"),
        "RevokeAccessKey": _row(Verb.CHANGE, Kind.ACCESS_KEY, Place.WORLD, "id"),
        "DeriveSigningKey": _row(Verb.USE, Kind.SIGNING_KEY, Place.DOOR, "access_key_id"),
        "NoteSignature": _row(Verb.USE, Kind.SIGNING_KEY, Place.DOOR),
    },
    "TagService": {
        "TagResource": _row(Verb.CHANGE, None, Place.WORLD, "name"),
        "UntagResource": _row(Verb.CHANGE, None, Place.WORLD, "name"),
        "ListTags": _row(Verb.READ, None, Place.WORLD, "name"),
    },
    "EventService": {"ListEvents": _row(Verb.READ, Kind.JOB, Place.FILTER, "job_id")},
    "SinkService": {
        "CreateSink": _row(Verb.CREATE, Kind.SINK, Place.DOOR, "name"),
        "ListSinks": _row(Verb.READ, Kind.SINK, Place.DOOR),
        "UpdateSink": _row(Verb.CHANGE, Kind.SINK, Place.DOOR, "name"),
        "DeleteSink": _row(Verb.CHANGE, Kind.SINK, Place.DOOR, "name"),
        "PullEvents": _row(Verb.USE, Kind.SINK, Place.DOOR, "name"),
    },
    "UsageService": {"SumUsage": _row(Verb.READ, Kind.JOB, Place.FILTER)},
    "SearchService": {"Search": _row(Verb.READ, None, Place.FILTER)},
    "AccessService": {
        "GetLogin": _row(Verb.READ, None, Place.OPEN),
        "WhoAmI": _row(Verb.READ, None, Place.KNOWN),
        "BindRole": _row(Verb.CHANGE, None, Place.WORLD, "user"),
        "UnbindRole": _row(Verb.CHANGE, None, Place.WORLD, "user"),
        "ListBindings": _row(Verb.READ, Kind.BINDING, Place.FILTER),
        "CreateToken": _row(Verb.CREATE, Kind.TOKEN, Place.WORLD, "user"),
        "ListTokens": _row(Verb.READ, Kind.TOKEN, Place.FILTER),
        "RevokeToken": _row(Verb.CHANGE, Kind.TOKEN, Place.WORLD, "id"),
        "GetAuditHead": _row(Verb.READ, Kind.AUDIT, Place.DOOR),
    },
    "JoinTokenService": {
        "CreateJoinToken": _row(Verb.CREATE, Kind.JOIN_TOKEN, Place.DOOR, "host_name"),
        "ListJoinTokens": _row(Verb.READ, Kind.JOIN_TOKEN, Place.LIST),
        "RevokeJoinToken": _row(Verb.CHANGE, Kind.JOIN_TOKEN, Place.DOOR, "id"),
    },
    "JoinService": {
        "GetTrust": _row(Verb.READ, None, Place.OPEN),
        "Join": _row(Verb.CREATE, None, Place.OPEN, "name"),
    },
    "AgentService": {
        "Connect": _row(Verb.USE, Kind.SESSION, Place.DOOR, "hello.host_id"),
        "CarryEntry": _row(Verb.USE, Kind.SESSION, Place.DOOR),
        "RenewCertificate": _row(Verb.USE, Kind.SESSION, Place.DOOR),
    },
}

ROWS: Mapping[str, Row] = {
    f"/batchyard.v1.{service}/{method}": row for service, rows in _SERVICES.items() for method, row in rows.items()
}
"""By the path of the call."""


def require_rows(paths: Iterable[str]) -> None:
    """
    Refuse to serve calls of which nobody said who may make them, and rows of calls that are not there.

    Raises:
        TypeError: naming them.
    """
    served = set(paths)
    if served != ROWS.keys():
        without, over = sorted(served - ROWS.keys()), sorted(ROWS.keys() - served)
        raise TypeError(f"calls without a row in the table of access: {without}; rows without a call: {over}")
