"""
Leadership: one term after the other.

A term begins with a campaign and a fresh load and ends with the first doubt: a
commit that failed, or a lease that may have run out. Nothing is merged; the next
term believes only the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import structlog

from batchyard.errors import Reason, UnavailableError
from batchyard_controller.core import limits
from batchyard_controller.core.jobs.retention import Retention
from batchyard_controller.core.model.restores import in_generation
from batchyard_controller.core.model.room import Room
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.reactor.recovery import Steps, restoring
from batchyard_controller.core.scaling.catalogue import Catalogue
from batchyard_controller.core.world.world import World

from . import garbage
from .driver import ALLOWS_STALE, CommandSink, Driver
from .metrics import Metrics
from .standby import Standby
from .store.archive import Archive
from .store.protocol import DeposedError, Store, StoreError, UnsupportedServerError
from .trail import TrailBounds

PAUSE_S = 0.5
"""Between a failed term and the next campaign."""

_AT = " at "
"""Between a candidate's name and its address."""

OpenSink = Callable[[int], CommandSink]
"""Begins a term for hosts, of the given epoch: that of the store, in its generation."""


class Launcher(Protocol):
    """Has hosts launched and stopped, term after term."""

    @property
    def catalogues(self) -> Mapping[str, Catalogue]:
        """What its providers offer."""

    async def serve(self, driver: Driver) -> None:
        """Carry out what is stored of launches, for a term."""


class Archivist(Protocol):
    """Moves jobs that have ended into an archive, term after term."""

    @property
    def archive(self) -> Archive:
        """Where they go."""

    async def open_term(self, term: int, now: Instant) -> int:
        """Begin a term, by its epoch with its generation; return after which number in the order of submission its jobs come."""

    async def serve(self, driver: Driver) -> None:
        """Move jobs until the term ends."""


class Leadership:
    """Where services find the driver of the present term, if there is one, and the archive, if there is one."""

    def __init__(self, archive: Archive | None = None) -> None:
        self.archive = archive
        self._standby: Standby | None = None
        self._driver: Driver | None = None
        self._former: Driver | None = None
        """Of the last term, which has ended, until another begins."""
        self._change = asyncio.Event()

    @property
    def driver(self) -> Driver:
        """
        The present term's driver, or that of the last, which answers reads alone, to who takes that.

        Raises:
            UnavailableError: there is none now.
        """
        if self._driver is not None:
            return self._driver
        if self._former is not None and ALLOWS_STALE.get() and self.stale_since_ms:
            return self._former
        raise self.refusal()

    @property
    def stale_since_ms(self) -> int:
        """
        When it was last sure that nobody else led, by the wall clock, while its store has not answered since.

        0: it leads, has not led before, or knows who does.
        """
        knows_better = self._driver is not None or (self._standby is not None and self._standby.leader)
        return self._former.proven_ms if self._former is not None and not knows_better else 0

    def refusal(self) -> UnavailableError:
        """Return what a caller is told while another controller leads, or none: nothing was done; ask that one."""
        leader = address_of(self._standby.leader) if self._standby is not None else ""
        text = f"the controller at {leader} leads" if leader else "try again"
        return UnavailableError(
            f"this controller does not lead now; {text}", reason=Reason.NOT_LEADING, metadata={"leader": leader}
        )

    @property
    def leads(self) -> bool:
        """Whether there is a term now."""
        return self._driver is not None

    @property
    def change(self) -> asyncio.Event:
        """Set when the next term begins or this one ends; take it before looking, so that none is missed."""
        return self._change

    def wait(self, standby: Standby) -> None:
        """Wait for the next term, as *standby* does."""
        self._standby = standby

    def enter(self, driver: Driver) -> None:
        """Begin a term."""
        self._standby = self._former = None
        self._set(driver)

    def leave(self) -> None:
        """End a term."""
        self._former = self._driver
        self._set(None)

    def forget(self) -> None:
        """Let go of what was known of the last term: the store answers."""
        self._former = None

    def _set(self, driver: Driver | None) -> None:
        self._driver = driver
        self._change.set()
        self._change = asyncio.Event()


