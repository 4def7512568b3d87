"""
Job rules: what a definition and a submission may say, whatever the state of the world.

Each check appends `Violation`s that name the field, the value and the limit.
Rules and numbers: `limits`; AWS Batch API reference.
"""

from __future__ import annotations

import re

from batchyard.errors import Reason, Violation
from batchyard.ids import BY_REQUEST, is_uuid
from batchyard.pairs import Pairs
from batchyard.resources import GPU_WHOLE, Resources
from batchyard.runtimes import DOCKER, PROCESS, runtime_of
from batchyard.tasks import NO_TASK, Container, Task
from batchyard_controller.core import limits
from batchyard_controller.core.jobs.dependencies import CHILD_TYPES
from batchyard_controller.core.jobs.resolution import NodeOverrides, Overrides, Submission
from batchyard_controller.core.model.dependencies import DependencyType
from batchyard_controller.core.model.jobs import DefinitionType, JobDefinition, JobSpec
from batchyard_controller.core.model.nodes import Nodes
from batchyard_controller.core.model.settings import CAPABILITIES, Platform

from .array_rules import check_array
from .checks import Violations, check_fence, check_range, check_text, quote
from .container_rules import check_surroundings, check_volumes
from .names import check_annotations, check_definition_key, check_job_name, check_name, check_tags
from .node_rules import check_nodes
from .platform_rules import check_fargate, check_nodes_on
from .pod_rules import check_pod, check_pod_metadata, check_pods_of_nodes
from .retry_rules import check_retry
from .secret_names import secret_names
from .sharing_rules import check_named_share, check_quantities
from .task_rules import check_part, check_together

_IMAGE = re.compile(r"[A-Za-z0-9_.:/#@-]+", re.ASCII)
_VARIABLE = re.compile(r"[^=\0]+")
_SHELL_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}", re.ASCII)
_RESERVED_VARIABLES = ("AWS_BATCH", "BATCHYARD_ATTEMPT", "BATCHYARD_FENCE")
AMOUNT_LIMITS = {
    "cpu_millis": (limits.CPU_MILLIS_MIN, limits.CPU_MILLIS_MAX, "thousandths of a vCPU"),
    "memory_mib": (limits.MEMORY_MIB_MIN, limits.MEMORY_MIB_MAX, "MiB"),
    "gpu_millis": (0, limits.GPU_MILLIS_MAX, "thousandths of a GPU"),
    "disk_mib": (0, limits.DISK_MIB_MAX, "MiB"),
}

_ARCHITECTURES = ("X86_64", "ARM64")
"""AWS: RuntimePlatform."""


def check_environment_variables(out: Violations, field: str, environment: Pairs) -> None:
    """Check names of variables; ``AWS_BATCH`` is reserved (AWS: KeyValuePair)."""
    for name, value in environment:
        if not _VARIABLE.fullmatch(name) or "\0" in value:
            text = f"{quote(name)} is no name of a variable, or its value holds a NUL"
            out.append(Violation(field, text, Reason.MALFORMED))
        elif name.startswith(_RESERVED_VARIABLES):
            reserved = ", ".join(_RESERVED_VARIABLES)
            text = f"{quote(name)}: names beginning with {reserved} are reserved"
            out.append(Violation(field, text, Reason.NOT_ALLOWED))


def _check_secrets(out: Violations, field: str, container: Container) -> None:
    """Check variables that come from secrets; their names are the shell's, so that every runtime can hide them."""
    if len(container.secrets) > limits.SECRETS_PER_JOB_MAX:
        text = f"{len(container.secrets)} secrets; at most {limits.SECRETS_PER_JOB_MAX} are allowed"
        out.append(Violation(field, text, Reason.TOO_MANY))
    if container.has_secret_files and runtime_of(container.image) != PROCESS and not _is_known(container.user):
        text = "secrets as files are one user's alone, and who a name is only the image could tell: give a number"
        out.append(Violation(f"{field.removesuffix('secrets')}user", text, Reason.CONFLICT))
    taken = {name for name, _ in container.environment}
    for i, secret in enumerate(container.secrets[: limits.SECRETS_PER_JOB_MAX]):
        at = f"{field}[{i}]"
        if not _SHELL_VARIABLE.fullmatch(secret.name):
            text = f"{quote(secret.name)} must be letters, digits and '_', the first no digit"
            out.append(Violation(f"{at}.name", text, Reason.MALFORMED))
        check_environment_variables(out, f"{at}.name", ((secret.name, ""),) if secret.name else ())
        if secret.name in taken:
            text = (
                "The secret name must be unique and not shared with any new or existing environment "
                f"variables set on the container, such as {quote(secret.name)}"
            )
            out.append(Violation(f"{at}.name", text, Reason.DUPLICATE))
        taken.add(secret.name)
        if not secret_names(secret.value_from):
            text = f"{quote(secret.value_from)} is no secret's name, and no ARN of a whole secret or parameter"
            out.append(Violation(f"{at}.value_from", text, Reason.MALFORMED))


