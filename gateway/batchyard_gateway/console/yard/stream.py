"""Live: the one stream by which an open page hears that it may look again."""

from __future__ import annotations

from batchyard_gateway.console.live.hub import Looker
from batchyard_gateway.console.live.tabs import IDS_MAX
from batchyard_gateway.console.visit import Answer, Stream, Visit
from batchyard_gateway.errors import ApiError, BusyException


async def show(visit: Visit) -> Answer:
    """Tell of changes for as long as the page is open."""
    ids = [job_id for job_id in visit.query.get("ids", "").split(",") if job_id]
    if len(ids) > IDS_MAX:
        raise ApiError("ValidationException", f"ids: at most {IDS_MAX} jobs, not {len(ids)}.", 400)
    if visit.hub.is_full:
        raise BusyException
    looker = Looker(
        topics=visit.query.get("topics", "").split(","),
        ids=ids,
        since=visit.last_event or visit.query.get("since", ""),
        is_signed_in=visit.is_signed_in,
        write_time=visit.clock.exact,
    )
    # A proxy between that gathers answers would gather this one for ever.
    headers = {"X-Accel-Buffering": "no"}
    return Stream(parts=visit.hub.stream(looker), content_type="text/event-stream", headers=headers)
