"""
Task rules: what containers may say of each other.

Names, who is essential, who waits for whom, what they share. Rules: AWS Batch API reference
(EcsTaskProperties, TaskContainerProperties, TaskContainerDependency).
"""

from __future__ import annotations

import re
from collections import Counter

from batchyard.errors import Reason, Violation
from batchyard.resources import GPU_WHOLE
from batchyard.runtimes import DOCKER, PROCESS, runtime_of
from batchyard.tasks import Condition, Container, Task
from batchyard_controller.core import limits

from .checks import Violations, check_range, quote

_NAME = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_PID_MODES = ("task",)
_IPC_MODES = ("task", "none")
_IPC_MODES_OF_PROCESSES = ("task", "host")


def check_part(out: Violations, field: str, container: Container) -> None:
    """Check what a container says as one of a task, by itself."""
    name = container.name
    if len(name) > limits.CONTAINER_NAME_LENGTH_MAX:
        text = f"{len(name)} characters; at most {limits.CONTAINER_NAME_LENGTH_MAX} are allowed"
        out.append(Violation(f"{field}.name", text, Reason.TOO_LONG))
    elif name and not _NAME.fullmatch(name):
        text = f"{quote(name)} may hold only letters, digits, '-' and '_'"
        out.append(Violation(f"{field}.name", text, Reason.BAD_CHARACTERS))
    for what in ("start_timeout_s", "stop_timeout_s"):
        if getattr(container, what):
            low, high = limits.CONTAINER_TIMEOUT_S_MIN, limits.CONTAINER_TIMEOUT_S_MAX
            check_range(out, f"{field}.{what}", getattr(container, what), low, high, "seconds")


def check_together(out: Violations, field: str, task: Task, *, complete: bool) -> None:
    """Check what the containers of a task are to each other; *complete* when nothing will be overridden any more."""
    containers = task.containers
    _check_modes(out, field, task)
    if not containers:
        out.append(Violation(f"{field}.containers", "at least one container is required", Reason.REQUIRED))
        return
    if len(containers) > limits.CONTAINERS_MAX:
        text = f"{len(containers)} containers; at most {limits.CONTAINERS_MAX} are allowed"
        out.append(Violation(f"{field}.containers", text, Reason.TOO_MANY))
        return
    if not any(container.essential for container in containers):
        out.append(Violation(f"{field}.containers", "At least one container must be essential", Reason.REQUIRED))
    if len(containers) > 1:
        _check_names(out, field, containers)
    _check_dependencies(out, field, containers)
    if not task.is_plain:
        if task.pod is None and not _are_processes(task):
            _check_images(out, field, containers)
        _check_gpus(out, field, containers, complete=complete)


def _are_processes(task: Task) -> bool:
    return bool(task.containers) and all(runtime_of(container.image) == PROCESS for container in task.containers)


def _check_modes(out: Violations, field: str, task: Task) -> None:
    """Check what containers share: plain processes have the memory segments of their host, whatever is asked."""
    ipc_modes = _IPC_MODES_OF_PROCESSES if _are_processes(task) else _IPC_MODES
    for name, mode, modes in (("pid_mode", task.pid_mode, _PID_MODES), ("ipc_mode", task.ipc_mode, ipc_modes)):
        if not mode or mode in modes:
            continue
        text, reason = f"{quote(mode)} is not one of {', '.join(modes)}", Reason.UNKNOWN_VALUE
        if modes is _IPC_MODES_OF_PROCESSES and mode in _IPC_MODES:
            text = f"plain processes share memory segments with all of their host: {quote(mode)} needs an image each"
            reason = Reason.NOT_SUPPORTED
        out.append(Violation(f"{field}.{name}", text, reason))


def _check_names(out: Violations, field: str, containers: tuple[Container, ...]) -> None:
    count = Counter(container.name for container in containers)
    for i, container in enumerate(containers):
        at = f"{field}.containers[{i}].name"
        if not container.name:
            out.append(Violation(at, "each of several containers needs a name", Reason.REQUIRED))
        elif count[container.name] > 1:
            text = f"{quote(container.name)} is the name of {count[container.name]} containers"
            out.append(Violation(at, text, Reason.DUPLICATE))


def _check_dependencies(out: Violations, field: str, containers: tuple[Container, ...]) -> None:
    """Check who waits for whom: for another, and in no circle."""
    by_name = {container.name: container for container in containers}
    before = len(out)
    for i, container in enumerate(containers):
        for j, dependency in enumerate(container.depends_on):
            at = f"{field}.containers[{i}].depends_on[{j}]"
            other = by_name.get(dependency.container)
            if other is None:
                text = f"{quote(dependency.container)} is none of the job's containers"
                out.append(Violation(f"{at}.container", text, Reason.UNKNOWN_VALUE))
            elif other is container:
                text = f"{quote(dependency.container)} would wait for itself"
                out.append(Violation(f"{at}.container", text, Reason.CONFLICT))
            elif other.essential and dependency.condition is not Condition.START:
                # Amazon ECS's text.
                text = "A dependency container with SUCCESS or COMPLETE condition cannot be an essential container"
                out.append(Violation(f"{at}.condition", f"{text}: {quote(other.name)}", Reason.CONFLICT))
    if len(out) == before and (circle := _circle(by_name)):
        text = f"containers wait for each other: {' -> '.join(map(quote, circle))}"
        out.append(Violation(f"{field}.containers", text, Reason.CONFLICT))


def _circle(by_name: dict[str, Container]) -> list[str]:
    """Return names of which each waits for the next, and the last is the first; empty if there is no such circle."""
    done: set[str] = set()
    for first in by_name:
        path: list[str] = []
        left = [[first]]
        while left:
            if not left[-1]:
                left.pop()
                if path:
                    done.add(path.pop())
                continue
            name = left[-1].pop()
            if name in path:
                return [*path[path.index(name) :], name]
            if name not in done:
                path.append(name)
                left.append([dependency.container for dependency in by_name[name].depends_on])
    return []


def _check_images(out: Violations, field: str, containers: tuple[Container, ...]) -> None:
    """Check that each has an image: containers share what no plain process beside them could have."""
    for i, container in enumerate(containers):
        if runtime_of(container.image) != DOCKER:
            text = "containers and plain processes cannot be one job: give each an image, or none of them"
            out.append(Violation(f"{field}.containers[{i}].image", text, Reason.NOT_SUPPORTED))


def _check_gpus(out: Violations, field: str, containers: tuple[Container, ...], *, complete: bool) -> None:
    """Check that each GPU can go to one container, and that one wish for a kind of GPU is enough."""
    asking = [(i, c) for i, c in enumerate(containers) if c.resources.gpu_millis or c.gpu_models or c.gpu_memory_mib]
    for i, container in asking:
        at = f"{field}.containers[{i}]"
        if len(containers) > 1 and container.resources.gpu_millis % GPU_WHOLE:
            text = f"{container.resources.gpu_millis} is no whole GPU, of which each goes to one of several containers"
            out.append(Violation(f"{at}.resources.gpu_millis", text, Reason.NOT_SUPPORTED))
        if complete and _wish(container) != _wish(asking[0][1]):
            text = "which GPUs will do has to be the same for all containers that ask for some"
            out.append(Violation(f"{at}.gpu_models", text, Reason.CONFLICT))


def _wish(container: Container) -> tuple[frozenset[str], int]:
    return frozenset(name.lower() for name in container.gpu_models), container.gpu_memory_mib
