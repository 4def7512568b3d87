"""
Bounds: what jobs may hold together beside their hosts: caps of queues and shares, consumable resources.

Like the amounts of hosts, what is held follows from the live attempts. A plan takes from
`Draws` what it is about to claim. Law: what attempts hold is never brought above a bound;
one that is lowered below it lets nobody in until enough have ended.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from batchyard_controller.core.model.consumables import ConsumableResource, Quantities
from batchyard_controller.core.model.jobs import JobSpec
from batchyard_controller.core.model.policies import SchedulingPolicy, ShareWeight
from batchyard_controller.core.model.settings import JobQueue

from .line import Shape
from .refusals import Block, Refusal

QUEUE_LIMIT, SHARE_LIMIT, CONSUMABLE = "queue_limit", "share_limit", "consumable"
"""Kinds of refusals."""
UNITS, CPU, QUANTITY = "units", "cpu_millis", "quantity"


class Bound(NamedTuple):
    """
    One thing that is bounded.

    Attributes:
        kind: Of the refusal that it gives.
        name: The queue's, ``queue/share``, or the consumable's.
        amount: What is counted: units, thousandths of a vCPU, or a quantity.
    """

    kind: str
    name: str
    amount: str


@lru_cache(maxsize=1024)
def _units_and_cpu(kind: str, name: str) -> tuple[Bound, Bound]:
    """Return the two things that are bounded of a queue or share; kept, as each claim counts them."""
    return Bound(kind, name, UNITS), Bound(kind, name, CPU)


Draw = tuple[tuple[Bound, int], ...]
"""What one unit takes of each bound that holds for it."""


class Bounds:
    """What there is of each bound, and what live attempts hold of it."""

    def __init__(self) -> None:
        self._limits: dict[Bound, int] = {}
        self._held: dict[Bound, int] = {}
        self._capped: dict[str, tuple[ShareWeight, ...]] = {}
        """Entries of a queue's policy that have a cap."""
        self._shares: dict[str, dict[str, tuple[int, int]]] = {}
        """Units and thousandths of a vCPU that the shares of a queue hold, by what jobs call them."""

    # What there is --------------------------------------------------------------

    def set_queue(self, queue: JobQueue, policy: SchedulingPolicy | None) -> None:
        """Take the caps of a queue, and of the shares that its policy names."""
        self.drop_queue(queue.name)
        self._cap(QUEUE_LIMIT, queue.name, queue.max_running, queue.max_vcpus)
        weights = policy.fairshare.share_distribution if policy is not None else ()
        self._capped[queue.name] = tuple(w for w in weights if w.max_running or w.max_vcpus)
        for weight in self._capped[queue.name]:
            name = f"{queue.name}/{weight.share_identifier}"
            self._cap(SHARE_LIMIT, name, weight.max_running, weight.max_vcpus)
            held = [h for share, h in self._shares.get(queue.name, {}).items() if weight.covers(share)]
            self._held[Bound(SHARE_LIMIT, name, UNITS)] = sum(units for units, _ in held)
            self._held[Bound(SHARE_LIMIT, name, CPU)] = sum(cpu for _, cpu in held)

    def _cap(self, kind: str, name: str, max_running: int, max_vcpus: int) -> None:
        for amount, limit in ((UNITS, max_running), (CPU, max_vcpus * 1000)):
            if limit:
                self._limits[Bound(kind, name, amount)] = limit

    def drop_queue(self, name: str) -> None:
        """Forget the caps of a queue; what its attempts hold is counted on."""
        names = [(QUEUE_LIMIT, name)]
        names += [(SHARE_LIMIT, f"{name}/{weight.share_identifier}") for weight in self._capped.pop(name, ())]
        for kind, each in names:
            for amount in (UNITS, CPU):
                self._limits.pop(Bound(kind, each, amount), None)
                if kind == SHARE_LIMIT:
                    self._held.pop(Bound(kind, each, amount), None)

    def set_consumable(self, resource: ConsumableResource) -> None:
        """Take how much of a consumable resource attempts may hold at once."""
        self._limits[Bound(CONSUMABLE, resource.name, QUANTITY)] = resource.left

    def drop_consumable(self, name: str) -> None:
        """Forget a consumable resource that no job names."""
        self._limits.pop(Bound(CONSUMABLE, name, QUANTITY), None)

    # What is held ---------------------------------------------------------------

    def claim(self, spec: JobSpec, cpu_millis: int, consumables: Quantities, number: int = 1) -> None:
        """Count what so many new attempts of such a job hold."""
        self._count(spec, cpu_millis, consumables, number)

    def release(self, spec: JobSpec, cpu_millis: int, consumables: Quantities, number: int = 1) -> None:
        """Count no longer what so many attempts held."""
        self._count(spec, cpu_millis, consumables, -number)

    def _count(self, spec: JobSpec, cpu_millis: int, consumables: Quantities, number: int) -> None:
        if spec.share_identifier:
            shares = self._shares.setdefault(spec.queue, {})
            units, cpu = shares.get(spec.share_identifier, (0, 0))
            shares[spec.share_identifier] = units + number, cpu + number * cpu_millis
            if units + number == 0:
                del shares[spec.share_identifier]
        for kind, name in self._holders(spec.queue, spec.share_identifier):
            units_bound, cpu_bound = _units_and_cpu(kind, name)
            self._add(units_bound, number)
            self._add(cpu_bound, number * cpu_millis)
        for name, quantity in consumables:
            self._add(Bound(CONSUMABLE, name, QUANTITY), number * quantity)

    def _add(self, bound: Bound, amount: int) -> None:
        if held := self._held.get(bound, 0) + amount:
            self._held[bound] = held
        else:
            self._held.pop(bound, None)

    def _holders(self, queue: str, share: str) -> list[tuple[str, str]]:
        """Return whose bounds hold for units of a queue and share, by kind and name."""
        holders = [(QUEUE_LIMIT, queue)]
        if share:
            covering = [weight for weight in self._capped.get(queue, ()) if weight.covers(share)]
            holders += [(SHARE_LIMIT, f"{queue}/{weight.share_identifier}") for weight in covering]
        return holders

    def held(self, bound: Bound) -> int:
        """Return what live attempts hold of something, bounded or not."""
        return self._held.get(bound, 0)

    def consumable_held(self, name: str) -> int:
        """Return how much of a consumable resource live attempts hold."""
        return self.held(Bound(CONSUMABLE, name, QUANTITY))

    def held_by_shares(self, queue: str) -> dict[str, int]:
        """Return the vCPU thousandths that live attempts of each share of a queue hold."""
        return {share: cpu_millis for share, (_, cpu_millis) in self._shares.get(queue, {}).items()}

    def limit(self, bound: Bound) -> int:
        """Return how much of something bounded there is; nothing of what is not there."""
        return self._limits.get(bound, 0)

    # What a unit takes ------------------------------------------------------------

    def draw_of(self, shape: Shape) -> Draw:
        """Return what one unit of a shape, or all nodes of a job, take of each bound; nothing where there is none, as mostly."""
        if not self._limits and not shape.consumables:
            return ()
        caps = [
            (Bound(kind, name, amount), asked)
            for kind, name in self._holders(shape.queue, shape.share)
            for amount, asked in ((UNITS, shape.size), (CPU, shape.resources.cpu_millis))
        ]
        needs = [(Bound(CONSUMABLE, name, QUANTITY), quantity) for name, quantity in shape.consumables]
        return (*((bound, asked) for bound, asked in caps if bound in self._limits), *needs)


