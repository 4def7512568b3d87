"""After a restore: epochs and attempts' ids rise, what runs is adopted, and nothing of the backup runs beside itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from tests.core.law import Shelf
from tests.core.test_node_laws import nodes
from tests.core.yard import EPOCH, Yard, container, ended_report, facts

from batchyard.features import FEATURES
from batchyard.ids import AttemptId, HostId
from batchyard.resources import Resources
from batchyard.states import EndCause, JobState
from batchyard_controller.core.attempt_reports import Phase, Report
from batchyard_controller.core.commands import Command, SendAck, SendRevoke, SendStart, SendStop, Warn
from batchyard_controller.core.events import (
    AttemptsReported,
    HostHeard,
    HostJoined,
    HostLeft,
    HostRemoved,
    Planned,
    Ticked,
)
from batchyard_controller.core.jobs.retention import Retention
from batchyard_controller.core.limits import FENCE_NEVER_S
from batchyard_controller.core.model.dependencies import Dependency
from batchyard_controller.core.model.jobs import Job, RetryStrategy
from batchyard_controller.core.model.restores import (
    FIRST_S,
    LAST_RESTORE,
    generation_at,
    generation_of,
    in_generation,
)
from batchyard_controller.core.model.units import Unit, units_of
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.reactor.adoption import RETURN_MS
from batchyard_controller.core.reactor.recovery import restore
from batchyard_controller.core.views.waiting import waiting_reason
from batchyard_controller.core.world.fences import fence_of
from batchyard_controller.restore_command import begin_generation
from batchyard_controller.services.job_view import summary_message
from batchyard_controller.store.codec import load_records

WALL_MS = (FIRST_S + 1_000) * 1000


class Backups:
    """A yard with a store, of which backups are made and put back."""

    def __init__(self) -> None:
        self.yard = Yard()
        self.now = Instant(wall_ms=WALL_MS, boot_ms=1_000)
        self.yard.environment()
        self.yard.queue()
        for name in ("alpha", "beta"):
            self.hello(name)

    @property
    def now(self) -> Instant:
        return self.yard.now

    @now.setter
    def now(self, now: Instant) -> None:
        self.yard.now = now

    def later(self, ms: int) -> list[Command]:
        """Let time pass."""
        self.now = Instant(wall_ms=self.now.wall_ms + ms, boot_ms=self.now.boot_ms + ms)
        return self.yard.apply(Ticked())

    def make(self) -> Shelf:
        shelf = Shelf()
        world = self.yard.world
        for kind, names in (
            ("environment", world.environments),
            ("queue", world.queues),
            ("host", world.hosts),
            ("job", world.jobs),
            ("state", world.jobs),
            ("attempt", world.attempts),
            ("restore", world.restores),
        ):
            for name in names:
                world.ledger.note(f"{kind}/{name}", kind, name)
        for job in world.jobs.values():
            for number in job.children.chunks:
                world.ledger.note(f"{job.id}/{number}", "children", f"{job.id}/{number}")
        shelf.commit(world)
        return shelf

    def put_back(self, shelf: Shelf, **fields: Any) -> None:
        """Lead from a backup, as `controller restore` leaves it."""
        self.now = Instant(wall_ms=self.now.wall_ms + 1_000, boot_ms=self.now.boot_ms + 1_000)
        records = asyncio.run(load_records(shelf._store))
        record = replace(begin_generation(records, self.now.wall_ms), **fields)
        records.restores[LAST_RESTORE] = record
        self.yard.world = restore(records, self.now, Retention())

    def lead_again(self, shelf: Shelf) -> None:
        """Let another controller lead, with what is stored."""
        self.yard.world = restore(asyncio.run(load_records(shelf._store)), self.now, Retention())

    def hello(self, name: str, *reports: Report, ended: Iterable[Report] = (), has_more: bool = False) -> list[Command]:
        """Let a host come back and tell all."""
        told = facts(name, features=FEATURES, boot_id="b")
        host_id = HostId(name)
        commands = self.yard.apply(HostJoined(host_id=host_id, facts=told, session=1, reports=reports))
        self.yard.world.hosts[host_id].trust.proven_until_boot_ms = 1 << 60
        self.yard.world.refresh_host(self.yard.world.hosts[host_id])
        if self.yard.world.is_restoring and not has_more:
            commands += self.yard.apply(AttemptsReported(host_id=host_id, reports=tuple(ended), is_all=True))
        return commands

    def place(self) -> list[Command]:
        """Make a plan as the leader does, and return the starts."""
        epoch = in_generation(self.yard.world.generation, EPOCH)
        self.yard.world.wants_plan = False
        commands = self.yard.apply(Planned(plan=self.yard.make_plan(), epoch=epoch))
        return [each for each in commands if isinstance(each, SendStart)]

    def claim(self, job: Job) -> AttemptId:
        """Have a job placed, and return its attempt."""
        self.place()
        return next(each.id for each in self.yard.world.attempts.values() if each.job_id == job.id)

    def job(self, job: Job) -> Job:
        return self.yard.world.jobs[job.id]


@pytest.fixture
def backups() -> Backups:
    return Backups()


def running(attempt_id: str) -> Report:
    return Report(attempt_id=AttemptId(attempt_id), phase=Phase.RUNNING, started_at_ms=WALL_MS)


def revoked(commands: list[Command]) -> list[AttemptId]:
    return [each.attempt_id for each in commands if isinstance(each, SendRevoke)]


def test_epochs_rise_over_two_restores_of_one_backup() -> None:
    first, second = generation_at(WALL_MS), generation_at(WALL_MS + 1000)
    assert 2**40 < in_generation(first, 3) < in_generation(first, 2**31) < in_generation(second, 1) < 2**63
    assert generation_of(in_generation(second, 9)) == second
    assert (in_generation(0, 17), generation_of(17)) == (17, 0), "before the first restore all is as it was"


def test_no_attempt_id_is_handed_out_twice(backups: Backups) -> None:
    job = backups.yard.submit()
    backup = backups.make()
    ids = [backups.claim(job)]
    assert ids == [f"{job.id}#1"]
    for _ in range(2):
        backups.put_back(backup)
        for host in ("alpha", "beta"):
            backups.hello(host)
        backups.later(RETURN_MS)
        ids.append(backups.claim(job))
    assert len(set(ids)) == 3
    assert [each.partition("-")[0] for each in (name[len(job.id) :] for name in ids)] == ["#1"] * 3


def test_jobs_of_the_backup_wait_for_all_hosts_and_new_ones_do_not(backups: Backups) -> None:
    old = backups.yard.submit(name="old")
    backups.put_back(backups.make())
    backups.hello("alpha")
    new = backups.yard.submit(name="new")
    assert [command.attempts[0].job_id for command in backups.place()] == [new.id]
    backups.later(RETURN_MS)
    assert backups.place() == []
    assert "until hosts beta have told what they run" in waiting_reason(backups.yard.world, backups.yard.unit(old.id))
    backups.hello("beta")
    assert backups.place() == [], "the tick decides"
    (warning,) = [each for each in backups.later(1_000) if isinstance(each, Warn)]
    assert warning.details == (("adopted", 0), ("ended", 0), ("unlearnt", 0), ("strays", 0))
    assert [command.attempts[0].job_id for command in backups.place()] == [old.id]


def test_a_fence_that_has_passed_is_as_good_as_a_hello(backups: Backups) -> None:
    job = backups.yard.submit()
    attempt = backups.claim(job)
    backups.yard.started(attempt)
    other = backups.yard.submit()
    backups.put_back(backups.make())
    away = backups.yard.world.attempts[attempt].host_id
    back = "alpha" if away == "beta" else "beta"
    fence_ms = fence_of(backups.yard.world, backups.yard.world.hosts[away])
    for _ in range(fence_ms // 30_000):
        backups.hello(back)
        backups.later(30_000)
    assert backups.place() == []
    backups.hello(back)
    backups.later(30_000)
    assert {command.attempts[0].job_id for command in backups.place()} <= {job.id, other.id}
    assert backups.yard.world.restore is not None
    assert backups.yard.world.restore.unlearnt == (f"{attempt} on {away}",)


def test_a_job_that_has_no_fence_waits_for_its_host_for_ever(backups: Backups) -> None:
    backups.yard.submit(fence_s=FENCE_NEVER_S)
    backups.put_back(backups.make())
    backups.hello("alpha")
    backups.later(fence_of(backups.yard.world, backups.yard.world.hosts[HostId("beta")]) + 1_000)
    backups.hello("alpha")
    assert backups.place() == []
    backups.hello("beta")
    backups.later(1_000)
    assert len(backups.place()) == 1


def test_a_host_that_is_removed_is_waited_for_no_longer(backups: Backups) -> None:
    backups.yard.submit()
    backups.put_back(backups.make())
    backups.hello("alpha")
    backups.later(RETURN_MS)
    backups.yard.apply(HostRemoved(host_id=HostId("beta")))
    backups.later(1_000)
    assert len(backups.place()) == 1


def test_a_whole_fence_is_waited_for_where_that_was_asked(backups: Backups) -> None:
    backups.yard.submit()
    backups.put_back(backups.make(), waits_whole_fence=True)
    backups.hello("alpha")
    backups.hello("beta")
    backups.later(RETURN_MS)
    assert backups.place() == []
    backups.later(fence_of(backups.yard.world, backups.yard.world.hosts[HostId("beta")]))
    backups.hello("beta")
    assert len(backups.place()) == 1


def test_what_runs_is_adopted_with_its_number_and_goes_on_counting(backups: Backups) -> None:
    job = backups.yard.submit()
    backups.put_back(backups.make())
    commands = backups.hello("beta", running(f"{job.id}#3"))
    assert revoked(commands) == []
    assert (backups.yard.state(job.id), backups.yard.live()) == (JobState.RUNNING, {f"{job.id}#3": "beta"})
    backups.yard.ended(f"{job.id}#3", 0)
    assert backups.yard.state(job.id) is JobState.SUCCEEDED
    assert [(each.number, each.exit_code) for each in backups.job(job).attempts] == [(3, 0)]


def test_what_is_nobodys_holds_nothing_once_its_hosts_fence_has_passed(backups: Backups) -> None:
    backups.put_back(backups.make())
    backups.hello(
        "alpha", replace(running("01a00000-0000-7000-8000-000000000000#1"), resources=Resources(cpu_millis=1000))
    )
    backups.hello("beta")
    assert backups.yard.world.fleet.allocated(HostId("alpha")).cpu_millis == 1000
    alpha = backups.yard.world.hosts[HostId("alpha")]
    backups.yard.apply(HostLeft(host_id=HostId("alpha"), session=1))
    ms = fence_of(backups.yard.world, alpha) + 1
    backups.now = Instant(wall_ms=backups.now.wall_ms + ms, boot_ms=backups.now.boot_ms + ms)
    backups.yard.apply(HostHeard(host_id=HostId("beta")))
    backups.yard.apply(Ticked())
    assert not backups.yard.world.adoption.strays
    assert backups.yard.world.fleet.allocated(HostId("alpha")).cpu_millis == 0


def test_lists_tell_the_ids_of_attempts_that_do_not_follow_from_their_number(backups: Backups) -> None:
    gap, plain = backups.yard.submit(), backups.yard.submit()
    backups.put_back(backups.make())
    backups.hello("beta", running(f"{gap.id}#3"), running(f"{plain.id}#1"))
    told = {job.id: summary_message(backups.yard.world, Unit(backups.job(job))).attempt_ids for job in (gap, plain)}
    assert told == {gap.id: [f"{gap.id}#3"], plain.id: []}


def test_hosts_that_the_backup_does_not_know_are_believed_too(backups: Backups) -> None:
    job = backups.yard.submit()
    backups.put_back(backups.make())
    stray = Report(
        attempt_id=AttemptId("01a00000-0000-7000-8000-000000000000#1"),
        phase=Phase.RUNNING,
        started_at_ms=WALL_MS,
        resources=Resources(cpu_millis=3000),
    )
    backups.hello("gamma", running(f"{job.id}#1"), stray)
    assert backups.yard.live() == {f"{job.id}#1": "gamma"}
    assert backups.yard.world.fleet.allocated(HostId("gamma")).cpu_millis == 4000, "a stray holds its place, too"
    backups.yard.report(ended_report(stray.attempt_id), "gamma")
    assert backups.yard.world.fleet.allocated(HostId("gamma")).cpu_millis == 1000


def test_what_is_adopted_is_stored(backups: Backups) -> None:
    job = backups.yard.submit()
    array = backups.yard.submit(name="array", array_size=3)
    backups.put_back(backups.make())
    backups.hello("beta", running(f"{job.id}#1"), running(f"{array.id}:1#2"))
    shelf = backups.make()
    shelf.check(backups.yard.world, backups.now)
    records = asyncio.run(load_records(shelf._store))
    assert set(records.attempts) == {f"{job.id}#1", f"{array.id}:1#2"}
    assert records.restores[LAST_RESTORE].adopted == 2


def test_a_later_try_takes_the_place_of_the_one_that_the_backup_knows(backups: Backups) -> None:
    job = backups.yard.submit()
    first = backups.claim(job)
    backups.yard.started(first)
    backups.put_back(backups.make())
    host = backups.yard.world.attempts[first].host_id
    other = "alpha" if host == "beta" else "beta"
    backups.hello(other, running(f"{job.id}#2"))
    assert backups.yard.live() == {f"{job.id}#2": other}
    commands = backups.hello(host, ended=[ended_report(first, 1)])
    assert revoked(commands) == []
    assert backups.yard.live() == {f"{job.id}#2": other}
    assert backups.yard.world.restore is not None
    assert backups.yard.world.restore.unlearnt == ()


def test_reports_of_one_message_on_a_child_are_taken_in_in_their_order(backups: Backups) -> None:
    """Children's reports are put aside to be taken in together; not beyond a later one that takes their place."""
    job = backups.yard.submit(array_size=2, retry=RetryStrategy(attempts=5))
    backups.place()
    known = next(each.id for each in backups.yard.world.attempts.values() if each.index == 0)
    host = next(each.host_id for each in backups.yard.world.attempts.values() if each.index == 0)
    backups.put_back(backups.make())
    later = AttemptId(f"{job.id}:0#3")
    for name in ("alpha", "beta"):
        backups.hello(name, has_more=True)
    backups.yard.apply(AttemptsReported(host_id=host, reports=(running(known), running(later)), is_all=True))
    held = [each for each in backups.yard.world.attempts.values() if each.index == 0]
    assert [each.id for each in held] == [later]
    assert held[0].started_at_ms
    assert Unit(backups.job(job), 0).state is JobState.RUNNING


