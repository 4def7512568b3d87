"""Variables that look like settings and are none: refused, as misspelt keys of the file are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Run

from batchyard import Client, InvalidArgumentError

WRONG = "BATCHYARD_ENDPOINT: no such setting; there are BATCHYARD_ADDRESS, BATCHYARD_OUTPUT"


def test_a_wrong_variable_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the command line and by the SDK: who means another yard must not reach this one."""
    monkeypatch.setenv("BATCHYARD_ENDPOINT", "10.0.0.1:8470")
    answer = run("jobs")
    assert answer.code == 2
    assert WRONG in answer.err
    with pytest.raises(InvalidArgumentError, match="BATCHYARD_ENDPOINT: no such setting"):
        Client()


def test_variables_of_programs_and_attempts_are_not_the_clients(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a job that submits another, or in the shell of who starts an agent."""
    for name in ("BATCHYARD_ATTEMPT_ID", "BATCHYARD_FENCE_TOKEN", "BATCHYARD_AGENT_CPUS", "BATCHYARD_CONTROLLER_STORE"):
        monkeypatch.setenv(name, "1")
    assert run("jobs").code == 0


@pytest.mark.parametrize("program", ["controller", "agent", "gateway"])
@pytest.mark.parametrize("place", ["environment", "file"])
def test_programs_refuse_what_they_do_not_know(program: str, place: str, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f"[{program}]\nlog_level = 'info'\n" + ("lissen = 'x'\n" if place == "file" else ""))
    wrong = f"BATCHYARD_{program.upper()}_LISSEN" if place == "environment" else f"{program}.lissen"
    answer = subprocess.run(
        [sys.executable, "-m", f"batchyard_{program}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={**os.environ, "BATCHYARD_CONFIG": str(file), **({wrong: "x"} if place == "environment" else {})},
    )
    assert answer.returncode == 2
    assert f"{wrong}: no such" in answer.stderr
    assert answer.stderr.startswith("Error: ")
