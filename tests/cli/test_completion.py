"""Completion: the names of the yard are offered where one is wanted, and nothing where none can be had."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Run, set_up_anew
from tests.sdk.yard import Yard

from batchyard import container
from batchyard.cli.app import COMMANDS
from batchyard.contexts import Contexts


def offered(address: str, *words: str, **environment: str) -> list[str]:
    """Return what bash is offered for the last of *words*."""
    line = ["batchyard", "--address", address, *words]
    answer = subprocess.run(
        [sys.executable, "-c", "import sys; from batchyard.cli import main; sys.exit(main([]))"],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        env={
            **os.environ,
            **environment,
            "_BATCHYARD_COMPLETE": "bash_complete",
            "COMP_LINE": " ".join(line),
        },
    )
    assert answer.stderr == ""
    return sorted(item.partition(",")[2] for item in answer.stdout.split())


def test_names_of_the_yard_are_completed(yard: Yard) -> None:
    yard.client.create_job_queue("fast")
    yard.client.register_job_definition("train", container=container(["true"]))
    yard.do(yard.inner.join("alpha"))
    job = yard.submit()
    yard.client.create_scheduling_policy("fair")
    yard.client.create_consumable_resource("licence")
    assert offered(yard.address, "submit", "-q", "f") == ["fast"]
    assert offered(yard.address, "scheduling-policy", "describe", "f") == ["fair"]
    assert offered(yard.address, "queue", "create", "q", "--scheduling-policy", "f") == ["fair"]
    assert offered(yard.address, "consumable-resource", "update", "l") == ["licence"]
    assert offered(yard.address, "tag", "list", "consumable-resource", "l") == ["licence"]
    assert offered(yard.address, "queue", "describe", "d") == ["default"]
    assert offered(yard.address, "submit", "-d", "t") == ["train"]
    assert offered(yard.address, "job-definition", "deregister", "train:") == ["train:1"]
    assert offered(yard.address, "job-definition", "deregister", "t") == ["train:1"]
    assert offered(yard.address, "drain", "a") == ["alpha"]
    assert offered(yard.address, "host", "remove", "a") == ["alpha"]
    assert offered(yard.address, "queue", "create", "new", "--compute-environment", "d") == ["default"]
    assert offered(yard.address, "logs", job[:4]) == [job]
    assert offered(yard.address, "wait", "l") == ["last"]
    assert offered(yard.address, "tag", "list", "queue", "f") == ["fast"]
    assert offered(yard.address, "tag", "list", "job", job[:4]) == [job]


def test_where_no_controller_answers_nothing_is_offered_and_nothing_told() -> None:
    assert offered("127.0.0.1:1", "queue", "describe", "d") == []


def test_a_name_that_two_hosts_have_is_offered_once(yard: Yard) -> None:
    yard.do(set_up_anew(yard))
    assert offered(yard.address, "drain", "a") == ["alpha"]


def replies(address: str, folder: Path, line: str, breaks: str) -> list[str]:
    """Return what bash puts in the place of its last word, with these letters between words."""
    (folder / "batchyard").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m batchyard "$@"\n')
    (folder / "batchyard").chmod(0o755)
    script = (
        'eval "$(batchyard completion bash)"; COMP_WORDBREAKS=$1 COMP_LINE=$2 COMP_POINT=${#2}; '
        '_batchyard_completion batchyard; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    answer = subprocess.run(
        ["bash", "-c", script, "bash", breaks, line],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
        env={**os.environ, "BATCHYARD_ADDRESS": address, "PATH": f"{folder}:{os.environ['PATH']}"},
    )
    assert answer.stderr == ""
    return sorted(answer.stdout.split())


def test_bash_completes_what_has_a_colon(yard: Yard, tmp_path: Path) -> None:
    """Where bash ends words at colons, it replaces what stands behind the last one."""
    for _ in range(2):
        yard.client.register_job_definition("jd", container=container(["true"]))
    for line in ("job-definition describe jd:", "submit -d jd:", "submit --definition=jd:"):
        assert replies(yard.address, tmp_path, f"batchyard {line}", " :=") == ["1", "2"], line
        assert replies(yard.address, tmp_path, f"batchyard {line}", " =") == ["jd:1", "jd:2"], line
    assert replies(yard.address, tmp_path, "batchyard job-definition deregister ", " :") == ["jd:1", "jd:2"]
    assert replies(yard.address, tmp_path, "batchyard submit -d j", " :") == ["jd"]


def test_wrong_settings_are_not_told_at_a_tab(yard: Yard, tmp_path: Path) -> None:
    broken = tmp_path / "config.toml"
    broken.write_text("[client\n")
    for wrong in ({"BATCHYARD_FOO": "1"}, {"BATCHYARD_CONFIG": str(broken)}, {"BATCHYARD_OUTPUT": "xml"}):
        assert offered(yard.address, "drai", **wrong) == ["drain"]
        assert set(offered(yard.address, "queue", "describe", "d", **wrong)) <= {"default"}


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"controller", "agent", "gateway", "relay"}))
def test_help_shows_no_marks_of_its_layout(run: Run, command: str) -> None:
    text = run(command, "--help").out
    assert text.startswith("Usage: ")
    assert "\\b" not in text
    assert "\b" not in text


def test_help_of_completion_keeps_its_lines(run: Run) -> None:
    assert "\n    zsh:  echo 'eval \"$(batchyard completion zsh)\"' >> ~/.zshrc\n" in run("completion", "--help").out


def test_names_of_contexts_are_offered_without_any_yard(tmp_path: Path) -> None:
    contexts = Contexts(folder=tmp_path / "batchyard")
    contexts.prepare("lab")
    contexts.write("lab", {"address": "unix:/lab.sock"})
    away = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert offered("127.0.0.1:1", "context", "use", "l", **away) == ["lab"]
    assert offered("127.0.0.1:1", "jobs", "--context", "", **away) == ["default", "lab"]
