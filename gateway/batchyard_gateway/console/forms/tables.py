"""
Tables: fields of a form to the input of an AWS operation, and back.

Pure. A form is a table of fields. What AWS has no members for stands below ``native``, by the
contract's names. Law: a field that cannot say a value exactly leaves it to the field for all
the rest, which is JSON, so that nothing given is lost.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from batchyard_gateway.services import Members

from .fields import Amounts, Answers, Choice, Field, Rows, Text, Words, WrongError, plain, text_of

REST = "rest"
"""The field for members that have none of their own."""

NATIVE = "native"
"""The member for what AWS has no members for."""

ANSWERS_LENGTH_MAX = 64 << 10
"""Ours: characters that a form may have; a definition may have 24 KiB."""

_LETTER = re.compile(r"(?<=[a-z])([A-Z])")


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
        said = [field for field in self.fields if not (isinstance(field, Choice) and _is_first(field, answers))]
        return any(text for field in said for name in field.inputs() for text in answers.get(name, ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What a form says: an operation's input, and what is wrong with fields by their names."""

    members: Members
    faults: Mapping[str, str]


def _is_first(field: Choice, answers: Answers) -> bool:
    """Say whether a choice has what a browser sends of it untouched."""
    return text_of(answers, field.name) == field.options[0][0]


Form = Sequence[Section]


def rest(operation: str) -> Field:
    """Return the field for all members of an operation that have no other."""
    return Text(
        name=REST, label="All other members", hint=f"As JSON, as {operation} of AWS Batch spells them: {{...}}."
    )


def without_native(members: Members) -> Members:
    """Return what of an input AWS has members for."""
    return {name: value for name, value in members.items() if name != NATIVE}


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
            answers.setdefault(name, []).append(plain(text))
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
            pasted = text_of(answers, field.paste)
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
