"""Submissions, jobs, states and dependencies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from batchyard.rows import ListOf, Row, Rows, Words
from batchyard.states import JobState
from batchyard.task_messages import read_task, task_fields
from batchyard.tasks import Task
from batchyard.v1 import job_pb2 as pb
from batchyard_controller.core.jobs.resolution import Submission
from batchyard_controller.core.model.dependencies import Dependency, DependencyType
from batchyard_controller.core.model.jobs import JobSpec

from .definitions import NODES, RETRY

_STATES = Words(JobState, pb.JobState.DESCRIPTOR, "is no job state")
_DEPENDENCIES = ListOf(
    Rows(
        Dependency,
        pb.Dependency,
        Row("type", kind=Words(DependencyType, pb.DependencyType.DESCRIPTOR, "is no dependency type")),
    )
)
_SPELT = (Row("definition", "job_definition"), Row("retry", "retry_strategy", RETRY))
_SUBMISSION = Rows(
    Submission,
    pb.SubmitJobRequest,
    *_SPELT,
    Row("nodes", kind=NODES),
    Row("depends_on", kind=_DEPENDENCIES),
    record_only=("task", "owner"),
    message_only=("container", "task"),
)
_SPEC = Rows(
    JobSpec,
    pb.Job,
    *_SPELT,
    record_only=("task", "nodes", "definition_tags"),
    message_only=(
        *("nodes", "node"),
        *("id", "name", "created_at_ms", "container", "task", "depends_on", "array", "attempts"),
        *("state", "status_reason", "waiting_reason", "started_at_ms", "stopped_at_ms", "exit_code"),
        *("is_cancelled", "is_terminated", "ending_cause"),
    ),
)


def job_state_number(state: JobState) -> pb.JobState.ValueType:
    """Turn a state into its number on the wire."""
    number: pb.JobState.ValueType = _STATES.write(state)
    return number


def job_states(numbers: Iterable[int]) -> frozenset[JobState]:
    """Turn state numbers into states."""
    return frozenset(_STATES.read(number, "states") for number in numbers)


def submission(message: pb.SubmitJobRequest, owner: str) -> Submission:
    """Turn a request of a user, or of the administrator, who has no name, into a submission."""
    return _SUBMISSION.read(message, task=read_task(message), owner=owner)


def spec_message(value: JobSpec, task: Task | None, **others: Any) -> pb.Job:
    """Turn what jobs of one kind share into a message, which has *others* of the one job, and its task, if it has one."""
    return _SPEC.write(value, **(task_fields(task) if task is not None else {}), **others)


def dependency_messages(values: Iterable[Dependency]) -> list[pb.Dependency]:
    """Turn dependencies into messages."""
    return _DEPENDENCIES.write(values)
