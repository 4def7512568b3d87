"""A yard for each test, and no settings of the machine's user; a bug that the controller logs fails the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.sdk.yard import AsyncYard, Yard
from tests.services.conftest import logged  # noqa: F401  # a fixture


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("ADDRESS", "CONFIG", "OUTPUT", "QUEUE", "TIMEOUT_S", "RETRY_S"):
        monkeypatch.delenv(f"BATCHYARD_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)


@pytest.fixture
async def async_yard() -> AsyncIterator[AsyncYard]:
    async with AsyncYard() as running:
        yield running


@pytest.fixture
def yard() -> Iterator[Yard]:
    with Yard() as running:
        yield running
