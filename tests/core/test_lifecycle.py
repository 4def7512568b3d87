"""The table of moves is the law."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchyard.ids import JobId
from batchyard.states import JobState
from batchyard_controller.core.jobs.lifecycle import (
    ARRAY_TRANSITIONS,
    TRANSITIONS,
    InvalidTransitionError,
    Trigger,
    as_markdown,
    move_job,
)
from batchyard_controller.core.model.containers import Container
from batchyard_controller.core.model.jobs import Job, JobSpec

SPEC = JobSpec(queue="q", container=Container())


def job(state: JobState, array_size: int = 0) -> Job:
    return Job(id=JobId("j"), name="n", spec=SPEC, seq=1, created_at_ms=0, state=state, array_size=array_size)


@pytest.mark.parametrize("state", JobState)
@pytest.mark.parametrize("trigger", Trigger)
@pytest.mark.parametrize("array_size", [0, 2])
def test_listed_moves_happen_and_no_others(state: JobState, trigger: Trigger, array_size: int):
    """An unlisted move raises with the job's story and changes nothing."""
    table = ARRAY_TRANSITIONS if array_size else TRANSITIONS
    subject = job(state, array_size)
    if trigger in table.get(state, {}):
        assert move_job(subject, trigger, "why") is state
        assert (subject.state, subject.status_reason) == (table[state][trigger], "why")
    else:
        with pytest.raises(InvalidTransitionError, match="job j"):
            move_job(subject, trigger)
        assert subject.state is state


def test_final_states_are_for_ever():
    """Nothing leads out of SUCCEEDED or FAILED."""
    for table in (TRANSITIONS, ARRAY_TRANSITIONS):
        assert all(not moves for state, moves in table.items() if state.is_final)


def test_the_document_is_drawn_from_the_table():
    """docs/lifecycle.md says what the code does."""
    document = Path(__file__).parents[2] / "docs" / "lifecycle.md"
    assert document.read_text() == as_markdown()
