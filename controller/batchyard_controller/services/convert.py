"""
Convert: wire messages to core values and back, and nothing else.

Protobuf ends here. A wrong enum number is a violation, like any other bad value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, TypeVar

from batchyard.errors import InvalidArgumentError, Violation
from batchyard.ids import AttemptId
from batchyard.resources import RESOURCE_KINDS, Resources
from batchyard.states import JobState
from batchyard.v1 import (
    agent_pb2,
    compute_environment_pb2,
    host_pb2,
    job_definition_pb2,
    job_pb2,
    job_queue_pb2,
    resources_pb2,
)
from batchyard_controller.core import limits, model
from batchyard_controller.core.events import Phase, Report
from batchyard_controller.core.resolution import Overrides, Submission

E = TypeVar("E", bound=StrEnum)


def pairs(mapping: Mapping[str, str]) -> model.Pairs:
    """Turn a map into sorted pairs."""
    return tuple(sorted(mapping.items()))


def _enum(wrapper: Any, prefix: str, type_: type[E], value: int, default: E | None, field: str) -> E:
    """Turn an enum number into the core's value; *default* stands for UNSPECIFIED, None if one is required."""
    if value == 0 and default is not None:
        return default
    names = {number: name for name, number in wrapper.items() if number}
    if value not in names:
        allowed = ", ".join(n.removeprefix(prefix) for n in names.values())
        raise InvalidArgumentError.from_violations([Violation(field, f"{value} is not one of {allowed}")])
    return type_[names[value].removeprefix(prefix)]


def check_describe(field: str, names: list[str]) -> None:
    """
    Check how many things one call may describe.

    Raises:
        InvalidArgumentError: too many, or none.
    """
    if not names or len(names) > limits.DESCRIBE_MAX:
        text = f"{len(names)} given; 1 to {limits.DESCRIBE_MAX} are allowed"
        raise InvalidArgumentError.from_violations([Violation(field, text)])


# Resources ------------------------------------------------------------------


def resources(message: resources_pb2.Resources) -> Resources:
    """Turn amounts into the core's."""
    return Resources(**{kind: getattr(message, kind) for kind in RESOURCE_KINDS})


def resources_message(value: Resources) -> resources_pb2.Resources:
    """Turn amounts into a message."""
    return resources_pb2.Resources(**{kind: getattr(value, kind) for kind in RESOURCE_KINDS})


# Compute environments -------------------------------------------------------


def environment_type(value: int) -> model.EnvironmentType:
    """Turn an environment's type into the core's; it must be given."""
    wrapper = compute_environment_pb2.ComputeEnvironmentType
    return _enum(wrapper, "COMPUTE_ENVIRONMENT_TYPE_", model.EnvironmentType, value, None, "type")


def resource_state(value: int, default: model.ResourceState | None) -> model.ResourceState:
    """Turn ENABLED or DISABLED into the core's."""
    return _enum(compute_environment_pb2.ResourceState, "RESOURCE_STATE_", model.ResourceState, value, default, "state")


def compute_resources(message: compute_environment_pb2.ComputeResources) -> model.ComputeResources:
    """Turn an environment's selection into the core's; BEST_FIT is AWS's default strategy."""
    return model.ComputeResources(
        type=_enum(
            compute_environment_pb2.CapacityType,
            "CAPACITY_TYPE_",
            model.CapacityType,
            message.type,
            model.CapacityType.EC2,
            "compute_resources.type",
        ),
        allocation_strategy=_enum(
            compute_environment_pb2.AllocationStrategy,
            "ALLOCATION_STRATEGY_",
            model.AllocationStrategy,
            message.allocation_strategy,
            model.AllocationStrategy.BEST_FIT,
            "compute_resources.allocation_strategy",
        ),
        min_vcpus=message.min_vcpus,
        max_vcpus=message.max_vcpus,
        desired_vcpus=message.desired_vcpus,
        instance_types=tuple(message.instance_types),
        labels=pairs(message.labels),
    )


