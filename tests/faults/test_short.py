"""The fault suite's short form: each kind that fits into a minute befalls one small yard, and nothing is lost or runs twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.timeout(900), pytest.mark.etcd, pytest.mark.netns]

FAULTS = 16
SEED = 5
REPOSITORY = Path(__file__).parents[2]


def test_a_yard_that_is_broken_all_the_time(tmp_path: Path) -> None:
    """As ``make faults``, but for a minute, beside two controllers, and without faults past the fence."""
    line = [sys.executable, "-m", "tests.faults", "--faults", str(FAULTS), "--seed", str(SEED), "--yards", "1"]
    line += ["--controllers", "2", "--every", "2", "--ahead", "16", "--short", "--folder", str(tmp_path / "f")]
    answer = subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, f"{answer.stdout[-6000:]}\n{answer.stderr[-3000:]}"
    assert f"faults={FAULTS} " in answer.stdout
