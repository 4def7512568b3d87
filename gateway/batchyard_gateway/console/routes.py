"""Routes: the table of the console's pages, a row each."""

from __future__ import annotations

from dataclasses import dataclass

from .forms import split
from .hosts import hosts
from .jobs import children, job, jobs, many, submission
from .logs import logs
from .settings import consumables, definitions, environments, policies, queues, shares
from .start import start
from .visit import Handler
from .yard import about, clock, counts, events, keys, overview, search, secrets, stream


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
    Row("/environments", environments.show),
    Row("/environments/{name}", environments.show_one, environments.change_one),
    Row("/environments/{name}/delete", environments.ask_deletion, environments.delete),
    Row("/environments/{name}/edit", environments.show_edit, environments.edit),
    Row("/events", events.show),
    Row("/hosts", hosts.show),
    Row("/hosts/{name}", hosts.show_one, hosts.change_one),
    Row("/hosts/{name}/remove", hosts.ask_removal, hosts.remove),
    Row("/jobs", jobs.show),
    Row("/jobs/many", many.show, many.change),
    Row("/jobs/many/{bulk}", many.progress),
    Row("/jobs/new", submission.show, submission.change),
    Row("/jobs/{array}/children", children.show),
    Row("/jobs/{id}", job.show, job.change),
    Row("/jobs/{id}/log", logs.show),
    Row("/jobs/{id}/log.txt", logs.download),
    Row("/jobs/{id}/raw", job.raw),
    Row("/keys", keys.show, keys.change),
    Row("/live", stream.show),
    Row("/new/environment", environments.show_new, environments.create),
    Row("/new/queue", queues.show_new, queues.create),
    Row("/policies", policies.show, policies.create),
    Row("/policies/{name}", policies.show_one, policies.change_one),
    Row("/queues", queues.show),
    Row("/queues/{name}", queues.show_one, queues.change_one),
    Row("/queues/{name}/delete", queues.ask_deletion, queues.delete),
    Row("/queues/{name}/edit", queues.show_edit, queues.edit),
    Row("/queues/{name}/new-share", shares.show_new, shares.create),
    Row("/queues/{name}/shares/{share}", shares.show_one, shares.change_one),
    Row("/search", search.show),
    Row("/secrets", secrets.show, secrets.change),
    Row("/start", start.show, start.change),
    Row("/words", split.show),
)
