"""Containers of one task: transcripts of what follows what, and laws over random tasks and histories."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchyard.resources import Usage
from batchyard.tasks import Condition, Container, ContainerDependency, ContainerEnd
from batchyard_agent.core.containers import STOPPED_EARLY_REASON, Containers, End, Kill, Order, Seen, Start
from batchyard_agent.runtimes.protocol import (
    ContainersChanged,
    Exited,
    Started,
    StartFailed,
    StopSignal,
    Vanished,
)

TERM, KILL = StopSignal.TERM, StopSignal.KILL


def container(name: str, *, essential: bool = True, after: str = "", **others: int) -> Container:
    """Build a container that waits for others: ``init:SUCCESS proxy:START``."""
    depends_on = tuple(
        ContainerDependency(container=other, condition=Condition(condition))
        for other, _, condition in (text.partition(":") for text in after.split())
    )
    return Container(name=name, essential=essential, depends_on=depends_on, **others)


INIT = container("init", essential=False)
MAIN = container("main", after="init:SUCCESS")
SIDE = container("side", essential=False, after="init:COMPLETE")


def started(name: str, at_ms: int = 1) -> Started:
    return Started(attempt_id=name, started_at_ms=at_ms)


def exited(name: str, code: int = 0, at_ms: int = 2, **others: bool) -> Exited:
    return Exited(attempt_id=name, exit_code=code, stopped_at_ms=at_ms, **others)


def failed(name: str, reason: str = "no such image", **others: bool) -> StartFailed:
    return StartFailed(attempt_id=name, reason=reason, **others)


def gone(name: str) -> Vanished:
    return Vanished(attempt_id=name, reason="removed")


class Stage:
    """A task and its clock."""

    def __init__(self, *containers: Container) -> None:
        self.now_ms = 0
        self.task = Containers(containers, self.now_ms)

    def begin(self) -> list[Order]:
        return self.task.begin(self.now_ms)

    def see(self, *seen: Seen) -> list[Order]:
        return [order for each in seen for order in self.task.observe(each, self.now_ms)]

    def stop(self, signal: StopSignal = TERM) -> list[Order]:
        return self.task.stop(signal, self.now_ms)

    def wait(self, seconds: int) -> list[Order]:
        self.now_ms += seconds * 1000
        return self.task.on_time(self.now_ms)

    @property
    def outcome(self) -> End:
        return self.task.outcome("job#1")

    def told(self) -> dict[str, str] | None:
        """Return how each is as it is told now; None where there is nothing new."""
        news = self.task.news("job#1")
        assert sum(isinstance(each, Started) for each in news) <= 1
        changes = [each for each in news if isinstance(each, ContainersChanged)]
        assert len(changes) <= 1
        return {end.name: _state(end) for end in changes[0].containers} if changes else None

    def ends(self) -> dict[str, ContainerEnd]:
        return {end.name: end for end in self.task.ends}


def test_a_task_has_used_what_its_containers_have() -> None:
    """Also those whose end decides nothing."""
    stage = Stage(INIT, container("main"))
    stage.begin()
    used = {"init": Usage(peak_memory_kib=5, user_cpu_ms=7), "main": Usage(peak_memory_kib=3, system_cpu_ms=2)}
    for name, usage in used.items():
        stage.see(started(name), replace(exited(name), usage=usage))
    assert isinstance(stage.outcome, Exited)
    assert stage.outcome.usage == Usage(peak_memory_kib=8, user_cpu_ms=7, system_cpu_ms=2)


# Starting -----------------------------------------------------------------------


def test_what_waits_for_nothing_starts_together() -> None:
    assert Stage(container("a"), container("b")).begin() == [Start("a"), Start("b")]


def test_each_starts_as_its_condition_is_met() -> None:
    stage = Stage(container("c", after="b:START"), container("b", essential=False, after="a:COMPLETE"), INIT_A)
    assert stage.begin() == [Start("a")]
    assert stage.see(started("a")) == []
    assert stage.see(exited("a", 3)) == [Start("b")]
    assert stage.task.running_since_ms == 0
    assert stage.see(started("b", 5)) == [Start("c")]
    assert stage.see(started("c", 9)) == []
    assert stage.task.running_since_ms == 9


INIT_A = container("a", essential=False)


def test_an_init_a_sidecar_and_an_essential_main() -> None:
    stage = Stage(INIT, SIDE, MAIN)
    assert stage.begin() == [Start("init")]
    assert stage.see(started("init"), exited("init")) == [Start("side"), Start("main")]
    assert stage.see(started("side", 3), started("main", 4)) == []
    assert stage.see(exited("main", 0, 10)) == [Kill("side", TERM)]
    assert not stage.task.is_over
    assert stage.wait(29) == []
    assert stage.wait(1) == [Kill("side", KILL)]
    stage.see(exited("side", 137, 40))
    assert stage.task.is_over
    end = stage.outcome
    assert isinstance(end, Exited)
    assert (end.exit_code, end.stopped_at_ms) == (0, 40)
    assert {e.name: e.exit_code for e in end.containers} == {"init": 0, "side": 137, "main": 0}


def test_one_that_started_and_ended_counts_as_started() -> None:
    stage = Stage(container("b", after="a:START"), INIT_A)
    stage.begin()
    assert stage.see(started("a")) == [Start("b")]
    assert stage.see(exited("a", 1)) == []


def test_a_failed_init_fails_the_task_before_it_starts() -> None:
    stage = Stage(INIT, SIDE, MAIN)
    stage.begin()
    assert stage.see(started("init"), exited("init", 3)) == []
    assert stage.task.is_over
    end = stage.outcome
    assert isinstance(end, StartFailed)
    assert end.reason == "Container main was not started: init, which it waits for, exited with 3"
    assert (end.image_missing, end.host_failed) == (False, False)
    assert stage.ends()["init"].exit_code == 3
    assert stage.ends()["main"].reason == "It was not started"


def test_what_cannot_start_for_its_init_says_why_and_stops_what_runs() -> None:
    stage = Stage(INIT, container("other"), MAIN)
    assert stage.begin() == [Start("init"), Start("other")]
    stage.see(started("other"))
    assert stage.see(failed("init", image_missing=True)) == [Kill("other", TERM)]
    stage.see(exited("other", 143))
    end = stage.outcome
    assert isinstance(end, StartFailed)
    assert end.image_missing
    assert end.reason == "Container main was not started: init could not start: no such image"


@pytest.mark.parametrize("end", [exited("init", 137, host_failed=True), gone("init")])
def test_what_the_host_did_to_an_init_it_did_to_the_task(end: End) -> None:
    """As when its engine was restarted: no try of the job's."""
    stage = Stage(INIT, MAIN)
    stage.begin()
    stage.see(started("init"), end)
    outcome = stage.outcome
    assert isinstance(outcome, StartFailed)
    assert outcome.host_failed


