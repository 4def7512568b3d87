"""Hosts that are taken away: the corners that `tests/scenarios/spot.txt` does not tell."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.law import Shelf
from tests.core.yard import Yard, container, facts

from batchyard.ids import AttemptId, HostId
from batchyard.states import EndCause, JobState
from batchyard_controller.core import limits
from batchyard_controller.core.attempt_reports import Phase, Report
from batchyard_controller.core.commands import SendStop
from batchyard_controller.core.events import HostHeard, HostJoined, HostLeft, HostReclaimed, HostRemoved, Ticked
from batchyard_controller.core.model.jobs import RetryStrategy
from batchyard_controller.core.model.settings import CapacityType, ComputeResources
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.reactor import reclaims

HOST = HostId("h")
HOUR_MS = 3_600_000


@pytest.fixture
def yard() -> Yard:
    made = Yard()
    made.now = replace(made.now, wall_ms=1_000 * HOUR_MS)
    made.environment()
    made.queue()
    made.host("h")
    return made


def announce(yard: Yard, in_s: int, off_ms: int = 0) -> None:
    wall_ms = yard.now.wall_ms + off_ms
    told = facts("h", reclaimed_at_ms=wall_ms + 1000 * in_s)
    yard.apply(HostHeard(host_id=HOST, session=1, facts=told, wall_ms=wall_ms))


def wait(yard: Yard, passed_s: float) -> list[SendStop]:
    ms = int(passed_s * 1000)
    yard.now = Instant(wall_ms=yard.now.wall_ms + ms, boot_ms=yard.now.boot_ms + ms)
    return [command for command in yard.apply(Ticked()) if isinstance(command, SendStop)]


def started(yard: Yard, **fields: object) -> str:
    job = yard.submit(**fields)
    yard.plan()
    yard.started(f"{job.id}#1")
    return job.id


def causes(yard: Yard, job_id: str) -> list[EndCause]:
    return [ended.cause for ended in yard.unit(job_id).attempts]


def test_a_host_becomes_reclaimed_once_however_often_it_is_said(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later word, an operator's beside it, and a new session of the same boot are no other reclaim."""
    seen: list[int] = []
    real = reclaims.on_host_reclaimed

    def count(world: object, host: object, record: object) -> None:
        seen.append(1)
        real(world, host, record)  # type: ignore[arg-type]

    monkeypatch.setattr(reclaims, "on_host_reclaimed", count)
    announce(yard, 120)
    announce(yard, 100)
    yard.apply(HostReclaimed(host_id=HOST, at_ms=5_000))
    yard.apply(HostJoined(host_id=HOST, facts=facts("h", reclaimed_at_ms=99_000), session=2))
    assert len(seen) == 1
    yard.apply(HostReclaimed(host_id=HOST, at_ms=0))
    yard.apply(HostJoined(host_id=HOST, facts=facts("h"), session=3))
    announce(yard, 120)
    assert len(seen) == 2
    yard.apply(HostJoined(host_id=HostId("new"), facts=facts("new", reclaimed_at_ms=99_000), session=1))
    assert len(seen) == 3


def test_the_earlier_of_two_words_counts(yard: Yard) -> None:
    job_id = started(yard)
    announce(yard, 120)
    yard.apply(HostReclaimed(host_id=HOST, at_ms=yard.now.wall_ms + 10_000))
    assert not wait(yard, 9.9)
    assert [stop.attempt_id for stop in wait(yard, 0.1)] == [f"{job_id}#1"]
    assert not wait(yard, 1), "it was told"


def test_a_host_on_which_nothing_ran_when_its_time_came_was_told_nothing(yard: Yard) -> None:
    """What it tells of later, as some agents do after a restore, is still to be stopped."""
    yard.apply(HostReclaimed(host_id=HOST, at_ms=yard.now.wall_ms + 10_000))
    assert not wait(yard, 11)
    assert not yard.world.hosts[HOST].is_stopped


def test_who_asked_to_terminate_it_has_the_word(yard: Yard) -> None:
    job_id = started(yard)
    yard.terminate(job_id, "enough")
    yard.apply(HostReclaimed(host_id=HOST, at_ms=1))
    wait(yard, 1)
    yard.ended(f"{job_id}#1", 143, EndCause.STOPPED)
    assert (yard.state(job_id), yard.reason(job_id)) == (JobState.FAILED, "enough")


def test_a_try_that_ends_by_itself_in_time_is_what_it_is(yard: Yard) -> None:
    first, second = started(yard), started(yard)
    announce(yard, 120)
    yard.ended(f"{first}#1", 0)
    yard.ended(f"{second}#1", 7)
    assert (yard.state(first), yard.state(second)) == (JobState.SUCCEEDED, JobState.FAILED)


@pytest.mark.parametrize("cause", [EndCause.LOST, EndCause.FENCED, EndCause.STOPPED, EndCause.RECLAIMED])
def test_whatever_ends_with_a_reclaimed_host_was_reclaimed_and_is_made_up_for(yard: Yard, cause: EndCause) -> None:
    job_id = started(yard, retry=RetryStrategy(attempts=1, infrastructure_retries=1))
    announce(yard, 120)
    yard.ended(f"{job_id}#1", None, cause)
    assert (yard.state(job_id), causes(yard, job_id)) == (JobState.RUNNABLE, [EndCause.RECLAIMED])