def _is_known(user: str) -> bool:
    name = user.partition(":")[0]
    return name in ("", "root") or (name.isascii() and name.isdecimal())


def check_command(out: Violations, field: str, command: tuple[str, ...]) -> None:
    """Check an argument vector; its length is bounded by what it is part of."""
    if any("\0" in part for part in command):
        out.append(Violation(field, "an argument holds a NUL character", Reason.BAD_CHARACTERS))
    if command and not command[0]:
        out.append(Violation(field, "the first argument, the command itself, is empty", Reason.REQUIRED))


def check_resources(out: Violations, field: str, resources: Resources) -> None:
    """Check a job's amounts; AWS knows a text for vCPUs that are missing."""
    for kind in AMOUNT_LIMITS:
        if kind == "cpu_millis" and not resources.cpu_millis:
            text = f"vCPU is not provided. At least {limits.CPU_MILLIS_MIN} thousandth of a vCPU is required"
            out.append(Violation(f"{field}.{kind}", text, Reason.REQUIRED))
        else:
            _check_amount(out, field, kind, getattr(resources, kind))


def _check_amount(out: Violations, field: str, kind: str, value: int) -> None:
    low, high, unit = AMOUNT_LIMITS[kind]
    check_range(out, f"{field}.{kind}", value, low, high, unit)
    if kind == "gpu_millis" and GPU_WHOLE < value <= high and value % GPU_WHOLE:
        text = f"{value} is more than one GPU and no multiple of {GPU_WHOLE}"
        out.append(Violation(f"{field}.{kind}", text, Reason.OUT_OF_RANGE))


def check_task(out: Violations, task: Task, *, complete: bool, within: str = "") -> None:
    """Check what an attempt is to run, a part of *within*; *complete* when nothing will be overridden any more."""
    check_volumes(out, f"{within}{'container' if task.is_plain else 'task'}", task.volumes)
    check_together(out, f"{within}task", task, complete=complete)
    check_pod(out, within, task)
    for i, container in enumerate(task.containers[: limits.CONTAINERS_MAX]):
        field = f"{within}container" if task.is_plain else f"{within}task.containers[{i}]"
        _check_one(out, field, container, task, complete=complete)
    for i, container in enumerate(task.init_containers[: limits.CONTAINERS_MAX]):
        _check_one(out, f"{within}task.init_containers[{i}]", container, task, complete=False)


def _check_one(out: Violations, field: str, container: Container, task: Task, *, complete: bool) -> None:
    check_part(out, field, container)
    _check_container(out, field, container, complete=complete, is_pod=task.pod is not None)
    check_surroundings(out, field, container, task)
    if task.pod is None:
        _check_needs_image(out, field, container)
    if task.pod is not None or runtime_of(container.image) == DOCKER:
        _check_needs_process(out, field, container, is_pod=task.pod is not None)


def check_complete(out: Violations, spec: JobSpec) -> None:
    """Check what a job is to run when nothing will be overridden any more."""
    if spec.nodes is None:
        check_task(out, spec.task, complete=True)
        return
    check_nodes(out, "nodes", spec.nodes)
    check_pods_of_nodes(out, "nodes.ranges", spec.nodes)
    for i, each in enumerate(spec.nodes.ranges[: limits.NODE_RANGES_MAX]):
        check_task(out, each.task, complete=True, within=f"nodes.ranges[{i}].")


def _check_given_nodes(out: Violations, nodes: Nodes) -> None:
    check_nodes(out, "nodes", nodes)
    check_pods_of_nodes(out, "nodes.ranges", nodes)
    for i, each in enumerate(nodes.ranges[: limits.NODE_RANGES_MAX]):
        check_task(out, each.task, complete=False, within=f"nodes.ranges[{i}].")


