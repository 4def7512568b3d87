"""
Validation: what a request may say, whatever the state of the world.

Each check appends `Violation`s that name the field, the value and the limit.
Rules and numbers: `limits`; AWS Batch API reference.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import assert_never

from batchyard.errors import InvalidArgumentError, Violation
from batchyard.ids import BY_REQUEST, NAME_LENGTH_MAX, is_job_name, is_name, is_uuid
from batchyard.resources import GPU_WHOLE, Resources
from batchyard.runtimes import DOCKER, PROCESS, runtime_of
from batchyard.states import JobState

from . import limits
from .checks import Violations, check_range, check_text, quote
from .dependencies import CHILD_TYPES
from .model import (
    ComputeResources,
    Container,
    DependencyType,
    HostFacts,
    JobQueue,
    Pairs,
    ResourceKind,
    RetryStrategy,
    StateTimeLimit,
)
from .reasons import LIMITED_REASONS
from .resolution import Overrides, Submission
from .secret_names import secret_names
from .surroundings import check_surroundings

_IMAGE = re.compile(r"[A-Za-z0-9_.:/#@-]+", re.ASCII)
_VARIABLE = re.compile(r"[^=\0]+")
_SHELL_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}", re.ASCII)
_DEFINITION_KEY = re.compile(r"[A-Za-z0-9_-]{1,128}(:\d{1,9})?", re.ASCII)
_RESERVED_VARIABLES = ("AWS_BATCH", "BATCHYARD_ATTEMPT", "BATCHYARD_FENCE")
_SHARE = re.compile(r"[A-Za-z0-9]*\*?", re.ASCII)
_EXIT_CODE_PATTERN = re.compile(r"\d*\*?", re.ASCII)
_TEXT_PATTERN = re.compile(r"[A-Za-z0-9.:\s]*\*?", re.ASCII)
_PATTERN_CHARACTERS = {
    _EXIT_CODE_PATTERN: "digits",
    _TEXT_PATTERN: "letters, digits, '.', ':' and white space",
}
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
    """Check a job's name: as other names, first a letter or digit (AWS: SubmitJob)."""
    wrong: Violations = []
    check_name(wrong, field, value)
    if not wrong and not is_job_name(value):
        wrong.append(Violation(field, f"{quote(value)} must begin with a letter or a digit"))
    out.extend(Violation(v.field, f"Job name should match valid pattern: {v.message}") for v in wrong)


def check_lengths(field: str, values: Iterable[str], length_max: int) -> Violations:
    """Return which texts of a list are too long to name anything."""
    out: Violations = []
    for i, value in enumerate(values):
        check_text(out, f"{field}[{i}]", value[: length_max + 1], length_max)
    return out


def check_job_id(out: Violations, field: str, value: str) -> None:
    """Check that a text may be the id of a job or child; whether there is one is not asked."""
    if not value:
        out.append(Violation(field, "a job id is required"))
    check_text(out, field, value, limits.JOB_ID_LENGTH_MAX)


def check_definition_key(out: Violations, field: str, value: str, *, needs_revision: bool) -> None:
    """Check that a text is ``name:revision``, or ``name`` where that is enough."""
    match = _DEFINITION_KEY.fullmatch(value)
    if match is None or (needs_revision and not match[1]):
        form = "name:revision" if needs_revision else "name or name:revision"
        out.append(Violation(field, f"{quote(value)} does not have the form {form}"))


def check_tags(out: Violations, tags: Pairs, field: str = "tags") -> None:
    """Check tags (AWS: TagResource)."""
    if len(tags) > limits.TAGS_MAX:
        noun = field.rpartition(".")[2]
        out.append(Violation(field, f"{len(tags)} {noun}; at most {limits.TAGS_MAX} are allowed"))
    for key, value in tags:
        if not key:
            out.append(Violation(field, "a key must not be empty"))
        check_text(out, f"{field}[{quote(key)}].key", key, limits.TAG_KEY_LENGTH_MAX)
        check_text(out, f"{field}[{quote(key)}]", value, limits.TAG_VALUE_LENGTH_MAX)


