"""
Quota shares: AWS's to the contract's and back.

Pure. AWS has them for jobs of Amazon SageMaker alone; here ordinary jobs choose theirs by
their shareIdentifier.
"""

from __future__ import annotations

from batchyard.v1 import compute_environment_pb2 as environment_pb
from batchyard.v1 import quota_share_pb2 as pb
from batchyard_gateway.services import Members

from . import rules
from .mapping import MAPPED, NestedList, Row, Word, to_members, to_message
from .names import QUEUE, SHARE, Names, name_of, share_of


class _Enabled:
    """Whether something is done."""

    def into(self, value: str) -> bool:
        """Return it of a word."""
        return value == "ENABLED"

    def out(self, value: bool) -> str:
        """Return the word."""
        return "ENABLED" if value else "DISABLED"


_LIMIT = (
    Row("maxCapacity", "max_capacity", always=True),
    Row("capacityUnit", "capacity_unit", always=True),
)
_SHARE = (
    Row("capacityLimits", "capacity_limits", NestedList(_LIMIT, pb.CapacityLimit), always=True),
    Row("resourceSharingConfiguration.strategy", "sharing_strategy", Word(pb.SharingStrategy), always=True),
    Row("preemptionConfiguration.inSharePreemption", "in_share_preemption", _Enabled(), always=True),
    Row("state", "state", Word(environment_pb.ResourceState), always=True),
)
_BORROW_LIMIT = Row("resourceSharingConfiguration.borrowLimit", "borrow_limit", always=True)
_NAME = Row("quotaShareName", "name", always=True)
_TAGS = Row("tags", "tags", MAPPED, always=True)


def creation(members: Members) -> pb.CreateQuotaShareRequest:
    """
    Return the contract's request for a new quota share.

    Raises:
        ClientException: it breaks a rule of AWS's.
    """
    rules.check_name("Quota share", members["quotaShareName"])
    request = to_message((_NAME, *_SHARE, _BORROW_LIMIT, _TAGS), pb.CreateQuotaShareRequest, members)
    request.job_queue = name_of(QUEUE, members["jobQueue"])
    return request


def change(members: Members) -> pb.UpdateQuotaShareRequest:
    """
    Return the contract's request for a change of a quota share.

    Raises:
        ClientException: it is of something else.
    """
    request = to_message((*_SHARE, _BORROW_LIMIT), pb.UpdateQuotaShareRequest, members)
    request.job_queue, request.name = share_of(members["quotaShareArn"])
    if "resourceSharingConfiguration" in members and not request.HasField("borrow_limit"):
        request.borrow_limit = -1  # AWS's default: what is given replaces the whole
    return request


def page_request(members: Members) -> pb.ListQuotaSharesRequest:
    """Return the contract's request for a page of a queue's quota shares."""
    return pb.ListQuotaSharesRequest(
        job_queue=name_of(QUEUE, members["jobQueue"]),
        page_size=rules.page_size(members),
        page_token=members.get("nextToken", ""),
    )


def identity(share: pb.QuotaShare, names: Names) -> Members:
    """Return AWS's members of which share it is."""
    return {"quotaShareName": share.name, "quotaShareArn": names.arn(SHARE, f"{share.job_queue}/{share.name}")}


def summary_of(share: pb.QuotaShare, names: Names) -> Members:
    """Return AWS's members of a share in a list."""
    borrows = share.sharing_strategy == pb.SHARING_STRATEGY_LEND_AND_BORROW
    return {
        **identity(share, names),
        "jobQueueArn": names.arn(QUEUE, share.job_queue),
        **to_members((*_SHARE, _BORROW_LIMIT) if borrows else _SHARE, share),
        "status": "VALID",
    }


def members_of(share: pb.QuotaShare, names: Names) -> Members:
    """Return AWS's members of a share."""
    return {**summary_of(share, names), **to_members((_TAGS,), share)}
