"""
Consumables: AWS's consumable resources to the contract's and back, and what jobs ask of them.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from batchyard import wording
from batchyard.v1 import consumable_resource_pb2 as pb
from batchyard.v1 import job_pb2
from batchyard_gateway.errors import ClientException, ExecutionException
from batchyard_gateway.services import Members

from . import rules
from .mapping import MAPPED, Row, Word, to_members, to_message
from .names import CONSUMABLE, DEFINITION, JOB, QUEUE, Names, name_of

NEEDS_MAX = 5


class _Needs:
    """What a job asks for, which AWS writes as a list of names and quantities."""

    def into(self, value: Sequence[Members]) -> dict[str, int]:
        """Return quantities by name."""
        return {name_of(CONSUMABLE, each["consumableResource"]): each["quantity"] for each in value}

    def out(self, value: Mapping[str, int]) -> list[Members]:
        """Return the list, in the order of its names."""
        return [{"consumableResource": name, "quantity": quantity} for name, quantity in sorted(value.items())]


_LIST = "consumableResourceList"
PROPERTIES = Row(f"consumableResourceProperties.{_LIST}", "consumables", _Needs())
OVERRIDE = Row(f"consumableResourcePropertiesOverride.{_LIST}", "consumables", _Needs())

_TYPE = Row("resourceType", "type", Word(pb.ConsumableResourceType))
_NAME = Row("consumableResourceName", "name", always=True)
_CREATED = (_NAME, _TYPE, Row("totalQuantity", "total"), Row("tags", "tags", MAPPED))
_LISTED = (
    _NAME,
    _TYPE,
    Row("totalQuantity", "total", always=True),
    Row("inUseQuantity", "in_use", always=True),
)
_SHOWN = (
    *_LISTED,
    Row("availableQuantity", "available", always=True),
    Row("createdAt", "created_at_ms"),
    Row("tags", "tags", MAPPED, always=True),
)
_CHANGED = (
    Row("operation", "operation", Word(pb.ConsumableResourceOperation)),
    Row("quantity", "quantity"),
    Row("clientToken", "request_id"),
)
_JOB = (
    Row("jobName", "name", always=True),
    Row("shareIdentifier", "share_identifier"),
    Row("jobStatus", "state", Word(job_pb2.JobState), always=True),
    Row("statusReason", "status_reason"),
    Row("startedAt", "started_at_ms"),
    Row("createdAt", "created_at_ms", always=True),
    PROPERTIES,
)

_TYPES = ("REPLENISHABLE", "NON_REPLENISHABLE")
_OPERATIONS = ("SET", "ADD", "REMOVE")
_NAME_FILTER = "CONSUMABLE_RESOURCE_NAME"
_JOB_FILTERS = ("JOB_STATUS", "JOB_NAME")


def check_needs(members: Members, outer: str) -> None:
    """
    Check what a definition or a submission asks for, in the member *outer*.

    Raises:
        ClientException: it breaks a rule of AWS's.
    """
    needs = members.get(outer, {}).get(_LIST, ())
    if len(needs) > NEEDS_MAX:
        raise ExecutionException(f"{_LIST} must have at most {NEEDS_MAX} entries, not {len(needs)}")
    for each in needs:
        if not each.get("consumableResource"):
            raise ExecutionException(f"{_LIST}: consumableResource is required")
        if each.get("quantity", 0) < 1:
            raise ExecutionException(f"{_LIST}: quantity must be at least 1, not {each.get('quantity', 0)}")
    names = [name_of(CONSUMABLE, each["consumableResource"]) for each in needs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ExecutionException(f"{_LIST}: {twice[0][:100]} is named {names.count(twice[0])} times")


def check_new(members: Members) -> None:
    """
    Check a new consumable resource.

    Raises:
        ClientException: it breaks a rule of AWS's.
    """
    rules.check_name("Consumable resource", members["consumableResourceName"])
    _check_word("resourceType", members.get("resourceType", _TYPES[0]), _TYPES)
    _check_quantity("totalQuantity", members.get("totalQuantity", 0))


def check_change(members: Members) -> None:
    """
    Check a change of a quantity.

    Raises:
        ClientException: it breaks a rule of AWS's.
    """
    for name in ("operation", "quantity"):
        if name not in members:
            raise ClientException(f"{name} is required")
    _check_word("operation", members["operation"], _OPERATIONS)
    _check_quantity("quantity", members["quantity"])


def _check_quantity(name: str, quantity: int) -> None:
    if quantity < 0:
        raise ExecutionException(f"{name} must be 0 or greater, not {quantity}")


def _check_word(name: str, value: str, words: tuple[str, ...]) -> None:
    if value not in words:
        raise ExecutionException(f"{name} '{value[:100]}' is not one of {', '.join(words)}")


def creation(members: Members) -> pb.CreateConsumableResourceRequest:
    """Return the contract's request for a new resource that was checked."""
    return to_message(_CREATED, pb.CreateConsumableResourceRequest, members)