def test_a_chain_of_those_that_never_start() -> None:
    stage = Stage(INIT, container("mid", essential=False, after="init:SUCCESS"), container("main", after="mid:START"))
    stage.begin()
    stage.see(started("init"), exited("init", 1))
    assert stage.task.is_over
    assert isinstance(stage.outcome, StartFailed)


def test_a_non_essential_one_that_nobody_waits_for_may_fail() -> None:
    stage = Stage(container("side", essential=False), container("main"))
    stage.begin()
    assert stage.see(failed("side"), started("main", 7)) == []
    stage.see(exited("main"))
    end = stage.outcome
    assert isinstance(end, Exited)
    assert end.exit_code == 0
    assert stage.ends()["side"].reason == "no such image"


# Ending -------------------------------------------------------------------------


def test_an_essential_end_stops_the_others_whatever_it_is() -> None:
    for end in (exited("a"), exited("a", 5), failed("a"), gone("a")):
        stage = Stage(container("a"), container("b"), container("c", essential=False))
        stage.begin()
        stage.see(started("b"), started("c"))
        assert stage.see(end) == [Kill("b", TERM), Kill("c", TERM)]


def test_all_essential_ones_have_to_succeed_and_the_first_that_does_not_decides() -> None:
    stage = Stage(container("a"), container("b"))
    stage.begin()
    stage.see(started("a"), started("b"))
    stage.see(exited("a", 4, 10), exited("b", 143, 12))
    end = stage.outcome
    assert isinstance(end, Exited)
    assert (end.exit_code, end.stopped_at_ms) == (4, 12)


