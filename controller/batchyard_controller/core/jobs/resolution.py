"""
Resolution: what a job runs, from its definition and what the submitter overrides.

Rules: AWS Batch API reference, SubmitJob (parameters merge by key, a command
replaces the whole, environment merges by name, amounts replace one by one).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from batchyard.array_values import NO_VALUES, ArrayValues
from batchyard.errors import Reason, Violation
from batchyard.pairs import Pairs
from batchyard.pods import Pod
from batchyard.resources import RESOURCE_KINDS
from batchyard.tasks import NO_TASK, Container, Task
from batchyard_controller.core import limits
from batchyard_controller.core.model.consumables import Quantities
from batchyard_controller.core.model.dependencies import Dependency
from batchyard_controller.core.model.jobs import JobDefinition, JobSpec, RetryStrategy
from batchyard_controller.core.model.nodes import NodeRange, Nodes

_REFERENCE = re.compile(r"Ref::([A-Za-z0-9_-]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """
    What a submission replaces in one of the definition's containers; None keeps it.

    Attributes:
        name: Which of several.
        image: Of pods, as *entrypoint* and *cpu_limit_millis*.
    """

    name: str = ""
    image: str = ""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: Pairs = ()
    cpu_millis: int | None = None
    memory_mib: int | None = None
    gpu_millis: int | None = None
    disk_mib: int | None = None
    cpu_limit_millis: int | None = None

    @property
    def of_pods(self) -> tuple[str, ...]:
        """What it says that only containers of pods have."""
        given = {
            "image": self.image,
            "entrypoint": self.entrypoint,
            "cpu_limit_millis": self.cpu_limit_millis is not None,
        }
        return tuple(name for name, value in given.items() if value)


_NO_OVERRIDES = Overrides()


@dataclass(frozen=True, slots=True, kw_only=True)
class PodOverrides:
    """What a submission adds to the definition's pod; its own win (AWS: EksPodPropertiesOverride.metadata)."""

    labels: Pairs = ()
    annotations: Pairs = ()