def environment_message(
    value: model.ComputeEnvironment, status_reason: str, host_ids: Iterable[str]
) -> compute_environment_pb2.ComputeEnvironment:
    """Turn an environment into a message."""
    pb = compute_environment_pb2
    wanted = value.compute_resources
    return pb.ComputeEnvironment(
        name=value.name,
        type=pb.ComputeEnvironmentType.Value(f"COMPUTE_ENVIRONMENT_TYPE_{value.type}"),
        state=pb.ResourceState.Value(f"RESOURCE_STATE_{value.state}"),
        status=pb.RESOURCE_STATUS_VALID,
        status_reason=status_reason,
        compute_resources=pb.ComputeResources(
            type=pb.CapacityType.Value(f"CAPACITY_TYPE_{wanted.type}"),
            allocation_strategy=pb.AllocationStrategy.Value(f"ALLOCATION_STRATEGY_{wanted.allocation_strategy}"),
            min_vcpus=wanted.min_vcpus,
            max_vcpus=wanted.max_vcpus,
            desired_vcpus=wanted.desired_vcpus,
            instance_types=wanted.instance_types,
            labels=dict(wanted.labels),
        ),
        unmanaged_vcpus=value.unmanaged_vcpus,
        service_role=value.service_role,
        tags=dict(value.tags),
        created_at_ms=value.created_at_ms,
        host_ids=host_ids,
    )


# Queues ---------------------------------------------------------------------


def environment_order(
    messages: Iterable[job_queue_pb2.ComputeEnvironmentOrder],
) -> tuple[model.EnvironmentOrder, ...]:
    """Turn a queue's steps into the core's."""
    return tuple(model.EnvironmentOrder(order=m.order, compute_environment=m.compute_environment) for m in messages)


def state_time_limits(
    messages: Iterable[job_queue_pb2.JobStateTimeLimitAction],
) -> tuple[model.StateTimeLimit, ...]:
    """Turn a queue's time limits into the core's."""
    return tuple(
        model.StateTimeLimit(reason=m.reason, state=m.state, max_time_s=m.max_time_s, action=m.action) for m in messages
    )


def queue_message(value: model.JobQueue, status_reason: str, counts: Mapping[JobState, int]) -> job_queue_pb2.JobQueue:
    """Turn a queue into a message."""
    return job_queue_pb2.JobQueue(
        name=value.name,
        state=compute_environment_pb2.ResourceState.Value(f"RESOURCE_STATE_{value.state}"),
        status=compute_environment_pb2.RESOURCE_STATUS_VALID,
        status_reason=status_reason,
        priority=value.priority,
        compute_environment_order=[
            job_queue_pb2.ComputeEnvironmentOrder(order=s.order, compute_environment=s.compute_environment)
            for s in value.environment_order
        ],
        scheduling_policy=value.scheduling_policy,
        tags=dict(value.tags),
        created_at_ms=value.created_at_ms,
        job_counts={str(state): number for state, number in counts.items() if number},
    )


# Containers and definitions -------------------------------------------------


