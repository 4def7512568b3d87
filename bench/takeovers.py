"""
How soon a standby leads: killed leaders of a yard whose queue is long, on a real etcd.

    bash scripts/with-services.sh python -m bench.takeovers [--kills N] [--queued N] [--upgrades N]

Taken from outside, by following the store as a standby does: from the moment at which
the next leader's election is stored to that at which its first claim of a host is.
Beside it in the same run: a controller that starts when nobody leads, and so has all to
read. How long its event loop stood still each leader says by its metrics.

Then leaders are stopped and started again, as an upgrade does, while jobs are submitted:
how many submits were refused, and how long one took at most.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import time
import urllib.request
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.contract.etcd_server import EtcdServer
from tests.ports import hold_address

from batchyard import AsyncClient
from batchyard.errors import BatchyardError
from batchyard.settings import SOCKET_NAME
from batchyard.v1 import job_pb2
from batchyard_controller.store.open import open_store
from batchyard_controller.store.protocol import Change, Put, StoreError

from .figures import percentile
from .yard import QUEUE, BenchError, Program, small_job, temporary_folder

LEASE_TTL_S = 6
LIMIT_S = 1800.0
"""A million queued jobs are read for minutes by a controller that begins cold on a busy machine."""
BATCH = 20_000
CPUS = 4
SLEEP_S = 1


def _is_claim(change: Change, epoch: int) -> bool:
    if not isinstance(change, Put) or not change.key.startswith("attempt/"):
        return False
    return bool(json.loads(change.value)["epoch"] == epoch)


@dataclass(slots=True)
class Watcher:
    """What is seen of the store: elections, and the first claim after each."""

    url: str
    elected: dict[int, tuple[float, str]] = field(default_factory=dict)
    claimed: dict[int, float] = field(default_factory=dict)
    gaps: int = 0
    """How often it had to read anew; a takeover meanwhile was not seen as it was."""
    _moved: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Look on for ever; what happens while etcd does not tell is a gap."""
        store, epoch = open_store(self.url), 0
        while True:
            following = store.follow()
            assert following is not None
            with contextlib.suppress(StoreError):
                async for news in following:
                    now = time.monotonic()
                    if news.epoch:
                        epoch = news.epoch
                        self.elected.setdefault(epoch, (now, news.leader))
                    elif (
                        epoch and epoch not in self.claimed and any(_is_claim(change, epoch) for change in news.changes)
                    ):
                        self.claimed[epoch] = now
                    self._moved.set()
                    self._moved = asyncio.Event()
            self.gaps += 1

    async def until_claims(self, after: int) -> int:
        """Wait until a leader later than epoch *after* has claimed a host; return its epoch."""
        async with asyncio.timeout(LIMIT_S):
            while not (epochs := [epoch for epoch in self.claimed if epoch > after]):
                await self._moved.wait()
        return epochs[0]

    def takeover_s(self, epoch: int) -> float:
        """Return how long a leader took from its election to its first claim."""
        return self.claimed[epoch] - self.elected[epoch][0]

    def pid_of(self, epoch: int) -> int:
        """Return the process that leads; it says so in the store, as ``host/pid/...``."""
        return int(self.elected[epoch][1].split("/")[1])


@dataclass(slots=True)
class Node:
    """One controller."""

    program: Program
    metrics: str

    def read(self, metric: str) -> float | None:
        """Return one of its metrics; None while it does not answer."""
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=5) as answer,
        ):
            for line in answer.read().decode().splitlines():
                if line.startswith(f"batchyard_{metric} "):
                    return float(line.split()[1])
        return None

    async def until_warm(self) -> None:
        """Wait until it has read the store."""
        give_up_at = time.monotonic() + LIMIT_S
        while not await asyncio.to_thread(self.read, "standby_records"):
            self.program.check()
            if time.monotonic() > give_up_at:
                raise BenchError(f"{self.program.name} does not follow the store")
            await asyncio.sleep(0.2)


