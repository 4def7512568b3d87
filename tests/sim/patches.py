"""Patches: each puts one mistake back into the programs, and is as small as it can be; `bugs` says of each what is wrong."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import batchyard_controller.sessions as controller_sessions
from batchyard_agent.core import observations, reconcile
from batchyard_agent.core.attempts import Attempt, Phase, Table
from batchyard_controller import archivist as archivist_module
from batchyard_controller import driver as controller_driver
from batchyard_controller import leadership
from batchyard_controller.core import limits
from batchyard_controller.core.events import JobsArchived
from batchyard_controller.core.jobs import dependencies
from batchyard_controller.core.model import attempts
from batchyard_controller.core.model.settings import ResourceState
from batchyard_controller.core.placement.bounds import QUEUE_LIMIT, Bounds
from batchyard_controller.core.placement.clearings import Clearings
from batchyard_controller.core.placement.quotas import Ledger
from batchyard_controller.core.reactor import adoption, hosts, progress, recovery
from batchyard_controller.core.reactor import apply as reactor_apply
from batchyard_controller.core.reactor import scaling as reactor_scaling
from batchyard_controller.core.world import fences, records
from batchyard_controller.core.world.brake import Brake
from batchyard_controller.core.world.world import World
from batchyard_controller.services import submissions
from batchyard_controller.store import etcd as etcd_store
from batchyard_controller.store.etcd_wire.v3 import etcd_pb2 as wire
from batchyard_controller.store.protocol import UnknownOutcomeError

from .lease import Keeper
from .loop import _PROGRAM
from .machine import Machine

Patches = Iterator[tuple[Any, str, Any]]
"""What is put in whose place: object, name, value."""


def wall_clock() -> Patches:
    def on_started(table: Any, event: Any, now: Any) -> Any:
        attempt = table.get(event.attempt_id)
        if attempt is not None and not attempt.is_over and attempt.spec is not None and attempt.spec.timeout_s:
            ran_ms = now.wall_ms - event.started_at_ms
            due_ms = now.boot_ms - ran_ms + attempt.spec.timeout_s * 1000
            table.note(replace(attempt, timeout_at_ms=due_ms))
        return real(table, event, now)

    real = observations.on_started
    yield observations, "on_started", on_started


def late_starts() -> Patches:
    def on_start_requested(table: Table, event: Any, now: Any) -> Any:
        return real(table, replace(event, session=table.session or 0), now)

    def is_in_touch(table: Table, attempt: Any, now_ms: int) -> bool:
        return table.session is not None and (table.fence_at_ms is None or now_ms < table.fence_at_ms)

    real = reconcile.on_start_requested
    yield reconcile, "on_start_requested", on_start_requested
    yield Table, "is_in_touch", is_in_touch
    yield Machine, "has_passed", lambda *_: False  # the guard came later, and lets nothing start


def silent_hosts() -> Patches:
    yield reactor_apply, "leave_silent", lambda *_: None


def twins() -> Patches:
    yield controller_sessions.Sessions, "_refuse_twin", lambda *_: None
    yield controller_sessions, "check_newcomer", lambda *_: None


def bare_epochs() -> Patches:
    yield leadership, "in_generation", lambda _, epoch: epoch


def bare_ids() -> Patches:
    yield attempts, "generation_of", lambda _: 0


def restoring_long(*args: Any) -> Any:
    """Restore as the leader does, with twelve seconds of computing that let nobody else have a turn."""
    world = yield from recovery.restoring(*args)
    program = _PROGRAM.get()
    assert program is not None
    program.busy(12.0 * bool(world.jobs))
    return world


def long_restores() -> Patches:
    yield leadership, "restoring", restoring_long
    yield Keeper, "is_apart", False


def answers_first() -> Patches:
    async def commit(driver: Any, turn: Any, now: Any) -> None:
        for answer, value in turn.answers:
            if not answer.done():
                answer.set_result(value)
        await real(driver, turn, now)

    real = controller_driver.Driver._commit
    yield controller_driver.Driver, "_commit", commit


def blind_commits() -> Patches:
    async def commit(store: Any, atoms: Any, epoch: int) -> None:
        term = store._term
        try:
            await real(store, atoms, epoch)
        except UnknownOutcomeError:
            store._term = term  # as if it had been written

    real = etcd_store.EtcdStore.commit
    yield etcd_store.EtcdStore, "commit", commit
    yield etcd_store.EtcdStore, "_end_term", lambda _: None


def no_tombstones() -> Patches:
    def move(table: Table, attempt: Attempt) -> Attempt:
        moved = real(table, attempt)
        if attempt.phase is Phase.DONE:
            del table.tombstones[attempt.attempt_id]
        return moved

    real = Table.move
    yield Table, "move", move


def no_fence() -> Patches:
    def lost(world: World, attempt: Any, now: Any) -> bool:
        host = world.hosts[attempt.host_id]
        return not host.is_reachable and host.is_silent(now, 10_000)

    yield hosts, "has_passed_fence", lost


def orphans() -> Patches:
    yield reconcile, "on_held", lambda *_: []


def forgets_requests() -> Patches:
    def forgetful(*args: Any) -> Any:
        world = yield from recovery.restoring(*args)
        world.requests.clear()
        return world

    yield leadership, "restoring", forgetful


def unfenced_epochs() -> Patches:
    def on_controller(table: Table, event: Any, now: Any) -> Any:
        return real(table, replace(event, epoch=max(event.epoch, table.meta.epoch)), now)

    real = reconcile.on_controller
    yield reconcile, "on_controller", on_controller


def no_brake() -> Patches:
    yield Brake, "holds", lambda *_: False


def short_fences() -> Patches:
    def lost(world: World, attempt: Any, now: Any) -> bool:
        return real(world, replace(attempt, fence_ms=None), now)

    real = hosts.has_passed_fence
    yield hosts, "has_passed_fence", lost


def trusts_old_agents() -> Patches:
    def fence_of(world: World, host: Any, own_ms: int | None = None) -> int:
        return real(world, host, None) if own_ms is None else own_ms + limits.fence_margin_ms(own_ms) * bool(own_ms)

    real = fences.fence_of
    yield fences, "fence_of", fence_of


def deletes_first() -> Patches:
    async def move(archivist: Any, driver: Any) -> int:
        jobs = await driver.read(archivist_module._due)
        if not jobs:
            return 0
        await driver.request(lambda _, now: (JobsArchived(jobs=tuple(each.job for each in jobs)), None))
        await archivist.archive.add(jobs)
        return len(jobs)

    yield archivist_module.Archivist, "_move", move


def forgets_archived_requests() -> Patches:
    def want(recall: Any, wanted: Any) -> Any:
        return real(recall, replace(wanted, request_id=""))

    real = submissions._Recall.want
    yield submissions._Recall, "want", want


def sums_twice() -> Patches:
    def restore_jobs(world: World, records: Any) -> Any:
        former = records.left
        records.left = {name: replace(left, ids=()) for name, left in former.items()}
        jobs = yield from real(world, records)
        world.left = next(iter(former.values()), world.left)
        return jobs

    real = recovery._restore_jobs
    yield recovery, "_restore_jobs", restore_jobs


def places_early() -> Patches:
    def begin(world: World, now: Any) -> None:
        real(world, now)
        world.adoption.waits_for.clear()

    real = adoption.begin
    yield adoption, "begin", begin
    yield adoption, "RETURN_MS", 0


def follows_on() -> Patches:
    async def watch(store: Any, reading: Any) -> Any:
        while True:
            start = store._prefix.encode()
            request = wire.WatchCreateRequest(
                key=start, range_end=etcd_store.after_prefix(start), start_revision=reading.revision + 1
            )
            async with contextlib.aclosing(store._client.watch(request)) as answers:
                async for answer in answers:
                    if answer.canceled:
                        reading.revision = answer.compact_revision - 1
                        break
                    for news in reading.take_events(answer):
                        yield news

    yield etcd_store.EtcdStore, "_watch", watch


def gives_up_again() -> Patches:
    def keep_on(clearings: Clearings, hints: Any) -> None:
        real(clearings, hints)
        if hints[0].job_id in clearings._recalled:
            clearings._recalled[hints[0].job_id] = list(hints)

    real = Clearings._keep_on
    yield Clearings, "_keep_on", keep_on


def ignores_failures() -> Patches:
    yield dependencies, "_is_met_by", lambda *_: True


def counts_no_runners() -> Patches:
    yield progress, "ACTIVE_STATES", frozenset()


def forgets_marks() -> Patches:
    def forgetful(*args: Any) -> Any:
        world = yield from recovery.restoring(*args)
        for host in world.hosts.values():
            host.record = replace(host.record, cordoned=False, draining=False)
            world.refresh_host(host)
        return world

    yield leadership, "restoring", forgetful


def opens_again() -> Patches:
    def forgetful(*args: Any) -> Any:
        world = yield from recovery.restoring(*args)
        for name, environment in world.environments.items():
            world.environments[name] = replace(environment, state=ResourceState.ENABLED)
        return world

    yield leadership, "restoring", forgetful


def counts_no_shares() -> Patches:
    yield Bounds, "_holders", lambda _self, queue, _share: [(QUEUE_LIMIT, queue)]


def borrows_on() -> Patches:
    yield Ledger, "borrow_limit", lambda *_: 1 << 40


def stops_strays() -> Patches:
    yield World, "spared", frozenset()


def launches_on() -> Patches:
    def decide(situation: Any) -> Any:
        return real(replace(situation, environments={n: endless(e) for n, e in situation.environments.items()}))

    def endless(environment: Any) -> Any:
        return replace(environment, compute_resources=replace(environment.compute_resources, max_vcpus=1_000))

    real = reactor_scaling.decide
    yield reactor_scaling, "decide", decide


def uses_up_nothing() -> Patches:
    yield records, "_consume", lambda *_: None