def _check_container(out: Violations, field: str, container: Container, *, complete: bool, is_pod: bool) -> None:
    image = container.image
    if len(image) > limits.IMAGE_LENGTH_MAX:
        text = f"{len(image)} characters; at most {limits.IMAGE_LENGTH_MAX} are allowed"
        out.append(Violation(f"{field}.image", text, Reason.TOO_LONG))
    elif image and not _IMAGE.fullmatch(image):
        text = f"{quote(image)} holds characters that no image name has"
        out.append(Violation(f"{field}.image", text, Reason.BAD_CHARACTERS))
    if container.cpu_architecture not in ("", *_ARCHITECTURES):
        text = f"{quote(container.cpu_architecture)} is not one of {', '.join(_ARCHITECTURES)}"
        out.append(Violation(f"{field}.cpu_architecture", text, Reason.UNKNOWN_VALUE))
    # Of a pod it is what follows the entrypoint, of which the first may well be empty.
    check_command(out, f"{field}.command", ("-", *container.command) if is_pod else container.command)
    if complete and not is_pod and not container.command and runtime_of(image) not in (DOCKER, "fake"):
        text = "a command is required when there is no image"
        out.append(Violation(f"{field}.command", text, Reason.REQUIRED))
    check_environment_variables(out, f"{field}.environment", container.environment)
    if complete:
        check_resources(out, f"{field}.resources", container.resources)
        _check_asks_for_gpus(out, field, container)
    else:
        _check_given_resources(out, f"{field}.resources", container.resources)
    _check_secrets(out, f"{field}.secrets", container)


def _check_asks_for_gpus(out: Violations, field: str, container: Container) -> None:
    """Check that who says which GPUs will do asks for some."""
    if not container.resources.gpu_millis:
        said = {"gpu_models": container.gpu_models, "gpu_memory_mib": container.gpu_memory_mib}
        text = "says which GPUs will do, but resources.gpu_millis is 0: no GPU is asked for"
        out.extend(Violation(f"{field}.{name}", text, Reason.CONFLICT) for name, value in said.items() if value)


def _check_given_resources(out: Violations, field: str, resources: Resources) -> None:
    """Check a definition's amounts; those left out may still be given at submission."""
    for kind in AMOUNT_LIMITS:
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
    out.extend(Violation(f"{field}.{name}", text, Reason.CONFLICT) for name, value in asked.items() if value)


def _check_needs_process(out: Violations, field: str, container: Container, *, is_pod: bool) -> None:
    """Check that a container asks for nothing that only a process can have, and a pod for nothing that only these two can."""
    text = "is for plain processes: a job with an image cannot have it"
    if container.working_directory_optional:
        out.append(Violation(f"{field}.working_directory_optional", text, Reason.CONFLICT))
    if is_pod:
        asked = {"stdin": container.stdin, "output_path": container.output_path}
        text = "is for plain processes and for containers of a host: a pod cannot have it"
        out.extend(Violation(f"{field}.{name}", text, Reason.CONFLICT) for name, value in asked.items() if value)
    elif container.output_path and not container.output_path.startswith("/"):
        text = f"{quote(container.output_path)} must begin with /: the folder of a container is none of its host"
        out.append(Violation(f"{field}.output_path", text, Reason.MALFORMED))


def check_timeout(out: Violations, field: str, timeout_s: int) -> None:
    """Check a timeout; 0 means none."""
    check_range(out, field, timeout_s, 0, limits.TIMEOUT_S_MAX, "seconds")


