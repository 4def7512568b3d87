"""A machine that joins anew, as after its agent's state was lost: its former identity is replaced, and not waited for."""

from __future__ import annotations

from tests.core.test_brake import GIVEN_UP_S, Alert, Outage
from tests.core.yard import Yard, facts

from batchyard.features import ATTEMPT_FENCES
from batchyard.ids import HostId
from batchyard.states import JobState
from batchyard_controller.core import limits
from batchyard_controller.core.commands import Happening
from batchyard_controller.core.events import HostHeard, HostJoined, HostLeft, Ticked
from batchyard_controller.core.jobs.retention import Retention
from batchyard_controller.core.model.restores import Restore
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.reactor.recovery import Records, restore
from batchyard_controller.core.requests.hosts import remove_host
from batchyard_controller.core.views.waiting import place_of, summary

FORMER, NEW, NEWEST = (HostId(f"{digit * 4}5678-0000-4000-8000-000000000000") for digit in "abc")
MACHINE = "3d1219c7c4c5404aaa1f6d2a48adfda4"


def wipe(outage: Outage, name: HostId) -> HostId:
    """Let a host's agent lose its state folder, and join anew, under the same name and from the same machine."""
    yard, new = outage.yard, HostId(f"{name}-anew")
    facts = yard.world.hosts[name].record.facts
    yard.apply(HostLeft(host_id=name, session=1))
    yard.apply(HostJoined(host_id=new, facts=facts, session=1, machine_id=MACHINE))
    return new


def outage_on(hosts: int) -> Outage:
    """Return an outage on hosts of one machine, as in the demo, whose names alone tell them apart."""
    outage = Outage(hosts)
    for name in outage.names:
        record = outage.yard.world.hosts[name].record
        outage.yard.apply(HostJoined(host_id=name, facts=record.facts, session=1, machine_id=MACHINE))
    return outage


def yard_with_former(**job: int) -> Yard:
    """Return a yard whose one host, with a job, has just joined anew."""
    yard = Yard()
    yard.environment()
    yard.queue()
    join(yard, FORMER)
    if job:
        yard.submit(**job)
        yard.plan()
    leave(yard, FORMER)
    join(yard, NEW)
    return yard


def join(yard: Yard, host_id: HostId, machine_id: str = MACHINE, name: str = "alpha") -> None:
    yard.apply(
        HostJoined(host_id=host_id, facts=facts(name, features=(ATTEMPT_FENCES,)), session=1, machine_id=machine_id)
    )


def leave(yard: Yard, host_id: HostId) -> None:
    yard.apply(HostLeft(host_id=host_id, session=1))


def replaced(yard: Yard) -> dict[HostId, HostId]:
    return {name: host.record.replaced_by for name, host in yard.world.hosts.items() if host.record.replaced_by}


