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
from batchyard_controller import driver as controller_driver
from batchyard_controller import leadership
from batchyard_controller.core.model import attempts
from batchyard_controller.core.reactor import apply as reactor_apply
from batchyard_controller.core.reactor import recovery
from batchyard_controller.core.world.world import World
from batchyard_controller.store import etcd as etcd_store
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
    yield Machine, "has_passed", lambda _: False  # the guard came later, and lets nothing start


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
    async def commit(driver: Any) -> None:
        for answer, value in driver._turn.answers:
            if not answer.done():
                answer.set_result(value)
        await real(driver)

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

    yield World, "has_passed_fence", lost


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
}
