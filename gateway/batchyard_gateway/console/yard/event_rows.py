"""
Event rows: what the page of events shows of each.

Pure: events of the contract in, records for a template out.
"""

from __future__ import annotations

from dataclasses import dataclass

from batchyard import wording
from batchyard.v1 import event_pb2 as pb
from batchyard.v1 import job_pb2
from batchyard_gateway.console.hosts.host_view import path_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """
    An event.

    Attributes:
        job_id: Of a job, a child or a node; of children that moved together, of the first.
        more: How many children moved beside that one.
        host: What a host is called, of which it is or on which an attempt was; empty: of none.
        host_path: Of that one's page, below ``hosts/``.
        queue: Of a job or a blocked queue.
        before: State of a job before; empty of anything else, and of one that was submitted.
        after: Its state then.
        what: What happened, as one word.
        why: The same in words, with all that is known of it.
    """

    at_ms: int
    job_id: str
    more: int
    host: str
    host_path: str
    queue: str
    before: str
    after: str
    what: str
    why: str


def row_of(event: pb.Event) -> Row:
    """Return what is shown of an event."""
    host = event.host_name or event.host_id
    return Row(
        at_ms=event.at_ms,
        job_id=event.job_id,
        more=max(0, event.children - 1),
        host=host,
        host_path=path_of(event.host_name, event.host_id) if host else "",
        queue=event.queue,
        before=wording.word(job_pb2.JobState, event.previous_state),
        after=wording.word(job_pb2.JobState, event.state),
        what=event.what.replace("_", " ").capitalize(),
        why=event.text,
    )
