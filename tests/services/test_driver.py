"""The driver: a bug in a decision ends the term, and nobody waits for its answer for ever."""

from __future__ import annotations

import asyncio

import pytest
from tests.core.yard import Yard
from tests.services.test_slices import Told

from batchyard.errors import InternalError, Reason, UnavailableError
from batchyard_controller.core.events import PolicyDeleted
from batchyard_controller.driver import Driver
from batchyard_controller.metrics import Metrics
from batchyard_controller.store.memory import MemoryStore


async def test_a_bug_ends_the_term_and_answers_all_who_asked_in_its_turn() -> None:
    yard, store = Yard(), MemoryStore()
    driver = Driver(store, await store.campaign("test"), yard.world, Told(), lambda: yard.now, Metrics())
    before = asyncio.create_task(driver.request(lambda world, now: (None, 1)))
    broken = asyncio.create_task(driver.request(lambda world, now: (PolicyDeleted(name="there is none"), 2)))
    behind = asyncio.create_task(driver.request(lambda world, now: (None, 3)))
    await asyncio.sleep(0)
    with pytest.raises(BaseExceptionGroup) as ended:
        await driver.run()
    assert ended.group_contains(KeyError)
    async with asyncio.timeout(60):
        with pytest.raises(InternalError, match="see the controller's log"):
            await broken
        for other in (before, behind):
            with pytest.raises(UnavailableError) as refused:
                await other
            assert refused.value.reason == Reason.LEADERSHIP_LOST
