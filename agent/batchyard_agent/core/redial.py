"""Redialling: which controller an agent that is out of touch tries next, and after what pause."""

from __future__ import annotations

from collections.abc import Sequence

PAUSE_MIN_S = 0.2
PAUSE_MAX_S = 5.0
ELECTION_PAUSE_MAX_S = 1.0
ELECTION_MS = 60_000
"""Of several controllers one is about to lead, where none does, for so long; the longest election seen took 48 s."""


class Redial:
    """
    Which of several addresses is tried, and how often.

    Laws: who is told of another leader goes there at once; who is told of the same one again and again,
    which does not answer, knocks no more often than who is told of none. Pauses double up to the
    longest, and begin anew with each welcome.

    Args:
        targets: Addresses of controllers; one at least.
    """

    def __init__(self, targets: Sequence[str]) -> None:
        self.target = targets[0]
        """Where the next try goes."""
        self._targets = targets
        self.welcomed()

    def welcomed(self) -> None:
        """Forget what was tried in vain."""
        self._pause_s = PAUSE_MIN_S
        self._told = ""
        self._since_ms: int | None = None

    def failed(self, leader: str, now_ms: int) -> float:
        """
        Choose where to go next.

        Args:
            leader: Address of who leads, as the one just tried said; empty: it said nothing.
            now_ms: The time, by a clock that goes on (boottime).

        Returns:
            After how many seconds, at most; agents that all lost one leader spread below that.
        """
        if self._since_ms is None:
            self._since_ms = now_ms
        is_told = leader in self._targets and leader != self.target
        if is_told and leader != self._told:
            self._told, self._pause_s = leader, PAUSE_MIN_S
        place = self._targets.index(self.target) + 1
        self.target = leader if is_told else self._targets[place % len(self._targets)]
        is_election = len(self._targets) > 1 and now_ms - self._since_ms < ELECTION_MS
        pause_s = min(self._pause_s, ELECTION_PAUSE_MAX_S if is_election else PAUSE_MAX_S)
        self._pause_s = min(self._pause_s * 2, PAUSE_MAX_S)
        return pause_s
