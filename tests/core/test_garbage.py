"""The world makes no cycles: what is forgotten goes at once, and nobody has to look for it."""

from __future__ import annotations

import gc
import weakref

from tests.core.yard import Yard, container

from batchyard.ids import HostId
from batchyard.states import EndCause
from batchyard_controller.core.events import HostRemoved, Ticked
from batchyard_controller.core.model.jobs import RetryStrategy
from batchyard_controller.core.model.policies import ShareWeight
from batchyard_controller.core.model.settings import ComputeResources, Preemption
from batchyard_controller.core.world.world import World


def _live(yard: Yard) -> None:
    """Let a yard see some of everything: GPUs, shares, promises, clearings, retries, arrays, cancelled ones, gone hosts."""
    yard.environment(compute_resources=ComputeResources(max_vcpus=100))
    yard.policy("p", ShareWeight(share_identifier="a"), ShareWeight(share_identifier="b", max_running=2))
    yard.queue("q", priority=1, preemptible=True)
    yard.queue("shared", scheduling_policy="p")
    yard.queue("urgent", priority=5, preemption=Preemption.LOWER_PRIORITY)
    for name in ("one", "two"):
        yard.host(name, gpus=2)
    for turn in range(10):
        yard.submit("q", container=container(cpu=3000, gpu=500 * (turn % 3)), array_size=3, array_concurrency=2)
        yard.submit("q", retry=RetryStrategy(attempts=2))
        yard.submit("shared", share_identifier="ab"[turn % 2], container=container(cpu=500))
        doomed = yard.submit("q", container=container(cpu=4000))
        yard.plan()
        yard.submit("urgent", container=container(cpu=2000))
        yard.plan()
        for number, name in enumerate(list(yard.world.attempts)):
            is_stopped = bool(yard.world.attempts[name].preempted_for)
            yard.ended(name, 137 if is_stopped else number % 2, EndCause.STOPPED if is_stopped else EndCause.EXITED)
        yard.plan()
        yard.reason(doomed.id)
        yard.cancel(doomed.id)
        yard.apply(Ticked())
    yard.host("three")
    yard.apply(HostRemoved(host_id=HostId("three")))
    yard.run_all()


def test_nothing_that_a_world_drops_is_in_a_cycle() -> None:
    _live(Yard())  # what libraries make once is not ours
    gc.collect()
    gc.disable()
    try:
        _live(Yard())
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_a_world_goes_with_the_last_who_names_it() -> None:
    yard = Yard()
    _live(yard)
    gc.disable()
    try:
        fleet = weakref.ref(yard.world.fleet)
        yard.world = World(yard.world.retention)
        assert fleet() is None
    finally:
        gc.enable()
