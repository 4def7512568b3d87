"""Variables that look like settings and are none: refused, as misspelt keys of the file are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Run

from batchyard import Client, InvalidArgumentError, settings

WRONG = "BATCHYARD_ENDPOINT: no such setting; there are BATCHYARD_ADDRESS, BATCHYARD_CREDENTIALS"


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


KUBERNETES = (
    ("", "_CONTROLLER", "_WEB_UI"),
    (
        "_SERVICE_HOST",
        "_SERVICE_PORT",
        "_SERVICE_PORT_GRPC",
        "_PORT",
        "_PORT_8470_TCP",
        "_PORT_8470_TCP_ADDR",
    ),
)


@pytest.mark.parametrize("program", ["", "controller"])
def test_what_kubernetes_says_of_services_is_no_setting(program: str) -> None:
    """Every pod beside a service called ``batchyard``, or the like, is given these."""
    variables = {f"BATCHYARD{name}{end}": "tcp://10.0.0.1:8470" for name in KUBERNETES[0] for end in KUBERNETES[1]}
    settings.check_environment(variables, ["address"], program)
    with pytest.raises(InvalidArgumentError, match="no such setting"):
        settings.check_environment({**variables, settings.variable("lissen", program): "x"}, ["listen"], program)


WRONG_SETTINGS = [{"BATCHYARD_FOO": "1"}, {"BATCHYARD_OUTPUT": "xml"}, {"BATCHYARD_CONFIG": "/dev/null/no"}]
"""Of the client."""


@pytest.mark.parametrize("wrong", WRONG_SETTINGS, ids=str)
@pytest.mark.parametrize(
    "command", [["--help"], ["--version"], ["jobs", "--help"], ["queue", "create", "-h"]], ids=" ".join
)
def test_help_needs_no_settings(
    run: Run, command: list[str], wrong: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    answer = run(*command)
    assert (answer.code, answer.err) == (0, "")
    assert run("queue", "list").code == 2


@pytest.mark.parametrize("program", ["controller", "agent", "gateway"])
@pytest.mark.parametrize("wrong", [*WRONG_SETTINGS, None], ids=str)
def test_help_of_programs_needs_no_settings(program: str, wrong: dict[str, str] | None) -> None:
    environment = {**os.environ, **(wrong or {f"BATCHYARD_{program.upper()}_LISSEN": "x"})}

    def code_of(*arguments: str) -> int:
        line = [sys.executable, "-m", "batchyard", program, *arguments]
        return subprocess.run(line, capture_output=True, check=False, timeout=30, env=environment).returncode

    assert (code_of("--help"), code_of()) == (0, 2)


@pytest.mark.parametrize("command", ["up", "env"])
def test_commands_that_call_nobody_refuse_wrong_variables_too(
    run: Run, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCHYARD_ENDPOINT", "10.0.0.1:8470")
    answer = run(command)
    assert answer.code == 2
    assert WRONG in answer.err


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