def start(name: str, folder: Path, store: str, address: str) -> Node:
    """Start a controller."""
    metrics = hold_address()
    program = Program(
        name,
        folder,
        "batchyard_controller",
        *(
            "--listen",
            address,
            "--insecure-loopback-only",
            "--socket",
            str(folder / f"{name}-{SOCKET_NAME}"),
            "--metrics",
            metrics,
        ),
        *("--store", store, "--secrets-key", str(folder / "secrets.key"), "--log-level", "info"),
    )
    return Node(program, metrics)


def submissions(count: int) -> Iterator[job_pb2.SubmitJobRequest]:
    """Yield single jobs that last a second each."""
    what = small_job("fake://", "sleep", str(SLEEP_S))
    for _ in range(count):
        yield job_pb2.SubmitJobRequest(name="bench", queue=QUEUE, container=what, request_id=str(uuid.uuid4()))


async def top_up(client: AsyncClient, count: int) -> int:
    """Submit until so many wait; return how many do."""
    counts = (await client.describe_job_queues([QUEUE]))[0].job_counts
    missing = count - counts["RUNNABLE"]
    while missing > 0:
        async for result in client.submit_jobs(submissions(min(missing, BATCH))):
            assert not result.HasField("refusal"), result
        missing -= BATCH
    return (await client.describe_job_queues([QUEUE]))[0].job_counts["RUNNABLE"]


async def measure(kills: int, queued: int, cold: int, upgrades: int) -> AsyncIterator[str]:
    """Kill leaders, and say what was seen."""
    with temporary_folder() as folder:
        server = EtcdServer(folder / "etcd", ["--quota-backend-bytes", str(8 << 30)])
        server.start()
        store = f"{server.url}/yard?lease_ttl_s={LEASE_TTL_S}"
        (folder / "secrets.key").write_text("k1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n")
        (folder / "secrets.key").chmod(0o600)
        addresses = [hold_address() for _ in range(2)]
        nodes = [start(f"c{number}", folder, store, address) for number, address in enumerate(addresses)]
        everywhere = ",".join(addresses)
        programs = [node.program for node in nodes]
        watcher = Watcher(store)
        looking = asyncio.create_task(watcher.run())
        client = AsyncClient(everywhere, retry_s=60, timeout_s=60)
        try:
            await client.create_compute_environment(QUEUE)
            await client.create_job_queue(QUEUE, compute_environments=[QUEUE])
            programs.append(
                Program(
                    "agent",
                    folder,
                    "batchyard_agent",
                    *(
                        "--controller",
                        everywhere,
                        "--insecure-loopback-only",
                        "--state-dir",
                        str(folder / "agent"),
                        "--name",
                        "agent",
                    ),
                    *("--runtimes", "fake", "--cpus", str(CPUS), "--memory", "1024G", "--log-level", "warning"),
                )
            )
            began = time.monotonic()
            yield f"{await top_up(client, queued):,} singles wait, after {time.monotonic() - began:.0f} s"
            run = Run(folder, store, addresses, nodes, programs, watcher, client, queued)
            for number in range(cold):
                took_s, blocked_s = await run.take_over_cold()
                yield f"cold {number + 1}: {took_s:.2f} s, loop blocked {blocked_s:.2f} s"
            takeovers, blocks = [], []
            for number in range(kills):
                gaps = watcher.gaps
                took_s, blocked_s, refused_s = await run.take_over()
                if watcher.gaps != gaps:
                    yield f"warm {number + 1}: not seen, as etcd was not heard; counts for nothing"
                    continue
                takeovers.append(took_s)
                blocks.append(blocked_s)
                yield f"warm {number + 1}: {took_s:.2f} s, loop blocked {blocked_s:.2f} s, kill to claim {refused_s:.2f} s"
            yield await run.upgrade(upgrades)
            yield (
                f"{len(takeovers)} leaders killed at {queued:,} queued singles: "
                f"takeover p50 {percentile(takeovers, 50):.2f} s, p99 {percentile(takeovers, 99):.2f} s, "
                f"loop blocked at most {max(blocks):.2f} s"
            )
        except TimeoutError as error:
            said = "\n".join(f"{program.name}:\n{program.said()}" for program in programs)
            raise BenchError(f"no takeover within {LIMIT_S:g} s\n{said}") from error
        finally:
            looking.cancel()
            await client.close()
            for program in reversed(programs):
                await asyncio.to_thread(program.stop)
            server.stop()


