"""
Forms: fields of a page to the input of an AWS operation, and back.

Pure. A form is a table of fields, each of which knows one member of the operation. What is
typed is kept as it was typed, as lists of texts by the names of inputs, so that it can be
shown again. Law: a field that cannot say a value exactly leaves it to the field for all the
rest, which is JSON, so that nothing given is lost.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from batchyard_gateway.services import Members

Answers = Mapping[str, Sequence[str]]
"""What was typed, by the names of inputs; those of a row's columns come once a row."""

REST = "rest"
"""The field for members that have none of their own."""

ANSWERS_LENGTH_MAX = 64 << 10
"""Ours: characters that a form may have; a definition may have 24 KiB."""

_LETTER = re.compile(r"(?<=[a-z])([A-Z])")
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
        is_required: Nothing comes of a form without it.
    """

    kind: ClassVar[str] = "line"
    name: str
    label: str
    hint: str = ""
    suggestions: tuple[str, ...] = ()
    called: tuple[str, ...] = ()
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
        return _text(answers, self.name) or None

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
        text = _text(answers, self.name).strip()
        if not text:
            return None
        if not (text.isascii() and text.removeprefix("-").isdigit() and len(text) <= 18):
            raise WrongError(f"{self.label}: {text[:50]!r} is not a whole number")
        value = int(text)
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
        word = _text(answers, self.name)
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
        return {"yes": True, "no": False}.get(_text(answers, self.name))

    def write(self, value: Any) -> dict[str, list[str]]:
        """Return the word."""
        return {self.name: ["yes" if value else "no"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines(Field):
    """A list of short texts, one a line."""

    kind: ClassVar[str] = "lines"

    def read(self, answers: Answers) -> Any:
        """Return the texts."""
        return [line.strip() for line in _text(answers, self.name).split("\n") if line.strip()] or None

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
        if _text(answers, self.paste).strip():
            raise WrongError("A command was pasted and is not split yet: split it, and look at its words")
        words = [_plain(word) for word in answers.get(self.name, ())]
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
        words = [_plain(word) for word in answers.get(self.name, ())]
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows(Field):
    """
    A list of structures, or a map where the columns are ``key`` and ``value``.

    Empty cells say nothing, and a row of such is none.
    """

    kind: ClassVar[str] = "rows"
    columns: tuple[Column, ...]
    is_map: bool = False

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
        for column, cell in zip(self.columns, row, strict=True):
            if column.options and cell not in dict(column.options):
                raise WrongError(f"{self.label}: {cell[:50]!r} is not offered")
        cells = zip(self.columns, row, strict=True)
        return {column.name: cell for column, cell in cells if cell or column.is_always}

    def write(self, value: Any) -> dict[str, list[str]]:
        """Return the cells, column by column."""
        rows = [{"key": key, "value": text} for key, text in value.items()] if self.is_map else value
        return {
            f"{self.name}.{column.name}": [str(row.get(column.name, "")) for row in rows] for column in self.columns
        }

    def rows(self, answers: Answers) -> Sequence[Sequence[str]]:
        """Return what the rows show; one at least."""
        return self._table(answers) or [[""] * len(self.columns)]

    def _table(self, answers: Answers) -> list[list[str]]:
        cells = [[_plain(cell) for cell in answers.get(name, ())] for name in self.inputs()]
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
        texts = {kind: _text(answers, f"{self.name}.{kind}").strip() for kind in self.KINDS}
        if self.sizes:
            vcpus, _, memory = _text(answers, f"{self.name}.size").partition(":")
            texts = {"VCPU": vcpus, "MEMORY": memory}
        return [{"type": kind, "value": text} for kind, text in texts.items() if text] or None

    def write(self, value: Any) -> dict[str, list[str]]:
        """Return the amounts; as a size too."""
        texts = {each["type"]: each["value"] for each in value}
        written = {f"{self.name}.{kind}": [texts.get(kind, "")] for kind in self.KINDS}
        return {**written, f"{self.name}.size": [f"{texts.get('VCPU', '')}:{texts.get('MEMORY', '')}"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Fields that stand together; *is_fold* hides them until they are wanted."""

    title: str
    fields: tuple[Field, ...]
    hint: str = ""
    is_fold: bool = False

    def is_open(self, answers: Answers, faults: Mapping[str, str]) -> bool:
        """Say whether something stands in a fold, so that it is shown open."""
        if any(field.name in faults for field in self.fields):
            return True
        return any(text for field in self.fields for name in field.inputs() for text in answers.get(name, ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What a form says: an operation's input, and what is wrong with fields by their names."""

    members: Members
    faults: Mapping[str, str]


Form = Sequence[Section]


def fields_of(form: Form) -> list[Field]:
    """Return all fields of a form."""
    return [field for section in form for field in section.fields]


def called(form: Form) -> dict[str, str]:
    """Return the fields by all that refusals call them: members of AWS, fields of the contract, and words."""
    found: dict[str, str] = {}
    for field in fields_of(form):
        last = field.name.rpartition(".")[2]
        for word in (*field.called, field.name, _LETTER.sub(r"_\1", field.name).lower(), last):
            found.setdefault(word, field.name)
    return found


def kept(form: Form, given: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """
    Return the answers among what was posted: those of inputs that the form has.

    Raises:
        WrongError: they are too long to be kept.
    """
    names = {name for field in fields_of(form) for name in field.inputs()}
    answers: dict[str, list[str]] = {}
    length = 0
    for name, text in given:
        if name in names:
            answers.setdefault(name, []).append(_plain(text))
            length += len(name) + len(text)
    if length > ANSWERS_LENGTH_MAX:
        raise WrongError(f"A form may have {ANSWERS_LENGTH_MAX} characters, not {length}")
    return answers


def read(form: Form, answers: Answers) -> Draft:
    """Return what a form says."""
    members: Members = {}
    faults: dict[str, str] = {}
    for field in fields_of(form):
        try:
            value = field.read(answers)
            if field.name == REST:
                value = _rest(value)
                _merge(members, value)
            elif value is not None:
                _put(members, field.name, value)
            elif field.is_required:
                faults[field.name] = f"{field.label} is needed"
        except WrongError as err:
            faults[field.name] = str(err)
    return Draft(members=members, faults=faults)


def fill(form: Form, members: Members) -> dict[str, list[str]]:
    """Return the answers by which a form says an input; what no field can say is in the rest."""
    rest: Members = json.loads(json.dumps(members))
    answers: dict[str, list[str]] = {}
    for field in fields_of(form):
        value = _get(rest, field.name)
        if value is None or field.name == REST:
            continue
        written = _written(field, value)
        if written is not None:
            answers |= written
            _drop(rest, field.name)
    if rest:
        answers[REST] = [json.dumps(rest, indent=2, ensure_ascii=False)]
    return answers


def _written(field: Field, value: Any) -> dict[str, list[str]] | None:
    """Return how a field says a value; None where it cannot say it exactly."""
    try:
        written = field.write(value)
        said = field.read(written)
    except (WrongError, AttributeError, TypeError, KeyError):  # a value of a form that the field does not have
        return None
    if isinstance(field, Amounts) and isinstance(value, list) and said is not None:
        return written if sorted(said, key=str) == sorted(value, key=str) else None
    return written if said == value else None


def edit(form: Form, answers: Answers, action: str, what: str) -> dict[str, list[str]]:
    """
    Return the answers after a button of a field was pressed.

    Args:
        form: Which.
        answers: As they stand.
        action: ``add`` or ``remove`` a row, ``split`` what was pasted, ``wrap`` it or the words in a shell.
        what: The field's name; for ``remove`` with a dot and the row's number.

    Raises:
        WrongError: what was pasted cannot be split.
    """
    changed = {name: list(texts) for name, texts in answers.items()}
    name, _, number = what.rpartition(".") if action == "remove" else (what, "", "")
    found = [field for field in fields_of(form) if field.name == name]
    if not found:
        return changed
    match action, found[0]:
        case "add", Rows() | Words() as field:
            _change_rows(field, changed, None)
        case "remove", Rows() | Words() as field:
            if number.isdecimal() and len(number) < 6:
                _change_rows(field, changed, int(number))
        case (("split" | "wrap"), Words() as field):
            pasted = _text(answers, field.paste)
            words = [word for word in changed.get(field.name, ()) if word]
            if action == "split":
                changed[field.name] = split(pasted)
            else:
                changed[field.name] = ["sh", "-c", pasted.strip() or " ".join(words)]
            changed.pop(field.paste, None)
    return changed


def _change_rows(field: Rows | Words, answers: dict[str, list[str]], removed: int | None) -> None:
    """Add an empty row, or take one out."""
    names = field.inputs() if isinstance(field, Rows) else (field.name,)
    height = max([1, *(len(answers.get(name, ())) for name in names)])
    for name in names:
        cells = answers.setdefault(name, [])
        cells += [""] * (height - len(cells))
        if removed is None:
            cells.append("")
        elif removed < len(cells):
            del cells[removed]


def split(text: str) -> list[str]:
    """
    Return the words of a command, given as a JSON list or as for a shell.

    Raises:
        WrongError: it is neither.
    """
    if text.lstrip().startswith("["):
        try:
            words = json.loads(text)
        except ValueError as err:
            raise WrongError(f"It begins as a JSON list and is none: {err}") from err
        if not all(isinstance(word, str) for word in words):
            raise WrongError("A command is a JSON list of texts")
        return list(words)
    try:
        return shlex.split(text)
    except ValueError as err:
        raise WrongError(f"It cannot be split as a shell would: {err}") from err


def _rest(text: str | None) -> Members:
    try:
        value = json.loads(text) if text else {}
    except (ValueError, RecursionError) as err:
        raise WrongError(f"It is not JSON: {err}") from err
    if not isinstance(value, dict):
        raise WrongError("It has to be a JSON object: {...}")
    return value


def _merge(members: Members, more: Members, at: str = "") -> None:
    """Add members to others; nothing may be said twice."""
    for name, value in more.items():
        path = f"{at}{name}"
        if isinstance(value, dict) and isinstance(members.get(name), dict) and value:
            _merge(members[name], value, f"{path}.")
        elif name in members:
            raise WrongError(f"{path} stands in a field of its own already")
        else:
            members[name] = value


def _put(members: Members, path: str, value: Any) -> None:
    *outer, last = path.split(".")
    for name in outer:
        members = members.setdefault(name, {})
    members[last] = value


def _get(members: Members, path: str) -> Any:
    value: Any = members
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _drop(members: Members, path: str) -> None:
    """Take a member out, and the structures that are empty then."""
    name, _, inner = path.partition(".")
    if inner:
        _drop(members[name], inner)
        if members[name]:
            return
    del members[name]


def _plain(text: str) -> str:
    """Return a text as it was typed: browsers send a line's end as two letters."""
    return text.replace("\r\n", "\n")


def _text(answers: Answers, name: str) -> str:
    texts = answers.get(name, ())
    return _plain(texts[0]) if texts else ""
