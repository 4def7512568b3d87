"""
Planted bugs: mistakes that were made once, or nearly, put back into the programs, to see that they are found.

Each is the smallest patch that brings the mistake back. Names such as B2 are those of findings in
docs/reliability.md. What a bug needs besides is a kind of fault that no seed draws by itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """
    One mistake.

    Attributes:
        text: What is wrong.
        patches: What is put in whose place: object, name, value.
        needs: Kinds of faults that it shows under.
    """

    text: str
    patches: Callable[[], Patches]
    needs: tuple[str, ...] = ()

    @contextlib.contextmanager
    def plant(self) -> Iterator[None]:
        """Have it in the programs for a while."""
        former = []
        for owner, name, value in self.patches():
            former.append((owner, name, vars(owner)[name]))
            setattr(owner, name, value)
        try:
            yield
        finally:
            for owner, name, value in reversed(former):
                setattr(owner, name, value)


def _wall_clock() -> Patches:
    def on_started(table: Any, event: Any, now: Any) -> Any:
        attempt = table.get(event.attempt_id)
        if attempt is not None and not attempt.is_over and attempt.spec is not None and attempt.spec.timeout_s:
            ran_ms = now.wall_ms - event.started_at_ms
            due_ms = now.boot_ms - ran_ms + attempt.spec.timeout_s * 1000
            table.note(replace(attempt, timeout_at_ms=due_ms))
        return real(table, event, now)

    real = observations.on_started
    yield observations, "on_started", on_started


def _late_starts() -> Patches:
    def on_start_requested(table: Table, event: Any, now: Any) -> Any:
        return real(table, replace(event, session=table.session or 0), now)

    def is_in_touch(table: Table, attempt: Any, now_ms: int) -> bool:
        return table.session is not None and (table.fence_at_ms is None or now_ms < table.fence_at_ms)

    real = reconcile.on_start_requested
    yield reconcile, "on_start_requested", on_start_requested
    yield Table, "is_in_touch", is_in_touch
    yield Machine, "has_passed", lambda *_: False  # the guard came later, and lets nothing start


def _silent_hosts() -> Patches:
    yield reactor_apply, "leave_silent", lambda *_: None


def _twins() -> Patches:
    yield controller_sessions.Sessions, "_refuse_twin", lambda *_: None
    yield controller_sessions, "check_newcomer", lambda *_: None


def _bare_epochs() -> Patches:
    yield leadership, "in_generation", lambda _, epoch: epoch


def _bare_ids() -> Patches:
    yield attempts, "generation_of", lambda _: 0


def restoring_long(*args: Any) -> Any:
    """Restore as the leader does, with twelve seconds of computing that let nobody else have a turn."""
    world = yield from recovery.restoring(*args)
    program = _PROGRAM.get()
    assert program is not None
    program.busy(12.0 * bool(world.jobs))
    return world


def _long_restores() -> Patches:
    yield leadership, "restoring", restoring_long
    yield Keeper, "is_apart", False


def _answers_first() -> Patches:
    async def commit(driver: Any, turn: Any, now: Any) -> None:
        for answer, value in turn.answers:
            if not answer.done():
                answer.set_result(value)
        await real(driver, turn, now)

    real = controller_driver.Driver._commit
    yield controller_driver.Driver, "_commit", commit


def _blind_commits() -> Patches:
    async def commit(store: Any, atoms: Any, epoch: int) -> None:
        term = store._term
        try:
            await real(store, atoms, epoch)
        except UnknownOutcomeError:
            store._term = term  # as if it had been written

    real = etcd_store.EtcdStore.commit
    yield etcd_store.EtcdStore, "commit", commit
    yield etcd_store.EtcdStore, "_end_term", lambda _: None


def _no_tombstones() -> Patches:
    def move(table: Table, attempt: Attempt) -> Attempt:
        moved = real(table, attempt)
        if attempt.phase is Phase.DONE:
            del table.tombstones[attempt.attempt_id]
        return moved

    real = Table.move
    yield Table, "move", move


def _no_fence() -> Patches:
    def lost(world: World, attempt: Any, now: Any) -> bool:
        host = world.hosts[attempt.host_id]
        return not host.is_reachable and host.is_silent(now, 10_000)

    yield hosts, "has_passed_fence", lost


def _orphans() -> Patches:
    yield reconcile, "on_held", lambda *_: []


def _forgets_requests() -> Patches:
    def forgetful(*args: Any) -> Any:
        world = yield from recovery.restoring(*args)
        world.requests.clear()
        return world

    yield leadership, "restoring", forgetful


def _unfenced_epochs() -> Patches:
    def on_controller(table: Table, event: Any, now: Any) -> Any:
        return real(table, replace(event, epoch=max(event.epoch, table.meta.epoch)), now)

    real = reconcile.on_controller
    yield reconcile, "on_controller", on_controller


def _no_brake() -> Patches:
    yield Brake, "holds", lambda *_: False


def _short_fences() -> Patches:
    def lost(world: World, attempt: Any, now: Any) -> bool:
        return real(world, replace(attempt, fence_ms=None), now)

    real = hosts.has_passed_fence
    yield hosts, "has_passed_fence", lost


def _trusts_old_agents() -> Patches:
    def fence_of(world: World, host: Any, own_ms: int | None = None) -> int:
        return real(world, host, None) if own_ms is None else own_ms + limits.fence_margin_ms(own_ms) * bool(own_ms)

    real = fences.fence_of
    yield fences, "fence_of", fence_of


def _deletes_first() -> Patches:
    async def move(archivist: Any, driver: Any) -> int:
        jobs = await driver.read(archivist_module._due)
        if not jobs:
            return 0
        await driver.request(lambda _, now: (JobsArchived(jobs=tuple(each.job for each in jobs)), None))
        await archivist.archive.add(jobs)
        return len(jobs)

    yield archivist_module.Archivist, "_move", move


def _forgets_archived_requests() -> Patches:
    def want(recall: Any, wanted: Any) -> Any:
        return real(recall, replace(wanted, request_id=""))

    real = submissions._Recall.want
    yield submissions._Recall, "want", want


def _sums_twice() -> Patches:
    def restore_jobs(world: World, records: Any) -> Any:
        former = records.left
        records.left = {name: replace(left, ids=()) for name, left in former.items()}
        jobs = yield from real(world, records)
        world.left = next(iter(former.values()), world.left)
        return jobs

    real = recovery._restore_jobs
    yield recovery, "_restore_jobs", restore_jobs


def _places_early() -> Patches:
    def begin(world: World, now: Any) -> None:
        real(world, now)
        world.adoption.waits_for.clear()

    real = adoption.begin
    yield adoption, "begin", begin
    yield adoption, "RETURN_MS", 0


def _follows_on() -> Patches:
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


def _gives_up_again() -> Patches:
    def keep_on(clearings: Clearings, hints: Any) -> None:
        real(clearings, hints)
        if hints[0].job_id in clearings._recalled:
            clearings._recalled[hints[0].job_id] = list(hints)

    real = Clearings._keep_on
    yield Clearings, "_keep_on", keep_on


def _ignores_failures() -> Patches:
    yield dependencies, "_is_met_by", lambda *_: True


def _counts_no_runners() -> Patches:
    yield progress, "ACTIVE_STATES", frozenset()


def _forgets_marks() -> Patches:
    def forgetful(*args: Any) -> Any:
        world = yield from recovery.restoring(*args)
        for host in world.hosts.values():
            host.record = replace(host.record, cordoned=False, draining=False)
            world.refresh_host(host)
        return world

    yield leadership, "restoring", forgetful


def _opens_again() -> Patches:
    def forgetful(*args: Any) -> Any:
        world = yield from recovery.restoring(*args)
        for name, environment in world.environments.items():
            world.environments[name] = replace(environment, state=ResourceState.ENABLED)
        return world

    yield leadership, "restoring", forgetful


def _counts_no_shares() -> Patches:
    yield Bounds, "_holders", lambda _self, queue, _share: [(QUEUE_LIMIT, queue)]


def _borrows_on() -> Patches:
    yield Ledger, "borrow_limit", lambda *_: 1 << 40


def _uses_up_nothing() -> Patches:
    yield records, "_consume", lambda *_: None


BUGS = {
    "A11": Bug(text="a timeout is counted by the wall clock", patches=_wall_clock),
    "B2": Bug(
        text="a fenced agent carries out a start that waited in a dead session (its keeper lets it)",
        patches=_late_starts,
    ),
    "B3": Bug(text="a host that is silent keeps its session, and gets work", patches=_silent_hosts),
    "B4": Bug(text="what runs beside an empty state folder runs on", patches=_orphans),
    "B5": Bug(text="a copied state folder puts the true agent out", patches=_twins),
    "B6": Bug(text="after a restored backup agents refuse the controller", patches=_bare_epochs, needs=("restore",)),
    "B7": Bug(text="after a restored backup attempt ids are used again", patches=_bare_ids, needs=("restore",)),
    "B8": Bug(text="the loop renews the lease, and a restore holds it up for longer than that", patches=_long_restores),
    "answers-first": Bug(text="an answer is given before the commit", patches=_answers_first),
    "blind-commits": Bug(text="a commit whose outcome is unknown counts as written", patches=_blind_commits),
    "no-fence": Bug(text="a host's attempts count as lost once it cannot be reached", patches=_no_fence),
    "forgets-requests": Bug(text="request ids are forgotten with a leader", patches=_forgets_requests),
    "no-tombstones": Bug(
        text="an acknowledged attempt is forgotten at once", patches=_no_tombstones, needs=("restore",)
    ),
    "old-epochs": Bug(text="an agent obeys a deposed leader", patches=_unfenced_epochs),
    "no-brake": Bug(text="the brake does not hold", patches=_no_brake),
    "short-fences": Bug(
        text="the controller counts all attempts by their host's fence", patches=_short_fences, needs=("fences",)
    ),
    "trusts-old-agents": Bug(
        text="the controller believes that every agent keeps an attempt's own fence",
        patches=_trusts_old_agents,
        needs=("old-agent",),
    ),
    "deletes-first": Bug(
        text="a job is deleted in the store before it is in the archive", patches=_deletes_first, needs=("archive",)
    ),
    "forgets-archived": Bug(
        text="the request ids of archived jobs are forgotten", patches=_forgets_archived_requests, needs=("archive",)
    ),
    "sums-twice": Bug(
        text="jobs that were summed before a crash are summed again",
        patches=_sums_twice,
        needs=("archive", "narrow"),
    ),
    "places-early": Bug(
        text="after a restored backup jobs are placed before hosts have told", patches=_places_early, needs=("restore",)
    ),
    "follows-on": Bug(
        text="a standby goes on behind what was compacted before it had read it",
        patches=_follows_on,
        needs=("compact",),
    ),
    "gives-up-again": Bug(
        text="a gang that cannot have its hosts gives them up with each plan", patches=_gives_up_again, needs=("crowd",)
    ),
    "ignores-failures": Bug(
        text="who waited for one that failed has its turn all the same", patches=_ignores_failures, needs=("orders",)
    ),
    "forgets-marks": Bug(
        text="that a host is cordoned or drained is forgotten with a leader", patches=_forgets_marks, needs=("marks",)
    ),
    "opens-again": Bug(
        text="that an environment is shut is forgotten with a leader",
        patches=_opens_again,
        needs=("shares", "changes"),
    ),
    "counts-no-shares": Bug(text="of shares those that run do not count", patches=_counts_no_shares, needs=("shares",)),
    "borrows-on": Bug(text="a share borrows beyond its limit", patches=_borrows_on, needs=("shares",)),
    "uses-up-nothing": Bug(
        text="what tries use up is not counted when they end", patches=_uses_up_nothing, needs=("orders",)
    ),
    "counts-no-runners": Bug(
        text="of a bounded array those that run do not count, nor nodes that are left of a try",
        patches=_counts_no_runners,
        needs=("orders",),
    ),
}
