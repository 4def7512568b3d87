"""Preemption of multi-node jobs and by them: all nodes are stopped or none, and others only where all nodes have room then."""

from __future__ import annotations

from typing import Any

import pytest
from tests.core.test_node_laws import CutShelf, nodes
from tests.core.test_preemption import PREEMPTS, asked, placed, stopping
from tests.core.yard import Yard

from batchyard.states import EndCause, JobState
from batchyard_controller.core.commands import SendStart, SendStop
from batchyard_controller.core.events import Phase, Report
from batchyard_controller.core.model.jobs import Job, RetryStrategy
from batchyard_controller.core.model.units import Unit, units_of
from batchyard_controller.core.views.words import ending_reason
from batchyard_controller.core.world import invariants


@pytest.fixture
def yard() -> Yard:
    made = Yard()
    made.environment()
    made.queue("low", priority=1, preemptible=True)
    made.queue("urgent", priority=5, **PREEMPTS)
    made.queue("firm", priority=1)
    return made


def hosts(yard: Yard, *names: str, cpu: int = 1000, **fields: Any) -> None:
    for name in names:
        yard.host(name, cpu=cpu, **fields)


def gang(count: int, cpu: int = 1000, **fields: Any) -> dict[str, Any]:
    of_nodes = {key: fields.pop(key) for key in ("main", "main_cpu", "fail_together", "spread") if key in fields}
    return {"nodes": nodes(count, cpu=cpu, **of_nodes), "task": None, "container": None, **fields}


def running(yard: Yard, queue: str, count: int, cpu: int = 1000, **fields: Any) -> Job:
    """Submit a gang that is placed at once, and let all its nodes start."""
    job = placed(yard, queue, **gang(count, cpu, **fields))
    main = Unit(job).main
    for node in (main, *(node for node in units_of(job) if node.index != main.index)):
        yard.started(f"{node.id}#{node.next_number}", yard.now.wall_ms)
    return job


def states(job: Job) -> list[str]:
    return [str(node.state) for node in units_of(job)]


def end_stopped(yard: Yard, *names: str) -> None:
    for name in names or stopping(yard):
        yard.ended(name, 143, EndCause.STOPPED)


# As victims --------------------------------------------------------------------------------


def test_a_gang_is_stopped_as_a_whole_and_runs_again(yard: Yard):
    """All nodes are told at once; no try is counted, whoever ends first."""
    hosts(yard, "a", "b", "c")
    low = running(yard, "low", 3, retry=RetryStrategy(attempts=1))
    urgent = yard.submit("urgent")
    sent = yard.plan()
    assert {c.attempt_id for c in sent if isinstance(c, SendStop)} == {f"{low.id}#{i}#1" for i in range(3)}
    end_stopped(yard, f"{low.id}#1#1")
    assert low.state is JobState.RUNNING
    end_stopped(yard, f"{low.id}#0#1")
    assert low.state is JobState.PENDING, "the last node is not over"
    yard.plan()
    assert urgent.state is JobState.RUNNABLE or yard.live()[f"{urgent.id}#1"] != "c"
    end_stopped(yard)
    assert states(low) == ["RUNNABLE"] * 3
    yard.plan()
    assert urgent.state is JobState.STARTING
    for node in units_of(low):
        (ended,) = node.attempts
        assert (ended.cause, ended.preempted_for) == (EndCause.PREEMPTED, urgent.id)
    yard.ended(f"{urgent.id}#1")
    yard.plan()
    yard.run_all()
    assert (low.state, len(Unit(low).main.attempts)) == (JobState.SUCCEEDED, 2)


def test_a_gang_counts_as_all_its_nodes(yard: Yard):
    """Of one host two single jobs are stopped rather than a node of three; a single one of the same rank rather than a gang of one host."""
    hosts(yard, "a", cpu=2000)
    hosts(yard, "b", "c")
    low = running(yard, "low", 3)
    small = placed(yard)
    assert yard.live()[f"{small.id}#1"] == "a"
    yard.submit("urgent")
    yard.plan()
    assert stopping(yard) == [f"{small.id}#1"]
    yard.submit("urgent")
    yard.plan()
    assert stopping(yard) == sorted([f"{small.id}#1", *(f"{low.id}#{i}#1" for i in range(3))])


def test_two_small_ones_are_stopped_rather_than_a_gang_of_three(yard: Yard):
    """Though one node would be enough, and came later."""
    hosts(yard, "a", cpu=4000)
    small = [placed(yard) for _ in range(2)]
    hosts(yard, "b", "c", cpu=2000)
    running(yard, "low", 3, 2000)
    yard.submit("urgent", **asked(2000))
    yard.plan()
    assert stopping(yard) == sorted(f"{job.id}#1" for job in small)


