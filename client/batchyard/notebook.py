"""
Notebook: jobs, queues and hosts as tables where a notebook shows what a cell comes to.

    %load_ext batchyard.notebook
    yard.describe_job(job_id)        # one
    table(yard.list_jobs())          # many

Its law: what jobs and strangers wrote is text, and never markup.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from google.protobuf.message import Message

from batchyard import wording
from batchyard.v1.compute_environment_pb2 import ResourceState
from batchyard.v1.host_pb2 import Host, HostState
from batchyard.v1.job_pb2 import Job, JobSummary
from batchyard.v1.job_queue_pb2 import JobQueue

ROWS_MAX = 1000

Cells = Callable[[Any], dict[str, object]]


def _job(job: Job | JobSummary) -> dict[str, object]:
    return {
        "job": job.id,
        "name": job.name,
        "queue": job.queue,
        "state": wording.job_state(job).value,
        "exit code": job.exit_code if job.HasField("exit_code") else "",
        "reason": job.status_reason,
    }


def _queue(queue: JobQueue) -> dict[str, object]:
    return {"queue": queue.name, "state": wording.word(ResourceState, queue.state), "priority": queue.priority}


def _host(host: Host) -> dict[str, object]:
    capacity = host.facts.capacity
    return {
        "host": host.facts.name,
        "state": wording.word(HostState, host.state),
        "vCPUs": capacity.cpu_millis / 1000,
        "memory MiB": capacity.memory_mib,
        "GPUs": capacity.gpu_millis / 1000,
        "attempts": host.attempts,
    }


_CELLS: dict[type[Message], Cells] = {Job: _job, JobSummary: _job, JobQueue: _queue, Host: _host}


@dataclass(frozen=True, slots=True)
class Table:
    """
    Messages of one kind, which a notebook shows as a table.

    Attributes:
        rows: The first ``ROWS_MAX`` of them.
        has_more: Whether there were more.
    """

    rows: tuple[Message, ...]
    has_more: bool = False

    def _repr_html_(self) -> str:
        cells = [_CELLS[type(row)](row) for row in self.rows]
        if not cells:
            return "<p>none</p>"
        head = "".join(f"<th>{html.escape(title)}</th>" for title in cells[0])
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row.values()) + "</tr>" for row in cells
        )
        more = f"<p>the first {len(cells)}</p>" if self.has_more else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def table(rows: Iterable[Message]) -> Table:
    """
    Return jobs, queues or hosts, as lists of the SDK yield them, as a table.

    Raises:
        TypeError: they are something else.
    """
    found = tuple(islice(rows, ROWS_MAX + 1))
    for row in found:
        if type(row) not in _CELLS:
            raise TypeError(f"a table is of jobs, queues or hosts, not of {type(row).__name__}")
    return Table(found[:ROWS_MAX], len(found) > ROWS_MAX)


def load_ipython_extension(ipython: Any) -> None:
    """Have IPython show jobs, queues and hosts so, and know `table` (``%load_ext batchyard.notebook``)."""
    formatter = ipython.display_formatter.formatters["text/html"]
    for kind in _CELLS:
        formatter.for_type(kind, lambda message: table([message])._repr_html_())
    ipython.push({"table": table})
