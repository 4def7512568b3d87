"""The fault suite's short form: a yard is broken for half a minute, and nothing is lost, runs twice or is left over."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.faults.__main__ import play
from tests.faults.faults import SHORT

pytestmark = [pytest.mark.timeout(900), pytest.mark.etcd, pytest.mark.netns]

FAULTS = 16
SEED = 5


def test_a_yard_that_is_broken_all_the_time(tmp_path: Path) -> None:
    """As ``make faults``, with two controllers, less load, and without what takes a minute to get over."""
    verdict = play(tmp_path / "y", FAULTS, seed=SEED, controllers=2, every_s=2.0, ahead=16, kinds=SHORT)
    assert verdict.violations == []
    assert verdict.counts["faults"] == FAULTS
    assert verdict.counts["finished"] >= verdict.counts["acknowledged"] > 0
