"""Filter patterns: words and phrases find what they say, all else is refused."""

from __future__ import annotations

import pytest

from batchyard_gateway.log_filter import PatternError, pattern_from


@pytest.mark.parametrize(
    ("pattern", "found", "missed"),
    [
        ("", "anything", None),
        ("  ", "anything", None),
        ("ERROR", "an ERROR here", "an error here"),
        ("ERROR disk_full", "disk_full: ERROR", "ERROR"),
        ('"no space left"', "write: no space left on device", "no space was left"),
        ('ERROR -"will retry"', "ERROR: gave up", "ERROR: will retry"),
        ("-DEBUG", "INFO", "DEBUG"),
        (r'"say \"yes\""', 'they say "yes"', "they say yes"),
        ("größe", "die größe", "die grosse"),
    ],
)
def test_all_words_must_be_there_and_no_excluded_one(pattern: str, found: str, missed: str | None) -> None:
    assert pattern_from(pattern).matches(found)
    assert missed is None or not pattern_from(pattern).matches(missed)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ('{ $.level = "ERROR" }', "JSON patterns are not supported here"),
        ("[ip, user]", "space-delimited patterns are not supported here"),
        ("%ERR.*%", "regular expressions are not supported here"),
        ("?ERROR ?WARN", "optional terms are not supported here"),
        ("ERROR a:b", "cannot be read at 'a:b'"),
        ('"open', "cannot be read at '\"open'"),
        ('"a"b', "cannot be read at"),
        ("x" * 1025, "has 1025 characters; at most 1024"),
    ],
)
def test_other_patterns_are_refused_by_name(pattern: str, text: str) -> None:
    with pytest.raises(PatternError, match=text.replace("(", r"\(")):
        pattern_from(pattern)
