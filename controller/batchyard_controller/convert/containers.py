"""Containers, retry strategies and job definitions."""

from __future__ import annotations

from functools import lru_cache

from batchyard.errors import InvalidArgumentError, Reason, Violation
from batchyard.v1 import (
    job_definition_pb2,
)
from batchyard_controller.core.model.containers import (
    Container,
    Device,
    LinuxParameters,
    LogConfiguration,
    MountPoint,
    Secret,
    Tmpfs,
    Ulimit,
    Volume,
)
from batchyard_controller.core.model.jobs import (
    DefinitionStatus,
    DefinitionType,
    ExitAction,
    ExitRule,
    JobDefinition,
    RetryStrategy,
)
from batchyard_controller.core.model.tasks import Task

from .values import enum_value, pairs, resources, resources_message

CACHED_BYTES_MAX = 4096
"""Longest container that is remembered: many jobs have the same, but none may fill the memory."""


def task(message: job_definition_pb2.ContainerProperties) -> Task:
    """Turn a container, with its volumes, into the core's task."""
    data = message.SerializeToString(deterministic=True)
    return _same_task(data) if len(data) <= CACHED_BYTES_MAX else _task(message)


@lru_cache(maxsize=1024)
def _same_task(data: bytes) -> Task:
    return _task(job_definition_pb2.ContainerProperties.FromString(data))


def _task(message: job_definition_pb2.ContainerProperties) -> Task:
    volumes = tuple(Volume(name=v.name, host_source_path=v.host_source_path) for v in message.volumes)
    return Task(containers=(_container(message),), volumes=volumes)


def _container(message: job_definition_pb2.ContainerProperties) -> Container:
    linux = message.linux_parameters
    return Container(
        image=message.image,
        command=tuple(message.command),
        environment=pairs(message.environment),
        resources=resources(message.resources),
        user=message.user,
        working_directory=message.working_directory,
        privileged=message.privileged,
        readonly_root_filesystem=message.readonly_root_filesystem,
        ulimits=tuple(Ulimit(name=u.name, soft_limit=u.soft_limit, hard_limit=u.hard_limit) for u in message.ulimits),
        mount_points=tuple(
            MountPoint(source_volume=m.source_volume, container_path=m.container_path, read_only=m.read_only)
            for m in message.mount_points
        ),
        linux_parameters=LinuxParameters(
            devices=tuple(
                Device(host_path=d.host_path, container_path=d.container_path, permissions=tuple(d.permissions))
                for d in linux.devices
            ),
            init_process_enabled=linux.init_process_enabled if linux.HasField("init_process_enabled") else None,
            shared_memory_size_mib=linux.shared_memory_size_mib,
            tmpfs=tuple(
                Tmpfs(container_path=t.container_path, size_mib=t.size_mib, mount_options=tuple(t.mount_options))
                for t in linux.tmpfs
            ),
            max_swap_mib=linux.max_swap_mib if linux.HasField("max_swap_mib") else None,
            swappiness=linux.swappiness if linux.HasField("swappiness") else None,
        ),
        log_configuration=LogConfiguration(
            log_driver=message.log_configuration.log_driver, options=pairs(message.log_configuration.options)
        ),
        secrets=tuple(Secret(name=s.name, value_from=s.value_from) for s in message.secrets),
        job_role_arn=message.job_role_arn,
        execution_role_arn=message.execution_role_arn,
    )


@lru_cache(maxsize=1024)
def task_message(value: Task) -> job_definition_pb2.ContainerProperties:
    """Turn a task into a message; the same one for the same task, which nobody may change."""
    message = _container_message(value.main)
    message.volumes.extend(
        job_definition_pb2.Volume(name=v.name, host_source_path=v.host_source_path) for v in value.volumes
    )
    return message


def _container_message(value: Container) -> job_definition_pb2.ContainerProperties:
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
    if linux != LinuxParameters():
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


def retry(message: job_definition_pb2.RetryStrategy) -> RetryStrategy:
    """Turn a retry strategy into the core's; no number of attempts means one, but rules need a number."""
    return RetryStrategy(
        attempts=message.attempts or (0 if message.evaluate_on_exit else 1),
        infrastructure_retries=message.infrastructure_retries,
        rules=tuple(
            ExitRule(
                action=enum_value(
                    job_definition_pb2.EvaluateOnExitAction,
                    "EVALUATE_ON_EXIT_ACTION_",
                    ExitAction,
                    rule.action,
                    None,
                    f"retry_strategy.evaluate_on_exit[{i}].action",
                ),
                on_status_reason=rule.on_status_reason,
                on_reason=rule.on_reason,
                on_exit_code=rule.on_exit_code,
            )
            for i, rule in enumerate(message.evaluate_on_exit)
        ),
    )


def retry_message(value: RetryStrategy) -> job_definition_pb2.RetryStrategy:
    """Turn a retry strategy into a message."""
    pb = job_definition_pb2
    return pb.RetryStrategy(
        attempts=value.attempts,
        infrastructure_retries=value.infrastructure_retries,
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


def definition(message: job_definition_pb2.RegisterJobDefinitionRequest, now_ms: int) -> JobDefinition:
    """Turn a registration into a definition whose revision is not chosen yet."""
    wrapper, default = job_definition_pb2.JobDefinitionType, DefinitionType.CONTAINER
    type_ = enum_value(wrapper, "JOB_DEFINITION_TYPE_", DefinitionType, message.type, default, "type")
    if type_ is not DefinitionType.CONTAINER:
        text = f"{type_.name} is not supported yet, only CONTAINER is"
        raise InvalidArgumentError.from_violations([Violation("type", text, Reason.NOT_SUPPORTED)])
    return JobDefinition(
        name=message.name,
        revision=0,
        task=task(message.container),
        parameters=pairs(message.parameters),
        retry=retry(message.retry_strategy) if message.HasField("retry_strategy") else None,
        timeout_s=message.timeout_s,
        scheduling_priority=message.scheduling_priority if message.HasField("scheduling_priority") else None,
        propagate_tags=message.propagate_tags,
        tags=pairs(message.tags),
        platform_capabilities=tuple(message.platform_capabilities),
        created_at_ms=now_ms,
        annotations=pairs(message.annotations),
    )


def definition_message(value: JobDefinition) -> job_definition_pb2.JobDefinition:
    """Turn a definition into a message."""
    pb = job_definition_pb2
    return pb.JobDefinition(
        name=value.name,
        revision=value.revision,
        type=pb.JobDefinitionType.Value(f"JOB_DEFINITION_TYPE_{value.type.name}"),
        status=pb.JobDefinitionStatus.Value(f"JOB_DEFINITION_STATUS_{value.status}"),
        container=task_message(value.task),
        parameters=dict(value.parameters),
        retry_strategy=None if value.retry is None else retry_message(value.retry),
        timeout_s=value.timeout_s,
        scheduling_priority=value.scheduling_priority,
        propagate_tags=value.propagate_tags,
        tags=dict(value.tags),
        platform_capabilities=value.platform_capabilities,
        created_at_ms=value.created_at_ms,
        annotations=dict(value.annotations),
    )


def definition_status(value: int) -> DefinitionStatus | None:
    """Turn a status into the core's; None for UNSPECIFIED."""
    if not value:
        return None
    wrapper = job_definition_pb2.JobDefinitionStatus
    return enum_value(wrapper, "JOB_DEFINITION_STATUS_", DefinitionStatus, value, None, "status")
