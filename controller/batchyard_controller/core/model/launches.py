"""
Launches: hosts that a provider was asked for.

A launch is stored before its provider hears of it, so that whoever leads next asks for
the same and not for another. Its agent tells by a label which launch its host is of.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from batchyard.ids import LaunchId
from batchyard.pairs import Pairs

from .hosts import HostFacts

LAUNCH_LABEL = "batchyard.launch"
"""Label of a host that was launched: of which launch it is."""
ENVIRONMENT_LABEL = "batchyard.environment"
"""Label of a host that was launched: for which compute environment, which has it alone."""


class LaunchState(StrEnum):
    """How far a launch has come."""

    ASKED = "ASKED"
    """Stored; its provider has not answered."""
    LAUNCHED = "LAUNCHED"
    """Its provider has said yes; its agent has not joined."""
    JOINED = "JOINED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """
    One host that is launched for a compute environment.

    Attributes:
        provider: Who launches and stops it, whatever becomes of its environment.
        host_type: Which of the provider's types.
        cpu_millis: What it counts against the environment's bounds.
        labels: What its agent is told to say, beside which launch and environment it is of.
        state: A fact; that it is to be stopped is ``stop_reason``.
        host_id: Of its host, once that has joined.
        asked_at_ms: When it was decided.
        stop_reason: Why its host gets no more work and is stopped when nothing runs there; empty: it is wanted.
    """

    id: LaunchId
    environment: str
    provider: str
    host_type: str
    cpu_millis: int
    purchase_option: str = "on-demand"
    labels: Pairs = ()
    state: LaunchState = LaunchState.ASKED
    host_id: str = ""
    asked_at_ms: int = 0
    stop_reason: str = ""

    @property
    def is_wanted(self) -> bool:
        """Whether its host is, or will be, one of its environment's."""
        return not self.stop_reason

    @property
    def is_under_way(self) -> bool:
        """Whether its host is wanted and has yet to join."""
        return self.is_wanted and self.state is not LaunchState.JOINED


def launch_id_of(facts: HostFacts) -> LaunchId:
    """Return of which launch a host is, in its agent's words; empty: of none."""
    return LaunchId(dict(facts.labels).get(LAUNCH_LABEL, ""))


def environment_of(facts: HostFacts) -> str:
    """Return for which compute environment a host was launched; empty: for none."""
    return dict(facts.labels).get(ENVIRONMENT_LABEL, "")
