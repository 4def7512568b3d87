"""Words: what a command, typed as a line, is split into, shown below it while it is typed."""

from __future__ import annotations

from batchyard_gateway.console.visit import Answer, Page, Visit

from .words import Words


async def show(visit: Visit) -> Answer:
    """Show the words of the field that the query names."""
    name = visit.query.get("field", "")
    return Page(
        template="words.html",
        title="Words of a command",
        view={"found": Words(name=name, label="").shown(visit.query.get(name, ""))},
    )
