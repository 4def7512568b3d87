"""A host that fails every start draws no work: few tries are lost on it, none is charged, and it is named."""

from __future__ import annotations

import pytest
from tests.core.law import Shelf
from tests.core.yard import Yard, container

from batchyard.ids import AttemptId, HostId
from batchyard.states import EndCause, JobState
from batchyard_controller.core.events import HostHeard, HostMarked, Phase, Report, Ticked
from batchyard_controller.core.jobs import retry
from batchyard_controller.core.model.attempts import AttemptEnd, EndedAttempt, RetryDecision, Verdict
from batchyard_controller.core.model.jobs import ExitAction, ExitRule, Job, RetryStrategy
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement.trust import WINDOW_MS

STEP_MS = 500


class BrokenYard(Yard):
    """A yard of one good host and one that fails every start at once, both just joined, in steps of time."""

    def __init__(self, cause: EndCause, cpu: int, starts_after: int) -> None:
        super().__init__()
        self.environment()
        self.queue()
        self.host("good", cpu=4000)
        self.host("bad", is_proven=False, cpu=cpu)
        self._cause = cause
        self._starts_after = starts_after
        self._ages: dict[str, int] = {}
        self.tried_at: list[int] = []

    def step(self) -> None:
        """Half a second: the good host starts and ends what it has, the bad one fails."""
        self.now = Instant(wall_ms=self.now.wall_ms + STEP_MS, boot_ms=self.now.boot_ms + STEP_MS)
        for host_id in self.world.hosts:
            self.apply(HostHeard(host_id=host_id))
        self.apply(Ticked())
        self.plan()
        for attempt_id, host in self.live().items():
            if host == "bad":
                self.tried_at.append(self.now.boot_ms)
                end = AttemptEnd(cause=self._cause, reason="CannotStartContainerError: no")
                self.report(Report(attempt_id=AttemptId(attempt_id), phase=Phase.ENDED, end=end))
            else:
                self._age(attempt_id)

    def _age(self, attempt_id: str) -> None:
        age = self._ages[attempt_id] = self._ages.get(attempt_id, 0) + 1
        if age == self._starts_after:
            self.started(attempt_id)
        elif age == self._starts_after + 4:
            self.ended(attempt_id)

    def until_ended(self, jobs: list[Job]) -> None:
        for _ in range(100_000):
            self.step()
            if all(job.state.is_final for job in jobs):
                return
        raise AssertionError("it does not end")

    def most_in_window(self) -> int:
        """Return the most tries on the bad host within five minutes."""
        return max((sum(at <= each < at + WINDOW_MS for each in self.tried_at) for at in self.tried_at), default=0)


@pytest.fixture
def one() -> Yard:
    yard = Yard()
    yard.environment()
    yard.queue()
    yard.host("one", cpu=1000)
    return yard


@pytest.mark.parametrize("cause", [EndCause.HOST_ERROR, EndCause.IMAGE_UNAVAILABLE])
@pytest.mark.parametrize("cpu", [1000, 4000, 64_000])
@pytest.mark.parametrize("starts_after", [1, 4, 40])
def test_of_forty_jobs_with_one_attempt_none_fails(cause: EndCause, cpu: int, starts_after: int) -> None:
    """Whatever the host lacks, however large it is, and however slowly the good one starts."""
    yard = BrokenYard(cause, cpu, starts_after)
    jobs = [yard.submit(container=container(image="busybox")) for _ in range(40)]
    yard.until_ended(jobs)
    assert {job.state for job in jobs} == {JobState.SUCCEEDED}
    assert 1 <= yard.most_in_window() <= 3


@pytest.mark.parametrize("cause", [EndCause.HOST_ERROR, EndCause.IMAGE_UNAVAILABLE])
def test_the_broken_host_is_named_with_its_reason(cause: EndCause) -> None:
    yard = BrokenYard(cause, 4000, 2)
    array = yard.submit(container=container(image="busybox"), array_size=40)
    for _ in range(30):
        yard.step()
    trust = yard.world.hosts[HostId("bad")].trust
    assert trust.suspicion == "starts failed on it: CannotStartContainerError: no"
    assert trust.rests_until_boot_ms > yard.now.boot_ms + 4 * 60_000
    assert array.children.count(JobState.FAILED) == 0


def test_a_host_that_breaks_later_is_no_black_hole_either() -> None:
    """Its last start vouches for it for a minute, and no longer."""
    yard = BrokenYard(EndCause.HOST_ERROR, 64_000, 2)
    yard.host("bad", cpu=64_000, session=2)
    yard.world.hosts[HostId("bad")].trust.proven_until_boot_ms = yard.now.boot_ms + 1
    yard.step()
    jobs = [yard.submit() for _ in range(40)]
    yard.until_ended(jobs)
    assert {job.state for job in jobs} == {JobState.SUCCEEDED}
    assert yard.most_in_window() <= 3


