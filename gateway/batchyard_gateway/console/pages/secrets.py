"""Secrets: their names and ages, never their values."""

from __future__ import annotations

from batchyard.errors import RequestError
from batchyard_gateway.console.faults import Faults, faults_of
from batchyard_gateway.console.visit import ROOT, Answer, Page, Redirect, Visit, batchyard

_FIELDS = {"name": "name", "value": "value"}


async def show(visit: Visit) -> Answer:
    """List them, with a form for another."""
    return await _page(visit, {})


async def change(visit: Visit) -> Answer:
    """Put one, or delete one."""
    name = visit.form.get("name", "").strip()
    if "delete" in visit.form:
        visit.note_change("DeleteSecret", {"name": visit.form["delete"]})
        await visit.client.delete_secret(visit.form["delete"])
        return _done(visit, f"The secret {visit.form['delete']} is deleted; attempts that have started keep it.")
    if not visit.form.get("value"):
        return (await _page(visit, {"value": "A secret needs a value."}, name)).refused()
    try:
        await visit.put_secret(name, visit.form["value"])
    except RequestError as err:
        return (await _page(visit, faults_of(err, _FIELDS), name)).refused()
    return _done(visit, f"The secret {name} is kept; jobs that start from now on get it.")


def _done(visit: Visit, notice: str) -> Answer:
    visit.session.notices.append(notice)
    return Redirect(location=f"{ROOT}/secrets")


async def _page(visit: Visit, faults: Faults, name: str = "") -> Page:
    """Return the page; a value that was typed is not in it."""
    secrets = [secret async for secret in visit.client.list_secrets()]
    commands = (batchyard("secret", "list"), batchyard("secret", "put", name or "NAME"))
    view = {"secrets": secrets, "faults": faults, "name": name}
    return Page(template="secrets.html", title="Secrets", view=view, section="Secrets", commands=commands)
