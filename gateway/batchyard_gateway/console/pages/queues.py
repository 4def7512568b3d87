"""Job queues: where jobs wait, who is first there and why, and how a queue is told."""

from __future__ import annotations

import asyncio
from typing import Any

from batchyard.errors import RequestError
from batchyard.v1 import job_queue_pb2 as pb
from batchyard_gateway.console import queue_fields, queue_view
from batchyard_gateway.console.faults import Faults, faults_of
from batchyard_gateway.console.queue_view import Waiting
from batchyard_gateway.console.samples import DAY, PERIODS
from batchyard_gateway.console.values import Values, typed
from batchyard_gateway.console.visit import ROOT, Answer, Command, Page, Redirect, Visit, aws, batchyard, missing
from batchyard_gateway.errors import ApiError

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
    return missing(_gone(visit)) if queue is None else await _page(visit, queue, {})


async def change_one(visit: Visit) -> Answer:
    """Enable or disable a queue."""
    queue, action = await _find(visit), visit.form.get("action", "")
    if queue is None:
        return missing(_gone(visit))
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


def _gone(visit: Visit) -> str:
    return f"There is no job queue {visit.names['name']}."


async def _page(visit: Visit, queue: pb.JobQueue, faults: Faults) -> Page:
    period = visit.query.get("period", "")
    period = period if period in PERIODS else DAY
    view: dict[str, Any] = {"row": queue_view.row_of(queue), "period": period, "faults": faults}
    if visit.wants("line"):
        front = await _front(visit, queue.name)
        jobs = await visit.client.describe_jobs([each.job_id for each in front]) if front else []
        view["line"] = queue_view.line_of(front, jobs)
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


async def show_new(visit: Visit) -> Answer:
    """Show the form of a new queue."""
    return await _form(visit, {**queue_fields.NEW}, {})


async def create(visit: Visit) -> Answer:
    """Create a queue."""
    values = typed(visit.form, queue_fields.NEW)
    asked = queue_fields.asked(values)
    name = values["name"].strip()
    if asked.faults:
        return (await _form(visit, values, asked.faults)).refused()
    try:
        await visit.operate("CreateJobQueue", {"jobQueueName": name, **asked.members})
    except (ApiError, RequestError) as err:
        return (await _form(visit, values, faults_of(err, queue_fields.called(values)))).refused()
    fresh = queue_fields.asked(queue_fields.NEW).native
    return await _finish(visit, name, {k: v for k, v in asked.native.items() if v != fresh[k]}, f"{name} was created.")


async def show_edit(visit: Visit) -> Answer:
    """Show the form of a queue that is there."""
    queue = await _find(visit)
    return missing(_gone(visit)) if queue is None else await _form(visit, queue_fields.values_of(queue), {}, queue)


async def edit(visit: Visit) -> Answer:
    """Change a queue."""
    queue = await _find(visit)
    if queue is None:
        return missing(_gone(visit))
    values = {**typed(visit.form, queue_fields.NEW), "name": queue.name}
    asked = queue_fields.asked(values)
    if asked.faults:
        return (await _form(visit, values, asked.faults, queue)).refused()
    try:
        await visit.operate("UpdateJobQueue", {"jobQueue": queue.name, **asked.members})
    except (ApiError, RequestError) as err:
        return (await _form(visit, values, faults_of(err, queue_fields.called(values)), queue)).refused()
    return await _finish(visit, queue.name, queue_fields.changed(asked.native, queue), f"{queue.name} was changed.")


async def _finish(visit: Visit, name: str, native: dict[str, Any], done: str) -> Answer:
    """Tell a queue what AWS's operations cannot; what is refused then is shown in its form, as the queue is there."""
    if native:
        visit.note_change("update queue", {"name": name})
        try:
            await visit.client.update_job_queue(name, **native)
        except RequestError as err:
            (queue,) = await visit.client.describe_job_queues([name])
            visit.session.notices.append(f"{done} All but the following was taken.")
            values = {**typed(visit.form, queue_fields.NEW), "name": name}
            return (await _form(visit, values, faults_of(err, queue_fields.called(values)), queue)).refused()
    visit.session.notices.append(done)
    return Redirect(location=f"{ROOT}/queues/{name}")


async def _form(visit: Visit, values: Values, faults: Faults, queue: pb.JobQueue | None = None) -> Page:
    environments = [each.name async for each in visit.client.list_compute_environments(page_size=1000)]
    policies = [each.name async for each in visit.client.list_scheduling_policies(page_size=1000)]
    view = {
        "values": values,
        "faults": faults,
        "action": f"{ROOT}/new/queue" if queue is None else f"{ROOT}/queues/{queue.name}/edit",
        "is_new": queue is None,
        "back": f"{ROOT}/queues" if queue is None else f"{ROOT}/queues/{queue.name}",
        "steps": queue_fields.STEPS,
        "environments": [("", "none"), *((name, name) for name in environments)],
        "policies": [*([("", "none: first in, first out")] if queue is None else []), *((p, p) for p in policies)],
        "has_policy": queue is None or bool(queue.scheduling_policy),
        "limits": queue_fields.TIME_LIMITS,
        "dispatch_orders": [(word, word) for word in queue_fields.DISPATCH_ORDERS],
        "preemptions": [(word, word) for word in queue_fields.PREEMPTIONS],
    }
    title = "New job queue" if queue is None else f"Edit queue {queue.name}"
    return Page(
        template="queue_form.html", title=title, view=view, section="Queues", commands=_form_commands(values, queue)
    )


def _form_commands(values: Values, queue: pb.JobQueue | None) -> tuple[Command, ...]:
    """Return the lines that do the same as the form as it stands."""
    order = [values[step] for step in queue_fields.STEPS if values[step]]
    name = values["name"] or "NAME"
    native = ["--priority", values["priority"], *(word for each in order for word in ("--compute-environment", each))]
    for option in ("max-running", "max-vcpus"):
        if given := values[option.replace("-", "_")]:
            native += [f"--{option}", given]
    steps = [f"order={i},computeEnvironment={each}" for i, each in enumerate(order, start=1)]
    verb, flag = ("create", "--job-queue-name") if queue is None else ("update", "--job-queue")
    return (
        batchyard("queue", verb, name, *native),
        aws(f"{verb}-job-queue", flag, name, "--priority", values["priority"], "--compute-environment-order", *steps),
    )


# Deleting ------------------------------------------------------------------------


async def ask_deletion(visit: Visit) -> Answer:
    """Say what the end of a queue ends, and ask."""
    queue = await _find(visit)
    return missing(_gone(visit)) if queue is None else _deletion(queue, {})


async def delete(visit: Visit) -> Answer:
    """Delete a queue."""
    queue = await _find(visit)
    if queue is None:
        return missing(_gone(visit))
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
