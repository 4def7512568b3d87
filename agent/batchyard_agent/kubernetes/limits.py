"""What pods of an agent may be: where it may make them, and what of their nodes they may reach."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from batchyard.tasks import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class PodLimits:
    """
    What the operator of an agent allows its pods. The cluster's own rules hold beside them.

    Attributes:
        namespace: Where pods go that name none.
        other_namespaces: Where those may go that name one.
        privileged: Containers may be privileged.
        volume_paths: Folders of nodes that may be mounted, with all below them.
    """

    namespace: str
    other_namespaces: tuple[str, ...] = ()
    privileged: bool = False
    volume_paths: tuple[str, ...] = ()

    @property
    def namespaces(self) -> tuple[str, ...]:
        """All namespaces in which pods may be."""
        return (self.namespace, *self.other_namespaces)

    def namespace_of(self, task: Task) -> str:
        """Return where the pod of a task goes."""
        return (task.pod.namespace if task.pod is not None else "") or self.namespace

    def refusal(self, task: Task) -> str:
        """Say what of a task is not allowed; empty if all is."""
        if (namespace := self.namespace_of(task)) not in self.namespaces:
            return f"this agent makes no pods in namespace {namespace!r}; it does in {', '.join(self.namespaces)}"
        if not self.privileged and any(container.privileged for container in task.all_containers):
            return "this host allows no privileged containers"
        for volume in task.volumes:
            if volume.host_source_path and not self._allows(volume.host_source_path):
                allowed = ", ".join(self.volume_paths) or "nothing"
                return f"this host does not allow to mount {volume.host_source_path} (allowed: {allowed})"
        return ""

    def _allows(self, path: str) -> bool:
        # Only the node knows where links lead: the kubelet mounts what the path says there.
        if not path.startswith("/") or ".." in path.split("/"):
            return False
        plain = posixpath.normpath(path)
        return any(plain == folder or plain.startswith(folder.rstrip("/") + "/") for folder in self.volume_paths)
