"""
Recalling: what services look at, with archived jobs among those that are kept.

Law: nobody is missed who leaves the store while somebody looks: who is not kept is asked
for in the archive, and then all are looked at in one turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from batchyard.ids import split_job_id
from batchyard_controller.core.model.jobs import Job
from batchyard_controller.core.world.recalling import recalling
from batchyard_controller.core.world.world import World
from batchyard_controller.leadership import Leadership

T = TypeVar("T")


async def read(leadership: Leadership, ids: Iterable[str], look: Callable[[World], T]) -> T:
    """
    Let *look* see the world, with the jobs of *ids* (or of their children) also where they are archived.

    Raises:
        UnavailableError: the term ended, or the archive cannot be read.
    """
    driver, archive = leadership.driver, leadership.archive
    if archive is None:
        return await driver.read(look)
    wanted: set[str] = {split_job_id(each)[0] for each in ids}
    asked: set[str] = set()
    recalled: list[Job] = []

    def see(world: World) -> tuple[set[str], T | None]:
        absent = {each for each in wanted if each not in world.jobs} - asked
        if absent:
            return absent, None
        with recalling(world, recalled):
            return absent, look(world)

    while True:
        absent, answer = await driver.read(see)
        if not absent:
            return answer  # type: ignore[return-value]  # it was looked
        asked |= absent
        recalled += await archive.fetch(absent)