def check_tag_keys(out: Violations, keys: Sequence[str]) -> None:
    """Check keys of tags to remove (AWS: UntagResource)."""
    check_range(out, "keys", len(keys), 1, limits.TAGS_MAX, "keys")
    out += check_lengths("keys", keys[: limits.TAGS_MAX], limits.TAG_KEY_LENGTH_MAX)


def check_resource_name(out: Violations, kind: ResourceKind, name: str) -> None:
    """Check that a text may name a resource of this kind; whether there is one is not asked."""
    match kind:
        case ResourceKind.JOB:
            check_job_id(out, "name", name)
        case ResourceKind.JOB_DEFINITION:
            check_definition_key(out, "name", name, needs_revision=True)
        case ResourceKind.JOB_QUEUE | ResourceKind.COMPUTE_ENVIRONMENT:
            check_name(out, "name", name)
        case _:
            assert_never(kind)


def check_annotations(out: Violations, annotations: Pairs) -> None:
    """Check what is kept with a thing and never interpreted: how many, their keys, and their size in all."""
    if len(annotations) > limits.ANNOTATIONS_MAX:
        text = f"{len(annotations)} annotations; at most {limits.ANNOTATIONS_MAX} are allowed"
        out.append(Violation("annotations", text))
    size = sum(len(key.encode()) + len(value.encode()) for key, value in annotations)
    if size > limits.ANNOTATIONS_BYTES_MAX:
        text = f"keys and values have {size} bytes; at most {limits.ANNOTATIONS_BYTES_MAX} are allowed"
        out.append(Violation("annotations", text))
    for key, _ in annotations[: limits.ANNOTATIONS_MAX]:
        if not key:
            out.append(Violation("annotations", "a key must not be empty"))
        check_text(out, f"annotations[{quote(key)}].key", key, limits.ANNOTATION_KEY_LENGTH_MAX)


def check_environment_variables(out: Violations, field: str, environment: Pairs) -> None:
    """Check names of variables; ``AWS_BATCH`` is reserved (AWS: KeyValuePair)."""
    for name, value in environment:
        if not _VARIABLE.fullmatch(name) or "\0" in value:
            out.append(Violation(field, f"{quote(name)} is no name of a variable, or its value holds a NUL"))
        elif name.startswith(_RESERVED_VARIABLES):
            reserved = ", ".join(_RESERVED_VARIABLES)
            out.append(Violation(field, f"{quote(name)}: names beginning with {reserved} are reserved"))


def _check_secrets(out: Violations, field: str, container: Container) -> None:
    """Check variables that come from secrets; their names are the shell's, so that every runtime can hide them."""
    if len(container.secrets) > limits.SECRETS_PER_JOB_MAX:
        text = f"{len(container.secrets)} secrets; at most {limits.SECRETS_PER_JOB_MAX} are allowed"
        out.append(Violation(field, text))
    taken = {name for name, _ in container.environment}
    for i, secret in enumerate(container.secrets[: limits.SECRETS_PER_JOB_MAX]):
        at = f"{field}[{i}]"
        if not _SHELL_VARIABLE.fullmatch(secret.name):
            text = f"{quote(secret.name)} must be letters, digits and '_', the first no digit"
            out.append(Violation(f"{at}.name", text))
        check_environment_variables(out, f"{at}.name", ((secret.name, ""),) if secret.name else ())
        if secret.name in taken:
            text = (
                "The secret name must be unique and not shared with any new or existing environment "
                f"variables set on the container, such as {quote(secret.name)}"
            )
            out.append(Violation(f"{at}.name", text))
        taken.add(secret.name)
        if not secret_names(secret.value_from):
            text = f"{quote(secret.value_from)} is no secret's name, and no ARN of a whole secret or parameter"
            out.append(Violation(f"{at}.value_from", text))


