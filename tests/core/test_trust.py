"""A host that fails every start draws no work: few tries are lost on it, none is charged, and it is named."""

from __future__ import annotations

import pytest
from tests.core.law import Shelf
from tests.core.yard import Yard, container

from batchyard.ids import AttemptId, HostId
from batchyard.states import EndCause, JobState
from batchyard_controller.core.attempt_reports import Phase, Report
from batchyard_controller.core.events import HostHeard, HostLeft, HostMarked, Ticked
from batchyard_controller.core.jobs import retry
from batchyard_controller.core.model.attempts import AttemptEnd, EndedAttempt, RetryDecision, Verdict
from batchyard_controller.core.model.jobs import ExitAction, ExitRule, Job, RetryStrategy
from batchyard_controller.core.model.settings import ComputeResources
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement.trust import LACK_MS, REST_MS, SUSPECTED_MS, WINDOW_MS
from batchyard_controller.core.views.suspicion import held_against
from batchyard_controller.core.views.waiting import waiting_reason

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


def lack_image(yard: Yard, attempt_id: str) -> None:
    end = AttemptEnd(cause=EndCause.IMAGE_UNAVAILABLE, reason="CannotPullContainerError: no")
    yard.report(Report(attempt_id=AttemptId(attempt_id), phase=Phase.ENDED, end=end))


def fail(yard: Yard, attempt_id: str) -> None:
    end = AttemptEnd(cause=EndCause.HOST_ERROR, reason="CannotStartContainerError: no")
    yard.report(Report(attempt_id=AttemptId(attempt_id), phase=Phase.ENDED, end=end))


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


@pytest.mark.parametrize(
    ("cause", "text"),
    [
        (EndCause.HOST_ERROR, "starts failed on it: CannotStartContainerError: no"),
        (EndCause.IMAGE_UNAVAILABLE, "cannot get image busybox: CannotStartContainerError: no"),
    ],
)
def test_the_broken_host_is_named_with_its_reason(cause: EndCause, text: str) -> None:
    yard = BrokenYard(cause, 4000, 2)
    array = yard.submit(container=container(image="busybox"), array_size=40)
    for _ in range(30):
        yard.step()
    said, until_boot_ms = held_against(yard.world, yard.world.hosts[HostId("bad")])
    assert said == text
    assert until_boot_ms > yard.now.boot_ms + 4 * 60_000
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
            lack_image(yard, attempt_id)
    assert {job.state for job in jobs} == {JobState.FAILED}
    assert [len(job.attempts) for job in jobs] == [2, 1, 1, 1, 1, 1]
    assert all(held_against(yard.world, host) == ("", 0) for host in yard.world.hosts.values())


def test_a_misspelt_image_keeps_no_sound_job_waiting() -> None:
    """Nobody can tell yet who is to blame, as the other host is full: only those who ask for that image wait."""
    yard = Yard()
    yard.environment()
    yard.queue()
    yard.host("full", cpu=1000)
    busy = yard.submit()
    yard.plan()
    yard.started(f"{busy.id}#1")
    yard.host("free", cpu=16_000)
    array = yard.submit(array_size=12, container=container(image="busibox"))
    yard.plan()
    for attempt_id in set(yard.live()) - {f"{busy.id}#1"}:
        lack_image(yard, attempt_id)
    sound = yard.submit(container=container(image="busybox"))
    yard.plan()
    assert yard.live() == {f"{busy.id}#1": "full", f"{sound.id}#1": "free"}
    assert waiting_reason(yard.world, yard.unit(f"{array.id}:0")) == (
        "waits for a host: 1 vCPU asked, at most 0 free on one host (largest host: 16); "
        "passed over: free could not get its image; host full is kept for it from about 1970-01-01T01:00:01Z"
    )
    yard.ended(f"{busy.id}#1")
    yard.plan()
    assert "full" in yard.live().values()
    for _ in range(12):
        for attempt_id in set(yard.live()) - {f"{sound.id}#1"}:
            lack_image(yard, attempt_id)
        yard.plan()
    assert array.state is JobState.FAILED


def test_a_registry_that_is_away_suspends_no_host() -> None:
    """Although all hosts have started the image before, jobs with other images run on."""
    yard = Yard()
    yard.environment()
    yard.queue()
    for name in ("a", "b", "c"):
        yard.host(name, cpu=4000)
    for _ in range(12):
        yard.submit(container=container(image="x"))
    yard.plan()
    for attempt_id in yard.live():
        yard.started(attempt_id)
        yard.ended(attempt_id)
    lost = [yard.submit(container=container(image="x")) for _ in range(12)]
    for _ in range(4):
        yard.plan()
        for attempt_id in yard.live():
            lack_image(yard, attempt_id)
    assert {job.state for job in lost} == {JobState.FAILED}
    sound = [yard.submit(container=container(image="y")) for _ in range(12)]
    yard.plan()
    assert {job.state for job in sound} == {JobState.STARTING}


