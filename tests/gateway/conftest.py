"""A gateway for each test; a bug that it answered as an internal error fails the test that met it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from structlog.typing import EventDict

from .endpoint import Endpoint, Yard


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[EventDict]]:
    """Return what is logged; the story of an internal error must not be in it."""
    with structlog.testing.capture_logs() as entries:
        yield entries
    bugs = [entry for entry in entries if entry["log_level"] in ("error", "critical")]
    assert not bugs, bugs


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """Return a gateway over an empty controller."""
    with Endpoint() as started:
        yield started


@pytest.fixture
def batch(endpoint: Endpoint) -> Any:
    """Return boto3's client of the gateway."""
    return endpoint.batch()


@pytest.fixture
def yard(endpoint: Endpoint, batch: Any) -> Yard:
    """Return a yard with an environment ``ce``, a queue ``q`` and a definition ``d``."""
    return Yard(endpoint, batch)
