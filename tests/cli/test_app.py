"""The root of the command line: help, version, completion, the commands' table."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from batchyard.cli import main
from batchyard.cli.app import COMMANDS, app


def batchyard(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "batchyard", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **env},
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there_and_explains_itself(name: str) -> None:
    command = app.commands[name]
    assert command.name == name
    assert COMMANDS[name][1].endswith(".")
    if name in {"controller", "agent", "gateway", "relay"}:
        # These become another program, and would take this one with them.
        told = batchyard(name, "--help")
        assert (told.returncode, told.stderr) == (0, "")
        assert f"Usage: batchyard {name} " in told.stdout
    else:
        result = CliRunner().invoke(command, ["--help"])
        assert result.exit_code == 0
        assert "Usage: " in result.output


def test_help_names_every_command_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {name} " in text for name in COMMANDS)
    assert all(f"\n    {code} " in text for code in (0, 2, 3, 4, 5, 124, 130))


def test_help_loads_neither_grpc_nor_rich() -> None:
    script = (
        "import sys; from batchyard.cli import main; main(['submit', '--help']); "
        "sys.exit(str({'grpc', 'google', 'rich', 'asyncio', 'tomllib'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert result.stderr == "set()\n"


def test_version() -> None:
    result = batchyard("--version")
    assert (result.returncode, result.stdout.split()[0]) == (0, "batchyard")


def test_no_command_shows_help() -> None:
    result = batchyard()
    assert result.returncode == 2
    assert "Commands:" in result.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_writes_a_script(shell: str) -> None:
    result = batchyard("completion", shell)
    assert result.returncode == 0
    assert "_BATCHYARD_COMPLETE" in result.stdout


def test_completion_completes_commands_and_options() -> None:
    def complete(words: str) -> list[str]:
        result = batchyard(_BATCHYARD_COMPLETE="bash_complete", COMP_LINE=words)
        return result.stdout.split()

    assert complete("batchyard su") == ["plain,submit", "plain,submit-jobs"]
    assert "plain,--array" in complete("batchyard submit --ar")
    assert complete("batchyard queue cr") == ["plain,create"]
    assert complete("batchyard jobs -o j") == ["plain,json"]
