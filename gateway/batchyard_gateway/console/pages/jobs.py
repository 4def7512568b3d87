"""Jobs: the list of all, newest first, by filters that its address tells."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo

from batchyard.errors import RequestError
from batchyard_gateway.console import job_filters, job_rows
from batchyard_gateway.console.job_filters import Filters
from batchyard_gateway.console.job_rows import JobRow
from batchyard_gateway.console.visit import ROOT, Answer, Command, Page, Visit, batchyard

PATH = f"{ROOT}/jobs"

LOOK_S = 0.3
"""After so long a list shows what was found, and looks on by itself."""

STEPS_MAX = 50
"""Pages before this one whose beginnings an address keeps, for the way back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """
    A page of a list.

    Attributes:
        ids: Of its jobs.
        next_token: Where the next begins; empty at the end.
        is_short: It ends before it is full: there may be more, further on.
    """

    ids: Sequence[str] = ()
    next_token: str = ""
    is_short: bool = False


def zone_of(visit: Visit) -> tzinfo:
    """Return the zone in which a reader writes times."""
    return visit.clock.zone if visit.clock.style == "local" else UTC


async def look(visit: Visit, filters: Filters, token: str, size: int) -> Listed:
    """
    Read a page of a list; what took long comes short.

    Raises:
        RequestError: there is no such queue or host, or a filter breaks a rule.
    """
    read_s = asyncio.get_running_loop().time
    ends_s = read_s() + LOOK_S
    ids: list[str] = []
    while True:
        page = await visit.client.list_jobs_page(**filters.wanted(size - len(ids)), page_token=token)
        ids += [job.id for job in page.jobs]
        token = page.next_page_token
        if not token or len(ids) >= size or read_s() >= ends_s:
            return Listed(ids=ids, next_token=token, is_short=bool(token) and len(ids) < size)


async def rows_of(visit: Visit, ids: Sequence[str]) -> list[JobRow]:
    """Return the lines of jobs, in the order asked; forgotten ones are left out."""
    found = {job.id: job for job in await visit.client.describe_jobs(ids)} if ids else {}
    return [job_rows.row_of(found[job_id], visit.clock.now_ms) for job_id in ids if job_id in found]


def shown_ids(visit: Visit) -> list[str]:
    """Return the jobs on screen, as the page tells them with a part's address."""
    return visit.query.get("ids", "").split()[: job_filters.SIZES[-1]]


def begins_at(visit: Visit) -> str:
    """Return the token at which a page, or what is looked on for it, begins."""
    return visit.query.get("on") or visit.query.get("page", "")


def left(visit: Visit, size: int) -> int:
    """Return how many rows a page has room for; less than its size where it is looked on for."""
    text = visit.query.get("left", "")
    return min(int(text), size) if text.isascii() and text.isdigit() and 0 < len(text) < 4 and int(text) else size


def paging(visit: Visit, listed: Listed, size: int) -> dict[str, str]:
    """
    Return the addresses of the pages before and behind, and of what is looked on for; empty where there is none.

    An address keeps where the pages before it began: no list is kept for anybody, and the way
    back shows the same pages.
    """
    steps, here = visit.query.getlist("newer"), visit.query.get("page", "")
    asked = {"on": None, "left": None, "ids": None}
    token, room = listed.next_token, left(visit, size) - len(listed.ids)
    return {
        "newer": visit.url(page=steps[-1] or None, newer=steps[:-1], **asked) if steps else "",
        "newest": visit.url(page=None, newer=None, **asked) if here else "",
        "older": visit.url(page=token, newer=[*steps, here][-STEPS_MAX:], **asked) if token else "",
        "on": visit.url(**{**asked, "part": "more", "on": token, "left": str(room)}) if listed.is_short else "",
    }


async def show(visit: Visit) -> Answer:
    """Show the list, or a part of it."""
    filters = job_filters.read(visit.query, zone_of(visit))
    match visit.query.get("part"):
        case "rows":
            return Page(
                template="jobs.html",
                title="Jobs",
                view={"rows": await rows_of(visit, shown_ids(visit)), "is_children": False},
            )
        case "news":
            return Page(template="jobs.html", title="Jobs", view={"news": await _news(visit, filters)})
    faults, listed = dict(filters.faults), Listed()
    try:
        if not faults:
            listed = await look(visit, filters, begins_at(visit), left(visit, filters.size))
    except RequestError as err:
        faults = job_filters.faults_of_list(err)
    view = {
        "filters": filters,
        "faults": faults,
        "path": PATH,
        "sizes": [(str(size), str(size)) for size in job_filters.SIZES],
        "queues": [queue.name async for queue in visit.client.list_job_queues()],
        "rows": await rows_of(visit, listed.ids),
        "is_children": False,
        "listed": listed,
        "news": "",
        **paging(visit, listed, filters.size),
    }
    page = Page(
        template="jobs.html", title="Jobs", view=view, section="Jobs", commands=_commands(filters),
        live=("counts", "jobs"),
    )  # fmt: skip
    return page.refused() if faults else page


async def _news(visit: Visit, filters: Filters) -> str:
    """Return how many jobs of the first page, as it is now, are not on screen; empty for none."""
    shown = set(shown_ids(visit))
    page = await visit.client.list_jobs_page(**filters.wanted(filters.size))
    new = 0
    for job in page.jobs:
        # Behind the first that is on screen stand older ones, which stood on the next page.
        if job.id in shown:
            break
        new += 1
    return f"{new}{' or more' if new == filters.size else ''}" if new else ""


def _commands(filters: Filters) -> list[Command]:
    return [*filters.commands(), batchyard("describe", "JOB"), batchyard("explain", "JOB"), batchyard("logs", "JOB")]