def test_the_room_of_all_nodes_is_given_back(yard: Yard):
    """Two urgent jobs need one gang to be stopped, not two."""
    hosts(yard, "a", "b", "c", "d")
    first = running(yard, "low", 2)
    second = running(yard, "low", 2)
    jobs = [yard.submit("urgent") for _ in range(2)]
    yard.plan()
    assert stopping(yard) == [f"{second.id}#{i}#1" for i in range(2)]
    end_stopped(yard)
    yard.plan()
    assert {job.state for job in jobs} == {JobState.STARTING}
    assert states(first) == ["RUNNING"] * 2


def test_several_nodes_on_one_host_are_one(yard: Yard):
    """What they hold there is counted together."""
    hosts(yard, "a", cpu=3000)
    low = running(yard, "low", 3)
    urgent = yard.submit("urgent", **asked(2000))
    yard.plan()
    assert stopping(yard) == [f"{low.id}#{i}#1" for i in range(3)]
    end_stopped(yard)
    yard.plan()
    assert urgent.state is JobState.STARTING


def test_a_gang_whose_main_node_is_being_started_is_stopped_too(yard: Yard):
    """Its other nodes, of which no host was told, go with the main one; they are not started when that has just begun."""
    hosts(yard, "a", "b")
    low = placed(yard, "low", **gang(2))
    urgent = yard.submit("urgent")
    yard.plan()
    sent = yard.started(f"{low.id}#0#1")
    assert not [c for c in sent if isinstance(c, SendStart)]
    end_stopped(yard)
    yard.plan()
    assert urgent.state is JobState.STARTING
    assert states(low) == ["RUNNABLE"] * 2


def test_nodes_that_are_left_are_waited_for(yard: Yard):
    """Of a gang that failed the other nodes are being stopped: nobody else has to go, and nothing is stopped twice."""
    hosts(yard, "a", "b")
    low = running(yard, "low", 2)
    yard.ended(f"{low.id}#0#1", 1)
    urgent = [yard.submit("urgent") for _ in range(2)]
    yard.plan()
    assert not stopping(yard)
    assert sorted(str(job.state) for job in urgent) == ["RUNNABLE", "STARTING"]


def test_a_gang_that_succeeds_meanwhile_has_succeeded(yard: Yard):
    """Its main node ended by itself; nodes that were stopped stay so."""
    hosts(yard, "a", "b", "c")
    low = running(yard, "low", 3)
    yard.submit("urgent")
    yard.plan()
    end_stopped(yard, f"{low.id}#2#1")
    yard.ended(f"{low.id}#0#1", 0)
    end_stopped(yard)
    assert (low.state, states(low)) == (JobState.SUCCEEDED, ["SUCCEEDED", "FAILED", "FAILED"])
    assert ending_reason(Unit(low, 2)).startswith("Preempted by job ")


def test_a_gang_that_fails_together_is_preempted_and_has_not_failed(yard: Yard):
    """Though a node ends before the main one."""
    hosts(yard, "a", "b")
    low = running(yard, "low", 2, fail_together=True)
    yard.submit("urgent")
    yard.plan()
    end_stopped(yard, f"{low.id}#1#1")
    end_stopped(yard)
    assert states(low) == ["RUNNABLE"] * 2


@pytest.mark.parametrize(("again", "state"), [(0, JobState.FAILED), (1, JobState.RUNNABLE)])
def test_a_gang_may_say_how_often_it_runs_again(yard: Yard, again: int, state: JobState):
    """By its main node's tries."""
    hosts(yard, "a", "b")
    low = running(yard, "low", 2, retry=RetryStrategy(preemption_retries_before_termination=again))
    yard.submit("urgent")
    yard.plan()
    end_stopped(yard)
    assert low.state is state


@pytest.mark.parametrize("kept", [0, 1, 2, 3])
def test_a_gang_is_stopped_as_a_whole_also_where_a_commit_was_cut_short(yard: Yard, kept: int):
    """Of its many nodes the order to stop was stored for some."""
    hosts(yard, "a", memory=1 << 20)
    low = running(yard, "low", 130, 5)
    urgent, shelf = yard.submit("urgent"), CutShelf()
    shelf.check(yard.world, yard.now)
    yard.plan()
    assert len(stopping(yard)) == 130
    yard.world = shelf.cut(yard.world, kept, yard.now)
    invariants.check(yard.world)
    assert len(stopping(yard)) == (130 if kept else 0)
    reports = [Report(attempt_id=name, phase=Phase.RUNNING) for name in yard.world.attempts]
    told = yard.host("a", *reports, cpu=1000, memory=1 << 20, session=2)
    assert len([c for c in told if isinstance(c, SendStop)]) == len(stopping(yard))
    yard.plan()
    end_stopped(yard)
    yard.plan()
    assert (yard.state(urgent.id), yard.state(low.id)) == (JobState.STARTING, JobState.RUNNABLE)
