"""Routes: the table of the console's pages, a row each."""

from __future__ import annotations

from dataclasses import dataclass

from .pages import (
    about,
    clock,
    consumables,
    counts,
    definitions,
    keys,
    live,
    logs,
    overview,
    policies,
    search,
    secrets,
    start,
    submission,
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
    Row("/definitions", definitions.show),
    Row("/definitions/new", definitions.show_new, definitions.change_new),
    Row("/definitions/{name}", definitions.show_one, definitions.change_one),
    Row("/jobs/new", submission.show, submission.change),
    Row("/jobs/{id}/log", logs.show),
    Row("/jobs/{id}/log.txt", logs.download),
    Row("/keys", keys.show, keys.change),
    Row("/live", live.show),
    Row("/policies", policies.show, policies.create),
    Row("/policies/{name}", policies.show_one, policies.change_one),
    Row("/search", search.show),
    Row("/secrets", secrets.show, secrets.change),
    Row("/start", start.show, start.change),
)
