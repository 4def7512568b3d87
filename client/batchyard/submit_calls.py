"""
Calls that submit many jobs over one stream.

Law: every job has a request id, so that what was not answered when a connection
broke can be sent again, and is not a second job.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing

from batchyard import arguments
from batchyard.calls import Caller
from batchyard.errors import RequestError
from batchyard.job_calls import new_request_id
from batchyard.rpc_errors import error_from_refusal
from batchyard.v1 import job_pb2 as pb

JOBS_PER_MESSAGE = 500
MESSAGE_BYTES = 1 << 20
"""A message takes no further job once it is so long; a controller takes 4 MiB."""


class SubmitCalls(Caller):
    """The part of the client that is about many jobs at once."""

    async def submit_jobs(self, jobs: Iterable[pb.SubmitJobRequest]) -> AsyncGenerator[pb.SubmitResult, None]:
        """
        Submit many jobs; iterate over what became of each, in the order of *jobs*.

        A job that is refused leaves the others be: its result has a ``refusal`` and no
        ``job``; `submit_error` makes an error of it. It goes on over a controller's
        restart, and no job is made twice.

        Args:
            jobs: Requests; one without a queue goes to ``default``, one without a
                request id is given one. What is no sequence is read some hundreds ahead,
                in another thread. A job may depend on an earlier one by ``request:<request id>``.

        Raises:
            InvalidArgumentError: an element is no ``SubmitJobRequest``.
            UnavailableError: the controller was away for ``retry_s``.
        """
        async with aclosing(self.calls.submit_jobs(_messages(jobs))) as answers:
            async for answer in answers:
                for result in answer.results:
                    yield result


def submit_error(result: pb.SubmitResult) -> RequestError | None:
    """Return the error that `submit_job` would have raised for a job of many; None if it was taken."""
    return error_from_refusal(result.refusal) if result.HasField("refusal") else None


async def _messages(jobs: Iterable[pb.SubmitJobRequest]) -> AsyncGenerator[pb.SubmitJobsRequest, None]:
    numbered = enumerate(arguments.iterable("jobs", jobs))
    is_ready = isinstance(jobs, Sequence)
    # Not in the loop, which other calls share: whoever makes the jobs may take its time. What is
    # made needs no thread; at the end of a program there are none to be had.
    while (message := _fill(numbered) if is_ready else await asyncio.to_thread(_fill, numbered)).jobs:
        yield message


def _fill(numbered: Iterator[tuple[int, object]]) -> pb.SubmitJobsRequest:
    """Take as many jobs as fit a message."""
    message = pb.SubmitJobsRequest()
    size = 0
    for number, given in numbered:
        job = message.jobs.add()
        job.CopyFrom(arguments.message(f"jobs[{number}]", given, pb.SubmitJobRequest))
        job.queue = job.queue or "default"
        job.request_id = job.request_id or new_request_id()
        size += job.ByteSize()
        if len(message.jobs) >= JOBS_PER_MESSAGE or size >= MESSAGE_BYTES:
            break
    return message