def test_whom_the_task_stopped_does_not_fail_it() -> None:
    stage = Stage(container("a"), container("b"))
    stage.begin()
    stage.see(started("a"), started("b"), exited("a"))
    stage.see(exited("b", 143))
    end = stage.outcome
    assert isinstance(end, Exited)
    assert end.exit_code == 0


def test_memory_and_host_faults_come_with_the_deciding_end() -> None:
    stage = Stage(container("a"), container("b", essential=False))
    stage.begin()
    stage.see(started("a"), started("b"), exited("b", 137, out_of_memory=True))
    stage.see(exited("a", 137, out_of_memory=True))
    end = stage.outcome
    assert isinstance(end, Exited)
    assert end.out_of_memory
    assert stage.ends()["b"].reason.startswith("OutOfMemoryError")


def test_each_is_killed_after_its_own_stop_timeout() -> None:
    stage = Stage(
        container("a"),
        container("b", essential=False, stop_timeout_s=5),
        container("c", essential=False, stop_timeout_s=60),
    )
    stage.begin()
    stage.see(started("a"), started("b"), started("c"), exited("a"))
    assert stage.task.next_due_ms == 5000
    assert stage.wait(5) == [Kill("b", KILL)]
    assert stage.wait(10) == [Kill("b", KILL)]
    stage.see(exited("b", 137))
    assert stage.wait(45) == [Kill("c", KILL)]


def test_a_stop_reaches_all_and_starts_no_more() -> None:
    stage = Stage(INIT, SIDE, MAIN)
    stage.begin()
    stage.see(started("init"))
    assert stage.stop() == [Kill("init", TERM)]
    assert stage.see(exited("init", 0)) == []
    assert stage.task.is_over
    end = stage.outcome
    assert isinstance(end, StartFailed)
    assert end.reason == STOPPED_EARLY_REASON


def test_a_stopped_task_ends_with_the_code_of_its_first_essential_container() -> None:
    stage = Stage(container("a"), container("b"))
    stage.begin()
    stage.see(started("a"), started("b"))
    assert stage.stop() == [Kill("a", TERM), Kill("b", TERM)]
    assert stage.stop(KILL) == [Kill("a", KILL), Kill("b", KILL)]
    stage.see(exited("b", 137), exited("a", 143))
    end = stage.outcome
    assert isinstance(end, Exited)
    assert end.exit_code == 137


def test_a_task_that_vanished_says_so() -> None:
    stage = Stage(container("a"))
    stage.begin()
    stage.see(started("a"), gone("a"))
    assert stage.outcome == Vanished(attempt_id="job#1", reason="removed")


# Time ---------------------------------------------------------------------------


def test_who_waits_longer_than_its_start_timeout_fails_the_task() -> None:
    stage = Stage(INIT, replace(MAIN, start_timeout_s=10))
    stage.begin()
    stage.see(started("init"))
    assert stage.task.next_due_ms == 10_000
    assert stage.wait(10) == [Kill("init", TERM)]
    stage.see(exited("init", 143))
    end = stage.outcome
    assert isinstance(end, StartFailed)
    assert end.reason == "Container main was not started: init did not get ready within 10 s"


