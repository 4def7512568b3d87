"""
Samples: what the yard was doing of late, as far as this gateway saw.

Every 10 s the jobs of each queue by state, and what is held, there and used of all hosts, are
read and kept in rings of fixed length: an hour at 10 s, and a day at two minutes. In memory
alone, since the gateway's start; beyond that is Prometheus. Law: a gap stays a gap, as when
the controller was away.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from batchyard.client import AsyncClient
from batchyard.errors import BatchyardError
from batchyard.states import JobState
from batchyard.v1.host_pb2 import HOST_STATE_UNREACHABLE, Host
from batchyard.v1.job_queue_pb2 import JobQueue

STEP_S = 10
HOUR, DAY = "1h", "24h"
PERIODS = {HOUR: (STEP_S, 3_600 // STEP_S), DAY: (120, 86_400 // 120)}
"""Seconds between two figures, and how many are kept."""

QUEUES_MAX = 200
"""Queues that are kept singly, the first ones by name: 13 KB each. All of them count in the yard's sums."""

HOSTS_MAX = 1_000
"""Hosts that are kept singly, for an hour: 0.4 KB a figure. All of them count in the yard's sums."""

GPUS_MAX = 8
"""GPUs of a host that are kept singly."""

RESOURCES = ("cpu_millis", "memory_mib", "gpu_millis")
OF_YARD = (
    *JobState,
    *(f"{what} {resource}" for what in ("held", "there") for resource in RESOURCES),
    "used cpu_millis",
    "used memory_mib",
)
"""Figures of the yard: jobs by state; what is held, there and in use of all hosts that are reachable."""

OF_QUEUE = ("waiting", "succeeded", "failed")
_GAP, _PERCENT_GAP = -1.0, 255

Figures = Sequence[float | None]
"""One figure at each step, the oldest first; None where nothing was heard."""

log = structlog.get_logger()


