"""
Events to a webhook while controller, relay and receiver are killed at random: none missing, in order; and what a sink costs.

Real processes, each killed with SIGKILL and started again. What the receiver wrote down is compared with the trail,
move by move; the trail itself must lead each job from SUBMITTED to its end without a gap.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from bench.figures import Figure
from bench.scale import Scale
from bench.yard import CALLERS, Program, Yard, open_yard, small_job
from tests.ports import hold_address

from batchyard import AsyncClient, wording
from batchyard.errors import BatchyardError
from batchyard.v1 import event_pb2, job_pb2, sink_pb2

CPUS = 64
SEED = 17
PAUSES_S = (1.0, 5.0)
"""Between two kills."""
LIFE_S = 4.0
"""How long each lives at least."""
MOVES_A_JOB = 4
LIMIT_S = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """
    What came of it.

    Attributes:
        moves: That the trail has of the jobs.
        gaps: Of these, that do not follow from the one before of their job.
        missing: That the receiver was never told.
        disordered: Jobs of which it was told in another order.
        repeated: Deliveries over the first of each.
        kills: Of controller, relay and receiver.
    """

    jobs: int
    moves: int
    gaps: int
    missing: int
    disordered: int
    repeated: int
    kills: tuple[int, int, int]

    @property
    def is_kept(self) -> bool:
        """Whether the promise was."""
        return not (self.gaps or self.missing or self.disordered)

    def __str__(self) -> str:
        controller, relay, receiver = self.kills
        return (
            f"{self.jobs:,} jobs, {self.moves:,} moves, {self.gaps} gaps, {self.missing} missing, "
            f"{self.disordered} out of order, {self.repeated} delivered again; killed: controller {controller}, "
            f"relay {relay}, receiver {receiver}"
        )


async def measure(scale: Scale) -> AsyncIterator[Figure]:
    """Kill all day, then measure a day without."""
    tally = await survive(scale.pick(2_500, 100), SEED, 0.5)
    yield Figure(
        name=f"moves delivered, {tally.moves:,} made",
        value=tally.moves - tally.missing,
        unit="",
        baseline=tally.moves,
        baseline_name="moves in the trail",
        aim="all, in order",
        note=str(tally),
    )
    async for figure in _cost(scale):
        yield figure


async def survive(jobs: int, seed: int, pause_s: float = 0.0, callers: int = CALLERS) -> Tally:
    """
    Have jobs run while everything but their agent is killed again and again, and compare who was told what.

    Args:
        jobs: How many.
        seed: Of the dice that say when who is killed.
        pause_s: Before each of a caller's jobs, so that few jobs meet enough kills.
        callers: Who submit at once.
    """
    async with open_yard() as yard:
        await yard.add_agent("fake", CPUS)
        ledger = yard.folder / "ledger.jsonl"
        receiver = await _add_receiver(yard, ledger)
        relay = add_relay(yard)
        victims = (yard.controller, relay, receiver)
        dice = random.Random(seed)
        kills = [0, 0, 0]
        work = asyncio.create_task(_submit(yard, jobs, pause_s, callers))
        began = [time.monotonic()] * 3
        turns: list[int] = []
        while not work.done() or not all(kills):
            await asyncio.sleep(dice.uniform(*PAUSES_S))
            turns = turns or dice.sample(range(3), 3)
            victim = turns.pop()
            if time.monotonic() - began[victim] < LIFE_S or not await _answers(yard):
                continue  # who is killed while it starts, again and again, passes nothing on
            kills[victim] += 1
            await asyncio.to_thread(victims[victim].kill)
            await asyncio.sleep(dice.uniform(0, 0.3))
            victims[victim].start()
            began[victim] = time.monotonic()
        ids = work.result()
        await _until_told(yard)
        return await _compare(yard, ids, ledger, (kills[0], kills[1], kills[2]))


async def _answers(yard: Yard) -> bool:
    try:
        await yard.client.calls.list_sinks(sink_pb2.ListSinksRequest())
    except BatchyardError:
        return False
    return True


async def _submit(yard: Yard, jobs: int, pause_s: float, callers: int) -> list[str]:
    """Submit jobs, some at once, each for as long as the controller is away, and wait for their ends."""
    job, left = small_job("fake://"), iter(range(jobs))
    ids: list[str] = []
    client = AsyncClient(yard.socket, retry_s=LIMIT_S)

    async def call() -> None:
        for number in left:
            await asyncio.sleep(pause_s)
            made = await client.submit_job(name=f"job-{number}", queue="bench", container=job)
            ids.append(made.job_id)

    async with client:
        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(call())
        await client.wait_all(ids, timeout_s=LIMIT_S)
    return ids


async def _add_receiver(yard: Yard, ledger: Path) -> Program:
    address = hold_address()
    made = await yard.client.create_sink("ledger", f"http://{address}/events", children="ALL")
    secret = yard.folder / "secret"
    secret.write_text(made.secret)
    receiver = Program("receiver", yard.folder, "bench.ledger", address.rpartition(":")[2], str(ledger), str(secret))
    yard.programs.append(receiver)
    return receiver


def add_relay(yard: Yard) -> Program:
    """Start a relay; one that is killed and started again is the same to the controller."""
    relay = Program(
        "relay",
        yard.folder,
        "batchyard_gateway.relay",
        *("--controller", yard.socket, "--name", "relay", "--files", str(yard.folder / "events"), "--allow-loopback"),
        *("--log-level", "warning"),
    )
    yard.programs.append(relay)
    return relay


async def _until_told(yard: Yard) -> None:
    async with asyncio.timeout(LIMIT_S):
        while True:
            try:
                if all(not sink.lag for sink in await yard.client.list_sinks()):
                    return
            except BatchyardError:
                pass  # it was killed just now
            await asyncio.sleep(0.1)


async def _compare(yard: Yard, ids: list[str], ledger: Path, kills: tuple[int, int, int]) -> Tally:
    wanted = set(ids)
    trail: dict[str, list[tuple[str, str]]] = {job_id: [] for job_id in ids}
    async for event in yard.client.list_events():
        if event.subject == event_pb2.SUBJECT_JOB and event.job_id in wanted:
            before, after = (wording.word(job_pb2.JobState, each) for each in (event.previous_state, event.state))
            trail[event.job_id].append((before, after))
    told: dict[str, list[str]] = {job_id: [] for job_id in ids}
    seen: set[str] = set()
    repeated = 0
    for line in ledger.read_text().splitlines():
        try:
            event_of = json.loads(line)
        except ValueError:
            continue  # cut short as it was killed: it did not answer, so it is told again
        job_id = event_of["detail"].get("jobId")
        if job_id not in wanted:
            continue
        if event_of["id"] in seen:
            repeated += 1
        else:
            seen.add(event_of["id"])
            told[job_id].append(event_of["detail"]["status"])
    moves = sum(map(len, trail.values()))
    gaps = 0
    for steps in trail.values():
        states = ["SUBMITTED", *(after for _, after in steps)]
        gaps += sum(before != states[i] for i, (before, _) in enumerate(steps))
        gaps += states[-1] not in ("SUCCEEDED", "FAILED")
    return Tally(
        jobs=len(ids),
        moves=moves,
        gaps=gaps,
        missing=moves - len(seen),
        disordered=sum([after for _, after in steps] != told[job_id] for job_id, steps in trail.items()),
        repeated=repeated,
        kills=kills,
    )


async def _cost(scale: Scale) -> AsyncIterator[Figure]:
    """Alternate between no sink and one into a file, on one yard, so that both see the same machine."""
    jobs, rounds = scale.pick(2_000, 300), scale.pick(4, 2)
    job = small_job("fake://")
    with_sink: list[float] = []
    without: list[float] = []
    used = {True: 0.0, False: 0.0}
    async with open_yard() as yard:
        await yard.add_agent("fake", CPUS)
        add_relay(yard)
        await yard.run(lambda: yard.submit_many(job, 200), 200)  # warm
        for number in range(2 * rounds):
            has_sink = bool(number % 2)
            if has_sink:
                await yard.client.create_sink("file", "file:events.jsonl")
            pace = await yard.run(lambda: yard.submit_many(job, jobs), jobs)
            (with_sink if has_sink else without).append(pace.jobs_per_s)
            used[has_sink] += pace.controller_ms / rounds
            if has_sink:
                await _until_told(yard)
                await yard.client.delete_sink("file")
    yield Figure(
        name=f"{jobs:,} single jobs with a sink, sqlite",
        value=sorted(with_sink)[rounds // 2],
        unit="/s",
        baseline=sorted(without)[rounds // 2],
        baseline_name="the same without a sink",
        note=f"{MOVES_A_JOB} events a job into a file; CPU a job: controller {used[True]:.2f} ms, "
        f"without {used[False]:.2f} ms",
    )
