"""
The cloud: hosts that are launched for an environment and stopped again, and what goes wrong there.

It belongs to no program and outlives all; what is asked twice for one launch is done once while its host
is there. C: no more hosts are wanted than their environment may have, and none is stopped while something
runs on it. As a world is at rest only when none is left, none is forgotten either.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from random import Random
from typing import TYPE_CHECKING

from tests.core.yard import facts

from batchyard.ids import LaunchId
from batchyard_controller.core.model.launches import Launch
from batchyard_controller.core.model.settings import AllocationStrategy, ComputeResources
from batchyard_controller.core.scaling.catalogue import Catalogue, LaunchType
from batchyard_controller.providers.launcher import Launcher, Offer
from batchyard_controller.providers.protocol import ProviderError, Wanted

from .machine import Machine

if TYPE_CHECKING:
    from .yard import Yard

NAME = "cloud"
MOST_VCPUS = 6
TYPES = [
    LaunchType(facts=facts("", cpu=cpu, memory=8192, host_type=name, runtimes=("process",)), price=price)
    for name, cpu, price in (("small", 2000, 2.0), ("large", 4000, 5.0))
]
CATALOGUE = Catalogue(provider=NAME, types={each.name: each for each in TYPES}, join_limit_s=60)
RESOURCES = ComputeResources(
    provider=NAME,
    max_vcpus=MOST_VCPUS,
    allocation_strategy=AllocationStrategy.BEST_FIT,  # by others one host may be more than the most
    scale_down_delay_s=15,
)


class Cloud:
    """Of one world."""

    def __init__(self, yard: Yard, dice: Random) -> None:
        self.machines: dict[LaunchId, Machine] = {}
        self.lost: list[Machine] = []
        """Those that are gone without anybody having asked for it."""
        self.is_away = False
        self.mishaps: list[str] = []
        """What befalls the next that are launched, or the next answers."""
        self._yard = yard
        self._dice = dice
        self._launched = 0
        self._wanted: dict[str, int] = {}
        """Thousandths of vCPUs of each launch that is wanted, as stored."""

    def launcher(self) -> Launcher:
        """Return one for a controller."""
        return Launcher([Offer(provider=self, catalogue=CATALOGUE)])

    # What a provider does -----------------------------------------------------------------

    async def launch(self, wanted: Wanted) -> None:
        await self._travel()
        launch, mishap = wanted.launch, self.mishaps.pop(0) if self.mishaps else ""
        if launch.id not in self.machines:
            self._begin(launch, boots=mishap != "dud")
        await self._travel()
        if mishap == "unsaid":
            raise ProviderError("the answer was lost")

    async def stop(self, launch: Launch) -> None:
        await self._travel()
        machine = self.machines.get(launch.id)
        if machine is not None:
            for running in machine.running.values():
                if running.runs:
                    self._yard.witness.violated("C", f"{machine.name} is stopped while {running.attempt_id} runs")
            self._yard.witness.told(NAME, f"{machine.name} is stopped")
            self._drop(machine)
        await self._travel()

    async def existing(self) -> frozenset[LaunchId]:
        await self._travel()
        return frozenset(self.machines)

    async def close(self) -> None:
        """There is nothing to let go of."""

    async def _travel(self) -> None:
        await asyncio.sleep(self._dice.choice([0.05, 0.5, 3.0]) * self._dice.uniform(0.5, 1.5))
        if self.is_away:
            raise ProviderError("there is no answer")

    # Machines -----------------------------------------------------------------------------

    def _begin(self, launch: Launch, *, boots: bool) -> None:
        yard = self._yard
        self._launched += 1
        name = f"{launch.host_type}{self._launched}"
        dice = Random(f"{name} {self._dice.random()}")
        machine = Machine(yard.loop, name, yard.new_host_id(), launch.cpu_millis, dice, yard.witness, yard.broken)
        machine.launch = launch
        self.machines[launch.id] = yard.machines[name] = machine
        yard.witness.told(NAME, f"{name} is launched for {launch.id}")
        if boots:
            yard.network.later(self._dice.uniform(2, 25), self._boot, launch.id, machine)

    def _boot(self, launch_id: LaunchId, machine: Machine) -> None:
        if self.machines.get(launch_id) is machine and machine.agent is None:
            self._yard.agent_up(machine)

    def _drop(self, machine: Machine) -> None:
        assert machine.launch is not None, "it was launched"
        machine.lose_power()
        del self.machines[machine.launch.id], self._yard.machines[machine.name]
        self._yard.agents.pop(machine.name, None)

    def one(self) -> Machine | None:
        """Choose one, if there is any."""
        return self.machines[self._dice.choice(sorted(self.machines))] if self.machines else None

    def take_one(self) -> None:
        """Let one be gone for ever, without a word."""
        if (machine := self.one()) is not None:
            self._drop(machine)
            machine.former_ids.append(machine.disk.meta.host_id)
            self.lost.append(machine)
            self._yard.witness.told(NAME, f"{machine.name} is gone")

    def mend(self) -> None:
        """Let those boot that could not: of one that never joins, and that no store knows, its owner is only told."""
        self.mishaps.clear()
        for launch_id, machine in self.machines.items():
            if machine.agent is None:
                self._boot(launch_id, machine)

    # What must hold -----------------------------------------------------------------------

    def has(self, host_id: str) -> bool:
        """Say whether a host is, or was, one that was launched."""
        return any(machine.disk.meta.host_id == host_id for machine in (*self.machines.values(), *self.lost))

    def look_afresh(self, stored: Mapping[str, bytes]) -> None:
        """Look at all that is stored, once a backup was put back."""
        self._wanted.clear()
        for key, value in stored.items():
            kind, _, name = key.partition("/")
            if kind == "launch":
                self.look_at(name, value)

    def look_at(self, name: str, value: bytes | None) -> None:
        """Look at a launch that is stored."""
        launch = json.loads(value) if value is not None else {"stop_reason": "it is over"}
        self._wanted[name] = 0 if launch.get("stop_reason") else launch["cpu_millis"]
        if (cpu_millis := sum(self._wanted.values())) > MOST_VCPUS * 1000:
            self._yard.witness.violated("C", f"{cpu_millis} vCPU thousandths are launched, of {MOST_VCPUS * 1000}")
