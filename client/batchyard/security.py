"""
Security levels: what jobs of a queue are kept to on their hosts, for controller and agent alike.

The levels and most of what they mean are those of Kubernetes' Pod Security Standards
(https://kubernetes.io/docs/concepts/security/pod-security-standards/).
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from batchyard.runtimes import PROCESS
from batchyard.tasks import Task

ROOT = "root"


class SecurityLevel(StrEnum):
    """
    What jobs are kept to, the strictest last.

    PRIVILEGED: what their host's operator allows, as on AWS Batch. BASELINE: no privileged
    containers, no devices, no host network. RESTRICTED: never root, and no capabilities.
    """

    PRIVILEGED = "PRIVILEGED"
    BASELINE = "BASELINE"
    RESTRICTED = "RESTRICTED"

    @property
    def is_secured(self) -> bool:
        """Whether it asks for more than hosts do by themselves."""
        return self is not SecurityLevel.PRIVILEGED

    @property
    def forbids_root(self) -> bool:
        """Whether nothing runs as root."""
        return self is SecurityLevel.RESTRICTED

    def or_stricter(self, other: SecurityLevel) -> SecurityLevel:
        """Return the stricter of two."""
        return self if self is other else max(self, other, key=list(SecurityLevel).index)


def not_allowed(task: Task, level: SecurityLevel) -> Iterator[tuple[int, str, str]]:
    """
    Yield what a task asks that a level does not allow.

    Each is the index of its container, the name of the field, and why.
    """
    if not level.is_secured:
        return
    for i, container in enumerate(task.containers):
        if container.privileged:
            yield i, "privileged", "privileged containers"
        if container.linux_parameters.devices:
            yield i, "linux_parameters.devices", "devices of the host"
        if level.forbids_root and task.runtime != PROCESS and (text := _not_as(container.user)):
            yield i, "user", text


def is_number(user: str) -> bool:
    """Say whether a user is given by number, as digits."""
    return user.isascii() and user.isdecimal()


def is_root(user: str) -> bool:
    """Say whether ``USER`` or ``USER:GROUP``, as of an image, is certainly root; without a user it is."""
    name = user.partition(":")[0]
    return name in ("", ROOT) or (is_number(name) and not int(name))


def _not_as(user: str) -> str:
    """Say why a container may not run as a user; empty: it may, or it is not said."""
    name = user.partition(":")[0]
    if not user:
        return ""
    if is_root(user):
        return "root"
    # As Kubernetes with runAsNonRoot: any name may be of user 0, and its image alone could tell.
    return "" if is_number(name) else f"a user who is no number, as {user!r}, who may be root"