def check_command(out: Violations, field: str, command: tuple[str, ...]) -> None:
    """Check an argument vector; its length is bounded by what it is part of."""
    if any("\0" in part for part in command):
        out.append(Violation(field, "an argument holds a NUL character"))
    if command and not command[0]:
        out.append(Violation(field, "the first argument, the command itself, is empty"))


def check_resources(out: Violations, field: str, resources: Resources) -> None:
    """Check a job's amounts; AWS knows a text for vCPUs that are missing."""
    for kind in _AMOUNT_LIMITS:
        if kind == "cpu_millis" and not resources.cpu_millis:
            text = f"vCPU is not provided. At least {limits.CPU_MILLIS_MIN} thousandth of a vCPU is required"
            out.append(Violation(f"{field}.{kind}", text))
        else:
            _check_amount(out, field, kind, getattr(resources, kind))


def _check_amount(out: Violations, field: str, kind: str, value: int) -> None:
    low, high, unit = _AMOUNT_LIMITS[kind]
    check_range(out, f"{field}.{kind}", value, low, high, unit)
    if kind == "gpu_millis" and GPU_WHOLE < value <= high and value % GPU_WHOLE:
        out.append(Violation(f"{field}.{kind}", f"{value} is more than one GPU and no multiple of {GPU_WHOLE}"))


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
    _check_secrets(out, f"{field}.secrets", container)
    check_surroundings(out, field, container)
    _check_needs_image(out, field, container)


def _check_given_resources(out: Violations, field: str, resources: Resources) -> None:
    """Check a definition's amounts; those left out may still be given at submission."""
    for kind in _AMOUNT_LIMITS:
        if getattr(resources, kind):
            _check_amount(out, field, kind, getattr(resources, kind))


def _check_needs_image(out: Violations, field: str, container: Container) -> None:
    """Check that a process, which sees the host as it is, asks for nothing that only a container can have."""
    if runtime_of(container.image) != PROCESS:
        return
    asked = {
        "privileged": container.privileged,
        "mount_points": container.mount_points,
        "linux_parameters.devices": container.linux_parameters.devices,
    }
    text = "needs a container: give the job an image"
    out.extend(Violation(f"{field}.{name}", text) for name, value in asked.items() if value)


def check_retry(out: Violations, field: str, retry: RetryStrategy) -> None:
    """Check a retry strategy (AWS: RetryStrategy, EvaluateOnExit)."""
    if retry.rules and not retry.attempts:
        out.append(Violation(f"{field}.attempts", "RetryAttempts must be provided with retry strategy"))
    else:
        check_range(out, f"{field}.attempts", retry.attempts, 1, limits.ATTEMPTS_MAX)
    check_range(
        out, f"{field}.infrastructure_retries", retry.infrastructure_retries, 0, limits.INFRASTRUCTURE_RETRIES_MAX
    )
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
                allowed = _PATTERN_CHARACTERS[grammar]
                text = f"{quote(pattern)} is no pattern: only {allowed} are allowed, and a '*' at the end"
                out.append(Violation(f"{at}.{name}", text))


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
    if submission.definition:
        check_definition_key(out, "job_definition", submission.definition, needs_revision=False)
    _check_overrides(out, submission.overrides)
    if submission.array_size != 0:
        check_range(out, "array_size", submission.array_size, limits.ARRAY_SIZE_MIN, limits.ARRAY_SIZE_MAX)
    if submission.array_concurrency != 0:
        check_range(out, "array_concurrency", submission.array_concurrency, 1, limits.ARRAY_SIZE_MAX, "children")
        if not submission.array_size:
            out.append(Violation("array_concurrency", "is only for an array job"))
    _check_dependencies(out, submission)
    if submission.retry is not None:
        check_retry(out, "retry_strategy", submission.retry)
    check_timeout(out, "timeout_s", submission.timeout_s)
    _check_share(out, submission.share_identifier)
    if submission.scheduling_priority is not None:
        check_range(out, "scheduling_priority", submission.scheduling_priority, 0, limits.SCHEDULING_PRIORITY_MAX)
    check_tags(out, submission.tags)
    check_annotations(out, submission.annotations)
    check_text(out, "request_id", submission.request_id, limits.REQUEST_ID_LENGTH_MAX)
    return out