@dataclass(slots=True)
class Run:
    """The yard that is measured."""

    folder: Path
    store: str
    addresses: list[str]
    nodes: list[Node]
    programs: list[Program]
    watcher: Watcher
    client: AsyncClient
    queued: int

    @property
    def epoch(self) -> int:
        """The last that led."""
        return max(self.watcher.elected)

    def leader(self) -> Node:
        """Return who leads."""
        pid = self.watcher.pid_of(self.epoch)
        return next(node for node in self.nodes if node.program.pid == pid)

    async def take_over(self) -> tuple[float, float, float]:
        """Kill the leader beside a standby; return seconds of the takeover, of the longest block, and from kill to claim."""
        leader, epoch = self.leader(), self.epoch
        (standby,) = [node for node in self.nodes if node is not leader]
        await standby.until_warm()
        await top_up(self.client, self.queued)
        killed_at = time.monotonic()
        leader.program.kill()
        new = await self.watcher.until_claims(epoch)
        blocked_s = await asyncio.to_thread(standby.read, "loop_blocked_max_seconds")
        leader.program.start()
        return self.watcher.takeover_s(new), blocked_s or 0.0, self.watcher.claimed[new] - killed_at

    async def upgrade(self, times: int) -> str:
        """Stop the leader and start it again, time after time, while jobs are submitted; say how that went."""
        submits: list[float] = []
        refused: list[str] = []

        async def submit() -> None:
            while True:
                began = time.monotonic()
                try:
                    await self.client.calls.submit_job(next(submissions(1)), retry=True)
                except BatchyardError as err:
                    refused.append(str(err))
                submits.append(time.monotonic() - began)

        submitting = asyncio.create_task(submit())
        for _ in range(times):
            leader, epoch = self.leader(), self.epoch
            (standby,) = [node for node in self.nodes if node is not leader]
            await standby.until_warm()
            await asyncio.to_thread(leader.program.stop)
            leader.program.start()
            await self.watcher.until_claims(epoch)
        submitting.cancel()
        return (
            f"{times} leaders stopped and started: {len(submits):,} submits, {len(refused)} refused, "
            f"the longest took {max(submits):.2f} s" + "".join(f"\n  {each}" for each in refused[:3])
        )

    async def take_over_cold(self) -> tuple[float, float]:
        """Kill all, and start one when nobody leads; return as ``take_over``."""
        await top_up(self.client, self.queued)
        leader, epoch = self.leader(), self.epoch
        for node in self.nodes:
            node.program.kill()
        await asyncio.sleep(LEASE_TTL_S + 1)
        leader.program.start()
        new = await self.watcher.until_claims(epoch)
        blocked_s = await asyncio.to_thread(leader.read, "loop_blocked_max_seconds")
        for node in self.nodes:
            if node is not leader:
                node.program.start()
        return self.watcher.takeover_s(new), blocked_s or 0.0


async def _main(kills: int, queued: int, cold: int, upgrades: int) -> None:
    async for line in measure(kills, queued, cold, upgrades):
        print(line, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--queued", type=int, default=100_000)
    parser.add_argument("--cold", type=int, default=2)
    parser.add_argument("--upgrades", type=int, default=3)
    given = parser.parse_args()
    asyncio.run(_main(given.kills, given.queued, given.cold, given.upgrades))
