"""The overview: what a yard is doing."""

from __future__ import annotations

from batchyard_gateway.console.visit import Answer, Page, Visit, batchyard


async def show(visit: Visit) -> Answer:
    """Show queues."""
    queues = [queue async for queue in visit.client.list_job_queues()]
    return Page(
        template="overview.html",
        title="Overview",
        view={"queues": queues},
        section="Overview",
        commands=(batchyard("queue", "list"),),
    )
