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
OUT_OF_MEMORY = "OutOfMemoryError: Container killed due to memory usage"
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
        largest_capacity: Most that one of them could have.
    """

    kind: str
    message: str
    asked: int = 0
    free: int = 0
    largest_free: int = 0
    largest_capacity: int = 0
