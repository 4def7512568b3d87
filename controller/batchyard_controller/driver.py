"""
Driver: the only writer, and the law "write, then send".

One loop. It takes everything that has come since the last turn, lets the core
decide, commits what changed in one group, and only then answers callers and
carries out commands. Readers are served between commits, so nobody sees what is
not stored. What takes long is planned in slices, one a turn, so that neither commits
nor heartbeats wait for a long queue. If a commit fails, the driver ends: it may lead no longer, and what
it has in memory may be wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from batchyard.errors import InternalError, Reason, UnavailableError
from batchyard_controller.core.commands import Command, PublishMove, PublishNotice
from batchyard_controller.core.events import Event, Planned, Ticked
from batchyard_controller.core.model.restores import in_generation
from batchyard_controller.core.model.room import Room
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement.pace import Pace
from batchyard_controller.core.placement.plan import make_plan
from batchyard_controller.core.reactor.apply import apply
from batchyard_controller.core.views.promise_keeping import settled, waited_ms
from batchyard_controller.core.views.readings import readings
from batchyard_controller.core.world.tenancy import situation
from batchyard_controller.core.world.world import World

from .metrics import Metrics
from .store.codec import encode_touched
from .store.moves import Place
from .store.protocol import DeposedError, Store
from .trail import Trail, TrailBounds

ALLOWS_STALE: ContextVar[bool] = ContextVar("allows_stale", default=False)
"""Whether who asks, in whose context this is, takes what was known when the last term ended, marked as such."""

T = TypeVar("T")

Decide = Callable[[World, Instant], tuple[Event | None, T]]
"""Looks at the world and returns an event, if any, and the caller's answer; or raises RequestError."""

TURN_MAX = 2000
"""Most requests and events in one turn, so that no answer waits for too long a commit."""
TICK_S = 1.0
READ_EVERY_S = 5


class CommandSink(Protocol):
    """Carries out commands. Must not block and must not raise."""

    def carry_out(self, world: World, commands: Iterable[Command]) -> None:
        """Send to hosts; what is published is in the trail already."""

    def close(self) -> None:
        """End the term for hosts."""


@dataclass(slots=True)
class _Request:
    decides: Sequence[Decide[Any]]
    answer: asyncio.Future[list[Any]]


@dataclass(slots=True)
class _Read:
    look: Callable[[World], Any]
    answer: asyncio.Future[Any]


@dataclass(slots=True)
class _Turn:
    """
    What one turn owes to others once it is stored.

    Attributes:
        inbox: What it is for.
    """

    inbox: list[_Request | Event] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    answers: list[tuple[asyncio.Future[Any], Any]] = field(default_factory=list)


