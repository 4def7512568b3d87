"""The overview: what a yard is doing."""

from __future__ import annotations

import asyncio
from typing import Any

from batchyard_gateway.console.figures.samples import HOUR, PERIODS
from batchyard_gateway.console.settings import queue_view
from batchyard_gateway.console.settings.queues import firsts_of
from batchyard_gateway.console.start import start
from batchyard_gateway.console.visit import Answer, Page, Redirect, Visit, batchyard

from . import overview_view
from .overview_view import Failure

FAILURES = 10
LOOKED_AT = 100
"""Newest arrays that may have failed children though they have not ended."""


async def show(visit: Visit) -> Answer:
    """Show queues, hosts, failures and charts; where there is nothing yet, the wizard."""
    # A page that is open shows that there is nothing any more, and leads nowhere.
    if not visit.part and await start.opens_by_itself(visit):
        return Redirect(location=start.HERE)
    period = visit.query.get("period", "")
    period = period if period in PERIODS else HOUR
    view: dict[str, Any] = {"period": period}
    if visit.wants("queues"):
        queues = [queue async for queue in visit.client.list_job_queues(page_size=1000)]
        firsts = await firsts_of(visit, queues)
        view["queues"] = [queue_view.row_of(queue, firsts.get(queue.name)) for queue in queues]
        view["is_unused"] = not any(any(queue.job_counts.values()) for queue in queues)
    if visit.wants("hosts"):
        view["hosts"] = overview_view.hosts_of(await visit.client.summarize_hosts())
    if visit.wants("failures"):
        view["failures"] = await _failures(visit)
    if visit.wants("figures"):
        view["drawn"] = overview_view.charts_of(visit.samples, period, visit.clock.now_ms)
    return Page(
        template="overview.html", title="Overview", view=view, section="Overview", live=("counts", "hosts"),
        commands=(batchyard("queue", "list"), batchyard("hosts"), batchyard("jobs", "--state", "FAILED")),
    )  # fmt: skip


async def _failures(visit: Visit) -> list[Failure]:
    """Return the newest jobs that failed, and arrays of which some children did."""
    failed, pending = await asyncio.gather(
        visit.client.list_jobs_page(states=["FAILED"], page_size=FAILURES),
        visit.client.list_jobs_page(states=["PENDING"], page_size=LOOKED_AT),
    )
    found = [*failed.jobs, *filter(overview_view.failed_array, pending.jobs)]
    newest = sorted(found, key=lambda job: job.created_at_ms, reverse=True)[:FAILURES]
    jobs = await visit.client.describe_jobs([job.id for job in newest]) if newest else []
    return overview_view.failures_of(newest, jobs)
