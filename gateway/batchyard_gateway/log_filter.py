"""
Filter patterns of CloudWatch Logs, as far as they are words and quoted phrases.

All words must be in a message, none of those with ``-`` before them; letter case
counts. JSON, space-delimited and regular-expression patterns are refused by name:
a pattern that is not understood must not quietly find nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PATTERN_LENGTH_MAX = 1024

_TERM = re.compile(r'\s*(-?)(?:"((?:[^"\\]|\\.)*)"|(\w+))(?=\s|$)')
_KINDS = {"{": "JSON patterns", "[": "space-delimited patterns", "%": "regular expressions", "?": "optional terms"}


class PatternError(ValueError):
    """The pattern is too long or of a kind that is not supported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """What a message must and must not hold; an empty pattern matches all."""

    words: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    def matches(self, message: str) -> bool:
        """Say whether *message* passes."""
        return all(word in message for word in self.words) and not any(word in message for word in self.without)


def pattern_from(text: str) -> Pattern:
    """
    Read a filter pattern.

    Raises:
        PatternError: it is too long, or more than words and quoted phrases.
    """
    if len(text) > PATTERN_LENGTH_MAX:
        raise PatternError(f"the filter pattern has {len(text)} characters; at most {PATTERN_LENGTH_MAX} are allowed")
    position, end = 0, len(text.rstrip())
    terms: dict[str, list[str]] = {"": [], "-": []}
    while position < end:
        match = _TERM.match(text, position)
        if match is None:
            raise PatternError(_refusal(text[position:].strip()))
        sign, phrase, word = match.groups()
        terms[sign].append(word if phrase is None else re.sub(r"\\(.)", r"\1", phrase))
        position = match.end()
    return Pattern(words=tuple(terms[""]), without=tuple(terms["-"]))


def _refusal(rest: str) -> str:
    kind = _KINDS.get(rest[0])
    if kind is not None:
        return f"{kind} are not supported here: give words, or phrases in double quotes"
    return f"the filter pattern cannot be read at {rest[:40]!r}: words with other characters need double quotes"
