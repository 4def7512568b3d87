"""Waiting: why a unit is where it is, in sentences, and what stands against placing it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from batchyard.states import JobState
from batchyard_controller.core.jobs.dependencies import child_standing
from batchyard_controller.core.model import claims
from batchyard_controller.core.model.attempts import Attempt
from batchyard_controller.core.model.jobs import JobKind
from batchyard_controller.core.model.settings import ResourceState
from batchyard_controller.core.model.units import Unit, unit_at
from batchyard_controller.core.placement.bounds import CONSUMABLE
from batchyard_controller.core.placement.preemption import PREEMPTION
from batchyard_controller.core.placement.quotas import QUOTA_SHARE
from batchyard_controller.core.placement.refusals import Refusal
from batchyard_controller.core.world.fences import fence_of
from batchyard_controller.core.world.order import ahead_of, first_of, is_first
from batchyard_controller.core.world.reasons import explain_unit, explain_waiting, reservation_of, starts_at_ms
from batchyard_controller.core.world.waiting import is_held, shape_of
from batchyard_controller.core.world.world import World

from . import words
from .causes import ending_cause
from .history import live_attempt
from .parts import parts_waiting

UNAPPROVED_SHOWN = 5
HOSTS_SHOWN = 5


def refusals(world: World, unit: Unit) -> tuple[Refusal, ...]:
    """Return what stands against placing a unit, or the children of an array, now."""
    queue = world.queues.get(unit.job.spec.queue)
    if queue is None:
        return (Refusal(kind="queue", message=f"job queue {unit.job.spec.queue} is gone"),)
    if is_held(world, unit.job):
        return (_held(world),)
    cleared = _cleared_for(world, unit)
    return (*(() if cleared is None else (cleared,)), *explain_unit(world, unit, queue), *_unapproved(world))


def _held(world: World) -> Refusal:
    """Say why jobs of a backup are placed nowhere yet."""
    names = sorted(words.host_name(world, host_id) for host_id in world.adoption.waits_for)
    shown = ", ".join(names[:HOSTS_SHOWN]) + (f" and {len(names) - HOSTS_SHOWN} more" if names[HOSTS_SHOWN:] else "")
    who = f"hosts {shown} have" if shown else "hosts have"
    text = f"the store was put back from a backup, and until {who} told what they run, or their fence has passed, it may run there"
    return Refusal(kind="restore", message=text)


def _unapproved(world: World) -> tuple[Refusal, ...]:
    """Say which hosts could perhaps do more, once an operator has approved what they say of themselves."""
    waiting = (host.record for host in world.hosts.values() if host.record.awaiting is not None)
    return tuple(
        Refusal(
            kind="approval",
            message=f"host {record.facts.name} says that it has {'; '.join(claims.awaited(record))}: "
            f"that counts once an operator approves it (batchyard host approve {record.facts.name})",
        )
        for record in islice(waiting, UNAPPROVED_SHOWN)
    )


def _cleared_for(world: World, unit: Unit) -> Refusal | None:
    """Say which hosts are being cleared for a unit, or for the job of a node, if any are."""
    is_gang = unit.job.kind is JobKind.NODES
    cleared = (r for r in world.reservations if r.is_cleared and r.job_id == unit.job.id)
    if not any(is_gang or r.index == unit.index for r in cleared):
        return None
    stopped = [attempt for attempt in world.attempts.values() if attempt.preempted_for == unit.waits_as]
    hosts = {attempt.host_id for attempt in stopped}
    host = f" on host {words.host_name(world, next(iter(hosts)))}" if len(hosts) == 1 else ""
    host = f" on {len(hosts)} hosts" if len(hosts) > 1 else host
    text = f"attempts{host} that are being stopped for it: {len(stopped)}"
    return Refusal(kind=PREEMPTION, message=text)


def status_reason(world: World, unit: Unit) -> str:
    """Return AWS's status reason of a unit, or an array's parent: why it ended, or why its queue stands still."""
    return _blocked_reason(world, unit) if unit.state is JobState.RUNNABLE else words.ending_reason(unit)


def _blocked_reason(world: World, unit: Unit) -> str:
    """Return what a RUNNABLE unit says: nothing unless it is first in its queue and was refused."""
    queue = world.queues.get(unit.job.spec.queue)
    line = world.lines.find(shape_of(world, unit)) if not is_held(world, unit.job) else None
    first = unit_at(unit.job, 0) if unit.job.kind is JobKind.NODES else unit  # nodes wait as one
    if queue is None or line is None or line.refused_at < 0 or not is_first(world, first, line):
        return ""
    refusal = explain_waiting(world, line.shape, queue)[0]
    block = refusal.block
    if refusal.kind == QUOTA_SHARE or (block is not None and refusal.kind == CONSUMABLE):
        return f"{block} - {refusal.message}" if block is not None else refusal.message  # AWS has no words for it
    enabled = [e for e in world.environments_of(queue) if e.state is ResourceState.ENABLED]
    types = dict.fromkeys(name for e in enabled for name in e.compute_resources.instance_types)
    return words.blocked(block, tuple(types)) if block is not None else ""


def waiting_reason(world: World, unit: Unit) -> str:
    """Say in one sentence why a unit, or an array's parent, waits; nothing if it does not."""
    job = unit.job
    match unit.state:
        case JobState.RUNNABLE:
            return "waits for a host: " + "; ".join(r.message for r in refusals(world, unit))
        case JobState.PENDING if job.unmet:
            return f"waits for {job.unmet} of its {len(job.depends_on)} dependencies"
        case JobState.PENDING if unit.job.kind is JobKind.NODES:
            return (
                f"waits for the last node of attempt {unit.main.next_number - 1} to end: all nodes run again after that"
            )
        case JobState.PENDING if unit.is_parent:
            return _array_reason(world, unit)
        case JobState.PENDING if unit.is_child:
            return _child_reason(world, unit)
        case JobState.STARTING if live := live_attempt(world, unit):
            return _start_reason(world, unit, live)
        case _:
            return ""


