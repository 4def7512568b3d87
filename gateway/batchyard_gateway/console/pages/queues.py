"""Job queues: where jobs wait, who is first there and why, and how a queue is told."""

from __future__ import annotations

import asyncio
from typing import Any

from batchyard.errors import RequestError
from batchyard.v1 import job_queue_pb2 as pb
from batchyard_gateway.console import command_lines, offers, queue_view, share_view
from batchyard_gateway.console.faults import Faults, faults_of
from batchyard_gateway.console.forms import queue_form
from batchyard_gateway.console.forms.tables import Form
from batchyard_gateway.console.queue_view import Waiting
from batchyard_gateway.console.samples import DAY, PERIODS
from batchyard_gateway.console.sheet import Sheet, blank, once, posted
from batchyard_gateway.console.visit import ROOT, Answer, Page, Redirect, Visit, aws, batchyard, missing
from batchyard_gateway.errors import ApiError

from . import shares

ASKED_MAX = 100
"""Queues whose first in line is asked for, on a page of many."""

REMARKS = {"disable": "{} takes no new jobs; those in it go on.", "enable": "{} takes jobs again."}


async def show(visit: Visit) -> Answer:
    """Show all queues."""
    queues = [queue async for queue in visit.client.list_job_queues(page_size=1000)]
    firsts = await firsts_of(visit, queues)
    return Page(
        template="queues.html",
        title="Job queues",
        view={"rows": [queue_view.row_of(queue, firsts.get(queue.name)) for queue in queues]},
        section="Queues",
        live=("counts",),
        commands=(batchyard("queue", "list"), aws("describe-job-queues")),
    )


async def firsts_of(visit: Visit, queues: list[pb.JobQueue]) -> dict[str, Waiting]:
    """Return who is first in line, and why it waits, of those queues where somebody waits for a host."""
    names = [queue.name for queue in queues if queue.job_counts.get("RUNNABLE")][:ASKED_MAX]
    # A queue that is deleted meanwhile has nobody in line.
    found = await asyncio.gather(*(_front(visit, name) for name in names))
    heads = {name: front[:1] for name, front in zip(names, found, strict=True) if front}
    jobs = await visit.client.describe_jobs([front[0].job_id for front in heads.values()]) if heads else []
    lines = {name: queue_view.line_of(front, jobs) for name, front in heads.items()}
    return {name: line[0] for name, line in lines.items() if line}


async def _front(visit: Visit, name: str) -> list[pb.FrontOfQueueJob]:
    try:
        return list((await visit.client.get_job_queue_snapshot(name)).front)
    except RequestError:
        return []


async def show_one(visit: Visit) -> Answer:
    """Show one queue."""
    queue = await _find(visit)
    return _gone(visit) if queue is None else await _page(visit, queue, {})


async def change_one(visit: Visit) -> Answer:
    """Enable or disable a queue."""
    queue, action = await _find(visit), visit.form.get("action", "")
    if queue is None:
        return _gone(visit)
    if action not in REMARKS:
        return (await _page(visit, queue, {"": f"There is no action {action!r}."})).refused()
    try:
        await visit.operate("UpdateJobQueue", {"jobQueue": queue.name, "state": f"{action.upper()}D"})
    except (ApiError, RequestError) as err:
        return (await _page(visit, queue, faults_of(err, {}))).refused()
    visit.session.notices.append(REMARKS[action].format(queue.name))
    return Redirect(location=visit.path)


async def _find(visit: Visit) -> pb.JobQueue | None:
    found = await visit.client.describe_job_queues([visit.names["name"]])
    return found[0] if found else None


def _gone(visit: Visit) -> Page:
    return missing(f"There is no job queue {visit.names['name']}.")


async def _page(visit: Visit, queue: pb.JobQueue, faults: Faults) -> Page:
    period = visit.query.get("period", "")
    period = period if period in PERIODS else DAY
    view: dict[str, Any] = {"row": queue_view.row_of(queue), "period": period, "faults": faults}
    if visit.wants("line"):
        front = await _front(visit, queue.name)
        jobs = await visit.client.describe_jobs([each.job_id for each in front]) if front else []
        view["line"] = queue_view.line_of(front, jobs)
    view["has_shares"] = await shares.has_shares(visit, queue)
    if view["has_shares"] and visit.wants("shares"):
        view["shares"] = share_view.rows_of([each async for each in visit.client.list_quota_shares(queue.name)])
    if visit.wants("figures"):
        view["drawn"] = queue_view.charts_of(queue.name, visit.samples, period, visit.clock.now_ms)
    view |= {"facts": queue_view.facts_of(queue), "limits": queue.job_state_time_limit_actions}
    return Page(
        template="queue.html", title=f"Queue {queue.name}", view=view, section="Queues", live=("counts",),
        commands=(
            batchyard("queue", "show", queue.name),
            aws("describe-job-queues", "--job-queues", queue.name),
            aws("get-job-queue-snapshot", "--job-queue", queue.name),
        ),
    )  # fmt: skip


