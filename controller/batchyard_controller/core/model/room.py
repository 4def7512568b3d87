"""Room: how much a store holds, and how much more it takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """
    What a store was found to hold.

    Attributes:
        size_bytes: Of its file; of several members' the largest.
        used_bytes: Of that, what holds something; the rest is free for more.
        quota_bytes: Size that the file can reach.
        reserve_bytes: Of that, what is kept for what becomes of jobs that are there already.
        fault: What an operator must know and see to; empty: nothing.
    """

    size_bytes: int
    used_bytes: int
    quota_bytes: int
    reserve_bytes: int
    fault: str = ""

    @property
    def is_tight(self) -> bool:
        """Whether nothing new should come in."""
        return self.used_bytes > self.quota_bytes - self.reserve_bytes