class Driver:
    """Runs one term of leadership over one world."""

    def __init__(
        self,
        store: Store,
        epoch: int,
        world: World,
        sink: CommandSink,
        clock: Callable[[], Instant],
        metrics: Metrics,
        bounds: TrailBounds | None = None,
    ) -> None:
        self.epoch = epoch
        self.trail = Trail(in_generation(world.generation, epoch), bounds)
        """What became of everything, for those who follow it."""
        self.directory = world.directory
        """Who is who, as it is stored: for whoever must know before there is a turn."""
        self.room: Room | None = None
        """Of the store, as it was last measured."""
        self.proven_ms = 0
        """When it was last sure that it led, by the wall clock."""
        self._store = store
        self._world = world
        self._sink = sink
        self._clock = clock
        self._ticked_boot_ms = 0
        self._read_boot_ms = -READ_EVERY_S * 1000
        self._metrics = metrics
        self._inbox: list[_Request | Event] = []
        self._reads: list[_Read] = []
        self._wake = asyncio.Event()
        self._ended = False
        self._turn = _Turn()
        self._pace = Pace()

    @property
    def leads(self) -> bool:
        """Whether nobody else can lead now; see ``Store.leads``."""
        return not self._ended and self._store.leads(self.epoch)

    @property
    def is_restoring(self) -> bool:
        """Whether hosts are to tell what the backup did not know from which the store was put back."""
        return self._world.is_restoring

    def post(self, event: Event) -> None:
        """Hand in an event; nothing is answered."""
        self._inbox.append(event)
        self._wake.set()

    async def request(self, decide: Decide[T]) -> T:
        """
        Let *decide* look at the world, apply its event, and answer once that is stored.

        Raises:
            Exception: what *decide* raised; nothing happened then.
            UnavailableError: the term ended; whether the event was stored is unknown.
        """
        (outcome,) = await self.request_all((decide,))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def request_all(self, decides: Sequence[Decide[T]]) -> list[T | Exception]:
        """
        As :meth:`request` for many, each of which sees the world as those before it left it.

        Returns what each answers or raised, once all is stored.

        Raises:
            UnavailableError: the term ended; which events were stored is unknown.
        """
        answer: asyncio.Future[list[T | Exception]] = asyncio.get_running_loop().create_future()
        self._enlist()
        self._inbox.append(_Request(decides, answer))
        return await answer

    async def read(self, look: Callable[[World], T]) -> T:
        """
        Let *look* see the world when all of it is stored; that of a term that has ended as it was last.

        The services come to the driver of such a term for those alone that take it so.

        Raises:
            UnavailableError: the term ended.
        """
        if self._ended and self.proven_ms and ALLOWS_STALE.get():
            return look(self._world)
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._enlist()
        self._reads.append(_Read(look, answer))
        return await answer

    def _enlist(self) -> None:
        if self._ended:
            text = "this controller does not lead now; try again"
            raise UnavailableError(text, reason=Reason.NOT_LEADING, metadata={"leader": ""})
        self._wake.set()

    async def run(self) -> None:
        """
        Take turns until a commit fails.

        Raises:
            StoreError: the commit failed; load and campaign again.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._run_ticks())
                await self._run_turns()
        finally:
            self._end()

    async def _run_ticks(self) -> None:
        while True:
            self.post(Ticked())
            await asyncio.sleep(TICK_S)

    async def _run_turns(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._take_turn()
            # One trip round the loop lets more callers join the next turn.
            await asyncio.sleep(0)

    async def _take_turn(self) -> None:
        turn = self._turn = _Turn(self._take_inbox())
        now = self._clock()
        for item in turn.inbox:
            self._take(item, now, turn)
        if self._world.wants_plan:
            self._plan(now, turn)
        await self._commit(turn, now)
        self._sink.carry_out(self._world, turn.commands)
        for answer, value in turn.answers:
            if not answer.done():
                answer.set_result(value)
        self._serve_reads()

    def _take_inbox(self) -> list[_Request | Event]:
        """Take what this turn is for; what is more than ``TURN_MAX`` waits for the next."""
        count = taken = 0
        while taken < len(self._inbox) and count < TURN_MAX:
            item = self._inbox[taken]
            count += len(item.decides) if isinstance(item, _Request) else 1
            taken += 1
        inbox, self._inbox = self._inbox[:taken], self._inbox[taken:]
        if self._inbox:
            self._wake.set()
        return inbox

    def _take(self, item: _Request | Event, now: Instant, turn: _Turn) -> None:
        if isinstance(item, Ticked):
            item, self._ticked_boot_ms = self._tick(now), now.boot_ms
            self._read(now)
        if not isinstance(item, _Request):
            turn.commands += apply(self._world, item, now)
            return
        outcomes: list[Any] = []
        for decide in item.decides:
            try:
                event, value = decide(self._world, now)
            except Exception as err:  # noqa: BLE001  # the world is untouched; the caller gets to know
                outcomes.append(err)
                continue
            if event is not None:
                try:
                    turn.commands += apply(self._world, event, now)
                except Exception:
                    # A bug, with which the term ends. Who asked for it alone is told so, lest they ask again.
                    if not item.answer.done():
                        item.answer.set_exception(InternalError("the controller failed; see the controller's log"))
                    raise
            outcomes.append(value)
        turn.answers.append((item.answer, outcomes))

    def _tick(self, now: Instant) -> Ticked:
        """Say how late this tick is, after a stalled commit or when this process was suspended, and what room there is."""
        since_ms = now.boot_ms - (self._ticked_boot_ms or now.boot_ms)
        return Ticked(late_ms=max(0, since_ms - int(TICK_S * 1000)), room=self.room)

    def _read(self, now: Instant) -> None:
        """Read the yard for whoever watches it, once in a while."""
        if now.boot_ms - self._read_boot_ms >= READ_EVERY_S * 1000:
            self._read_boot_ms = now.boot_ms
            self._metrics.note_readings(readings(self._world, now))

    def _plan(self, now: Instant, turn: _Turn) -> None:
        world = self._world
        world.wants_plan = False
        began_ms = self._clock().boot_ms
        with self._metrics.planning():
            plan = make_plan(situation(world), now, self._pace.steps_max)
        self._metrics.note_settled(settled(world.reservations, plan, now))
        turn.commands += apply(world, Planned(plan=plan, epoch=in_generation(world.generation, self.epoch)), now)
        for placement in plan.placements:
            queue = world.jobs[placement.job_id].spec.queue
            self._metrics.note_wait(queue, waited_ms(world, placement, now))
        self._pace.note(plan.steps, self._clock().boot_ms - began_ms)
        if world.wants_plan:
            self._wake.set()  # a slice: the rest follows once this is stored and sent

    async def _commit(self, turn: _Turn, now: Instant) -> None:
        touched = self._world.ledger.take()
        published = [each for each in turn.commands if isinstance(each, (PublishMove, PublishNotice))]
        if touched or published:
            groups = list(zip(touched, encode_touched(self._world, touched), strict=True))
            atoms = self.trail.join(groups, published, now, self._needed())
            with self._metrics.committing(len(touched)):
                await self._store.commit(atoms, self.epoch)
            self.trail.publish()
        self.directory = self._world.directory

    def _needed(self) -> Place | None:
        """Return up to where the slowest sink is."""
        return min((sink.place for sink in self._world.sinks.values()), default=None)

    def _serve_reads(self) -> None:
        """
        Serve who reads.

        Raises:
            DeposedError: another may lead, and have stored more than is known here.
        """
        if not self._store.leads(self.epoch):
            raise DeposedError(f"epoch {self.epoch} can no longer be proved to lead")
        self.proven_ms = self._clock().wall_ms
        reads, self._reads = self._reads, []
        for read in reads:
            if read.answer.done():
                continue
            try:
                read.answer.set_result(read.look(self._world))
            except Exception as err:  # noqa: BLE001  # the world is untouched; the caller gets to know
                read.answer.set_exception(err)

    def close(self) -> None:
        """End the term for hosts."""
        self._sink.close()

    def _end(self) -> None:
        """Tell everybody who still waits that nothing is known."""
        self._ended = True
        self.trail.close()
        asked = (*self._turn.inbox, *self._inbox)
        waiting = [item.answer for item in asked if isinstance(item, _Request)]
        waiting += [read.answer for read in self._reads]
        for answer in waiting:
            if not answer.done():
                text = "this controller stopped leading; try again"
                answer.set_exception(UnavailableError(text, reason=Reason.LEADERSHIP_LOST))
