"""
Policies: may this scheduling policy be made, changed or deleted, in the world as it is now?

Laws as in `submissions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from batchyard.errors import AlreadyExistsError, FailedPreconditionError, NotFoundError, Reason, Violation
from batchyard_controller.core import limits
from batchyard_controller.core.events import PolicyChanged, PolicyDeleted
from batchyard_controller.core.model.policies import SchedulingPolicy
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.world.world import World

from .checks import quote, refuse, require_room
from .names import merge_annotations
from .sharing_rules import check_policy


def create_policy(world: World, policy: SchedulingPolicy, now: Instant) -> PolicyChanged:
    """Admit a new scheduling policy."""
    if policy.name in world.policies:
        text = f"scheduling policy {policy.name} exists already"
        raise AlreadyExistsError(text, reason=Reason.SCHEDULING_POLICY_EXISTS, metadata={"name": policy.name})
    most = limits.SCHEDULING_POLICIES_MAX
    require_room(len(world.policies), most, "scheduling policies", Reason.TOO_MANY_SCHEDULING_POLICIES)
    return PolicyChanged(policy=replace(policy, created_at_ms=now.wall_ms))


def update_policy(world: World, name: str, changes: Mapping[str, Any]) -> PolicyChanged:
    """Admit *changes* of a policy, by the names of its fields; annotations are merged."""
    found = find_policy(world, name)
    kept = "quota_share" if found.quota_share is not None else "fairshare"
    for field in {"fairshare", "quota_share"} - {kept}:
        if field in changes:
            text = f"scheduling policy {name} was made with {kept}; its kind never changes"
            refuse([Violation(field, text, Reason.CONFLICT)])
    annotations = merge_annotations(found.annotations, changes.get("annotations", ()))
    changed = replace(found, **{**changes, "annotations": annotations})
    refuse(check_policy(changed))
    return PolicyChanged(policy=changed)


def find_policy(world: World, name: str) -> SchedulingPolicy:
    """Return a policy or raise NotFoundError."""
    found = world.policies.get(name)
    if found is None:
        text = f"scheduling policy {quote(name)} not found"
        raise NotFoundError(text, reason=Reason.SCHEDULING_POLICY_NOT_FOUND, metadata={"name": name})
    return found


def delete_policy(world: World, name: str) -> PolicyDeleted:
    """Admit the end of a policy that no queue uses (AWS: DeleteSchedulingPolicy)."""
    find_policy(world, name)
    users = [queue.name for queue in world.queues.values() if queue.scheduling_policy == name]
    if users:
        raise FailedPreconditionError(
            f"scheduling policy {name} is used by job queues: {', '.join(sorted(users)[:10])}",
            reason=Reason.SCHEDULING_POLICY_IN_USE,
            metadata={"name": name, "job_queue": min(users)},
        )
    return PolicyDeleted(name=name)
