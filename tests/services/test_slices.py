"""Slices: a long queue keeps neither commits nor callers waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from tests.core.yard import Yard

from batchyard_controller.core.commands import Command, SendStart
from batchyard_controller.core.placement.pace import STEPS_FIRST
from batchyard_controller.core.world.world import World
from batchyard_controller.driver import Driver
from batchyard_controller.metrics import Metrics
from batchyard_controller.store.memory import MemoryStore


class Told:
    """A sink that keeps how many starts were sent in each turn."""

    def __init__(self) -> None:
        self.starts: list[int] = []

    def carry_out(self, world: World, commands: Iterable[Command]) -> None:
        self.starts.append(sum(len(command.attempts) for command in commands if isinstance(command, SendStart)))

    def close(self) -> None:
        pass


async def test_a_long_plan_is_stored_and_sent_in_slices_and_callers_are_answered_between() -> None:
    yard, told, store = Yard(), Told(), MemoryStore()
    yard.environment()
    yard.queue()
    yard.host("h", cpu=1_000_000, memory=1 << 30)
    yard.submit(array_size=STEPS_FIRST * 4)
    yard.world.ledger.take()
    driver = Driver(store, await store.campaign("test"), yard.world, told, lambda: yard.now, Metrics())
    running = asyncio.create_task(driver.run())
    seen = await driver.read(lambda world: len(world.attempts))
    assert 0 < seen <= STEPS_FIRST
    for _ in range(100):  # trips round the loop, many more than there are slices and none that waits
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])
    assert sum(told.starts) == STEPS_FIRST * 4
    assert next(starts for starts in told.starts if starts) == STEPS_FIRST
