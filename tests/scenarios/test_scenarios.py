"""
Transcripts: what jobs do, told event by event, for people to read.

A file holds blocks: commands, a line ``----``, and what followed. Lines with ``#``
explain. After a change of behaviour, ``REWRITE=1 make test ARGS=tests/scenarios``
writes what follows now; keep only what you can explain, line by line.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.scenarios.stage import Stage

FILES = sorted(Path(__file__).parent.glob("*.txt"))
RULE = "----"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_follows_is_what_is_written(path: Path) -> None:
    """Each command has the consequences that the transcript gives it, and no others."""
    written = path.read_text()
    played = play(written)
    if os.environ.get("REWRITE"):
        path.write_text(played)
    assert played == written


def test_there_are_transcripts() -> None:
    """An empty folder proves nothing."""
    assert len(FILES) >= 10


def play(text: str) -> str:
    """Return a transcript with what really follows in the place of what is written."""
    stage = Stage()
    return "\n\n".join(_play_block(stage, block) for block in text.rstrip("\n").split("\n\n")) + "\n"


def _play_block(stage: Stage, block: str) -> str:
    asked = block.split(f"\n{RULE}\n", maxsplit=1)[0].split("\n")
    followed = [told for line in asked if not line.startswith("#") for told in stage.play(line)]
    return "\n".join([*asked, RULE, *followed] if followed else asked)
