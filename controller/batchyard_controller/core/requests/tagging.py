"""
Tagging: may a resource have these tags, in the world as it is now, and which has it then?

As in `submissions`, nothing is changed here: an event is returned, or a
`RequestError` raised that says what is wrong. Source: AWS Batch API reference,
TagResource, UntagResource, ListTagsForResource.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from batchyard.errors import InvalidArgumentError, NotFoundError, Reason, Violation
from batchyard.ids import JobId, split_job_id
from batchyard.pairs import Pairs
from batchyard_controller.core import limits
from batchyard_controller.core.events import (
    ConsumableChanged,
    DefinitionChanged,
    EnvironmentChanged,
    JobTagged,
    PolicyChanged,
    QueueChanged,
    QuotaShareChanged,
)
from batchyard_controller.core.jobs.resolution import merge
from batchyard_controller.core.model.consumables import ConsumableResource
from batchyard_controller.core.model.jobs import Job, JobDefinition
from batchyard_controller.core.model.policies import SchedulingPolicy
from batchyard_controller.core.model.quota_shares import QuotaShare
from batchyard_controller.core.model.settings import ComputeEnvironment, JobQueue
from batchyard_controller.core.model.values import ResourceKind
from batchyard_controller.core.world.world import World

from .checks import quote
from .consumables import find_consumable
from .policies import find_policy
from .quota_shares import find_quota_share
from .settings import find_environment, find_queue

Tagged = Job | JobQueue | JobDefinition | ComputeEnvironment | SchedulingPolicy | ConsumableResource | QuotaShare
TagEvent = (
    JobTagged
    | QueueChanged
    | DefinitionChanged
    | EnvironmentChanged
    | PolicyChanged
    | ConsumableChanged
    | QuotaShareChanged
)


def tag_resource(world: World, kind: ResourceKind, name: str, tags: Pairs) -> TagEvent | None:
    """
    Admit more tags; those of the same key are replaced. None when nothing changes.

    Raises:
        NotFoundError: there is no such resource.
        InvalidArgumentError: it would have too many, or is a child of an array.
    """
    found = find_tagged(world, kind, name)
    merged = merge(tags_of(found), tags)
    if len(merged) > limits.TAGS_MAX:
        text = f"{quote(name)} would have {len(merged)} tags; at most {limits.TAGS_MAX} are allowed"
        raise InvalidArgumentError.from_violations([Violation("tags", text, Reason.TOO_MANY)])
    return _changed(found, merged)


def untag_resource(world: World, kind: ResourceKind, name: str, keys: frozenset[str]) -> TagEvent | None:
    """
    Admit the removal of tags; None when none of them is there.

    Raises:
        NotFoundError: there is no such resource.
        InvalidArgumentError: it is a child of an array.
    """
    found = find_tagged(world, kind, name)
    return _changed(found, tuple((key, value) for key, value in tags_of(found) if key not in keys))


def find_tagged(world: World, kind: ResourceKind, name: str) -> Tagged:
    """
    Return what a kind and a name stand for.

    Raises:
        NotFoundError: there is no such resource.
        InvalidArgumentError: it is a child of an array, which has no tags of its own.
    """
    match kind:
        case ResourceKind.JOB:
            return _find_job(world, name)
        case ResourceKind.JOB_QUEUE:
            return find_queue(world, name)
        case ResourceKind.COMPUTE_ENVIRONMENT:
            return find_environment(world, name)
        case ResourceKind.SCHEDULING_POLICY:
            return find_policy(world, name)
        case ResourceKind.CONSUMABLE_RESOURCE:
            return find_consumable(world, name)
        case ResourceKind.QUOTA_SHARE:
            queue, _, share = name.partition("/")
            return find_quota_share(world, queue, share)
        case ResourceKind.JOB_DEFINITION:
            definition = world.find_definition(name)
            if definition is None:
                text = f"job definition {quote(name)} not found"
                raise NotFoundError(text, reason=Reason.JOB_DEFINITION_NOT_FOUND, metadata={"name": name})
            return definition
        case _:
            assert_never(kind)


def _find_job(world: World, name: str) -> Job:
    parent, _ = split_job_id(name)
    if parent != name:
        text = f"{quote(name)} is a child of an array; only the array {parent} has tags"
        raise InvalidArgumentError.from_violations([Violation("name", text, Reason.NOT_ALLOWED)])
    job = world.jobs.get(JobId(name))
    if job is None:
        text = f"job {quote(name)} not found"
        raise NotFoundError(text, reason=Reason.JOB_NOT_FOUND, metadata={"job_id": name})
    return job


def tags_of(found: Tagged) -> Pairs:
    """Return the tags that a resource has."""
    return found.spec.tags if isinstance(found, Job) else found.tags


def _changed(found: Tagged, tags: Pairs) -> TagEvent | None:
    if tags == tags_of(found):
        return None
    match found:
        case Job():
            return JobTagged(job_id=found.id, tags=tags)
        case JobQueue():
            return QueueChanged(queue=replace(found, tags=tags))
        case JobDefinition():
            return DefinitionChanged(definition=replace(found, tags=tags))
        case ComputeEnvironment():
            return EnvironmentChanged(environment=replace(found, tags=tags))
        case SchedulingPolicy():
            return PolicyChanged(policy=replace(found, tags=tags))
        case ConsumableResource():
            return ConsumableChanged(resource=replace(found, tags=tags))
        case QuotaShare():
            return QuotaShareChanged(share=replace(found, tags=tags))
        case _:
            assert_never(found)
