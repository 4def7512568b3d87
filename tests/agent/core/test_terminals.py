"""Jobs with a terminal: they end with their command's code, or when nobody has been there for too long."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from batchyard.states import EndCause
from batchyard_agent.core.attempts import Phase, Table
from batchyard_agent.core.commands import Signal
from batchyard_agent.core.entries import ENTRIES_MAX, refusal
from batchyard_agent.core.events import Event, Exited, StopRequested, TerminalEnded
from batchyard_agent.core.terminals import HANGUP_CODE, Terminals
from batchyard_agent.core.turns import Turn, take_turn
from batchyard_agent.runtimes.protocol import StopSignal

from .builders import EPOCH, A, B, at, start, started, table


def tell(of: Table, event: Event, ms: int) -> Turn:
    return take_turn(of, [event], at(ms))


@pytest.fixture
def yard() -> Table:
    """One attempt that has a terminal, for 60 s alone, and one that has none; both run."""
    found = table()
    for attempt_id, grace_s in ((A, 60), (B, 0)):
        asked = start(attempt_id)
        launch = asked.spec.launch
        container = replace(launch.container, terminal_grace_s=grace_s)
        tell(found, replace(asked, spec=replace(asked.spec, launch=replace(launch, container=container))), 0)
        tell(found, started(attempt_id), 0)
    return found


def looked(terminals: Terminals, of: Table, ms: int) -> list[Any]:
    return [event.attempt_id for event in terminals.look(of, ms)]


def test_it_ends_with_the_code_of_what_ran_there(yard: Table) -> None:
    turn = tell(yard, TerminalEnded(attempt_id=A, exit_code=6), 1000)
    assert [each.signal for each in turn.actions if isinstance(each, Signal)] == [StopSignal.KILL]
    tell(yard, Exited(attempt_id=A, exit_code=137, stopped_at_ms=0), 2000)
    ended = yard.attempts[A]
    assert (ended.phase, ended.cause, ended.exit_code, ended.reason) == (Phase.ENDED, EndCause.EXITED, 6, "")


def test_who_asked_to_stop_it_first_is_the_cause(yard: Table) -> None:
    tell(yard, StopRequested(attempt_id=A, epoch=EPOCH, grace_s=30), 1000)
    tell(yard, TerminalEnded(attempt_id=A, exit_code=129), 2000)
    tell(yard, Exited(attempt_id=A, exit_code=143, stopped_at_ms=0), 3000)
    assert (yard.attempts[A].cause, yard.attempts[A].exit_code) == (EndCause.STOPPED, 143)


def test_it_ends_once_nobody_has_been_there_for_its_grace(yard: Table) -> None:
    terminals = Terminals()
    assert looked(terminals, yard, 0) == []
    assert looked(terminals, yard, 59_999) == []
    terminals.come(A)
    assert looked(terminals, yard, 999_999) == [], "somebody is there"
    terminals.go(A, 1_000_000)
    assert looked(terminals, yard, 1_059_999) == []
    (over,) = terminals.look(yard, 1_060_000)
    assert over == TerminalEnded(attempt_id=A, exit_code=HANGUP_CODE, reason="nobody was at its terminal for 60 s")
    tell(yard, over, 1_060_000)
    assert looked(terminals, yard, 1_070_000) == [], "it is being stopped"
    tell(yard, Exited(attempt_id=A, exit_code=137, stopped_at_ms=0), 1_070_000)
    assert (yard.attempts[A].exit_code, yard.attempts[A].reason) == (129, "nobody was at its terminal for 60 s")


def test_a_new_agent_begins_to_count(yard: Table) -> None:
    terminals = Terminals()
    assert looked(terminals, yard, 5_000_000) == []
    assert looked(terminals, yard, 5_060_000) == [A]


def test_only_what_runs_is_entered(yard: Table) -> None:
    assert refusal(yard, A, 0) == ""
    assert "already" in refusal(yard, A, ENTRIES_MAX)
    tell(yard, StopRequested(attempt_id=A, epoch=EPOCH, grace_s=30), 1000)
    assert "stopped" in refusal(yard, A, 0)
    tell(yard, Exited(attempt_id=B, exit_code=0, stopped_at_ms=0), 2000)
    assert "ended" in refusal(yard, B, 0)
    assert "ended" in refusal(table(), A, 0)
    waiting = table()
    tell(waiting, start(A), 0)
    assert "does not run yet" in refusal(waiting, A, 0)
