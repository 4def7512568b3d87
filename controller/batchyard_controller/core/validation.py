"""
Validation: what a request may say, whatever the state of the world.

Each check appends `Violation`s that name the field, the value and the limit.
Rules and numbers: `limits`; AWS Batch API reference.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from batchyard.errors import InvalidArgumentError, Violation
from batchyard.ids import NAME_LENGTH_MAX, is_job_name, is_name, is_uuid
from batchyard.resources import GPU_WHOLE, Resources
from batchyard.runtimes import DOCKER, runtime_of

from . import limits
from .model import ComputeResources, Container, DependencyType, JobQueue, Pairs, RetryStrategy
from .resolution import Submission

Violations = list[Violation]

_IMAGE = re.compile(r"[A-Za-z0-9_.:/#@-]+", re.ASCII)
_VARIABLE = re.compile(r"[^=\0]+")
_EXIT_CODE_PATTERN = re.compile(r"\d*\*?", re.ASCII)
_TEXT_PATTERN = re.compile(r"[\w.:\s]*\*?", re.ASCII)
_AMOUNT_LIMITS = {
    "cpu_millis": (limits.CPU_MILLIS_MIN, limits.CPU_MILLIS_MAX, "thousandths of a vCPU"),
    "memory_mib": (limits.MEMORY_MIB_MIN, limits.MEMORY_MIB_MAX, "MiB"),
    "gpu_millis": (0, limits.GPU_MILLIS_MAX, "thousandths of a GPU"),
    "disk_mib": (0, limits.DISK_MIB_MAX, "MiB"),
}


def refuse(violations: Violations) -> None:
    """
    Raise if anything is wrong.

    Raises:
        InvalidArgumentError: with all violations.
    """
    if violations:
        raise InvalidArgumentError.from_violations(violations)


def quote(value: str) -> str:
    """Show a value in a message, cut if it is long."""
    return repr(value if len(value) <= 40 else value[:37] + "...")


def check_name(out: Violations, field: str, value: str) -> None:
    """Check the name of a queue, environment or definition."""
    if not value:
        out.append(Violation(field, "a name is required"))
    elif len(value) > NAME_LENGTH_MAX:
        out.append(
            Violation(field, f"{quote(value)} has {len(value)} characters; at most {NAME_LENGTH_MAX} are allowed")
        )
    elif not is_name(value):
        out.append(Violation(field, f"{quote(value)} may hold only letters, digits, '-' and '_'"))


def check_job_name(out: Violations, field: str, value: str) -> None:
    """Check a job's name: as other names, first a letter or digit."""
    before = len(out)
    check_name(out, field, value)
    if len(out) == before and not is_job_name(value):
        out.append(Violation(field, f"{quote(value)} must begin with a letter or a digit"))


def check_range(out: Violations, field: str, value: int, low: int, high: int, unit: str = "") -> None:
    """Check that a number lies between two limits, both allowed."""
    if not low <= value <= high:
        unit_text = f" {unit}" if unit else ""
        out.append(Violation(field, f"{value}{unit_text} is not between {low} and {high}"))


def check_text(out: Violations, field: str, value: str, length_max: int) -> None:
    """Check a free text's length."""
    if len(value) > length_max:
        out.append(Violation(field, f"{len(value)} characters; at most {length_max} are allowed"))


def check_tags(out: Violations, tags: Pairs) -> None:
    """Check tags (AWS: TagResource)."""
    if len(tags) > limits.TAGS_MAX:
        out.append(Violation("tags", f"{len(tags)} tags; at most {limits.TAGS_MAX} are allowed"))
    for key, value in tags:
        if not key:
            out.append(Violation("tags", "a tag's key must not be empty"))
        check_text(out, f"tags[{quote(key)}].key", key, limits.TAG_KEY_LENGTH_MAX)
        check_text(out, f"tags[{quote(key)}]", value, limits.TAG_VALUE_LENGTH_MAX)


def check_environment_variables(out: Violations, field: str, environment: Pairs) -> None:
    """Check names of variables; ``AWS_BATCH`` is reserved (AWS: KeyValuePair)."""
    for name, value in environment:
        if not _VARIABLE.fullmatch(name) or "\0" in value:
            out.append(Violation(field, f"{quote(name)} is no name of a variable, or its value holds a NUL"))
        elif name.startswith(("AWS_BATCH", "BATCHYARD_ATTEMPT", "BATCHYARD_FENCE")):
            out.append(Violation(field, f"{quote(name)}: names beginning with AWS_BATCH are reserved"))


