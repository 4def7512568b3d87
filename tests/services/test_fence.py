"""The fence that an operator sets: how it is said, and that agents are told it and hosts keep it."""

from __future__ import annotations

import pytest

from batchyard.ids import HostId
from batchyard_controller.config import parse_fence

from .controller import MemoryController
from .hand_agent import HOST_ID, HandAgent


@pytest.mark.parametrize(("text", "fence_ms"), [("never", 0), ("30", 30_000), ("86400", 86_400_000)])
def test_a_fence_is_never_or_a_number_of_seconds(text: str, fence_ms: int) -> None:
    assert parse_fence(text) == fence_ms


@pytest.mark.parametrize("text", ["", "0", "29", "86401", "-30", "30s", "1e3", "Never", "٣٠"])
def test_what_is_no_fence_is_refused_with_the_limits(text: str) -> None:
    with pytest.raises(ValueError, match="neither never nor a whole number of seconds from 30 to 86400"):
        parse_fence(text)


@pytest.mark.parametrize("fence_ms", [30_000, 0])
async def test_agents_are_told_the_fence_and_hosts_keep_it(fence_ms: int) -> None:
    async with MemoryController(fence_ms=fence_ms) as yard:
        agent = HandAgent(yard)
        assert (await agent.join()).fence_ms == fence_ms
        await agent.beat()
        await agent.hear("heartbeat_ack")
        driver = yard.leadership.driver
        assert await driver.read(lambda world: world.hosts[HostId(HOST_ID)].record.fence_ms) == fence_ms
