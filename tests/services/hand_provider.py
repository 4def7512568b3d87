"""A provider that a test plays by hand: it notes what it is asked, and says yes, no, or nothing yet."""

from __future__ import annotations

from batchyard.ids import LaunchId
from batchyard.resources import Resources
from batchyard_controller.core.model.hosts import HostFacts
from batchyard_controller.core.model.launches import Launch
from batchyard_controller.core.scaling.catalogue import Catalogue, LaunchType
from batchyard_controller.providers.launcher import Offer
from batchyard_controller.providers.protocol import ProviderError, Wanted

NAME = "hand"


class HandProvider:
    """Offers types ``small`` (1 vCPU) and ``large`` (4 vCPUs)."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.there: set[LaunchId] = set()
        self.error = ""

    async def launch(self, wanted: Wanted) -> None:
        self._note("launch", wanted.launch)
        self.there.add(wanted.launch.id)

    async def stop(self, launch: Launch) -> None:
        self._note("stop", launch)
        self.there.discard(launch.id)

    async def close(self) -> None:
        pass

    async def existing(self) -> frozenset[LaunchId]:
        return frozenset(self.there)

    def _note(self, operation: str, launch: Launch) -> None:
        self.asked.append(f"{operation} {launch.host_type}")
        if self.error:
            raise ProviderError(self.error)

    def offer(self) -> Offer:
        types = {name: _type(name, vcpus) for name, vcpus in (("small", 1), ("large", 4))}
        return Offer(provider=self, catalogue=Catalogue(provider=NAME, types=types))


def _type(name: str, vcpus: int) -> LaunchType:
    capacity = Resources(cpu_millis=vcpus * 1000, memory_mib=vcpus * 1024, disk_mib=1 << 20)
    return LaunchType(facts=HostFacts(name="", host_type=name, capacity=capacity, runtimes=("process",)), price=vcpus)