def _check_share(out: Violations, value: str) -> None:
    check_text(out, "share_identifier", value, limits.SHARE_IDENTIFIER_LENGTH_MAX)
    if not _SHARE.fullmatch(value):
        text = f"{quote(value)} may hold only letters and digits, and a '*' at its end"
        out.append(Violation("share_identifier", text))


def _check_overrides(out: Violations, overrides: Overrides) -> None:
    """Check what replaces parts of a definition (AWS: ContainerOverrides)."""
    texts = (*overrides.command, *(text for pair in overrides.environment for text in pair))
    size = sum(len(text.encode()) for text in texts)
    if size > limits.OVERRIDES_BYTES_MAX:
        text = f"Container Overrides length must be at most {limits.OVERRIDES_BYTES_MAX}; {size} bytes are given"
        out.append(Violation("overrides", text))
    if "\0" in "".join(overrides.command):
        out.append(Violation("overrides.command", "an argument holds a NUL character"))
    if "" in overrides.command:
        text = f"argument {overrides.command.index('')} is empty; an override holds no empty string"
        out.append(Violation("overrides.command", text))
    check_environment_variables(out, "overrides.environment", overrides.environment)
    for kind in _AMOUNT_LIMITS:
        value = getattr(overrides, kind)
        if value is not None:
            _check_amount(out, "overrides", kind, value)


def _check_dependencies(out: Violations, submission: Submission) -> None:
    count = len(submission.depends_on)
    if count > limits.DEPENDENCIES_MAX:
        out.append(
            Violation("depends_on", f"Job cannot have more than {limits.DEPENDENCIES_MAX} dependencies ({count} given)")
        )
    for i, dependency in enumerate(submission.depends_on[: limits.DEPENDENCIES_MAX]):
        if dependency.type in CHILD_TYPES and not submission.array_size:
            out.append(Violation(f"depends_on[{i}].type", f"{dependency.type} is only for an array job"))
        if dependency.type is DependencyType.SEQUENTIAL:
            if dependency.job_id:
                text = f"{quote(dependency.job_id)}: SEQUENTIAL is about the job's own children and takes no job id"
                out.append(Violation(f"depends_on[{i}].job_id", text))
        elif dependency.job_id.startswith(BY_REQUEST):
            request_id = dependency.job_id.removeprefix(BY_REQUEST)
            check_text(out, f"depends_on[{i}].job_id", request_id, limits.REQUEST_ID_LENGTH_MAX)
        elif not is_uuid(dependency.job_id):
            out.append(Violation(f"depends_on[{i}].job_id", f"{quote(dependency.job_id)} is no job id"))


