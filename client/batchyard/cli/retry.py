"""The command ``retry``: what has failed is submitted again, as new jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from batchyard.array_values import numbers_text
from batchyard.cli import job_ids as ids
from batchyard.cli import options, stops
from batchyard.cli import output as out
from batchyard.states import JobState

if TYPE_CHECKING:
    from batchyard.sync import Client
    from batchyard.v1.job_pb2 import Job, SubmitJobRequest

RETRY_OF = "batchyard/retry-of"
"""Annotation of a job that was submitted again: the id of the one before."""

_TAKEN = (
    *("name", "queue", "timeout_s", "fence_s", "share_identifier", "propagate_tags", "tags", "annotations"),
    *("consumables", "retry_strategy", "scheduling_priority", "container", "task", "nodes"),
)
"""Fields that a job and its submission have alike; parameters are in its command already."""


@click.command(short_help="Submit jobs, or the failed children of arrays, again.")
@stops.chosen
@click.option("--failed", is_flag=True, help="Of an array, its failed children alone.")
@options.shared
@options.session
def retry(session: options.Session, /, job_ids: tuple[str, ...], failed: bool, **flags: Any) -> None:
    """
    Submit jobs that have ended again, as new jobs with what they were submitted with.

    JOBs are ids; or flags say which are meant, of those that have FAILED. Of an array
    --failed takes its failed children: a new array whose children have their numbers and
    items. What has ended stays as it is. Writes the new ids.
    """
    with session.client() as client:
        meant = stops.jobs_meant(client, job_ids, flags, [JobState.FAILED], "Submit again")
        for job_id in meant:
            job = client.describe_job(job_id)
            answer = client.run(
                client.client.calls.submit_job(_request(client, job, is_failed_only=failed), retry=True)
            )
            ids.remember(answer.job_id)
            out.show_names([answer.job_id])


def _request(client: Client, job: Job, *, is_failed_only: bool) -> SubmitJobRequest:
    """
    Return the submission of a job that is as another was.

    Raises:
        click.UsageError: it is a child or node, has not ended, or none of its children has failed.
    """
    from batchyard import wording
    from batchyard.job_calls import new_request_id
    from batchyard.v1.job_pb2 import SubmitJobRequest

    if job.array.HasField("index") or job.node.HasField("index"):
        parent = job.id.partition(":")[0].partition("#")[0]
        raise click.UsageError(f"{job.id} is one of several; those of {parent} that failed: retry --failed {parent}")
    if not wording.job_state(job).is_final:
        raise click.UsageError(f"{job.id} is {wording.job_state(job)}: it has not ended")
    request = SubmitJobRequest(request_id=new_request_id())
    for field, value in job.ListFields():
        if field.name in _TAKEN:
            _put(request, field, value)
    request.annotations[RETRY_OF] = job.id
    if job.array.size:
        _put_children(client, request, job, is_failed_only=is_failed_only)
    elif is_failed_only and wording.job_state(job) is JobState.SUCCEEDED:
        raise click.UsageError(f"{job.id} has not failed")
    return request


def _put(request: Any, field: Any, value: Any) -> None:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        getattr(request, field.name).update(value)
    elif field.message_type is not None:
        getattr(request, field.name).CopyFrom(value)
    else:
        setattr(request, field.name, value)


def _put_children(client: Client, request: SubmitJobRequest, job: Job, *, is_failed_only: bool) -> None:
    request.array_size, request.array_concurrency = job.array.size, job.array.concurrency
    if job.array.HasField("max_fails"):
        request.array_max_fails = job.array.max_fails
    if job.array.HasField("values"):
        request.array_values.CopyFrom(job.array.values)
    if is_failed_only:
        numbers = _failed(client, job.id)
        if not numbers:
            raise click.UsageError(f"none of the {job.array.size} children of {job.id} has failed")
        request.array_values.numbers = numbers_text(numbers)
        request.array_size = len(numbers)


def _failed(client: Client, job_id: str) -> list[int]:
    listed = client.list_jobs(array_job_id=job_id, states=[JobState.FAILED], page_size=1000)
    return [child.array.number if child.array.HasField("number") else child.array.index for child in listed]
