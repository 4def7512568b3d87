"""
Launcher: has providers do what is stored of launches, for a term.

It reads orders off the stored world and posts what became of them, again and again:
nothing is lost with it, and a leader that begins goes on where the last one stopped. One
provider that is slow holds up no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from batchyard.errors import UnavailableError
from batchyard.ids import LaunchId
from batchyard_controller.core import limits
from batchyard_controller.core.events import ProviderAnswered, ProviderListed
from batchyard_controller.core.model.launches import LaunchState
from batchyard_controller.core.requests.checks import printable
from batchyard_controller.core.scaling.catalogue import Catalogue
from batchyard_controller.core.scaling.orders import Operation, Order, orders
from batchyard_controller.core.world.world import World
from batchyard_controller.driver import Driver

from .protocol import Provider, ProviderError, Wanted

LOOK_S = 0.5
LIST_S = 10.0
AT_ONCE_MAX = 16
"""Orders that one provider carries out at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A provider and what it offers."""

    provider: Provider
    catalogue: Catalogue


class Launcher:
    """Has hosts launched and stopped, term after term."""

    def __init__(self, offers: Sequence[Offer]) -> None:
        self._offers = {offer.catalogue.provider: offer for offer in offers}

    @property
    def catalogues(self) -> Mapping[str, Catalogue]:
        """What the providers offer."""
        return {name: offer.catalogue for name, offer in self._offers.items()}

    async def close(self) -> None:
        """Let go of all providers, as the controller ends."""
        await asyncio.gather(*(offer.provider.close() for offer in self._offers.values()))

    async def serve(self, driver: Driver) -> None:
        """Serve all providers until the term ends."""
        try:
            async with asyncio.TaskGroup() as group:
                for offer in self._offers.values():
                    desk = _Desk(driver, offer)
                    group.create_task(desk.run_orders(group))
                    group.create_task(desk.run_lists())
        except* UnavailableError:
            pass  # the term is over, as the driver says louder


class _Desk:
    """One provider's part in a term."""

    def __init__(self, driver: Driver, offer: Offer) -> None:
        self._driver = driver
        self._provider, self._catalogue = offer.provider, offer.catalogue
        self._name = offer.catalogue.provider
        self._busy: set[LaunchId] = set()
        self._log = structlog.get_logger().bind(provider=self._name)

    async def run_orders(self, group: asyncio.TaskGroup) -> None:
        """Carry out orders, one at a time for each launch."""
        while True:
            before = frozenset(self._busy)
            for order in await self._driver.read(self._due):
                # Of one that was busy before the read, the read may not know the answer.
                is_free = order.launch.id not in before and order.launch.id not in self._busy
                if is_free and len(self._busy) < AT_ONCE_MAX:
                    self._busy.add(order.launch.id)
                    group.create_task(self._carry_out(order))
            await asyncio.sleep(LOOK_S)

    def _due(self, world: World) -> tuple[Order, ...]:
        own = [launch for launch in world.launches.values() if launch.provider == self._name]
        return orders(own, world.hosts, world.scaling, world.spared)

    async def _carry_out(self, order: Order) -> None:
        launch, error = order.launch, ""
        try:
            if order.operation is Operation.STOP:
                await self._provider.stop(launch)
            else:
                await self._provider.launch(self._wanted(order))
        except ProviderError as err:
            error = printable(str(err), limits.CONTAINER_REASON_LENGTH_MAX) or "it gave no reason"
        log = self._log.bind(launch=launch.id, type=launch.host_type)
        if error:
            log.warning("provider failed", operation=order.operation, reason=error)
        else:
            log.info("provider did it", operation=order.operation)
        self._driver.post(ProviderAnswered(launch_id=launch.id, operation=order.operation, error=error))
        self._busy.discard(launch.id)

    def _wanted(self, order: Order) -> Wanted:
        found = self._catalogue.types.get(order.launch.host_type)
        if found is None:
            raise ProviderError(f"type {order.launch.host_type} is configured no more")
        return Wanted(launch=order.launch, type=found)

    async def run_lists(self) -> None:
        """Compare what there is with what was launched; what nobody here launched is told and left alone."""
        told: set[str] = set()
        while True:
            launched = await self._driver.read(self._launched)
            try:
                found = await self._provider.existing()
            except ProviderError as err:
                self._tell(told, "list failed", printable(str(err), limits.CONTAINER_REASON_LENGTH_MAX))
            else:
                if launched - found:
                    self._driver.post(ProviderListed(missing=launched - found))
                known = await self._driver.read(lambda world: frozenset(world.launches))
                for launch_id in sorted(found - known - self._busy):
                    self._tell(told, "a host is there that this controller did not launch, or has stopped", launch_id)
            await asyncio.sleep(LIST_S)

    def _launched(self, world: World) -> frozenset[LaunchId]:
        own = (launch for launch in world.launches.values() if launch.provider == self._name)
        return frozenset(launch.id for launch in own if launch.state is not LaunchState.ASKED)

    def _tell(self, told: set[str], what: str, about: str) -> None:
        if f"{what}{about}" not in told:
            told.add(f"{what}{about}")
            self._log.warning(what, about=about)
