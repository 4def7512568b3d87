"""
Hosts that are cut off past the fence while their agent or keeper dies or stands still, and reruns on another host.

Each attempt holds a lock for as long as anything of it lives. A rerun that finds it held has
begun too early, an overlap; else the gap between the end of the last process of the first
try and the start of the second one is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import click
from bench.yard import Program, Yard, open_yard
from tests.agent.runtimes import process_records

from batchyard import JobState, container, job_state
from batchyard.v1 import attempt_pb2, host_pb2, job_definition_pb2, job_pb2
from batchyard_agent.config import keeper_dir

UNIT_S = 1.0
"""How long a unit waits before it starts an agent again."""
WATCH_S = 0.02
ROUND_LIMIT_S = 240.0
HEAL_LIMIT_S = 120.0
RESCUE = "rescue"

SCRIPT = """
trap '' TERM
began=$(cut -d' ' -f1 /proc/uptime)  # before it has the lock, by which the end of the try before is known
exec 9>>{folder}/$AWS_BATCH_JOB_ID
flock -n 9 || echo overlap >>{folder}/$AWS_BATCH_JOB_ID.told
echo $AWS_BATCH_JOB_ATTEMPT $began >>{folder}/$AWS_BATCH_JOB_ID.told
[ $AWS_BATCH_JOB_ATTEMPT = 2 ] && exit 0
(setsid sleep 600 &)
while :; do sleep 600; done
"""

FAULTS = (
    *("agent killed", "agent gone", "agent stopped", "keeper killed", "keeper stopped", "both killed"),
    *("state wiped", "all wiped"),
)


class Wire:
    """The way of one agent to the controller, which can be cut."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._open: set[asyncio.StreamWriter] = set()
        self._is_cut = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> str:
        """Return the address to which an agent connects."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """Break what is open, and let nothing through."""
        self._is_cut = True
        for writer in self._open:
            writer.transport.abort()

    def mend(self) -> None:
        self._is_cut = False

    async def close(self) -> None:
        self.cut()
        self._server.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        host, _, port = self._target.rpartition(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        self._open |= {writer, far_writer}
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.get_running_loop().create_task(self._carry(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(1 << 16):
                sink.write(data)
                await sink.drain()
        sink.transport.abort()
        self._open.discard(sink)


@dataclass(slots=True, kw_only=True)
class Victim:
    """A host that is cut off, and its present round."""

    name: str
    agent: Program
    wire: Wire
    state: Path
    fault: str = ""
    is_gone: bool = False
    stopped: list[int] = field(default_factory=list)

    @property
    def keeper(self) -> Path:
        return keeper_dir(self.state)

    async def suffer(self, fault: str, delay_s: float) -> None:
        """Let happen, after a while, what this round is about."""
        self.fault = fault
        await asyncio.sleep(delay_s)
        who, what = fault.split()
        if who in {"keeper", "both"} or fault == "all wiped":
            self._signal(process_records.keeper(self.keeper), signal.SIGSTOP if what == "stopped" else signal.SIGKILL)
        if who == "keeper":
            return
        if what == "stopped":
            self._signal(self.agent.pid, signal.SIGSTOP)
            self.stopped.append(self.agent.pid)
            return
        self.agent.kill()
        self.is_gone = True
        if what == "wiped":
            shutil.rmtree(self.state)
        if fault == "all wiped":
            shutil.rmtree(self.keeper, ignore_errors=True)
        if what != "gone":
            await asyncio.sleep(UNIT_S)
            self._start()

    def heal(self) -> None:
        """End what the round has left, and let the host come back."""
        for pid in self.stopped:
            self._signal(pid, signal.SIGCONT)
        self.stopped.clear()
        self.wire.mend()
        if self.is_gone:
            self._start()

    def _start(self) -> None:
        self.agent.start()
        self.is_gone = False

    def _signal(self, pid: int, number: int) -> None:
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


@dataclass(slots=True)
class Tally:
    """What rounds of one kind have shown, in seconds."""

    rounds: int = 0
    overlaps: int = 0
    gaps_s: list[float] = field(default_factory=list)
    ends_s: list[float] = field(default_factory=list)
    """After the cut."""

    def line(self) -> str:
        return (
            f"{self.rounds} rounds, {self.overlaps} overlaps, smallest gap {min(self.gaps_s, default=0):.1f} s, "
            f"all gone {min(self.ends_s, default=0):.1f} to {max(self.ends_s, default=0):.1f} s after the cut"
        )


async def run(rounds: int, hosts: int, runtime: str, fence_s: int, dice: random.Random) -> None:
    """Do so many rounds, of as many hosts at once, and print what they have shown."""
    tallies: defaultdict[str, Tally] = defaultdict(Tally)
    async with open_yard("", "--fence", str(fence_s)) as yard, _victims(yard, min(hosts, rounds), runtime) as victims:
        witness = yard.folder / "witness"
        witness.mkdir()
        witness.chmod(0o777)
        await yard.add_agent(runtime, hosts, *_allowed(runtime, witness), name=RESCUE)
        done = 0
        while done < rounds:
            batch = victims[: rounds - done]
            faults = [FAULTS[(done + i) % len(FAULTS)] for i in range(len(batch))]
            await _round(yard, witness, batch, faults, runtime, fence_s, dice, tallies)
            done += len(batch)
            click.echo(
                f"{done} of {rounds} rounds, {sum(each.overlaps for each in tallies.values())} overlaps", err=True
            )
    for fault, tally in sorted(tallies.items()):
        click.echo(f"{runtime}, {fault}: {tally.line()}")
    gaps_s = [gap for tally in tallies.values() for gap in tally.gaps_s]
    overlaps = sum(tally.overlaps for tally in tallies.values())
    click.echo(f"{runtime}: {done} rounds, {overlaps} overlaps, smallest gap {min(gaps_s):.1f} s")


@contextlib.asynccontextmanager
async def _victims(yard: Yard, count: int, runtime: str) -> AsyncIterator[list[Victim]]:
    found: list[Victim] = []
    try:
        for number in range(count):
            wire, name = Wire(yard.address), f"victim-{number}"
            allowed = _allowed(runtime, yard.folder / "witness")
            agent = await yard.add_agent(runtime, 1, *allowed, name=name, address=await wire.open())
            found.append(Victim(name=name, agent=agent, wire=wire, state=yard.folder / name))
        yield found
    finally:
        for victim in found:
            victim.heal()
            await victim.wire.close()


def _allowed(runtime: str, witness: Path) -> tuple[str, ...]:
    if runtime == "process":
        return ()
    return ("--allow-volume", str(witness), "--allow-volume", "/usr", "--container-network", "none")


def _job(runtime: str, witness: Path) -> job_definition_pb2.ContainerProperties:
    """Describe a job that holds its lock; a container has the programs of this machine for that."""
    job = container(["sh", "-c", SCRIPT.format(folder=witness)], vcpus=1, memory=16)
    if runtime == "docker":
        from tests.agent.runtimes.engine import ensure_image  # noqa: PLC0415  # it needs an engine

        job.image = ensure_image()
        places = {"/usr": "/usr", "/lib": "/usr/lib", "/lib64": "/usr/lib64", str(witness): str(witness)}
        for number, (there, here) in enumerate(places.items()):
            job.volumes.add(name=f"v{number}", host_source_path=here)
            job.mount_points.add(source_volume=f"v{number}", container_path=there, read_only=number < 3)
    return job


async def _round(
    yard: Yard,
    witness: Path,
    victims: list[Victim],
    faults: list[str],
    runtime: str,
    fence_s: int,
    dice: random.Random,
    tallies: dict[str, Tally],
) -> None:
    """Let each victim have a job and a fault, and see where and when the rerun begins."""
    await yard.client.cordon_host(RESCUE)
    jobs = [await yard.submit(_job(runtime, witness)) for _ in victims]
    inodes = dict.fromkeys(jobs, 0)
    give_up_s = time.monotonic() + ROUND_LIMIT_S
    while not all((witness / f"{job_id}.told").exists() for job_id in jobs):
        assert time.monotonic() < give_up_s, "the jobs do not start"
        await asyncio.sleep(0.1)
    host_of = {job_id: (await yard.client.describe_job(job_id)).attempts[0].host_name for job_id in jobs}
    fault_of = {victim.name: fault for victim, fault in zip(victims, faults, strict=True)}
    inodes = {job_id: (witness / job_id).stat().st_ino for job_id in jobs}
    for victim in victims:
        victim.wire.cut()
    cut_s = _boot_s()
    await yard.client.uncordon_host(RESCUE)
    troubles = [
        asyncio.create_task(victim.suffer(fault, dice.uniform(0, fence_s + 6)))
        for victim, fault in zip(victims, faults, strict=True)
    ]
    held_s = await _watch(yard, inodes, give_up_s)
    await asyncio.gather(*troubles)
    for job_id in jobs:
        tally, told = tallies[fault_of[host_of[job_id]]], (witness / f"{job_id}.told").read_text().split("\n")
        tally.rounds += 1
        tally.overlaps += "overlap" in told
        (again_s,) = (float(line.split()[1]) for line in told if line.startswith("2 "))
        end_s = max(moment for moment in held_s[job_id] if moment < again_s)
        tally.ends_s.append(end_s - cut_s)
        tally.gaps_s.append(again_s - end_s)
        _judge(await yard.client.describe_job(job_id), told)
    for victim in victims:
        victim.heal()
    await _healed(yard, victims)


async def _watch(yard: Yard, inodes: dict[str, int], give_up_s: float) -> dict[str, list[float]]:
    """Return all moments at which the lock of each job was seen held, once all jobs are over."""
    held_s: dict[str, list[float]] = {job_id: [_boot_s()] for job_id in inodes}
    look_at_s = 0.0
    while True:
        held, now_s = _locked(), _boot_s()
        for job_id, inode in inodes.items():
            if inode in held:
                held_s[job_id].append(now_s)
        if time.monotonic() > look_at_s:
            look_at_s = time.monotonic() + 1
            found = await yard.client.describe_jobs(list(inodes))
            if all(job_state(job) in {JobState.SUCCEEDED, JobState.FAILED} for job in found):
                return held_s
            assert time.monotonic() < give_up_s, f"not over: {[(job.id, job_state(job)) for job in found]}"
        await asyncio.sleep(WATCH_S)


def _judge(job: job_pb2.Job, told: list[str]) -> None:
    causes = [attempt.cause for attempt in job.attempts]
    assert causes == [attempt_pb2.END_CAUSE_LOST, attempt_pb2.END_CAUSE_EXITED], f"{job.id}: {causes}, {told}"
    assert job.attempts[1].host_name == RESCUE, job.id
    assert sum(line.startswith("1 ") for line in told) == 1, f"{job.id} was started twice: {told}"


async def _healed(yard: Yard, victims: Iterable[Victim]) -> None:
    give_up_s, names = time.monotonic() + HEAL_LIMIT_S, {victim.name for victim in victims}
    while True:
        hosts = [host async for host in yard.client.list_hosts()]
        ready = {host.facts.name for host in hosts if host.state == host_pb2.HOST_STATE_READY and not host.attempts}
        if names <= ready:
            return
        assert time.monotonic() < give_up_s, f"not healed: {names - ready}"
        await asyncio.sleep(0.5)


def _locked() -> set[int]:
    """Return the inodes of all files that are locked on this machine."""
    return {int(line.split()[-3].rpartition(":")[2]) for line in Path("/proc/locks").read_text().splitlines()}


def _boot_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