# Creating and editing ---------------------------------------------------------------


async def _form_of(visit: Visit, queue: pb.JobQueue | None) -> Form:
    """Return the form of a new queue, or of one that is there, which gets another policy at most."""
    environments = [each.name for each in await offers.environments(visit)]
    policies = await offers.policies(visit)
    if queue is not None:
        policies = policies[1:] if queue.scheduling_policy else []
    return queue_form.queue(environments, policies, is_new=queue is None)


async def show_new(visit: Visit) -> Answer:
    """Show the form of a new queue."""
    return _form(visit, blank(await _form_of(visit, None), {"priority": "1"}))


async def create(visit: Visit) -> Answer:
    """Create a queue."""
    return await once(visit, lambda: _create(visit))


async def _create(visit: Visit) -> Answer:
    sheet = await posted(visit, await _form_of(visit, None))
    draft = queue_form.queue_draft(sheet.form, sheet.answers)
    if sheet.go:
        sheet.tell(draft.faults)
        if await sheet.carry_out(visit, "CreateJobQueue", draft.members, queue_form.amend(draft.members)) is not None:
            return _done(visit, draft.members["jobQueueName"], "was created")
    page = _form(visit, sheet)
    return page.refused() if sheet.faults else page


def _done(visit: Visit, name: str, what: str) -> Answer:
    visit.session.notices.append(f"{name} {what}.")
    return Redirect(location=f"{ROOT}/queues/{name}")


async def show_edit(visit: Visit) -> Answer:
    """Show the form of a queue that is there."""
    queue = await _find(visit)
    if queue is None:
        return _gone(visit)
    form = await _form_of(visit, queue)
    return _form(visit, Sheet(form=form, answers=queue_form.filled(queue, form)), queue)


async def edit(visit: Visit) -> Answer:
    """Change a queue."""
    return await once(visit, lambda: _edit(visit))


async def _edit(visit: Visit) -> Answer:
    queue = await _find(visit)
    if queue is None:
        return _gone(visit)
    sheet = await posted(visit, await _form_of(visit, queue))
    draft = queue_form.queue_draft(sheet.form, sheet.answers)
    if sheet.go:
        sheet.tell(draft.faults)
        members = queue_form.changes(draft.members, queue.name)
        if await sheet.carry_out(visit, "UpdateJobQueue", members, queue_form.amend(members)) is not None:
            return _done(visit, queue.name, "was changed")
    page = _form(visit, sheet, queue)
    return page.refused() if sheet.faults else page


def _form(visit: Visit, sheet: Sheet, queue: pb.JobQueue | None = None) -> Page:
    at = f"{ROOT}/queues" if queue is None else f"{ROOT}/queues/{queue.name}"
    is_bare = queue is not None and not queue.scheduling_policy
    view = {
        "sheet": sheet, "action": f"{ROOT}/new/queue" if queue is None else f"{at}/edit", "back": at, "tabs": (), "tab": "",
        "button": "Create queue" if queue is None else "Save",
        "notes": ("It was made without a scheduling policy, and never gets one.",) if is_bare else (),
    }  # fmt: skip
    given = queue_form.queue_draft(sheet.form, sheet.answers).members
    if queue is None:
        commands, title = command_lines.lines("CreateJobQueue", given), "New job queue"
    else:
        commands = command_lines.lines("UpdateJobQueue", queue_form.changes(given, queue.name))
        title = f"Edit queue {queue.name}"
    return Page(template="sheet.html", title=title, view=view, section="Queues", commands=commands)


# Deleting ------------------------------------------------------------------------


async def ask_deletion(visit: Visit) -> Answer:
    """Say what the end of a queue ends, and ask."""
    queue = await _find(visit)
    return _gone(visit) if queue is None else _deletion(queue, {})


async def delete(visit: Visit) -> Answer:
    """Delete a queue."""
    queue = await _find(visit)
    if queue is None:
        return _gone(visit)
    try:
        await visit.operate("DeleteJobQueue", {"jobQueue": queue.name})
    except (ApiError, RequestError) as err:
        return _deletion(queue, faults_of(err, {})).refused()
    visit.session.notices.append(f"{queue.name} was deleted.")
    return Redirect(location=f"{ROOT}/queues")


def _deletion(queue: pb.JobQueue, faults: Faults) -> Page:
    row = queue_view.row_of(queue)
    view = {"row": row, "unfinished": queue_view.unfinished(queue), "faults": faults}
    return Page(
        template="queue_delete.html", title=f"Delete queue {queue.name}", view=view, section="Queues",
        commands=(batchyard("queue", "delete", queue.name), aws("delete-job-queue", "--job-queue", queue.name)),
    )  # fmt: skip
