"""
Texts that tools match to the letter, and the values that explain a wait.

Texts: AWS Batch, as seen by its users (reference: aws-batch, 2.2).
"""

from __future__ import annotations

from batchyard.states import EndCause
from batchyard_controller.core.model.attempts import AttemptEnd, EndedAttempt
from batchyard_controller.core.model.jobs import DependencyType

CONTAINER_EXITED = "Essential container in task exited"
START_FAILED = "Task failed to start"
TIMED_OUT = "Job attempt duration exceeded timeout"
DEPENDENCY_FAILED = "Dependent Job failed"
CHILD_FAILED = "Array Child Job failed"
QUEUE_DELETED = "JobQueue deleted"
TOO_MANY_TAGS = "The job and its job definition have more than 50 tags in all, which cannot be propagated"
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
