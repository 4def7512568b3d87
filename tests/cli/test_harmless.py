"""What jobs write reaches a file as it is, and a terminal without what that would obey."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchyard.cli import harmless, logs
from batchyard.cli.harmless import TerminalFilter
from batchyard.cli.output import write_json

CLIPBOARD = "\x1b]52;c;b3duZWQ=\x07"
TITLE = "\x1b]0;owned\x1b\\"
TITLE_C1 = "\x9d0;owned\x9c"
CLEAR = "\x1b[2J\x1b[H"
BIDI = "\u202e\u2066\u200f\u061c"
LAWFUL = "größe ✓\ta\r\n\x1b[1;31mred\x1b[0m"


def filtered(*pieces: bytes) -> str:
    through = TerminalFilter()
    return (b"".join(map(through.feed, pieces)) + through.end()).decode()


def written(pieces: Iterable[bytes], monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Return what ``logs`` writes to a terminal."""
    ours, theirs = os.openpty()
    with open(theirs, "w") as terminal, monkeypatch.context() as patch:  # noqa: PTH123  # a descriptor
        patch.setattr(sys, "stdout", terminal)
        logs._write(pieces)
        data = os.read(ours, 65536)
    os.close(ours)
    return data


def test_a_terminal_gets_no_clipboard_title_or_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = written([f"a{CLIPBOARD}b{TITLE}c{TITLE_C1}d{CLEAR}e{BIDI}f\n".encode()], monkeypatch).decode()
    assert "\x1b" not in seen
    assert not set(seen) & set("\x07\x9d\x9c" + BIDI)
    assert seen.startswith("a\ufffd]52;c;b3duZWQ=\ufffdb")
    assert seen.endswith("f\r\n")


def test_a_file_gets_every_byte(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    raw = CLIPBOARD.encode() + b"\xff\x00"
    with open(1, "w", closefd=False) as stdout, monkeypatch.context() as patch:  # a descriptor
        patch.setattr(sys, "stdout", stdout)
        logs._write([raw])
    assert capfdbinary.readouterr().out == raw


def test_letters_lines_and_colours_get_through_and_colours_end() -> None:
    assert filtered(LAWFUL.encode()) == LAWFUL + "\x1b[0m"
    assert filtered(b"plain\n") == "plain\n"


@given(st.lists(st.sampled_from([*LAWFUL, CLIPBOARD, TITLE, TITLE_C1, CLEAR, *BIDI, "\x1b", "\x1b[", "1m"])), st.data())
def test_it_does_not_matter_where_pieces_are_cut(parts: list[str], data: st.DataObject) -> None:
    whole = "".join(parts).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert filtered(*pieces) == filtered(whole)


@given(st.binary())
def test_whatever_comes_only_colours_escape(raw: bytes) -> None:
    text = harmless._HARMFUL.sub(lambda found: "" if found[1] else found[0], filtered(raw))
    assert harmless._HARMFUL.search(text) is None


def test_json_escapes_what_a_terminal_would_obey_and_loses_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"größe": f"{CLIPBOARD}{TITLE_C1}{BIDI}\x7f\u2028 ✓"}
    write_json(value)
    text = capsys.readouterr().out
    assert json.loads(text) == value
    assert "größe" in text
    assert "✓" in text
    assert all(char.isprintable() or char == "\n" for char in text)


def test_notes_and_names_are_one_line() -> None:
    assert harmless.line(f"a\nb{TITLE}") == "a b\ufffd]0;owned\ufffd\\"
