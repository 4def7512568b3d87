"""Promise keeping: what became of the reservations of one plan in the next: estimate against truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement.plan import Plan
from batchyard_controller.core.placement.reservations import Reservation
from batchyard_controller.core.placement.turn import Placement
from batchyard_controller.core.world.world import World

SLACK_MS = 5_000
"""So much later than promised is as promised."""


class Outcome(StrEnum):
    """What became of a reservation."""

    MADE = "made"
    KEPT = "kept"
    MISSED = "missed"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Settled:
    """
    One outcome.

    Attributes:
        late_ms: How much later than promised it got a host, less than 0 for sooner; 0 of one that got none.
    """

    outcome: Outcome
    late_ms: int = 0


def settled(before: tuple[Reservation, ...], plan: Plan, now: Instant) -> Iterator[Settled]:
    """Tell what became of former reservations, and which are new; another host for one who waits is a new one."""
    if not before and not plan.reservations:
        return
    placed = {(placement.job_id, placement.index) for placement in plan.placements} if before else set()
    old = {(each.job_id, each.index, each.host_id) for each in before}
    new = {(each.job_id, each.index, each.host_id) for each in plan.reservations}
    for each in before:
        late_ms = now.boot_ms - each.promised_ms
        if (each.job_id, each.index) in placed:
            yield Settled(Outcome.KEPT if late_ms <= SLACK_MS else Outcome.MISSED, late_ms)
        elif (each.job_id, each.index, each.host_id) not in new:
            yield Settled(Outcome.DROPPED)
    yield from (Settled(Outcome.MADE) for _ in new - old)


def waited_ms(world: World, placement: Placement, now: Instant) -> int:
    """Return how long a unit had waited that was just placed: since its submission, or since its last try."""
    unit = Unit(world.jobs[placement.job_id], placement.index)
    since_ms = unit.attempts[-1].stopped_at_ms if unit.next_number > 1 else unit.job.created_at_ms
    return max(0, now.wall_ms - since_ms)
