"""Submissions, states and dependencies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from batchyard.errors import InvalidArgumentError, Reason, Violation
from batchyard.resources import RESOURCE_KINDS
from batchyard.states import JobState
from batchyard.v1 import (
    job_pb2,
)
from batchyard_controller.core.jobs.resolution import Overrides, Submission
from batchyard_controller.core.model.dependencies import Dependency, DependencyType

from .containers import retry, task
from .values import pairs

_DEPENDENCY_TYPES = {
    job_pb2.DEPENDENCY_TYPE_UNSPECIFIED: DependencyType.WHOLE,
    job_pb2.DEPENDENCY_TYPE_N_TO_N: DependencyType.N_TO_N,
    job_pb2.DEPENDENCY_TYPE_SEQUENTIAL: DependencyType.SEQUENTIAL,
    job_pb2.DEPENDENCY_TYPE_AFTER_ANY: DependencyType.AFTER_ANY,
    job_pb2.DEPENDENCY_TYPE_AFTER_FAILURE: DependencyType.AFTER_FAILURE,
}
_STATE_NUMBERS = {state: job_pb2.JobState.Value(f"JOB_STATE_{state}") for state in JobState}
_STATES: dict[int, JobState] = {number: state for state, number in _STATE_NUMBERS.items()}


def job_state_number(state: JobState) -> job_pb2.JobState.ValueType:
    """Turn a state into its number on the wire."""
    return _STATE_NUMBERS[state]


def job_states(numbers: Iterable[int]) -> frozenset[JobState]:
    """Turn state numbers into states."""
    wanted = list(numbers)
    for number in wanted:
        if number not in _STATES:
            text = f"{number} is no job state"
            raise InvalidArgumentError.from_violations([Violation("states", text, Reason.UNKNOWN_VALUE)])
    return frozenset(_STATES[number] for number in wanted)


def submission(message: job_pb2.SubmitJobRequest) -> Submission:
    """Turn a request into a submission."""
    overrides = message.overrides
    amounts = {k: getattr(overrides, k) for k in RESOURCE_KINDS if overrides.HasField(k)}  # type: ignore[arg-type]  # the stub lists literals
    dependencies = []
    for i, dependency in enumerate(message.depends_on):
        if dependency.type not in _DEPENDENCY_TYPES:
            text = f"{dependency.type} is no dependency type"
            raise InvalidArgumentError.from_violations([Violation(f"depends_on[{i}].type", text, Reason.UNKNOWN_VALUE)])
        type_ = _DEPENDENCY_TYPES[dependency.type]
        dependencies.append(Dependency(job_id=dependency.job_id, type=type_))
    return Submission(
        name=message.name,
        queue=message.queue,
        definition=message.job_definition,
        task=task(message.container) if message.HasField("container") else None,
        overrides=Overrides(command=tuple(overrides.command), environment=pairs(overrides.environment), **amounts),
        parameters=pairs(message.parameters),
        array_size=message.array_size,
        array_concurrency=message.array_concurrency,
        depends_on=tuple(dependencies),
        retry=retry(message.retry_strategy) if message.HasField("retry_strategy") else None,
        timeout_s=message.timeout_s,
        share_identifier=message.share_identifier,
        scheduling_priority=message.scheduling_priority if message.HasField("scheduling_priority") else None,
        propagate_tags=message.propagate_tags if message.HasField("propagate_tags") else None,
        tags=pairs(message.tags),
        annotations=pairs(message.annotations),
        request_id=message.request_id,
    )


def dependency_messages(values: Iterable[Dependency]) -> list[job_pb2.Dependency]:
    """Turn dependencies into messages."""
    numbers: dict[DependencyType, Any] = {type_: number for number, type_ in _DEPENDENCY_TYPES.items()}
    return [job_pb2.Dependency(job_id=d.job_id, type=numbers[d.type]) for d in values]
