"""Atoms: what is stored together is never more than a store can write at once."""

from __future__ import annotations

from tests.core.yard import Yard, container, ended_report

from batchyard.ids import HostId
from batchyard_controller.core.events import AttemptsReported
from batchyard_controller.core.model.chunks import CHUNK
from batchyard_controller.core.model.jobs import RetryStrategy
from batchyard_controller.store.codec import encode_touched
from batchyard_controller.store.packing import check


def test_a_whole_chunk_may_end_and_start_again_in_one_turn() -> None:
    """As when a host with all of its children is lost; beside them what they have used up."""
    yard = Yard()
    yard.environment()
    yard.queue()
    yard.host("h", cpu=CHUNK * 1000, memory=CHUNK * 100)
    needs = tuple((f"ticket-{i}", 1) for i in range(5))
    for name, _ in needs:
        yard.consumable(name, 10 * CHUNK, is_replenishable=False)
    retry = RetryStrategy(attempts=2)
    yard.submit(container=container(), array_size=CHUNK, retry=retry, consumables=needs)
    yard.plan()
    yard.world.ledger.take()
    reports = tuple(ended_report(attempt_id, 1) for attempt_id in yard.live())
    yard.apply(AttemptsReported(host_id=HostId("h"), reports=reports))
    yard.plan()
    assert len(yard.live()) == CHUNK
    atoms = encode_touched(yard.world, yard.world.ledger.take())
    check(atoms)
    ends, claims = (max(i for i, atom in enumerate(atoms) for c in atom if c.key == k) for k in _first_keys(yard))
    assert ends < claims, "a claim is never stored before the end of the attempt before it"


def _first_keys(yard: Yard) -> tuple[str, str]:
    job_id = next(iter(yard.world.jobs))
    return f"attempt/{job_id}:0#1", f"attempt/{job_id}:0#2"
