"""
Archivist: moves jobs that have ended from the store into the archive, for a term.

Law: a job goes from the store only once it is on the disk of the archive as it is; where the
archive is away they stay, and the yard goes on.
"""

from __future__ import annotations

import asyncio

import structlog

from batchyard.errors import UnavailableError

from .core.events import JobsArchived
from .core.jobs.retention import forgettable
from .core.model.jobs import JobSpec
from .core.model.values import Instant
from .core.world.world import World
from .driver import Driver
from .store.archive import Archive, Archived, archived

JOBS_MAX = 1_000
"""Jobs that go at a time: about 20 ms of the loop."""

JOBS_A_MS_MAX = 1_000
"""Jobs that nobody submits in a millisecond, year in, year out."""

LOOK_S = 1.0
RETRY_S = 5.0
FORGET_S = 3600.0


class Archivist:
    """
    Serves one archive, term after term.

    Args:
        archive: Taken over; closed with this.
        keep_ms: How long jobs are kept there after their end.
    """

    def __init__(self, archive: Archive, keep_ms: int) -> None:
        self.archive = archive
        self._keep_ms = keep_ms
        self._forgot_s = float("-inf")
        self._term = 0
        self._told = ""

    async def open_term(self, term: int, now: Instant) -> int:
        """
        Begin a term, by its epoch with its generation.

        Returns the highest number in the order of submission that is there. Where none can be read it is one by the
        date, which no leader before has reached, as far as clocks are right: a store that was lost, or put back from
        a backup, does not know how far they came.
        """
        self._term = term
        try:
            return await self.archive.open_term(term)
        except UnavailableError as err:
            self._tell(str(err))
            return now.wall_ms * JOBS_A_MS_MAX

    async def serve(self, driver: Driver) -> None:
        """Move jobs until the term ends; open the archive anew when whoever asked it had no answer."""
        while True:
            try:
                if not self.archive.is_open:
                    await self.archive.open_term(self._term)
                moved = await self._move(driver)
                await self._forget(driver)
                self._told = ""
            except UnavailableError as err:
                self._tell(str(err))
                await asyncio.sleep(RETRY_S)
            else:
                if not moved:
                    await asyncio.sleep(LOOK_S)

    def _tell(self, why: str) -> None:
        """Warn once an outage."""
        if why != self._told:
            structlog.get_logger().warning("jobs stay in the store", reason=why)
            self._told = why

    async def _move(self, driver: Driver) -> int:
        jobs = await driver.read(_due)
        if not jobs:
            return 0
        specs: list[JobSpec] = [each.job.spec for each in jobs]
        await self.archive.add(jobs)

        def decide(world: World, _: Instant) -> tuple[JobsArchived, None]:
            pairs = zip(jobs, specs, strict=True)  # one whose tags were changed meanwhile goes as it is then
            same = (
                each.job for each, spec in pairs if world.jobs.get(each.job.id) is each.job and each.job.spec is spec
            )
            return JobsArchived(jobs=tuple(same)), None

        await driver.request(decide)
        return len(jobs)

    async def _forget(self, driver: Driver) -> None:
        now_s = asyncio.get_running_loop().time()
        date_ms = await driver.read(_date_ms)
        if now_s - self._forgot_s >= FORGET_S and date_ms:
            await self.archive.forget(date_ms - self._keep_ms)
            self._forgot_s = now_s


def _due(world: World) -> list[Archived]:
    if world.calendar is None:
        return []
    is_tight = world.room is not None and world.room.is_tight
    due = forgettable(world.ended, world.retention, world.calendar, in_need=is_tight)
    return [archived(world, job) for job in due[:JOBS_MAX]]


def _date_ms(world: World) -> int:
    """Return the date by which things are forgotten; 0 before there is one."""
    return world.calendar.date_ms if world.calendar is not None else 0