def change(members: Members) -> pb.UpdateConsumableResourceRequest:
    """Return the contract's request for a change that was checked."""
    request = to_message(_CHANGED, pb.UpdateConsumableResourceRequest, members)
    request.name = name_of(CONSUMABLE, members["consumableResource"])
    return request


def page_request(members: Members) -> pb.ListConsumableResourcesRequest:
    """
    Return the contract's request for a page of resources.

    Raises:
        ClientException: a filter is none of AWS's.
    """
    filters = _filters(members, (_NAME_FILTER,))
    return pb.ListConsumableResourcesRequest(
        page_size=rules.page_size(members),
        page_token=members.get("nextToken", ""),
        name=_one(_NAME_FILTER, filters.get(_NAME_FILTER, [""])),
    )


def jobs_request(members: Members) -> job_pb2.ListJobsRequest:
    """
    Return the contract's request for a page of the jobs that ask for a resource.

    Raises:
        ClientException: a filter is none of AWS's.
    """
    filters = _filters(members, _JOB_FILTERS)
    statuses = filters.get("JOB_STATUS", [])
    for status in statuses:
        _check_word("Filter JOB_STATUS", status, rules.JOB_STATUSES)
    return job_pb2.ListJobsRequest(
        consumable=name_of(CONSUMABLE, members["consumableResource"]),
        states=[job_pb2.JobState.ValueType(wording.number(job_pb2.JobState, "", status)) for status in statuses],
        name=_one("JOB_NAME", filters.get("JOB_NAME", [""])),
        page_size=rules.page_size(members),
        page_token=members.get("nextToken", ""),
    )


def _filters(members: Members, names: tuple[str, ...]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for each in members.get("filters", ()):
        name, values = each.get("name", ""), each.get("values", [])
        _check_word("Filter", name, names)
        if name in found or not values or "" in values:
            raise ClientException(f"Filter {name} must be given once, with values")
        found[name] = values
    return found


def _one(name: str, values: list[str]) -> str:
    if len(values) != 1:
        raise ClientException(f"Filter {name} must have exactly one value, not {len(values)}")
    return values[0]


def identity(resource: pb.ConsumableResource, names: Names) -> Members:
    """Return AWS's members that name a resource."""
    return {
        "consumableResourceName": resource.name,
        "consumableResourceArn": names.arn(CONSUMABLE, resource.name),
    }


def members_of(resource: pb.ConsumableResource, names: Names) -> Members:
    """Return AWS's members of a resource."""
    return {**identity(resource, names), **to_members(_SHOWN, resource)}


def summaries_of(resources: Iterable[pb.ConsumableResource], names: Names) -> list[Members]:
    """Return AWS's members of resources in a list."""
    return [{**identity(each, names), **to_members(_LISTED, each)} for each in resources]


def job_of(job: job_pb2.JobSummary, resource: str, names: Names) -> Members:
    """Return AWS's members of a job that asks for a resource."""
    found: dict[str, Any] = {
        "jobArn": names.arn(JOB, job.id),
        "jobQueueArn": names.arn(QUEUE, job.queue),
        "quantity": job.consumables[resource],
        **to_members(_JOB, job),
    }
    if job.job_definition:
        found["jobDefinitionArn"] = names.arn(DEFINITION, job.job_definition)
    return found
