"""Sinks: to whom events are passed on, and how far they are."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from batchyard.states import JobState

from .secrets import Sealed


class ChildMoves(StrEnum):
    """Which moves of children and nodes a sink wants."""

    ENDS = "ENDS"
    ALL = "ALL"
    NONE = "NONE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sink:
    """
    Somewhere that events are passed on to.

    Attributes:
        url: Where that is; its beginning says by what it is reached.
        sealed: What its messages are signed with.
        endpoint_url: Of AWS's services: where they are; empty: AWS itself.
        queues: Moves of jobs of these; empty: of all.
        states: Moves to these; empty: to all.
        epoch: With *number* its cursor: all up to this place of the trail is delivered, or not wanted.
        number: See *epoch*.
        delivered: How many events were.
        error: Why the last was not; empty after one that was.
    """

    name: str
    url: str
    sealed: Sealed | None = None
    endpoint_url: str = ""
    region: str = ""
    queues: tuple[str, ...] = ()
    states: tuple[JobState, ...] = ()
    children: ChildMoves = ChildMoves.ENDS
    is_disabled: bool = False
    created_at_ms: int = 0
    epoch: int = 0
    number: int = 0
    delivered: int = 0
    error: str = ""
    error_at_ms: int = 0

    @property
    def place(self) -> tuple[int, int]:
        """Up to where it is."""
        return self.epoch, self.number
