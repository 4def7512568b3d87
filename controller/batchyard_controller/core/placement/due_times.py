"""
Due times: in which order equals start, and in which they pass one that cannot start yet.

A unit is due some multiple of its size after its submission, so that short ones come
before long ones, and long ones come all the same. Laws: of two that wait, one submitted
after the other's latest due time never stands before it; the order within a line is that
of submission.

Source: rule DUE, see decision 0016.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping

from batchyard_controller.core.model.settings import DispatchOrder, JobQueue, Preemption

from .line import AT_ONCE, Shape, Timing
from .run_times import Run, RunTimes, remembered
from .tenants import Stay

OVERTAKE = 5
"""A unit may be passed by those submitted within so many times its size."""
OVERTAKE_MS_MAX = 7 * 24 * 3_600_000
"""Who gives no bound is not passed by anybody submitted later than that, unless the queue says otherwise."""
UNKNOWN_MS = 3_600_000
"""What is expected where nothing tells."""


class DueTimes:
    """The timing of lines, by what their queues ask for and what is known of their owners."""

    def __init__(self, queues: Mapping[str, JobQueue]) -> None:
        self._queues = queues
        self.run_times = RunTimes()

    def order_of(self, queue: str) -> DispatchOrder:
        """Return in which order a queue's equals go."""
        found = self._queues.get(queue)
        return found.dispatch_order if found is not None else DispatchOrder.SUBMISSION_TIME

    def parkable(self, waiting: Collection[str]) -> set[str]:
        """
        Return of the queues in which somebody waits those whose refused units need no look one by one.

        Nobody is stopped for them, and no other of these has their priority: among equals who
        is asked, though in vain, decides in which order the others come.
        """
        queues = [queue for name in waiting if (queue := self._queues.get(name)) is not None]
        of_priority = Counter(queue.priority for queue in queues)
        return {q.name for q in queues if q.preemption is Preemption.NEVER and of_priority[q.priority] == 1}

    def patience_ms(self, queue: str) -> int:
        """Return how long after a unit's submission others stand before it, or pass it, who give no bound."""
        found = self._queues.get(queue)
        return found.max_overtake_s * 1000 if found is not None and found.max_overtake_s else OVERTAKE_MS_MAX

    def timing(self, shape: Shape) -> Timing:
        """Return the timing of those who wait in a line."""
        queue = self._queues.get(shape.queue)
        if queue is None or queue.dispatch_order is not DispatchOrder.DUE_TIME:
            return AT_ONCE
        size = self._size_ms(shape)
        longest = math.inf if shape.timeout_s and not queue.max_overtake_s else self.patience_ms(shape.queue)
        return Timing(int(min(OVERTAKE * size, longest)), size)

    def _size_ms(self, shape: Shape) -> int:
        predicted, bound = self._predict_ms(shape), shape.timeout_s * 1000
        return math.isqrt(predicted * bound) if bound else predicted

    def _predict_ms(self, shape: Shape) -> int:
        predicted = self.run_times.predict_ms(run_of(shape))
        return UNKNOWN_MS if predicted is None else predicted

    def mean_ms(self, queue: str) -> int:
        """Return for how long jobs of a queue run."""
        return self.run_times.mean_ms(queue) or UNKNOWN_MS

    def stay(self, shape: Shape) -> Stay:
        """Return for how long one of a line will hold a host: its bound, or else what is expected."""
        if shape.timeout_s:
            return Stay(shape.timeout_s * 1000, is_bound=True)
        return Stay(self._predict_ms(shape), is_bound=False)


def run_of(shape: Shape) -> Run:
    """Return what is remembered of units of a shape."""
    return remembered(shape.queue, shape.share, shape.definition, shape.resources, shape.timeout_s)
