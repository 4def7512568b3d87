"""
Names: of resources, as AWS writes them, and what an ARN or a name stands for.

ARNs are made from the region that a request was signed for and the gateway's account.
Law: a name and every ARN of it are understood alike, whatever account or region an
ARN names, so that what was written for another account goes on working.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from batchyard.arns import Account
from batchyard.v1 import tag_pb2
from batchyard_gateway.errors import ClientException

JOB, QUEUE, DEFINITION, ENVIRONMENT = "job", "job-queue", "job-definition", "compute-environment"
POLICY, CONSUMABLE, SHARE = "scheduling-policy", "consumable-resource", "quota-share"

_JOB_ARN = re.compile(r"arn:[^:]*:batch:[^:]*:[^:]*:job/")
_JOB_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}([:#][0-9]{1,9})?", re.ASCII)

_KINDS = {
    JOB: tag_pb2.RESOURCE_KIND_JOB,
    QUEUE: tag_pb2.RESOURCE_KIND_JOB_QUEUE,
    DEFINITION: tag_pb2.RESOURCE_KIND_JOB_DEFINITION,
    ENVIRONMENT: tag_pb2.RESOURCE_KIND_COMPUTE_ENVIRONMENT,
    POLICY: tag_pb2.RESOURCE_KIND_SCHEDULING_POLICY,
    CONSUMABLE: tag_pb2.RESOURCE_KIND_CONSUMABLE_RESOURCE,
    SHARE: tag_pb2.RESOURCE_KIND_QUOTA_SHARE,
}


@dataclass(frozen=True, slots=True)
class Names:
    """Makes ARNs of one account."""

    account: Account

    def arn(self, kind: str, name: str) -> str:
        """Return the ARN of a resource, such as ``job-queue/q``."""
        return self.account.arn("batch", f"{kind}/{name}")


def name_of(kind: str, text: str) -> str:
    """
    Return the name that a name or an ARN stands for.

    Raises:
        ClientException: it is an ARN of something else.
    """
    if not text.startswith("arn:"):
        return text
    found, name = split_arn(text)
    if found != kind:
        raise ClientException(f"{text} is not the ARN of a {kind.replace('-', ' ')}")
    return name


def share_of(arn: str) -> tuple[str, str]:
    """
    Return the queue and the name that the ARN of a quota share stands for: it ends in ``quota-share/queue/name``.

    Raises:
        ClientException: it is none.
    """
    queue, slash, name = name_of(SHARE, arn).partition("/")
    if not slash or not arn.startswith("arn:"):
        raise ClientException(f"Invalid ARN: {arn[:300]}")
    return queue, name


def is_job(text: str) -> bool:
    """Say whether a text is an id, or the ARN, that a job, a child or a node could have."""
    arn = _JOB_ARN.match(text)
    return _JOB_ID.fullmatch(text[arn.end() :] if arn else text) is not None


def split_arn(text: str) -> tuple[str, str]:
    """
    Split an ARN of AWS Batch into its kind and name.

    Raises:
        ClientException: it is none.
    """
    parts = text.split(":", 5)
    kind, slash, name = parts[-1].partition("/")
    if len(parts) != 6 or parts[0] != "arn" or parts[2] != "batch" or not slash or not name:
        raise ClientException(f"Invalid ARN: {text[:300]}")
    return kind, name


def tagged(arn: str) -> tuple[tag_pb2.ResourceKind.ValueType, str]:
    """
    Return what a resource's ARN stands for, as tags are asked for.

    Raises:
        ClientException: it is no ARN of something that has tags.
    """
    kind, name = split_arn(arn)
    if kind not in _KINDS:
        raise ClientException(f"Tags of a {kind[:50]} are not offered by Batchyard: {arn[:300]}")
    return _KINDS[kind], name
