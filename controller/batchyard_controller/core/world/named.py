"""Named: how many jobs that have not ended name each share of a queue, and each consumable resource."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from batchyard_controller.core.model.jobs import Job


@dataclass(slots=True)
class Named:
    """
    Counts of jobs; an array counts once. What nobody names is not there.

    Attributes:
        shares: By queue and share identifier.
        consumables: By name.
    """

    shares: dict[str, Counter[str]] = field(default_factory=dict)
    consumables: Counter[str] = field(default_factory=Counter)

    def count(self, job: Job, number: int) -> None:
        """Note that a job came to be (1), or ended (-1)."""
        for name, _ in job.spec.consumables:
            _add(self.consumables, name, number)
        if job.spec.share_identifier:
            _add(self.shares.setdefault(job.spec.queue, Counter()), job.spec.share_identifier, number)


def _add(counts: Counter[str], name: str, number: int) -> None:
    counts[name] += number
    if not counts[name]:
        del counts[name]
