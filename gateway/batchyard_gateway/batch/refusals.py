"""
Refusals: the SDK's errors in AWS's words, by their reasons.

What the tables do not list is told as it is: most texts of the controller are AWS's own
already. Law: no text of an error is looked into.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from batchyard import errors
from batchyard.errors import Reason
from batchyard_gateway.errors import ApiError, ClientException, ExecutionException
from batchyard_gateway.refused import refused

from .names import CONSUMABLE, ENVIRONMENT, POLICY, QUEUE, Names

ANY = ""
"""Stands for every operation that has no row of its own."""

_EXISTS = "Object already exists"
_STILL_ENABLED = "Cannot delete, resource must be in the DISABLED state"
_NOT_THERE = "{arn} does not exist"
_NOT_YET_THERE = "compute environment {name!r} must be created and valid before attaching to a job queue"

TEXTS: Mapping[tuple[str, str], str] = {
    (Reason.COMPUTE_ENVIRONMENT_ENABLED, ANY): _STILL_ENABLED,
    (Reason.COMPUTE_ENVIRONMENT_EXISTS, ANY): _EXISTS,
    (Reason.COMPUTE_ENVIRONMENT_NOT_FOUND, "CreateJobQueue"): _NOT_YET_THERE,
    (Reason.COMPUTE_ENVIRONMENT_NOT_FOUND, "DeleteComputeEnvironment"): _NOT_THERE,
    (Reason.COMPUTE_ENVIRONMENT_NOT_FOUND, "UpdateComputeEnvironment"): _NOT_THERE,
    (Reason.COMPUTE_ENVIRONMENT_NOT_FOUND, "UpdateJobQueue"): _NOT_YET_THERE,
    (Reason.CONSUMABLE_RESOURCE_EXISTS, ANY): _EXISTS,
    (Reason.CONSUMABLE_RESOURCE_NOT_FOUND, ANY): _NOT_THERE,
    (Reason.DEPENDENCY_NOT_FOUND, ANY): "Job {job_id} not found",
    (Reason.JOB_QUEUE_ENABLED, ANY): _STILL_ENABLED,
    (Reason.JOB_QUEUE_EXISTS, ANY): _EXISTS,
    (Reason.JOB_QUEUE_NOT_FOUND, "DeleteJobQueue"): _NOT_THERE,
    (Reason.JOB_QUEUE_NOT_FOUND, "GetJobQueueSnapshot"): _NOT_THERE,
    (Reason.JOB_QUEUE_NOT_FOUND, "ListJobs"): _NOT_THERE,
    (Reason.JOB_QUEUE_NOT_FOUND, "UpdateJobQueue"): _NOT_THERE,
    (Reason.QUOTA_SHARE_ENABLED, ANY): _STILL_ENABLED,
    (Reason.QUOTA_SHARE_EXISTS, ANY): _EXISTS,
    (Reason.SCHEDULING_POLICY_EXISTS, ANY): _EXISTS,
    (Reason.SCHEDULING_POLICY_NOT_FOUND, ANY): _NOT_THERE,
}
"""AWS's text for a reason in an operation; in braces an ARN, or values of the error's metadata."""

_ARN_KINDS: Mapping[str, str] = {
    Reason.COMPUTE_ENVIRONMENT_NOT_FOUND: ENVIRONMENT,
    Reason.CONSUMABLE_RESOURCE_NOT_FOUND: CONSUMABLE,
    Reason.JOB_QUEUE_NOT_FOUND: QUEUE,
    Reason.SCHEDULING_POLICY_NOT_FOUND: POLICY,
}
"""What the name in an error's metadata is a name of."""

_AWS_TEXTS = (
    Reason.OVERRIDES_TOO_LONG,
    Reason.PARAMETER_MISSING,
    Reason.NODE_TARGETS_DIFFER,
    Reason.NODE_NUMBER_FIXED,
    Reason.PLATFORM,
)
"""Reasons of violations whose texts are AWS's, so that no field's name stands before them."""

_MEMBERS = {
    "container": "containerProperties",
    "borrow_limit": "resourceSharingConfiguration.borrowLimit",
    "fairshare": "fairsharePolicy",
    "nodes": "nodeProperties",
    "overrides": "containerOverrides",
    "page_token": "nextToken",
    "timeout_s": "timeout",
}
"""Members whose names are not those of the contract's fields in AWS's spelling."""

_PREFIXES = {
    "task.pod.": "eksProperties.podProperties.",
    "task.init_containers": "eksProperties.podProperties.initContainers",
}
"""Members that only pods have."""

_LETTER = re.compile(r"_([a-z])")


def client_exception(operation: str, error: errors.RequestError, names: Names) -> ApiError:
    """
    Return the error that AWS's caller gets for an error of the SDK.

    Args:
        operation: Which was called.
        error: What the SDK said.
        names: Makes ARNs.
    """
    if (of_caller := refused(error)) is not None:
        return of_caller
    text = TEXTS.get((error.reason, operation)) or TEXTS.get((error.reason, ANY))
    if text is not None:
        kind = _ARN_KINDS.get(error.reason)
        arn = names.arn(kind, error.metadata["name"]) if kind is not None else ""
        return ClientException(text.format(arn=arn, **error.metadata))
    if isinstance(error, errors.InvalidArgumentError) and error.violations:
        return ExecutionException("; ".join(_told(each) for each in error.violations[:5]))
    return ClientException(str(error))


def _told(violation: errors.Violation) -> str:
    if violation.reason in _AWS_TEXTS:
        return violation.message
    outer, dot, inner = violation.field.partition(".")
    path = _MEMBERS.get(outer, outer) + dot + inner
    for prefix, member in _PREFIXES.items():
        if path.startswith(prefix):
            path = member + path.removeprefix(prefix)
    return f"{_LETTER.sub(lambda match: match[1].upper(), path)}: {violation.message}"