def check_command(out: Violations, field: str, command: Iterable[str]) -> None:
    """Check an argument vector."""
    parts = tuple(command)
    size = sum(len(part.encode()) for part in parts)
    if size > limits.COMMAND_BYTES_MAX:
        out.append(
            Violation(field, f"{size} bytes; Container Overrides length must be at most {limits.COMMAND_BYTES_MAX}")
        )
    if any("\0" in part for part in parts):
        out.append(Violation(field, "an argument holds a NUL character"))
    if parts and not parts[0]:
        out.append(Violation(field, "the first argument, the command itself, is empty"))


def check_resources(out: Violations, field: str, resources: Resources) -> None:
    """Check a job's amounts."""
    for kind, (low, high, unit) in _AMOUNT_LIMITS.items():
        check_range(out, f"{field}.{kind}", getattr(resources, kind), low, high, unit)
    gpu = resources.gpu_millis
    if gpu > GPU_WHOLE and gpu % GPU_WHOLE:
        out.append(Violation(f"{field}.gpu_millis", f"{gpu} is more than one GPU and no multiple of {GPU_WHOLE}"))


def check_container(out: Violations, field: str, container: Container, *, complete: bool) -> None:
    """Check a container; *complete* when nothing will be overridden any more."""
    image = container.image
    if len(image) > limits.IMAGE_LENGTH_MAX:
        out.append(
            Violation(f"{field}.image", f"{len(image)} characters; at most {limits.IMAGE_LENGTH_MAX} are allowed")
        )
    elif image and not _IMAGE.fullmatch(image):
        out.append(Violation(f"{field}.image", f"{quote(image)} holds characters that no image name has"))
    check_command(out, f"{field}.command", container.command)
    if complete and not container.command and runtime_of(image) not in (DOCKER, "fake"):
        out.append(Violation(f"{field}.command", "a command is required when there is no image"))
    check_environment_variables(out, f"{field}.environment", container.environment)
    if complete:
        check_resources(out, f"{field}.resources", container.resources)
    else:
        _check_given_resources(out, f"{field}.resources", container.resources)
    _refuse_unsupported(out, field, container)


def _check_given_resources(out: Violations, field: str, resources: Resources) -> None:
    """Check a definition's amounts; those left out may still be given at submission."""
    for kind, (low, high, unit) in _AMOUNT_LIMITS.items():
        if getattr(resources, kind):
            check_range(out, f"{field}.{kind}", getattr(resources, kind), low, high, unit)


def _refuse_unsupported(out: Violations, field: str, container: Container) -> None:
    """Refuse what is in the contract and not built yet, rather than ignore it."""
    asked = {
        "privileged": container.privileged,
        "volumes": container.volumes,
        "mount_points": container.mount_points,
        "secrets": container.secrets,
        "linux_parameters.devices": container.linux_parameters.devices,
    }
    out.extend(Violation(f"{field}.{name}", "is not supported yet") for name, value in asked.items() if value)


def check_retry(out: Violations, field: str, retry: RetryStrategy) -> None:
    """Check a retry strategy (AWS: RetryStrategy, EvaluateOnExit)."""
    check_range(out, f"{field}.attempts", retry.attempts, 1, limits.ATTEMPTS_MAX)
    if len(retry.rules) > limits.EXIT_RULES_MAX:
        out.append(
            Violation(
                f"{field}.evaluate_on_exit", f"{len(retry.rules)} rules; at most {limits.EXIT_RULES_MAX} are allowed"
            )
        )
    for i, rule in enumerate(retry.rules):
        at = f"{field}.evaluate_on_exit[{i}]"
        patterns = {
            "on_status_reason": (rule.on_status_reason, _TEXT_PATTERN),
            "on_reason": (rule.on_reason, _TEXT_PATTERN),
            "on_exit_code": (rule.on_exit_code, _EXIT_CODE_PATTERN),
        }
        if not any(pattern for pattern, _ in patterns.values()):
            out.append(Violation(at, "at least one of on_status_reason, on_reason, on_exit_code is required"))
        for name, (pattern, grammar) in patterns.items():
            check_text(out, f"{at}.{name}", pattern, limits.PATTERN_LENGTH_MAX)
            if not grammar.fullmatch(pattern):
                out.append(
                    Violation(f"{at}.{name}", f"{quote(pattern)} is no pattern; a '*' may stand only at its end")
                )


