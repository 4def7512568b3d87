"""Refusals: what stands against placing a unit, as values, and AWS's codes for it."""

from __future__ import annotations

from dataclasses import dataclass

NO_CAPACITY = "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY"
BEYOND_ENVIRONMENTS = "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE"
BEYOND_HOSTS = "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT"
NO_HOST_SELECTED = "MISCONFIGURATION:EC2_INSTANCE_CONFIGURATION_UNSUPPORTED"
ENVIRONMENTS_DISABLED = "ACTION_REQUIRED"
UNDETERMINED = "UNDETERMINED"
LIMITED_REASONS = (NO_CAPACITY, BEYOND_ENVIRONMENTS, BEYOND_HOSTS, NO_HOST_SELECTED)
"""Those that a queue may bound in time (AWS: jobStateTimeLimitActions)."""

_BLOCKED = {
    NO_CAPACITY: "Service cannot fulfill the capacity requested for instance type [{types}]",
    BEYOND_ENVIRONMENTS: "CE(s) associated with the job queue cannot meet the CPU requirement of the job.",
    BEYOND_HOSTS: "The job resource requirement (vCPU/memory/GPU) is higher than that can be met by the CE(s) "
    "attached to the job queue.",
    NO_HOST_SELECTED: "Your compute environment associated with this job queue has an unsupported "
    "instance type configuration.",
    ENVIRONMENTS_DISABLED: "CE(s) associated with the job queue are invalid.",
    UNDETERMINED: "Batch job is blocked, root cause is undetermined.",
}
_TYPES_SHOWN = 10


def blocked(code: str, instance_types: tuple[str, ...] = ()) -> str:
    """Return the status reason of a job that blocks the head of its queue."""
    types = ", ".join(instance_types[:_TYPES_SHOWN]) or "optimal"
    return f"{code} - {_BLOCKED[code].format(types=types)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """
    What one resource or rule says about a job that waits.

    Attributes:
        kind: A resource's name, or ``hosts``, ``environments``, ``max_vcpus``.
        free: Sum over the hosts that the job may use.
        largest_free: Most that one of them has free.
        largest_capacity: Most that one of them could have, those that are away included.
        blocked: All refusals of one job together, in AWS's words: its status reason
            while it is first in line.
    """

    kind: str
    message: str
    asked: int = 0
    free: int = 0
    largest_free: int = 0
    largest_capacity: int = 0
    blocked: str = ""
