"""docs/compared.md, walked: every command of ours on that page, and what it prints, on one real yard."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from tests.agent.probe.test_nvml import build
from tests.e2e.yard import Yard

PAGE = Path(__file__).parents[2] / "docs" / "compared.md"
MARK = "\x1e"
"""Written before what each command prints."""
LIMIT_S = 120

pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """
    A command of the page.

    Attributes:
        command: As a shell takes it.
        shown: What it prints, by the page.
    """

    command: str
    shown: str


def steps(section: str) -> list[Step]:
    """Return the commands of a section's blocks."""
    blocks = re.findall(r"```console\n(.*?)```", section, re.DOTALL)
    parts = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", "".join(blocks), re.MULTILINE)
    return [Step(command=command, shown=shown) for command, shown in parts]


def matches(shown: str, printed: str) -> bool:
    """Say whether a text is what the page shows: ``...`` stands for any, alone on a line for any lines, or none."""
    lines = [("(?:.*\n)*" if line == "..." else _pattern(line) + "\n") for line in shown.splitlines()]
    return re.fullmatch("".join(lines), printed) is not None


def _pattern(line: str) -> str:
    # Columns are as wide as what stands in them.
    return ".*".join(re.sub(r"(?:\\ )+", " +", re.escape(part)) for part in line.split("..."))


INTRODUCTION, *SECTIONS = re.split(r"^(?=## )", PAGE.read_text(), flags=re.MULTILINE)


@pytest.fixture(scope="module")
def fits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Return the surroundings of a shell in the page's folder, beside its yard."""
    home = tmp_path_factory.mktemp("compared")
    folder = home / "fits"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LD_LIBRARY_PATH", str(build(tmp_path_factory.mktemp("nvml"))))
        patch.setenv("FAKE_NVML_GPUS", "1")
        made = Yard(home / "yard")
        try:
            made.start("node-1", "node-2", cpus=4)
            around = {**os.environ, "BATCHYARD_ADDRESS": made.socket, "XDG_STATE_HOME": str(home / "state")}
            around |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PWD": str(folder)}
            walk(steps(INTRODUCTION), around)
            yield around
        finally:
            made.sweep()


def walk(all_steps: list[Step], around: dict[str, str]) -> None:
    """Carry out commands in one shell, and see that each prints what the page shows."""
    script = "".join(f"printf '{MARK}'\n{step.command}\n" for step in all_steps)
    done = subprocess.run(
        ["bash", "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=around,
        cwd=around["PWD"],
        timeout=LIMIT_S,
        check=False,
    )
    printed = done.stdout.decode().split(MARK)[1:]
    assert len(printed) == len(all_steps), done.stdout.decode()
    for step, text in zip(all_steps, printed, strict=True):
        assert matches(step.shown, text), f"$ {step.command}\n{text}\nThe page shows:\n{step.shown}"


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.partition("\n")[0].removeprefix("## "))
def test_the_page_tells_what_is_printed(section: str, fits: dict[str, str]) -> None:
    assert steps(section), "a task without a command of ours"
    walk(steps(section), fits)


def test_every_task_has_the_commands_of_all_four() -> None:
    numbers = [int(found) for found in re.findall(r"^## (\d+)\.", PAGE.read_text(), re.MULTILINE)]
    assert len(numbers) >= 20
    assert all(later == before + 1 for before, later in pairwise([0, *numbers]))
    for section in SECTIONS:
        assert re.findall(r"^- (\w+(?: AWS)?):", section, re.MULTILINE) == ["Slurm", "HyperQueue", "AWS"], section


@pytest.mark.parametrize(
    ("shown", "printed", "is_alike"),
    [
        ("", "", True),
        ("", "x\n", False),
        ("...\nb\n", "b\n", True),
        ("...\nb\n", "a\nb\n", True),
        ("...\nb\n...\n", "a\nb\n", True),
        ("...\nb\n", "a\nc\n", False),
        ("a ... c\n", "a   b c\n", True),
        ("...3 jobs...\n", "batchyard: 3 jobs match\n", True),
        ("...3 jobs...\n", "3 jobs\nmatch\n", False),
        ("a\n", "a\nb\n", False),
    ],
)
def test_what_is_alike(shown: str, printed: str, is_alike: bool) -> None:
    assert matches(shown, printed) is is_alike
