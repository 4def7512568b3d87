"""How the controller's work a job grows with the queue; bounded by nothing but its own data structures, so flat is the aim.

No process, wire or disk: events go through the core, the codec and the memory
store in one fresh Python process a row, timed by its own processor time.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from itertools import islice

from bench.figures import Figure
from bench.scale import Scale
from bench.yard import QUEUE, in_own_process
from tests.core.yard import container, facts, task

from batchyard.ids import HostId, JobId, uuid7
from batchyard.states import EndCause
from batchyard_controller.core.access.roles import THE_ADMINISTRATOR
from batchyard_controller.core.attempt_reports import Phase, Report
from batchyard_controller.core.events import (
    AttemptsReported,
    EnvironmentChanged,
    FrontAsked,
    HostJoined,
    JobCancelled,
    Planned,
    QueueChanged,
)
from batchyard_controller.core.jobs.resolution import Submission
from batchyard_controller.core.jobs.retention import Retention
from batchyard_controller.core.model.attempts import AttemptEnd
from batchyard_controller.core.model.settings import ComputeEnvironment, EnvironmentOrder, JobQueue
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement.plan import make_plan
from batchyard_controller.core.reactor.apply import apply
from batchyard_controller.core.reactor.recovery import restore
from batchyard_controller.core.requests.submissions import submit_job
from batchyard_controller.core.world.tenancy import situation
from batchyard_controller.core.world.world import World
from batchyard_controller.services.job_view import explain_message, summary_message
from batchyard_controller.store.codec import encode_touched, load_records
from batchyard_controller.store.memory import MemoryStore
from batchyard_controller.store.protocol import Put

HOST = HostId("host")
AT_ONCE = 64
"""Jobs that run at once, and that end in one turn."""
SUBMITS_A_TURN = 1_000
PLANS = 50
LOOKS = 50
NOW = Instant(wall_ms=1_700_000_000_000, boot_ms=1_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one job cost with so many in the queue; times are processor time."""

    submit_us: float
    run_us: float
    run_bytes: float
    restore_us: float


