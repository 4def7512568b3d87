"""
Terminals: of attempts that have one, whether anybody is at it, and since when nobody is.

It must never know a stream, nor what runs. Times are boottime. Law: an attempt with a terminal ends once
nobody has been at it for as long as its job says, whoever died meanwhile: a new agent begins to count.
"""

from __future__ import annotations

from dataclasses import dataclass

from batchyard.ids import AttemptId
from batchyard_agent.core.attempts import Phase, Table
from batchyard_agent.core.events import TerminalEnded

HANGUP_CODE = 129
"""As a shell tells SIGHUP."""


@dataclass(slots=True)
class _Terminal:
    away_since_ms: int | None
    """None: somebody is at it."""


class Terminals:
    """All of one host."""

    def __init__(self) -> None:
        self._found: dict[AttemptId, _Terminal] = {}

    def come(self, attempt_id: AttemptId) -> None:
        """Note that somebody is at it."""
        self._found[attempt_id] = _Terminal(None)

    def go(self, attempt_id: AttemptId, now_ms: int) -> None:
        """Note that nobody is any more."""
        self._found[attempt_id] = _Terminal(now_ms)

    def look(self, table: Table, now_ms: int) -> list[TerminalEnded]:
        """Return those at which nobody has been for too long, each once; attempts that are over are forgotten."""
        running = {
            attempt.attempt_id: attempt.spec.launch.container.terminal_grace_s
            for attempt in table.living()
            if attempt.spec is not None
            and attempt.spec.launch.container.terminal_grace_s
            and attempt.phase is Phase.RUNNING
            and attempt.stop is None
        }
        self._found = {each: self._found.get(each, _Terminal(now_ms)) for each in running}
        over = []
        for attempt_id, terminal in self._found.items():
            grace_s = running[attempt_id]
            if terminal.away_since_ms is not None and now_ms - terminal.away_since_ms >= grace_s * 1000:
                reason = f"nobody was at its terminal for {grace_s} s"
                over.append(TerminalEnded(attempt_id=attempt_id, exit_code=HANGUP_CODE, reason=reason))
        return over
