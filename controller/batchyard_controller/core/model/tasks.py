"""Tasks: what one attempt runs, and what it holds of its host meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

from batchyard.resources import Resources
from batchyard.runtimes import runtime_of

from .containers import Container, Volume


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """
    One or several containers that start and end together on one host.

    Attributes:
        containers: What runs; the first is the one that overrides are about.
        volumes: Folders of the host, or empty ones, that any of the containers may mount.
    """

    containers: tuple[Container, ...] = (Container(),)
    volumes: tuple[Volume, ...] = ()

    @property
    def main(self) -> Container:
        """The container whose end is the attempt's."""
        return self.containers[0]

    @property
    def resources(self) -> Resources:
        """What an attempt holds of its host: all that its containers ask for."""
        first = self.containers[0].resources
        return sum((other.resources for other in self.containers[1:]), first)

    @property
    def runtime(self) -> str:
        """The runtime that the host has to offer."""
        return runtime_of(self.main.image)


NO_TASK = Task()
