"""
Attempt specs: what an agent is told of the attempts that it is to start.

What the attempts of a job have in common on a host is written once and copied: of an
array's children most of it is.
"""

from __future__ import annotations

from collections.abc import Iterable

from batchyard.ids import JobId
from batchyard.task_messages import task_fields
from batchyard.v1 import agent_pb2 as pb
from batchyard.v1 import security_pb2
from batchyard_controller.core.jobs.output_paths import with_output_paths
from batchyard_controller.core.jobs.resolution import propagated_tags, with_values
from batchyard_controller.core.jobs.variables import common_variables, log_stream_name, own_variables
from batchyard_controller.core.model.attempts import Attempt
from batchyard_controller.core.model.settings import Platform
from batchyard_controller.core.world.world import World


def attempt_specs(world: World, attempts: Iterable[Attempt]) -> list[pb.AttemptSpec]:
    """Return the specs of attempts on one host."""
    common: dict[tuple[JobId, str], pb.AttemptSpec] = {}
    specs: list[pb.AttemptSpec] = []
    for attempt in attempts:
        key = attempt.job_id, attempt.compute_environment
        if key not in common:
            common[key] = _common(world, attempt)
        spec = pb.AttemptSpec()
        spec.CopyFrom(common[key])
        _add_own(spec, world, attempt)
        specs.append(spec)
    return specs


def _common(world: World, attempt: Attempt) -> pb.AttemptSpec:
    """Write what is the same of all attempts of a job on a host and in an environment."""
    job, facts = world.jobs[attempt.job_id], world.hosts[attempt.host_id].record.facts
    spec, platform = job.spec, world.platform_of(attempt.compute_environment)
    level = world.level_of(spec)
    return pb.AttemptSpec(
        environment=common_variables(job, attempt.compute_environment, platform, facts),
        timeout_s=spec.timeout_s,
        tags=dict(propagated_tags(spec)),
        is_fargate=platform is Platform.FARGATE,
        compute_environment_uuid=world.environment_uuid(attempt) if platform is Platform.EKS else "",
        security_level=security_pb2.SecurityLevel.Value(f"SECURITY_LEVEL_{level}"),
        job_queue=spec.queue,
        owner=spec.owner,
        **task_fields(spec.task) if spec.nodes is None else {},  # type: ignore[arg-type]  # its one field, by name
    )


def _add_own(spec: pb.AttemptSpec, world: World, attempt: Attempt) -> None:
    """Write what is an attempt's own."""
    unit, name = world.unit_of(attempt), attempt.id
    spec.attempt_id, spec.job_id, spec.number = name, attempt.unit_id, attempt.number
    spec.environment.update(own_variables(unit, attempt, name, world.main_address(unit)))
    spec.log_stream_name = log_stream_name(unit.job, name)
    if attempt.fence_ms is not None:
        spec.fence_ms = attempt.fence_ms
    for gpu in attempt.gpus:
        spec.gpus.add(uuid=gpu.uuid, millis=gpu.millis)
    host = world.hosts[attempt.host_id].record.facts
    if unit.is_node:
        spec.node.address = host.address
        spec.timeout_s = spec.timeout_s if unit.leads else 0
    task = with_values(unit.task, unit.job.values.values(unit.number)) if unit.is_child else unit.task
    task = with_output_paths(task, unit, unit.number, attempt.number, host.name)
    if task is not unit.job.spec.task:
        for field, message in task_fields(task).items():
            getattr(spec, field).CopyFrom(message)
