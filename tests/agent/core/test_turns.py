"""Turns on a full disk: what may be done before it is written, and what waits."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from batchyard.states import EndCause
from batchyard_agent.core.attempts import Meta, Phase
from batchyard_agent.core.commands import Discard, Launch, Signal
from batchyard_agent.core.events import Event, HeartbeatAcknowledged, Recovered, SessionOpened, StartFailed, Ticked
from batchyard_agent.core.turns import Turn, put_off, take_turn
from batchyard_agent.runtimes.protocol import StopSignal

from .builders import EPOCH, SESSION, A, B, acknowledged, at, exited, running, spec, start, started, stop, table
from .test_laws import turns as stories

KILL, TERM = StopSignal.KILL, StopSignal.TERM


class Disk:
    """Takes the turns of a table, and notes what a journal, a runtime and a controller would get to know."""

    def __init__(self, t) -> None:
        self.table = t
        self.owed = []
        self.journal = {}
        self.told = {}
        self.launched = []

    def turn(self, ms: int, *events: Event, full: bool = False) -> Turn:
        turn = take_turn(self.table, events, at(ms), self.owed)
        self.owed = []
        if full and turn.writes:
            self.owed = put_off(self.table, turn)
            assert not turn.reports
        else:
            self.journal |= {row.attempt_id: row for row in turn.rows}
            for attempt_id in turn.forgotten:
                self.journal.pop(attempt_id, None)
            self.told |= {report.attempt_id: report for report in turn.reports}
        self.launched += [action.spec.attempt_id for action in turn.actions if isinstance(action, Launch)]
        return turn


def test_a_stop_goes_out_at_once_and_its_end_is_told_when_there_is_room():
    """Whoever fills the disk can be stopped; what became of it is written before it is told."""
    disk = Disk(table())
    running(disk.table)
    assert disk.turn(1, stop(grace_s=30), full=True).actions == [Signal(A, "process", TERM)]
    assert disk.turn(30_001, Ticked(), full=True).actions == [Signal(A, "process", KILL)]
    assert disk.turn(30_002, exited(ms=30_002, exit_code=137), full=True).reports == []
    last = disk.turn(60_000, Ticked())
    assert (last.rows, last.reports) == ([disk.table.attempts[A]], [disk.table.attempts[A]])
    assert (disk.told[A].cause, disk.told[A].exit_code) == (EndCause.STOPPED, 137)
    assert not disk.turn(60_001, Ticked()).writes


def test_the_fence_kills_on_a_full_disk():
    meta = Meta(host_id="host-1", epoch=EPOCH, boot_id="boot-1", contact_ms=0, fence_ms=60_000)
    disk = Disk(table(meta=meta))
    running(disk.table)
    assert disk.turn(60_000, Ticked(), full=True).actions == [Signal(A, "process", KILL)]


def test_a_launch_waits_for_room_and_goes_first():
    disk = Disk(table(launch_limits={"process": 1}))
    assert disk.turn(0, start(A), start(B), full=True).actions == []
    assert disk.turn(1, Ticked(), full=True).actions == []
    assert (disk.table.attempts[A].phase, disk.table.launching) == (Phase.ACCEPTED, {"process": set()})
    assert disk.turn(2, Ticked()).actions == [Launch(spec(A))]
    assert [disk.journal[i].phase for i in (A, B)] == [Phase.LAUNCHING, Phase.ACCEPTED]


def test_a_launch_that_waited_for_room_beyond_the_fence_never_happens():
    meta = Meta(host_id="host-1", epoch=EPOCH, boot_id="boot-1", contact_ms=0, fence_ms=60_000)
    disk = Disk(table(meta=meta))
    disk.turn(0, start(A), full=True)
    disk.turn(60_000, Ticked(), full=True)
    opened = SessionOpened(epoch=EPOCH, sent_at_ms=70_000, fence_ms=60_000, session=SESSION + 1)
    assert disk.turn(70_000, opened).actions == []
    assert (disk.told[A].phase, disk.told[A].cause) == (Phase.ENDED, EndCause.FENCED)


def test_strangers_are_killed_on_a_full_disk():
    disk = Disk(table())
    assert Discard(B, "process") in disk.turn(0, Recovered(boot_id="boot-1", held=(("process", B),)), full=True).actions


def test_only_what_was_told_can_be_let_go_of():
    """An end is acknowledged only after it was written, so its runtime may forget it before that is."""
    disk = Disk(table())
    running(disk.table)
    disk.turn(1, exited(ms=1))
    ended = disk.journal[A]
    assert len(disk.turn(2, acknowledged(), full=True).actions) == 1
    assert disk.journal[A] == ended
    disk.turn(3, HeartbeatAcknowledged(epoch=EPOCH, sent_at_ms=3))
    assert disk.journal[A].phase is Phase.DONE


@settings(max_examples=300)
@given(stories, st.lists(st.booleans(), min_size=25, max_size=25))
def test_a_full_disk_loses_nothing_and_launches_nothing_twice(story, fullness):
    disk, ms = Disk(table()), 0
    for (pause_ms, events), full in zip(story, fullness, strict=False):
        ms += pause_ms
        disk.turn(ms, *events, full=full)
        assert set(disk.launched) <= set(disk.journal), "what is launched is written"
        assert len(disk.launched) == len(set(disk.launched)), "an attempt is launched at most once"
    disk.turn(ms, Ticked())
    for attempt in (*disk.table.attempts.values(), *disk.table.tombstones.values()):
        if attempt.is_over:
            assert disk.journal[attempt.attempt_id] == attempt
            assert disk.told[attempt.attempt_id].cause is attempt.cause


def test_a_start_that_fails_while_the_disk_is_full_is_told_later():
    disk = Disk(table())
    disk.turn(0, start(A))
    assert disk.turn(1, StartFailed(attempt_id=A, reason="no"), full=True).reports == []
    assert disk.turn(2, started(B)).reports[0].cause is EndCause.START_FAILED
