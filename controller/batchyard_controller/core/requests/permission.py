"""
Permission: may this caller ask this, in the world as it is now?

Asked before admission, in the same turn, so that nothing changes in between. Laws: what
may not be read is not there, in the same words as what is not; and a refusal is told
before anything is looked up, or of something that may be read.
"""

from __future__ import annotations

from batchyard.errors import NotFoundError, PermissionDeniedError, Reason
from batchyard.ids import JobId
from batchyard_controller.core.access.roles import Kind, Principal, Thing, Verb, may
from batchyard_controller.core.access.things import access_key_thing, definition_thing, job_thing, secret_thing
from batchyard_controller.core.jobs.resolution import Submission
from batchyard_controller.core.model.dependencies import DependencyType
from batchyard_controller.core.model.jobs import JobDefinition
from batchyard_controller.core.model.secrets import AccessKey, StoredSecret
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.model.values import ResourceKind
from batchyard_controller.core.world.world import World

from .checks import quote
from .secrecy import no_such_access_key, no_such_secret
from .settings import no_such_definition
from .submissions import no_active_definition, no_such_dependency


def permit(caller: Principal, verb: Verb, thing: Thing) -> None:
    """
    Refuse what a caller may not do.

    Raises:
        PermissionDeniedError: they may not.
    """
    if not may(caller, verb, thing):
        where = f" in job queue {thing.queue}" if thing.queue and thing.kind is not Kind.QUEUE else ""
        raise denied(caller, f"{verb} {'a' if verb is Verb.CREATE else 'this'} {thing.kind}{where}")


def denied(caller: Principal, what: str) -> PermissionDeniedError:
    """Return the error that says what a caller may not do."""
    return PermissionDeniedError(f"{caller.name} may not {what}", reason=Reason.PERMISSION_DENIED)


def no_such_job(job_id: str) -> NotFoundError:
    """Return the error for a job that is not there, or not for the caller."""
    text = f"job {quote(job_id)} not found"
    return NotFoundError(text, reason=Reason.JOB_NOT_FOUND, metadata={"job_id": job_id})


def find_unit(world: World, caller: Principal, verb: Verb, job_id: str) -> Unit:
    """
    Return a job, a child or a node to which a caller may do this.

    Raises:
        NotFoundError: there is none of this id, or they may not read it.
        PermissionDeniedError: they may read it, and not do this.
    """
    unit = world.find(job_id)
    if unit is None or not may(caller, Verb.READ, job_thing(unit.job.spec)):
        raise no_such_job(job_id)
    permit(caller, verb, job_thing(unit.job.spec))
    return unit


def permit_submission(world: World, caller: Principal, submission: Submission) -> None:
    """
    Refuse a job that its sender may not submit, or that names what they may not use.

    Secrets are asked for at admission, by the owner and the queue that the job is to have.

    Raises:
        PermissionDeniedError: they may not submit to the queue.
        NotFoundError: a definition or a dependency is not for them.
    """
    permit(caller, Verb.CREATE, Thing(Kind.JOB, submission.queue, caller.user))
    if submission.definition:
        definition = world.find_definition(submission.definition)
        if definition is not None and not may(caller, Verb.USE, definition_thing(definition)):
            raise no_active_definition(submission.definition)
    for dependency in submission.depends_on:
        other = world.jobs.get(JobId(dependency.job_id))
        if (
            dependency.type is not DependencyType.SEQUENTIAL
            and other is not None
            and not may(caller, Verb.READ, job_thing(other.spec))
        ):
            raise no_such_dependency(dependency.job_id)


def permit_registration(world: World, caller: Principal, name: str) -> None:
    """
    Refuse a revision of a definition that is another's: a name belongs to who registered it first.

    Raises:
        PermissionDeniedError: they may not.
    """
    revisions = world.definitions.get(name, ())
    if revisions:
        permit(caller, Verb.CHANGE, definition_thing(revisions[0]))
    else:
        permit(caller, Verb.CREATE, Thing(Kind.DEFINITION, owner=caller.user))


def find_definition(world: World, caller: Principal, verb: Verb, key: str) -> JobDefinition:
    """
    Return a revision to which a caller may do this.

    Raises:
        NotFoundError: there is none, or they may not read it.
        PermissionDeniedError: they may read it, and not do this.
    """
    found = world.find_definition(key) if ":" in key else None
    if found is None or not may(caller, Verb.READ, definition_thing(found)):
        raise no_such_definition(key)
    permit(caller, verb, definition_thing(found))
    return found


def permit_put_secret(world: World, caller: Principal, name: str) -> None:
    """
    Refuse a new value of another's secret, or a new secret.

    Raises:
        PermissionDeniedError: they may not.
    """
    former = world.secrets.get(name)
    if former is None:
        permit(caller, Verb.CREATE, Thing(Kind.SECRET, owner=caller.user))
    else:
        permit(caller, Verb.CHANGE, secret_thing(former))


def find_secret(world: World, caller: Principal, verb: Verb, name: str) -> StoredSecret:
    """
    Return a secret, still sealed, to which a caller may do this.

    Raises:
        NotFoundError: there is none, or they may not read of it.
        PermissionDeniedError: they may read of it, and not do this.
    """
    found = world.secrets.get(name)
    if found is None or not may(caller, Verb.READ, secret_thing(found)):
        raise no_such_secret(name)
    permit(caller, verb, secret_thing(found))
    return found


def find_access_key(world: World, caller: Principal, verb: Verb, key_id: str) -> AccessKey:
    """
    Return an access key to which a caller may do this.

    Raises:
        NotFoundError: there is none, or they may not read of it.
        PermissionDeniedError: they may read of it, and not do this.
    """
    found = world.access_keys.get(key_id)
    if found is None or not may(caller, Verb.READ, access_key_thing(found)):
        raise no_such_access_key(key_id)
    permit(caller, verb, access_key_thing(found))
    return found


_KINDS = {
    ResourceKind.JOB_QUEUE: Kind.QUEUE,
    ResourceKind.QUOTA_SHARE: Kind.QUOTA_SHARE,
    ResourceKind.COMPUTE_ENVIRONMENT: Kind.ENVIRONMENT,
    ResourceKind.SCHEDULING_POLICY: Kind.POLICY,
    ResourceKind.CONSUMABLE_RESOURCE: Kind.CONSUMABLE,
}
"""What has no owner, so that its name alone says whether it may be asked for."""
_IN_QUEUES = (Kind.QUEUE, Kind.QUOTA_SHARE)


def permit_tagging(world: World, caller: Principal, verb: Verb, kind: ResourceKind, name: str) -> None:
    """
    Refuse to show or change the tags of what a caller may not read or change.

    Raises:
        NotFoundError: there is none, or they may not read it.
        PermissionDeniedError: they may not do this.
    """
    if kind is ResourceKind.JOB:
        find_unit(world, caller, verb, name)
    elif kind is ResourceKind.JOB_DEFINITION:
        find_definition(world, caller, verb, name)
    else:
        thing = _KINDS[kind]
        queue = name.partition("/")[0] if thing in _IN_QUEUES else ""
        permit(caller, Verb.READ, Thing(thing, queue))
        permit(caller, verb, Thing(thing, queue))