_NO_POD_OVERRIDES = PodOverrides()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRangeOverrides:
    """What a submission replaces in one of the definition's ranges of nodes, named by its text (AWS: NodePropertyOverride)."""

    target_nodes: str
    overrides: Overrides = Overrides()
    container_overrides: tuple[Overrides, ...] = ()
    instance_types: tuple[str, ...] = ()
    consumables: Quantities = ()
    pod_overrides: PodOverrides = _NO_POD_OVERRIDES


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOverrides:
    """What a submission replaces in the definition's nodes; 0 keeps their number."""

    num_nodes: int = 0
    ranges: tuple[NodeRangeOverrides, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """
    A request to submit a job, as its sender wrote it.

    Attributes:
        owner: Who sent it, which is not the sender's word; empty: the administrator.
    """

    name: str
    queue: str
    definition: str = ""
    task: Task | None = None
    nodes: Nodes | None = None
    overrides: Overrides = Overrides()
    container_overrides: tuple[Overrides, ...] = ()
    node_overrides: NodeOverrides | None = None
    pod_overrides: PodOverrides = _NO_POD_OVERRIDES
    parameters: Pairs = ()
    array_size: int = 0
    array_concurrency: int = 0
    array_values: ArrayValues = NO_VALUES
    array_max_fails: int | None = None
    depends_on: tuple[Dependency, ...] = ()
    retry: RetryStrategy | None = None
    timeout_s: int = 0
    share_identifier: str = ""
    scheduling_priority: int | None = None
    consumables: Quantities = ()
    propagate_tags: bool | None = None
    tags: Pairs = ()
    annotations: Pairs = ()
    request_id: str = ""
    submitted_by: str = ""
    owner: str = ""
    fence_s: int = 0


def resolve(submission: Submission, definition: JobDefinition | None) -> tuple[JobSpec, list[Violation]]:
    """Return the resolved spec and what is wrong with it."""
    given = definition.task if definition is not None else submission.task or NO_TASK
    defaults = definition.parameters if definition is not None else ()
    parameters = merge(defaults, submission.parameters)
    # What differs from child to child is put in when one is started.
    kept = {name: f"Ref::{name}" for name in submission.array_values.names}
    given_nodes = definition.nodes if definition is not None else submission.nodes
    if given_nodes is None:
        task, violations = _override(given, submission, {**dict(parameters), **kept})
        nodes = None
    else:
        task = NO_TASK
        nodes, violations = _override_nodes(given_nodes, submission.node_overrides or NodeOverrides(), dict(parameters))
    template = definition or JobDefinition(name="", revision=0)
    priority = submission.scheduling_priority
    propagates = template.propagate_tags if submission.propagate_tags is None else submission.propagate_tags
    spec = JobSpec(
        queue=submission.queue,
        task=task,
        nodes=nodes,
        definition=definition.key if definition is not None else "",
        parameters=parameters,
        retry=submission.retry or template.retry or RetryStrategy(),
        timeout_s=submission.timeout_s or template.timeout_s,
        share_identifier=submission.share_identifier,
        scheduling_priority=template.scheduling_priority if priority is None else priority,
        consumables=_added(submission.consumables or template.consumables, nodes.consumables if nodes else ()),
        propagate_tags=propagates,
        tags=submission.tags,
        definition_tags=template.tags if propagates else (),
        annotations=merge(template.annotations, submission.annotations),
        submitted_by=submission.submitted_by,
        owner=submission.owner,
        platform_capabilities=template.platform_capabilities,
        fence_s=submission.fence_s or template.fence_s,
    )
    return spec, violations


def _override(
    task: Task, submission: Submission | NodeRangeOverrides, parameters: dict[str, str]
) -> tuple[Task, list[Violation]]:
    """Put overrides and parameters into a task's containers; the same task where nothing changes, as for most."""
    by_name, violations = _overrides_by_name(task, submission)
    containers: list[Container] = []
    for container in task.all_containers:
        overridden, wrong = _overridden(container, by_name.get(container.shown_name, _NO_OVERRIDES), parameters)
        containers.append(overridden)
        violations += wrong
    pod, count = task.pod, len(task.containers)
    if submission.pod_overrides != _NO_POD_OVERRIDES:
        if pod is None:
            violations.append(Violation("pod_overrides", "the job is no pod", Reason.PLATFORM))
        else:
            pod = _overridden_pod(pod, submission.pod_overrides)
    if pod is task.pod and all(new is old for new, old in zip(containers, task.all_containers, strict=True)):
        return task, violations
    changed = replace(task, containers=tuple(containers[:count]), init_containers=tuple(containers[count:]), pod=pod)
    return changed, violations


def _overridden_pod(pod: Pod, overrides: PodOverrides) -> Pod:
    labels, annotations = merge(pod.labels, overrides.labels), merge(pod.annotations, overrides.annotations)
    return replace(pod, labels=labels, annotations=annotations)


def _overrides_by_name(
    task: Task, submission: Submission | NodeRangeOverrides
) -> tuple[dict[str, Overrides], list[Violation]]:
    """Say which container each of a submission's overrides is for."""
    found: dict[str, Overrides] = {}
    violations: list[Violation] = []
    names = [container.shown_name for container in task.all_containers]
    if submission.overrides != _NO_OVERRIDES:
        found[names[0]] = submission.overrides
        if len(task.containers) > 1:
            text = (
                f"the job has {len(task.containers)} containers: name one of {', '.join(names)} in container_overrides"
            )
            violations.append(Violation("overrides", text, Reason.CONFLICT))
    for i, overrides in enumerate(submission.container_overrides):
        at = f"container_overrides[{i}].name"
        if overrides.name not in names:
            text = f"{overrides.name[:40]!r} is none of the job's containers: {', '.join(names)}"
            violations.append(Violation(at, text, Reason.UNKNOWN_VALUE))
        elif overrides.name in found:
            text = f"{overrides.name[:40]!r} has been given overrides already"
            violations.append(Violation(at, text, Reason.DUPLICATE))
        found[overrides.name] = overrides
    if task.pod is None:
        for given in dict.fromkeys(name for overrides in found.values() for name in overrides.of_pods):
            text = f"{given} can be overridden in pods alone, and the job is none"
            violations.append(Violation("container_overrides", text, Reason.PLATFORM))
    return found, violations


def _overridden(
    container: Container, overrides: Overrides, parameters: dict[str, str]
) -> tuple[Container, list[Violation]]:
    """Put overrides and parameters into a container; the same one where nothing changes."""
    command, violations = _substitute(overrides.command or container.command, parameters)
    entrypoint, wrong = _substitute(overrides.entrypoint or container.entrypoint, parameters)
    violations += [violation for violation in wrong if violation not in violations]
    amounts = {kind: value for kind in RESOURCE_KINDS if (value := getattr(overrides, kind)) is not None}
    is_same = (command, entrypoint) == (container.command, container.entrypoint)
    if is_same and not (overrides.environment or amounts or overrides.of_pods):
        return container, violations
    limit_millis = overrides.cpu_limit_millis
    overridden = replace(
        container,
        image=overrides.image or container.image,
        command=command,
        entrypoint=entrypoint,
        cpu_limit_millis=container.cpu_limit_millis if limit_millis is None else limit_millis,
        environment=merge(container.environment, overrides.environment),
        resources=replace(container.resources, **amounts),
    )
    return overridden, violations


def _override_nodes(
    nodes: Nodes, overrides: NodeOverrides, parameters: dict[str, str]
) -> tuple[Nodes, list[Violation]]:
    """Put overrides, by the texts of their ranges, and parameters into what nodes run."""
    by_target = {each.target_nodes: each for each in overrides.ranges}
    ranges: list[NodeRange] = []
    violations: list[Violation] = []
    for each in nodes.ranges:
        over = by_target.get(each.target_nodes, NodeRangeOverrides(target_nodes=each.target_nodes))
        task, wrong = _override(each.task, over, parameters)
        violations += [violation for violation in wrong if violation not in violations]
        types, consumables = over.instance_types or each.instance_types, over.consumables or each.consumables
        ranges.append(replace(each, task=task, instance_types=types, consumables=consumables))
    return replace(nodes, count=overrides.num_nodes or nodes.count, ranges=tuple(ranges)), violations


def _added(some: Quantities, others: Quantities) -> Quantities:
    """Add quantities by name."""
    if not others:
        return some
    total = dict(some)
    for name, quantity in others:
        total[name] = total.get(name, 0) + quantity
    return tuple(sorted(total.items()))


def propagated_tags(spec: JobSpec) -> Pairs:
    """Return the tags that go on to the containers: the definition's and the job's, which win (AWS: propagateTags)."""
    return merge(spec.definition_tags, spec.tags) if spec.propagate_tags else ()


def merge(base: Pairs, over: Pairs) -> Pairs:
    """Merge two maps by key; *over* wins."""
    return tuple(sorted({**dict(base), **dict(over)}.items())) if over else base


def with_values(task: Task, values: Mapping[str, str]) -> Task:
    """Put what one child is told in the place of ``Ref::name``; the same task where nothing changes."""
    if not values:
        return task

    def put(words: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_REFERENCE.sub(lambda m: values.get(m[1], m[0]), word) for word in words)

    containers = tuple(
        replace(each, command=put(each.command), entrypoint=put(each.entrypoint)) for each in task.all_containers
    )
    count = len(task.containers)
    return replace(task, containers=containers[:count], init_containers=containers[count:])


def _substitute(command: tuple[str, ...], parameters: dict[str, str]) -> tuple[tuple[str, ...], list[Violation]]:
    """Put parameters in the place of ``Ref::name``, alone or inside a larger text."""
    missing = {m[1]: None for part in command for m in _REFERENCE.finditer(part) if m[1] not in parameters}
    violations = [
        Violation(
            "parameters",
            f"Unable to substitute value. No parameter found for reference {name}",
            Reason.PARAMETER_MISSING,
        )
        for name in missing
    ]
    put = tuple(_REFERENCE.sub(lambda m: parameters.get(m[1], m[0]), part) for part in command)
    size = sum(len(part.encode()) for part in put)
    if put != command and size > limits.OVERRIDES_BYTES_MAX:
        text = f"Container Overrides length must be at most {limits.OVERRIDES_BYTES_MAX}; they make the command {size} bytes"
        violations.append(Violation("parameters", text, Reason.OVERRIDES_TOO_LONG))
    return put, violations