def test_who_is_waited_for_longer_than_its_own_start_timeout_fails_the_task() -> None:
    """Amazon ECS counts it from that container's start."""
    stage = Stage(container("zero", essential=False), replace(INIT, start_timeout_s=10, depends_on=()), MAIN)
    stage.begin()
    stage.wait(5)
    stage.see(started("init"), started("zero"))
    assert stage.task.next_due_ms == 15_000
    assert stage.wait(9) == []
    assert stage.wait(1) == [Kill("zero", TERM), Kill("init", TERM)]


def test_no_start_timeout_counts_once_all_is_met() -> None:
    stage = Stage(replace(INIT, start_timeout_s=10), replace(MAIN, start_timeout_s=10))
    stage.begin()
    stage.see(started("init"), exited("init"))
    assert stage.task.next_due_ms is None
    assert stage.wait(100) == []


# What is told meanwhile ---------------------------------------------------------


def _state(end: ContainerEnd) -> str:
    if end.exit_code is not None:
        return str(end.exit_code)
    return end.reason or ("runs" if end.started_at_ms else "")


def test_how_containers_are_is_told_as_one_has_started_or_ended_and_only_then() -> None:
    stage = Stage(replace(INIT, start_timeout_s=60), MAIN, SIDE)
    stage.begin()
    assert stage.told() == {"init": "", "main": "", "side": ""}
    assert stage.told() is None
    stage.see(started("init"))
    assert stage.told() == {"init": "runs", "main": "", "side": ""}
    stage.wait(5)
    assert stage.told() is None
    stage.see(exited("init"), started("main"))
    assert stage.told() == {"init": "0", "main": "runs", "side": ""}
    assert stage.told() is None
    stage.see(started("side"))
    assert [type(each) for each in stage.task.news("job#1")] == [ContainersChanged, Started]
    assert stage.told() is None


def test_after_the_agents_death_all_is_told_anew() -> None:
    stage = Stage(INIT, MAIN)
    stage.task.restore([started("init", 3), exited("init", 0, 4)])
    stage.begin()
    assert stage.told() == {"init": "0", "main": ""}


# After the agent's death --------------------------------------------------------


def test_what_was_left_goes_on() -> None:
    stage = Stage(INIT, SIDE, MAIN)
    stage.task.restore([started("init"), exited("init"), "side"])
    assert stage.begin() == [Start("main")]
    stage.see(started("side", 5), started("main", 8))
    assert stage.task.running_since_ms == 8


def test_what_ended_after_the_task_was_over_counts_as_stopped() -> None:
    stage = Stage(container("a"), container("b"), container("c"))
    stage.task.restore([exited("a", 0, 10), exited("b", 143, 20), "c"])
    assert stage.begin() == [Kill("c", TERM)]
    stage.see(exited("c", 1, 30))
    end = stage.outcome
    assert isinstance(end, Exited)
    assert end.exit_code == 0


# Laws ---------------------------------------------------------------------------

NAMES = "abcde"


@st.composite
def tasks(draw: st.DrawFn) -> list[Container]:
    """Tasks that the rules allow: acyclic, with an essential container, COMPLETE and SUCCESS of others alone."""
    count = draw(st.integers(1, 5))
    essential = draw(st.lists(st.booleans(), min_size=count, max_size=count).filter(any))
    found = []
    for i in range(count):
        others = draw(st.lists(st.sampled_from(NAMES[:i]), unique=True, max_size=2)) if i else []
        depends_on = tuple(
            ContainerDependency(
                container=other,
                condition=Condition.START if essential[NAMES.index(other)] else draw(st.sampled_from(list(Condition))),
            )
            for other in others
        )
        timeouts = {key: draw(st.sampled_from([0, 0, 2, 40])) for key in ("start_timeout_s", "stop_timeout_s")}
        found.append(Container(name=NAMES[i], essential=essential[i], depends_on=depends_on, **timeouts))
    return draw(st.permutations(found))


