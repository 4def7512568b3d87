"""What follows when somebody asks who stands first in a queue: it is looked at for a while."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

from batchyard_controller.core.events import FrontAsked
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement.front import ASKED_FOR_MS, PLACES_MAX, Front
from batchyard_controller.core.world.order import firsts_of_shares, next_of
from batchyard_controller.core.world.world import World


def on_front_asked(world: World, event: FrontAsked, now: Instant) -> None:
    """Look who stands first in a queue, and go on looking."""
    if event.queue in world.queues:
        front = world.fronts.get(event.queue, Front())
        world.fronts[event.queue] = replace(front, asked_boot_ms=now.boot_ms)
        _look(world, event.queue, now)


def look_at_fronts(world: World, now: Instant) -> None:
    """Look who stands first in the queues that somebody asked about lately."""
    for queue, front in list(world.fronts.items()):
        if queue not in world.queues or now.boot_ms - front.asked_boot_ms > ASKED_FOR_MS:
            del world.fronts[queue]
        else:
            _look(world, queue, now)


def _look(world: World, queue: str, now: Instant) -> None:
    unit_ids = (unit.waits_as for _, unit in islice(next_of(world, queue), PLACES_MAX))
    world.fronts[queue] = world.fronts[queue].seen(unit_ids, firsts_of_shares(world, queue), now)
