"""Each attempt is given up by its own fence: that of its job, else of its queue, else of its host."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.agent.core.builders import EPOCH, SESSION, A, start, table, turn
from tests.core.test_clusters import node
from tests.core.yard import Yard, facts

from batchyard.errors import Reason
from batchyard.features import FEATURES
from batchyard.ids import HostId
from batchyard.states import EndCause, JobState
from batchyard_agent.core.events import HeartbeatAcknowledged, SessionOpened
from batchyard_controller.core import limits
from batchyard_controller.core.events import HostHeard, HostJoined, HostLeft, Ticked
from batchyard_controller.core.jobs.resolution import Submission
from batchyard_controller.core.model.hosts import own_fence, told_fence
from batchyard_controller.core.model.jobs import RetryStrategy
from batchyard_controller.core.model.settings import EnvironmentOrder, JobQueue
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.requests.job_rules import check_submission
from batchyard_controller.core.requests.settings_rules import check_queue
from batchyard_controller.core.world.fences import fence_of

HOST = HostId("h1")
AGAIN = RetryStrategy(attempts=2)
GUARD_LAG_MS = 5_000
"""After an agent's own deadline its keeper ends what it should have."""


def yard_of_fences(features: tuple[str, ...] = FEATURES) -> Yard:
    yard = Yard()
    yard.environment()
    yard.queue("ordinary", "ce")
    yard.queue("patient", "ce", fence_s=limits.FENCE_NEVER_S)
    yard.host("h1", features=features)
    return yard


def silence(yard: Yard, silent_s: float) -> None:
    yard.now = Instant(wall_ms=0, boot_ms=1_000 + round(silent_s * 1000))
    yard.apply(Ticked())


def test_each_attempt_is_given_up_by_its_own_fence_and_frees_its_room():
    yard = yard_of_fences()
    short = yard.submit("patient", fence_s=30, retry=AGAIN)
    ordinary = yard.submit("ordinary", retry=AGAIN)
    never = yard.submit("patient", retry=AGAIN)
    yard.plan()
    yard.apply(HostLeft(host_id=HOST, session=1))
    for silent_s, left in (
        (65.02, [short, ordinary, never]),
        (65.04, [ordinary, never]),
        (935.8, [ordinary, never]),
        (936, [never]),
        (10**6, [never]),
    ):
        silence(yard, silent_s)
        assert [job for job in (short, ordinary, never) if job.state is JobState.STARTING] == left, silent_s
        assert len(yard.world.hosts[HOST].attempts) == len(left)
    assert short.attempts[0].cause is EndCause.LOST


def test_an_older_agent_goes_by_its_hosts_fence_so_the_longer_counts():
    yard = yard_of_fences(features=())
    job = yard.submit("ordinary", fence_s=30, retry=AGAIN)
    yard.plan()
    yard.apply(HostLeft(host_id=HOST, session=1))
    silence(yard, 935)
    assert job.state is JobState.STARTING
    silence(yard, 937)
    assert job.state is JobState.RUNNABLE


def test_a_node_of_a_cluster_keeps_none_whatever_is_said():
    assert own_fence(facts("h"), 0, -1) == 0
    assert own_fence(facts("h"), 60, -1) == 60_000
    assert own_fence(facts("h"), 0, 0) is None
    assert own_fence(facts("h", kubernetes=node()), 30, 30) is None


@pytest.mark.parametrize("fence_s", [29, 86_401, -2])
def test_a_fence_lies_within_bounds_or_is_never(fence_s: int):
    for bad in (
        check_submission(Submission(name="j", queue="q", definition="d", fence_s=fence_s)),
        check_queue(
            JobQueue(
                name="q", environment_order=(EnvironmentOrder(order=1, compute_environment="ce"),), fence_s=fence_s
            )
        ),
    ):
        assert [(each.field, each.reason) for each in bad] == [("fence_s", Reason.OUT_OF_RANGE)]


fences = st.sampled_from([0, 30_000, 60_000, 900_000, 86_400_000])
words = st.lists(
    st.tuples(
        st.integers(0, 20_000),  # since the word before
        st.integers(0, 10_000),  # until it is heard
        st.booleans(),  # whether the answer comes back
        st.one_of(st.none(), fences),  # a new session, with this fence of the controller
    ),
    max_size=8,
)


@given(first=fences, own=st.one_of(st.none(), fences), said=words)
def test_the_agents_deadline_lies_before_the_controllers(first: int, own: int | None, said):
    """Whatever was heard, answered and told before the silence, on clocks that are one in a thousand apart."""
    yard, agent = Yard(), table()
    yard.world.fence_ms = first
    yard.host("h1", features=FEATURES)
    host = yard.world.hosts[HOST]
    now_ms, is_welcome = yard.now.boot_ms, True
    turn(agent, now_ms, SessionOpened(epoch=EPOCH, sent_at_ms=now_ms, fence_ms=first, session=SESSION))
    turn(agent, now_ms, start(A, fence_ms=own))
    for since_ms, later_ms, is_answered, fence_ms in said:
        if fence_ms is None and not is_welcome:
            continue  # it says hello again, and nothing else
        sent_at_ms = now_ms + since_ms
        now_ms = sent_at_ms + later_ms
        yard.now = Instant(wall_ms=now_ms, boot_ms=now_ms)
        if fence_ms is not None:
            yard.world.fence_ms = fence_ms
            yard.apply(HostJoined(host_id=HOST, facts=host.record.facts, session=host.session + 1))
        else:
            yard.apply(HostHeard(host_id=HOST, session=host.session))
        told = told_fence(host.record.facts, yard.world.fence_ms)
        if is_answered and agent.fence_at_ms is not None and agent.fence_at_ms <= now_ms:
            break  # it is ended before the answer comes
        is_welcome = is_answered if fence_ms is not None else is_welcome
        if is_answered and fence_ms is not None:
            turn(agent, now_ms, SessionOpened(epoch=EPOCH, sent_at_ms=sent_at_ms, fence_ms=told, session=SESSION))
        elif is_answered:
            turn(agent, now_ms, HeartbeatAcknowledged(epoch=EPOCH, sent_at_ms=sent_at_ms))
    given_up_after_ms = fence_of(yard.world, host, own)
    if given_up_after_ms:
        fence_ms = agent.fence_of(agent.attempts[A])
        assert agent.fence_at_ms is not None
        drift_ms = fence_ms // 1000
        assert agent.fence_at_ms + GUARD_LAG_MS + 30_000 + drift_ms <= host.heard_boot_ms + given_up_after_ms
