"""
Roles: what each may do, and the one question that everything else asks: may they?

Deny by default: what no rule gives is not allowed, and a name is compared whole, never by
its beginning. It must never know a world: whoever asks says of which queue a thing is, and
whose. Law: getting, listing, watching, searching, explaining and reading the log of a thing
are each answered by `may`, so that they agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import TypeAlias

from batchyard_controller.core.model.identities import ADMINISTRATOR, Role


class Verb(StrEnum):
    """What is done to a thing."""

    READ = "read"
    READ_LOG = "read the log of"
    CREATE = "create"
    CHANGE = "change"
    USE = "use"
    """A secret or a definition, by a job; for the gateway: keys that sign."""
    ENTER = "run a command in"
    """What runs there runs as the job's owner, with what that may, so it is for the owner."""


class Kind(StrEnum):
    """What it is done to."""

    JOB = "job"
    QUEUE = "job queue"
    COUNTS = "counts of jobs"
    QUOTA_SHARE = "quota share"
    DEFINITION = "job definition"
    SECRET = "secret"  # noqa: S105  # a word
    ENVIRONMENT = "compute environment"
    POLICY = "scheduling policy"
    CONSUMABLE = "consumable resource"
    HOST = "host"
    BINDING = "role binding"
    TOKEN = "token"  # noqa: S105  # a word
    ACCESS_KEY = "access key"
    SIGNING_KEY = "signing key"
    AUDIT = "audit log"
    JOIN_TOKEN = "join token"  # noqa: S105  # a word
    SESSION = "session of a host"
    METRICS = "metrics"
    SINK = "sink"


@dataclass(frozen=True, slots=True)
class Thing:
    """
    What is asked about.

    Attributes:
        queue: Of a job, of counts, a queue or a quota share.
        owner: Whose it is; empty: the administrator's, or that of nobody one may be.
    """

    kind: Kind
    queue: str = ""
    owner: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A role, in one queue or (empty) in the whole yard."""

    role: Role
    queue: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """
    Who calls, and what they are.

    Attributes:
        user: Their name; empty of the administrator, and of what is no user.
        is_administrator: They may do all.
        via: What they proved it by, as ``token 0f…``, for the audit and for people.
        host_id: Of an agent, the host of its certificate.
    """

    user: str = ""
    grants: tuple[Grant, ...] = ()
    is_administrator: bool = False
    via: str = ""
    host_id: str = ""

    @property
    def name(self) -> str:
        """What they are called."""
        return ADMINISTRATOR if self.is_administrator else self.user or self.via

    def has(self, role: Role) -> bool:
        """Say whether they are bound to a role in the whole yard."""
        return any(grant.role is role and not grant.queue for grant in self.grants)


THE_ADMINISTRATOR = Principal(is_administrator=True, via="socket")
"""Who reaches the controller's own socket."""


class Reach(Enum):
    """How far a right goes."""

    OWN = "own"
    OWN_OR_YARDS = "own, or the administrator's"
    ANY = "any"


_Rights: TypeAlias = Mapping[tuple[Verb, Kind], Reach]
_OWNED = frozenset({Kind.DEFINITION, Kind.SECRET, Kind.TOKEN, Kind.ACCESS_KEY})
"""What has an owner and is of no queue: one's own is one's own wherever the role counts."""


def _rights(*rows: tuple[Reach, str, tuple[Kind, ...]]) -> _Rights:
    return {(Verb[word], kind): reach for reach, verbs, kinds in rows for word in verbs.split() for kind in kinds}


_SETTINGS = (Kind.ENVIRONMENT, Kind.POLICY, Kind.CONSUMABLE)
_IN_QUEUES = (Kind.QUEUE, Kind.QUOTA_SHARE)
_CREDENTIALS = (Kind.TOKEN, Kind.ACCESS_KEY)
_OWN_CREDENTIALS = (Reach.OWN, "READ CHANGE", _CREDENTIALS)
"""Each may see and revoke what stands for them."""
_SUBMITS = (
    (Reach.OWN, "READ READ_LOG CHANGE ENTER", (Kind.JOB,)),
    (Reach.OWN, "CREATE CHANGE", (Kind.DEFINITION,)),
    (Reach.OWN_OR_YARDS, "READ USE", (Kind.DEFINITION,)),
    (Reach.OWN, "READ CREATE CHANGE USE", (Kind.SECRET,)),
    _OWN_CREDENTIALS,
)

