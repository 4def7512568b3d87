"""
Visits: which units have, or had, an attempt on a host.

Law: each step is cheap, so that whoever takes many of them may stop at any.
"""

from __future__ import annotations

from collections.abc import Iterator

from batchyard.ids import HostId
from batchyard_controller.core.model.chunks import CHUNK
from batchyard_controller.core.model.jobs import Job, JobKind
from batchyard_controller.core.model.units import Unit, unit_at
from batchyard_controller.core.world.world import World


class Visits:
    """
    The units that have, or had, an attempt on one host, which may be gone.

    Attributes:
        live: Those that have one now, by their place in the order of submission.
    """

    def __init__(self, world: World, host_id: HostId) -> None:
        self._host_id = host_id
        host = world.hosts.get(host_id)
        units = () if host is None else map(world.unit_of, host.attempts.values())
        self.live = {unit.place: unit for unit in units}
        self._live_chunks = {(seq, place // CHUNK) for seq, place in self.live}

    def steps(self, job: Job, beyond: int) -> Iterator[tuple[int, Unit | None]]:
        """
        Yield the units of a job that are or were there, in order, each with its place in the job.

        Args:
            job: A single job or an array.
            beyond: Only of places behind this one.

        Yields:
            None in place of a unit where nothing was found up to that place.
        """
        if job.kind is JobKind.SINGLE:
            yield 0, self._if_there(unit_at(job, 0))
            return
        for number in sorted(job.children.chunks):
            first, last = max(number * CHUNK, beyond + 1), min((number + 1) * CHUNK, job.size)
            if first >= last:
                continue
            if self._host_id in job.children.chunks[number].host_ids or (job.seq, number) in self._live_chunks:
                yield from ((place, self._if_there(unit_at(job, place))) for place in range(first, last))
            else:
                yield last - 1, None
        yield job.size - 1, None

    def _if_there(self, unit: Unit) -> Unit | None:
        return unit if unit.place in self.live or unit.had_host(self._host_id) else None
