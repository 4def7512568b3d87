"""
Glances: jobs as they were read a moment ago, for open pages that show the same ones.

Decides and never asks: now and what changed are arguments. Law: what is given again was read
at most a second ago, and nothing was told of that job since; what nobody can be sure of is
read anew.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from batchyard.v1 import job_pb2

KEPT_S = 1.0
"""Why a job waits changes though it does not: so old may it be."""

KEPT_MAX = 5_000


@dataclass(frozen=True, slots=True)
class _Glance:
    job: job_pb2.Job
    turn: int
    read_s: float


class Glances:
    """
    The last ones.

    Args:
        has_changed: Whether a job may have changed since a turn.
    """

    def __init__(self, has_changed: Callable[[str, int], bool]) -> None:
        self._has_changed = has_changed
        self._of: OrderedDict[str, _Glance] = OrderedDict()

    def again(self, job_ids: Iterable[str], now_s: float) -> dict[str, job_pb2.Job]:
        """Return those of some jobs that are as good as read now."""
        found = ((job_id, self._of.get(job_id)) for job_id in job_ids)
        return {
            job_id: glance.job
            for job_id, glance in found
            if glance is not None
            and now_s - glance.read_s < KEPT_S
            and not self._has_changed(job_id, glance.turn)
        }  # fmt: skip

    def keep(self, jobs: Iterable[job_pb2.Job], turn: int, read_s: float) -> None:
        """Keep what was read; *turn* and *read_s* are those from before it was asked for."""
        for job in jobs:
            self._of[job.id] = _Glance(job, turn, read_s)
            self._of.move_to_end(job.id)
        while len(self._of) > KEPT_MAX:
            self._of.popitem(last=False)