RIGHTS: Mapping[Role, _Rights] = {
    Role.VIEWER: _rights(
        (Reach.ANY, "READ", (Kind.JOB, Kind.COUNTS, *_IN_QUEUES, Kind.DEFINITION, Kind.HOST, *_SETTINGS)),
        (Reach.OWN, "READ_LOG", (Kind.JOB,)),
        _OWN_CREDENTIALS,
    ),
    Role.SUBMITTER: _rights((Reach.ANY, "READ", _IN_QUEUES), (Reach.OWN, "CREATE", (Kind.JOB,)), *_SUBMITS),
    Role.QUEUE_ADMIN: _rights(
        *_SUBMITS,
        (Reach.ANY, "READ READ_LOG CREATE CHANGE", (Kind.JOB,)),
        (Reach.ANY, "READ", (Kind.COUNTS, *_IN_QUEUES)),
        (Reach.ANY, "CREATE CHANGE", (Kind.QUOTA_SHARE,)),
        (Reach.ANY, "READ", (Kind.BINDING,)),
    ),
    Role.OPERATOR: _rights(
        (Reach.ANY, "READ CHANGE", (Kind.JOB,)),
        (Reach.ANY, "READ", (Kind.COUNTS,)),
        (Reach.ANY, "READ CREATE CHANGE", (*_IN_QUEUES, *_SETTINGS)),
        (Reach.ANY, "READ CHANGE", (Kind.HOST,)),
        (Reach.ANY, "READ CREATE CHANGE", (Kind.JOIN_TOKEN,)),
        (Reach.ANY, "READ", (Kind.DEFINITION,)),
        _OWN_CREDENTIALS,
    ),
    Role.SECURITY_ADMIN: _rights(
        (Reach.ANY, "READ CREATE CHANGE", (Kind.BINDING, Kind.SECRET, *_CREDENTIALS)),
        (Reach.ANY, "READ", (Kind.AUDIT,)),
    ),
    Role.AGENT: _rights((Reach.ANY, "USE", (Kind.SESSION,))),
    Role.GATEWAY: _rights(
        (Reach.ANY, "USE", (Kind.SIGNING_KEY,)),
        (Reach.ANY, "READ", (Kind.QUEUE, Kind.COUNTS, Kind.HOST)),  # of which its console keeps figures
    ),
    Role.RELAY: _rights((Reach.ANY, "READ USE", (Kind.SINK,)), (Reach.ANY, "READ", (Kind.JOB,))),
    Role.METRICS: _rights((Reach.ANY, "READ", (Kind.METRICS,))),
}
"""Of each role what it may do; all that stands nowhere here is denied."""


def may(principal: Principal, verb: Verb, thing: Thing) -> bool:
    """Say whether a principal may do this to that: the only place that decides it."""
    if principal.is_administrator:
        return True
    return any(_gives(grant, principal.user, verb, thing) for grant in principal.grants)


def _gives(grant: Grant, user: str, verb: Verb, thing: Thing) -> bool:
    reach = RIGHTS[grant.role].get((verb, thing.kind))
    if reach is None:
        return False
    is_own = bool(user) and thing.owner == user
    if reach is not Reach.ANY and thing.kind in _OWNED:
        return is_own or (reach is Reach.OWN_OR_YARDS and not thing.owner)
    if grant.queue and grant.queue != thing.queue:
        return False  # of what is of no queue too: a role in a queue gives nothing of the yard
    return reach is Reach.ANY or is_own


def may_at_all(principal: Principal, verb: Verb, kind: Kind) -> bool:
    """Say whether there could be anything of a kind to which a principal may do this."""
    return principal.is_administrator or any((verb, kind) in RIGHTS[grant.role] for grant in principal.grants)


_DELEGATED = frozenset({Role.VIEWER, Role.SUBMITTER})


def may_bind(principal: Principal, role: Role, queue: str) -> bool:
    """
    Say whether a principal may give, or take, a role in a queue (empty: in the yard).

    Nobody gives more than they hold (Slurm, CVE-2025-43904): a queue's administrators give what is
    less than theirs, in their queue. A security administrator gives all; that it can so make itself
    what it likes is why each binding stands in the audit log.
    """
    if may(principal, Verb.CHANGE, Thing(Kind.BINDING)):
        return True
    return role in _DELEGATED and any(
        grant.role is Role.QUEUE_ADMIN and grant.queue in ("", queue) for grant in principal.grants
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """
    Whose jobs a principal may read, for who walks through many: asked of `may`, never apart from it.

    Attributes:
        is_all: All there are.
        queues: All of these queues, by name, if not.
        user: Besides, one's own; empty: none of their own.
    """

    is_all: bool
    queues: frozenset[str] = frozenset()
    user: str = ""


def scope_of(principal: Principal) -> Scope:
    """Return where the jobs are that a principal may read; each is still asked about."""
    if may(principal, Verb.READ, Thing(Kind.JOB)):
        return Scope(is_all=True)
    queues = {grant.queue for grant in principal.grants if grant.queue}
    read = frozenset(queue for queue in queues if may(principal, Verb.READ, Thing(Kind.JOB, queue=queue)))
    return Scope(is_all=False, queues=read, user=principal.user)
