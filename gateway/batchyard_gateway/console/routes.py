"""Routes: the table of the console's pages, a row each."""

from __future__ import annotations

from dataclasses import dataclass

from .pages import (
    about,
    children,
    clock,
    consumables,
    counts,
    job,
    jobs,
    keys,
    live,
    logs,
    many,
    overview,
    policies,
    search,
    secrets,
)
from .visit import Handler


@dataclass(frozen=True, slots=True)
class Row:
    """
    A page.

    Attributes:
        path: Below ``/console``; parts in braces are names.
        show: Answers a GET.
        change: Answers a POST, whose form has the session's token.
    """

    path: str
    show: Handler
    change: Handler | None = None


ROWS = (
    Row("/", overview.show),
    Row("/about", about.show),
    Row("/clock", clock.show, clock.choose),
    Row("/consumables", consumables.show, consumables.create),
    Row("/consumables/{name}", consumables.show_one, consumables.change_one),
    Row("/counts", counts.show),
    Row("/jobs", jobs.show),
    Row("/jobs/many", many.show, many.change),
    Row("/jobs/many/{bulk}", many.progress),
    Row("/jobs/{id}", job.show, job.change),
    Row("/jobs/{array}/children", children.show),
    Row("/jobs/{id}/log", logs.show),
    Row("/jobs/{id}/log.txt", logs.download),
    Row("/jobs/{id}/raw", job.raw),
    Row("/keys", keys.show, keys.change),
    Row("/live", live.show),
    Row("/policies", policies.show, policies.create),
    Row("/policies/{name}", policies.show_one, policies.change_one),
    Row("/search", search.show),
    Row("/secrets", secrets.show, secrets.change),
)
