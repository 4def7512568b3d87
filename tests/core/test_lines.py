"""Lines: exactly those who wait, in order, whoever comes, leaves and comes again."""

from __future__ import annotations

import gc
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.yard import Yard, container

from batchyard.ids import JobId
from batchyard.resources import Resources
from batchyard.states import EndCause, JobState
from batchyard.tasks import Task
from batchyard_controller.core.model.jobs import Job, JobKind, JobSpec
from batchyard_controller.core.model.settings import DispatchOrder
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement.due_times import DueTimes
from batchyard_controller.core.placement.line import Line, Shape
from batchyard_controller.core.placement.lines import Lines

SHAPE = Shape("q", Resources(), "process")
SPEC = JobSpec(queue="q", task=Task())


def array(seq: int, size: int = 8) -> Job:
    return Job(
        id=JobId(f"j{seq}"),
        name="n",
        spec=SPEC,
        seq=seq,
        created_at_ms=0,
        kind=JobKind.ARRAY if size else JobKind.SINGLE,
        size=size,
    )


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 7), st.integers(1, 8)), max_size=60))
def test_a_line_holds_what_a_plain_set_would(steps: list[tuple[int, int, int]]):
    """Runs of children come where none of them stands, and leave wherever some do."""
    jobs, line, plain = [array(seq) for seq in range(4)], Line(SHAPE), set[tuple[int, int]]()
    for seq, start, length in steps:
        run = {(seq, index) for index in range(start, min(start + length, 8))}
        if run & plain:
            line.remove(jobs[seq], start, start + length)
            plain -= run
        else:
            line.push(jobs[seq], start, min(start + length, 8))
            plain |= run
        assert [(unit.job.seq, unit.child) for unit in line.units()] == sorted(plain)
        assert bool(line) == bool(plain)


def test_who_has_left_leaves_nothing_behind():
    """No line, no entry that still knows the job, and little work for a long line."""
    lines, stays = Lines(DueTimes({})), array(0, size=0)
    lines.push(SHAPE, stays)
    for seq in range(1, 2_000):
        lines.push(SHAPE, array(seq, size=0))
    (line,) = lines.of_queue("q")
    for unit in list(line.units())[1:]:
        lines.remove(SHAPE, unit.job, 0, 1)
    del unit
    gc.collect()
    assert [job.seq for job in gc.get_objects() if isinstance(job, Job) and job.spec is SPEC] == [0]
    lines.remove(SHAPE, stays, 0, 1)
    assert lines.find(SHAPE) is None


@pytest.mark.parametrize("order", list(DispatchOrder))
def test_lines_are_told_by_those_who_come_first_in_them(order: DispatchOrder):
    """As a look at all of them would tell, whoever has come, left or been refused."""
    yard, dice = Yard(), random.Random(7)
    yard.environment()
    yard.queue(dispatch_order=order)
    yard.host("a", cpu=2000)
    for _ in range(60):
        yard.now = Instant(wall_ms=yard.now.wall_ms + dice.randrange(3_000), boot_ms=yard.now.boot_ms + 1)
        yard.submit(container=container(memory=dice.randrange(8, 16)), timeout_s=60 * dice.randrange(1, 4))
        waiting = [job.id for job in yard.world.jobs.values() if job.state is JobState.RUNNABLE]
        if dice.random() < 0.3:
            yard.cancel(dice.choice(waiting))
        if dice.random() < 0.3:
            yard.plan()
        if dice.random() < 0.2 and yard.world.attempts:
            yard.ended(next(iter(yard.world.attempts)), cause=EndCause.EXITED, exit_code=0)
        lines = yard.world.lines.of_queue("q")
        heads = ((line.head(), line) for line in lines)
        by_rank = sorted(
            (line.rank(head, by_size=False), i) for i, (head, line) in enumerate(heads) if head is not None
        )
        told = [line for each in yard.world.lines.heads_of("q").values() for _, line in each.lines()]
        assert told == [lines[i] for _, i in by_rank]
