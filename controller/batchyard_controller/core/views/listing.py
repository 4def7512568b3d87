"""
Listing: which jobs a user asked to see, in order of submission, a page at a time.

Law: one page looks at a bounded number of jobs, however few of them match, so
that nobody who lists keeps the others waiting; a page may come short, or empty,
and yet say where the next begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from batchyard.ids import HostId
from batchyard.states import ACTIVE_STATES, JobState
from batchyard_controller.core.access.roles import THE_ADMINISTRATOR, Kind, Principal, Thing, Verb, may, scope_of
from batchyard_controller.core.access.things import job_thing
from batchyard_controller.core.model.identities import ADMINISTRATOR
from batchyard_controller.core.model.jobs import Job, JobSpec
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.world.submitted import SubmittedJobs, walk_together
from batchyard_controller.core.world.world import World

from .visits import Visits

LOOKS_MAX = 50_000
"""Jobs that one page looks at: some hundredths of a second."""

Place = tuple[int, int]
"""Where a unit stands in the order of submission; see `Unit.place`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """
    What jobs are wanted; what is empty or 0 is not asked.

    Attributes:
        name: As `matches_name` takes it.
        definition: ``name`` is any revision, ``name:revision`` one; a trailing
            ``*`` matches any rest.
        consumable: Name of a consumable resource that they ask for.
        tags: All of these; None is whatever value.
        host_id: Of a host on which an attempt is or was. Children are then wanted, in
            order of index, in place of their array.
        oldest_first: In order of submission, and not against it.
        owner: A user, or the administrator by that name.
        reader: Who asks: what they may not read is not wanted.
    """

    queues: frozenset[str] = frozenset()
    states: frozenset[JobState] = frozenset()
    name: str = ""
    definition: str = ""
    created_after_ms: int = 0
    created_before_ms: int = 0
    share_identifier: str = ""
    consumable: str = ""
    tags: tuple[tuple[str, str | None], ...] = ()
    host_id: str = ""
    oldest_first: bool = False
    owner: str = ""
    reader: Principal = field(default=THE_ADMINISTRATOR)

    def predicate(self) -> Callable[[Job, JobState], bool]:
        """Return what says whether a job, or a child of it, in a state is wanted; hosts are not asked."""
        name = self.name.casefold()
        verdicts: dict[int, bool] = {}  # thousands of jobs share a spec

        def matches(job: Job, state: JobState) -> bool:
            if (self.states and state not in self.states) or (name and not _matches(name, job.name.casefold())):
                return False
            if job.created_at_ms <= self.created_after_ms or 0 < self.created_before_ms <= job.created_at_ms:
                return False
            verdict = verdicts.get(id(job.spec))
            if verdict is None:
                verdict = verdicts[id(job.spec)] = self._wants(job.spec)
            return verdict

        return matches

    def _wants(self, spec: JobSpec) -> bool:
        tags = dict(spec.tags)
        return (
            may(self.reader, Verb.READ, job_thing(spec))
            and (not self.owner or (spec.owner or ADMINISTRATOR) == self.owner)
            and (not self.queues or spec.queue in self.queues)
            and (not self.definition or self._matches_definition(spec.definition))
            and self.share_identifier in ("", spec.share_identifier)
            and (not self.consumable or any(name == self.consumable for name, _ in spec.consumables))
            and all(key in tags and value in (None, tags[key]) for key, value in self.tags)
        )

    def wants_sum(self, queue: str, definition: str, owner: str) -> bool:
        """Say whether jobs of which only this is known are wanted; what else is asked for is not heeded."""
        return (
            may(self.reader, Verb.READ, Thing(Kind.JOB, queue, owner))
            and (not self.owner or (owner or ADMINISTRATOR) == self.owner)
            and (not self.queues or queue in self.queues)
            and (not self.definition or self._matches_definition(definition))
        )

    def _matches_definition(self, key: str) -> bool:
        return _matches(self.definition, key) or self.definition == key.partition(":")[0]


def matches_name(pattern: str, name: str) -> bool:
    """Say whether a name is meant: a trailing ``*`` matches any rest; letter case does not matter."""
    return _matches(pattern.casefold(), name.casefold())


