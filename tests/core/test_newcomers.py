"""Who may join, and who has been silent for too long."""

from __future__ import annotations

import pytest
from tests.core.law import Shelf
from tests.core.yard import Yard, facts

from batchyard.errors import AlreadyExistsError, Reason, ResourceExhaustedError
from batchyard.ids import HostId
from batchyard_controller.core import limits
from batchyard_controller.core.events import HostJoined, HostLeft, Ticked
from batchyard_controller.core.jobs.retention import Retention
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.requests.hosts import check_newcomer

HOST = HostId("a")
FENCE_MS = limits.FENCE_MS + limits.fence_margin_ms(limits.FENCE_MS)


@pytest.fixture
def yard() -> Yard:
    """A yard whose host runs a job and has just been cut off."""
    yard = Yard()
    yard.environment()
    yard.queue()
    yard.apply(HostJoined(host_id=HOST, facts=facts("a"), session=1, machine_id="one"))
    job = yard.submit()
    yard.plan()
    yard.started(f"{job.id}#1")
    yard.apply(HostLeft(host_id=HOST, session=1))
    return yard


def pass_time(yard: Yard, ms: int) -> None:
    yard.now = Instant(wall_ms=yard.now.wall_ms + ms, boot_ms=yard.now.boot_ms + ms)


def why_not(yard: Yard, machine_id: str, *, host_id: str = "a", name: str = "a") -> tuple[object, str] | None:
    """Return why such an agent may not join."""
    try:
        check_newcomer(yard.world, HostId(host_id), name, machine_id, yard.now)
    except (AlreadyExistsError, ResourceExhaustedError) as error:
        return error.reason, str(error)
    return None


def test_a_copy_on_another_machine_answers_for_nothing_that_may_still_run(yard: Yard) -> None:
    """The first agent comes back before its fence, after which nothing runs; the host's own machine may at any time."""
    pass_time(yard, limits.CONTACT_LIMIT_MS)
    refused = why_not(yard, "two")
    assert refused is not None
    assert refused[0] is Reason.HOST_TWIN
    left_s = (FENCE_MS - limits.CONTACT_LIMIT_MS) // 1000 + 1
    assert refused[1] == (
        "1 attempts count as running on another machine with this one's host id a: one's state folder is a copy of "
        f"the other's; start this one with an empty folder, or, if that machine is gone, in {left_s} s"
    )
    assert why_not(yard, "one") is None
    assert why_not(yard, "") is None
    pass_time(yard, FENCE_MS)
    assert why_not(yard, "two") is None


def test_a_new_leader_knows_the_machine_too(yard: Yard) -> None:
    shelf = Shelf()
    shelf.check(yard.world, yard.now)
    yard.world = shelf.restore(yard.now, Retention())
    refused = why_not(yard, "two")
    assert refused is not None
    assert refused[0] is Reason.HOST_TWIN


def test_a_machine_may_change_when_nothing_runs() -> None:
    yard = Yard()
    yard.apply(HostJoined(host_id=HOST, facts=facts("a"), session=1, machine_id="one"))
    yard.apply(HostLeft(host_id=HOST, session=1))
    assert why_not(yard, "two") is None


def test_two_connected_hosts_have_two_names(yard: Yard) -> None:
    yard.host("b")
    assert why_not(yard, "", host_id="c", name="b") == (
        Reason.HOST_NAME_TAKEN,
        "another host named b is connected; give this one another --name",
    )
    assert why_not(yard, "", host_id="c", name="a") is None


def test_hosts_are_bounded(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HOSTS_MAX", 1)
    assert why_not(yard, "", host_id="c", name="c") == (
        Reason.TOO_MANY_HOSTS,
        "1 hosts are known already; no more are remembered",
    )
    assert why_not(yard, "one") is None


def test_a_controller_that_stood_still_leaves_no_host() -> None:
    """It heard nobody meanwhile, whose words may still stand in line."""
    yard = Yard()
    yard.host("a")
    pass_time(yard, 10 * 60_000)
    assert yard.apply(Ticked(late_ms=10 * 60_000 - 1_000)) == []
    assert yard.world.hosts[HOST].is_reachable
    pass_time(yard, limits.CONTACT_LIMIT_MS)
    yard.apply(Ticked())
    assert not yard.world.hosts[HOST].is_reachable
