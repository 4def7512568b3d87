"""Which runtime an image asks for; controller and agent must agree on it."""

from __future__ import annotations

DOCKER = "docker"
PROCESS = "process"
FAKE = "fake"
KUBERNETES = "kubernetes"
"""Of nodes of clusters: runs pods, and single containers as pods where nothing forbids it (`pod_limits.not_as_pod`)."""

RUNTIMES = (DOCKER, PROCESS, FAKE)
"""What an agent may be told to offer on its own machine."""


def runtime_of(image: str) -> str:
    """
    Return the runtime that runs *image*.

    No image or ``process://`` is a plain process; ``fake://`` runs nothing at
    all (benchmarks, simulated hosts); anything else is a container.
    """
    match image:
        case "" | "process://":
            return PROCESS
        case "fake://":
            return FAKE
        case _:
            return DOCKER