def pass_time(yard: Yard, seconds: int, *heard: HostId) -> None:
    """Let time pass minute by minute, and a rest, in which these hosts are heard."""
    for step in (*[60] * (seconds // 60), seconds % 60):
        yard.now = Instant(wall_ms=yard.now.wall_ms + step * 1000, boot_ms=yard.now.boot_ms + step * 1000)
        for name in heard:
            yard.apply(HostHeard(host_id=name, session=1, wall_ms=yard.now.wall_ms))
        yard.apply(Ticked())


# The brake ------------------------------------------------------------------------


def test_former_identities_are_not_waited_for_however_many_there_are():
    """Each is given up by its fence, as if no other had been wiped, and nobody is alarmed."""
    outage = outage_on(3)
    new = [wipe(outage, name) for name in outage.names]
    outage.pass_time(GIVEN_UP_S, new)
    assert (outage.lost, outage.alerts) == (outage.names, [])


def test_a_brake_that_holds_lets_go_of_who_joins_anew():
    """Ten are cut off at once; those of four come back without their state: the others are waited for on."""
    outage = outage_on(10)
    outage.pass_time(100, [])
    new = [wipe(outage, name) for name in outage.names[:4]]
    outage.pass_time(1, new)
    assert outage.lost == outage.names[:4]
    assert outage.yard.world.brake.silent == 6
    assert outage.alerts == [Alert(holds=True, silent=10, hosts=10)]


def test_a_machine_that_is_cut_off_after_it_joined_anew_counts_once():
    """Two of ten: no more than fail by themselves."""
    outage = outage_on(10)
    new = [wipe(outage, name) for name in outage.names[:2]]
    outage.pass_time(5, [*outage.names[2:], *new])
    outage.pass_time(GIVEN_UP_S, outage.names[2:])
    assert (outage.lost, outage.alerts) == (outage.names[:2], [])


def test_who_comes_back_after_all_counts_again():
    outage = outage_on(2)
    new = [wipe(outage, name) for name in outage.names]
    for name, later in zip(outage.names, new, strict=True):
        leave(outage.yard, later)
        outage.yard.apply(
            HostJoined(host_id=name, facts=outage.yard.world.hosts[name].record.facts, session=2, machine_id=MACHINE)
        )
    assert replaced(outage.yard) == dict(zip(new, outage.names, strict=True))
    outage.jobs = {}
    outage.pass_time(GIVEN_UP_S, [])
    assert outage.alerts == [Alert(holds=True, silent=2, hosts=2)]


# Who is replaced ------------------------------------------------------------------


def test_a_host_of_the_same_machine_and_name_that_is_away_is_replaced():
    yard = yard_with_former()
    assert replaced(yard) == {FORMER: NEW}
    told = [(each.id, each.words) for each in yard.notices if each.what is Happening.REPLACED]
    assert told == [(FORMER, f"by {NEW}")]


def test_no_other_is_replaced():
    """Another machine, another name on it, machines that do not say who they are, one that is connected."""
    yard = Yard()
    for number, (machine_id, name) in enumerate((("another", "alpha"), (MACHINE, "beta"), ("", "alpha"))):
        join(yard, HostId(f"{number}" * 8), machine_id, name)
        leave(yard, HostId(f"{number}" * 8))
    join(yard, FORMER)
    join(yard, NEW)
    join(yard, NEWEST, machine_id="")
    assert replaced(yard) == {}


def test_a_new_leader_knows_it():
    """It is stored, with who joined, in what the next leader reads."""
    yard = yard_with_former()
    assert f"host/{FORMER}" in yard.world.ledger.take()
    stored = {name: host.record for name, host in yard.world.hosts.items()}
    assert restore(Records(hosts=stored), yard.now, Retention()).hosts[FORMER].record.replaced_by == NEW


# What becomes of it ---------------------------------------------------------------


def test_what_ran_there_ends_by_its_own_fence_and_the_former_host_with_it():
    """Safety rests on the fence alone: a clone may have the same name and machine id, and run on."""
    yard = yard_with_former(fence_s=1800)
    [attempt] = yard.world.attempts.values()
    pass_time(yard, 1830, NEW)
    assert (yard.live(), [*yard.world.hosts]) == ({attempt.id: FORMER}, [FORMER, NEW])
    pass_time(yard, 10, NEW)
    assert (yard.live(), [*yard.world.hosts]) == ({}, [NEW])
    assert yard.state(attempt.job_id) is JobState.RUNNABLE


def test_without_a_fence_it_waits_for_an_operator():
    yard = yard_with_former(fence_s=limits.FENCE_NEVER_S)
    pass_time(yard, 24 * 3600, NEW)
    assert [*yard.world.hosts] == [FORMER, NEW]
    yard.apply(remove_host(yard.world, "alpha", force=True))
    assert [*yard.world.hosts] == [NEW]


def test_ten_that_are_wiped_one_after_the_other_leave_one():
    yard = Yard()
    for number in range(10):
        if number:
            leave(yard, HostId(f"{number - 1}" * 8))
        join(yard, HostId(f"{number}" * 8))
    assert len(yard.world.hosts) == 10
    pass_time(yard, 1000, HostId("9" * 8))
    assert [*yard.world.hosts] == ["9" * 8]
    told = [each for each in yard.notices if each.what is Happening.FORGOTTEN]
    assert [each.words for each in told] == ["it was replaced"] * 9


def test_who_comes_back_stays():
    yard = yard_with_former()
    leave(yard, NEW)
    join(yard, FORMER)
    leave(yard, FORMER)
    pass_time(yard, 1000)
    assert [*yard.world.hosts] == [FORMER]


def test_while_a_backup_is_settled_nobody_is_forgotten():
    """Jobs of the backup wait for the longest fence that any may have there, and that ends with the host."""
    yard = yard_with_former()
    yard.world.restores["last"] = Restore(generation=1, at_ms=1, newest_ms=0)
    yard.world.adoption.waits_for = {FORMER}
    yard.world.adoption.last_seq = 1
    assert yard.world.is_restoring
    pass_time(yard, 60, NEW)
    assert FORMER in yard.world.hosts


# What is said of it ---------------------------------------------------------------


def test_its_jobs_say_what_they_wait_for():
    for fence_s, when in (
        (60, "once it was silent for 95 s"),
        (limits.FENCE_NEVER_S, "once it is removed by force, as it has no fence"),
    ):
        yard = yard_with_former(fence_s=fence_s)
        [attempt] = yard.world.attempts.values()
        unit = yard.world.unit_of(attempt)
        text = f"joined anew as {NEW}: the attempt is given up with the former one, {FORMER}, {when}"
        assert text in summary(yard.world, unit, place_of(yard.world, unit))