async def measure(scale: Scale) -> AsyncIterator[Figure]:
    """Measure single jobs and array children, each size in a process of its own."""
    sizes = [1_000, 10_000] if scale.is_quick else [1_000, 10_000, 100_000, 1_000_000]
    for kind, is_array in (("single jobs", False), ("array children", True)):
        base: Row | None = None
        for size in sizes:
            row = await in_own_process(run, size, is_array)
            base = base or row
            yield Figure(
                name=f"{size:,} queued {kind}: plan, start, end one",
                value=row.run_us,
                unit="us",
                baseline=base.run_us,
                baseline_name=f"with {sizes[0]:,} queued",
                aim="flat",
                note=f"submit {row.submit_us:.2f} us; {row.run_bytes:,.0f} B handed to the store to run one",
            )
            yield Figure(
                name=f"{size:,} queued {kind}: restore one",
                value=row.restore_us,
                unit="us",
                baseline=base.restore_us,
                baseline_name=f"with {sizes[0]:,} queued",
                aim="flat",
                note=f"{row.restore_us * size / 1e6:.2f} s in all",
            )

    for case, shapes in (("of 10 shapes", 10), ("each of its own shape", 0)):
        few: Look | None = None
        for size in (1_000, 10_000) if scale.is_quick else (10_000, 100_000 if not shapes else 1_000_000):
            look = await in_own_process(looked, size, shapes or size)
            few = few or look
            for what, value, baseline in (
                ("explain the last", look.explain_us, few.explain_us),
                ("list 100", look.list_us, few.list_us),
                ("who is first", look.front_us, few.front_us),
            ):
                yield Figure(
                    name=f"{size:,} waiting, {case}: {what}",
                    value=value,
                    unit="us",
                    baseline=baseline,
                    baseline_name="with fewer",
                    aim="flat",
                )

    for size in (1_000, 10_000) if scale.is_quick else (1_000, 100_000):
        cancel_us, plan_us, alone_us = await in_own_process(cancelled, size)
        yield Figure(
            name=f"{size:,} cancelled before it: plan for one that waits",
            value=plan_us,
            unit="us",
            baseline=alone_us,
            baseline_name="none cancelled",
            aim="flat",
            note=f"{cancel_us:.2f} us to cancel one",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What it took to look at a queue; processor time."""

    explain_us: float
    list_us: float
    front_us: float


def looked(size: int, shapes: int) -> Look:
    """Let *size* jobs of so many shapes wait in turn; ask why the last one waits, for the newest, and who is first."""
    return asyncio.run(_looked(size, shapes))


async def _looked(size: int, shapes: int) -> Look:
    yard = _Turns()
    await yard.open()
    await yard.submit(AT_ONCE, is_array=False)
    yard.plan()
    await yard.submit(size, is_array=False, shapes=shapes)
    yard.plan()
    world = yard.world
    newest = [Unit(job) for job in islice(reversed(world.jobs.values()), 100)]

    def front() -> None:
        apply(world, FrontAsked(queue=QUEUE), NOW)

    return Look(
        explain_us=_time(lambda: explain_message(world, THE_ADMINISTRATOR, newest[0])),
        list_us=_time(lambda: [summary_message(world, unit) for unit in newest]),
        front_us=_time(front),
    )


def _time(look: Callable[[], object]) -> float:
    """Return what a look takes on average, the first, which fills what is kept, not counted."""
    look()
    began = time.process_time()
    for _ in range(LOOKS):
        look()
    return (time.process_time() - began) * 1e6 / LOOKS


def cancelled(size: int) -> tuple[float, float, float]:
    """Cancel *size* queued jobs; return what one took, and a plan for the one behind them, after and without it."""
    return asyncio.run(_cancelled(size))


async def _cancelled(size: int) -> tuple[float, float, float]:
    yard = _Turns()
    await yard.open()
    await yard.submit(AT_ONCE, is_array=False)
    yard.plan()
    await yard.submit(1, is_array=False)
    alone_us = yard.time_plans()
    for job in list(yard.world.jobs.values())[AT_ONCE:]:
        yard.cancel(job.id)
    await yard.submit(size + 1, is_array=False)
    *doomed, _ = list(yard.world.jobs)[-size - 1 :]
    began = time.process_time()
    for job_id in doomed:
        yard.cancel(job_id)
    cancel_s = time.process_time() - began
    return cancel_s * 1e6 / size, yard.time_plans(), alone_us


def run(size: int, is_array: bool) -> Row:
    """Queue *size* jobs or children, run some of them, and restore what was stored."""
    return asyncio.run(_run(size, is_array))


async def _run(size: int, is_array: bool) -> Row:
    yard = _Turns()
    await yard.open()
    gc.collect()
    began = time.process_time()
    await yard.submit(size, is_array)
    submit_s = time.process_time() - began
    yard.bytes_put = 0
    ends = min(size, 4_000)
    began = time.process_time()
    for _ in range(0, ends, AT_ONCE):
        await yard.run_some()
    run_s = time.process_time() - began
    put = yard.bytes_put
    yard.world = World(Retention())
    gc.collect()
    began = time.process_time()
    restore(await load_records(yard.store), NOW, Retention())
    restore_s = time.process_time() - began
    return Row(
        submit_us=submit_s * 1e6 / size,
        run_us=run_s * 1e6 / ends,
        run_bytes=put / ends,
        restore_us=restore_s * 1e6 / size,
    )


class _Turns:
    """A controller's turns without its loop: decide, encode, commit."""

    def __init__(self) -> None:
        self.world = World(Retention())
        self.store = MemoryStore()
        self.bytes_put = 0
        """Values handed to the store, keys not counted."""

    async def open(self) -> None:
        self._epoch = await self.store.campaign("bench")
        steps = (EnvironmentOrder(order=1, compute_environment=QUEUE),)
        apply(self.world, EnvironmentChanged(environment=ComputeEnvironment(name=QUEUE)), NOW)
        apply(self.world, QueueChanged(queue=JobQueue(name=QUEUE, environment_order=steps)), NOW)
        host = facts("host", cpu=AT_ONCE * 1000, memory=1 << 20)
        apply(self.world, HostJoined(host_id=HOST, facts=host, session=1, reports=()), NOW)
        await self._commit()

    async def submit(self, size: int, is_array: bool, shapes: int = 1) -> None:
        """Submit single jobs of so many shapes in turn, or one array of so many children."""
        for number in range(1 if is_array else size):
            wanted = task(container(memory=100 + number % shapes))
            submission = Submission(name="bench", queue=QUEUE, task=wanted, array_size=size if is_array else 0)
            job_id = JobId(uuid7(NOW.wall_ms, self.world.last_seq.to_bytes(10, "big")))
            event, _ = submit_job(self.world, submission, job_id, NOW)
            assert event is not None, "every submission is new"
            apply(self.world, event, NOW)
            if (number + 1) % SUBMITS_A_TURN == 0:
                await self._commit()
        await self._commit()

    async def run_some(self) -> None:
        """Plan as many as there is room for, let them start, and end them."""
        world = self.world
        self.plan()
        await self._commit()
        for phase, end in ((Phase.RUNNING, None), (Phase.ENDED, AttemptEnd(cause=EndCause.EXITED, exit_code=0))):
            reports = tuple(
                Report(attempt_id=attempt, phase=phase, started_at_ms=NOW.wall_ms, end=end)
                for attempt in world.attempts
            )
            apply(world, AttemptsReported(host_id=HOST, reports=reports), NOW)
            await self._commit()

    def plan(self) -> None:
        """Place what there is room for."""
        world = self.world
        plan = make_plan(situation(world), NOW)
        apply(world, Planned(plan=plan, epoch=self._epoch), NOW)

    def cancel(self, job_id: JobId) -> None:
        """Cancel a job that waits."""
        apply(self.world, JobCancelled(job_id=job_id, index=None, reason="bench"), NOW)

    def time_plans(self) -> float:
        """Return what a plan takes that finds no room, as after every change of the fleet."""
        began = time.process_time()
        for _ in range(PLANS):
            self.world.fleet.grown += 1
            self.plan()
        return (time.process_time() - began) * 1e6 / PLANS

    async def _commit(self) -> None:
        atoms = encode_touched(self.world, self.world.ledger.take())
        self.bytes_put += sum(len(change.value) for atom in atoms for change in atom if isinstance(change, Put))
        await self.store.commit(atoms, self._epoch)
