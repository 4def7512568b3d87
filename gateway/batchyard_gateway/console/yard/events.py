"""Events: what became of jobs and hosts, and why, the latest first."""

from __future__ import annotations

from batchyard.v1 import event_pb2 as pb
from batchyard_gateway.console.visit import Answer, Page, Visit, batchyard

from . import event_rows

PAGE = 100


async def show(visit: Visit) -> Answer:
    """Show those of a job, of a host, or of all."""
    job_id, host = (visit.query.get(name, "").strip() for name in ("job", "host"))
    before = visit.query.get("before", "")
    found, older = await _read(visit, pb.ListEventsRequest(job_id=job_id, host=host, after=before))
    view = {
        "job": job_id,
        "host": host,
        "rows": [event_rows.row_of(event) for event in found],
        "older": older,
        "is_latest": not before,
    }
    about = job_id or host
    return Page(
        template="events.html", title=f"Events of {about}" if about else "Events", view=view, section="Events",
        live=("counts", "hosts"), ids=(job_id,) if job_id else (),
        commands=(batchyard("events", *([about] if about else []), "--last", str(PAGE)),),
    )  # fmt: skip


async def _read(visit: Visit, request: pb.ListEventsRequest) -> tuple[list[pb.Event], str]:
    """Return a page of events, and the cursor of those before it; empty if there are none."""
    request.limit, request.latest_first = PAGE, True
    found: list[pb.Event] = []
    while True:
        answer = await visit.client.calls.list_events(request, retry=True)
        found += answer.events
        # Among many of others the next of one job may be far back.
        if found or not answer.is_partial:
            return found, answer.cursor if answer.is_partial else ""
        request.after = answer.cursor