def test_an_end_that_the_backup_does_not_know_ends_the_job_with_its_code(backups: Backups) -> None:
    succeeded, failed = backups.yard.submit(name="succeeded"), backups.yard.submit(name="failed")
    backups.put_back(backups.make())
    said = [ended_report(f"{succeeded.id}#1", 0), ended_report(f"{failed.id}#1", 41)]
    commands = backups.hello("alpha", ended=said)
    assert [set(each.attempt_ids) for each in commands if isinstance(each, SendAck)] == [
        {f"{succeeded.id}#1", f"{failed.id}#1"}
    ]
    assert backups.yard.state(succeeded.id) is JobState.SUCCEEDED
    assert (backups.yard.state(failed.id), backups.job(failed).attempts[-1].exit_code) == (JobState.FAILED, 41)


def test_what_runs_of_no_known_job_is_left_alone_and_listed(backups: Backups) -> None:
    backup = backups.make()
    lost = backups.yard.submit(name="lost")
    attempt = backups.claim(lost)
    backups.put_back(backup)
    commands = backups.hello("alpha", running(attempt))
    assert revoked(commands) == []
    assert [dict(each.details) for each in commands if isinstance(each, Warn)] == [
        {"attempt": attempt, "host": "alpha"}
    ]
    assert [stray.attempt_id for stray in backups.yard.world.adoption.strays.values()] == [attempt]
    assert revoked(backups.hello("alpha", running(attempt))) == []
    backups.hello("beta")
    assert revoked(backups.later(RETURN_MS)) == []
    commands = backups.yard.report(ended_report(attempt), "alpha")
    assert commands == [SendAck(HostId("alpha"), (attempt,))]
    assert backups.yard.world.adoption.strays == {}


