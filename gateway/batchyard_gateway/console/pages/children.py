"""Children: those of one array: how many are where, which failed, and each by its index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from batchyard.errors import FailedPreconditionError
from batchyard.states import JobState
from batchyard.v1 import job_pb2 as pb
from batchyard_gateway.console import array_map, job_filters, job_rows
from batchyard_gateway.console.job_filters import Filters
from batchyard_gateway.console.visit import ROOT, Answer, Page, Redirect, Visit, batchyard

from .jobs import Listed, begins_at, left, look, paging, rows_of, shown_ids


async def show(visit: Visit) -> Answer:
    """Show them, or a part of the page."""
    if visit.query.get("part") == "rows":
        rows = await rows_of(visit, shown_ids(visit))
        return Page(template="children.html", title="", view={"rows": rows, "is_children": True})
    job = await visit.client.describe_job(visit.names["array"])
    if not job_rows.is_array(job):
        raise FailedPreconditionError(f"{job.id} is no array: it has no children")
    counts = {state: job.array.status_summary.get(state, 0) for state in JobState}
    match visit.query.get("part"):
        case "bar":
            return Page(template="children.html", title="", view=_bar(visit, job, counts))
        case "map":
            return Page(template="children.html", title="", view=await _map(visit, job))
    if visit.query.get("view") == "table":
        return await _table(visit, job)
    if wanted := visit.query.get("index", "").strip():
        if _is_index(wanted) and int(wanted) < job.array.size:
            return Redirect(location=f"{ROOT}/jobs/{job.id}:{int(wanted)}")
        text = f"{wanted[:20]} is no index of this array: they are 0 to {job.array.size - 1}."
        return (await _page(visit, job, counts, {"index": text})).refused()
    return await _page(visit, job, counts, {})


async def _page(visit: Visit, job: pb.Job, counts: dict[JobState, int], faults: dict[str, str]) -> Page:
    filters = replace(job_filters.read(visit.query), array=job.id)
    if filters.states:
        listed = await look(visit, filters, begins_at(visit), left(visit, filters.size))
        around = paging(visit, listed, filters.size)
    else:
        listed, around = _by_index(visit, job, filters)
    failed = await _failed(visit, job) if counts[JobState.FAILED] else ""
    view = {
        **_bar(visit, job, counts),
        "filters": filters,
        "faults": {**filters.faults, **faults},
        "sizes": [(str(size), str(size)) for size in job_filters.SIZES],
        "rows": await rows_of(visit, listed.ids),
        "is_children": True,
        "listed": listed,
        "failed": failed,
        "has_all_failed": counts[JobState.FAILED] <= array_map.INDEXES_MAX,
        "map": None,
        **array_map.shape_of(job.array.size),
        **around,
    }
    commands = [*filters.commands(), batchyard("describe", f"{job.id}:0"), batchyard("logs", f"{job.id}:0")]
    return Page(
        template="children.html", title=f"Children of {job.name}", view=view, section="Jobs", commands=commands,
        live=("counts", "jobs"), ids=(job.id,),
    )  # fmt: skip


def _bar(visit: Visit, job: pb.Job, counts: dict[JobState, int]) -> dict[str, Any]:
    path = f"{ROOT}/jobs/{job.id}/children"
    chosen = {state.upper() for state in visit.query.getlist("state")}
    states = [
        {"word": state, "count": counts[state], "is_chosen": state in chosen, "link": f"{path}?state={state}"}
        for state in JobState
    ]
    return {"job": job, "states": states, "path": path, "all_link": path if chosen else ""}


def _by_index(visit: Visit, job: pb.Job, filters: Filters) -> tuple[Listed, dict[str, str]]:
    """Return a page of all children: their ids are known without asking."""
    given = visit.query.get("first", "")
    first = min(int(given), job.array.size - 1) if _is_index(given) else 0
    end = min(first + filters.size, job.array.size)
    around = {
        "newer": visit.url(first=str(max(0, first - filters.size))) if first else "",
        "newest": visit.url(first=None) if first else "",
        "older": visit.url(first=str(end)) if end < job.array.size else "",
        "on": "",
    }
    return Listed(ids=[f"{job.id}:{index}" for index in range(first, end)]), around


async def _failed(visit: Visit, job: pb.Job) -> str:
    """Return the indexes of those that failed, as far as they are written out."""
    page = await visit.client.list_jobs_page(
        array_job_id=job.id, states=[JobState.FAILED], page_size=array_map.INDEXES_MAX
    )
    return array_map.ranges(child.array.index for child in page.jobs)


async def _table(visit: Visit, job: pb.Job) -> Page:
    """Show the map in words."""
    view = {"job": job, "path": f"{ROOT}/jobs/{job.id}/children", **await _map(visit, job)}
    return Page(
        template="children_table.html", title=f"Map of {job.name}", view=view, section="Jobs",
        live=("counts", "jobs"), ids=(job.id,),
    )  # fmt: skip


async def _map(visit: Visit, job: pb.Job) -> dict[str, Any]:
    digest = await visit.client.get_array_digest(job.id, cells=array_map.cells_max(job.array.size))
    counts: Sequence[dict[str, int]] = [dict(cell.counts) for cell in digest.cells]
    drawn = array_map.map_of(digest.size, digest.width, counts)
    return {"map": drawn, "width": drawn.width}


def _is_index(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 12
