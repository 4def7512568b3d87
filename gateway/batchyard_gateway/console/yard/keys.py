"""Access keys: who may call the gateway and open the console."""

from __future__ import annotations

from batchyard.errors import RequestError
from batchyard_gateway.console.forms.faults import Faults, faults_of
from batchyard_gateway.console.visit import ROOT, Answer, Page, Redirect, Visit, batchyard


async def show(visit: Visit) -> Answer:
    """List them, with a form for another."""
    return await _page(visit, {})


async def change(visit: Visit) -> Answer:
    """Make one, and show its secret this once; or revoke one."""
    if "revoke" in visit.form:
        return await _revoke(visit, visit.form["revoke"])
    description = visit.form.get("description", "").strip()
    try:
        visit.note_change("CreateAccessKey", {"name": description})
        made = await visit.client.create_access_key(description=description)
    except RequestError as err:
        return (await _page(visit, faults_of(err, {"description": "description"}), description)).refused()
    view = {"key_id": made.access_key.id, "secret": made.secret}
    return Page(template="key_made.html", title="The access key is made", view=view, section="Access keys")


async def _revoke(visit: Visit, key_id: str) -> Answer:
    """Revoke a key; one's own only when one has said so."""
    if key_id == visit.session.access_key_id and "sure" not in visit.form:
        view = {"key_id": key_id}
        return Page(template="key_own.html", title="Revoke your own access key?", view=view, section="Access keys")
    visit.note_change("RevokeAccessKey", {"id": key_id})
    await visit.client.revoke_access_key(key_id)
    visit.session.notices.append(f"The access key {key_id} is revoked: within a minute it opens nothing.")
    return Redirect(location=f"{ROOT}/keys")


async def _page(visit: Visit, faults: Faults, description: str = "") -> Page:
    keys = [key async for key in visit.client.list_access_keys()]
    commands = (batchyard("access-key", "list"), batchyard("access-key", "create", "--description", "WHOSE"))
    view = {"keys": keys, "faults": faults, "description": description}
    return Page(template="keys.html", title="Access keys", view=view, section="Access keys", commands=commands)
