"""Completion: the names of the yard are offered where one is wanted, and nothing where none can be had."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Run
from tests.sdk.yard import Yard

from batchyard import container
from batchyard.cli.app import COMMANDS


def offered(address: str, *words: str, **environment: str) -> list[str]:
    """Return what bash is offered for the last of *words*."""
    line = ["batchyard", "--address", address, *words]
    answer = subprocess.run(
        [sys.executable, "-c", "import sys; from batchyard.cli import main; sys.exit(main([]))"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={
            **os.environ,
            **environment,
            "_BATCHYARD_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(line),
            "COMP_CWORD": str(len(line) - 1),
        },
    )
    assert answer.stderr == ""
    return sorted(item.partition(",")[2] for item in answer.stdout.split())


def test_names_of_the_yard_are_completed(yard: Yard) -> None:
    yard.client.create_job_queue("fast")
    yard.client.register_job_definition("train", container=container(["true"]))
    yard.do(yard.inner.join("alpha"))
    job = yard.submit()
    assert offered(yard.address, "submit", "-q", "f") == ["fast"]
    assert offered(yard.address, "queue", "describe", "d") == ["default"]
    assert offered(yard.address, "submit", "-d", "t") == ["train"]
    assert offered(yard.address, "job-definition", "deregister", "train:") == ["train:1"]
    assert offered(yard.address, "drain", "a") == ["alpha"]
    assert offered(yard.address, "queue", "create", "new", "--compute-environment", "d") == ["default"]
    assert offered(yard.address, "logs", job[:4]) == [job]
    assert offered(yard.address, "wait", "l") == ["last"]
    assert offered(yard.address, "tag", "list", "queue", "f") == ["fast"]
    assert offered(yard.address, "tag", "list", "job", job[:4]) == [job]


def test_where_no_controller_answers_nothing_is_offered_and_nothing_told() -> None:
    assert offered("127.0.0.1:1", "queue", "describe", "d") == []


def test_wrong_settings_are_not_told_at_a_tab(yard: Yard, tmp_path: Path) -> None:
    broken = tmp_path / "config.toml"
    broken.write_text("[client\n")
    for wrong in ({"BATCHYARD_FOO": "1"}, {"BATCHYARD_CONFIG": str(broken)}, {"BATCHYARD_OUTPUT": "xml"}):
        assert offered(yard.address, "drai", **wrong) == ["drain"]
        assert set(offered(yard.address, "queue", "describe", "d", **wrong)) <= {"default"}


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"controller", "agent", "gateway"}))
def test_help_shows_no_marks_of_its_layout(run: Run, command: str) -> None:
    text = run(command, "--help").out
    assert text.startswith("Usage: ")
    assert "\\b" not in text
    assert "\b" not in text


def test_help_of_completion_keeps_its_lines(run: Run) -> None:
    assert "\n    zsh:  echo 'eval \"$(batchyard completion zsh)\"' >> ~/.zshrc\n" in run("completion", "--help").out
