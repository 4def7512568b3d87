"""Things: what records are to `may`: of which queue they are, and whose."""

from __future__ import annotations

from batchyard_controller.core.model.jobs import JobDefinition, JobSpec
from batchyard_controller.core.model.secrets import AccessKey, StoredSecret

from .roles import Kind, Thing


def job_thing(spec: JobSpec) -> Thing:
    """Return what jobs of a spec, their children and their logs are."""
    return Thing(Kind.JOB, spec.queue, spec.owner)


def queue_thing(name: str) -> Thing:
    """Return what a job queue of this name is, whether there is one or not."""
    return Thing(Kind.QUEUE, name)


def counts_thing(queue: str) -> Thing:
    """Return what the numbers of a queue's jobs are, whosever these are."""
    return Thing(Kind.COUNTS, queue)


def definition_thing(definition: JobDefinition) -> Thing:
    """Return what a job definition is."""
    return Thing(Kind.DEFINITION, owner=definition.owner)


def secret_thing(secret: StoredSecret) -> Thing:
    """Return what a secret is."""
    return Thing(Kind.SECRET, owner=secret.owner)


def access_key_thing(access_key: AccessKey) -> Thing:
    """Return what an access key is."""
    return Thing(Kind.ACCESS_KEY, owner=access_key.owner)
