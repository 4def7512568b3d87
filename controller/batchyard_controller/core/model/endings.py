"""
Endings: what moves a unit, and why it came to its final state, as facts.

Decisions compare these and never a text; the texts that users see are made of them
in the views.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .dependencies import Dependency


class Trigger(StrEnum):
    """What moves a job, a parent, a child or a node; the moves are listed in ``lifecycle``."""

    HELD = "HELD"
    RELEASED = "RELEASED"
    DEPENDENCY_FAILED = "DEPENDENCY_FAILED"
    CHILD_RUNNABLE = "CHILD_RUNNABLE"
    CLAIMED = "CLAIMED"
    STARTED = "STARTED"
    SUCCEEDED = "SUCCEEDED"
    RETRIED = "RETRIED"
    RUN_AGAIN = "RUN_AGAIN"
    PREEMPTED = "PREEMPTED"
    FAILED = "FAILED"
    CHILDREN_SUCCEEDED = "CHILDREN_SUCCEEDED"
    CHILDREN_ENDED = "CHILDREN_ENDED"
    CANCELLED = "CANCELLED"
    TIME_LIMIT_PASSED = "TIME_LIMIT_PASSED"
    TERMINATED = "TERMINATED"
    NODES_ENDED = "NODES_ENDED"
    QUEUE_DELETED = "QUEUE_DELETED"
    TOO_MANY_TAGS = "TOO_MANY_TAGS"
    SHARE_DELETED = "SHARE_DELETED"


BY_ATTEMPT = frozenset({Trigger.SUCCEEDED, Trigger.FAILED})
"""Endings that are told by the unit's last attempt."""

CANCELLATIONS = frozenset({Trigger.CANCELLED, Trigger.TIME_LIMIT_PASSED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """
    Why a unit, or an array, came to its final state.

    Attributes:
        trigger: What moved it there.
        words: Of whoever cancelled or terminated it; for a time limit, the code of what blocked it; of a
            node that is over as others are, which.
        waited_for: What it waited for in vain.
    """

    trigger: Trigger
    words: str = ""
    waited_for: Dependency | None = None
