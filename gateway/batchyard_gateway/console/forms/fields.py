"""
Fields: what a form asks, and how each says one member of an AWS operation.

Pure. What is typed is kept as it was typed, as lists of texts by the names of inputs. It must
never know which operation it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from batchyard_gateway.services import Members

Answers = Mapping[str, Sequence[str]]
"""What was typed, by the names of inputs; those of a row's columns come once a row."""

_SHELL_SIGNS = ("|", "&&", "||", ";", ">", "<", ">>", "&", "$", "*", "`")


class WrongError(ValueError):
    """What was typed cannot be read; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """
    A line of text.

    Attributes:
        name: Of its input, which is the path of its member: ``computeResources.minvCpus``.
        label: What it is called.
        hint: What may stand there, in a sentence.
        suggestions: Values that are offered.
        called: What refusals call it besides its member, see `faults`.
        makes_secrets: Secrets that it can name may be made beside it.
        is_required: Nothing comes of a form without it.
    """

    kind: ClassVar[str] = "line"
    name: str
    label: str
    hint: str = ""
    suggestions: tuple[str, ...] = ()
    called: tuple[str, ...] = ()
    makes_secrets: bool = False
    is_required: bool = False

    def inputs(self) -> Sequence[str]:
        """Return the names of its inputs."""
        return (self.name,)

    def read(self, answers: Answers) -> Any:
        """
        Return its value; None where nothing is said.

        Raises:
            WrongError: it cannot be read.
        """
        return text_of(answers, self.name) or None

    def write(self, value: Any) -> dict[str, list[str]]:
        """Return what would have to be typed."""
        return {self.name: [str(value)]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Text(Field):
    """A text of several lines."""

    kind: ClassVar[str] = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Number(Field):
    """A whole number, where a form has narrower bounds than the operation with these."""

    kind: ClassVar[str] = "number"
    least: int | None = None
    most: int | None = None

    def read(self, answers: Answers) -> Any:
        """Return the number."""
        text = text_of(answers, self.name).strip()
        if not text:
            return None
        value = _whole(self.label, text)
        if (self.least is not None and value < self.least) or (self.most is not None and value > self.most):
            raise WrongError(f"{self.label} must be between {self.least} and {self.most}, not {value}")
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice(Field):
    """
    One of some words.

    Attributes:
        options: Words and what is shown for them; an empty word says nothing.
        is_listed: The member is a list of one.
    """

    kind: ClassVar[str] = "choice"
    options: tuple[tuple[str, str], ...]
    is_listed: bool = False

    def read(self, answers: Answers) -> Any:
        """Return the word."""
        word = text_of(answers, self.name)
        if word and word not in dict(self.options):
            raise WrongError(f"{self.label}: {word[:50]!r} is not offered")
        return ([word] if self.is_listed else word) if word else None

    def write(self, value: Any) -> dict[str, list[str]]:
        """Return the word."""
        return {self.name: [value[0] if self.is_listed and value else str(value)]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag(Choice):
    """Yes, no, or nothing said."""

    options: tuple[tuple[str, str], ...] = (("", "Not said"), ("yes", "Yes"), ("no", "No"))

    def read(self, answers: Answers) -> Any:
        """Return true, false or None."""
        return {"yes": True, "no": False}.get(Choice.read(self, answers) or "")

    def write(self, value: Any) -> dict[str, list[str]]:
        """Return the word."""
        return {self.name: ["yes" if value else "no"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines(Field):
    """A list of short texts, one a line."""

    kind: ClassVar[str] = "lines"

    def read(self, answers: Answers) -> Any:
        """Return the texts."""
        return [line.strip() for line in text_of(answers, self.name).split("\n") if line.strip()] or None

    def write(self, value: Any) -> dict[str, list[str]]:
        """Return the lines."""
        return {self.name: ["\n".join(value)]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Words(Field):
    """
    A command: one word a row, each of which may have any letters.

    Rows at the end that are empty are no words. What is pasted as a whole is split first
    (`edit`), so that one sees the words before they are taken.
    """

    kind: ClassVar[str] = "words"

    def inputs(self) -> Sequence[str]:
        """Return the names of rows and of what is pasted."""
        return (self.name, self.paste)

    @property
    def paste(self) -> str:
        """Return the name of the input for a whole command."""
        return f"{self.name}.paste"

    def read(self, answers: Answers) -> Any:
        """Return the words."""
        if text_of(answers, self.paste).strip():
            raise WrongError("A command was pasted and is not split yet: split it, and look at its words")
        words = [plain(word) for word in answers.get(self.name, ())]
        while words and not words[-1]:
            words.pop()
        return words or None

    def write(self, value: Any) -> dict[str, list[str]]:
        """Return the rows."""
        return {self.name: list(value)}

    def rows(self, answers: Answers) -> Sequence[str]:
        """Return what the rows show; one at least."""
        return list(answers.get(self.name, ())) or [""]

    def remark(self, answers: Answers) -> str:
        """Return a sentence on words that look as if they were for a shell; empty where none does."""
        words = [plain(word) for word in answers.get(self.name, ())]
        if words[:1] in (["sh"], ["bash"], ["/bin/sh"], ["/bin/bash"]):
            return ""
        found = [word for word in words if word in _SHELL_SIGNS or word.startswith(("$", "~"))]
        return f"No shell runs this: {found[0]!r} is handed on as it stands." if found else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of rows: a choice if it has options, said even if it is empty where *is_always*."""

    name: str
    label: str
    options: tuple[tuple[str, str], ...] = ()
    suggestions: tuple[str, ...] = ()
    is_always: bool = False
    number: type[int | float] | None = None

    def read(self, label: str, cell: str) -> Any:
        """
        Return what a cell says; *label* is the field's.

        Raises:
            WrongError: it cannot be read.
        """
        if self.options and cell not in dict(self.options):
            raise WrongError(f"{label}: {cell[:50]!r} is not offered")
        if self.number is None or not cell.strip():
            return cell
        if self.number is int:
            return _whole(f"{label}, {self.label}", cell.strip())
        try:
            return self.number(cell)
        except ValueError:
            raise WrongError(f"{label}, {self.label}: {cell[:50]!r} is not a number") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows(Field):
    """
    A list of structures, or a map where the columns are ``key`` and ``value``.

    Empty cells say nothing, and a row of such is none.

    Attributes:
        same: Members that every structure has.
    """

    kind: ClassVar[str] = "rows"
    columns: tuple[Column, ...]
    is_map: bool = False
    same: tuple[tuple[str, str], ...] = ()

    def inputs(self) -> Sequence[str]:
        """Return the names of the columns' inputs."""
        return [f"{self.name}.{column.name}" for column in self.columns]

    def read(self, answers: Answers) -> Any:
        """Return the structures, or the map."""
        found = [row for row in self._table(answers) if any(row)]
        if self.is_map:
            keys = [row[0] for row in found]
            if twice := {key for key in keys if keys.count(key) > 1}:
                raise WrongError(f"{self.label}: {min(twice)[:50]!r} stands twice")
            return {row[0]: row[1] for row in found} or None
        return [self._structure(row) for row in found] or None

    def _structure(self, row: Sequence[str]) -> Members:
        cells = list(zip(self.columns, row, strict=True))
        said = {column.name: column.read(self.label, cell) for column, cell in cells}
        return {
            **{column.name: said[column.name] for column, cell in cells if cell or column.is_always},
            **dict(self.same),
        }

    def write(self, value: Any) -> dict[str, list[str]]:
        """Return the cells, column by column."""
        rows = [{"key": key, "value": text} for key, text in value.items()] if self.is_map else value
        return {
            f"{self.name}.{column.name}": [
                str(row.get(column.name, "")).removesuffix(".0") if column.number else str(row.get(column.name, ""))
                for row in rows
            ]
            for column in self.columns
        }

    def rows(self, answers: Answers) -> Sequence[Sequence[str]]:
        """Return what the rows show; one at least."""
        return self._table(answers) or [[""] * len(self.columns)]

    def _table(self, answers: Answers) -> list[list[str]]:
        cells = [[plain(cell) for cell in answers.get(name, ())] for name in self.inputs()]
        height = max(map(len, cells))
        return [[column[i] if i < len(column) else "" for column in cells] for i in range(height)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts(Field):
    """
    vCPUs, memory and GPUs, which AWS writes as ``resourceRequirements``.

    Attributes:
        sizes: Pairs of vCPUs and MiB of which one is to be chosen; empty for any.
        hints: For each kind.
    """

    kind: ClassVar[str] = "amounts"
    sizes: tuple[tuple[str, str], ...] = ()

    KINDS: ClassVar[Mapping[str, str]] = {"VCPU": "vCPUs", "MEMORY": "Memory in MiB", "GPU": "GPUs"}

    def inputs(self) -> Sequence[str]:
        """Return the names of its inputs."""
        return [f"{self.name}.{kind}" for kind in (*self.KINDS, "size")]

    def read(self, answers: Answers) -> Any:
        """Return the requirements."""
        texts = {kind: text_of(answers, f"{self.name}.{kind}").strip() for kind in self.KINDS}
        if self.sizes:
            vcpus, _, memory = text_of(answers, f"{self.name}.size").partition(":")
            texts = {"VCPU": vcpus, "MEMORY": memory}
        return [{"type": kind, "value": text} for kind, text in texts.items() if text] or None

    def write(self, value: Any) -> dict[str, list[str]]:
        """Return the amounts; as a size too."""
        texts = {each["type"]: each["value"] for each in value}
        written = {f"{self.name}.{kind}": [texts.get(kind, "")] for kind in self.KINDS}
        return {**written, f"{self.name}.size": [f"{texts.get('VCPU', '')}:{texts.get('MEMORY', '')}"]}


def _whole(label: str, text: str) -> int:
    if not (text.isascii() and text.removeprefix("-").isdigit() and len(text) <= 18):
        raise WrongError(f"{label}: {text[:50]!r} is not a whole number")
    return int(text)


def plain(text: str) -> str:
    """Return a text as it was typed: browsers send a line's end as two letters."""
    return text.replace("\r\n", "\n")


def text_of(answers: Answers, name: str) -> str:
    """Return what stands in an input that comes once; empty where it did not come."""
    texts = answers.get(name, ())
    return plain(texts[0]) if texts else ""
