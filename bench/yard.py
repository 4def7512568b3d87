"""
A yard to measure: controller, agents and etcd as real processes in a folder of their own.

All that is started here is stopped here, by its process id, however the
measurement ends. The client side is this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, ParamSpec, TypeVar

import grpc.aio
import psutil
from tests.contract.etcd_server import EtcdServer
from tests.ports import hold_address

from batchyard import AsyncClient, JobState, UnavailableError, container, job_state
from batchyard.settings import SOCKET_NAME
from batchyard.v1 import compute_environment_pb2, job_pb2
from batchyard.v1.job_definition_pb2 import ContainerProperties
from batchyard.v1.job_pb2_grpc import JobServiceStub
from batchyard_agent import keeper

if TYPE_CHECKING:
    from batchyard.v1.job_pb2_grpc import JobServiceAsyncStub

# Measured is what a controller does; what TLS adds to it is measured by itself, in `secured`.
os.environ.setdefault("BATCHYARD_INSECURE_LOOPBACK_ONLY", "1")

CALLERS = 32
"""Callers at once wherever many jobs are submitted one a call."""
QUEUE = "bench"
READY_LIMIT_S = 60.0
DONE_LIMIT_S = 300.0
STOP_LIMIT_S = 15.0
POLL_S = 0.02
PREFIX = "by-bench-"
"""Short: the path of a socket in the folder has 107 bytes at most."""

KEEPER = Path(keeper.__file__).parent

P = ParamSpec("P")
T = TypeVar("T")


class BenchError(Exception):
    """A measurement cannot go on; the text says why."""


class Program:
    """One process of ours, its output in a file."""

    def __init__(self, name: str, folder: Path, *arguments: str) -> None:
        self.name = name
        self._log = folder / f"{name}.log"
        # Nobody's settings but those given here.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("BATCHYARD_")}
        environment["BATCHYARD_CONFIG"] = os.devnull
        self._arguments, self._environment = [sys.executable, "-m", *arguments], environment
        self.start()

    def start(self) -> None:
        """Start it, at first or once it was killed."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment
            )

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """Kill it and start it again."""
        self.kill()
        self.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def check(self) -> None:
        """
        See that it still runs.

        Raises:
            BenchError: it has ended.
        """
        if self._process.poll() is not None:
            raise BenchError(f"{self.name} ended with {self._process.returncode}:\n{self.said()}")

    def said(self) -> str:
        """Return the end of its log."""
        return self._log.read_text(errors="replace")[-2000:]

    def stop(self) -> None:
        """End it, if need be by force."""
        self._process.terminate()
        try:
            self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def cpu_s(self) -> float:
        """Return the processor time it has used, that of its children apart."""
        own = psutil.Process(self.pid).cpu_times()
        return float(own.user + own.system)

    def spent(self) -> Spent:
        """Return its processor time, its keeper's, and that of the jobs there, which run in jails that stay a while."""
        keepers = [psutil.Process(pid) for pid in self._keepers()]
        times = [keeper.cpu_times() for keeper in keepers]
        jails = [_cpu_times(jail) for keeper in keepers for jail in keeper.children()]
        return Spent(
            own_s=self.cpu_s(),
            keeper_s=sum(float(each.user + each.system) for each in times),
            jobs_s=sum(float(each.children_user + each.children_system) for each in times) + sum(jails),
        )

    def open_files(self) -> int:
        """Return how many descriptors it has open, with its keeper."""
        return sum(psutil.Process(pid).num_fds() for pid in (self.pid, *self._keepers()))

    def _keepers(self) -> list[int]:
        children = psutil.Process(self.pid).children()
        return [child.pid for child in children if child.cmdline()[-2:-1] == [str(KEEPER)]]

    def written_bytes(self) -> int:
        """Return how many bytes it has written to files: for a controller on sqlite, to its store."""
        return int(psutil.Process(self.pid).io_counters().write_chars)

    def rss_kib(self) -> float:
        """Return its resident memory."""
        return _rss_kib(self.pid)

    def keeper_rss_kib(self) -> float:
        """Return an agent's keeper's."""
        return sum(map(_rss_kib, self._keepers()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Processor time of a program, of its keeper, and of the jobs that ended there with what it takes to start them."""

    own_s: float
    keeper_s: float
    jobs_s: float

    def since(self, before: Spent) -> Spent:
        """Return what was added."""
        return Spent(
            own_s=self.own_s - before.own_s,
            keeper_s=self.keeper_s - before.keeper_s,
            jobs_s=self.jobs_s - before.jobs_s,
        )


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast jobs went through, and what each cost in milliseconds of processor time."""

    jobs_per_s: float
    controller_ms: float
    agent_ms: float
    keeper_ms: float
    jobs_ms: float

    def cost(self) -> str:
        """Say the processor time, which busy neighbours change less than the rate."""
        keeper = (
            f", keeper {self.keeper_ms:.2f} ms, jobs and their starts {self.jobs_ms:.2f} ms" if self.jobs_ms else ""
        )
        return f"CPU a job: controller {self.controller_ms:.2f} ms, agent {self.agent_ms:.2f} ms{keeper}"


class Yard:
    """A controller that answers, its agents, and a client."""

    agent_flags: ClassVar[Sequence[str]] = ("--insecure-loopback-only",)

    def __init__(self, folder: Path, address: str, controller: Program) -> None:
        self.folder = folder
        self.address = address
        self.socket = f"unix:{folder / SOCKET_NAME}"
        self.controller = controller
        self.programs = [controller]
        self.standbys: list[Program] = []
        self.client = AsyncClient(address)
        self.channel = grpc.aio.insecure_channel(address)
        self.jobs: JobServiceAsyncStub = JobServiceStub(self.channel)

    async def close(self) -> None:
        """Let go of the connections, then stop the agents, then the controller."""
        await self.client.close()
        await self.channel.close()
        for program in (*self.standbys, *reversed(self.programs)):
            await asyncio.to_thread(program.stop)

    async def prepare(self) -> None:
        """Wait for the controller and create the queue."""

        async def answers() -> bool:
            try:
                await self.client.describe_job_queues([QUEUE])
            except UnavailableError:
                return False
            return True

        await self._until(answers, READY_LIMIT_S, "the controller answers")
        resources = compute_environment_pb2.ComputeResources(
            type=compute_environment_pb2.CAPACITY_TYPE_EC2,
            allocation_strategy=compute_environment_pb2.ALLOCATION_STRATEGY_BEST_FIT_PROGRESSIVE,
        )
        await self.client.create_compute_environment(QUEUE, compute_resources=resources)
        await self.client.create_job_queue(QUEUE, compute_environments=[QUEUE])

    async def add_agent(self, runtime: str, cpus: int, *arguments: str, name: str = "", address: str = "") -> Program:
        """Start an agent of one runtime, which finds the controller at *address*, and wait until it can get work."""
        name = name or f"agent-{len(self.programs)}"
        agent = Program(
            name,
            self.folder,
            "batchyard_agent",
            *("--controller", address or self.address, "--state-dir", str(self.folder / name), "--name", name),
            *("--runtimes", runtime, "--cpus", str(cpus), "--memory", "1024G", "--log-level", "warning"),
            *self.agent_flags,
            *arguments,
        )
        self.programs.append(agent)

        async def joined() -> bool:
            return name in [host.facts.name async for host in self.client.list_hosts()]

        await self._until(joined, READY_LIMIT_S, f"{name} has joined")
        return agent

    def add_standby(self, store_url: str) -> Program:
        """Start a controller that follows the store and waits to lead; its processor time is counted nowhere."""
        name = f"standby-{len(self.standbys)}"
        self.standbys.append(_controller(name, self.folder, hold_address(), store_url))
        return self.standbys[-1]

    async def submit(self, what: ContainerProperties, *, array_size: int = 0) -> str:
        """Submit one job as the SDK would, with a request id, and return its id."""
        return (await self.jobs.SubmitJob(submission(what, array_size=array_size))).job_id

    async def submit_many(self, what: ContainerProperties, count: int) -> list[str]:
        """Submit single jobs, one a call, by ``CALLERS`` callers at once."""
        left = iter(range(count))
        ids: list[str] = []

        async def call() -> None:
            for _ in left:
                ids.append(await self.submit(what))  # noqa: PERF401  # kept as they come, should one fail

        async with asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(call())
        return ids

    async def run(self, submit: Callable[[], Awaitable[object]], count: int) -> Pace:
        """Let *submit* bring in *count* jobs or children and wait until they have succeeded."""
        before = await self.succeeded()
        before_s = [program.spent() for program in self.programs]
        began = time.perf_counter()
        await submit()
        await self.until_succeeded(before + count)
        seconds = time.perf_counter() - began
        used = [program.spent().since(then) for program, then in zip(self.programs, before_s, strict=True)]
        a_job = 1000 / count
        return Pace(
            count / seconds,
            a_job * used[0].own_s,
            a_job * sum(spent.own_s for spent in used[1:]),
            a_job * sum(spent.keeper_s for spent in used[1:]),
            a_job * sum(spent.jobs_s for spent in used[1:]),
        )

    async def succeeded(self) -> int:
        """
        Return how many jobs and children have succeeded so far.

        Raises:
            BenchError: one has failed, which no job of a benchmark should.
        """
        counts = (await self.client.describe_job_queues([QUEUE]))[0].job_counts
        if counts["FAILED"]:
            raise BenchError(f"{counts['FAILED']} jobs FAILED: {await self._first_failure()}")
        return counts["SUCCEEDED"]

    async def until_succeeded(self, total: int) -> None:
        """Wait until *total* jobs and children have succeeded in all."""

        async def done() -> bool:
            return await self.succeeded() >= total

        await self._until(done, DONE_LIMIT_S, f"{total} jobs have succeeded")

    async def _first_failure(self) -> str:
        async for job in self.client.list_jobs(queue=QUEUE):
            failed_id = job.id
            if job.array.size:
                children = self.client.list_jobs(array_job_id=job.id, states=["FAILED"])
                failed_id = (await anext(children, job)).id
            found = await self.client.describe_job(failed_id)
            if job_state(found) is JobState.FAILED:
                return (found.attempts[-1].reason if found.attempts else "") or found.status_reason
        return "none of those that are left"

    async def _until(self, check: Callable[[], Awaitable[bool]], limit_s: float, what: str) -> None:
        give_up_at = time.monotonic() + limit_s
        while not await check():
            for program in self.programs:
                program.check()
            if time.monotonic() > give_up_at:
                raise BenchError(f"waited {limit_s:g} s in vain until {what}")
            await asyncio.sleep(POLL_S)


def _controller(name: str, folder: Path, address: str, store_url: str, *arguments: str) -> Program:
    """Start a controller; the first one has the socket that a yard's clients look for."""
    socket_name = SOCKET_NAME if name == "controller" else f"{name}.sock"
    return Program(
        name,
        folder,
        "batchyard_controller",
        *("--listen", address, "--insecure-loopback-only", "--socket", str(folder / socket_name)),
        *("--store", store_url, "--log-level", "warning"),
        *arguments,
    )


@contextlib.asynccontextmanager
async def open_yard(store_url: str = "", *arguments: str, parent: Path | None = None) -> AsyncIterator[Yard]:
    """
    Start a controller on *store_url*, by default a sqlite file of its own, and stop everything in the end.

    All of it lies in a folder in *parent*, by default where temporary files are.
    """
    with temporary_folder(parent) as folder:
        address = hold_address()
        controller = _controller("controller", folder, address, store_url or sqlite_url(folder), *arguments)
        yard = Yard(folder, address, controller)
        try:
            await yard.prepare()
            yield yard
        finally:
            await yard.close()


@contextlib.contextmanager
def open_store_server(kind: str) -> Iterator[str]:
    """Yield the URL of an empty store of *kind*, ``sqlite`` or ``etcd``; another path behind it is another store."""
    with temporary_folder() as folder:
        if kind == "sqlite":
            yield sqlite_url(folder)
            return
        server = EtcdServer(folder / "etcd")
        server.start()
        try:
            yield server.url
        finally:
            server.stop()


@contextlib.contextmanager
def temporary_folder(parent: Path | None = None) -> Iterator[Path]:
    """Yield a folder that is gone afterwards; jobs of any user may have folders below."""
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=parent, ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


def _cpu_times(process: psutil.Process) -> float:
    """Return the processor time of a process and its children, if it has not just ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return float(sum(process.cpu_times()[:4]))
    return 0.0


def _rss_kib(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss) / 1024


def sqlite_url(folder: Path) -> str:
    """Return the URL of a store in *folder*."""
    return f"sqlite://{folder / 'controller.sqlite'}"


def submission(what: ContainerProperties, *, array_size: int = 0) -> job_pb2.SubmitJobRequest:
    """Return a submission with a request id of its own, as the SDK sends it."""
    return job_pb2.SubmitJobRequest(
        name="bench", queue=QUEUE, container=what, array_size=array_size, request_id=str(uuid.uuid4())
    )


def small_job(image: str, *command: str, vcpus: float = 1, memory: int = 16) -> ContainerProperties:
    """Describe a job that asks for little."""
    return container(command or ("true",), image=image, vcpus=vcpus, memory=memory)


async def in_own_process(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run *work* in a fresh process, so that neither side's threads and memory disturb the other."""
    assert not kwargs, "only positional arguments travel"
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return await asyncio.get_running_loop().run_in_executor(pool, work, *args)


def timed(calls: Sequence[Callable[[], object]]) -> list[float]:
    """Make each call and return the seconds each took."""
    seconds = []
    for call in calls:
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return seconds
