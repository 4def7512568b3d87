"""When many hosts fall silent at once none of them is given up, whatever its fence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.yard import Yard

from batchyard.errors import FailedPreconditionError
from batchyard.ids import HostId
from batchyard.states import JobState
from batchyard_controller.core import limits
from batchyard_controller.core.commands import TellBrake
from batchyard_controller.core.events import HostHeard, HostJoined, HostMarked, Ticked
from batchyard_controller.core.model.hosts import Host
from batchyard_controller.core.model.jobs import Job, RetryStrategy
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.requests.hosts import release_brake
from batchyard_controller.core.world.brake import Brake

FENCE_S = 30
GIVEN_UP_S = 66
"""Fence and margin."""


class Outage:
    """A yard in which each host runs one job with a short fence, and time passes second by second."""

    def __init__(self, hosts: int, percent: int = limits.BRAKE_PERCENT) -> None:
        self.yard = Yard()
        self.yard.world.fence_ms = FENCE_S * 1000
        self.yard.world.brake = Brake(percent=percent)
        self.yard.environment()
        self.yard.queue()
        self.names = [HostId(f"h{number}") for number in range(hosts)]
        self.alerts: list[TellBrake] = []
        self.jobs: dict[HostId, Job] = {}
        for name in self.names:
            self.yard.host(name, cpu=1000)
            self.hear(name)
            job = self.yard.submit(retry=RetryStrategy(attempts=2))
            self.yard.plan()
            self.jobs[name] = job

    def hear(self, name: HostId) -> None:
        host = self.yard.world.hosts[name]
        if host.is_reachable:
            self.yard.apply(HostHeard(host_id=name, session=host.session, wall_ms=self.yard.now.wall_ms))
        else:
            self.yard.apply(HostJoined(host_id=name, facts=host.record.facts, session=1))

    def pass_time(self, seconds: int, heard: list[HostId]) -> None:
        for _ in range(seconds):
            before = self.yard.now
            self.yard.now = Instant(wall_ms=before.wall_ms + 1000, boot_ms=before.boot_ms + 1000)
            for name in heard:
                self.hear(name)
            self.alerts += [each for each in self.yard.apply(Ticked()) if isinstance(each, TellBrake)]

    @property
    def lost(self) -> list[HostId]:
        return [name for name, job in self.jobs.items() if job.state is JobState.RUNNABLE]


def test_all_are_cut_off_none_is_given_up_and_there_is_one_alert():
    outage = Outage(10)
    outage.pass_time(3600, [])
    assert outage.lost == []
    assert outage.alerts == [TellBrake(holds=True, silent=10, hosts=10)]
    outage.pass_time(2, outage.names)
    assert outage.alerts[1:] == [TellBrake(holds=False, silent=0, hosts=10)]
    assert outage.lost == []


def test_fewer_fail_by_themselves():
    """Two of ten, one after the other: each by its fence; and one of one, whose job nobody else could have."""
    outage = Outage(10)
    outage.pass_time(GIVEN_UP_S, outage.names[2:])
    assert outage.lost == outage.names[:2]
    assert outage.alerts == []
    alone = Outage(1)
    alone.pass_time(GIVEN_UP_S, [])
    assert alone.lost == alone.names


def test_who_failed_before_the_others_is_given_up():
    outage = Outage(10)
    outage.pass_time(62, outage.names[1:])
    outage.pass_time(GIVEN_UP_S, outage.names[5:])
    assert outage.alerts == [TellBrake(holds=True, silent=4, hosts=9)]
    assert outage.lost == outage.names[:1]


def test_when_most_are_back_the_others_have_another_minute():
    outage = Outage(10)
    outage.pass_time(100, outage.names[5:])
    assert outage.alerts == [TellBrake(holds=True, silent=5, hosts=10)]
    outage.pass_time(60, outage.names[2:])
    assert outage.lost == []
    outage.pass_time(2, outage.names[2:])
    assert outage.lost == outage.names[:2]
    assert outage.alerts[1:] == [TellBrake(holds=False, silent=2, hosts=10)]


def test_an_operators_word_ends_it_and_it_does_not_begin_again_for_the_same_hosts():
    outage = Outage(10)
    with pytest.raises(FailedPreconditionError, match="does not hold"):
        release_brake(outage.yard.world)
    outage.pass_time(100, outage.names[8:])
    event, number = release_brake(outage.yard.world)
    assert number == 8
    assert outage.yard.apply(event) == [TellBrake(holds=False, silent=8, hosts=10)]
    outage.pass_time(1, outage.names[8:])
    assert outage.lost == outage.names[:8]
    outage.pass_time(100, outage.names[8:])
    assert len(outage.alerts) == 1


def test_it_can_be_switched_off():
    outage = Outage(10, percent=0)
    outage.pass_time(GIVEN_UP_S, [])
    assert (outage.lost, outage.alerts) == (outage.names, [])


def test_hosts_that_may_be_switched_off_do_not_count():
    """Half the yard was drained, and sleeps; none of the others is waited for on their account."""
    outage = Outage(6)
    for name in outage.names[:3]:
        outage.yard.terminate(outage.jobs[name].id)
        outage.yard.ended(f"{outage.jobs[name].id}#1", 143)
        outage.yard.apply(HostMarked(host_id=name, cordoned=True, draining=True))
    outage.pass_time(100, outage.names[3:])
    assert outage.alerts == []


def test_what_this_controller_did_not_hear_while_it_stood_still_lengthens_it():
    outage = Outage(10)
    outage.pass_time(50, [])
    since_ms = outage.yard.world.brake.since_boot_ms
    assert since_ms is not None
    outage.yard.now = Instant(wall_ms=10**6, boot_ms=outage.yard.now.boot_ms + 100_000)
    outage.yard.apply(Ticked(late_ms=100_000))
    assert outage.yard.world.brake.since_boot_ms == since_ms + 100_000
    assert outage.lost == []


@given(st.lists(st.integers(0, 120), min_size=1, max_size=12), st.integers(1, 99))
def test_it_holds_if_and_only_if_so_many_fell_silent_within_a_minute(silent_s: list[int], percent: int):
    """Against the rule said plainly, on hosts of which each was heard last so many seconds ago."""
    yard, now_ms = Yard(), 10**6
    hosts: list[Host] = []
    for number, each in enumerate(silent_s):
        yard.host(f"h{number}")
        host = yard.world.hosts[HostId(f"h{number}")]
        host.heard_boot_ms, host.heard_wall_ms = now_ms - each * 1000, 1
        host.session = int(each <= limits.CONTACT_LIMIT_MS // 1000)
        hosts.append(host)
    brake = Brake(percent=percent)
    begins = brake.look(hosts, Instant(wall_ms=0, boot_ms=now_ms))
    there = sum(host.is_reachable for host in hosts)
    gone = [each for each in silent_s if each * 1000 > limits.CONTACT_LIMIT_MS]
    windows = [sum(last <= each <= last + 60 for each in gone) for last in gone]
    much = [n for n in windows if (n >= 3 and n / (there + n) > percent / 100) or (n == there + n and n > 1)]
    assert begins is bool(much)
    assert any(map(brake.holds, (host for host in hosts if not host.is_reachable))) is begins
