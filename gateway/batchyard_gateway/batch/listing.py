"""
Listing: ListJobs' odd rules.

Pure. Exactly one of a queue, an array and a multi-node job is listed; without a status
only what is RUNNING; a filter makes the status count no more, except that of shares; it
does not hold for an array's children, nor for nodes.
"""

from __future__ import annotations

from collections.abc import Sequence

from batchyard import wording
from batchyard.v1 import job_pb2 as pb
from batchyard_gateway.errors import ClientException
from batchyard_gateway.services import Members

from . import rules
from .names import DEFINITION, JOB, QUEUE, name_of

PAGE_MAX = 1000
FILTERED_PAGE_MAX = 100
_MOMENT_DIGITS_MAX = 18

_FILTERS = {
    "JOB_NAME": "name",
    "JOB_DEFINITION": "job_definition",
    "BEFORE_CREATED_AT": "created_before_ms",
    "AFTER_CREATED_AT": "created_after_ms",
    "SHARE_IDENTIFIER": "share_identifier",
}
_MOMENTS = ("BEFORE_CREATED_AT", "AFTER_CREATED_AT")
_LISTED = ("jobQueue", "arrayJobId", "multiNodeJobId")


def request(members: Members) -> pb.ListJobsRequest:
    """
    Return the contract's request for a list.

    Raises:
        ClientException: it breaks a rule of AWS's.
    """
    listed = [name for name in _LISTED if members.get(name)]
    if len(listed) != 1:
        raise ClientException(f"Exactly one of {', '.join(_LISTED)} must be specified, not {len(listed)}")
    status = members.get("jobStatus", "RUNNING")
    filters = members.get("filters", ())
    chosen: dict[str, str | int] = {}
    if filters:
        name, chosen = _filter(filters)
        if "jobQueue" not in listed:
            chosen = {}
        elif name != "SHARE_IDENTIFIER" or "jobStatus" not in members:
            status = ""
    most = FILTERED_PAGE_MAX if filters else PAGE_MAX
    rules.check_between("maxResults", members.get("maxResults"), 1, PAGE_MAX)
    return pb.ListJobsRequest(
        queues=[name_of(QUEUE, members["jobQueue"])] if members.get("jobQueue") else [],
        array_job_id=name_of(JOB, members.get("arrayJobId") or members.get("multiNodeJobId", "")),
        states=[pb.JobState.ValueType(wording.number(pb.JobState, "jobStatus", status))] if status else [],
        page_size=min(members.get("maxResults", most), most),
        page_token=members.get("nextToken", ""),
        **chosen,  # type: ignore[arg-type]  # each of its field's type
    )


def _filter(filters: Sequence[Members]) -> tuple[str, dict[str, str | int]]:
    """Return the name of the one filter, and the contract's field for it."""
    if len(filters) > 1:
        raise ClientException(f"Only one filter can be used at a time, not {len(filters)}")
    name, values = filters[0].get("name", ""), filters[0].get("values", ())
    if name not in _FILTERS:
        raise ClientException(f"Filter '{name[:100]}' is not one of {', '.join(_FILTERS)}")
    if len(values) != 1 or not values[0]:
        raise ClientException(f"Filter {name} must have exactly one value, not {len(values)}")
    (value,) = values
    if name in _MOMENTS:
        if not (value.isascii() and value.isdigit() and len(value) <= _MOMENT_DIGITS_MAX):
            raise ClientException(f"Filter {name} must be milliseconds since the epoch, not '{value[:100]}'")
        return name, {_FILTERS[name]: int(value)}
    if name == "JOB_DEFINITION":
        if value.startswith("arn:") and value.endswith("*"):
            raise ClientException("Filter JOB_DEFINITION: an asterisk is not supported with an ARN")
        value = name_of(DEFINITION, value)
    return name, {_FILTERS[name]: value}
