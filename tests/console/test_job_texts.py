"""Whatever stands in a job comes out as text: every string field of every message is hostile, on every page of jobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC
from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from starlette.datastructures import QueryParams

from batchyard.v1 import job_pb2 as pb
from batchyard.v1 import job_queue_pb2 as queue_pb
from batchyard_gateway.console import assets
from batchyard_gateway.console.bulk import ACTIONS, Bulk
from batchyard_gateway.console.moments import Clock
from batchyard_gateway.console.pages import children, job, jobs, many
from batchyard_gateway.console.rendering import Renderer
from batchyard_gateway.console.sessions import Session
from batchyard_gateway.console.visit import Answer, Page, Visit

from .scene import HOSTILE

ID = "01a21600-9c20-794b-8971-6805633080ca"


def hostile(message: Any, depth: int = 0) -> Any:
    """Fill every text of a message, and of all in it."""
    for field in message.DESCRIPTOR.fields:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            value = field.message_type.fields_by_name["value"]
            if value.type == FieldDescriptor.TYPE_STRING:
                getattr(message, field.name)[HOSTILE] = HOSTILE
        elif field.type == FieldDescriptor.TYPE_STRING:
            if field.label == FieldDescriptor.LABEL_REPEATED:
                getattr(message, field.name).append(HOSTILE)
            else:
                setattr(message, field.name, HOSTILE)
        elif field.message_type is not None and depth < 6:
            part = getattr(message, field.name)
            hostile(part.add() if field.label == FieldDescriptor.LABEL_REPEATED else part, depth + 1)
    return message


def full_job(job_id: str = HOSTILE, state: str = "FAILED", **fields: Any) -> pb.Job:
    made: pb.Job = hostile(pb.Job())
    made.id = job_id
    made.state = pb.JobState.Value(f"JOB_STATE_{state}")
    made.array.Clear()
    made.MergeFrom(pb.Job(**fields))
    return made


@dataclass(frozen=True, slots=True)
class Answers:
    """What the controller says: one job, of which every text is hostile."""

    job: pb.Job

    async def describe_job(self, job_id: str) -> pb.Job:
        return self.job

    async def describe_jobs(self, ids: list[str]) -> list[pb.Job]:
        found = []
        for each in ids:
            other = pb.Job()
            other.CopyFrom(self.job)
            other.id = each
            found.append(other)
        return found

    async def list_jobs_page(self, **wanted: Any) -> pb.ListJobsResponse:
        failed = pb.JobSummary(id=f"{HOSTILE}:1", state=pb.JOB_STATE_FAILED, array=pb.ArrayProperties(index=1, size=2))
        return pb.ListJobsResponse(jobs=[failed])

    async def list_job_queues(self) -> AsyncIterator[queue_pb.JobQueue]:
        yield hostile(queue_pb.JobQueue())

    async def explain_job(self, job_id: str) -> pb.ExplainJobResponse:
        explained: pb.ExplainJobResponse = hostile(pb.ExplainJobResponse(position=2, estimated_start_at_ms=1))
        explained.refusals[0].kind = "cpu_millis"
        return explained

    async def get_array_digest(self, job_id: str, *, cells: int) -> pb.GetArrayDigestResponse:
        return pb.GetArrayDigestResponse(size=2, width=1, cells=[pb.ArrayCell(counts={"FAILED": 1})] * 2)

    @property
    def calls(self) -> Any:
        async def read_logs(request: Message, resume: bool) -> AsyncIterator[pb.ReadLogsResponse]:
            yield pb.ReadLogsResponse(data=HOSTILE.encode())

        return SimpleNamespace(read_logs=read_logs)


def visit(client: Any, query: Any = (), names: Mapping[str, str] = {}) -> Visit:
    session = Session(access_key_id="K", csrf="T", started_s=0, seen_s=0, checked_s=0)
    refusal = Bulk(id="b", action=ACTIONS["tag"], what=HOSTILE, back=HOSTILE, again=HOSTILE, failure=HOSTILE)
    refusal.refuse(HOSTILE, HOSTILE)
    session.bulks["b"] = refusal
    context: Any = SimpleNamespace(client=client, account_id="1", region="r")
    return Visit(
        path="/console/x", names=names, query=QueryParams(query), form=QueryParams(), session=session, client=client,
        context=context, clock=Clock(style="utc", zone=UTC, now_ms=1), address="http://a",
        hub=context, samples=context, since="", last_event="", is_signed_in=context,
    )  # fmt: skip


ARRAY = {"array": {"size": 2, "status_summary": {"FAILED": 1, "RUNNING": 1}}}


@pytest.mark.parametrize(
    ("handler", "query", "names", "made"),
    [
        (jobs.show, [(name, HOSTILE) for name in ("queue", "name", "definition", "share", "tag", "host", "page", "newer")], {}, {}),
        (jobs.show, [(name, HOSTILE) for name in ("state", "from", "to", "size", "left", "ids")], {}, {}),
        (jobs.show, [("part", "rows"), ("ids", "a b")], {}, {}),
        (job.show, (), {"id": HOSTILE}, {}),
        (job.show, (), {"id": HOSTILE}, {"state": "RUNNABLE"}),
        (job.show, (), {"id": HOSTILE}, ARRAY),
        (children.show, [("state", "FAILED"), ("state", HOSTILE), ("size", HOSTILE)], {"array": HOSTILE}, ARRAY),
        (children.show, [("index", HOSTILE)], {"array": HOSTILE}, ARRAY),
        (many.show, [("action", "terminate"), ("id", HOSTILE), ("back", f"/console/{HOSTILE}")], {}, {"state": "RUNNING"}),
        (many.show, [("action", "tag"), ("which", "all"), ("name", HOSTILE), ("key", HOSTILE)], {}, {}),
        (many.show, [("action", HOSTILE), ("id", HOSTILE), ("back", f"/console/{HOSTILE}")], {}, {}),
        (many.progress, (), {"bulk": "b"}, {}),
    ],
)  # fmt: skip
def test_hostile_texts_come_out_as_text(
    handler: Callable[[Visit], Coroutine[Any, Any, Answer]], query: Any, names: dict[str, str], made: dict[str, Any]
) -> None:
    here = visit(Answers(full_job(**made)), query, names)
    page = asyncio.run(handler(here))
    assert isinstance(page, Page)
    renderer = Renderer(assets.load(), {"version": "0", "yard": "r", "styles": ("utc",)})
    text = renderer.render(page, here, dict(query).get("part", ""))
    assert "<script>x" not in text
    assert HOSTILE not in text
    assert "&lt;script&gt;x()&lt;/script&gt;" in text or "%3Cscript%3Ex" in text or dict(query).get("part")
