"""
Consumables: may this consumable resource be made, changed or deleted, in the world as it is now?

Laws as in `submissions`.
"""

from __future__ import annotations

from dataclasses import replace

from batchyard.errors import AlreadyExistsError, FailedPreconditionError, NotFoundError, Reason, Violation
from batchyard_controller.core import limits
from batchyard_controller.core.events import ConsumableChanged, ConsumableDeleted
from batchyard_controller.core.model.consumables import (
    ConsumableOperation,
    ConsumableResource,
    ConsumableType,
    ConsumableUpdate,
    Quantities,
)
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.world.world import World

from .checks import quote, refuse, require_room


def create_consumable(world: World, resource: ConsumableResource, now: Instant) -> ConsumableChanged:
    """Admit a new consumable resource."""
    if resource.name in world.consumables:
        text = f"consumable resource {resource.name} exists already"
        raise AlreadyExistsError(text, reason=Reason.CONSUMABLE_RESOURCE_EXISTS, metadata={"name": resource.name})
    most = limits.CONSUMABLES_MAX
    require_room(len(world.consumables), most, "consumable resources", Reason.TOO_MANY_CONSUMABLE_RESOURCES)
    return ConsumableChanged(resource=replace(resource, created_at_ms=now.wall_ms))


def update_consumable(
    world: World, name: str, operation: ConsumableOperation, quantity: int, request_id: str, now: Instant
) -> ConsumableChanged | None:
    """
    Admit another quantity; None when the same request was carried out in the last eight hours.

    Raises:
        NotFoundError: there is no such resource.
        InvalidArgumentError: more is removed than there is, or more added than may be; or the
            request id was that of another change.
    """
    found = find_consumable(world, name)
    kept = tuple(u for u in found.updates if now.wall_ms - u.at_ms < limits.CONSUMABLE_UPDATE_MS)
    update = ConsumableUpdate(request_id=request_id, operation=operation, quantity=quantity, at_ms=now.wall_ms)
    if request_id:
        for former in kept:
            if former.request_id == request_id:
                _check_same(former, update)
                return None
        kept = (*kept, update)[-limits.CONSUMABLE_UPDATES_KEPT :]
    total = _new_total(world, found, operation, quantity)
    left, most = total - found.consumed, limits.CONSUMABLE_QUANTITY_MAX
    if not 0 <= left <= most:
        text = f"{operation} {quantity} would make the total {left}, which is not between 0 and {most}"
        refuse([Violation("quantity", text, Reason.OUT_OF_RANGE)])
    return ConsumableChanged(resource=replace(found, total=total, updates=kept))


def _check_same(former: ConsumableUpdate, update: ConsumableUpdate) -> None:
    if (former.operation, former.quantity) != (update.operation, update.quantity):
        text = f"{quote(update.request_id)} was the id of another request: {former.operation} {former.quantity}"
        refuse([Violation("request_id", text, Reason.CONFLICT)])


def _new_total(world: World, found: ConsumableResource, operation: ConsumableOperation, quantity: int) -> int:
    match operation:
        case ConsumableOperation.ADD:
            return found.total + quantity
        case ConsumableOperation.REMOVE:
            return found.total - quantity
        case ConsumableOperation.SET if found.type is ConsumableType.NON_REPLENISHABLE:
            # AWS: what is available from now on, beside what is in use and was consumed.
            return quantity + found.consumed + world.fleet.bounds.consumable_held(found.name)
        case _:
            return quantity


def find_consumable(world: World, name: str) -> ConsumableResource:
    """Return a consumable resource or raise NotFoundError."""
    found = world.consumables.get(name)
    if found is None:
        text = f"consumable resource {quote(name)} not found"
        raise NotFoundError(text, reason=Reason.CONSUMABLE_RESOURCE_NOT_FOUND, metadata={"name": name})
    return found


def require_consumables(world: World, quantities: Quantities) -> None:
    """
    Check that there is all that a job asks for.

    Raises:
        NotFoundError: naming the first that is not there.
    """
    for name, _ in quantities:
        find_consumable(world, name)


def delete_consumable(world: World, name: str) -> ConsumableDeleted:
    """Admit the end of a consumable resource that no job names which has not ended (ours: AWS says nothing)."""
    find_consumable(world, name)
    if name not in world.named.consumables:
        return ConsumableDeleted(name=name)
    job = next(j for j in world.all_jobs if not j.state.is_final and name in dict(j.spec.consumables))
    raise FailedPreconditionError(
        f"consumable resource {name} is asked for by job {job.id}, which has not ended",
        reason=Reason.CONSUMABLE_RESOURCE_IN_USE,
        metadata={"name": name, "job_id": job.id},
    )
