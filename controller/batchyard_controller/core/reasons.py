"""
Texts that tools match to the letter, and the values that explain a wait.

Texts: AWS Batch, as seen by its users (reference: aws-batch, 2.2).
"""

from __future__ import annotations

from dataclasses import dataclass

from batchyard.states import EndCause

from .model import AttemptEnd, DependencyType, EndedAttempt

CONTAINER_EXITED = "Essential container in task exited"
START_FAILED = "Task failed to start"
TIMED_OUT = "Job attempt duration exceeded timeout"
DEPENDENCY_FAILED = "Dependent Job failed"
CHILD_FAILED = "Array Child Job failed"
QUEUE_DELETED = "JobQueue deleted"
TOO_MANY_TAGS = "The job and its job definition have more than 50 tags in all, which cannot be propagated"
OUT_OF_MEMORY = "OutOfMemoryError: Container killed due to memory usage"
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

ENVIRONMENT_HEALTHY = "ComputeEnvironment Healthy"
QUEUE_HEALTHY = "JobQueue Healthy"


def host_terminated(host_id: str) -> str:
    """Return the status reason of an attempt whose host was lost."""
    return f"Host EC2 (instance {host_id}) terminated."


def is_host_loss(ended: EndedAttempt) -> bool:
    """Say whether an attempt was lost with its host, which is no fault of the job."""
    return ended.status_reason == host_terminated(ended.host_id)


def dependency_failed(kind: DependencyType, job_id: str) -> str:
    """Return why a job fails that waited for what another can no longer do."""
    if kind is DependencyType.AFTER_FAILURE:
        return f"Dependent Job succeeded: {job_id} was waited for to fail"
    return DEPENDENCY_FAILED


def blocked(code: str, instance_types: tuple[str, ...] = ()) -> str:
    """Return the status reason of a job that blocks the head of its queue."""
    types = ", ".join(instance_types[:_TYPES_SHOWN]) or "optimal"
    return f"{code} - {_BLOCKED[code].format(types=types)}"


def time_limit_passed(code: str) -> str:
    """Return the status reason of a job that blocked the head of its queue for too long."""
    return f"Canceled by JobStateTimeLimit action due to reason: {code}"


def status_reason(end: AttemptEnd, host_id: str, terminate_reason: str) -> str:
    """Return the status reason of an attempt that ended like *end*."""
    if terminate_reason and end.cause is EndCause.STOPPED:
        return terminate_reason
    match end.cause:
        case EndCause.START_FAILED:
            return START_FAILED
        case EndCause.TIMED_OUT:
            return TIMED_OUT
        case EndCause.FENCED | EndCause.LOST:
            return host_terminated(host_id)
        case _:
            return CONTAINER_EXITED


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