def container(message: job_definition_pb2.ContainerProperties) -> model.Container:
    """Turn a container into the core's."""
    linux = message.linux_parameters
    return model.Container(
        image=message.image,
        command=tuple(message.command),
        environment=pairs(message.environment),
        resources=resources(message.resources),
        user=message.user,
        working_directory=message.working_directory,
        privileged=message.privileged,
        readonly_root_filesystem=message.readonly_root_filesystem,
        ulimits=tuple(
            model.Ulimit(name=u.name, soft_limit=u.soft_limit, hard_limit=u.hard_limit) for u in message.ulimits
        ),
        volumes=tuple(model.Volume(name=v.name, host_source_path=v.host_source_path) for v in message.volumes),
        mount_points=tuple(
            model.MountPoint(source_volume=m.source_volume, container_path=m.container_path, read_only=m.read_only)
            for m in message.mount_points
        ),
        linux_parameters=model.LinuxParameters(
            devices=tuple(
                model.Device(host_path=d.host_path, container_path=d.container_path, permissions=tuple(d.permissions))
                for d in linux.devices
            ),
            init_process_enabled=linux.init_process_enabled if linux.HasField("init_process_enabled") else None,
            shared_memory_size_mib=linux.shared_memory_size_mib,
            tmpfs=tuple(
                model.Tmpfs(container_path=t.container_path, size_mib=t.size_mib, mount_options=tuple(t.mount_options))
                for t in linux.tmpfs
            ),
            max_swap_mib=linux.max_swap_mib if linux.HasField("max_swap_mib") else None,
            swappiness=linux.swappiness if linux.HasField("swappiness") else None,
        ),
        log_configuration=model.LogConfiguration(
            log_driver=message.log_configuration.log_driver, options=pairs(message.log_configuration.options)
        ),
        secrets=tuple(model.Secret(name=s.name, value_from=s.value_from) for s in message.secrets),
        job_role_arn=message.job_role_arn,
        execution_role_arn=message.execution_role_arn,
    )


def container_message(value: model.Container) -> job_definition_pb2.ContainerProperties:
    """Turn a container into a message."""
    pb = job_definition_pb2
    linux = value.linux_parameters
    message = pb.ContainerProperties(
        image=value.image,
        command=value.command,
        environment=dict(value.environment),
        resources=resources_message(value.resources),
        user=value.user,
        working_directory=value.working_directory,
        privileged=value.privileged,
        readonly_root_filesystem=value.readonly_root_filesystem,
        ulimits=[pb.Ulimit(name=u.name, soft_limit=u.soft_limit, hard_limit=u.hard_limit) for u in value.ulimits],
        volumes=[pb.Volume(name=v.name, host_source_path=v.host_source_path) for v in value.volumes],
        mount_points=[
            pb.MountPoint(source_volume=m.source_volume, container_path=m.container_path, read_only=m.read_only)
            for m in value.mount_points
        ],
        secrets=[pb.Secret(name=s.name, value_from=s.value_from) for s in value.secrets],
        job_role_arn=value.job_role_arn,
        execution_role_arn=value.execution_role_arn,
    )
    if value.log_configuration.log_driver:
        message.log_configuration.log_driver = value.log_configuration.log_driver
        message.log_configuration.options.update(dict(value.log_configuration.options))
    if linux != model.LinuxParameters():
        message.linux_parameters.CopyFrom(
            pb.LinuxParameters(
                devices=[
                    pb.Device(host_path=d.host_path, container_path=d.container_path, permissions=d.permissions)
                    for d in linux.devices
                ],
                init_process_enabled=linux.init_process_enabled,
                shared_memory_size_mib=linux.shared_memory_size_mib,
                tmpfs=[
                    pb.Tmpfs(container_path=t.container_path, size_mib=t.size_mib, mount_options=t.mount_options)
                    for t in linux.tmpfs
                ],
                max_swap_mib=linux.max_swap_mib,
                swappiness=linux.swappiness,
            )
        )
    return message


def retry(message: job_definition_pb2.RetryStrategy) -> model.RetryStrategy:
    """Turn a retry strategy into the core's; no number of attempts means one."""
    return model.RetryStrategy(
        attempts=message.attempts or 1,
        rules=tuple(
            model.ExitRule(
                action=_enum(
                    job_definition_pb2.EvaluateOnExitAction,
                    "EVALUATE_ON_EXIT_ACTION_",
                    model.ExitAction,
                    rule.action,
                    None,
                    "retry_strategy.evaluate_on_exit.action",
                ),
                on_status_reason=rule.on_status_reason,
                on_reason=rule.on_reason,
                on_exit_code=rule.on_exit_code,
            )
            for rule in message.evaluate_on_exit
        ),
    )


