"""
Job scripts: a file that says in comments how it is to be run, as for Slurm's ``sbatch``.

Pure: text in, words of a command line out. ``#BATCHYARD`` lines hold options of ``submit``;
of ``#SBATCH`` lines `sbatch_lines` reads those that mean something here. As with Slurm, lines
count up to the first that is no comment. Law: the script itself goes with the job, as one
word of its command, and no host needs the file.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from batchyard.cli import sbatch_lines

MARK = "#BATCHYARD"

_BY_NAME = (
    (re.compile(r"(ba|da|a|k|z|fi)?sh"), "-c", True),
    (re.compile(r"(python|pypy)[0-9.]*"), "-c", False),
    (re.compile(r"perl|ruby"), "-e", False),
)
"""Interpreters, the flag by which they take a script as a word, and whether its name follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobScript:
    """
    What a script says.

    Attributes:
        options: Words of ``submit``.
        command: What runs it; arguments go behind.
        ignored: Lines that mean nothing here, each with why.
    """

    options: tuple[str, ...]
    command: tuple[str, ...]
    ignored: tuple[str, ...] = ()


def read(text: str, name: str) -> JobScript:
    """
    Read a script, whose first line begins with ``#!``.

    Raises:
        ValueError: naming the line; its options are no words, or its interpreter takes no script as a word.
    """
    command = _command(text, name)
    own: list[str] = []
    slurms: list[tuple[int, str]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.startswith("#"):
            break
        mark, _, rest = line.partition(" ")
        try:
            if mark == MARK:
                own += shlex.split(rest, comments=True)
            elif mark == sbatch_lines.MARK:
                slurms += [(number, word) for word in shlex.split(rest, comments=True)]
        except ValueError as err:
            raise ValueError(f"{name}, line {number}: {err}") from err
    translated, ignored = sbatch_lines.translate(slurms)
    return JobScript(options=(*translated, *own), command=command, ignored=tuple(f"{name}, {each}" for each in ignored))


def _command(text: str, name: str) -> tuple[str, ...]:
    words = text.split("\n", 1)[0].removeprefix("#!").split()
    program = _program(words)
    for pattern, flag, is_named in _BY_NAME:
        if pattern.fullmatch(program):
            return (*words, flag, text, *([name] if is_named else []))
    raise ValueError(
        f"{name}, line 1: {program or 'nothing'} is no shell, Python, Perl or Ruby, so it does not take the script with "
        f"the job; to run the file where the host has it: batchyard submit -- ./{name}"
    )


def _program(words: Sequence[str]) -> str:
    names = [word.rpartition("/")[2] for word in words]
    if names[:1] == ["env"]:
        names = [name for name in names[1:] if name != "-S"]
    return names[0] if names else ""
