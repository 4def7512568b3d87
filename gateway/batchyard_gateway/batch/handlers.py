"""
Handlers: one short function for each operation; translate, call, translate back.

All rules are in the modules of their nouns; nothing is decided here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from batchyard import errors as sdk_errors
from batchyard.arns import Account
from batchyard.v1 import compute_environment_pb2 as environment_pb
from batchyard.v1 import job_definition_pb2 as definition_pb
from batchyard.v1 import job_queue_pb2 as queue_pb
from batchyard.v1 import tag_pb2
from batchyard_gateway.errors import ClientException
from batchyard_gateway.services import Context, Members

from . import definitions, environments, jobs, listing, queues, rules, submissions
from .names import DEFINITION, ENVIRONMENT, JOB, QUEUE, Names, is_job, name_of, tagged


def names_of(context: Context) -> Names:
    """Return what makes ARNs for a request."""
    return Names(Account(region=context.region, account_id=context.account_id))


def next_page(token: str) -> Members:
    """Return the member that says how to go on; nothing at the end."""
    return {"nextToken": token} if token else {}


# Compute environments -----------------------------------------------------------


def _environment_id(context: Context, name: str) -> Members:
    arn = names_of(context).arn(ENVIRONMENT, name)
    return {"computeEnvironmentName": name, "computeEnvironmentArn": arn}


async def create_compute_environment(context: Context, members: Members) -> Members:
    """Create a compute environment."""
    environments.check_new(members)
    await context.client.calls.create_compute_environment(context.amended(environments.creation(members)))
    return _environment_id(context, members["computeEnvironmentName"])


async def update_compute_environment(context: Context, members: Members) -> Members:
    """Change a compute environment."""
    name = name_of(ENVIRONMENT, members["computeEnvironment"])
    found = await context.client.describe_compute_environments([name])
    if not found:
        raise ClientException(f"{names_of(context).arn(ENVIRONMENT, name)} does not exist")
    environments.check_change(members, found[0])
    await context.client.calls.update_compute_environment(context.amended(environments.change(members, found[0])))
    return _environment_id(context, name)


async def delete_compute_environment(context: Context, members: Members) -> Members:
    """Delete a compute environment."""
    await context.client.delete_compute_environment(name_of(ENVIRONMENT, members["computeEnvironment"]))
    return {}


async def describe_compute_environments(context: Context, members: Members) -> Members:
    """Describe some compute environments, or a page of all."""
    size = rules.page_size(members)
    token = ""
    if asked := members.get("computeEnvironments"):
        rules.check_describe("compute environments", asked)
        found: Sequence[environment_pb.ComputeEnvironment] = await context.client.describe_compute_environments(
            _distinct(ENVIRONMENT, asked)
        )
    else:
        request = environment_pb.ListComputeEnvironmentsRequest(page_size=size, page_token=members.get("nextToken", ""))
        page = await context.client.calls.list_compute_environments(request)
        found, token = page.compute_environments, page.next_page_token
    names = names_of(context)
    return {"computeEnvironments": [environments.members_of(each, names) for each in found], **next_page(token)}


# Job queues -----------------------------------------------------------------------


def _queue_id(context: Context, name: str) -> Members:
    return {"jobQueueName": name, "jobQueueArn": names_of(context).arn(QUEUE, name)}


async def create_job_queue(context: Context, members: Members) -> Members:
    """Create a job queue."""
    queues.check_new(members)
    await _check_orchestration(context, members)
    await context.client.calls.create_job_queue(context.amended(queues.creation(members)))
    return _queue_id(context, members["jobQueueName"])


async def _check_orchestration(context: Context, members: Members) -> None:
    if names := queues.environment_names(members):
        queues.check_orchestration(members, await context.client.describe_compute_environments(names))


async def update_job_queue(context: Context, members: Members) -> Members:
    """Change a job queue."""
    queues.check_change(members)
    await _check_orchestration(context, members)
    request = context.amended(queues.change(members))
    await context.client.calls.update_job_queue(request)
    return _queue_id(context, request.name)


async def delete_job_queue(context: Context, members: Members) -> Members:
    """Delete a job queue."""
    await context.client.delete_job_queue(name_of(QUEUE, members["jobQueue"]))
    return {}


async def get_job_queue_snapshot(context: Context, members: Members) -> Members:
    """Tell who is served first in a queue, and what its jobs hold."""
    found = await context.client.get_job_queue_snapshot(name_of(QUEUE, members["jobQueue"]))
    return queues.snapshot(found, names_of(context))


async def describe_job_queues(context: Context, members: Members) -> Members:
    """Describe some job queues, or a page of all."""
    size = rules.page_size(members)
    token = ""
    if asked := members.get("jobQueues"):
        rules.check_describe("job queues", asked)
        found: Sequence[queue_pb.JobQueue] = await context.client.describe_job_queues(_distinct(QUEUE, asked))
    else:
        request = queue_pb.ListJobQueuesRequest(page_size=size, page_token=members.get("nextToken", ""))
        page = await context.client.calls.list_job_queues(request)
        found, token = page.job_queues, page.next_page_token
    names = names_of(context)
    return {"jobQueues": [queues.members_of(each, names) for each in found], **next_page(token)}


# Job definitions ------------------------------------------------------------------


async def register_job_definition(context: Context, members: Members) -> Members:
    """Register a revision of a job definition."""
    definitions.check(members)
    answer = await context.client.calls.register_job_definition(definitions.registration(members))
    name, revision = answer.job_definition.name, answer.job_definition.revision
    arn = names_of(context).arn(DEFINITION, f"{name}:{revision}")
    return {"jobDefinitionName": name, "jobDefinitionArn": arn, "revision": revision}


async def deregister_job_definition(context: Context, members: Members) -> Members:
    """Make a revision of a job definition INACTIVE."""
    await context.client.deregister_job_definition(name_of(DEFINITION, members["jobDefinition"]))
    return {}


async def describe_job_definitions(context: Context, members: Members) -> Members:
    """Describe some job definitions, or a page of all, of one name, or of one status."""
    size = rules.page_size(members)
    token = ""
    if asked := members.get("jobDefinitions"):
        rules.check_describe("job definitions", asked)
        if len(members) > 1:
            raise ClientException("jobDefinitions cannot be specified together with other parameters")
        found: Sequence[definition_pb.JobDefinition] = await context.client.describe_job_definitions(
            _distinct(DEFINITION, asked)
        )
    else:
        request = definitions.page_request(members)
        request.page_size = size
        page = await context.client.calls.list_job_definitions(request)
        found, token = page.job_definitions, page.next_page_token
    names = names_of(context)
    return {"jobDefinitions": [definitions.members_of(each, names) for each in found], **next_page(token)}


# Jobs -----------------------------------------------------------------------------


async def submit_job(context: Context, members: Members) -> Members:
    """Submit a job."""
    submissions.check(members)
    if submissions.needs_queue(members):
        for queue in await context.client.describe_job_queues([submissions.queue_name(members)]):
            submissions.check_against_queue(queue)
    task = await _check_against_definition(context, members) if submissions.needs_definition(members) else None
    request = submissions.submission(members, context, task)
    answer = await context.client.calls.submit_job(request, retry=True)
    return {"jobArn": names_of(context).arn(JOB, answer.job_id), "jobName": answer.name, "jobId": answer.job_id}


async def _check_against_definition(context: Context, members: Members) -> definition_pb.TaskProperties | None:
    """
    Check overrides against the revision that the job will get; without one, the submission is refused anyway.

    Returns:
        Its task if it has several containers, or is a pod.
    """
    for definition in await context.client.describe_job_definitions([submissions.definition_name(members)]):
        if definition.status == definition_pb.JOB_DEFINITION_STATUS_ACTIVE:
            submissions.check_against_definition(members, definition)
            return definition.task if definition.HasField("task") else None
    return None


async def describe_jobs(context: Context, members: Members) -> Members:
    """Describe jobs; unknown ones are left out."""
    rules.check_describe("jobs", members["jobs"])
    if not members["jobs"]:
        return {"jobs": []}
    found = await context.client.describe_jobs(_distinct(JOB, members["jobs"]))
    names = names_of(context)
    return {"jobs": [jobs.members_of(job, names) for job in found]}


async def list_jobs(context: Context, members: Members) -> Members:
    """List a page of a queue's jobs or of an array's children."""
    page = await context.client.calls.list_jobs(listing.request(members))
    names = names_of(context)
    return {"jobSummaryList": [jobs.summary_of(job, names) for job in page.jobs], **next_page(page.next_page_token)}


async def cancel_job(context: Context, members: Members) -> Members:
    """Cancel a job that has not started."""
    rules.check_reason(members)
    await _stop(context.client.cancel_job, members["jobId"], members["reason"])
    return {}


async def terminate_job(context: Context, members: Members) -> Members:
    """Stop a job in whatever state it is."""
    rules.check_reason(members)
    await _stop(context.client.terminate_job, members["jobId"], members["reason"])
    return {}


async def cancel_jobs(context: Context, members: Members) -> Members:
    """Cancel many jobs, each with its own result."""
    return await _stop_all(context.client.cancel_job, members)


async def terminate_jobs(context: Context, members: Members) -> Members:
    """Stop many jobs, each with its own result."""
    return await _stop_all(context.client.terminate_job, members)


_Stop = Callable[[str, str], Awaitable[None]]


async def _stop(stop: _Stop, job: str, reason: str) -> None:
    """Stop one job; one that is not there needs no stopping."""
    with contextlib.suppress(sdk_errors.NotFoundError):
        await stop(name_of(JOB, job), reason)


async def _stop_all(stop: _Stop, members: Members) -> Members:
    rules.check_reason(members)
    asked: list[str] = list(dict.fromkeys(members["jobs"]))
    if len(asked) > rules.STOP_MAX:
        raise ClientException(f"Maximum number of jobs supported is {rules.STOP_MAX}")
    ends = await asyncio.gather(*(_stop_result(stop, job, members["reason"]) for job in asked))
    results = list(zip(asked, ends, strict=True))
    return {
        "successful": [job for job, error in results if error is None],
        "errors": [{"job": job, **error} for job, error in results if error is not None],
    }


async def _stop_result(stop: _Stop, job: str, reason: str) -> dict[str, str] | None:
    """Stop one of many jobs and return what went wrong, if anything."""
    if not is_job(job):
        return {"code": "ValidationException", "message": f"{job[:100]} is not the id of a job"}
    try:
        await _stop(stop, job, reason)
    except sdk_errors.InvalidArgumentError as err:
        return {"code": "ValidationException", "message": str(err)}
    except sdk_errors.RequestError as err:
        return {"code": "ClientException", "message": str(err)}
    except sdk_errors.WorldError as err:
        return {"code": "ServerException", "message": str(err)}
    return None


# Tags -----------------------------------------------------------------------------


async def list_tags(context: Context, members: Members) -> Members:
    """List the tags of a resource."""
    kind, name = tagged(members["resourceArn"])
    answer = await context.client.calls.list_tags(tag_pb2.ListTagsRequest(kind=kind, name=name))
    return {"tags": dict(sorted(answer.tags.items()))}


async def tag_resource(context: Context, members: Members) -> Members:
    """Add tags to a resource."""
    kind, name = tagged(members["resourceArn"])
    await context.client.calls.tag_resource(tag_pb2.TagResourceRequest(kind=kind, name=name, tags=members["tags"]))
    return {}


async def untag_resource(context: Context, members: Members) -> Members:
    """Remove tags from a resource."""
    kind, name = tagged(members["resourceArn"])
    request = tag_pb2.UntagResourceRequest(kind=kind, name=name, keys=members["tagKeys"])
    await context.client.calls.untag_resource(request)
    return {}


def _distinct(kind: str, texts: Sequence[Any]) -> list[str]:
    return list(dict.fromkeys(name_of(kind, text) for text in texts))
