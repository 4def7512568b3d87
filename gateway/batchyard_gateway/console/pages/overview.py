"""The overview: what a yard is doing."""

from __future__ import annotations

from batchyard_gateway.console.visit import Answer, Page, Redirect, Visit, batchyard

from . import start


async def show(visit: Visit) -> Answer:
    """Show queues; where there is nothing yet, the wizard."""
    if await start.opens_by_itself(visit):
        return Redirect(location=start.HERE)
    queues = [queue async for queue in visit.client.list_job_queues()]
    return Page(
        template="overview.html",
        title="Overview",
        view={"queues": queues},
        section="Overview",
        commands=(batchyard("queue", "list"),),
    )
