"""Settings rules: what an environment, a queue or a host may say, by itself."""

from __future__ import annotations

import math
import re

from batchyard.errors import Reason, Violation
from batchyard.resources import Resources
from batchyard.states import JobState
from batchyard_controller.core import limits
from batchyard_controller.core.model.hosts import HostFacts, KubernetesFacts
from batchyard_controller.core.model.settings import (
    CAPABILITIES,
    ComputeEnvironment,
    ComputeResources,
    EnvironmentType,
    JobQueue,
    Platform,
    StateTimeLimit,
)
from batchyard_controller.core.placement.refusals import LIMITED_BLOCKS

from .checks import Violations, check_fence, check_range, check_text, quote
from .job_rules import AMOUNT_LIMITS
from .names import check_annotations, check_lengths, check_name, check_tags
from .platform_rules import check_platform
from .pod_rules import check_namespace
from .sharing_rules import check_caps


def check_compute_resources(out: Violations, resources: ComputeResources) -> None:
    """Check an environment's bounds (AWS: ComputeResource)."""
    at = "compute_resources"
    for name in ("min_vcpus", "max_vcpus", "desired_vcpus"):
        check_range(out, f"{at}.{name}", getattr(resources, name), 0, limits.MAX_VCPUS_MAX)
    for name in ("min_vcpus", "desired_vcpus"):
        if resources.max_vcpus and getattr(resources, name) > resources.max_vcpus:
            text = f"{getattr(resources, name)} is more than max_vcpus {resources.max_vcpus}"
            out.append(Violation(f"{at}.{name}", text, Reason.OUT_OF_RANGE))
    if len(resources.instance_types) > limits.INSTANCE_TYPES_MAX:
        text = f"{len(resources.instance_types)} given; at most {limits.INSTANCE_TYPES_MAX} are allowed"
        out.append(Violation(f"{at}.instance_types", text, Reason.TOO_MANY))
    for i, instance_type in enumerate(resources.instance_types[: limits.INSTANCE_TYPES_MAX]):
        if not instance_type:
            out.append(Violation(f"{at}.instance_types[{i}]", "a type must not be empty", Reason.REQUIRED))
        check_text(out, f"{at}.instance_types[{i}]", instance_type, limits.INSTANCE_TYPE_LENGTH_MAX)
    if resources.allocation_strategy.startswith("SPOT_") and resources.type == "EC2":
        out.append(
            Violation(
                f"{at}.allocation_strategy",
                f"{resources.allocation_strategy} is only for type SPOT, not EC2",
                Reason.CONFLICT,
            )
        )
    check_tags(out, resources.labels, f"{at}.labels")
    check_platform(out, resources, at)
    _check_scaling(out, resources, at)


def _check_scaling(out: Violations, resources: ComputeResources, at: str) -> None:
    """Check what is said to a provider."""
    check_text(out, f"{at}.provider", resources.provider, limits.PROVIDER_NAME_LENGTH_MAX)
    check_range(out, f"{at}.bid_percentage", resources.bid_percentage, 0, limits.BID_PERCENTAGE_MAX)
    check_range(out, f"{at}.scale_down_delay_s", resources.delay_s, 0, limits.SCALE_DOWN_DELAY_S_MAX, "seconds")
    if resources.bid_percentage and resources.type == "EC2":
        text = "is only for type SPOT, not EC2"
        out.append(Violation(f"{at}.bid_percentage", text, Reason.CONFLICT))
    if not resources.provider:
        for name in ("bid_percentage", "scale_down_delay_s"):
            if getattr(resources, name):
                out.append(Violation(f"{at}.{name}", "is only for an environment with a provider", Reason.CONFLICT))
        return
    if not resources.max_vcpus:
        out.append(Violation(f"{at}.max_vcpus", "is required where a provider launches hosts", Reason.REQUIRED))
    if 0 < resources.desired_vcpus < resources.min_vcpus:
        text = f"{resources.desired_vcpus} is less than min_vcpus {resources.min_vcpus}"
        out.append(Violation(f"{at}.desired_vcpus", text, Reason.OUT_OF_RANGE))


