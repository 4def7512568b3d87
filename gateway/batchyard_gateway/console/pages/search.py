"""Search: jobs by id or name, queues, environments, definitions and hosts by the beginning of their names."""

from __future__ import annotations

from collections.abc import Sequence

from batchyard import wording
from batchyard.v1.search_pb2 import SearchResponse
from batchyard_gateway.console.host_view import path_of
from batchyard_gateway.console.visit import ROOT, Answer, Page, Redirect, Visit, batchyard

LIMIT = 25
"""Of each kind."""


async def show(visit: Visit) -> Answer:
    """Show what was found; go straight to it where it is the only one."""
    text = visit.query.get("q", "").strip()
    found = await visit.client.search(text, limit=LIMIT) if text else SearchResponse()
    places = places_of(found)
    links = [link for _, entries in places for _, link in entries]
    if len(links) + len(found.jobs) == 1 and not found.is_partial:
        return Redirect(location=links[0] if links else f"{ROOT}/jobs/{found.jobs[0].id}")
    view = {"text": text, "found": found, "places": places, "word": wording.job_state, "limit": LIMIT}
    commands = (batchyard("describe", text),) if text else ()
    return Page(template="search.html", title=f"Search: {text}" if text else "Search", view=view, commands=commands)


def places_of(found: SearchResponse) -> Sequence[tuple[str, Sequence[tuple[str, str]]]]:
    """Return what is no job: a heading each, with names and where they lead."""
    kinds = (
        ("Queues", "queues", [(name, name) for name in found.queues]),
        ("Environments", "environments", [(name, name) for name in found.compute_environments]),
        ("Definitions", "definitions", [(name, name) for name in found.job_definitions]),
        ("Hosts", "hosts", [(host.name, path_of(host.name, host.id)) for host in found.hosts]),
    )
    return [
        (heading, [(name, f"{ROOT}/{folder}/{path}") for name, path in names])
        for heading, folder, names in kinds
        if names
    ]
