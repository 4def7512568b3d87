"""A real controller for each test; a bug that it answered as INTERNAL fails the test that met it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import structlog
from structlog.typing import EventDict

from .controller import MemoryController


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[EventDict]]:
    """Return what the controller logs; the story of an internal error must not be in it."""
    with structlog.testing.capture_logs() as entries:
        yield entries
    bugs = [entry for entry in entries if entry["log_level"] in ("error", "critical")]
    assert not bugs, bugs


@pytest.fixture
async def bare() -> AsyncIterator[MemoryController]:
    """Return a controller that leads and holds nothing."""
    async with MemoryController() as controller:
        await controller.until_leads()
        yield controller


@pytest.fixture
async def yard(bare: MemoryController) -> MemoryController:
    """Return a controller with a compute environment and a queue, both named ``default``."""
    await bare.furnish()
    return bare