def _start_reason(world: World, unit: Unit, live: Attempt) -> str:
    """Say what an attempt still waits for, or what its host says keeps it from starting; nothing if nothing does."""
    return parts_waiting(world, unit.task, live) or world.hosts[live.host_id].hindrances.get(live.id, "")


def _child_reason(world: World, unit: Unit) -> str:
    others = child_standing(unit.job, unit.child, world.jobs).unmet
    if others:
        return f"waits for {', '.join(f'{other.id} ({other.state})' for other in others)}"
    return f"waits for its turn: at most {unit.job.concurrency} children of the array at once"


def _array_reason(world: World, unit: Unit) -> str:
    counts = unit.job.children.counts
    parts = ", ".join(f"{counts[state]} {state}" for state in JobState if counts.get(state))
    text = f"children: {parts}"
    if counts.get(JobState.RUNNABLE):
        text += "; the next waits for a host: " + "; ".join(r.message for r in refusals(world, unit))
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """
    Where a unit that waits for a host stands in its queue, as far as is known now.

    Attributes:
        ahead: How many are served before it, or so many at least.
        is_exact: Whether these are all of them.
        first_id: Who comes first; empty if it is this one, or a child of it.
        starts_at_ms: When it starts at the latest; 0 unless a host is kept for it (wall clock).
    """

    ahead: int
    is_exact: bool
    first_id: str
    starts_at_ms: int

    def __str__(self) -> str:
        """Say it in a part of a sentence; nothing of who comes first."""
        if not self.ahead or not self.first_id:
            return ""
        number = f"{self.ahead:,} of its queue come" if self.ahead > 1 else "1 of its queue comes"
        return f"{'' if self.is_exact else 'more than '}{number} before it, first {self.first_id}"


def place_of(world: World, unit: Unit) -> Place | None:
    """Return where a unit, or the next child of an array, stands that waits for a host; None of others."""
    if not waits_for_host(unit) or is_held(world, unit.job):
        return None
    line = world.lines.find(shape_of(world, unit))
    own = line.next_of(unit.job) if line is not None and (unit.is_parent or unit.is_node) else unit
    if line is None or own is None:
        return None  # of an array none waits but children that were tried before
    ahead, first = ahead_of(world, own, line), first_of(world, line.shape.queue)
    reservation = reservation_of(world, unit)
    is_own = first is None or (
        first[1].job is unit.job and (unit.is_parent or unit.is_node or first[1].index == unit.index)
    )
    return Place(
        ahead=ahead.count,
        is_exact=ahead.is_all,
        first_id="" if first is None or is_own else first[1].waits_as,
        starts_at_ms=starts_at_ms(world, reservation) if reservation is not None else 0,
    )


def waits_for_host(unit: Unit) -> bool:
    """Say whether a unit, or any child of an array, waits for nothing but a host."""
    if unit.is_parent:
        return unit.job.children.count(JobState.RUNNABLE) > 0
    return unit.state is JobState.RUNNABLE


def summary(world: World, unit: Unit, place: Place | None) -> str:
    """Say in one sentence where a unit is, and why; its place is counted once, by who asks."""
    state = unit.state
    live = live_attempt(world, unit)
    if live is not None:
        where = words.host_name(world, live.host_id) + _overflow(world, unit, live.compute_environment)
        text = f"{state.lower()} on host {where}, attempt {live.number}"
        return "; ".join(filter(None, [text, _replaced_reason(world, live), _start_reason(world, unit, live)]))
    if state.is_final:
        reason = ending_cause(world, unit)
        return f"ended {state}" + (f": {reason}" if reason else "")
    reasons = [waiting_reason(world, unit) or f"is {state}", str(place) if place is not None else ""]
    return "; ".join(filter(None, reasons))


def _replaced_reason(world: World, live: Attempt) -> str:
    """Say what an attempt waits for whose host was replaced; nothing of others."""
    host = world.hosts[live.host_id]
    if not host.record.replaced_by:
        return ""
    fence_ms = fence_of(world, host, live.fence_ms)
    when = (
        f"once it was silent for {fence_ms // 1000} s"
        if fence_ms
        else "once it is removed by force, as it has no fence"
    )
    return f"the host joined anew as {host.record.replaced_by}: the attempt is given up with the former one, {host.record.id}, {when}"


def _overflow(world: World, unit: Unit, environment: str) -> str:
    """Say that others of its queue come before the environment that a unit runs in, if any do."""
    queue = world.queues.get(unit.job.spec.queue)
    order = queue.compute_environments if queue is not None else ()
    before = order[: order.index(environment)] if environment in order else ()
    return f" of compute environment {environment}, after {', '.join(before)} in its queue" if before else ""


def eligible_hosts(world: World, unit: Unit) -> int:
    """Return how many hosts could ever take a unit as far as their kind, runtimes and operators say, and work now."""
    queue = world.queues.get(unit.job.spec.queue)
    if queue is None:
        return 0
    rows: set[int] = set()
    for shape in shape_of(world, unit).singles:
        for environment in world.environments_of(queue):
            mask = world.fleet.members(environment, shape.runtime, shape.access) & world.fleet.usable
            rows.update(mask.nonzero()[0].tolist())
    return len(rows)
