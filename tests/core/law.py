"""
The law of what is stored: after a commit, the store holds the world, all of it and nothing else.

Said three times: the store's records are those that the world would write afresh; a world
restored from them is the one held in memory; and of a job that was forgotten nothing is
left anywhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from batchyard.ids import JobId
from batchyard_controller.core.jobs.retention import Retention
from batchyard_controller.core.model.jobs import Job
from batchyard_controller.core.model.past import NOBODY_LEFT
from batchyard_controller.core.model.units import Unit, units_of
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement.line import Shape
from batchyard_controller.core.reactor.recovery import StoredState, restore
from batchyard_controller.core.world import invariants
from batchyard_controller.core.world.world import World
from batchyard_controller.store.codec import encode_record, encode_touched, load_records
from batchyard_controller.store.keys import key_of
from batchyard_controller.store.memory import MemoryStore


class Shelf:
    """A store beside a world; every commit is followed by the law."""

    def __init__(self) -> None:
        self._store = MemoryStore()
        self._epoch = asyncio.run(self._store.campaign("law"))
        self._seen: set[JobId] = set()

    def commit(self, world: World) -> None:
        """Store what changed."""
        asyncio.run(self._store.commit(encode_touched(world, world.ledger.take()), self._epoch))

    def restore(self, now: Instant, retention: Retention) -> World:
        """Return the world as a new leader would find it."""
        return restore(asyncio.run(load_records(self._store)), now, retention)

    def check(self, world: World, now: Instant) -> None:
        """Commit, and assert the law."""
        self.commit(world)
        stored = dict(pair for page in self._pages() for pair in page)
        assert stored == {key: value for key, value, is_due in written(world) if is_due or key in stored}
        again = self.restore(now, world.retention)
        invariants.check(again)
        assert described(again) == described(world)
        assert not again.ledger.take(), "a restored world has nothing to write"
        self._check_forgotten(world, stored)

    def _pages(self) -> list[list[tuple[str, bytes]]]:
        async def load() -> list[list[tuple[str, bytes]]]:
            return [page async for page in self._store.load()]

        return asyncio.run(load())

    def _check_forgotten(self, world: World, stored: dict[str, bytes]) -> None:
        self._seen |= world.jobs.keys()
        gone = self._seen - world.jobs.keys()
        kept = [key for key in stored if key.startswith(("job/", "state/", "children/", "attempt/"))]
        assert not [key for key in kept if key.partition("/")[2][:36] in gone]
        lists: list[Iterable[Job]] = [world.all_jobs, *world.by_queue.values(), *world.by_owner.values(), world.ended]
        assert not gone & {job.id for jobs in lists for job in jobs}
        assert not gone & set(world.requests.values())
        lines = [line for queue in world.by_queue for line in world.lines.of_queue(queue)]
        assert not gone & {unit.job.id for line in lines for unit in line.units()}
        assert not gone & world.dependents.keys()
        assert not gone & world.followers.keys()


def written(world: World) -> Iterator[tuple[str, bytes, bool]]:
    """Yield each record that a store of this world holds, written afresh, and whether it must be there."""
    for kind, name, is_due in _names(world):
        value = encode_record(world, kind, name)
        assert value is not None, f"{kind} {name} is in the world, and not to be written"
        yield key_of(kind, name), value, is_due


def _names(world: World) -> Iterator[tuple[str, str, bool]]:
    for kind, mapping in (
        ("restore", world.restores),
        ("environment", world.environments),
        ("queue", world.queues),
        ("scheduling_policy", world.policies),
        ("quota_share", world.quota_shares),
        ("consumable", world.consumables),
        ("secret", world.secrets),
        ("access_key", world.access_keys),
        ("binding", world.bindings),
        ("token", world.tokens),
        ("join_token", world.join_tokens),
        ("member", world.members),
        ("sink", world.sinks),
        ("host", world.hosts),
        ("host", world.gone_hosts),
        ("launch", world.launches),
        ("attempt", world.attempts),
        ("job", world.jobs),
        ("usage", world.past),
    ):
        yield from ((kind, name, True) for name in mapping)
    yield from (("definition", d.key, True) for revisions in world.definitions.values() for d in revisions)
    if world.left != NOBODY_LEFT:
        yield "left", "last", True
    for job in world.jobs.values():
        yield "state", job.id, StoredState.of(job) != StoredState()
        for number, chunk in job.children.chunks.items():
            yield "children", f"{job.id}/{number}", not chunk.is_blank or job.children.rest_end is not None


def described(world: World) -> dict[str, Any]:
    """
    Return all of a world that a new leader must know as well.

    Which children of a bounded array have their turn, of those that are ready, is no
    stored fact and chosen afresh; how many have it is the same. Nor is it which hosts lack
    an image, for which some stand apart.
    """
    units = [unit for job in world.jobs.values() for unit in ([Unit(job), *units_of(job)] if job.size else [Unit(job)])]
    return {
        "restores": world.restores,
        "settings": (world.environments, world.queues, world.definitions, world.secrets, world.access_keys),
        "access": (world.bindings, world.tokens, world.directory),
        "enrolment": (world.join_tokens, world.members),
        "sinks": world.sinks,
        "sharing": (
            world.policies,
            world.quota_shares,
            world.consumables,
            {queue: counts for queue, counts in world.named.shares.items() if counts},
            world.named.consumables,
        ),
        "held": {name: world.fleet.bounds.consumable_held(name) for name in world.consumables},
        "quotas": {name: _quota(world, name) for name in world.queues},
        "hosts": {name: host.record for name, host in world.hosts.items()},
        "gone": world.gone_hosts,
        "launches": world.launches,
        "submissions": [(j.id, j.seq, j.name, j.spec, j.size, j.concurrency, j.depends_on) for j in world.all_jobs],
        "units": {u.id: (_settled(u), u.ending, u.terminate_reason, u.attempts) for u in units},
        "jobs": {j.id: (j.is_cancelled, j.started_at_ms, j.ended_at_ms) for j in world.jobs.values()},
        "unmet": {j.id: j.unmet for j in world.jobs.values() if not j.state.is_final},
        "attempts": world.attempts,
        "requests": world.requests,
        "left": (world.left, world.past),
        "ended": sorted((job.ended_at_ms, job.id) for job in world.ended),
        "lines": _lines(world),
        "counts": {queue: +counts for queue, counts in world.counts.items() if +counts},
        "free": {name: world.fleet.allocated(name) for name in world.hosts},
        "gpus": {name: world.fleet.gpu_allocated(name) for name in world.hosts},
    }


def _quota(world: World, queue: str) -> Any:
    quota = world.fleet.quotas.of(queue)
    if quota is None:
        return None
    used = {unit: shares for unit, shares in quota.ledger.used.items() if shares}
    return quota.ledger.shares, quota.ledger.limits, used, quota.holdings, quota.stopping.keys()


def _lines(world: World) -> dict[Shape, list[str]]:
    lines: dict[Shape, list[Unit]] = {}
    for line in (line for queue in world.by_queue for line in world.lines.of_queue(queue)):
        lines.setdefault(replace(line.shape, image=""), []).extend(line.units())
    return {shape: [_turn(u) for u in sorted(units, key=lambda u: u.place)] for shape, units in lines.items()}


def _settled(unit: Unit) -> str:
    return "waits" if unit.job.concurrency and unit.is_child and unit.state.is_waiting else unit.state


def _turn(unit: Unit) -> str:
    return unit.job.id if unit.job.concurrency else unit.id
