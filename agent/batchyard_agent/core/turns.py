"""
Turns: all events that have come, and what follows from them as one write and what comes after.

Pure, and it knows no kind of event. Law: nothing is launched and nothing told before the
journal holds what it follows from. All else (signals, questions to runtimes, letting go
of what is over) comes to the same if it is done again, so that a full disk holds up none
of it: what runs can be stopped, and may thereby make room.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import assert_never

from batchyard.ids import AttemptId
from batchyard_agent.core.attempts import Attempt, Meta, Table
from batchyard_agent.core.commands import (
    Adopt,
    CloseSession,
    Command,
    Discard,
    Forget,
    Launch,
    Note,
    Remove,
    Report,
    RuntimeCommand,
    Save,
    SaveMeta,
    Signal,
)
from batchyard_agent.core.events import Event, Now
from batchyard_agent.core.reconcile import apply, launch_waiting


@dataclass(slots=True, kw_only=True)
class Turn:
    """
    The outcome of one turn. First write, then do the rest.

    Attributes:
        rows: Attempts whose rows change, as they are at the end of the turn.
        forgotten: Rows to delete.
        meta: None when it need not be written.
        reports: What to tell the controller, one report an attempt.
        actions: What runtimes, session and log are to do, in order.
    """

    rows: list[Attempt] = field(default_factory=list)
    forgotten: list[AttemptId] = field(default_factory=list)
    meta: Meta | None = None
    reports: list[Attempt] = field(default_factory=list)
    actions: list[RuntimeCommand | CloseSession | Note] = field(default_factory=list)

    @property
    def writes(self) -> bool:
        """Whether the journal has anything to write."""
        return bool(self.rows or self.forgotten or self.meta)


def take_turn(table: Table, events: Iterable[Event], now: Now, owed: Sequence[Command] = ()) -> Turn:
    """Apply all events, launch what may be launched, and gather what follows, and what former turns owe."""
    commands = [*owed]
    for event in events:
        commands += apply(table, event, now)
    commands += launch_waiting(table, now)
    turn = Turn()
    saved: dict[AttemptId, None] = {}
    reported: dict[AttemptId, None] = {}
    for command in commands:
        match command:
            case Save(attempt_id):
                saved[attempt_id] = None
            case Report(attempt_id):
                reported[attempt_id] = None
            case SaveMeta():
                turn.meta = table.meta
            case Forget(attempt_id):
                turn.forgotten.append(attempt_id)
            case Launch() | Adopt() | Signal() | Remove() | Discard() | CloseSession() | Note():
                turn.actions.append(command)
            case _:
                assert_never(command)
    # What was forgotten in this very turn has no state left to write or tell.
    turn.rows = [attempt for attempt in map(table.get, saved) if attempt is not None]
    turn.reports = [attempt for attempt in map(table.get, reported) if attempt is not None]
    if turn.meta is not None:
        table.contact_saved_ms = turn.meta.contact_ms
    return turn


def put_off(table: Table, turn: Turn) -> list[Command]:
    """
    Make of a turn that could not be written what may be done all the same.

    Launches are taken back: whether they may be is asked again when there is room, as
    the fence may have come meanwhile, or a stop.

    Returns:
        What is owed: ``take_turn`` is to begin the next turn with it.
    """
    launches = [action for action in turn.actions if isinstance(action, Launch)]
    for launch in reversed(launches):
        table.take_back(launch.spec.attempt_id)
    owed: list[Command] = [Save(attempt.attempt_id) for attempt in turn.rows]
    owed += map(Forget, turn.forgotten)
    if turn.meta is not None:
        owed.append(SaveMeta())
    owed += [Report(attempt.attempt_id) for attempt in turn.reports]
    turn.actions = [action for action in turn.actions if not isinstance(action, Launch)]
    turn.reports = []
    return owed
