"""About: what runs here, and where."""

from __future__ import annotations

from batchyard_gateway.console.visit import Answer, Page, Visit, batchyard


async def show(visit: Visit) -> Answer:
    """Show versions and addresses."""
    facts = (
        ("Controller", visit.client.address),
        ("Gateway", visit.address),
        ("Region", visit.context.region),
        ("Account", visit.context.account_id),
        ("Signed in as", visit.session.access_key_id),
    )
    commands = (batchyard("--version"),)
    return Page(template="about.html", title="About", view={"facts": facts}, section="About", commands=commands)
