"""
Sheet: a form as one visit has filled it in, and what becomes of it.

All forms of the console go this way: what was posted is kept as it was typed, buttons of rows
change it, what is wrong stands at its field, and what is sent twice is done once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from batchyard.errors import RequestError
from batchyard_gateway.errors import ApiError
from batchyard_gateway.services import Members

from .faults import Faults, faults_of
from .forms import tables
from .forms.fields import Rows, WrongError
from .visit import Answer, Redirect, Visit

ENDS_MAX = 100
"""Forms of a session whose end is remembered, the latest."""

_ACTIONS = ("add", "remove", "split", "wrap", "secret")


@dataclass(slots=True, kw_only=True)
class Sheet:
    """
    A form with what stands in it.

    Attributes:
        form: Which.
        answers: What was typed, or is to be shown.
        faults: What is wrong, by field.
        focus: The button of a row that was pressed, and the field's name.
        go: The button of the form that was pressed; empty if it was one of a row.
    """

    form: tables.Form
    answers: dict[str, list[str]]
    faults: Faults = field(default_factory=dict)
    focus: str = ""
    go: str = ""

    def tell(self, faults: Mapping[str, str]) -> None:
        """Add what is wrong; what was said of a field first stays."""
        self.faults = {**faults, **self.faults}

    def tell_refusal(self, refusal: ApiError | RequestError) -> None:
        """Add what a refusal says, at the fields it is about."""
        self.tell(faults_of(refusal, tables.called(self.form)))

    async def carry_out(
        self, visit: Visit, operation: str, members: Members, amend: Callable[[Any], None] | None = None
    ) -> Members | None:
        """Carry out an operation of AWS's, unless something is wrong; None if it is, or is refused: the faults say it."""
        if self.faults:
            return None
        try:
            return await visit.operate(operation, tables.without_native(members), amend)
        except (ApiError, RequestError) as err:
            self.tell_refusal(err)
            return None


def blank(form: tables.Form, presets: Mapping[str, str]) -> Sheet:
    """Return a form with what stands there at first."""
    names = {name for each in tables.fields_of(form) for name in each.inputs()}
    return Sheet(form=form, answers={name: [text] for name, text in presets.items() if name in names})


async def posted(visit: Visit, form: tables.Form) -> Sheet:
    """Return a form as it was posted; what a button of a row asks for is done."""
    sheet = Sheet(form=form, answers={}, go=visit.form.get("go", "send"))
    try:
        sheet.answers = tables.kept(form, visit.form.multi_items())
    except WrongError as err:
        sheet.go, sheet.faults = "", {"": str(err)}
        return sheet
    await press(visit, sheet)
    return sheet


async def press(visit: Visit, sheet: Sheet) -> None:
    """Do what the button of a row asks for, if one was pressed."""
    for action in _ACTIONS:
        if what := visit.form.get(action):
            sheet.go, sheet.focus = "", f"{action}:{what}"
            try:
                if action == "secret":
                    await _make_secret(visit, sheet, what)
                else:
                    sheet.answers = tables.edit(sheet.form, sheet.answers, action, what)
            except WrongError as err:
                sheet.faults = {what: str(err)}
            return


async def _make_secret(visit: Visit, sheet: Sheet, what: str) -> None:
    """
    Keep a secret that was typed beside the field that names secrets, and name it there.

    Raises:
        WrongError: it is not kept.
    """
    rows = next((each for each in tables.fields_of(sheet.form) if each.name == what), None)
    if not isinstance(rows, Rows) or not rows.makes_secrets:
        return
    name, value = visit.form.get("secret.name", "").strip(), visit.form.get("secret.value", "")
    if not name or not value:
        raise WrongError("A secret needs a name and a value")
    if name in rows.columns[-1].suggestions:
        raise WrongError(f"There is a secret {name} already: choose it, or change it on the page of secrets")
    try:
        await visit.put_secret(name, value)
    except RequestError as err:
        raise WrongError("; ".join(faults_of(err, {}).values())) from err
    column = rows.inputs()[-1]
    named = sheet.answers.setdefault(column, [])
    free = next((i for i, text in enumerate(named) if not text), len(named))
    sheet.answers[column] = [*named[:free], name, *named[free + 1 :]]


async def once(visit: Visit, carry_out: Callable[[], Awaitable[Answer]]) -> Answer:
    """
    Answer a form; one that comes again, as its button was pressed twice, is answered as the first time.

    Whoever goes back and types something else sends another form.
    """
    sent, ends = _digest(visit), visit.session.ends
    async with visit.session.lock:
        if sent in ends:
            if not visit.session.notices:
                visit.session.notices.append(
                    "This form was sent before, and was carried out then: nothing was done twice."
                )
            return Redirect(location=ends[sent])
        answer = await carry_out()
        if sent and isinstance(answer, Redirect):
            ends[sent] = answer.location
            while len(ends) > ENDS_MAX:
                del ends[next(iter(ends))]
        return answer


def _digest(visit: Visit) -> str:
    """Return a name for what was sent; none for a form without a token of its own."""
    given = json.dumps([visit.path, *visit.form.multi_items()])
    return hashlib.sha256(given.encode()).hexdigest() if visit.form.get("once") else ""