def test_what_a_hello_leaves_out_is_asked_about_and_started_by_nobody(backups: Backups) -> None:
    known, unknown, _ = (backups.yard.submit(name=name) for name in ("known", "unknown", "unstarted"))
    backups.place()
    names = {each.job_id: each for each in backups.yard.world.attempts.values()}
    for job in (known, unknown):
        backups.yard.started(names[job.id].id)
    backups.put_back(backups.make())
    commands = [each for host in ("alpha", "beta") for each in backups.hello(host, has_more=True)]
    assert not [each for each in commands if isinstance(each, SendStart)]
    asked = {each.attempt_id for each in commands if isinstance(each, SendStop)}
    assert asked == {attempt.id for attempt in names.values()}
    backups.yard.ended(names[known.id].id, 7)
    assert backups.job(known).attempts[-1].exit_code == 7
    never = Report(
        attempt_id=names[unknown.id].id,
        phase=Phase.ENDED,
        end=replace(ended_report("x").end or 1, cause=EndCause.STOPPED, started_at_ms=0, exit_code=None),
    )
    backups.yard.report(never)
    assert backups.job(unknown).attempts[-1].cause is EndCause.LOST
    assert backups.yard.world.restore is not None
    assert backups.yard.world.restore.unlearnt == (f"{names[unknown.id].id} on {names[unknown.id].host_id}",)
    for host in ("alpha", "beta"):
        backups.yard.apply(AttemptsReported(host_id=HostId(host), reports=(), is_all=True))
    backups.later(RETURN_MS)
    assert backups.place() == [], "one has not been answered"


