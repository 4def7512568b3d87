"""
Ends: what an attempt's end is in AWS's words, which users' retry rules match to the letter.

The words follow from the cause. Source: AWS Batch, as seen by its users
(reference: aws-batch, 2.2).
"""

from __future__ import annotations

from typing import assert_never

from batchyard.arns import instance_id
from batchyard.states import EndCause
from batchyard_controller.core.model.attempts import AttemptEnd, EndedAttempt, RetryDecision

CONTAINER_EXITED = "Essential container in task exited"
START_FAILED = "Task failed to start"
TIMED_OUT = "Job attempt duration exceeded timeout"
QUEUE_DELETED = "JobQueue deleted"
OUT_OF_MEMORY = "OutOfMemoryError: Container killed due to memory usage"

GAVE_BACK = "Cross-share preemption triggered to reclaim borrowed capacity"
SHARE_DELETED = "QuotaShare deleted"

HOST_FAILED = "Host failed under the task"

HOST_FAULTS = frozenset({EndCause.LOST, EndCause.FENCED, EndCause.RECLAIMED, EndCause.HOST_ERROR})
"""Causes that are surely no fault of the job."""


def is_of_host(ended: EndedAttempt) -> bool:
    """Say whether a try that is over failed for reasons of its host, as far as could be told then."""
    return ended.cause in HOST_FAULTS or (
        ended.verdict is not None and ended.verdict.decision is RetryDecision.ELSEWHERE
    )


def has_succeeded(ended: EndedAttempt | AttemptEnd) -> bool:
    """Say whether a try did what it was for; one that was stopped did not, though it may exit with 0."""
    return ended.cause is EndCause.EXITED and ended.exit_code == 0


def status_reason(ended: EndedAttempt) -> str:
    """Return the status reason of an attempt; of one that someone stopped, as if it had ended by itself."""
    match ended.cause:
        case EndCause.START_FAILED | EndCause.IMAGE_UNAVAILABLE:
            return START_FAILED
        case EndCause.HOST_ERROR:
            return HOST_FAILED if ended.started_at_ms else START_FAILED
        case EndCause.TIMED_OUT:
            return TIMED_OUT
        case EndCause.PREEMPTED:
            return GAVE_BACK if ended.gave_back else f"Preempted by job {ended.preempted_for}"
        case EndCause.RECLAIMED | EndCause.FENCED | EndCause.LOST:
            return f"Host EC2 (instance {instance_id(ended.host_id)}) terminated."
        case EndCause.EXITED | EndCause.STOPPED | EndCause.OUT_OF_MEMORY:
            return CONTAINER_EXITED
        case _:
            assert_never(ended.cause)
