"""
Entries: may a command be run in an attempt of this host now?

What the controller knows may be seconds old; what this host knows counts. It must never know a runtime.
"""

from __future__ import annotations

from batchyard.ids import AttemptId
from batchyard_agent.core.attempts import AttemptSpec, Phase, Table

ENTRIES_MAX = 64
"""At once on one host: twice what a controller asks for, whose successor may not know of all."""


def refusal(table: Table, attempt_id: AttemptId, entries: int) -> str:
    """
    Say why nothing can be run in an attempt; empty: it can.

    Args:
        table: All attempts.
        attempt_id: Which.
        entries: Commands that run in attempts already.
    """
    attempt = table.attempts.get(attempt_id)
    if attempt is None or attempt.spec is None or attempt.is_over:
        return "the attempt has ended"
    if attempt.phase is not Phase.RUNNING:
        return "the attempt does not run yet"
    if attempt.stop is not None:
        return "the attempt is being stopped"
    if entries >= ENTRIES_MAX:
        return f"{entries} commands run in attempts of this host already"
    return ""


NO_TERMINAL = "the job has no terminal to attach to: batchyard run --pty makes one that has"


def spec_of(table: Table, attempt_id: AttemptId) -> AttemptSpec:
    """Return what an attempt is, in which something can be run."""
    spec = table.attempts[attempt_id].spec
    assert spec is not None, "refused"
    return spec
