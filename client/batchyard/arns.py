"""
ARNs: AWS's long names for what a yard has.

Only names are made here. Gateway and agent both tell them to tools, which compare
them; so they are made in one place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from batchyard.ids import named_uuid

REGION_DEFAULT = "us-east-1"
ACCOUNT_ID_DEFAULT = "000000000000"

LOG_GROUP = "/aws/batch/job"
"""Where all logs of attempts are (AWS Batch's default)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What all ARNs of a yard have in common; settings, as a yard has neither."""

    region: str = REGION_DEFAULT
    account_id: str = ACCOUNT_ID_DEFAULT

    def arn(self, service: str, resource: str) -> str:
        """Return the ARN of *resource*, such as ``cluster/a``."""
        return f"arn:aws:{service}:{self.region}:{self.account_id}:{resource}"

    def cluster(self, environment: str) -> str:
        """Return the ECS cluster's that stands for a compute environment."""
        return self.arn("ecs", f"cluster/{cluster_name(environment)}")

    def task(self, environment: str, task_id: str) -> str:
        """Return the ECS task's that stands for an attempt."""
        return self.arn("ecs", f"task/{cluster_name(environment)}/{task_id}")

    def container_instance(self, environment: str, host_id: str) -> str:
        """Return the ECS container instance's that stands for a host."""
        return self.arn("ecs", f"container-instance/{cluster_name(environment)}/{host_id.replace('-', '')}")


def cluster_name(environment: str) -> str:
    """Return the name of the ECS cluster that stands for a compute environment."""
    return f"AWSBatch-{environment}"


def instance_id(host_id: str) -> str:
    """Return the EC2 instance's id that stands for a host: of its UUID the end, which is random."""
    return f"i-{host_id.replace('-', '')[-17:]}"


def environment_uuid(name: str, created_at_ms: int) -> str:
    """Return the UUID of a compute environment (AWS: uuid); another one of the same name has another."""
    return named_uuid(f"compute-environment/{name}@{created_at_ms}")


def last_part(name: str) -> str:
    """Return what an ARN, or a name without one, calls a thing in the end."""
    return name.rpartition("/")[2]


def parse_account_id(text: str) -> str:
    """
    Return an account id.

    Raises:
        ValueError: it is not 12 digits.
    """
    if not re.fullmatch(r"[0-9]{12}", text, re.ASCII):
        raise ValueError(f"must be 12 digits, not {text!r}")
    return text


def parse_region(text: str) -> str:
    """
    Return the name of a region.

    Raises:
        ValueError: no region can be called so.
    """
    if not re.fullmatch(r"[a-z0-9-]{1,64}", text, re.ASCII):
        raise ValueError(f"must be of small letters, digits and '-', not {text!r}")
    return text
