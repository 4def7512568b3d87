"""What others than this yard hold of a host: said with its first word and each heartbeat, within bounds, and shown."""

from __future__ import annotations

import pytest

from batchyard.v1 import host_pb2, resources_pb2

from .controller import MemoryController
from .hand_agent import HandAgent


def usage(**held: int) -> host_pb2.HostUsage:
    return host_pb2.HostUsage(reserved=resources_pb2.Resources(**held))


async def test_it_is_known_before_anything_is_placed(yard: MemoryController) -> None:
    """The job waits already, so that the host would get it as soon as it joins."""
    job_id = await yard.submit()
    agent = HandAgent(yard)
    hello = agent.hello()
    hello.hello.usage.CopyFrom(usage(cpu_millis=4000))
    await agent.open(hello)
    await agent.hear("welcome")
    await agent.beat(usage=usage(cpu_millis=4000))
    await agent.hear("heartbeat_ack")  # and nothing before
    host = (await yard.describe_host()).host
    assert host.usage.reserved.cpu_millis == 4000
    assert host.allocated.cpu_millis == 0
    await agent.beat(usage=usage())
    await agent.hear("heartbeat_ack")
    (spec,) = await agent.hear_starts()
    assert spec.job_id == job_id


@pytest.mark.parametrize("held", [{"cpu_millis": -1}, {"memory_mib": (1 << 30) + 1}, {"gpu_millis": -1000}])
@pytest.mark.parametrize("is_first", [True, False])
async def test_amounts_that_cannot_be_end_the_session(
    yard: MemoryController, held: dict[str, int], is_first: bool
) -> None:
    agent = HandAgent(yard)
    if is_first:
        hello = agent.hello()
        hello.hello.usage.CopyFrom(usage(**held))
        await agent.open(hello)
    else:
        await agent.join()
        await agent.beat(usage=usage(**held))
    assert await agent.code() == "INVALID_ARGUMENT"
    assert f"usage.reserved.{next(iter(held))}" in await agent.error()
