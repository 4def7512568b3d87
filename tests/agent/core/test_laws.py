"""Laws that hold whatever comes, in whatever order."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from batchyard.states import EndCause
from batchyard_agent.core.attempts import Phase
from batchyard_agent.core.commands import Adopt, Launch, Remove, Signal
from batchyard_agent.core.events import (
    Adopted,
    CommandFailed,
    EndAcknowledged,
    HeartbeatAcknowledged,
    Recovered,
    RevokeRequested,
    SessionOpened,
    StartFailed,
    StartRequested,
    StopRequested,
    Ticked,
    Vanished,
)
from batchyard_agent.runtimes.protocol import Adoption, StopSignal

from .builders import EPOCH, A, B, C, exited, spec, started, table, turn

RANKS = {phase: rank for rank, phase in enumerate(Phase)}

ids = st.sampled_from([A, B, C])
epochs = st.integers(EPOCH - 1, EPOCH + 1)
moments = st.integers(0, 200_000)
commands = st.one_of(
    ids.map(lambda i: Launch(spec(i))),
    ids.map(lambda i: Adopt(spec(i))),
    ids.map(lambda i: Remove(i, "process")),
    ids.map(lambda i: Signal(i, "process", StopSignal.TERM)),
)
events = st.one_of(
    st.builds(StartRequested, epoch=epochs, spec=st.builds(spec, ids, timeout_s=st.sampled_from([0, 60]))),
    st.builds(StopRequested, epoch=epochs, attempt_id=ids, grace_s=st.integers(0, 60)),
    st.builds(RevokeRequested, epoch=epochs, attempt_id=ids),
    st.builds(EndAcknowledged, epoch=epochs, attempt_id=ids),
    st.builds(SessionOpened, epoch=epochs, sent_at_ms=moments, fence_ms=st.sampled_from([0, 60_000])),
    st.builds(HeartbeatAcknowledged, epoch=epochs, sent_at_ms=moments),
    st.builds(started, ids, moments),
    st.builds(exited, ids, moments, st.integers(0, 255), out_of_memory=st.booleans()),
    st.builds(StartFailed, attempt_id=ids, reason=st.text(max_size=300)),
    st.builds(Vanished, attempt_id=ids, reason=st.text(max_size=300)),
    st.builds(Adopted, attempt_id=ids, adoption=st.sampled_from(Adoption)),
    st.builds(CommandFailed, command=commands, error=st.text(max_size=300)),
    st.just(Ticked()),
)
turns = st.lists(st.tuples(st.integers(0, 30_000), st.lists(events, max_size=6)), max_size=25)


@settings(max_examples=400)
@given(turns, st.booleans())
def test_laws_of_an_attempt(story, after_restart):
    t = table()
    ms = 0
    launched: list[str] = []
    ends: dict[str, object] = {}
    ranks: dict[str, int] = {}
    epoch = EPOCH
    if after_restart:
        turn(t, 0, Recovered(boot_id="boot-1"))
    for pause_ms, happened in story:
        ms += pause_ms
        outcome = turn(t, ms, *happened)
        launched += [action.spec.attempt_id for action in outcome.actions if isinstance(action, Launch)]
        written = {row.attempt_id for row in outcome.rows} | set(outcome.forgotten)

        assert len(launched) == len(set(launched)), "an attempt is launched at most once"
        assert t.meta.epoch >= epoch, "the epoch never falls"
        epoch = t.meta.epoch
        for attempt in (*t.attempts.values(), *t.tombstones.values()):
            attempt_id = attempt.attempt_id
            assert RANKS[attempt.phase] >= ranks.get(attempt_id, 0), "the phase only rises"
            ranks[attempt_id] = RANKS[attempt.phase]
            assert (attempt.cause is not None) == attempt.is_over
            assert len(attempt.reason) <= 255
            if attempt.is_over:
                end = (attempt.started_at_ms, attempt.stopped_at_ms, attempt.exit_code, attempt.cause, attempt.reason)
                if attempt_id not in ends:
                    assert attempt_id in written, "an end is written"
                    assert attempt_id in {r.attempt_id for r in outcome.reports}, "an end is reported"
                assert ends.setdefault(attempt_id, end) == end, "an end stays as it was"
        for attempt_id in ends:
            assert t.get(attempt_id) is not None, "an end is kept"
        for limited, in_flight in t.launching.items():
            assert len(in_flight) <= t.launch_limits[limited]
            for attempt_id in in_flight:
                assert t.attempts[attempt_id].phase is Phase.LAUNCHING, "only launches hold launch slots"


@settings(max_examples=200)
@given(turns)
def test_every_attempt_can_be_brought_to_its_end(story):
    """Whatever happened before: revoke it, let the runtime report its end, acknowledge, and it is buried."""
    t = table()
    ms = 0
    for pause_ms, happened in story:
        ms += pause_ms
        turn(t, ms, *happened)
    epoch = t.meta.epoch
    for attempt_id in (A, B, C):
        turn(t, ms, RevokeRequested(epoch=epoch, attempt_id=attempt_id))
        attempt = t.get(attempt_id)
        assert attempt is not None
        if not attempt.is_over:
            assert attempt.stop is not None
            assert attempt.stop.cause in (EndCause.STOPPED, EndCause.TIMED_OUT, EndCause.FENCED)
            turn(t, ms, started(attempt_id), exited(attempt_id))
        turn(t, ms, EndAcknowledged(epoch=epoch, attempt_id=attempt_id))
    assert t.attempts == {}
    assert set(t.tombstones) == {A, B, C}
