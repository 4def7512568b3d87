"""Man pages: every command has one, man reads it, and it says what the help says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from batchyard.cli import man
from batchyard.cli.app import COMMANDS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where all pages are, made as a release makes them: click keeps in a command how help was first asked for."""
    found = tmp_path_factory.mktemp("man")
    subprocess.run([sys.executable, "-m", "batchyard.cli.man", str(found / "man1")], check=True, timeout=60)
    return found


def test_every_command_has_a_page(folder: Path) -> None:
    there = {path.stem for path in (folder / "man1").iterdir()}
    assert {"batchyard", *(f"batchyard-{name}" for name in COMMANDS)} <= there
    assert {"batchyard-queue-create", "batchyard-context-use"} <= there


def test_nothing_of_a_text_is_obeyed() -> None:
    assert man._text(r".so /etc/passwd \n-x") == r"\&.so /etc/passwd \en\-x"
    assert man._paragraphs("One\ntwo.\n\n\b\n  as it\n  'stands") == [
        ".PP",
        "One two.",
        ".PP",
        ".nf",
        "  as it",
        "  'stands",
        ".fi",
    ]


@pytest.mark.skipif(shutil.which("man") is None, reason="no man here")
@pytest.mark.parametrize(
    ("page", "words"),
    [
        (
            "batchyard-submit",
            ["--stdin FILE", "batchyard submit --sweep lr=0.1,0.2 --sweep seed=1..5 -- ./train Ref::lr"],
        ),
        ("batchyard", ["124  no answer, or no end, in time", "List jobs, newest first."]),
        ("batchyard-context", ["Keep a yard as NAME.", "-h, --help"]),
    ],
)
def test_man_shows_it(folder: Path, page: str, words: list[str]) -> None:
    shown = subprocess.run(
        ["man", "--warnings", "-M", str(folder), page],
        env={**os.environ, "MANWIDTH": "120", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert shown.stderr == ""
    for each in words:
        assert each in shown.stdout
