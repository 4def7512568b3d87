"""A yard with one environment, one queue and one host of four vCPUs."""

from __future__ import annotations

import pytest
from tests.core.yard import Yard


@pytest.fixture
def yard() -> Yard:
    made = Yard()
    made.environment()
    made.queue()
    made.host("h1")
    return made