def check_timeout(out: Violations, field: str, timeout_s: int) -> None:
    """Check a timeout; 0 means none."""
    check_range(out, field, timeout_s, 0, limits.TIMEOUT_S_MAX, "seconds")


def check_submission(submission: Submission) -> Violations:
    """Return everything that is wrong with a submission by itself."""
    out: Violations = []
    check_job_name(out, "name", submission.name)
    check_name(out, "queue", submission.queue)
    if submission.definition and submission.container is not None:
        out.append(Violation("container", "give either a job definition or a container, not both"))
    if not submission.definition and submission.container is None:
        out.append(Violation("job_definition", "a job definition or a container is required"))
    if submission.container is not None:
        check_container(out, "container", submission.container, complete=False)
    check_command(out, "overrides.command", submission.overrides.command)
    check_environment_variables(out, "overrides.environment", submission.overrides.environment)
    if submission.array_size != 0:
        check_range(out, "array_size", submission.array_size, limits.ARRAY_SIZE_MIN, limits.ARRAY_SIZE_MAX)
    _check_dependencies(out, submission)
    if submission.retry is not None:
        check_retry(out, "retry_strategy", submission.retry)
    check_timeout(out, "timeout_s", submission.timeout_s)
    check_text(out, "share_identifier", submission.share_identifier, limits.SHARE_IDENTIFIER_LENGTH_MAX)
    if submission.scheduling_priority is not None:
        check_range(out, "scheduling_priority", submission.scheduling_priority, 0, limits.SCHEDULING_PRIORITY_MAX)
    check_tags(out, submission.tags)
    check_text(out, "request_id", submission.request_id, limits.REQUEST_ID_LENGTH_MAX)
    return out


def _check_dependencies(out: Violations, submission: Submission) -> None:
    count = len(submission.depends_on)
    if count > limits.DEPENDENCIES_MAX:
        out.append(
            Violation("depends_on", f"Job cannot have more than {limits.DEPENDENCIES_MAX} dependencies ({count} given)")
        )
    for i, dependency in enumerate(submission.depends_on[: limits.DEPENDENCIES_MAX]):
        if dependency.type is not DependencyType.WHOLE:
            out.append(Violation(f"depends_on[{i}].type", f"{dependency.type} is not supported yet"))
        elif not is_uuid(dependency.job_id):
            out.append(Violation(f"depends_on[{i}].job_id", f"{quote(dependency.job_id)} is no job id"))


def check_compute_resources(out: Violations, resources: ComputeResources) -> None:
    """Check an environment's bounds (AWS: ComputeResource)."""
    at = "compute_resources"
    for name in ("min_vcpus", "max_vcpus", "desired_vcpus"):
        check_range(out, f"{at}.{name}", getattr(resources, name), 0, limits.MAX_VCPUS_MAX)
    if resources.max_vcpus and resources.min_vcpus > resources.max_vcpus:
        out.append(Violation(f"{at}.min_vcpus", f"{resources.min_vcpus} is more than max_vcpus {resources.max_vcpus}"))
    if resources.allocation_strategy.startswith("SPOT_") and resources.type != "SPOT":
        out.append(
            Violation(
                f"{at}.allocation_strategy",
                f"{resources.allocation_strategy} is only for type SPOT, not {resources.type}",
            )
        )
    check_tags(out, resources.labels)


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
            )
        )
    if len({step.order for step in steps}) < len(steps) or len({s.compute_environment for s in steps}) < len(steps):
        out.append(Violation("compute_environment_order", "orders and compute environments must not repeat"))
    if queue.scheduling_policy:
        out.append(Violation("scheduling_policy", "is not supported yet"))
    if queue.state_time_limits:
        out.append(Violation("job_state_time_limit_actions", "is not supported yet"))
    check_tags(out, queue.tags)
    return out
