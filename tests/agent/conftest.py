"""Fixtures of the agent's tests."""

from __future__ import annotations

import pytest
from tests.disks import mounted


@pytest.fixture
def small_disk(tmp_path):
    """A disk of its own of 16 MiB."""
    with mounted(tmp_path / "disk", 16) as folder:
        yield folder