def check_definition(definition: JobDefinition, size_bytes: int) -> Violations:
    """Return everything that is wrong with a registration that has *size_bytes*."""
    out: Violations = []
    check_name(out, "name", definition.name)
    _check_kind(out, definition)
    if size_bytes > limits.DEFINITION_BYTES_MAX:
        text = f"the payload has {size_bytes} bytes; at most {limits.DEFINITION_BYTES_MAX} are allowed"
        out.append(Violation("job_definition", text, Reason.TOO_LONG))
    if definition.nodes is None:
        check_task(out, definition.task, complete=False)
    else:
        _check_given_nodes(out, definition.nodes)
    if definition.retry is not None:
        check_retry(out, "retry_strategy", definition.retry)
    check_timeout(out, "timeout_s", definition.timeout_s)
    check_fence(out, definition.fence_s)
    if definition.scheduling_priority is not None:
        check_range(out, "scheduling_priority", definition.scheduling_priority, 0, limits.SCHEDULING_PRIORITY_MAX)
    check_quantities(out, "consumables", definition.consumables)
    check_tags(out, definition.tags)
    for i, capability in enumerate(definition.platform_capabilities):
        if capability not in CAPABILITIES:
            text = f"{quote(capability)} is not one of {', '.join(CAPABILITIES)}"
            out.append(Violation(f"platform_capabilities[{i}]", text, Reason.UNKNOWN_VALUE))
            break
    if _has_pods(definition):
        given = {
            "platform_capabilities": definition.platform_capabilities,
            "propagate_tags": definition.propagate_tags,
        }
        out.extend(Violation(name, "is not for pods", Reason.PLATFORM) for name, value in given.items() if value)
    if definition.platform_capabilities == (Platform.FARGATE,) and definition.nodes is None:
        check_fargate(out, "container", definition.task, complete=False)
    check_annotations(out, definition.annotations)
    return out


def _has_pods(definition: JobDefinition) -> bool:
    ranges = definition.nodes.ranges if definition.nodes is not None else ()
    return any(task.pod is not None for task in (definition.task, *(each.task for each in ranges)))


def _check_kind(out: Violations, definition: JobDefinition) -> None:
    """Check that a definition says what its type needs, and nothing else (AWS: RegisterJobDefinition)."""
    if definition.type is DefinitionType.CONTAINER:
        if definition.nodes is not None:
            out.append(Violation("nodes", "is only for a definition of type MULTINODE", Reason.CONFLICT))
        return
    if definition.nodes is None:
        out.append(Violation("nodes", "is required of a definition of type MULTINODE", Reason.REQUIRED))
    if definition.task != NO_TASK:
        out.append(Violation("container", "is not for a definition of type MULTINODE", Reason.CONFLICT))
    if Platform.FARGATE in definition.platform_capabilities:
        out += check_nodes_on(definition.nodes, Platform.FARGATE)


def check_submission(submission: Submission) -> Violations:
    """Return everything that is wrong with a submission by itself."""
    out: Violations = []
    check_job_name(out, "name", submission.name)
    check_name(out, "queue", submission.queue)
    if submission.definition and submission.task is not None:
        text = "give either a job definition or a container, not both"
        out.append(Violation("container", text, Reason.CONFLICT))
    if submission.nodes is not None:
        if submission.definition or submission.task is not None:
            text = "give either a job definition, a container or nodes"
            out.append(Violation("nodes", text, Reason.CONFLICT))
        _check_given_nodes(out, submission.nodes)
    elif not submission.definition and submission.task is None:
        out.append(Violation("job_definition", "a job definition or a container is required", Reason.REQUIRED))
    if submission.task is not None:
        check_task(out, submission.task, complete=False)
    if submission.definition:
        check_definition_key(out, "job_definition", submission.definition, needs_revision=False)
    _check_overrides(out, "overrides", submission.overrides)
    if len(submission.container_overrides) > 2 * limits.CONTAINERS_MAX:
        text = f"{len(submission.container_overrides)} given; at most {2 * limits.CONTAINERS_MAX} are allowed"
        out.append(Violation("container_overrides", text, Reason.TOO_MANY))
    for i, overrides in enumerate(submission.container_overrides[: 2 * limits.CONTAINERS_MAX]):
        _check_overrides(out, f"container_overrides[{i}]", overrides)
    if submission.node_overrides is not None:
        _check_node_overrides(out, submission.node_overrides)
    check_pod_metadata(out, "pod_overrides", submission.pod_overrides.labels, submission.pod_overrides.annotations)
    check_array(out, submission)
    _check_dependencies(out, submission)
    if submission.retry is not None:
        check_retry(out, "retry_strategy", submission.retry)
    check_timeout(out, "timeout_s", submission.timeout_s)
    check_fence(out, submission.fence_s)
    check_named_share(out, "share_identifier", submission.share_identifier)
    if submission.scheduling_priority is not None:
        check_range(out, "scheduling_priority", submission.scheduling_priority, 0, limits.SCHEDULING_PRIORITY_MAX)
    check_quantities(out, "consumables", submission.consumables)
    check_tags(out, submission.tags)
    check_annotations(out, submission.annotations)
    check_text(out, "request_id", submission.request_id, limits.REQUEST_ID_LENGTH_MAX)
    check_text(out, "submitted_by", submission.submitted_by, limits.ACCESS_KEY_ID_LENGTH_MAX)
    return out