def retry_message(value: model.RetryStrategy) -> job_definition_pb2.RetryStrategy:
    """Turn a retry strategy into a message."""
    pb = job_definition_pb2
    return pb.RetryStrategy(
        attempts=value.attempts,
        evaluate_on_exit=[
            pb.EvaluateOnExit(
                action=pb.EvaluateOnExitAction.Value(f"EVALUATE_ON_EXIT_ACTION_{rule.action}"),
                on_status_reason=rule.on_status_reason,
                on_reason=rule.on_reason,
                on_exit_code=rule.on_exit_code,
            )
            for rule in value.rules
        ],
    )


def definition(message: job_definition_pb2.RegisterJobDefinitionRequest, now_ms: int) -> model.JobDefinition:
    """Turn a registration into a definition whose revision is not chosen yet."""
    type_ = message.type or job_definition_pb2.JOB_DEFINITION_TYPE_CONTAINER
    if type_ != job_definition_pb2.JOB_DEFINITION_TYPE_CONTAINER:
        raise InvalidArgumentError.from_violations([Violation("type", "only CONTAINER is supported so far")])
    return model.JobDefinition(
        name=message.name,
        revision=0,
        container=container(message.container),
        parameters=pairs(message.parameters),
        retry=retry(message.retry_strategy) if message.HasField("retry_strategy") else None,
        timeout_s=message.timeout_s,
        scheduling_priority=message.scheduling_priority if message.HasField("scheduling_priority") else None,
        propagate_tags=message.propagate_tags,
        tags=pairs(message.tags),
        platform_capabilities=tuple(message.platform_capabilities),
        created_at_ms=now_ms,
    )


def definition_message(value: model.JobDefinition) -> job_definition_pb2.JobDefinition:
    """Turn a definition into a message."""
    pb = job_definition_pb2
    return pb.JobDefinition(
        name=value.name,
        revision=value.revision,
        type=pb.JobDefinitionType.Value(f"JOB_DEFINITION_TYPE_{value.type.name}"),
        status=pb.JobDefinitionStatus.Value(f"JOB_DEFINITION_STATUS_{value.status}"),
        container=container_message(value.container),
        parameters=dict(value.parameters),
        retry_strategy=None if value.retry is None else retry_message(value.retry),
        timeout_s=value.timeout_s,
        scheduling_priority=value.scheduling_priority,
        propagate_tags=value.propagate_tags,
        tags=dict(value.tags),
        platform_capabilities=value.platform_capabilities,
        created_at_ms=value.created_at_ms,
    )


def definition_status(value: int) -> model.DefinitionStatus | None:
    """Turn a status into the core's; None for UNSPECIFIED."""
    if not value:
        return None
    wrapper = job_definition_pb2.JobDefinitionStatus
    return _enum(wrapper, "JOB_DEFINITION_STATUS_", model.DefinitionStatus, value, None, "status")


# Jobs -----------------------------------------------------------------------

_DEPENDENCY_TYPES = {0: model.DependencyType.WHOLE, 1: model.DependencyType.N_TO_N, 2: model.DependencyType.SEQUENTIAL}
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
            raise InvalidArgumentError.from_violations([Violation("states", f"{number} is no job state")])
    return frozenset(_STATES[number] for number in wanted)


def submission(message: job_pb2.SubmitJobRequest) -> Submission:
    """Turn a request into a submission."""
    overrides = message.overrides
    amounts = {k: getattr(overrides, k) for k in RESOURCE_KINDS if overrides.HasField(k)}  # type: ignore[arg-type]  # the stub lists literals
    dependencies = []
    for i, dependency in enumerate(message.depends_on):
        if dependency.type not in _DEPENDENCY_TYPES:
            raise InvalidArgumentError.from_violations(
                [Violation(f"depends_on[{i}].type", f"{dependency.type} is no dependency type")]
            )
        type_ = _DEPENDENCY_TYPES[dependency.type]
        dependencies.append(model.Dependency(job_id=dependency.job_id, type=type_))
    return Submission(
        name=message.name,
        queue=message.queue,
        definition=message.job_definition,
        container=container(message.container) if message.HasField("container") else None,
        overrides=Overrides(command=tuple(overrides.command), environment=pairs(overrides.environment), **amounts),
        parameters=pairs(message.parameters),
        array_size=message.array_size,
        depends_on=tuple(dependencies),
        retry=retry(message.retry_strategy) if message.HasField("retry_strategy") else None,
        timeout_s=message.timeout_s,
        share_identifier=message.share_identifier,
        scheduling_priority=message.scheduling_priority if message.HasField("scheduling_priority") else None,
        propagate_tags=message.propagate_tags if message.HasField("propagate_tags") else None,
        tags=pairs(message.tags),
        request_id=message.request_id,
    )


