"""
Front: who stands first in a queue, and since when each has had its place.

Kept in memory alone, of queues that somebody asks about: since when one has stood at a
place is known from the first look on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from batchyard.ids import JobId
from batchyard_controller.core.model.values import Instant

PLACES_MAX = 100
"""AWS's (GetJobQueueSnapshot)."""
ASKED_FOR_MS = 600_000
"""After so long without a question it is forgotten."""


@dataclass(frozen=True, slots=True)
class FrontPlace:
    """Who has a place, and since when as far as was seen (wall clock)."""

    unit_id: JobId
    since_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """
    The first of a queue, in the order in which they are served.

    Attributes:
        shares: Who comes first in each quota share, by its name.
        seen_at_ms: When they were seen so (wall clock).
        asked_boot_ms: When somebody last asked.
    """

    places: tuple[FrontPlace, ...] = ()
    shares: tuple[tuple[str, FrontPlace], ...] = ()
    seen_at_ms: int = 0
    asked_boot_ms: int = 0

    def seen(self, unit_ids: Iterable[JobId], of_shares: Mapping[str, JobId], now: Instant) -> Front:
        """Return it as it is now; who has kept its place has had it as long as before."""
        before, firsts = dict(enumerate(self.places)), dict(self.shares)
        places = [_seen(before.get(place), unit_id, now) for place, unit_id in enumerate(unit_ids)]
        shares = [(name, _seen(firsts.get(name), unit_id, now)) for name, unit_id in of_shares.items()]
        return Front(
            places=tuple(places), shares=tuple(shares), seen_at_ms=now.wall_ms, asked_boot_ms=self.asked_boot_ms
        )


def _seen(old: FrontPlace | None, unit_id: JobId, now: Instant) -> FrontPlace:
    return old if old is not None and old.unit_id == unit_id else FrontPlace(unit_id, now.wall_ms)
