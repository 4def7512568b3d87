"""Job: one job, array or child: where it is and why, its attempts, what it is, and what may be done with it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from google.protobuf.json_format import MessageToDict

from batchyard import wording
from batchyard.errors import BatchyardError, RequestError
from batchyard.ids import node_id, split_job_id
from batchyard.states import FINAL_STATES, JobState
from batchyard.v1 import job_pb2 as pb
from batchyard_gateway.batch.handlers import names_of
from batchyard_gateway.batch.names import JOB
from batchyard_gateway.console.logs import log_view
from batchyard_gateway.console.visit import ROOT, Answer, Page, Redirect, Visit
from batchyard_gateway.errors import ApiError

from . import job_rows, job_view, why

EXPLAIN_S = 5
"""How often it is asked why a job waits, and how its containers are, while its page is open."""

LOG_S = 1.0
"""How long the end of a log is waited for: its host may be away."""

LOG_BYTES_MAX = 64 << 10
FAILED_CHILDREN = 5
NEEDED_MAX = 20
NODES_SHOWN = 100


async def show(visit: Visit) -> Answer:
    """Show a job."""
    return await _page(visit, {})


async def change(visit: Visit) -> Answer:
    """Tag it, drop a tag, or change its priority."""
    job_id, act = visit.names["id"], visit.form.get("act", "")
    try:
        said = await _CHANGES.get(act, _unknown)(visit, job_id)
    except (ApiError, RequestError) as err:
        # What is not there is said as for every page; what is refused, beside what was typed.
        return (await _page(visit, {_FIELDS.get(act, ""): str(err)})).refused()
    visit.session.notices.append(said)
    return Redirect(location=f"{ROOT}/jobs/{job_id}")


async def raw(visit: Visit) -> Answer:
    """Show a job as JSON, as the contract has it and as AWS does."""
    job = await visit.client.describe_job(visit.names["id"])
    native = MessageToDict(job, preserving_proto_field_name=True)
    described = await visit.operate("DescribeJobs", {"jobs": [job.id]})
    texts = [
        ("Batchyard's", "native", json.dumps(native, indent=2, ensure_ascii=False)),
        ("AWS Batch's", "aws", json.dumps(described["jobs"][0], indent=2, ensure_ascii=False)),
    ]
    return Page(
        template="job_raw.html", title=f"{job.name} as JSON", view={"job": job, "texts": texts}, section="Jobs",
        commands=job_view.commands(job)[:2],
    )  # fmt: skip


async def _tag(visit: Visit, job_id: str) -> str:
    key, value = visit.form.get("key", "").strip(), visit.form.get("value", "").strip()
    arn = names_of(visit.context).arn(JOB, job_id)
    await visit.operate("TagResource", {"resourceArn": arn, "tags": {key: value}})
    return f"The tag {key} is set."


async def _untag(visit: Visit, job_id: str) -> str:
    key = visit.form.get("key", "")
    arn = names_of(visit.context).arn(JOB, job_id)
    await visit.operate("UntagResource", {"resourceArn": arn, "tagKeys": [key]})
    return f"The tag {key} is gone."


async def _prioritise(visit: Visit, job_id: str) -> str:
    text = visit.form.get("priority", "").strip()
    if not (text.isascii() and text.isdigit() and len(text) < 6):
        raise ApiError("ValidationException", f"A priority is a number from 0 to 9999, not {text[:40]!r}.", 400)
    visit.note_change("UpdateJob", {"jobId": job_id})
    await visit.client.update_job(job_id, scheduling_priority=int(text))
    return f"Its scheduling priority is {text}."


async def _unknown(visit: Visit, job_id: str) -> str:
    raise ApiError("ValidationException", "The form says nothing that can be done.", 400)


_CHANGES: Mapping[str, Callable[[Visit, str], Awaitable[str]]] = {
    "tag": _tag, "untag": _untag, "priority": _prioritise
}  # fmt: skip
_FIELDS = {"tag": "key", "priority": "priority"}


async def _page(visit: Visit, faults: Mapping[str, str]) -> Page:
    job = await visit.client.describe_job(visit.names["id"])
    state = wording.job_state(job)
    array_id, _ = split_job_id(job.id)
    mark = job.id.removeprefix(array_id)
    explained = None if state in FINAL_STATES else await visit.client.explain_job(job.id)
    others = [each.job_id for each in job.depends_on if each.job_id][:NEEDED_MAX]
    others += explained.dependent_ids if explained is not None else ()
    found = await visit.client.describe_jobs(others) if others else []
    view: dict[str, Any] = {
        "job": job,
        "row": job_rows.row_of(job, visit.clock.now_ms),
        "state": state,
        "is_over": state in FINAL_STATES,
        "array_id": array_id if mark else "",
        "nodes": await _nodes(visit, job),
        "timeline": job_view.timeline(job),
        "tries": job_view.tries(job, visit.clock.now_ms),
        "parts": job_view.parts(job, visit.clock.now_ms),
        "needed": job_view.needed(job, found),
        "dependents": None if explained is None else job_view.dependents(explained, found),
        "facts": job_view.facts(job),
        "scheduling": job_view.scheduling(job),
        "rules": job_view.rules(job),
        "stopped": job_view.stopped(job),
        "actions": job_view.actions(job),
        "has_priority": job_view.has_priority(job),
        "faults": faults,
        "form": visit.form,
        "explain_s": EXPLAIN_S,
        "waiting": why.waiting(explained) if explained is not None and _waits(job, state) else None,
        **await _why_failed(visit, job, state),
    }
    title = f"{job.name} {mark}".rstrip()
    return Page(
        template="job.html", title=title, view=view, section="Jobs", commands=job_view.commands(job),
        live=("counts",), ids=(job.id,),
    )  # fmt: skip


def _waits(job: pb.Job, state: JobState) -> bool:
    """Say whether a job waits: for what its state says, or being started, one container for another."""
    return state.is_waiting or (state is JobState.STARTING and bool(job.waiting_reason))


async def _nodes(visit: Visit, job: pb.Job) -> list[job_rows.JobRow]:
    """Return the first nodes of a multi-node job."""
    if not job.HasField("nodes"):
        return []
    shown = range(min(job.node.num_nodes, NODES_SHOWN))
    found = {node.id: node for node in await visit.client.describe_jobs([node_id(job.id, index) for index in shown])}
    rows = (found.get(node_id(job.id, index)) for index in shown)
    return [job_rows.row_of(node, visit.clock.now_ms) for node in rows if node is not None]


async def _why_failed(visit: Visit, job: pb.Job, state: JobState) -> dict[str, Any]:
    """Return what is known of why it, or children of it, failed."""
    hints, end, failed = [], None, []
    if job_rows.is_array(job) and job.array.status_summary.get(JobState.FAILED):
        page = await visit.client.list_jobs_page(
            array_job_id=job.id, states=[JobState.FAILED], page_size=FAILED_CHILDREN
        )
        found = await visit.client.describe_jobs([child.id for child in page.jobs])
        failed = sorted((job_rows.row_of(child, visit.clock.now_ms) for child in found), key=_index)
    elif state is JobState.FAILED:
        hints = why.hints(job)
        end = await _log_end(visit, job) if job.attempts else None
    return {"hints": hints, "log": end, "failed": failed}


def _index(row: job_rows.JobRow) -> int:
    return int(row.id.partition(":")[2])


async def _log_end(visit: Visit, job: pb.Job) -> dict[str, str]:
    """Return the last lines of the last attempt's log, or why there are none."""
    request = pb.ReadLogsRequest(
        job_id=job.id,
        attempt=job.attempts[-1].number,
        container=log_view.container(job, ""),
        tail_lines=why.LOG_LINES,
    )
    data = b""
    try:
        async with asyncio.timeout(LOG_S):
            async for answer in visit.client.calls.read_logs(request, resume=False):
                data = (data + answer.data)[-LOG_BYTES_MAX:]
    except TimeoutError:
        return {"text": why.log_end(data), "away": "its host did not send all of it in time"}
    except BatchyardError as err:
        return {"text": "", "away": str(err)}
    return {"text": why.log_end(data), "away": ""}
