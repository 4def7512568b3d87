"""
Operations: the table of all that AWS Batch offers, and what becomes of each here.

To add one: its shape in `members`, a translation in its noun's module, a handler and a
row here, and a test; then take its name out of those that are not offered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from batchyard import errors as sdk_errors
from batchyard_gateway.errors import ClientException
from batchyard_gateway.protocols import RestJson
from batchyard_gateway.services import Context, Handler, Members, Operation, Service

from . import handlers, members, sharing
from .refusals import client_exception
from .shapes import Structure


@dataclass(frozen=True, slots=True)
class Row:
    """
    An operation that is offered.

    Attributes:
        takes: Shape of its input.
        handler: Gets an input of that shape.
        is_change: It changes something.
    """

    takes: Structure
    handler: Handler
    is_change: bool = True


OFFERED: Mapping[str, Row] = {
    "CancelJob": Row(members.STOP_JOB, handlers.cancel_job),
    "CancelJobs": Row(members.STOP_JOBS, handlers.cancel_jobs),
    "CreateComputeEnvironment": Row(members.CREATE_COMPUTE_ENVIRONMENT, handlers.create_compute_environment),
    "CreateConsumableResource": Row(members.CREATE_CONSUMABLE_RESOURCE, sharing.create_consumable_resource),
    "CreateJobQueue": Row(members.CREATE_JOB_QUEUE, handlers.create_job_queue),
    "CreateQuotaShare": Row(members.CREATE_QUOTA_SHARE, sharing.create_quota_share),
    "CreateSchedulingPolicy": Row(members.CREATE_SCHEDULING_POLICY, sharing.create_scheduling_policy),
    "DeleteComputeEnvironment": Row(members.DELETE_COMPUTE_ENVIRONMENT, handlers.delete_compute_environment),
    "DeleteConsumableResource": Row(members.DELETE_CONSUMABLE_RESOURCE, sharing.delete_consumable_resource),
    "DeleteJobQueue": Row(members.DELETE_JOB_QUEUE, handlers.delete_job_queue),
    "DeleteQuotaShare": Row(members.DELETE_QUOTA_SHARE, sharing.delete_quota_share),
    "DeleteSchedulingPolicy": Row(members.DELETE_SCHEDULING_POLICY, sharing.delete_scheduling_policy),
    "DeregisterJobDefinition": Row(members.DEREGISTER_JOB_DEFINITION, handlers.deregister_job_definition),
    "DescribeComputeEnvironments": Row(
        members.DESCRIBE_COMPUTE_ENVIRONMENTS, handlers.describe_compute_environments, is_change=False
    ),
    "DescribeConsumableResource": Row(
        members.DESCRIBE_CONSUMABLE_RESOURCE, sharing.describe_consumable_resource, is_change=False
    ),
    "DescribeJobDefinitions": Row(members.DESCRIBE_JOB_DEFINITIONS, handlers.describe_job_definitions, is_change=False),
    "DescribeJobQueues": Row(members.DESCRIBE_JOB_QUEUES, handlers.describe_job_queues, is_change=False),
    "DescribeJobs": Row(members.DESCRIBE_JOBS, handlers.describe_jobs, is_change=False),
    "DescribeQuotaShare": Row(members.DESCRIBE_QUOTA_SHARE, sharing.describe_quota_share, is_change=False),
    "DescribeSchedulingPolicies": Row(
        members.DESCRIBE_SCHEDULING_POLICIES, sharing.describe_scheduling_policies, is_change=False
    ),
    "GetJobQueueSnapshot": Row(members.GET_JOB_QUEUE_SNAPSHOT, handlers.get_job_queue_snapshot, is_change=False),
    "ListConsumableResources": Row(
        members.LIST_CONSUMABLE_RESOURCES, sharing.list_consumable_resources, is_change=False
    ),
    "ListJobs": Row(members.LIST_JOBS, handlers.list_jobs, is_change=False),
    "ListJobsByConsumableResource": Row(
        members.LIST_JOBS_BY_CONSUMABLE_RESOURCE, sharing.list_jobs_by_consumable_resource, is_change=False
    ),
    "ListQuotaShares": Row(members.LIST_QUOTA_SHARES, sharing.list_quota_shares, is_change=False),
    "ListSchedulingPolicies": Row(members.LIST_SCHEDULING_POLICIES, sharing.list_scheduling_policies, is_change=False),
    "ListTagsForResource": Row(members.LIST_TAGS, handlers.list_tags, is_change=False),
    "RegisterJobDefinition": Row(members.REGISTER_JOB_DEFINITION, handlers.register_job_definition),
    "SubmitJob": Row(members.SUBMIT_JOB, handlers.submit_job),
    "TagResource": Row(members.TAG_RESOURCE, handlers.tag_resource),
    "TerminateJob": Row(members.STOP_JOB, handlers.terminate_job),
    "TerminateJobs": Row(members.STOP_JOBS, handlers.terminate_jobs),
    "UntagResource": Row(members.UNTAG_RESOURCE, handlers.untag_resource),
    "UpdateComputeEnvironment": Row(members.UPDATE_COMPUTE_ENVIRONMENT, handlers.update_compute_environment),
    "UpdateConsumableResource": Row(members.UPDATE_CONSUMABLE_RESOURCE, sharing.update_consumable_resource),
    "UpdateJobQueue": Row(members.UPDATE_JOB_QUEUE, handlers.update_job_queue),
    "UpdateQuotaShare": Row(members.UPDATE_QUOTA_SHARE, sharing.update_quota_share),
    "UpdateSchedulingPolicy": Row(members.UPDATE_SCHEDULING_POLICY, sharing.update_scheduling_policy),
}

NEVER = (
    "CreateServiceEnvironment",
    "DeleteServiceEnvironment",
    "DescribeServiceEnvironments",
    "DescribeServiceJob",
    "ListServiceJobs",
    "SubmitServiceJob",
    "TerminateServiceJob",
    "TerminateServiceJobs",
    "UpdateServiceEnvironment",
    "UpdateServiceJob",
)
"""Those that only queue jobs of Amazon SageMaker."""

_TAGS_PATH = "/v1/tags/{resourceArn}"
_REST: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "ListTagsForResource": ("GET", ()),
    "TagResource": ("POST", ()),
    "UntagResource": ("DELETE", ("tagKeys",)),
}
"""Methods and query members of the operations that are not a POST to their own name."""


def _operation(name: str, handler: Handler, *, is_change: bool) -> Operation:
    if name not in _REST:
        return Operation(name=name, handler=handler, is_change=is_change, path=f"/v1/{name.lower()}")
    method, query = _REST[name]
    return Operation(name=name, handler=handler, is_change=is_change, method=method, path=_TAGS_PATH, query=query)


def _offered(name: str, row: Row) -> Operation:
    async def handle(context: Context, given: Members) -> Members:
        checked = row.takes.check(given, "")
        try:
            return await row.handler(context, checked)
        except sdk_errors.RequestError as err:
            raise client_exception(name, err, handlers.names_of(context)) from err

    return _operation(name, handle, is_change=row.is_change)


def _refused(name: str, why: str) -> Operation:
    async def handle(context: Context, given: Members) -> Members:
        raise ClientException(f"{name} {why}")

    return _operation(name, handle, is_change=False)


SERVICE = Service(
    name="batch",
    protocol=RestJson(),
    operations={
        operation.name: operation
        for operation in (
            *(_offered(name, row) for name, row in OFFERED.items()),
            *(_refused(name, "is for Amazon SageMaker and not offered by Batchyard") for name in NEVER),
        )
    },
)