class Ring:
    """
    The last rows of figures of some things, a place a step.

    Args:
        step_s: Seconds between two places.
        length: Places.
        typecode: Of ``array``.
        gap: What stands where nothing was heard.
    """

    def __init__(self, step_s: int, length: int, typecode: str, gap: float) -> None:
        self.step_s = step_s
        self.length = length
        self._typecode = typecode
        self._gap = gap
        self._newest = 0
        self._rows: dict[str, array[float]] = {}

    def advance(self, now_s: float) -> None:
        """Make the place of now the newest, with gaps from the last one to it."""
        step = int(now_s // self.step_s)
        for name, rows in self._rows.items():
            width = len(rows) // self.length
            gaps = array(self._typecode, [self._gap]) * width
            for i in range(max(self._newest, step - self.length) + 1, step + 1):
                at = i % self.length * width
                self._rows[name][at : at + width] = gaps
        self._newest = max(step, self._newest)

    def put(self, name: str, figures: Sequence[float]) -> None:
        """Keep a row at the newest place, in the stead of one that is there; of another width it is the first one."""
        rows = self._rows.get(name)
        if rows is None or len(rows) != self.length * len(figures):
            rows = self._rows[name] = array(self._typecode, [self._gap]) * (self.length * len(figures))
        at = self._newest % self.length * len(figures)
        rows[at : at + len(figures)] = array(self._typecode, figures)

    def read(self, name: str, i: int = 0) -> Figures:
        """Return the figure at *i* of all rows; nothing but gaps where there is none."""
        rows = self._rows.get(name, array(self._typecode))
        width = len(rows) // self.length
        if i >= width:
            return [None] * self.length
        oldest = (self._newest + 1) % self.length
        placed = [*rows[oldest * width + i :: width], *rows[i : oldest * width : width]]
        return [None if value == self._gap else value for value in placed]

    def forget_silent(self) -> None:
        """Drop what is nothing but gaps."""
        for name, rows in list(self._rows.items()):
            if rows.count(self._gap) == len(rows):
                del self._rows[name]


class Samples:
    """The rings; ``since_s`` is when the first sample was taken, by the clock that no hand sets, None before it."""

    def __init__(self) -> None:
        self.since_s: float | None = None
        self._yard = {name: Ring(*period, "f", _GAP) for name, period in PERIODS.items()}
        self._queues = {name: Ring(*period, "f", _GAP) for name, period in PERIODS.items()}
        self._hosts = Ring(*PERIODS[HOUR], "B", _PERCENT_GAP)
        self._taken = 0

    def take(self, now_s: float, queues: Sequence[JobQueue], hosts: Sequence[Host]) -> None:
        """Keep what was read now."""
        self.since_s = now_s if self.since_s is None else self.since_s
        self._taken += 1
        for ring in (*self._yard.values(), *self._queues.values(), self._hosts):
            ring.advance(now_s)
            if self._taken % ring.length == 0:
                ring.forget_silent()
        sums = _sums(queues, hosts)
        for period in PERIODS:
            self._yard[period].put("", [sums[name] for name in OF_YARD])
            for queue in queues[:QUEUES_MAX]:
                self._queues[period].put(queue.name, _of_queue(queue))
        for host in hosts[:HOSTS_MAX]:
            if host.state != HOST_STATE_UNREACHABLE:
                self._hosts.put(host.id, _of_host(host))

    def of_yard(self, period: str, name: str, now_s: float) -> Figures:
        """Return a figure of the yard, one of ``OF_YARD``."""
        return _read(self._yard[period], "", OF_YARD.index(name), now_s)

    def of_queue(self, period: str, queue: str, name: str, now_s: float) -> Figures:
        """Return jobs of a queue by one of ``OF_QUEUE``."""
        return _read(self._queues[period], queue, OF_QUEUE.index(name), now_s)

    def of_host(self, host_id: str, i: int, now_s: float) -> Figures:
        """Return per cents of a host in the last hour: of its CPUs (0), its memory (1), its GPUs in their order."""
        return _read(self._hosts, host_id, i, now_s)


@dataclass(frozen=True, slots=True)
class Seen:
    """The samples as one request sees them, at its own moment."""

    samples: Samples
    now_s: float

    def of_yard(self, period: str, name: str) -> Figures:
        """Return a figure of the yard, one of ``OF_YARD``."""
        return self.samples.of_yard(period, name, self.now_s)

    def of_queue(self, period: str, queue: str, name: str) -> Figures:
        """Return jobs of a queue by one of ``OF_QUEUE``."""
        return self.samples.of_queue(period, queue, name, self.now_s)

    def of_host(self, host_id: str, i: int) -> Figures:
        """Return per cents of a host in the last hour: of its CPUs (0), its memory (1), its GPUs in their order."""
        return self.samples.of_host(host_id, i, self.now_s)

    def since_ms(self, now_ms: int) -> int:
        """Return when the first sample was taken, by the clock that shows *now_ms* now; 0 before it."""
        since_s = self.samples.since_s
        return 0 if since_s is None else now_ms - round((self.now_s - since_s) * 1000)


def _read(ring: Ring, name: str, i: int, now_s: float) -> Figures:
    # The last place is not over yet, and may be empty still: it is left to the next reading.
    ring.advance(now_s)
    return ring.read(name, i)[:-1]


def per_minute(figures: Figures, period: str) -> Figures:
    """
    Return how much a sum grew, a minute, from each figure to the next; None beside a gap.

    Jobs that ended are forgotten after a while, so a sum may fall: that is no growth (0).
    """
    step_s = PERIODS[period][0]
    pairs = zip((None, *figures), figures, strict=False)
    return [
        None if before is None or after is None else max(0.0, after - before) * 60 / step_s for before, after in pairs
    ]


async def sample(client: AsyncClient, samples: Samples, read_s: Callable[[], float]) -> None:
    """
    Take a sample every 10 s, for ever; where the controller does not answer there is none.

    Args:
        client: Connected to the controller.
        samples: Where they are kept.
        read_s: The clock that no hand sets.
    """
    while True:
        try:
            queues = [queue async for queue in client.list_job_queues(page_size=1000)]
            hosts = [host async for host in client.list_hosts(page_size=1000)]
            samples.take(read_s(), queues, hosts)
        except BatchyardError as err:
            log.info("no sample was taken", error=str(err))
        await asyncio.sleep(STEP_S - read_s() % STEP_S)  # one in each step


def _sums(queues: Sequence[JobQueue], hosts: Sequence[Host]) -> dict[str, float]:
    """Return the figures of ``OF_YARD`` by name."""
    sums: dict[str, float] = {state: sum(queue.job_counts.get(state, 0) for queue in queues) for state in JobState}
    reachable = [host for host in hosts if host.state != HOST_STATE_UNREACHABLE]
    for name in RESOURCES:
        sums[f"held {name}"] = sum(getattr(host.allocated, name) for host in reachable)
        sums[f"there {name}"] = sum(getattr(host.facts.capacity, name) for host in reachable)
    sums["used cpu_millis"] = sum(h.usage.cpu_percent * h.facts.capacity.cpu_millis / 100 for h in reachable)
    sums["used memory_mib"] = sum(host.usage.memory_used_mib for host in reachable)
    return sums


def _of_queue(queue: JobQueue) -> list[float]:
    """Return the figures of ``OF_QUEUE``."""
    counts = queue.job_counts
    waiting = sum(counts.get(state, 0) for state in JobState if state.is_waiting)
    return [waiting, counts.get(JobState.SUCCEEDED, 0), counts.get(JobState.FAILED, 0)]


def _of_host(host: Host) -> list[int]:
    """Return a host's per cents; those of a GPU that says nothing are 0."""
    busy = {gpu.uuid: gpu.utilization_percent for gpu in host.usage.gpus}
    memory = 100 * host.usage.memory_used_mib // max(1, host.facts.capacity.memory_mib)
    gpus = [busy.get(gpu.uuid, gpu.utilization_percent) for gpu in host.facts.gpus[:GPUS_MAX]]
    return [min(max(percent, 0), 100) for percent in (host.usage.cpu_percent, memory, *gpus)]
