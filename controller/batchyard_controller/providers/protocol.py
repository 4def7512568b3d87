"""
Providers: who launches and stops hosts.

A provider carries out and decides nothing. Laws: whatever is asked twice for one launch is
done once; a host that is not there counts as stopped; what cannot be done is a
`ProviderError`, whose text people read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from batchyard.ids import LaunchId
from batchyard_controller.core.model.launches import ENVIRONMENT_LABEL, LAUNCH_LABEL, Launch
from batchyard_controller.core.scaling.catalogue import LaunchType


class ProviderError(Exception):
    """A provider could not do what it was asked; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A host to launch."""

    launch: Launch
    type: LaunchType

    def agent_options(self) -> list[str]:
        """Return the options by which its agent says which host it is; where its controller is, is not among them."""
        return list(self._options())

    def _options(self) -> Iterator[str]:
        launch, facts = self.launch, self.type.facts
        yield from ("--name", launch.id, "--host-type", launch.host_type, "--purchase-option", launch.purchase_option)
        for key, value in ((LAUNCH_LABEL, launch.id), (ENVIRONMENT_LABEL, launch.environment), *launch.labels):
            yield from ("--label", f"{key}={value}")
        if facts.allows_privileged:
            yield "--allow-privileged"
        for path in facts.volume_paths:
            yield from ("--allow-volume", path)
        for path in facts.device_paths:
            yield from ("--allow-device", path)


class Provider(Protocol):
    """One way to have hosts."""

    async def launch(self, wanted: Wanted) -> None:
        """
        Begin to launch a host, whose agent joins in its own time.

        Raises:
            ProviderError: it could not; something of it may be there all the same.
        """

    async def stop(self, launch: Launch) -> None:
        """
        Stop a host on which nothing runs; return when it is gone, or surely going.

        Raises:
            ProviderError: it could not; it is asked again.
        """

    async def close(self) -> None:
        """Let go, as the controller ends: what cannot be without it ends, and is found again by the next one."""

    async def existing(self) -> frozenset[LaunchId]:
        """
        Return the launches of which there is a host, or will be.

        Raises:
            ProviderError: it could not.
        """
