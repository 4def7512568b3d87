"""Metrics, as Prometheus would read them of a controller."""

from __future__ import annotations

import asyncio

from prometheus_client import generate_latest

from .controller import PATIENCE_S, MemoryController, amounts, container
from .hand_agent import HandAgent


async def test_a_monitor_is_told(yard: MemoryController) -> None:
    """Waits and promises at once, what is read of the yard after a while."""
    agent = HandAgent(yard)
    await agent.join()
    await yard.submit(container=container(resources=amounts(3000)), timeout_s=600)
    (spec,) = await agent.hear_starts()
    await yard.submit(container=container(resources=amounts(4000)), timeout_s=60)

    def lines() -> set[str]:
        return set(generate_latest(yard.metrics.registry).decode().splitlines())

    async with asyncio.timeout(PATIENCE_S):
        while 'batchyard_waiting{queue="default",reason="capacity"} 1.0' not in lines():
            await asyncio.sleep(0.1)
    told = lines()
    assert 'batchyard_wait_seconds_count{queue="default"} 1.0' in told
    assert 'batchyard_reservations_total{outcome="made"} 1.0' in told
    assert 'batchyard_environment_allocated{environment="default",resource="cpu"} 3.0' in told
    assert "batchyard_hosts_being_reclaimed 0.0" in told
    await agent.finish(spec.attempt_id)
    await agent.hear_starts()
    told = lines()
    assert 'batchyard_reservations_total{outcome="kept"} 1.0' in told
    assert "batchyard_reservation_late_seconds_count 1.0" in told