@settings(max_examples=400)
@given(tasks(), st.data())
def test_laws_of_any_task_and_history(containers: list[Container], data: st.DataObject) -> None:
    """No container starts twice, none before what it waits for; it ends, and the outcome follows from the ends."""
    by_name = {c.name: c for c in containers}
    task, now_ms, wall_ms = Containers(containers, 0), 0, 100
    starts: list[str] = []
    living: dict[str, bool] = {}
    """Names, and whether they run."""
    seen_start: set[str] = set()
    ends: dict[str, End] = {}
    told: set[str] = set()
    stopped = False

    def take(orders: list[Order]) -> None:
        for order in orders:
            if isinstance(order, Start):
                assert order.name not in starts
                assert not stopped
                for d in by_name[order.name].depends_on:
                    end = ends.get(d.container)
                    assert d.container in seen_start or isinstance(end, Exited)
                    if d.condition is not Condition.START:
                        assert isinstance(end, Exited)
                        assert d.condition is Condition.COMPLETE or end.exit_code == 0
                assert not any(by_name[name].essential for name in ends), "the task is over"
                starts.append(order.name)
                living[order.name] = False
            else:
                assert order.name in living
                told.add(order.name)

    take(task.begin(now_ms))
    for _ in range(60):
        if task.is_over:
            break
        wall_ms += 1
        moves = ["time", "stop", *(name for name in living for _ in range(4))]
        move = data.draw(st.sampled_from(moves))
        if move == "time":
            now_ms = max(now_ms, task.next_due_ms or now_ms)
            take(task.on_time(now_ms))
        elif move == "stop":
            stopped = True
            take(task.stop(data.draw(st.sampled_from([TERM, KILL])), now_ms))
        elif not living[move] and data.draw(st.booleans()):
            living[move] = True
            seen_start.add(move)
            take(task.observe(started(move, wall_ms), now_ms))
        else:
            kinds: list[End] = [exited(move, data.draw(st.sampled_from([0, 0, 3])), wall_ms), gone(move)]
            if not living[move]:
                kinds = [failed(move)]
            ends[move] = data.draw(st.sampled_from(kinds))
            del living[move]
            take(task.observe(ends[move], now_ms))
    while living:  # what was signalled ends in the end
        name = next(iter(living))
        if name not in told:
            stopped = True
            take(task.stop(TERM, now_ms))
        del living[name]
        ends[name] = exited(name, 143, wall_ms)
        take(task.observe(ends[name], now_ms))
    assert task.is_over
    check_outcome(task, by_name, ends, told)


def check_outcome(task: Containers, by_name: dict[str, Container], ends: dict[str, End], told: set[str]) -> None:
    """Say again, by itself, how a task must have ended (containers-and-gangs 2.3)."""
    outcome = task.outcome("job#1")
    own = [end for name, end in ends.items() if by_name[name].essential and name not in told]
    bad = [end for end in own if not (isinstance(end, Exited) and end.exit_code == 0)]
    if bad:
        assert type(outcome) is type(bad[0])
        assert getattr(outcome, "exit_code", None) == getattr(bad[0], "exit_code", None)
    elif own:
        assert isinstance(outcome, Exited)
        assert outcome.exit_code == 0
    else:
        assert isinstance(outcome, StartFailed | Exited)
    if not isinstance(outcome, Vanished):
        assert [each.name for each in outcome.containers] == [*by_name]
        assert {each.name for each in outcome.containers if each.exit_code is not None} == {
            name for name, end in ends.items() if isinstance(end, Exited)
        }


@pytest.mark.parametrize("code", [0, 1, 255])
def test_one_container_of_a_task_is_told_as_it_is(code: int) -> None:
    stage = Stage(container("a"))
    stage.begin()
    stage.see(started("a"), exited("a", code))
    end = stage.outcome
    assert isinstance(end, Exited)
    assert end.exit_code == code
