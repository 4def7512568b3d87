"""
Refusals: the SDK's errors in AWS's words.

What the tables do not list is told as it is: most texts of the controller are AWS's own
already.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from batchyard import errors
from batchyard_gateway.errors import ClientException, ExecutionException
from batchyard_gateway.services import Members

from .names import ENVIRONMENT, QUEUE, Names, name_of

_SUBJECTS: Mapping[str, tuple[str, str]] = {
    "DeleteComputeEnvironment": ("computeEnvironment", ENVIRONMENT),
    "DeleteJobQueue": ("jobQueue", QUEUE),
    "ListJobs": ("jobQueue", QUEUE),
    "UpdateComputeEnvironment": ("computeEnvironment", ENVIRONMENT),
    "UpdateJobQueue": ("jobQueue", QUEUE),
}
"""The member that names what an operation is about, and its kind."""

_MEMBERS = {
    "container": "containerProperties",
    "overrides": "containerOverrides",
    "page_token": "nextToken",
    "timeout_s": "timeout",
}
"""Members whose names are not those of the contract's fields in AWS's spelling."""

_LETTER = re.compile(r"_([a-z])")

_DEPENDENCY = "depends_on: job"
_EXISTS = "Object already exists"
_STILL_ENABLED = "Cannot delete, resource must be in the DISABLED state"
_NOT_YET_THERE = "must be created and valid before attaching to a job queue"

_AWS_TEXTS = (
    "Unable to substitute value.",
    "Job cannot have more than",
    "Container Overrides length",
)
"""Beginnings of texts of the controller that are AWS's, so that no field's name stands before them."""


def client_exception(operation: str, error: errors.RequestError, members: Members, names: Names) -> ClientException:
    """
    Return the error that AWS's caller gets for an error of the SDK.

    Args:
        operation: Which was called.
        error: What the SDK said.
        members: The operation's input.
        names: Makes ARNs.
    """
    text = str(error)
    match error:
        case errors.AlreadyExistsError():
            return ClientException(_EXISTS)
        case errors.NotFoundError() if operation.endswith("JobQueue") and text.startswith("compute environment"):
            return ClientException(f"{text.removesuffix(' not found')} {_NOT_YET_THERE}")
        case errors.NotFoundError() if text.startswith(_DEPENDENCY):
            return ClientException("Job" + text.removeprefix(_DEPENDENCY))
        case errors.NotFoundError() if operation in _SUBJECTS and _SUBJECTS[operation][0] in members:
            member, kind = _SUBJECTS[operation]
            return ClientException(f"{names.arn(kind, name_of(kind, members[member]))} does not exist")
        case errors.FailedPreconditionError() if operation.startswith("Delete") and "ENABLED" in text:
            return ClientException(_STILL_ENABLED)
        case errors.InvalidArgumentError(violations=violations) if violations:
            return ExecutionException("; ".join(_told(each) for each in violations[:5]))
        case _:
            return ClientException(text)


def _told(violation: errors.Violation) -> str:
    if violation.message.startswith(_AWS_TEXTS):
        return violation.message
    outer, dot, inner = violation.field.partition(".")
    path = _MEMBERS.get(outer, outer) + dot + inner
    return f"{_LETTER.sub(lambda match: match[1].upper(), path)}: {violation.message}"