def _matches(pattern: str, text: str) -> bool:
    return text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern


@dataclass(frozen=True, slots=True)
class Page:
    """Some units, and the place beyond which the next page begins; None if there is none."""

    units: list[Unit]
    next_beyond: Place | None


def find_page(world: World, wanted: JobFilter, beyond: Place | None, size: int) -> Page:
    """Return up to *size* jobs, or units that ran on a host, that stand in their order beyond a place (None: all)."""
    found: list[Unit] = []
    last = beyond
    for looks, (place, unit) in enumerate(_steps(world, wanted, beyond)):
        if looks == LOOKS_MAX:
            return Page(found, last)
        if unit is not None:
            if len(found) == size:
                return Page(found, last)
            found.append(unit)
        last = place
    return Page(found, None)


def _steps(world: World, wanted: JobFilter, beyond: Place | None) -> Iterable[tuple[Place, Unit | None]]:
    """Yield what is looked at in turn, with its place; None in place of a unit that is not wanted."""
    matches = wanted.predicate()
    if not wanted.host_id:
        jobs = walk_jobs(world, wanted, None if beyond is None else beyond[0])
        return (((job.seq, 0), Unit(job) if matches(job, job.state) else None) for job in jobs)
    visits = Visits(world, HostId(wanted.host_id))
    if wanted.states and wanted.states <= ACTIVE_STATES:
        steps = _live_steps(visits, wanted, beyond)
    else:
        steps = _host_steps(world, visits, wanted, beyond)
    return ((place, unit if unit is not None and matches(unit.job, unit.state) else None) for place, unit in steps)


def _live_steps(visits: Visits, wanted: JobFilter, beyond: Place | None) -> Iterator[tuple[Place, Unit | None]]:
    def order(place: Place) -> Place:
        return place if wanted.oldest_first else (-place[0], place[1])

    for place in sorted(visits.live, key=order):
        if beyond is None or order(place) > order(beyond):
            yield place, visits.live[place]


def _host_steps(
    world: World, visits: Visits, wanted: JobFilter, beyond: Place | None
) -> Iterator[tuple[Place, Unit | None]]:
    seq, place = beyond or (None, -1)
    if seq is not None:  # more of that job may come
        seq += -1 if wanted.oldest_first else 1
    for job in walk_jobs(world, wanted, seq):
        is_resumed = beyond is not None and job.seq == beyond[0]
        for there, unit in visits.steps(job, place if is_resumed else -1):
            if not is_resumed or there > place:
                yield (job.seq, there), unit


def walk_jobs(world: World, wanted: JobFilter, beyond: int | None) -> Iterator[Job]:
    """Yield what may be wanted that stands beyond a number of the order of submission; others may be among them."""
    after_ms, before_ms = wanted.created_after_ms, wanted.created_before_ms
    several = _sources(world, wanted)
    jobs = walk_together(several, beyond, after_ms, before_ms, oldest_first=wanted.oldest_first)
    return jobs if len(several) == 1 else _each_once(jobs)


def readable(world: World, reader: Principal) -> Iterator[Job]:
    """Yield jobs that somebody may read, the newest first, None of them twice; others may be among them."""
    return walk_jobs(world, JobFilter(reader=reader), None)


def _sources(world: World, wanted: JobFilter) -> list[SubmittedJobs]:
    """Return lists in which all that is wanted stands, and little else."""
    if wanted.owner and wanted.owner != ADMINISTRATOR:
        return [world.by_owner.get(wanted.owner) or SubmittedJobs()]
    scope = scope_of(wanted.reader)
    queues = wanted.queues if scope.is_all else (wanted.queues or scope.queues) & scope.queues
    several = [world.by_queue.get(queue) or SubmittedJobs() for queue in queues]
    if scope.is_all:
        return several or [world.all_jobs]
    if not wanted.queues or wanted.queues - queues:
        several.append(world.by_owner.get(scope.user) or SubmittedJobs())
    return several or [SubmittedJobs()]


def _each_once(jobs: Iterable[Job]) -> Iterator[Job]:
    """Yield jobs that come in order, but for those that stood in several lists."""
    last: Job | None = None
    for job in jobs:
        if job is not last:
            yield job
        last = job