def dependency_messages(values: Iterable[model.Dependency]) -> list[job_pb2.Dependency]:
    """Turn dependencies into messages."""
    numbers: dict[model.DependencyType, Any] = {type_: number for number, type_ in _DEPENDENCY_TYPES.items()}
    return [job_pb2.Dependency(job_id=d.job_id, type=numbers[d.type]) for d in values]


# Hosts and reports ----------------------------------------------------------


def host_facts(message: host_pb2.HostFacts) -> model.HostFacts:
    """Turn an agent's words about its host into the core's."""
    return model.HostFacts(
        name=message.name,
        boot_id=message.boot_id,
        agent_version=message.agent_version,
        capacity=resources(message.capacity),
        gpus=tuple(
            model.GpuFacts(uuid=g.uuid, model=g.model, memory_mib=g.memory_mib, fault=g.fault) for g in message.gpus
        ),
        runtimes=tuple(message.runtimes),
        host_type=message.host_type or "workstation",
        purchase_option=message.purchase_option or "on-demand",
        zone=message.zone,
        labels=pairs(message.labels),
        operating_system=message.operating_system,
        cpu_model=message.cpu_model,
    )


def host_facts_message(value: model.HostFacts) -> host_pb2.HostFacts:
    """Turn what a host is into a message."""
    return host_pb2.HostFacts(
        name=value.name,
        boot_id=value.boot_id,
        agent_version=value.agent_version,
        capacity=resources_message(value.capacity),
        gpus=[host_pb2.Gpu(uuid=g.uuid, model=g.model, memory_mib=g.memory_mib, fault=g.fault) for g in value.gpus],
        runtimes=value.runtimes,
        host_type=value.host_type,
        purchase_option=value.purchase_option,
        zone=value.zone,
        labels=dict(value.labels),
        operating_system=value.operating_system,
        cpu_model=value.cpu_model,
    )


_PHASES = {
    agent_pb2.ATTEMPT_PHASE_STARTING: Phase.STARTING,
    agent_pb2.ATTEMPT_PHASE_RUNNING: Phase.RUNNING,
    agent_pb2.ATTEMPT_PHASE_ENDED: Phase.ENDED,
}
_CAUSES = {agent_pb2.EndCause.Value(f"END_CAUSE_{cause}"): cause for cause in model.EndCause}


def reports(messages: Iterable[agent_pb2.AttemptReport]) -> tuple[Report, ...]:
    """Turn an agent's reports into the core's; one of an unknown phase says nothing."""
    return tuple(_report(m) for m in messages if m.phase in _PHASES)


def _report(message: agent_pb2.AttemptReport) -> Report:
    end = None
    if message.phase == agent_pb2.ATTEMPT_PHASE_ENDED:
        end = model.AttemptEnd(
            cause=_CAUSES.get(message.cause, model.EndCause.EXITED),
            started_at_ms=message.started_at_ms,
            stopped_at_ms=message.stopped_at_ms,
            exit_code=message.exit_code if message.HasField("exit_code") else None,
            reason=message.reason,
        )
    return Report(
        attempt_id=AttemptId(message.attempt_id),
        phase=_PHASES[message.phase],
        started_at_ms=message.started_at_ms,
        end=end,
    )
