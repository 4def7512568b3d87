"""Consumable resources: what jobs use up or hold beside their hosts, such as licences, as their owners made them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from batchyard.pairs import Pairs

Quantities = tuple[tuple[str, int], ...]
"""Whole numbers by name, sorted by name."""


class ConsumableType(StrEnum):
    """Whether what an attempt held is given back at its end (AWS: resourceType)."""

    REPLENISHABLE = "REPLENISHABLE"
    NON_REPLENISHABLE = "NON_REPLENISHABLE"


class ConsumableOperation(StrEnum):
    """AWS: operation of UpdateConsumableResource."""

    SET = "SET"
    ADD = "ADD"
    REMOVE = "REMOVE"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumableUpdate:
    """A change that was carried out under a request id, so that the same one counts once."""

    request_id: str
    operation: ConsumableOperation
    quantity: int
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumableResource:
    """
    A countable thing that jobs need beside a host.

    What is in use follows from the live attempts and is never stored, so it cannot drift.

    Attributes:
        total: All there is, what was consumed included.
        consumed: Of one that is NON_REPLENISHABLE: what ended attempts took for good.
        updates: The latest that bore a request id, oldest first.
    """

    name: str
    type: ConsumableType = ConsumableType.REPLENISHABLE
    total: int = 0
    consumed: int = 0
    updates: tuple[ConsumableUpdate, ...] = ()
    tags: Pairs = ()
    created_at_ms: int = 0

    @property
    def left(self) -> int:
        """What attempts may hold at once."""
        return self.total - self.consumed