def check_queue(queue: JobQueue) -> Violations:
    """Return everything that is wrong with a queue by itself."""
    out: Violations = []
    check_name(out, "name", queue.name)
    check_range(out, "priority", queue.priority, -limits.INT32_MAX, limits.INT32_MAX)
    steps = queue.environment_order
    if not 1 <= len(steps) <= limits.ENVIRONMENTS_PER_QUEUE_MAX:
        out.append(
            Violation(
                "compute_environment_order",
                f"{len(steps)} compute environments; 1 to {limits.ENVIRONMENTS_PER_QUEUE_MAX} are allowed",
                Reason.OUT_OF_RANGE,
            )
        )
    if len({step.order for step in steps}) < len(steps) or len({s.compute_environment for s in steps}) < len(steps):
        text = "orders and compute environments must not repeat"
        out.append(Violation("compute_environment_order", text, Reason.DUPLICATE))
    if queue.scheduling_policy:
        check_name(out, "scheduling_policy", queue.scheduling_policy)
    check_caps(out, "", queue.max_running, queue.max_vcpus)
    check_range(out, "max_overtake_s", queue.max_overtake_s, 0, limits.INT32_MAX, "seconds")
    check_fence(out, queue.fence_s)
    _check_time_limits(out, queue.state_time_limits)
    check_tags(out, queue.tags)
    check_annotations(out, queue.annotations)
    return out


def _check_time_limits(out: Violations, time_limits: tuple[StateTimeLimit, ...]) -> None:
    """Check what bounds the time at the head of a queue (AWS: jobStateTimeLimitActions)."""
    field = "job_state_time_limit_actions"
    if len({limit.reason for limit in time_limits}) < len(time_limits):
        out.append(Violation(field, "no reason may stand twice", Reason.DUPLICATE))
    if len(time_limits) > len(LIMITED_BLOCKS):
        text = f"{len(time_limits)} given; at most {len(LIMITED_BLOCKS)} are allowed"
        out.append(Violation(field, text, Reason.TOO_MANY))
    for i, limit in enumerate(time_limits[: len(LIMITED_BLOCKS)]):
        at = f"{field}[{i}]"
        for name, value, allowed in (
            ("reason", limit.reason, LIMITED_BLOCKS),
            ("state", limit.state, (JobState.RUNNABLE,)),
            ("action", limit.action, ("CANCEL",)),
        ):
            if value not in allowed:
                text = f"{quote(value)} is not one of {', '.join(allowed)}"
                out.append(Violation(f"{at}.{name}", text, Reason.UNKNOWN_VALUE))
        check_range(
            out, f"{at}.max_time_s", limit.max_time_s, limits.STATE_TIME_S_MIN, limits.STATE_TIME_S_MAX, "seconds"
        )


_CLUSTER = re.compile(r"[0-9A-Za-z][A-Za-z0-9_-]*", re.ASCII)


def check_kubernetes(out: Violations, environment: ComputeEnvironment) -> None:
    """Check the cluster of an environment, and that it leaves its nodes to the cluster (AWS: EksConfiguration)."""
    cluster, resources = environment.kubernetes, environment.compute_resources
    if cluster is None:
        return
    if len(cluster.name) > limits.CLUSTER_NAME_LENGTH_MAX or not _CLUSTER.fullmatch(cluster.name):
        most = limits.CLUSTER_NAME_LENGTH_MAX
        text = f"{quote(cluster.name)} is not 1 to {most} letters, digits, '-' and '_', the first a letter or digit"
        out.append(Violation("kubernetes.name", text, Reason.MALFORMED))
    check_namespace(out, "kubernetes.namespace", cluster.namespace, forbidden="kube-")
    if resources.type.platform is Platform.FARGATE:
        text = f"{resources.type} is not for nodes of a cluster: EC2 or SPOT"
        out.append(Violation("compute_resources.type", text, Reason.PLATFORM))
    if environment.type is EnvironmentType.UNMANAGED:
        out.append(Violation("type", "UNMANAGED is not for nodes of a cluster", Reason.PLATFORM))
    if resources.provider:
        text = "nodes of a cluster have no provider: the cluster has them launched"
        out.append(Violation("compute_resources.provider", text, Reason.CONFLICT))


_FACTS_TEXTS = (
    "name",
    "boot_id",
    "agent_version",
    "host_type",
    "purchase_option",
    "zone",
    "operating_system",
    "cpu_model",
    "cpu_architecture",
    "address",
    "sandbox",
)


