"""Decisions a second and the longest turn, by hosts, shapes and depth, beside a plain loop that knows amounts alone.

No process, wire or disk: plans go through the core, the codec and the memory store, in
one fresh Python process a row, timed by its own processor time. The loop is first fit.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from bench.figures import Figure
from bench.scale import Scale
from bench.yard import QUEUE, in_own_process
from tests.core.yard import container, facts, task

from batchyard.ids import HostId, JobId, uuid7
from batchyard.resources import GPU_WHOLE, Resources
from batchyard.states import EndCause
from batchyard_controller import garbage
from batchyard_controller.core.attempt_reports import Phase, Report
from batchyard_controller.core.events import AttemptsReported, EnvironmentChanged, HostJoined, Planned, QueueChanged
from batchyard_controller.core.jobs.resolution import Submission
from batchyard_controller.core.jobs.retention import Retention
from batchyard_controller.core.model.attempts import AttemptEnd
from batchyard_controller.core.model.settings import ComputeEnvironment, EnvironmentOrder, JobQueue
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement.pace import Pace
from batchyard_controller.core.placement.plan import Plan, make_plan
from batchyard_controller.core.reactor.apply import apply
from batchyard_controller.core.requests.submissions import submit_job
from batchyard_controller.core.world.tenancy import situation
from batchyard_controller.core.world.world import World
from batchyard_controller.store.codec import encode_touched
from batchyard_controller.store.memory import MemoryStore

NOW = Instant(wall_ms=1_700_000_000_000, boot_ms=1_000)
DECISIONS = 8_000
"""Units placed in a row."""
HOST = Resources(cpu_millis=64_000, memory_mib=256 << 10)
GPUS = 16
"""Of each host; a third of the shapes ask for a part of one, a third for a whole one."""
RUN = 64
"""Neighbouring jobs of one shape, where lines are served in runs."""
TURN_AIM = "longest turn 25 ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is measured; *run* neighbouring jobs are of one of the shapes."""

    hosts: int
    shapes: int
    run: int
    waiting: int

    @property
    def name(self) -> str:
        order = "one" if self.shapes == 1 else f"{self.shapes}, runs of {self.run}"
        return f"{self.hosts:,} hosts, shapes: {order}; {self.waiting:,} waiting"

    def asked(self, number: int) -> Resources:
        """Return what the job of a number asks for."""
        shape = number // self.run % self.shapes
        gpu = (0, 250, 1000)[shape % 3]
        return Resources(cpu_millis=500 * (1 + shape % 8), memory_mib=1024 + 16 * shape, gpu_millis=gpu)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What came out: units a second of plans alone, of turns, and of the plain loop; the longest of each in ms."""

    plan_rate: float
    turn_rate: float
    plain_rate: float
    plan_ms: float
    turn_ms: float
    turns: int


def cases(scale: Scale) -> list[Case]:
    """Return all, or those that tell most."""
    if scale.is_all:
        return [
            Case(hosts=hosts, shapes=shapes, run=run, waiting=waiting)
            for waiting in (10_000, 100_000, 1_000_000)
            for hosts in (20, 1_000, 5_000, 10_000)
            for shapes, run in ((1, RUN), (2, 1), (10, 1), (150, 1), (150, RUN))
        ]
    told = [(20, 150, 1, 10_000), (5_000, 1, RUN, 10_000), (5_000, 150, 1, 10_000)]
    if not scale.is_quick:
        told += [(5_000, 2, 1, 10_000), (5_000, 150, RUN, 10_000), (10_000, 150, 1, 10_000), (5_000, 150, 1, 200_000)]
        told += [(500, 10, 1, 20_000), (5_000, 5_000, 1, 20_000)]
    return [Case(hosts=hosts, shapes=shapes, run=run, waiting=waiting) for hosts, shapes, run, waiting in told]


async def measure(scale: Scale) -> AsyncIterator[Figure]:
    """Measure each case in a process of its own, then single jobs that arrive at an idle yard and at a full one."""
    for case in cases(scale):
        row = await in_own_process(place, case)
        yield Figure(
            name=case.name,
            value=row.turn_rate,
            unit="/s",
            baseline=row.plain_rate,
            baseline_name="plain first fit",
            aim=f"{20_000 if case.run > 1 else 5_000:,}/s, {TURN_AIM}",
            note=f"plans alone {row.plan_rate:,.0f}/s; of {row.turns} turns the longest {row.turn_ms:.1f} ms, "
            f"its plan at most {row.plan_ms:.1f} ms",
        )
    for hosts in (20, 5_000) if scale.is_quick else (20, 5_000, 10_000):
        first_ms, later_ms, plain_ms = await in_own_process(arrive, hosts)
        yield Figure(
            name=f"{hosts:,} idle hosts: a job arrives and is placed",
            value=later_ms,
            unit="ms",
            baseline=plain_ms,
            baseline_name="plain first fit",
            aim="5 ms",
            note=f"the very first of its shape {first_ms:.2f} ms",
        )
        refuse_ms, release_ms = await in_own_process(refuse, hosts)
        yield Figure(
            name=f"{hosts:,} full hosts: one ends, 150 shapes wait",
            value=release_ms,
            unit="ms",
            baseline=refuse_ms,
            baseline_name="first look of all",
            aim="flat",
        )


def place(case: Case) -> Row:
    """Place units in slices until enough were; what fills up is emptied between turns."""
    garbage.spare_survivors()  # as the controller does
    yard = _Turns(case)
    yard.submit(case.waiting)
    gc.collect()
    placed, plans, turns = 0, [0.0], [0.0]
    while placed < min(DECISIONS, case.waiting // 2):
        began = time.process_time()
        plan = yard.plan()
        plans.append(yard.plan_s)
        yard.commit()
        turns.append(time.process_time() - began)
        placed += len(plan.placements)
        if plan.is_whole:
            yard.end_all()
    return Row(
        plan_rate=placed / sum(plans),
        turn_rate=placed / sum(turns),
        plain_rate=placed / plain_first_fit(case, placed),
        plan_ms=max(plans) * 1e3,
        turn_ms=max(turns) * 1e3,
        turns=len(turns) - 1,
    )


def plain_first_fit(case: Case, number: int) -> float:
    """Return the seconds in which a loop places as many; a yard that is full is emptied."""
    free: list[list[int]] = []
    began = time.process_time()
    for i in range(number):
        asked = case.asked(i)
        cpu, memory, gpu = asked.cpu_millis, asked.memory_mib, asked.gpu_millis
        for host in free:
            if host[0] >= cpu and host[1] >= memory and host[2] >= gpu:
                host[0] -= cpu
                host[1] -= memory
                host[2] -= gpu
                break
        else:
            free = [[HOST.cpu_millis, HOST.memory_mib, GPU_WHOLE * GPUS] for _ in range(case.hosts)]
    return time.process_time() - began


def arrive(hosts: int) -> tuple[float, float, float]:
    """Return the ms of the turn in which one job is submitted and placed: the first, the median later, and of the loop."""
    case = Case(hosts=hosts, shapes=1, run=1, waiting=1)
    yard = _Turns(case)
    times = []
    for _ in range(101):
        began = time.process_time()
        yard.submit(1)
        yard.plan()
        yard.commit()
        times.append((time.process_time() - began) * 1e3)
        assert len(yard.world.attempts) == 1, "an idle yard has room"
        yard.end_all()
    return times[0], sorted(times[1:])[50], plain_first_fit(case, 100) * 10


def refuse(hosts: int) -> tuple[float, float]:
    """Return the ms of the plans that refuse 150 shapes: the first, and the median after one attempt has ended each."""
    yard = _Turns(Case(hosts=hosts, shapes=1, run=1, waiting=0))
    for queue in ("large", "small"):
        yard.add_queue(queue)
    for _ in range(hosts + 50):
        yard.submit_one(Resources(cpu_millis=HOST.cpu_millis - 1, memory_mib=HOST.memory_mib), "large")
    for shape in range(150):
        yard.submit_one(Resources(cpu_millis=1_000 + shape, memory_mib=1024), "small")
    times = []
    while len(yard.world.attempts) < hosts:
        yard.plan()
        yard.commit()
    for _ in range(50):
        yard.end_some(1)
        began = time.process_time()
        while not yard.plan().is_whole:
            pass
        times.append((time.process_time() - began) * 1e3)
        yard.commit()
    return times[0], sorted(times[1:])[24]


class _Turns:
    """A controller's turns without its loop: plan a slice, apply, encode, commit."""

    def __init__(self, case: Case) -> None:
        self.world = World(Retention())
        self._case = case
        self._store = MemoryStore()
        self._epoch = asyncio.run(self._store.campaign("bench"))
        self._pace = Pace()
        self._submitted = 0
        self.plan_s = 0.0
        apply(self.world, EnvironmentChanged(environment=ComputeEnvironment(name=QUEUE)), NOW)
        self.add_queue(QUEUE)
        for number in range(case.hosts):
            told = facts(f"h{number}", gpus=GPUS, capacity=HOST)
            apply(self.world, HostJoined(host_id=HostId(f"h{number}"), facts=told, session=1, reports=()), NOW)
            host = self.world.hosts[HostId(f"h{number}")]
            host.trust.proven_until_boot_ms = 1 << 60
            self.world.refresh_host(host)
        self.commit()

    def add_queue(self, name: str) -> None:
        """Add a queue over all hosts; ``large`` goes first."""
        steps = (EnvironmentOrder(order=1, compute_environment=QUEUE),)
        queue = JobQueue(name=name, priority=int(name == "large"), environment_order=steps)
        apply(self.world, QueueChanged(queue=queue), NOW)

    def submit(self, size: int) -> None:
        """Submit so many jobs in the case's order of shapes."""
        for _ in range(size):
            self.submit_one(self._case.asked(self._submitted), QUEUE)
        self.commit()

    def submit_one(self, asked: Resources, queue: str) -> None:
        """Submit one job."""
        self._submitted += 1
        work = task(container(cpu=asked.cpu_millis, memory=asked.memory_mib, gpu=asked.gpu_millis))
        job_id = JobId(uuid7(NOW.wall_ms, self._submitted.to_bytes(10, "big")))
        event, _ = submit_job(self.world, Submission(name="bench", queue=queue, task=work), job_id, NOW)
        assert event is not None, "every submission is new"
        apply(self.world, event, NOW)
        if self._submitted % 1_000 == 0:
            self.commit()

    def plan(self) -> Plan:
        """Make one slice, as long as the driver would, and let it come into force."""
        world = self.world
        began = time.process_time()
        plan = make_plan(situation(world), NOW, self._pace.steps_max)
        self.plan_s = time.process_time() - began
        apply(world, Planned(plan=plan, epoch=self._epoch), NOW)
        self._pace.note(plan.steps, (time.process_time() - began) * 1e3)
        return plan

    def end_all(self) -> None:
        """Let all end that runs."""
        self.end_some(len(self.world.attempts))

    def end_some(self, number: int) -> None:
        """Let the oldest end that run."""
        end = AttemptEnd(cause=EndCause.EXITED, exit_code=0)
        for attempt in list(self.world.attempts.values())[:number]:
            report = Report(attempt_id=attempt.id, phase=Phase.ENDED, started_at_ms=NOW.wall_ms, end=end)
            apply(self.world, AttemptsReported(host_id=attempt.host_id, reports=(report,)), NOW)
        self.commit()

    def commit(self) -> None:
        """Encode and store what changed."""
        asyncio.run(self._store.commit(encode_touched(self.world, self.world.ledger.take()), self._epoch))
