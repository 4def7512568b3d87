"""Preemption of multi-node jobs and by them: all nodes are stopped or none, and others only where all nodes have room then."""

from __future__ import annotations

from typing import Any

import pytest
from tests.core.test_node_laws import CutShelf, nodes
from tests.core.test_preemption import PREEMPTS, asked, placed, stopping
from tests.core.yard import Yard, container, task

from batchyard.ids import HostId, JobId
from batchyard.states import EndCause, JobState
from batchyard_controller.core.attempt_reports import Phase, Report
from batchyard_controller.core.commands import SendStart, SendStop
from batchyard_controller.core.events import HostLeft
from batchyard_controller.core.model.jobs import Job, RetryStrategy
from batchyard_controller.core.model.nodes import NodeRange, Nodes, Spread
from batchyard_controller.core.model.settings import ComputeResources
from batchyard_controller.core.model.units import Unit, units_of
from batchyard_controller.core.views.waiting import waiting_reason
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


# As beneficiaries --------------------------------------------------------------------------


def cleared(yard: Yard) -> list[str]:
    return sorted(r.host_id for r in yard.world.reservations if r.is_cleared)


def test_room_is_made_on_several_hosts_at_once(yard: Yard):
    """All nodes start when the last has ended who was stopped; meanwhile nobody takes what falls free, however short he is."""
    hosts(yard, "a", "b", "c")
    low = [placed(yard) for _ in range(3)]
    urgent = yard.submit("urgent", **gang(3))
    yard.plan()
    assert stopping(yard) == sorted(f"{job.id}#1" for job in low)
    assert {a.preempted_for for a in yard.world.attempts.values()} == {urgent.id}
    third = yard.submit("firm", **asked(100), timeout_s=1)
    for job in low:
        end_stopped(yard, f"{job.id}#1")
        yard.plan()
        assert third.state is JobState.RUNNABLE
    assert states(urgent) == ["STARTING"] * 3
    assert not cleared(yard)
    yard.run_all()
    assert {job.state for job in (*low, urgent, third)} == {JobState.SUCCEEDED}


def test_nobody_is_stopped_for_a_gang_that_would_still_not_fit(yard: Yard):
    """Two hosts of three could be cleared."""
    hosts(yard, "a", "b", "c")
    for queue in ("low", "low", "firm"):
        placed(yard, queue)
    yard.submit("urgent", **gang(3, spread=Spread.HOSTS))
    yard.plan()
    assert not stopping(yard)
    assert not cleared(yard)


def test_hosts_that_have_room_are_kept_too(yard: Yard):
    """And only as many are stopped as must be; who leaves room passes."""
    hosts(yard, "a", "b", "c", cpu=2000)
    low = placed(yard, **asked(2000))
    urgent = yard.submit("urgent", **gang(3, 1500))
    yard.plan()
    assert (stopping(yard), cleared(yard)) == ([f"{low.id}#1"], ["a", "b", "c"])
    large, small = yard.submit("low", **asked(1000)), yard.submit("low", **asked(500))
    yard.plan()
    assert (large.state, small.state) == (JobState.RUNNABLE, JobState.STARTING)
    end_stopped(yard)
    yard.plan()
    assert states(urgent) == ["STARTING"] * 3


