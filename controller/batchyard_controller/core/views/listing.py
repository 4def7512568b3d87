"""
Listing: which jobs a user asked to see, newest first, a page at a time.

Law: one page looks at a bounded number of jobs, however few of them match, so
that nobody who lists keeps the others waiting; a page may come short, or empty,
and yet say where the next begins.
"""

from __future__ import annotations

from dataclasses import dataclass

from batchyard.states import JobState
from batchyard_controller.core.model.jobs import Job
from batchyard_controller.core.world.submitted import SubmittedJobs

LOOKS_MAX = 50_000
"""Jobs that one page looks at: some hundredths of a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """
    What jobs are wanted; what is empty or 0 is not asked.

    Attributes:
        name: As `matches_name` takes it.
        definition: ``name`` is any revision, ``name:revision`` one; a trailing
            ``*`` matches any rest.
        consumable: Name of a consumable resource that they ask for.
    """

    states: frozenset[JobState] = frozenset()
    name: str = ""
    definition: str = ""
    created_after_ms: int = 0
    created_before_ms: int = 0
    share_identifier: str = ""
    consumable: str = ""

    def matches(self, job: Job) -> bool:
        """Say whether a job is wanted."""
        return (
            (not self.states or job.state in self.states)
            and (not self.name or matches_name(self.name, job.name))
            and (not self.definition or self._matches_definition(job.spec.definition))
            and self.created_after_ms < job.created_at_ms
            and (not self.created_before_ms or job.created_at_ms < self.created_before_ms)
            and self.share_identifier in ("", job.spec.share_identifier)
            and (not self.consumable or any(name == self.consumable for name, _ in job.spec.consumables))
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
    """Some jobs, and the number in order of submission before which the next page begins; None if there is none."""

    jobs: list[Job]
    next_before: int | None


def find_page(submitted: SubmittedJobs, wanted: JobFilter, before: int | None, size: int) -> Page:
    """Return up to *size* jobs that were submitted before number *before* (None: all)."""
    found: list[Job] = []
    last = None
    for looks, job in enumerate(submitted.before(before, wanted.created_after_ms, wanted.created_before_ms)):
        if looks == LOOKS_MAX:
            return Page(found, last)
        if wanted.matches(job):
            if len(found) == size:
                return Page(found, last)
            found.append(job)
        last = job.seq
    return Page(found, None)
