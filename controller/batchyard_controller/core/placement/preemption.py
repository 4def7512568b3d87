"""
Preemption: who is stopped so that a unit of higher rank can start that lacks room.

Laws: only units of lower rank are stopped, of queues that allow it; only where the other
then has room for certain; none that could be spared; and of the nodes of a job all or none, so that they
count as many. Of several ways the one with fewest victims is taken, then the one whose victims count
least: lowest priority first, then latest started. What they hold is not free before their ends are
reported: meanwhile a cleared reservation keeps it (see `Promises`).

Source: AWS Batch User Guide, "Preemption" of quota shares, for how victims are chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from batchyard.ids import AttemptId, JobId
from batchyard.resources import Resources
from batchyard_controller.core import limits
from batchyard_controller.core.model.attempts import GpuClaim
from batchyard_controller.core.model.settings import JobQueue, Preemption

from .line import Shape

PREEMPTION = "preemption"
"""Kind of what is said of a unit for which others are stopped."""
CLEARED_A_LINE = 16
"""For so many units of a line hosts are cleared at once, nodes counted, and for one gang at least."""
_KINDS = ("resources.cpu_millis", "resources.memory_mib")
"""Of what largest ones are sought beside GPUs."""


@dataclass(frozen=True, slots=True)
class Occupant:
    """
    What one live attempt holds of a host, or all nodes of a job that are there, and how much it counts.

    Attributes:
        attempt_ids: All that are stopped together: one, or all nodes of a job, those elsewhere too.
        share: Of its queue's policy, and with it *priority* within that.
        claimed_at_ms: Wall clock.
        is_stopping: Its host was told to stop it; of nodes the main one's, with which they end.
        preemptions: How often its unit was preempted.
    """

    attempt_ids: tuple[AttemptId, ...]
    queue: str
    share: str
    priority: int
    claimed_at_ms: int
    resources: Resources
    gpus: tuple[GpuClaim, ...]
    environment: str
    is_stopping: bool
    preemptions: int

    @property
    def name(self) -> AttemptId:
        """What tells it from others; the same for all that are stopped together, on whatever host."""
        return self.attempt_ids[0]


def cost(occupants: Iterable[Occupant]) -> int:
    """Return how many units are stopped with some."""
    return sum(len(each.attempt_ids) for each in occupants)


@dataclass(frozen=True, slots=True)
class Eviction:
    """Attempts that are stopped, and the unit that is to have their room."""

    attempt_ids: tuple[AttemptId, ...]
    job_id: JobId
    index: int | None


def may_preempt(queues: Mapping[str, JobQueue], shape: Shape, occupant: Occupant) -> bool:
    """Say whether an attempt may be stopped for a unit."""
    mine, other = queues[shape.queue], queues.get(occupant.queue)
    if mine.preemption is Preemption.NEVER or other is None or not other.preemptible:
        return False
    if is_spent(occupant):
        return False
    is_lower_in_share = (occupant.queue, occupant.share) == (shape.queue, shape.share) and (
        occupant.priority < shape.priority
    )
    return other.priority < mine.priority or is_lower_in_share


def outranks(shape: Shape, other: Shape) -> bool:
    """Say whether units of a shape come before those of another whose queue has the same priority, whenever these came."""
    return (shape.queue, shape.share) == (other.queue, other.share) and shape.priority > other.priority


def is_spent(occupant: Occupant) -> bool:
    """Say whether an attempt is being stopped already, or its unit was so often that it is left to run."""
    return occupant.is_stopping or occupant.preemptions >= limits.PREEMPTIONS_MAX


def worth(queues: Mapping[str, JobQueue], occupant: Occupant) -> tuple[int, int, int]:
    """Return how much an attempt counts; the least is stopped first: of the lowest priority, then the latest."""
    return queues[occupant.queue].priority, occupant.priority, -occupant.claimed_at_ms


def choose_victims(
    by_worth: Sequence[Occupant],
    fits: Callable[[Sequence[Occupant]], bool],
    may_leave: Callable[[Sequence[Occupant]], bool] | None = None,
) -> tuple[Occupant, ...] | None:
    """
    Choose of the attempts on a host few that count little, of which none can be spared.

    Args:
        by_worth: Who may be stopped, whoever counts least first.
        fits: Whether there is room without some of them.
        may_leave: Whether some may be stopped together; if so, then also fewer of these. None: they all may.

    Returns:
        Nobody where there is room as it is; None where there would be none without all.
    """
    if fits(()):
        return ()
    if may_leave is None and not fits(by_worth):
        return None
    found: list[tuple[Occupant, ...]] = []
    for each in by_worth:
        if fits((each,)) and (may_leave is None or may_leave((each,))):
            found.append((each,))
            if cost(found[-1]) == 1:
                return found[-1]
    orders = [by_worth, sorted(by_worth, key=lambda each: (-each.resources.gpu_millis, -each.resources.cpu_millis))]
    if any(len(each.attempt_ids) > 1 for each in by_worth):
        orders.append(sorted(by_worth, key=lambda each: len(each.attempt_ids)))
    if may_leave is not None:  # whom one order lets stay for those before him, another may take
        largest = (sorted(by_worth, key=attrgetter(kind), reverse=True) for kind in _KINDS)
        orders = [_together(order, may_leave) for order in (*orders, *largest)]
    return min([*found, *(_fewest(order, fits) for order in orders if fits(order))], key=cost, default=None)


def _together(order: Sequence[Occupant], may_leave: Callable[[Sequence[Occupant]], bool]) -> Sequence[Occupant]:
    """Return of some those that may be stopped together, who comes first first."""
    chosen: list[Occupant] = []
    for each in order:
        if may_leave((*chosen, each)):
            chosen.append(each)
    return chosen


def _fewest(order: Sequence[Occupant], fits: Callable[[Sequence[Occupant]], bool]) -> tuple[Occupant, ...]:
    """Take one after the other until there is room, and give back, last first of worth, who can be spared."""
    chosen: list[Occupant] = []
    for each in order:
        chosen.append(each)
        if fits(chosen):
            break
    for each in reversed(chosen[:]):
        rest = [other for other in chosen if other is not each]
        if fits(rest):
            chosen = rest
    return tuple(chosen)
