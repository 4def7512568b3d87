"""Stores of earlier versions: what they hold is loaded, told as it was told then, and written in today's form."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from tests.core.law import described

from batchyard.arns import instance_id
from batchyard_controller.convert.definitions import definition_message
from batchyard_controller.convert.settings import environment_message, queue_message
from batchyard_controller.core.jobs.retention import Retention
from batchyard_controller.core.model.jobs import INFRASTRUCTURE_RETRIES
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.reactor.recovery import restore
from batchyard_controller.core.world import invariants
from batchyard_controller.core.world.world import World
from batchyard_controller.services.job_view import job_message
from batchyard_controller.store.codec import encode_touched, load_records
from batchyard_controller.store.memory import MemoryStore
from batchyard_controller.store.sqlite import SqliteStore
from batchyard_controller.store.upgrade import upgrade

DATA = Path(__file__).parent / "data"
NOW = Instant(wall_ms=1_700_000_705_000, boot_ms=1_000)
SHORT = ("container", "parameters", "tags", "annotations", "retry_strategy", "depends_on")
"""Left out of what is told of children, who have it of their array."""


@pytest.fixture
async def world(tmp_path: Path) -> World:
    """
    The world of a store that revision a4183a4 wrote, with jobs in every state.

    One container a job, texts for causes; beside it lies what that revision told of it.
    """
    path = tmp_path / "store.sqlite"
    shutil.copyfile(DATA / "a4183a4.sqlite", path)
    records = await load_records(SqliteStore(path))
    restored = restore(records, NOW, Retention())
    invariants.check(restored)
    return restored


def as_json(message: Any) -> dict[str, Any]:
    """Return a message as JSON, without the tries that hosts fail, of which none was allowed unless it was said."""
    told: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    if told.get("retry_strategy", {}).get("infrastructure_retries") == INFRASTRUCTURE_RETRIES:
        del told["retry_strategy"]["infrastructure_retries"]
    return told


def told_of(unit: Unit, world: World) -> dict[str, Any]:
    """Return what users are told of a unit, without what was not told then."""
    told = as_json(job_message(world, unit))
    for name in ("waiting_reason", "ending_cause"):
        told.pop(name, None)
    for attempt in told.get("attempts", ()):
        for name in ("cause", "compute_environment", "retry_verdict"):
            attempt.pop(name, None)
    return {name: value for name, value in told.items() if not (unit.is_child and name in SHORT)}


async def test_jobs_are_told_as_they_were(world: World) -> None:
    """Each job and child: state, reasons, tries, times, who stopped it; a lost host by the id that EC2 gives it."""
    then = json.loads((DATA / "a4183a4.json").read_text().replace("(instance a)", f"(instance {instance_id('a')})"))
    units = {unit.id: unit for job in world.jobs.values() for unit in _units(job)}
    assert [told_of(units[job["id"]], world) for job in then["jobs"]] == then["jobs"]
    assert sorted(world.attempts) == then["attempts"]


def _units(job: Any) -> list[Unit]:
    return [Unit(job), *(Unit(job, index) for index in range(job.size))]


async def test_settings_are_told_as_they_were(world: World) -> None:
    """Environments, queues, definitions with their containers and volumes, hosts, secrets, keys."""
    then = json.loads((DATA / "a4183a4.json").read_text())["settings"]
    definitions = [d for revisions in world.definitions.values() for d in revisions]
    assert [as_json(definition_message(d)) for d in definitions] == then["definitions"]
    environments = [environment_message(e, "", ()) for e in world.environments.values()]
    assert list(map(as_json, environments)) == then["environments"]
    queues = [queue_message(q, "", world.counts.get(q.name, {}), ()) for q in world.queues.values()]
    since = {
        "dispatch_order": "DISPATCH_ORDER_DUE_TIME",
        "preemption": "PREEMPTION_NEVER",
        "security_level": "SECURITY_LEVEL_PRIVILEGED",
    }  # what a queue is that says nothing of it
    assert list(map(as_json, queues)) == [queue | since for queue in then["queues"]]
    kept: dict[str, Any] = {"hosts": world.hosts, "secrets": world.secrets, "access_keys": world.access_keys}
    assert {name: sorted(mapping) for name, mapping in kept.items()} == {name: then[name] for name in kept}


@pytest.mark.parametrize("kind", ["FARGATE", "FARGATE_SPOT"])
def test_what_was_of_fargate_by_name_alone_is_so_now(kind: str) -> None:
    """The gateway kept the type beside an environment of EC2; nothing else of that name is touched."""
    known = json.dumps({"computeResources": {"type": kind, "subnets": ["s"]}}, separators=(",", ":"))
    resources = {"type": "EC2", "allocation_strategy": "BEST_FIT", "max_vcpus": 4}
    old = {"name": "e", "compute_resources": resources, "annotations": [["aws", known]], "tags": []}
    now = json.loads(upgrade("environment", json.dumps(old, separators=(",", ":")).encode()))
    changed = {"type": kind, "allocation_strategy": "BEST_FIT_PROGRESSIVE", "max_vcpus": 4}
    assert now == old | {"compute_resources": changed}
    other = old | {"annotations": [["mine", known]]}
    assert json.loads(upgrade("environment", json.dumps(other, separators=(",", ":")).encode())) == other


async def test_causes_are_known_where_texts_told_them(world: World) -> None:
    """A retry rule that reads causes reads them of old tries, too."""
    by_name = {job.name: job for job in world.jobs.values()}
    causes = {name: [str(ended.cause) for ended in job.attempts] for name, job in by_name.items() if job.attempts}
    assert causes == {
        "succeeded": ["EXITED"],
        "failed": ["EXITED"] * 3,
        "out-of-memory": ["OUT_OF_MEMORY"],
        "timed-out": ["TIMED_OUT"],
        "start-failed": ["START_FAILED"],
        "lost": ["LOST"],
        "terminated-running": ["STOPPED"],
    }


async def test_it_is_written_in_todays_form(world: World) -> None:
    """Written afresh and loaded again, it is the same world."""
    store = MemoryStore()
    epoch = await store.campaign("upgrade")
    touched = {f"{kind}/{name}": {(kind, name): None} for kind, name in _all_records(world)}
    await store.commit(encode_touched(world, touched), epoch)
    again = restore(await load_records(store), NOW, Retention())
    assert described(again) == described(world)


def _all_records(world: World) -> list[tuple[str, str]]:
    kinds = ("environment", "queue", "secret", "access_key", "host", "attempt", "job")
    mappings = ("environments", "queues", "secrets", "access_keys", "hosts", "attempts", "jobs")
    found = [(k, name) for k, m in zip(kinds, mappings, strict=True) for name in getattr(world, m)]
    found += [("definition", d.key) for revisions in world.definitions.values() for d in revisions]
    found += [("state", job_id) for job_id in world.jobs]
    return found + [("children", f"{j.id}/{n}") for j in world.jobs.values() for n in j.children.chunks]