class Draws:
    """What a plan has taken of bounds, beside what is held; thrown away with it."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._taken: dict[Bound, int] = {}

    def allow(self, draw: Draw, kept: int = 0) -> bool:
        """Say whether one more unit may take so much, for which it was taken *kept* times already."""
        if not draw:
            return True
        bounds, taken = self._bounds, self._taken
        return all(bounds.held(b) + taken.get(b, 0) + asked * (1 - kept) <= bounds.limit(b) for b, asked in draw)

    def most(self, draw: Draw, wanted: int) -> int:
        """Return how many of so many *wanted* units may take so much."""
        bounds, taken = self._bounds, self._taken
        rooms = [(bounds.limit(b) - bounds.held(b) - taken.get(b, 0)) // asked for b, asked in draw if asked]
        return max(0, min([wanted, *rooms]))

    def take(self, draw: Draw, units: int = 1) -> None:
        """Take it for so many units, or give it back (-1)."""
        for bound, asked in draw:
            self._taken[bound] = self._taken.get(bound, 0) + units * asked


def bound_refusals(bounds: Bounds, shape: Shape) -> tuple[Refusal, ...]:
    """Say which bounds stand against one more unit of a shape: what is asked, free and there in all."""
    refusals = []
    for bound, asked in bounds.draw_of(shape):
        limit = bounds.limit(bound)
        free = max(0, limit - bounds.held(bound))
        if asked > free:
            text = _message(bound, asked, free, limit)
            refusals.append(
                Refusal(
                    kind=bound.kind, message=text, asked=asked, free=free, largest_free=free, largest_capacity=limit
                )
            )
    return tuple(refusals)


def _message(bound: Bound, asked: int, free: int, limit: int) -> str:
    if bound.kind == CONSUMABLE:
        return f"{asked} of consumable resource {bound.name} asked, {free} free of {limit}"
    queue, _, share = bound.name.partition("/")
    holder = f"share {share} of queue {queue}" if share else f"queue {queue}"
    if bound.amount == UNITS:
        return f"{holder} is at its bound of {limit} running at once"
    return f"{asked / 1000:.10g} vCPU asked, {holder} has {free / 1000:.10g} left of its bound of {limit / 1000:.10g}"


def block_of(refusals: tuple[Refusal, ...], of_hosts: Block) -> Block | None:
    """
    Return what bounds and hosts amount to together.

    A queue or share that is at its own cap is not blocked, so that no time limit counts (None);
    who asks for more than the cap as a whole can never start. What a consumable resource
    lacks counts as capacity, as time limits hold for it on AWS.
    """
    caps = [refusal for refusal in refusals if refusal.kind != CONSUMABLE]
    if any(refusal.asked > refusal.largest_capacity for refusal in caps):
        return Block.BEYOND_ENVIRONMENTS
    return None if caps and of_hosts is Block.NO_CAPACITY else of_hosts
