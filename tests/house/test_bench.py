"""The benchmarks run: real processes, a line a figure, nothing left behind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIGURE = re.compile(
    r"^  array of 10,000 acknowledged, sqlite +[\d.,]+ ms +baseline +[\d.,]+ ms +one job acknowledged  ratio [\d.]+",
    re.MULTILINE,
)


def run_bench(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "bench" / "run.py"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )


def test_a_figure_stands_beside_its_baseline(tmp_path: Path) -> None:
    """One line for people, the same for programs, and no file but that one afterwards."""
    figures = tmp_path / "figures.json"
    answer = run_bench(tmp_path, "--quick", "--only", "array", "--json", str(figures))
    assert answer.returncode == 0, answer.stderr
    assert FIGURE.search(answer.stdout), answer.stdout
    found = json.loads(figures.read_text())
    (figure,) = found["figures"]
    assert figure["value"] > 0
    assert figure["ratio"] == pytest.approx(figure["value"] / figure["baseline"])
    assert {"machine", "versions", "stores", "load average"} == found["machine"].keys()
    assert list(tmp_path.iterdir()) == [figures]


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    answer = run_bench(tmp_path, "--only", "array,speed")
    assert answer.returncode == 2
    assert "speed: there are submits, array" in answer.stderr
