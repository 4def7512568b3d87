"""
Dependencies: does a job still wait for others?

A job waits until every job it depends on has SUCCEEDED; the first that FAILED
makes it fail (AWS Batch User Guide, "Job dependencies").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from batchyard.ids import JobId
from batchyard.states import JobState

from .model import Dependency, Job


@dataclass(frozen=True, slots=True)
class Standing:
    """What a job's dependencies say: ids it waits for, and whether one failed."""

    unmet: tuple[JobId, ...]
    failed: bool


def standing(depends_on: tuple[Dependency, ...], jobs: Mapping[JobId, Job]) -> Standing:
    """
    Look at each dependency once.

    One that is no longer kept ended long ago; since it was accepted as a
    dependency and this job was not failed for it, it counts as succeeded.
    """
    unmet: dict[JobId, None] = {}
    failed = False
    for dependency in depends_on:
        job = jobs.get(JobId(dependency.job_id))
        if job is None or job.state is JobState.SUCCEEDED:
            continue
        if job.state is JobState.FAILED:
            failed = True
        else:
            unmet[job.id] = None
    return Standing(tuple(unmet), failed)
