"""
Bodies: events as AWS's EventBridge writes them.

Pure. A body's id follows from its place in the trail, so that one that is delivered again has the same. A job is told
as it was at the event's time, as far as what is kept of it now tells; one that is kept no longer by its id and state.

Source: AWS Batch User Guide, "AWS Batch events"; EventBridge User Guide, "AWS service event metadata".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from batchyard import wording
from batchyard.ids import named_uuid, split_job_id
from batchyard.v1 import event_pb2 as pb
from batchyard.v1 import job_pb2
from batchyard_gateway.batch.jobs import members_of
from batchyard_gateway.batch.names import JOB, QUEUE, Names

STATE_CHANGE = "Batch Job State Change"
QUEUE_BLOCKED = "Batch Job Queue Blocked"
HOST_CHANGE = "Batchyard Host State Change"
YARD_CHANGE = "Batchyard Yard Event"
EVENTS_LOST = "Batchyard Events Lost"
_AWS, _OWN = "aws.batch", "batchyard"
_BEFORE_RUNNING = frozenset(
    {
        job_pb2.JOB_STATE_SUBMITTED,
        job_pb2.JOB_STATE_PENDING,
        job_pb2.JOB_STATE_RUNNABLE,
        job_pb2.JOB_STATE_STARTING,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """
    One event as it is delivered.

    Attributes:
        id: The same at each delivery.
        cursor: Up to where all is delivered with it; empty: more of the same place follow it.
        about: What it is about: of one of these the order is kept.
        members: As EventBridge has them.
    """

    id: str
    cursor: str
    about: str
    members: Mapping[str, Any]

    def text(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps(self.members, separators=(",", ":"), ensure_ascii=False)


def job_ids(events: list[pb.Event]) -> list[str]:
    """Return the jobs and children of which events tell, each once."""
    found: dict[str, None] = {}
    for event in events:
        if event.subject == pb.SUBJECT_JOB:
            found.update(dict.fromkeys(_moved(event)))
        elif event.by_job_id:
            found[event.by_job_id] = None
    return list(found)


def bodies_of(event: pb.Event, jobs: Mapping[str, job_pb2.Job], names: Names) -> Iterator[Body]:
    """Yield what is delivered of one event: of children that moved together each by itself."""
    if event.subject != pb.SUBJECT_JOB:
        yield _of_notice(event, jobs, names)
        return
    moved = list(_moved(event))
    for number, job_id in enumerate(moved, start=1):
        detail = _detail(event, job_id, jobs.get(job_id), names)
        cursor = event.cursor if number == len(moved) else ""
        yield _body(event, cursor, job_id, STATE_CHANGE, _AWS, [names.arn(JOB, job_id)], detail, names)


def lost_body(lost_from: str, lost_to: str, at_ms: int, names: Names) -> Body:
    """Return what tells a sink that events were dropped before they were delivered."""
    event = pb.Event(cursor=lost_to, at_ms=at_ms)
    return _body(event, lost_to, "", EVENTS_LOST, _OWN, [], {"from": lost_from, "to": lost_to}, names)


def _moved(event: pb.Event) -> Iterator[str]:
    if event.children <= 1:
        yield event.job_id
        return
    job_id, index = split_job_id(event.job_id)
    first, mark = index or 0, event.job_id[len(job_id)]
    yield from (f"{job_id}{mark}{each}" for each in range(first, first + event.children))


def _detail(event: pb.Event, job_id: str, job: job_pb2.Job | None, names: Names) -> dict[str, Any]:
    if job is None:
        return {
            "jobArn": names.arn(JOB, job_id),
            "jobId": job_id,
            "status": wording.word(job_pb2.JobState, event.state),
        }
    return dict(members_of(at_the_time(job, event), names))


def at_the_time(job: job_pb2.Job, event: pb.Event) -> job_pb2.Job:
    """Return a job as it was at an event, as far as it can be told from how it is."""
    if job.state == event.state:
        return job
    then = job_pb2.Job()
    then.CopyFrom(job)
    then.state = event.state
    then.ClearField("stopped_at_ms")
    then.ClearField("status_reason")
    then.ClearField("waiting_reason")
    if event.state in _BEFORE_RUNNING:
        then.ClearField("started_at_ms")
    kept = [each for each in job.attempts if each.stopped_at_ms and each.stopped_at_ms <= event.at_ms]
    del then.attempts[:]
    then.attempts.extend(kept)
    return then


def _of_notice(event: pb.Event, jobs: Mapping[str, job_pb2.Job], names: Names) -> Body:
    about = event.host_id or event.queue
    if event.subject == pb.SUBJECT_QUEUE:
        job = jobs.get(event.by_job_id)
        detail = dict(members_of(job, names)) if job is not None else {"jobId": event.by_job_id}
        detail |= {"jobQueue": names.arn(QUEUE, event.queue), "statusReason": event.words}
        resources = [names.arn(JOB, event.by_job_id)]
        return _body(event, event.cursor, about, QUEUE_BLOCKED, _AWS, resources, detail, names)
    detail = {"what": event.what, "text": event.text}
    if event.host_id:
        detail |= {"hostId": event.host_id, "host": event.host_name}
    kind = HOST_CHANGE if event.host_id else YARD_CHANGE
    return _body(event, event.cursor, about, kind, _OWN, [], detail, names)


def _body(
    event: pb.Event,
    cursor: str,
    about: str,
    kind: str,
    source: str,
    resources: list[str],
    detail: Mapping[str, Any],
    names: Names,
) -> Body:
    place = event.cursor.rpartition("-")[0]
    body_id = named_uuid(f"event/{kind}/{place}/{about}")
    at = datetime.fromtimestamp(event.at_ms // 1000, UTC)
    return Body(
        id=body_id,
        cursor=cursor,
        about=split_job_id(about)[0] if kind == STATE_CHANGE else about,
        members={
            "version": "0",
            "id": body_id,
            "detail-type": kind,
            "source": source,
            "account": names.account.account_id,
            "time": f"{at:%Y-%m-%dT%H:%M:%SZ}",
            "region": names.account.region,
            "resources": resources,
            "detail": detail,
        },
    )