def test_reclaims_count_among_infrastructure_retries(yard: Yard) -> None:
    job_id = started(yard, retry=RetryStrategy(attempts=1, infrastructure_retries=0))
    announce(yard, 120)
    yard.ended(f"{job_id}#1", None, EndCause.RECLAIMED)
    assert (yard.state(job_id), yard.reason(job_id)) == (JobState.FAILED, "Host EC2 (instance i-h) terminated.")


@pytest.mark.parametrize("off_ms", [-2 * HOUR_MS, 0, 2 * HOUR_MS])
def test_an_announced_time_is_by_the_clock_of_the_host_that_announced_it(yard: Yard, off_ms: int) -> None:
    """However far that is off, and whatever becomes of ours; its agent alone stops what runs there."""
    job_id = started(yard)
    announce(yard, 60, off_ms)
    assert not wait(yard, 59), "that is for its agent"
    yard.apply(HostLeft(host_id=HOST, session=1))
    yard.now = replace(yard.now, wall_ms=yard.now.wall_ms + 2 * HOUR_MS)
    wait(yard, limits.RECLAIM_MARGIN_MS / 1000)
    assert yard.state(job_id) == JobState.RUNNING
    wait(yard, 2)
    assert causes(yard, job_id) == [EndCause.RECLAIMED]


def test_a_new_leader_that_has_not_heard_a_host_knows_no_clock_of_it_and_keeps_its_fence(yard: Yard) -> None:
    """Its time may seem over by hours, though it runs on; seed 5862."""
    job_id = started(yard)
    announce(yard, 60, off_ms=-2 * HOUR_MS)
    shelf = Shelf()
    shelf.check(yard.world, yard.now)
    yard.world = shelf.restore(yard.now, yard.world.retention)
    wait(yard, 600)
    assert yard.state(job_id) == JobState.RUNNING
    wait(yard, (limits.FENCE_MS + limits.fence_margin_ms(limits.FENCE_MS)) / 1000)
    assert causes(yard, job_id) == [EndCause.RECLAIMED]


def test_what_was_announced_before_another_boot_is_over(yard: Yard) -> None:
    """Who has not said since whether it is taken away keeps its fence."""
    job_id = started(yard)
    announce(yard, 60)
    told = facts("h", reclaimed_at_ms=yard.now.wall_ms + 10 * HOUR_MS)
    report = Report(attempt_id=AttemptId(f"{job_id}#1"), phase=Phase.RUNNING, started_at_ms=2_000)
    yard.apply(HostJoined(host_id=HOST, facts=told, session=2, reports=(report,)))
    yard.apply(HostLeft(host_id=HOST, session=2))
    wait(yard, 600)
    assert yard.state(job_id) == JobState.RUNNING


def test_what_a_removed_host_ran_was_reclaimed_and_its_marks_are_gone(yard: Yard) -> None:
    job_id = started(yard)
    yard.apply(HostReclaimed(host_id=HOST, at_ms=yard.now.wall_ms + 60_000))
    yard.apply(HostLeft(host_id=HOST, session=1))
    yard.apply(HostRemoved(host_id=HOST))
    assert causes(yard, job_id) == [EndCause.RECLAIMED]
    yard.host("h", session=2)
    yard.plan()
    assert yard.state(job_id) == JobState.STARTING


def test_an_image_that_a_reclaimed_host_lacks_is_not_looked_for_on_another_such(yard: Yard) -> None:
    """A host that is away and comes back no more is no other taker."""
    image = container(image="busybox")
    yard.host("gone")
    job = yard.submit(container=image)
    yard.plan()
    (ran_on,) = yard.live().values()
    other = HostId("gone" if ran_on == "h" else "h")
    host = yard.world.hosts[other]
    yard.apply(HostLeft(host_id=other, session=host.session))
    yard.apply(HostReclaimed(host_id=other, at_ms=yard.now.wall_ms + 60_000))
    yard.ended(f"{job.id}#1", None, EndCause.IMAGE_UNAVAILABLE)
    assert job.state is JobState.FAILED


def test_on_demand_is_where_a_queue_has_it_though_no_host_is_there_yet(yard: Yard) -> None:
    """Jobs that nobody reclaimed go on where they went."""
    yard.join(replace(facts("s"), purchase_option="spot"), session=1)
    yard.environment("spot", compute_resources=ComputeResources(type=CapacityType.SPOT))
    yard.environment("far", compute_resources=ComputeResources(labels=(("site", "far"),)))
    yard.queue("both", "spot", "far")
    retry = RetryStrategy(spot_attempts=2)
    job = yard.submit("both", retry=retry)
    for number in (1, 2):
        yard.plan()
        assert yard.live()[f"{job.id}#{number}"] == "s"
        yard.ended(f"{job.id}#{number}", None, EndCause.RECLAIMED)
    other = yard.submit("both", retry=retry)
    yard.plan()
    assert (job.state, other.state) == (JobState.RUNNABLE, JobState.STARTING)
    yard.host("f", labels=(("site", "far"),))
    yard.plan()
    assert yard.live()[f"{job.id}#3"] == "f"
