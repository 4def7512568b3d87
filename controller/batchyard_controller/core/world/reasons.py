"""
Reasons: what stands against those who wait, as the plans found it.

Amounts are those of the moment; what kept somebody from room that there was is what the
last plan said that asked. Law: after a plan that has asked everybody, whoever waits
is told something that stands against it.
"""

from __future__ import annotations

from dataclasses import replace

from batchyard.ids import unit_id
from batchyard_controller.core.model.settings import DispatchOrder, JobQueue, ResourceState
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.model.values import utc
from batchyard_controller.core.placement.explain import ROOM, explain, explain_line
from batchyard_controller.core.placement.line import Line, Shape
from batchyard_controller.core.placement.refusals import Block, HeldBack, Refusal
from batchyard_controller.core.placement.reservations import Reservation
from batchyard_controller.core.scaling.outlook import outlook

from .order import first_of
from .waiting import shape_of
from .world import World

RESERVATION, KEPT, SHARE_RESERVATION, ORDER = "reservation", "kept", "share_reservation", "order"
"""Kinds of refusals."""
_HOSTS_SHOWN = 10


def explain_waiting(world: World, shape: Shape, queue: JobQueue) -> tuple[Refusal, ...]:
    """
    Say why those of a shape wait: what is launched for them, or why nothing is, and what stands against placing them.

    A host that can be launched is capacity that is missing, whatever hosts there are now.
    """
    environments, line = world.environments_of(queue), world.lines.find(shape)
    if line is not None:
        refusals = explain_line(line, environments, world.fleet)
        refusals = _with_first(refusals, _held_back(world, line))
    else:
        refusals = explain(shape, environments, world.fleet)
    launching = outlook(shape, environments, world.launches.values(), world.scaling)
    if not launching:
        return refusals
    has_others = any(not e.has_provider for e in environments if e.state is ResourceState.ENABLED)
    blocks = [refusal.block for refusal in (*launching, *(refusals if has_others else ()))]
    block = Block.NO_CAPACITY if Block.NO_CAPACITY in blocks else blocks[0]
    return tuple(replace(refusal, block=block) for refusal in (*launching, *refusals))


def explain_unit(world: World, unit: Unit, queue: JobQueue) -> tuple[Refusal, ...]:
    """Say why a unit, the next child of an array, or all nodes of a job, wait: as `explain_waiting`, and what holds for it alone."""
    shape = shape_of(world, unit)
    refusals = explain_waiting(world, shape, queue)
    own = reservation_of(world, unit)
    if own is not None and not any(refusal.kind == ROOM for refusal in refusals):
        return (*refusals, Refusal(kind=RESERVATION, message=_own_text(world, own), block=refusals[0].block))
    first = first_of(world, queue.name) if queue.dispatch_order is DispatchOrder.STRICT else None
    if first is not None and not _is_of(first[1], unit):
        text = f"queue {queue.name} starts nobody before {first[1].waits_as}, which comes first and waits"
        return _with_first(refusals, Refusal(kind=ORDER, message=text))
    return refusals


def reservation_of(world: World, unit: Unit) -> Reservation | None:
    """Return what a unit, or any child of an array, was promised, if its host still takes work."""
    for reservation in world.reservations:
        is_of_all = unit.is_parent or unit.is_node
        if reservation.job_id == unit.job.id and (is_of_all or reservation.index == unit.index):
            row = world.fleet.rows.get(reservation.host_id)
            return reservation if row is not None and world.fleet.usable[row] else None
    return None


def starts_at_ms(world: World, reservation: Reservation) -> int:
    """Return when whoever was promised a host starts there at the latest, as far as is known (wall clock)."""
    at = world.planned_at
    return at.wall_ms + max(0, reservation.starts_ms - at.boot_ms)


def _is_of(first: Unit, unit: Unit) -> bool:
    return first.job is unit.job and (unit.is_parent or unit.is_node or first.index == unit.index)


def _with_first(refusals: tuple[Refusal, ...], first: Refusal | None) -> tuple[Refusal, ...]:
    """Put what keeps somebody from room before what else is said, which is not that there is room."""
    if first is None:
        return refusals
    others = [refusal for refusal in refusals if refusal.kind != ROOM]
    return (replace(first, block=refusals[0].block), *others)


def _held_back(world: World, line: Line) -> Refusal | None:
    """Say what kept the first of a line from room when it was asked last; nothing if that holds no more."""
    held_back = line.held_back
    if held_back is None or line.refused_at != world.fleet.grown:
        return None
    if held_back.job_id is None:
        text = (
            "what is free is kept for shares without jobs, by the computeReservation of the queue's scheduling policy"
        )
        return Refusal(kind=SHARE_RESERVATION, message=text)
    for reservation in world.reservations:
        if reservation.is_for(held_back.job_id, held_back.index):
            return Refusal(kind=KEPT, message=_kept_text(world, reservation, held_back))
    return None


def _kept_text(world: World, reservation: Reservation, held_back: HeldBack) -> str:
    holder = reservation.job_id if reservation.shape.parts else unit_id(reservation.job_id, reservation.index)
    if held_back.is_bound:
        what = f"compute environment {reservation.environment} has vCPUs left within its bound, but they are"
    else:
        what = f"host {_host_name(world, reservation)} has room, but is"
    until = f"until about {utc(starts_at_ms(world, reservation))}"
    why = (
        "it would not have ended by then"
        if reservation.is_patient(world.planned_at.boot_ms)
        else "that was expected sooner, so nobody passes any more"
    )
    return f"{what} kept for {holder} {until}, and {why}"


def _own_text(world: World, reservation: Reservation) -> str:
    hosts = [_host_name(world, r) for r in world.reservations if r.is_for(reservation.job_id, reservation.index)]
    until = utc(starts_at_ms(world, reservation))
    if len(hosts) > 1:
        shown = ", ".join(hosts[:_HOSTS_SHOWN]) + (
            f" and {len(hosts) - _HOSTS_SHOWN} more" * (len(hosts) > _HOSTS_SHOWN)
        )
        return f"hosts {shown} are kept for it from about {until}"
    return f"host {hosts[0]} is kept for it from about {until}"


def _host_name(world: World, reservation: Reservation) -> str:
    row = world.fleet.rows.get(reservation.host_id)
    return world.fleet.facts[row].name if row is not None else reservation.host_id