def test_a_dependent_that_runs_has_had_its_turn(backups: Backups) -> None:
    first = backups.yard.submit(name="first")
    second = backups.yard.submit(name="second", depends_on=(Dependency(job_id=first.id),))
    backups.put_back(backups.make())
    backups.hello("alpha", running(f"{second.id}#1"))
    assert backups.yard.state(second.id) is JobState.RUNNING
    backups.make().check(backups.yard.world, backups.now)
    backups.hello("beta", ended=[ended_report(f"{first.id}#1", 0)])
    assert (backups.yard.state(first.id), backups.yard.state(second.id)) == (JobState.SUCCEEDED, JobState.RUNNING)


@pytest.mark.parametrize("ends_between_tries", [False, True])
@pytest.mark.parametrize("is_led_anew", [False, True])
def test_nodes_that_run_have_had_their_turn_and_are_tried_again(
    backups: Backups, *, ends_between_tries: bool, is_led_anew: bool
) -> None:
    """Found by the simulation: the job waited for ever, as if for what had ended while its nodes ran."""
    first = backups.yard.submit(name="first")
    after = (Dependency(job_id=first.id),)
    second = backups.yard.submit(container=None, nodes=nodes(2), depends_on=after, retry=RetryStrategy(attempts=2))
    backups.put_back(backups.make())
    main, other = (f"{unit.id}#1" for unit in units_of(second))
    backups.hello("alpha", running(main))
    backups.hello("beta", running(other), has_more=True)
    if is_led_anew:
        shelf = backups.make()
        shelf.check(backups.yard.world, backups.now)
        backups.lead_again(shelf)
    end_of_first = [ended_report(f"{first.id}#1", 0)]
    if not ends_between_tries:
        backups.hello("beta", running(other), ended=end_of_first)
    backups.yard.ended(main, 1)
    if ends_between_tries:
        backups.hello("beta", running(other), ended=end_of_first)
    assert backups.yard.state(first.id) is JobState.SUCCEEDED
    assert backups.yard.state(second.id) is JobState.PENDING, "one of its nodes has not ended"
    backups.yard.ended(other, 143, EndCause.STOPPED)
    assert backups.yard.state(second.id) is JobState.RUNNABLE


