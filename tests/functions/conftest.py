"""One yard of real processes for all tests of a module, whose host takes one call after the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.yard import Yard

from batchyard import Client, Executor


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    made = Yard(tmp_path_factory.mktemp("yard"))
    try:
        made.start("a", cpus=1)
        yield made
    finally:
        made.sweep()


@pytest.fixture(scope="module")
def client(yard: Yard) -> Iterator[Client]:
    with yard.client() as made:
        yield made


@pytest.fixture
def pool(client: Client, tmp_path: Path) -> Iterator[Executor]:
    """An executor of which four calls run at once."""
    with Executor(tmp_path, client=client, vcpus=0.25, memory=64) as made:
        yield made
