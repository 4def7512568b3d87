"""Recalling: archived jobs among those that are kept, while somebody looks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from batchyard_controller.core.model.jobs import Job

from .world import World, request_key


@contextmanager
def recalling(world: World, jobs: Iterable[Job]) -> Iterator[None]:
    """Have archived jobs stand among those that are kept; nothing may be changed of them."""
    recalled = {job.id: job for job in jobs if job.id not in world.jobs}
    requests = {request_key(job): job.id for job in recalled.values() if job.request_id}
    requests = {key: job_id for key, job_id in requests.items() if key not in world.requests}
    world.jobs.update(recalled)
    world.requests.update(requests)
    try:
        yield
    finally:
        for job_id in recalled:
            del world.jobs[job_id]
        for key in requests:
            del world.requests[key]
