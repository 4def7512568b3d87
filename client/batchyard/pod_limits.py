"""
Pod limits: what an ordinary container may not ask for where it is to run as a pod.

A cluster runs jobs that are no pods themselves, one container each, where this finds
nothing: controller (placement) and agent (refusal) ask the same. Law: what a pod cannot
keep is named, never left out.
"""

from __future__ import annotations

import re

from batchyard.resources import GPU_WHOLE
from batchyard.tasks import Container, Task

_IDS = re.compile(r"\d{1,10}(:\d{1,10})?", re.ASCII)


def not_as_pod(task: Task) -> str:
    """Say what of a task that is no pod keeps it from being run as one; nothing if nothing does."""
    if task.pod is not None:
        return ""
    if not task.is_plain:
        return "several containers, but for those of a pod"
    return _of_container(task.main)


def _of_container(container: Container) -> str:
    linux = container.linux_parameters
    if not container.image or container.image.endswith("://"):
        return "a process without an image"
    if container.user and not _IDS.fullmatch(container.user):
        return f"user {container.user!r}, who is no number"
    if container.resources.gpu_millis % GPU_WHOLE:
        return "a part of a GPU"
    asked = {
        "ulimits": container.ulimits,
        "secrets as files": container.has_secret_files,
        "something to read": container.stdin,
        "a copy of its log": container.output_path,
        "devices": linux.devices,
        "max_swap_mib": linux.max_swap_mib is not None,
        "swappiness": linux.swappiness is not None,
        "mount_options of tmpfs": any(tmpfs.mount_options for tmpfs in linux.tmpfs),
    }
    return next((name for name, value in asked.items() if value), "")
