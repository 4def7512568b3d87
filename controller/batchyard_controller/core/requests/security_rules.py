"""
Security rules: what the security level of a queue allows its jobs.

The agent judges again before it starts anything: a queue may have become stricter since.
"""

from __future__ import annotations

from collections.abc import Iterable

from batchyard.errors import Reason, Violation
from batchyard.security import SecurityLevel, not_allowed
from batchyard_controller.core.model.jobs import JobSpec
from batchyard_controller.core.model.settings import ComputeEnvironment, JobQueue, Platform

from .checks import Violations


def check_level(out: Violations, spec: JobSpec, queue: JobQueue) -> None:
    """Check that a job asks nothing that its queue's security level does not allow."""
    if not queue.security_level.is_secured:
        return
    if spec.nodes is not None:
        out.append(_refused("nodes", queue, "nodes, which are on their hosts' networks"))
        return
    for index, field, what in not_allowed(spec.task, queue.security_level):
        where = "container" if spec.task.is_plain else f"task.containers[{index}]"
        out.append(_refused(f"{where}.{field}", queue, what))


def _refused(field: str, queue: JobQueue, what: str) -> Violation:
    text = f"JobQueue {queue.name} has security level {queue.security_level}, which does not allow {what}"
    return Violation(field, text, Reason.SECURITY_LEVEL)


def check_level_on(queue: JobQueue, environments: Iterable[ComputeEnvironment]) -> Violations:
    """Check that a queue over nodes of a cluster has no level of its own: its namespace has one."""
    clusters = [environment.name for environment in environments if environment.platform is Platform.EKS]
    if not clusters or not queue.security_level.is_secured:
        return []
    text = (
        f"{queue.security_level} is not for jobs in a cluster, as of {clusters[0]}: "
        f"its namespace has a level of Pod Security, so leave it at {SecurityLevel.PRIVILEGED}"
    )
    return [Violation("security_level", text, Reason.PLATFORM)]
