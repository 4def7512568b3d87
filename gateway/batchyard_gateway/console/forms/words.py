"""
Words: a command, typed as one line and split into words as a shell would.

Pure. Every list of words is a line, whatever letters are in them, so that nothing is lost on
the way there and back. Law: nothing but quotes and backslashes means anything here, as no
shell runs a command; what only a shell would understand is pointed out.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from .fields import Answers, Field, WrongError, text_of

_SHELLS = ("sh", "bash", "/bin/sh", "/bin/bash")
_SIGNS = frozenset({"|", "&&", "||", ";", "&"})
_FOR_A_SHELL = re.compile(r"[$~<>#*]|2>|.*(?:[;*]$|\$[({]|`)", re.DOTALL)
"""Beginnings, ends and parts of words that a shell would replace or take for itself."""

_WHOLE = re.compile(r"""'[^']*'|"(?:\\.|[^"\\])*"|\\.""", re.DOTALL)
"""What is quoted, or a letter behind a backslash (IEEE Std 1003.1, 2.2)."""

_SHOWN = 30
"""Letters of what is wrong that are told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Words(Field):
    """A command: its words, as one line."""

    kind: ClassVar[str] = "words"

    def read(self, answers: Answers) -> Any:
        """Return the words."""
        return split(text_of(answers, self.name)) or None

    def write(self, value: Any) -> dict[str, list[str]]:
        """Return the line."""
        return {self.name: [shlex.join(value)]}

    def shown(self, line: str) -> Split:
        """Return a line's words, and what is to be said of them."""
        try:
            words = split(line)
        except WrongError as err:
            return Split(words=(), fault=str(err), remark="")
        return Split(words=words, fault="", remark=_remark(line, words))


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """
    The words of a line.

    Attributes:
        fault: Why it cannot be split; empty if it can.
        remark: A sentence on what a shell would do, and nobody does here; empty if there is no such thing.
    """

    words: Sequence[str]
    fault: str
    remark: str


def split(line: str) -> list[str]:
    """
    Return the words of a command, given as for a shell, or as AWS writes them, as a JSON list.

    Raises:
        WrongError: a quote is not closed, or it ends in a backslash.
    """
    if line.lstrip().startswith("["):
        listed = _listed(line)
        if listed is not None:
            return listed
    rest = _WHOLE.sub(lambda found: "." * len(found[0]), line)
    for sign in re.finditer(r"""['"]|\\$""", rest):
        at, shown = sign.start(), line[sign.start() : sign.start() + _SHOWN]
        if sign[0] == "\\":
            raise WrongError("The command ends in a backslash, behind which nothing stands")
        raise WrongError(f"The quote {sign[0]} at character {at + 1} is not closed: {shown}")
    return shlex.split(_WHOLE.sub(_without_continuation, line))


def _listed(line: str) -> list[str] | None:
    """Return the words of a JSON list; None where it is another line, such as one of the command ``[``."""
    try:
        words = json.loads(line)
    except (ValueError, RecursionError) as err:
        if re.match(r'\s*\[\s*"', line):
            raise WrongError(f"It begins as a JSON list and is none: {err}") from err
        return None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise WrongError("A command is a JSON list of texts")
    return words


def _without_continuation(found: re.Match[str]) -> str:
    """Take a backslash and the end of a line out: the line goes on, but between single quotes."""
    text = found[0]
    return (
        text
        if text.startswith("'")
        else re.sub(r"\\(.)", lambda m: "" if m[1] == "\n" else m[0], text, flags=re.DOTALL)
    )


def _remark(line: str, words: Sequence[str]) -> str:
    if words[:1] and words[0] in _SHELLS:
        return ""
    found = [word for word in words if word in _SIGNS or _FOR_A_SHELL.match(word)]
    if found:
        return f"No shell runs this: {found[0]!r} is handed on as it stands."
    is_listed = line.lstrip().startswith('["')
    if not is_listed and "\n" in _WHOLE.sub("", line).strip():
        return "All lines are one command: no shell runs them one after the other."
    return ""