def check_compute_resources(out: Violations, resources: ComputeResources) -> None:
    """Check an environment's bounds (AWS: ComputeResource)."""
    at = "compute_resources"
    for name in ("min_vcpus", "max_vcpus", "desired_vcpus"):
        check_range(out, f"{at}.{name}", getattr(resources, name), 0, limits.MAX_VCPUS_MAX)
    for name in ("min_vcpus", "desired_vcpus"):
        if resources.max_vcpus and getattr(resources, name) > resources.max_vcpus:
            text = f"{getattr(resources, name)} is more than max_vcpus {resources.max_vcpus}"
            out.append(Violation(f"{at}.{name}", text))
    if len(resources.instance_types) > limits.INSTANCE_TYPES_MAX:
        text = f"{len(resources.instance_types)} given; at most {limits.INSTANCE_TYPES_MAX} are allowed"
        out.append(Violation(f"{at}.instance_types", text))
    for i, instance_type in enumerate(resources.instance_types[: limits.INSTANCE_TYPES_MAX]):
        if not instance_type:
            out.append(Violation(f"{at}.instance_types[{i}]", "a type must not be empty"))
        check_text(out, f"{at}.instance_types[{i}]", instance_type, limits.INSTANCE_TYPE_LENGTH_MAX)
    if resources.allocation_strategy.startswith("SPOT_") and resources.type != "SPOT":
        out.append(
            Violation(
                f"{at}.allocation_strategy",
                f"{resources.allocation_strategy} is only for type SPOT, not {resources.type}",
            )
        )
    check_tags(out, resources.labels, f"{at}.labels")


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
    _check_time_limits(out, queue.state_time_limits)
    check_tags(out, queue.tags)
    check_annotations(out, queue.annotations)
    return out


def _check_time_limits(out: Violations, time_limits: tuple[StateTimeLimit, ...]) -> None:
    """Check what bounds the time at the head of a queue (AWS: jobStateTimeLimitActions)."""
    field = "job_state_time_limit_actions"
    if len({limit.reason for limit in time_limits}) < len(time_limits):
        out.append(Violation(field, "no reason may stand twice"))
    if len(time_limits) > len(LIMITED_REASONS):
        out.append(Violation(field, f"{len(time_limits)} given; at most {len(LIMITED_REASONS)} are allowed"))
    for i, limit in enumerate(time_limits[: len(LIMITED_REASONS)]):
        at = f"{field}[{i}]"
        for name, value, allowed in (
            ("reason", limit.reason, LIMITED_REASONS),
            ("state", limit.state, (JobState.RUNNABLE,)),
            ("action", limit.action, ("CANCEL",)),
        ):
            if value not in allowed:
                out.append(Violation(f"{at}.{name}", f"{quote(value)} is not one of {', '.join(allowed)}"))
        check_range(
            out, f"{at}.max_time_s", limit.max_time_s, limits.STATE_TIME_S_MIN, limits.STATE_TIME_S_MAX, "seconds"
        )


def check_host_facts(facts: HostFacts) -> Violations:
    """Return everything that is wrong with what an agent says of its host."""
    out: Violations = []
    texts = ("boot_id", "agent_version", "host_type", "purchase_option", "zone", "operating_system", "cpu_model")
    for name in ("name", *texts):
        check_text(out, f"facts.{name}", getattr(facts, name), limits.HOST_TEXT_LENGTH_MAX)
    for kind, (_, high, unit) in _AMOUNT_LIMITS.items():
        check_range(out, f"facts.capacity.{kind}", getattr(facts.capacity, kind), 0, high, unit)
    for field, values, most in (
        ("facts.runtimes", facts.runtimes, limits.HOST_RUNTIMES_MAX),
        ("facts.gpus", tuple(gpu.uuid for gpu in facts.gpus), limits.HOST_GPUS_MAX),
        ("facts.volume_paths", facts.volume_paths, limits.HOST_PATHS_MAX),
        ("facts.device_paths", facts.device_paths, limits.HOST_PATHS_MAX),
    ):
        if len(values) > most:
            out.append(Violation(field, f"{len(values)} given; at most {most} are allowed"))
        if "" in values or len(set(values)) < len(values):
            out.append(Violation(field, "none may be empty, and none may stand twice"))
        out += check_lengths(field, values[:most], limits.HOST_TEXT_LENGTH_MAX)
    for i, gpu in enumerate(facts.gpus[: limits.HOST_GPUS_MAX]):
        check_text(out, f"facts.gpus[{i}].model", gpu.model, limits.HOST_TEXT_LENGTH_MAX)
        check_text(out, f"facts.gpus[{i}].fault", gpu.fault, limits.HOST_TEXT_LENGTH_MAX)
    check_tags(out, facts.labels, "facts.labels")
    return out