def _check_node_overrides(out: Violations, overrides: NodeOverrides) -> None:
    """Check what replaces parts of nodes, as far as that can be told without their definition."""
    check_range(out, "node_overrides.num_nodes", overrides.num_nodes, 0, limits.NODES_MAX, "nodes")
    for i, each in enumerate(overrides.ranges[: limits.NODE_RANGES_MAX]):
        at = f"node_overrides.ranges[{i}]"
        _check_overrides(out, f"{at}.overrides", each.overrides)
        for j, overrides_of_one in enumerate(each.container_overrides[: limits.CONTAINERS_MAX]):
            _check_overrides(out, f"{at}.container_overrides[{j}]", overrides_of_one)
        check_pod_metadata(out, f"{at}.pod_overrides", each.pod_overrides.labels, each.pod_overrides.annotations)
        check_quantities(out, f"{at}.consumables", each.consumables)
    if len(overrides.ranges) > limits.NODE_RANGES_MAX:
        text = f"{len(overrides.ranges)} ranges; at most {limits.NODE_RANGES_MAX} are allowed"
        out.append(Violation("node_overrides.ranges", text, Reason.TOO_MANY))


def _check_overrides(out: Violations, field: str, overrides: Overrides) -> None:
    """Check what replaces parts of a definition (AWS: ContainerOverrides)."""
    texts = (*overrides.entrypoint, *overrides.command, *(text for pair in overrides.environment for text in pair))
    size = sum(len(text.encode()) for text in texts)
    if size > limits.OVERRIDES_BYTES_MAX:
        text = f"Container Overrides length must be at most {limits.OVERRIDES_BYTES_MAX}; {size} bytes are given"
        out.append(Violation(field, text, Reason.OVERRIDES_TOO_LONG))
    for name, command in (("entrypoint", overrides.entrypoint), ("command", overrides.command)):
        if "\0" in "".join(command):
            out.append(Violation(f"{field}.{name}", "an argument holds a NUL character", Reason.BAD_CHARACTERS))
        if "" in command:
            text = f"argument {command.index('')} is empty; an override holds no empty string"
            out.append(Violation(f"{field}.{name}", text, Reason.REQUIRED))
    check_environment_variables(out, f"{field}.environment", overrides.environment)
    for kind in AMOUNT_LIMITS:
        value = getattr(overrides, kind)
        if value is not None:
            _check_amount(out, field, kind, value)


def _check_dependencies(out: Violations, submission: Submission) -> None:
    count = len(submission.depends_on)
    if count > limits.DEPENDENCIES_MAX:
        text = f"Job cannot have more than {limits.DEPENDENCIES_MAX} dependencies ({count} given)"
        out.append(Violation("depends_on", text, Reason.TOO_MANY))
    for i, dependency in enumerate(submission.depends_on[: limits.DEPENDENCIES_MAX]):
        if dependency.type in CHILD_TYPES and not submission.array_size:
            text = f"{dependency.type} is only for an array job"
            out.append(Violation(f"depends_on[{i}].type", text, Reason.CONFLICT))
        if dependency.type is DependencyType.SEQUENTIAL:
            if dependency.job_id:
                text = f"{quote(dependency.job_id)}: SEQUENTIAL is about the job's own children and takes no job id"
                out.append(Violation(f"depends_on[{i}].job_id", text, Reason.CONFLICT))
        elif dependency.job_id.startswith(BY_REQUEST):
            request_id = dependency.job_id.removeprefix(BY_REQUEST)
            check_text(out, f"depends_on[{i}].job_id", request_id, limits.REQUEST_ID_LENGTH_MAX)
        elif not is_uuid(dependency.job_id):
            text = f"{quote(dependency.job_id)} is no job id"
            out.append(Violation(f"depends_on[{i}].job_id", text, Reason.MALFORMED))
