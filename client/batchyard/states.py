"""States that users speak of. The moves between them: controller core, lifecycle."""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """Where a job is (AWS Batch User Guide: Job states)."""

    SUBMITTED = "SUBMITTED"
    PENDING = "PENDING"
    RUNNABLE = "RUNNABLE"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"

    @property
    def is_final(self) -> bool:
        """Whether the job has ended for ever."""
        return self in FINAL_STATES

    @property
    def is_waiting(self) -> bool:
        """Whether the job has not been placed on a host yet."""
        return self in WAITING_STATES

    @property
    def is_active(self) -> bool:
        """Whether an attempt of the job holds a host's resources."""
        return self in ACTIVE_STATES


FINAL_STATES = frozenset({JobState.SUCCEEDED, JobState.FAILED})
WAITING_STATES = frozenset({JobState.SUBMITTED, JobState.PENDING, JobState.RUNNABLE})
ACTIVE_STATES = frozenset({JobState.STARTING, JobState.RUNNING})


class EndCause(StrEnum):
    """Why an attempt ended, beyond its exit code; names as in ``attempt.proto``. Their order is stored: add at the end."""

    EXITED = "EXITED"
    START_FAILED = "START_FAILED"
    STOPPED = "STOPPED"
    TIMED_OUT = "TIMED_OUT"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    FENCED = "FENCED"
    LOST = "LOST"
    HOST_ERROR = "HOST_ERROR"
    IMAGE_UNAVAILABLE = "IMAGE_UNAVAILABLE"
    RECLAIMED = "RECLAIMED"
    PREEMPTED = "PREEMPTED"
