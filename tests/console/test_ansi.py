"""What programs write for terminals, as text and looks."""

from __future__ import annotations

import time

import pytest

from batchyard_gateway.console.logs.ansi import PLAIN, Style, parse_line, style_from

ESC = "\x1b"


def looks(text: str, style: Style = PLAIN) -> list[tuple[str, str]]:
    """Return a line's texts with their classes."""
    return [(span.text, span.classes) for span in parse_line(text, style)[0]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", [("plain", "")]),
        ("", []),
        (f"{ESC}[31mred{ESC}[0m not", [("red", "f1"), (" not", "")]),
        (f"{ESC}[1;32mok{ESC}[mno", [("ok", "f2 b"), ("no", "")]),
        (f"{ESC}[91;44mx", [("x", "f1 g4")]),
        (f"{ESC}[30mx{ESC}[37my{ESC}[97mz{ESC}[90mgrey", [("xyz", ""), ("grey", "f8")]),
        (f"{ESC}[2;3;4mx{ESC}[22;23;24my", [("x", "d i u"), ("y", "")]),
        (f"{ESC}[7mx{ESC}[27my", [("x", "g0"), ("y", "")]),
        (f"{ESC}[31;7mx", [("x", "g1")]),
        (f"{ESC}[38;5;196mx", [("x", "f1")]),
        (f"{ESC}[38;5;2mx", [("x", "f2")]),
        (f"{ESC}[38;5;244mx", [("x", "f8")]),
        (f"{ESC}[48;2;0;0;255mx", [("x", "g4")]),
        (f"{ESC}[38:2:0:200:200mx", [("x", "f6")]),
        (f"{ESC}[31m{ESC}[39mx", [("x", "")]),
        ("\x9b31mred", [("red", "f1")]),
    ],
)
def test_colours_are_classes(text: str, expected: list[tuple[str, str]]) -> None:
    assert looks(text) == expected


@pytest.mark.parametrize(
    "sequence",
    [
        "[2J", "[H", "[10;20H", "[?1049h", "[6n", "[1A", "[K", "]0;title\x07", "]0;title\x1b\\", "c", "(B", "7",
        "]8;;http://evil.example\x1b\\", "P1;2|data\x1b\\", "^private\x1b\\", "_app\x1b\\", "[38;5m", "[38m",
        "[38;2;1m", "[999m", "[;;;m", "[" + "1;" * 400 + "m", "]52;c;aGk=\x07", "[>c",
    ],
)  # fmt: skip
def test_all_else_that_a_terminal_would_obey_is_dropped(sequence: str) -> None:
    assert looks(f"a{ESC}{sequence}b") == [("ab", "")]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"a{ESC}", "a\u241b"),
        (f"a{ESC}[31", "a31"),
        (f"{ESC}]0;never ended", "0;never ended"),
        ("a\x00b\x07\x08", "a\u2400b\u2407\u2408"),
        ("tab\tis kept", "tab\tis kept"),
        ("user\u202etxt.exe", "user\u27e8U+202E\u27e9txt.exe"),
        ("\u2066x\u2069", "\u27e8U+2066\u27e9x\u27e8U+2069\u27e9"),
        ("zero\u200bwidth", "zero\u27e8U+200B\u27e9width"),
        ("\x7f\x85", "\u2421\u27e8U+0085\u27e9"),
        ("\U0001f468\u200d\U0001f469", "\U0001f468\u200d\U0001f469"),
        ('"><script>x()</script>', '"><script>x()</script>'),
    ],
)
def test_what_would_be_nothing_or_move_text_is_seen(text: str, shown: str) -> None:
    assert "".join(span.text for span in parse_line(text, PLAIN)[0]) == shown


def test_a_carriage_return_begins_the_line_anew() -> None:
    assert looks("10%\r20%\r30%") == [("30%", "")]
    assert looks("30%\r") == [("30%", "")], "until something comes"
    assert looks(f"{ESC}[31m10%\r20%") == [("20%", "f1")], "in the colour that was set"


def test_a_style_goes_on_in_the_next_line_and_in_the_next_slice() -> None:
    _, style = parse_line(f"{ESC}[1;2;3;4;7;95;42mx", PLAIN)
    assert style_from(style.text) == style
    assert looks("y", style) == [("y", "f2 g5 b d i u")]
    assert parse_line(f"{ESC}[0m", style)[1] == PLAIN


@pytest.mark.parametrize("text", ["", "x", "1;x", "\u0661", "1" * 200, "-1", "<script>", "999"])
def test_a_style_of_strangers_is_plain(text: str) -> None:
    assert style_from(text) == PLAIN


def test_hostile_lines_take_no_time() -> None:
    began_s = time.process_time()
    for text in (f"{ESC}[" * 4000, f"{ESC}]" * 4000, f"{ESC}[" + ";" * 8000, f"{ESC}]" + "x" * 8000, "\r" * 8000):
        parse_line(text, PLAIN)
    assert time.process_time() - began_s < 2
