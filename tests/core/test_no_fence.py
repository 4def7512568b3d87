"""Nodes of clusters keep no fence: silence proves nothing of them."""

from __future__ import annotations

from tests.core.test_clusters import CLUSTER, IMAGED, node
from tests.core.yard import Yard, facts

from batchyard.ids import HostId
from batchyard.states import JobState
from batchyard_controller.core.events import HostHeard, HostLeft, Ticked
from batchyard_controller.core.model.hosts import told_fence
from batchyard_controller.core.model.jobs import RetryStrategy
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.world.fences import fence_of


def yard_with_a_node() -> Yard:
    yard = Yard()
    yard.environment("cluster", kubernetes=CLUSTER)
    yard.queue("pods", "cluster")
    yard.host("node", kubernetes=node(), runtimes=("kubernetes",))
    return yard


def test_a_silent_node_is_never_given_up_for_its_silence() -> None:
    """Nobody on the node keeps a fence, so time proves nothing: its agent says what is lost, or an operator does."""
    yard = yard_with_a_node()
    yard.host("mine")
    job = yard.submit(queue="pods", container=IMAGED, retry=RetryStrategy(attempts=2))
    yard.plan()
    yard.apply(HostLeft(host_id=HostId("node"), session=1))
    yard.now = Instant(wall_ms=0, boot_ms=yard.now.boot_ms + 30 * 24 * 3600 * 1000)
    yard.apply(Ticked())
    assert job.state is JobState.STARTING
    assert fence_of(yard.world, yard.world.hosts[HostId("node")]) == 0
    assert fence_of(yard.world, yard.world.hosts[HostId("mine")]) > 0


def test_a_node_is_told_no_fence() -> None:
    assert told_fence(facts("h"), 60_000) == 60_000
    assert told_fence(facts("h", kubernetes=node()), 60_000) == 0
    yard = yard_with_a_node()
    yard.apply(HostHeard(host_id=HostId("node"), session=1))
    assert yard.world.hosts[HostId("node")].record.fence_ms == 0