def test_what_a_host_loses_soon_after_its_start_is_as_a_start_that_failed(one: Yard) -> None:
    """As a host that can start processes, but cannot follow them. One that had run for long says nothing of starts."""
    trust = one.world.hosts[HostId("one")].trust
    for waits_ms, rests in ((3_000, True), (10 * 60_000, False)):
        job = one.submit()
        one.plan()
        one.started(f"{job.id}#1", one.now.wall_ms)
        one.now = Instant(wall_ms=one.now.wall_ms + waits_ms, boot_ms=one.now.boot_ms + waits_ms)
        one.ended(f"{job.id}#1", None, EndCause.HOST_ERROR)
        assert bool(trust.rests_until_boot_ms) is rests
        one.terminate(job.id)
        one.apply(HostMarked(host_id=HostId("one"), cordoned=False, draining=False))
        trust = one.world.hosts[HostId("one")].trust


def test_a_bad_command_is_the_jobs_own_fault(one: Yard) -> None:
    """It is charged, and nothing is held against the host."""
    jobs = [one.submit() for _ in range(5)]
    for job in jobs:
        one.plan()
        end = AttemptEnd(cause=EndCause.START_FAILED, exit_code=127)
        one.report(Report(attempt_id=AttemptId(f"{job.id}#1"), phase=Phase.ENDED, end=end))
    assert {job.state for job in jobs} == {JobState.FAILED}
    assert not one.world.hosts[HostId("one")].trust.rests_until_boot_ms


def test_misspelt_images_leave_a_yard_at_work() -> None:
    """Two hosts that cannot get what nobody has are as good as before."""
    yard = Yard()
    yard.environment()
    yard.queue()
    yard.host("a", cpu=1000)
    yard.host("b", cpu=1000)
    jobs = [yard.submit(container=container(image="busibox")) for _ in range(6)]
    for _ in range(12):
        yard.plan()
        for attempt_id in yard.live():
            end = AttemptEnd(cause=EndCause.IMAGE_UNAVAILABLE)
            yard.report(Report(attempt_id=AttemptId(attempt_id), phase=Phase.ENDED, end=end))
    assert {job.state for job in jobs} == {JobState.FAILED}
    assert {len(job.attempts) for job in jobs} == {2}
    assert not any(host.trust.rests_until_boot_ms for host in yard.world.hosts.values())


def test_users_rules_are_not_asked_about_what_a_host_failed() -> None:
    """A rule that ends all but lost hosts, as AWS users write it, is about the job."""
    rules = (
        ExitRule(action=ExitAction.RETRY, on_status_reason="Host EC2*"),
        ExitRule(action=ExitAction.EXIT, on_reason="*"),
    )
    ended = EndedAttempt(number=1, cause=EndCause.HOST_ERROR)
    strategy = RetryStrategy(attempts=2, rules=rules)
    assert _evaluate(strategy, ended) is RetryDecision.ELSEWHERE
    beyond = (*[EndedAttempt(number=n, cause=EndCause.HOST_ERROR) for n in range(1, 6)],)
    assert _evaluate(strategy, *beyond, EndedAttempt(number=6, cause=EndCause.HOST_ERROR)) is RetryDecision.RULE_EXIT


def test_an_image_is_tried_elsewhere_only_while_another_host_may_have_it() -> None:
    ended = EndedAttempt(number=1, cause=EndCause.IMAGE_UNAVAILABLE)
    assert _evaluate(RetryStrategy(), ended, has_other_taker=True) is RetryDecision.ELSEWHERE
    assert _evaluate(RetryStrategy(), ended) is RetryDecision.EXHAUSTED
    elsewhere = Verdict(decision=RetryDecision.ELSEWHERE)
    before = EndedAttempt(number=1, cause=EndCause.IMAGE_UNAVAILABLE, verdict=elsewhere)
    assert _evaluate(RetryStrategy(attempts=2), before, EndedAttempt(number=2)) is RetryDecision.RETRY


def _evaluate(strategy: RetryStrategy, *attempts: EndedAttempt, has_other_taker: bool = False) -> RetryDecision:
    return retry.evaluate(strategy, attempts, has_other_taker=has_other_taker).decision


def test_who_was_failed_by_a_host_waits_in_its_own_line_after_a_restart_too(one: Yard) -> None:
    """Children that a host failed stand in another line than their siblings."""
    one.host("two", cpu=1000)
    one.submit(array_size=4, container=container(image="busybox"))
    one.plan()
    (failed, *_) = [a for a, host in one.live().items() if host == "one"]
    end = AttemptEnd(cause=EndCause.IMAGE_UNAVAILABLE)
    one.report(Report(attempt_id=AttemptId(failed), phase=Phase.ENDED, end=end))
    avoiding = {line.shape.avoids: [u.index for u in line.units()] for line in one.world.lines.of_queue("q")}
    assert avoiding == {frozenset(): [2, 3], frozenset({HostId("one")}): [one.unit(failed.partition("#")[0]).index]}
    Shelf().check(one.world, one.now)  # a new leader finds the same lines
