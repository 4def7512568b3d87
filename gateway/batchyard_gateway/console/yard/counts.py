"""Counts: how many jobs wait, run and have failed, for the top of every page."""

from __future__ import annotations

from batchyard.states import ACTIVE_STATES, WAITING_STATES, JobState
from batchyard_gateway.console.live.hub import totals
from batchyard_gateway.console.visit import Answer, Page, Visit, batchyard


async def show(visit: Visit) -> Answer:
    """Show them; what was read for one page serves all for some seconds."""
    numbers = totals(await visit.hub.queues())
    groups = (("waiting", WAITING_STATES), ("running", ACTIVE_STATES), ("failed", {JobState.FAILED}))
    counts = [
        (word, sum(numbers.get(state, 0) for state in states), [state for state in JobState if state in states])
        for word, states in groups
    ]
    failed = numbers.get(JobState.FAILED, 0)
    view = {"counts": counts, "ended": failed + numbers.get(JobState.SUCCEEDED, 0), "failed": failed}
    return Page(
        template="counts.html", title="Jobs in numbers", view=view, section="Overview",
        commands=(batchyard("queue", "list"),),
    )  # fmt: skip