def test_after_an_end_is_told_a_retry_waits_as_all_do(backups: Backups) -> None:
    """The next try may run on a host that has not said so."""
    job = backups.yard.submit(retry=RetryStrategy(attempts=3))
    backups.put_back(backups.make())
    backups.hello("alpha", ended=[ended_report(f"{job.id}#1", 1)])
    assert (backups.yard.state(job.id), backups.place()) == (JobState.RUNNABLE, [])
    backups.hello("beta", running(f"{job.id}#2"))
    assert backups.yard.live() == {f"{job.id}#2": "beta"}


@pytest.mark.parametrize("is_led_anew", [False, True])
def test_what_ran_on_in_place_of_what_the_backup_knows_may_be_too_much_for_a_while(
    backups: Backups, *, is_led_anew: bool
) -> None:
    first = backups.yard.submit(name="first", container=container(cpu=4000))
    attempt = backups.claim(first)
    second = backups.yard.submit(name="second", container=container(cpu=4000))
    host = backups.yard.world.attempts[attempt].host_id
    backups.put_back(backups.make())
    backups.hello(host, running(f"{second.id}#1"), has_more=True)
    assert backups.yard.live() == {attempt: host, f"{second.id}#1": host}
    if is_led_anew:
        shelf = backups.make()
        shelf.check(backups.yard.world, backups.now)
        backups.lead_again(shelf)
        backups.later(1_000)
        backups.hello(host, running(f"{second.id}#1"), has_more=True)
    backups.yard.ended(attempt, 0)
    assert backups.yard.state(first.id) is JobState.SUCCEEDED
    assert backups.yard.live()[f"{second.id}#1"] == host


def test_an_attempt_that_its_job_has_gone_on_without_is_revoked(backups: Backups) -> None:
    job = backups.yard.submit()
    backups.put_back(backups.make())
    for host in ("alpha", "beta"):
        backups.hello(host)
    backups.later(RETURN_MS)
    backups.claim(job)
    commands = backups.hello("gamma", running(f"{job.id}#1"))
    assert revoked(commands) == [f"{job.id}#1"]