def test_a_host_is_taken_where_least_is_stopped(yard: Yard):
    """Of four hosts those three with one job each."""
    for name, jobs in (("a", 1), ("b", 2), ("c", 1), ("d", 1)):
        hosts(yard, name, cpu=2000)
        for _ in range(jobs):
            placed(yard, **asked(2000 // jobs))
    yard.submit("urgent", **gang(3, 2000))
    yard.plan()
    assert cleared(yard) == ["a", "c", "d"]


def test_a_gang_makes_way_for_a_gang(yard: Yard):
    """Stopped once for all hosts."""
    hosts(yard, "a", "b", "c")
    low = running(yard, "low", 3)
    urgent = yard.submit("urgent", **gang(3))
    yard.plan()
    assert stopping(yard) == [f"{low.id}#{i}#1" for i in range(3)]
    end_stopped(yard)
    yard.plan()
    assert (states(urgent), states(low)) == (["STARTING"] * 3, ["RUNNABLE"] * 3)


def test_the_nodes_of_a_gang_share_hosts_where_they_have_to(yard: Yard):
    """Two hosts for four nodes, the main one larger."""
    hosts(yard, "a", "b", cpu=3000)
    low = [placed(yard, **asked(1500)) for _ in range(4)]
    urgent = yard.submit("urgent", **gang(4, 1000, main_cpu=2000))
    yard.plan()
    assert len(stopping(yard)) == 4
    end_stopped(yard)
    yard.plan()
    assert states(urgent) == ["STARTING"] * 4
    assert {job.state for job in low} == {JobState.RUNNABLE}


def test_kinds_of_nodes_get_hosts_that_suit_them(yard: Yard):
    """Though the host that suits both is cheapest for the one that could go anywhere."""
    hosts(yard, "large", cpu=4000)
    hosts(yard, "b", "c", cpu=1000)
    placed(yard, **asked(4000))
    for _ in range(2):
        placed(yard, **asked(1000))
    urgent = yard.submit("urgent", **gang(3, 1000, main_cpu=4000, spread=Spread.HOSTS))
    yard.plan()
    end_stopped(yard)
    yard.plan()
    assert yard.live()[f"{urgent.id}#0#1"] == "large"
    assert states(urgent) == ["STARTING"] * 3


def test_of_gpus_each_node_gets_its_own(yard: Yard):
    """On each host the holders of one GPU are stopped."""
    hosts(yard, "a", "b", cpu=8000, gpus=2)
    for _ in range(8):
        placed(yard, **asked(1000, gpu=500))
    made = Nodes(count=2, main=0, ranges=(NodeRange(target_nodes=":", task=task(container(cpu=1000, gpu=1000))),))
    urgent = yard.submit("urgent", nodes=made, task=None, container=None)
    yard.plan()
    assert len(stopping(yard)) == 4
    end_stopped(yard)
    yard.plan()
    assert states(urgent) == ["STARTING"] * 2


def test_a_bound_of_vcpus_is_made_room_in_for_all_nodes(yard: Yard):
    """Or nobody is stopped."""
    yard.environment("ce", compute_resources=ComputeResources(max_vcpus=3))
    low = []
    for name in "abc":
        hosts(yard, name, cpu=1000)
        low.append(placed(yard))
    hosts(yard, "d", "e")
    yard.submit("urgent", **gang(4))
    yard.plan()
    assert not stopping(yard)
    urgent = yard.submit("urgent", **gang(3))
    yard.plan()
    assert stopping(yard) == sorted(f"{job.id}#1" for job in low)
    end_stopped(yard)
    yard.plan()
    assert states(urgent) == ["STARTING"] * 3


def test_a_host_that_goes_away_takes_the_others_from_the_gang(yard: Yard):
    """Another is cleared in its place if there is one; until then the others are free to all."""
    hosts(yard, "a", "b", "c")
    low = [placed(yard) for _ in range(3)]
    urgent = yard.submit("urgent", **gang(2))
    yard.plan()
    first = cleared(yard)
    gone = HostId(first[0])
    end_stopped(yard)
    yard.apply(HostLeft(host_id=gone, session=1))
    yard.plan()
    assert len(stopping(yard)) == 1
    assert gone not in cleared(yard)
    end_stopped(yard)
    yard.plan()
    assert states(urgent) == ["STARTING"] * 2
    assert sum(job.state is JobState.RUNNABLE for job in low) == 3


def test_whoever_was_turned_away_from_its_hosts_may_go_once_when_a_gang_gives_them_up(yard: Yard):
    """Not after each plan again, for as long as others are stopped there."""
    hosts(yard, "a", "b")
    low = [placed(yard) for _ in range(2)]
    yard.submit("urgent", **gang(2))
    yard.plan()
    (first,) = (f"{job.id}#1" for job in low if yard.live()[f"{job.id}#1"] == "a")
    end_stopped(yard, first)
    small = yard.submit("firm")
    yard.plan()
    assert small.state is JobState.RUNNABLE, "the host that is free waits for the other one"
    yard.apply(HostLeft(host_id=HostId("a"), session=1))
    yard.plan()
    end_stopped(yard)
    yard.plan()
    assert list(yard.live().values()) == ["b"], "what is left is free to all"


def test_the_room_falls_to_all_when_a_gang_is_cancelled(yard: Yard):
    hosts(yard, "a", "b")
    low = [placed(yard) for _ in range(2)]
    urgent = yard.submit("urgent", **gang(2))
    yard.plan()
    yard.cancel(urgent.id)
    assert not yard.world.reservations
    end_stopped(yard)
    yard.plan()
    assert {job.state for job in low} == {JobState.STARTING}


def test_after_a_restart_the_same_hosts_are_kept_for_a_gang(yard: Yard):
    """Though they are not there yet; nobody else is stopped, and nobody takes what falls free."""
    hosts(yard, "a", "b", "c", "d", "e")
    low = [placed(yard) for _ in range(5)]
    urgent = yard.submit("urgent", **gang(3))
    yard.plan()
    told, where = stopping(yard), cleared(yard)
    shelf = CutShelf()
    shelf.check(yard.world, yard.now)
    yard.world = shelf.restore(yard.now, yard.world.retention)
    assert cleared(yard) == where
    for name in sorted(set("abcde") - set(where)) + where:
        here = [a.id for a in yard.world.attempts.values() if a.host_id == name]
        yard.host(name, *(Report(attempt_id=each, phase=Phase.STARTING) for each in here), cpu=1000, session=2)
        yard.plan()
        assert (stopping(yard), cleared(yard)) == (told, where)
    third = yard.submit("firm", **asked(100), timeout_s=1)
    for name in told:
        end_stopped(yard, name)
        yard.plan()
        assert yard.state(third.id) is JobState.RUNNABLE
    assert [str(node.state) for node in units_of(yard.world.jobs[urgent.id])] == ["STARTING"] * 3
    assert sum(yard.state(job.id) is JobState.STARTING for job in low) == 2


def test_after_a_restart_a_gang_of_two_kinds_gets_its_hosts_again(yard: Yard):
    """Which node goes where is found anew, without stopping anybody else."""
    hosts(yard, "a", "b", "c", cpu=2000)
    for _ in range(3):
        placed(yard, **asked(2000))
    urgent = yard.submit("urgent", **gang(2, 1000, main_cpu=2000, spread=Spread.HOSTS))
    yard.plan()
    told, where = stopping(yard), cleared(yard)
    assert len(where) == 2
    shelf = CutShelf()
    shelf.check(yard.world, yard.now)
    yard.world = shelf.restore(yard.now, yard.world.retention)
    for name in "abc":
        here = [a.id for a in yard.world.attempts.values() if a.host_id == name]
        yard.host(name, *(Report(attempt_id=each, phase=Phase.STARTING) for each in here), cpu=2000, session=2)
        yard.plan()
        assert (stopping(yard), cleared(yard)) == (told, where)
    end_stopped(yard)
    yard.plan()
    assert yard.state(urgent.id) is JobState.STARTING


def test_what_is_said_of_a_gang_for_which_others_are_stopped(yard: Yard):
    hosts(yard, "a", "b")
    for _ in range(2):
        placed(yard)
    urgent = yard.submit("urgent", **gang(2))
    yard.plan()
    for unit in (Unit(urgent), Unit(urgent, 1)):
        assert "attempts on 2 hosts that are being stopped for it: 2" in waiting_reason(yard.world, unit)


@pytest.mark.parametrize("steps_max", [1, 3, None])
def test_slices_make_room_for_gangs_as_one_plan_does(yard: Yard, steps_max: int | None):
    """Two gangs of one line, one after the other, and a job that goes by itself."""
    hosts(yard, *"abcdefg", cpu=2000)
    yard.submit("low", array_size=14)
    yard.plan()
    jobs = [yard.submit("urgent", **gang(3, 1500)) for _ in range(2)]
    jobs.append(yard.submit("urgent", **asked(2000)))
    yard.plan(steps_max)
    assert len(stopping(yard)) == 14
    end_stopped(yard)
    yard.plan(steps_max)
    assert {job.state for job in jobs} == {JobState.STARTING}


def test_nodes_that_were_to_stop_and_no_host_knew_of_are_told_when_their_main_one_is_over() -> None:
    """As a leader left them that died before it had told anybody; the main one's start and end come in one report."""
    yard = Yard()
    yard.environment()
    yard.queue()
    yard.host("h1")
    job = yard.submit(nodes=nodes(3), task=None, container=None)
    yard.plan()
    for attempt in yard.world.attempts.values():
        attempt.preempted_for = JobId("another")
    sent = yard.ended(f"{job.id}#0#1", 143, EndCause.STOPPED)
    told = {command.attempt_id for command in sent if isinstance(command, SendStop)}
    assert told == {f"{job.id}#1#1", f"{job.id}#2#1"}
