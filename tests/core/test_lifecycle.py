"""The table of moves is the law."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchyard.ids import JobId
from batchyard.states import JobState
from batchyard.tasks import Task
from batchyard_controller.core.jobs.lifecycle import (
    ARRAY_TRANSITIONS,
    TRANSITIONS,
    InvalidTransitionError,
    as_markdown,
    end,
    move,
    restore,
)
from batchyard_controller.core.model.endings import Ending, Trigger
from batchyard_controller.core.model.jobs import Job, JobKind, JobSpec
from batchyard_controller.core.model.units import Unit


def unit(state: JobState, size: int = 0) -> Unit:
    kind = JobKind.ARRAY if size else JobKind.SINGLE
    spec = JobSpec(queue="q", task=Task())
    return Unit(Job(id=JobId("j"), name="n", spec=spec, seq=1, created_at_ms=0, state=state, kind=kind, size=size))


@pytest.mark.parametrize("state", JobState)
@pytest.mark.parametrize("trigger", Trigger)
@pytest.mark.parametrize("size", [0, 2])
def test_listed_moves_happen_and_no_others(state: JobState, trigger: Trigger, size: int):
    """An unlisted move raises with the job's story and changes nothing."""
    table = ARRAY_TRANSITIONS if size else TRANSITIONS
    subject = unit(state, size)
    ending = Ending(trigger=trigger)
    after = table.get(state, {}).get(trigger)
    if after is None:
        with pytest.raises(InvalidTransitionError, match="job j"):
            move(subject, trigger)
        with pytest.raises(InvalidTransitionError, match="job j"):
            end(subject, ending, 5)
        assert (subject.state, subject.ending) == (state, None)
    elif after.is_final:
        assert end(subject, ending, 5) is state
        assert (subject.state, subject.ending, subject.job.ended_at_ms) == (after, ending, 5)
    else:
        assert move(subject, trigger) is state
        assert (subject.state, subject.ending) == (after, None)


@pytest.mark.parametrize(
    "trigger", [t for table in (TRANSITIONS, ARRAY_TRANSITIONS) for moves in table.values() for t in moves]
)
def test_a_stored_end_leads_where_its_move_led(trigger: Trigger):
    """What was stored as an ending is restored to the state to which that ending leads."""
    for size, table in ((0, TRANSITIONS), (2, ARRAY_TRANSITIONS)):
        for after in {moves[trigger] for moves in table.values() if trigger in moves and moves[trigger].is_final}:
            subject = unit(JobState.SUBMITTED, size)
            restore(subject.job, Ending(trigger=trigger), 5, None)
            assert (subject.state, subject.job.ended_at_ms) == (after, 5)


def test_final_states_are_for_ever():
    """Nothing leads out of SUCCEEDED or FAILED."""
    for table in (TRANSITIONS, ARRAY_TRANSITIONS):
        assert all(not moves for state, moves in table.items() if state.is_final)


def test_the_document_is_drawn_from_the_table():
    """docs/lifecycle.md says what the code does."""
    document = Path(__file__).parents[2] / "docs" / "lifecycle.md"
    assert document.read_text() == as_markdown()