def test_a_host_is_asked_for_an_image_again(one: Yard) -> None:
    """What it could not get five minutes ago it may have now; a job that waited for another host goes there."""
    one.host("two", cpu=1000)
    long = one.submit()
    one.apply(HostMarked(host_id=HostId("one"), cordoned=True, draining=False))
    one.plan()
    one.started(f"{long.id}#1")
    one.apply(HostMarked(host_id=HostId("one"), cordoned=False, draining=False))
    job = one.submit(container=container(image="busybox"))
    one.plan()
    lack_image(one, f"{job.id}#1")
    one.plan()
    assert job.state is JobState.RUNNABLE
    one.now = Instant(wall_ms=one.now.wall_ms + LACK_MS, boot_ms=one.now.boot_ms + LACK_MS)
    one.apply(HostHeard(host_id=HostId("one")))
    one.apply(Ticked())
    one.plan()
    assert one.live()[f"{job.id}#2"] == "one"


def test_no_host_counts_that_a_bound_of_its_environment_shuts_out() -> None:
    """It could take the job by its size, and never will: so the image's failure is the job's."""
    yard = Yard()
    yard.environment("small", compute_resources=ComputeResources(max_vcpus=1, labels=(("only", "small"),)))
    yard.environment("big", compute_resources=ComputeResources(labels=(("only", "big"),)))
    yard.queue("q", "small", "big")
    yard.host("s", cpu=4000, labels=(("only", "small"),))
    yard.host("a", cpu=4000, labels=(("only", "big"),))
    job = yard.submit(container=container(image="busybox", cpu=2000))
    yard.plan()
    lack_image(yard, f"{job.id}#1")
    assert job.state is JobState.FAILED


def test_a_host_that_is_away_for_a_moment_may_have_the_image(one: Yard) -> None:
    """As after a change of leaders, when the first host that comes back is the one that lacks it."""
    one.host("two", cpu=1000)
    job = one.submit(container=container(image="busybox"))
    one.plan()
    (attempt_id, host) = next(iter(one.live().items()))
    one.apply(HostLeft(host_id=HostId("one" if host == "two" else "two"), session=1))
    lack_image(one, attempt_id)
    assert job.state is JobState.RUNNABLE


def test_however_many_children_lack_an_image_they_stand_in_one_line() -> None:
    yard = Yard()
    yard.environment()
    yard.queue()
    for number in range(20):
        yard.host(f"h{number}", cpu=4000)
    array = yard.submit(array_size=400, container=container(image="busibox"))
    for _ in range(10):
        yard.plan()
        for attempt_id in yard.live():
            lack_image(yard, attempt_id)
        assert len(yard.world.lines.of_queue("q")) <= 1
    assert array.state is JobState.FAILED


def test_starts_that_were_under_way_when_a_host_was_suspected_add_nothing(one: Yard) -> None:
    """They failed for the same reason; it rests for five minutes, and longer only after another try."""
    one.host("large", cpu=40_000)
    one.submit(array_size=41)
    one.plan()
    for attempt_id, host in one.live().items():
        if host == "large":
            fail(one, attempt_id)
    trust = one.world.hosts[HostId("large")].trust
    assert (trust.strikes, trust.rests_until_boot_ms - one.now.boot_ms) == (1, SUSPECTED_MS)


def test_one_job_alone_makes_no_host_rest_for_long(one: Yard) -> None:
    poison = one.submit(retry=RetryStrategy(infrastructure_retries=100))
    for number in range(1, 30):
        one.plan()
        fail(one, f"{poison.id}#{number}")
        assert one.world.hosts[HostId("one")].trust.rests_until_boot_ms - one.now.boot_ms == REST_MS
        one.now = Instant(wall_ms=one.now.wall_ms + REST_MS, boot_ms=one.now.boot_ms + REST_MS)
        one.apply(HostHeard(host_id=HostId("one")))
        one.apply(Ticked())


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
    fail(one, failed)
    avoiding = {line.shape.doubts: [u.index for u in line.units()] for line in one.world.lines.of_queue("q")}
    assert avoiding == {frozenset(): [2, 3], frozenset({HostId("one")}): [one.unit(failed.partition("#")[0]).index]}
    Shelf().check(one.world, one.now)  # a new leader finds the same lines