async def tend(store: Store, leadership: Leadership, metrics: Metrics) -> None:
    """Keep the store in order for ever, whether this controller leads or waits; tell of what room there is."""
    log = structlog.get_logger()
    told = ""

    def tell(room: Room) -> None:
        nonlocal told
        metrics.note_room(room)
        if room.fault != told:
            log.error("store", fault=room.fault) if room.fault else log.info("store", fault="none any more")
            told = room.fault
        if leadership.leads:
            leadership.driver.room = room

    await store.tend(tell)


async def lead(
    store: Store,
    candidate: str,
    leadership: Leadership,
    open_sink: OpenSink,
    clock: Callable[[], Instant],
    metrics: Metrics,
    retention: Retention,
    launcher: Launcher | None = None,
    fence_ms: int = limits.FENCE_MS,
    bounds: TrailBounds | None = None,
    brake_percent: int = limits.BRAKE_PERCENT,
    archivist: Archivist | None = None,
) -> None:
    """
    Lead whenever possible, for ever; *launcher* is for environments that scale, *archivist* for an archive.

    Raises:
        UnsupportedServerError: the store's server loses acknowledged writes.
    """
    log = structlog.get_logger()
    told = ""
    while True:
        world: World | None = None  # that of the last term goes before another is loaded
        garbage.look_at_all()
        try:
            async with Standby(store, metrics) as standby:
                leadership.wait(standby)
                epoch = await store.campaign(candidate)
                leadership.forget()
                log.info("elected", epoch=epoch)
                records = await standby.records(epoch)
            catalogues = launcher.catalogues if launcher is not None else {}
            world = await _build(restoring(records, clock(), retention, catalogues, fence_ms, brake_percent))
            del records
            generation = world.generation
            term = in_generation(generation, epoch)
            if archivist is not None:
                world.last_seq = max(world.last_seq, await archivist.open_term(term, clock()))
            log.info("leading", epoch=epoch, generation=generation, jobs=len(world.jobs), hosts=len(world.hosts))
            told = ""
            driver = Driver(store, epoch, world, open_sink(term), clock, metrics, bounds)
            servants = [each for each in (launcher, archivist) if each is not None]
            await _serve_term(store, driver, leadership, servants)
        except UnsupportedServerError:
            raise
        except StoreError as err:
            reason = str(err) or type(err).__name__
            if reason != told:
                log.warning("does not lead", reason=reason)
                told = reason
        if asyncio.current_task().cancelling():  # type: ignore[union-attr]  # a coroutine runs in a task
            # Before Python 3.13 a task group whose own task fails at that moment swallows it. (One that
            # awaits nothing in its body would count its own cancelling here: driver and term do.)
            raise asyncio.CancelledError
        await asyncio.sleep(PAUSE_S)


def name_candidate(name: str, address: str) -> str:
    """Return what a candidate calls itself in the store, so that others know its address, if there is one."""
    return f"{name}{_AT}{address}" if address else name


def address_of(candidate: str) -> str:
    """Return where a candidate is reached; nothing where it does not say so."""
    return candidate.partition(_AT)[2]


async def _build(steps: Steps[World]) -> World:
    """Take all steps, and let others have their turn after each."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            world: World = end.value
            return world
        await asyncio.sleep(0)


async def _serve_term(
    store: Store, driver: Driver, leadership: Leadership, servants: Sequence[Launcher | Archivist]
) -> None:
    """Run one term to its end, which is always a StoreError."""
    leadership.enter(driver)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_watch_lease(store))
            tasks.create_task(driver.trail.recall(store))
            for servant in servants:
                tasks.create_task(servant.serve(driver))
            await driver.run()
    except BaseExceptionGroup as group:
        # Not except*: Python before 3.11.4 wraps what is raised in one into a group again.
        if group.split(StoreError)[1] is not None:
            raise
        raise _first(group) from group
    finally:
        leadership.leave()
        driver.close()


async def _watch_lease(store: Store) -> None:
    await store.deposed()
    raise DeposedError("leadership was lost or can no longer be proved")


def _first(group: BaseExceptionGroup[BaseException]) -> StoreError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, StoreError)
    return error
