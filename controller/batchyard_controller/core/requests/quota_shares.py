"""
Quota shares: may this quota share be made, changed or deleted, in the world as it is now?

Laws as in `submissions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from batchyard.errors import AlreadyExistsError, FailedPreconditionError, NotFoundError, Reason, Violation
from batchyard_controller.core import limits
from batchyard_controller.core.events import QuotaShareChanged, QuotaShareDeleted
from batchyard_controller.core.model.quota_shares import GPU, MEMORY_MIB, VCPU, QuotaShare, SharingStrategy, share_id
from batchyard_controller.core.model.settings import JobQueue, ResourceState
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.world.world import World

from .checks import Violations, check_range, check_text, quote, refuse, require_room
from .names import check_name, check_tags
from .settings import find_queue

_AMOUNTS = (VCPU, MEMORY_MIB, GPU)


def check_quota_share(share: QuotaShare) -> Violations:
    """Return everything that is wrong with a quota share by itself (AWS: CreateQuotaShare)."""
    out: Violations = []
    check_name(out, "name", share.name)
    at, number, most = "capacity_limits", len(share.capacity_limits), limits.CAPACITY_LIMITS_MAX
    if not 1 <= number <= most:
        reason = Reason.TOO_MANY if number else Reason.REQUIRED
        out.append(Violation(at, f"{number} capacity limits; 1 to {most} are allowed", reason))
    units = set()
    for i, limit in enumerate(share.capacity_limits[:most]):
        if not limit.capacity_unit:
            out.append(Violation(f"{at}[{i}].capacity_unit", "a unit of capacity is required", Reason.REQUIRED))
        check_text(out, f"{at}[{i}].capacity_unit", limit.capacity_unit, limits.INSTANCE_TYPE_LENGTH_MAX)
        check_range(out, f"{at}[{i}].max_capacity", limit.max_capacity, 1, limits.INT32_MAX)
        if limit.capacity_unit in units:
            text = f"{quote(limit.capacity_unit)} has a limit already"
            out.append(Violation(f"{at}[{i}].capacity_unit", text, Reason.DUPLICATE))
        units.add(limit.capacity_unit)
    check_range(out, "borrow_limit", share.borrow_limit, -1, limits.BORROW_LIMIT_MAX, "%")
    if share.borrow_limit != -1 and share.sharing_strategy is not SharingStrategy.LEND_AND_BORROW:
        text = f"is only for the strategy {SharingStrategy.LEND_AND_BORROW}, not {share.sharing_strategy}"
        out.append(Violation("borrow_limit", text, Reason.CONFLICT))
    check_tags(out, share.tags)
    return out


def create_quota_share(world: World, share: QuotaShare, now: Instant) -> QuotaShareChanged:
    """Admit a new quota share of a queue whose policy has quota shares."""
    queue = find_quota_queue(world, share.job_queue)
    if share.id in world.quota_shares:
        text = f"quota share {share.name} of job queue {queue.name} exists already"
        raise AlreadyExistsError(text, reason=Reason.QUOTA_SHARE_EXISTS, metadata=_named(share))
    number, most = len(world.shares_of(queue.name)), limits.QUOTA_SHARES_PER_QUEUE_MAX
    require_room(number, most, f"quota shares of job queue {queue.name}", Reason.TOO_MANY_QUOTA_SHARES)
    _check_units(world, share, {})
    return QuotaShareChanged(share=replace(share, created_at_ms=now.wall_ms))


def update_quota_share(world: World, job_queue: str, name: str, changes: Mapping[str, Any]) -> QuotaShareChanged:
    """Admit *changes* of a quota share, by the names of its fields."""
    found = find_quota_share(world, job_queue, name)
    changed = replace(found, **changes)
    if "borrow_limit" not in changes and changed.sharing_strategy is not SharingStrategy.LEND_AND_BORROW:
        changed = replace(changed, borrow_limit=-1)
    refuse(check_quota_share(changed))
    _check_units(world, changed, {limit.capacity_unit for limit in found.capacity_limits})
    return QuotaShareChanged(share=changed)


def _check_units(world: World, share: QuotaShare, known: set[str] | Mapping[str, Any]) -> None:
    """Refuse what is neither an amount nor a type that a host has, a provider offers or an environment names: jobs would wait for ever."""
    out: Violations = []
    for i, limit in enumerate(share.capacity_limits):
        unit = limit.capacity_unit
        if unit not in _AMOUNTS and unit not in known and not _is_host_type(world, unit):
            text = f"{quote(unit)} is none of {', '.join(_AMOUNTS)}, and no host type that is known here"
            out.append(Violation(f"capacity_limits[{i}].capacity_unit", text, Reason.UNKNOWN_VALUE))
    refuse(out)


def _is_host_type(world: World, name: str) -> bool:
    return (
        any(host.record.facts.host_type == name for host in world.hosts.values())
        or any(name in catalogue.types for catalogue in world.scaling.catalogues.values())
        or any(name in environment.compute_resources.instance_types for environment in world.environments.values())
    )


def find_quota_queue(world: World, name: str) -> JobQueue:
    """
    Return a queue whose policy has quota shares.

    Raises:
        NotFoundError: there is no such queue.
        FailedPreconditionError: it has another policy, or none.
    """
    queue = find_queue(world, name)
    if not world.has_quota_shares(queue):
        text = f"job queue {queue.name} has no scheduling policy with quota shares"
        raise FailedPreconditionError(text, reason=Reason.JOB_QUEUE_WITHOUT_QUOTA, metadata={"name": queue.name})
    return queue


def find_quota_share(world: World, job_queue: str, name: str) -> QuotaShare:
    """Return a quota share or raise NotFoundError."""
    found = world.quota_shares.get(share_id(job_queue, name))
    if found is None:
        text = f"quota share {quote(name)} of job queue {quote(job_queue)} not found"
        metadata = {"name": name, "job_queue": job_queue}
        raise NotFoundError(text, reason=Reason.QUOTA_SHARE_NOT_FOUND, metadata=metadata)
    return found


def delete_quota_share(world: World, job_queue: str, name: str) -> QuotaShareDeleted:
    """Admit the end of a DISABLED quota share and of its jobs (AWS: DeleteQuotaShare)."""
    found = find_quota_share(world, job_queue, name)
    if found.state is not ResourceState.DISABLED:
        text = f"quota share {name} of job queue {job_queue} is ENABLED; disable it before you delete it"
        raise FailedPreconditionError(text, reason=Reason.QUOTA_SHARE_ENABLED, metadata=_named(found))
    return QuotaShareDeleted(share=found)


def require_quota_share(world: World, queue: JobQueue, name: str) -> None:
    """
    Check that a job may be submitted to a share of a queue with quota shares.

    Raises:
        NotFoundError: there is no such share.
        FailedPreconditionError: it is DISABLED.
    """
    found = find_quota_share(world, queue.name, name)
    if found.state is not ResourceState.ENABLED:
        text = f"quota share {name} of job queue {queue.name} is DISABLED and takes no new jobs"
        raise FailedPreconditionError(text, reason=Reason.QUOTA_SHARE_DISABLED, metadata=_named(found))


def _named(share: QuotaShare) -> dict[str, str]:
    return {"name": share.name, "job_queue": share.job_queue}
