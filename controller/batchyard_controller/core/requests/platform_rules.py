"""
Platform rules: what EC2 and Fargate ask of environments, queues and jobs.

The texts are AWS's where it has some. Sources: AWS Batch User Guide, "Fargate compute
environments" and "Job definitions on Fargate"; API reference, ResourceRequirement.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from batchyard import fargate
from batchyard.errors import Reason, Violation
from batchyard.runtimes import PROCESS
from batchyard.tasks import Container, Task
from batchyard_controller.core.model.jobs import JobSpec
from batchyard_controller.core.model.nodes import Nodes
from batchyard_controller.core.model.settings import AllocationStrategy, ComputeEnvironment, ComputeResources, Platform

from .checks import Violations, check_range

_NOT_FOR_FARGATE = ("min_vcpus", "desired_vcpus", "instance_types", "provider", "bid_percentage", "scale_down_delay_s")
_STRATEGY = AllocationStrategy.BEST_FIT_PROGRESSIVE
_DISK_MIB_MIN, _DISK_MIB_MAX = fargate.DISK_GIB_MIN << 10, fargate.DISK_GIB_MAX << 10


def of_fargate(resources: ComputeResources) -> ComputeResources:
    """Return what an environment of Fargate is kept as: there is one strategy, which nobody chooses."""
    is_fargate = resources.type.platform is Platform.FARGATE
    return replace(resources, allocation_strategy=_STRATEGY) if is_fargate else resources


def check_platform(out: Violations, resources: ComputeResources, at: str) -> None:
    """Check that an environment of Fargate says nothing of hosts, which nobody chooses there."""
    if resources.type.platform is not Platform.FARGATE:
        return
    given = [name for name in _NOT_FOR_FARGATE if getattr(resources, name)]
    if resources.allocation_strategy not in (AllocationStrategy.BEST_FIT, _STRATEGY):
        given.append("allocation_strategy")
    out.extend(Violation(f"{at}.{name}", f"{name} is not applicable for Fargate.", Reason.PLATFORM) for name in given)


def check_together(environments: Iterable[ComputeEnvironment], field: str) -> Violations:
    """Check that environments may serve one queue."""
    if len({environment.compute_resources.type.platform for environment in environments}) < 2:
        return []
    text = "Fargate and EC2 compute environments can not be mixed."
    return [Violation(field, text, Reason.PLATFORM)]


def on_platform(spec: JobSpec, platform: Platform) -> JobSpec:
    """Return a job as it is on a platform: on Fargate it has a disk of its own, whether it asks for one or not."""
    if platform is not Platform.FARGATE or spec.task.resources.disk_mib:
        return spec
    main = spec.task.main
    disk = replace(main, resources=replace(main.resources, disk_mib=fargate.DISK_MIB))
    return replace(spec, task=replace(spec.task, containers=(disk, *spec.task.containers[1:])))


def check_capability(spec: JobSpec, platform: Platform) -> Violations:
    """Check that a queue's environments, of *platform*, can run a job."""
    platforms = spec.platform_capabilities
    if not platforms or platform in platforms:
        return check_nodes_on(spec.nodes, platform)
    return [Violation("queue", _cannot_run(" or ".join(platforms)), Reason.PLATFORM)]


def check_orchestration(spec: JobSpec, environments: Iterable[ComputeEnvironment]) -> Violations:
    """
    Check that a queue has nodes of a cluster for pods, and not these alone for a job that names a capability.

    Ours may run on nodes without naming one, as pods that are made of them. The text for
    pods is as AWS's for capabilities.
    """
    are_clusters = [environment.platform is Platform.EKS for environment in environments]
    if any(task.pod is not None for task in spec.tasks):
        if any(are_clusters):
            return []
        capability = str(Platform.EKS)
    elif not all(are_clusters) or not spec.platform_capabilities:
        return []
    else:
        capability = " or ".join(spec.platform_capabilities)
    return [Violation("queue", _cannot_run(capability), Reason.PLATFORM)]


def _cannot_run(capability: str) -> str:
    return f"Job Queue is attached to Compute Environment that can not run Jobs with capability {capability}."


def check_nodes_on(nodes: Nodes | None, platform: Platform) -> Violations:
    """Check that a job of several nodes is for a platform that has them (AWS Batch User Guide, "Multi-node parallel jobs")."""
    if nodes is None or platform is not Platform.FARGATE:
        return []
    return [Violation("nodes", "Multi-node parallel jobs are not supported on Fargate.", Reason.PLATFORM)]


def check_fargate(out: Violations, field: str, task: Task, *, complete: bool) -> None:
    """Check what is to run on Fargate; *complete* when nothing will be overridden any more."""
    for container in task.containers:
        _check_container(out, field, container)
    if any(volume.host_source_path for volume in task.volumes):
        out.append(_not_applicable(f"{field}.volumes", "host"))
    asked = task.resources
    if (complete or (asked.cpu_millis and asked.memory_mib)) and not fargate.is_size(
        asked.cpu_millis, asked.memory_mib
    ):
        text = fargate.not_a_size(asked.cpu_millis, asked.memory_mib)
        out.append(Violation(f"{field}.resources", text, Reason.PLATFORM))
    if asked.disk_mib and asked.disk_mib != fargate.DISK_MIB:
        check_range(out, f"{field}.resources.disk_mib", asked.disk_mib, _DISK_MIB_MIN, _DISK_MIB_MAX, "MiB")


def _check_container(out: Violations, field: str, container: Container) -> None:
    linux = container.linux_parameters
    given = {
        "privileged": container.privileged,
        "ulimits": container.ulimits,
        "GPU": container.resources.gpu_millis,
        "devices": linux.devices,
        "sharedMemorySize": linux.shared_memory_size_mib,
        "tmpfs": linux.tmpfs,
        "maxSwap": linux.max_swap_mib is not None,
        "swappiness": linux.swappiness is not None,
    }
    out.extend(_not_applicable(field, name) for name, value in given.items() if value)
    if Task(containers=(container,)).runtime == PROCESS:
        text = "Fargate runs containers alone: give the job an image"
        out.append(Violation(f"{field}.image", text, Reason.REQUIRED))


def _not_applicable(field: str, name: str) -> Violation:
    return Violation(field, f"{name} is not applicable for Fargate.", Reason.PLATFORM)