def check_reserved(amounts: Resources) -> Violations:
    """Return what is wrong with what an agent says that others hold of its host."""
    out: Violations = []
    for kind, (_, high, unit) in AMOUNT_LIMITS.items():
        check_range(out, f"usage.reserved.{kind}", getattr(amounts, kind), 0, high, unit)
    return out


def check_host_facts(facts: HostFacts) -> Violations:
    """Return everything that is wrong with what an agent says of its host."""
    out: Violations = []
    for name in _FACTS_TEXTS:
        check_text(out, f"facts.{name}", getattr(facts, name), limits.HOST_TEXT_LENGTH_MAX)
    for name in ("enforcement", "user"):
        check_text(out, f"facts.processes.{name}", getattr(facts.processes, name), limits.HOST_TEXT_LENGTH_MAX)
    if facts.kubernetes is not None:
        _check_kubernetes(out, facts.kubernetes)
    for kind, (_, high, unit) in AMOUNT_LIMITS.items():
        check_range(out, f"facts.capacity.{kind}", getattr(facts.capacity, kind), 0, high, unit)
    for field, values, most in (
        ("facts.runtimes", facts.runtimes, limits.HOST_RUNTIMES_MAX),
        ("facts.gpus", tuple(gpu.uuid for gpu in facts.gpus), limits.HOST_GPUS_MAX),
        ("facts.volume_paths", facts.volume_paths, limits.HOST_PATHS_MAX),
        ("facts.device_paths", facts.device_paths, limits.HOST_PATHS_MAX),
        ("facts.faults", facts.faults, limits.HOST_RUNTIMES_MAX),
        ("facts.platforms", facts.platforms, len(CAPABILITIES)),
        ("facts.features", facts.features, limits.HOST_FEATURES_MAX),
    ):
        if len(values) > most:
            out.append(Violation(field, f"{len(values)} given; at most {most} are allowed", Reason.TOO_MANY))
        if "" in values or len(set(values)) < len(values):
            out.append(Violation(field, "none may be empty, and none may stand twice", Reason.DUPLICATE))
        out += check_lengths(field, values[:most], limits.HOST_TEXT_LENGTH_MAX)
    for i, gpu in enumerate(facts.gpus[: limits.HOST_GPUS_MAX]):
        check_text(out, f"facts.gpus[{i}].model", gpu.model, limits.HOST_TEXT_LENGTH_MAX)
        check_text(out, f"facts.gpus[{i}].fault", gpu.fault, limits.HOST_TEXT_LENGTH_MAX)
        check_range(out, f"facts.gpus[{i}].memory_mib", gpu.memory_mib, 0, limits.MEMORY_MIB_MAX, "MiB")
    for platform in facts.platforms[: len(CAPABILITIES)]:
        if platform not in CAPABILITIES:
            text = f"{quote(platform)} is not one of {', '.join(CAPABILITIES)}"
            out.append(Violation("facts.platforms", text, Reason.UNKNOWN_VALUE))
    check_range(out, "facts.reclaimed_at_ms", facts.reclaimed_at_ms, 0, limits.WALL_MS_MAX)
    if not 0 <= facts.price_per_hour < math.inf:
        text = f"{facts.price_per_hour} is no price: 0 or more"
        out.append(Violation("facts.price_per_hour", text, Reason.OUT_OF_RANGE))
    check_tags(out, facts.labels, "facts.labels")
    return out


def _check_kubernetes(out: Violations, kubernetes: KubernetesFacts) -> None:
    """Check where a node says that it belongs."""
    for name in ("cluster", "namespace", "node_uid"):
        check_text(out, f"facts.kubernetes.{name}", getattr(kubernetes, name), limits.HOST_TEXT_LENGTH_MAX)
    for name in ("cluster", "namespace"):
        if not getattr(kubernetes, name):
            out.append(Violation(f"facts.kubernetes.{name}", "is required", Reason.REQUIRED))
    others, most = kubernetes.other_namespaces, limits.HOST_RUNTIMES_MAX
    if len(others) > most:
        text = f"{len(others)} given; at most {most} are allowed"
        out.append(Violation("facts.kubernetes.other_namespaces", text, Reason.TOO_MANY))
    out += check_lengths("facts.kubernetes.other_namespaces", others[:most], limits.HOST_TEXT_LENGTH_MAX)
