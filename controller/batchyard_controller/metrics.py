"""
Metrics: what an operator watches, in Prometheus' terms.

Numbers are set on the loop and read by the thread that serves them; what is read of the
whole yard is one value that is replaced, so that no scrape sees half of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from batchyard_controller.core.model.room import Room
from batchyard_controller.core.views.promise_keeping import Outcome, Settled
from batchyard_controller.core.views.readings import Reading

_WAITS_S = (0.1, 1, 5, 15, 60, 300, 900, 3_600, 4 * 3_600, 24 * 3_600, 7 * 24 * 3_600)
_LATE_S = (-3_600, -900, -300, -60, -5, 5, 60, 300, 900, 3_600, 4 * 3_600)
_QUEUES_MAX = 200
"""Queues that have a histogram of their own."""
_OTHERS = "others"
LOOK_EVERY_S = 0.05

_OF_YARD = {
    "waiting": (GaugeMetricFamily, "Jobs and children that wait for a host", ("queue", "reason")),
    "oldest_wait_seconds": (GaugeMetricFamily, "Since the oldest that waits was submitted", ("queue",)),
    "environment_capacity": (GaugeMetricFamily, "What its hosts have", ("environment", "resource")),
    "environment_allocated": (GaugeMetricFamily, "What is taken of them", ("environment", "resource")),
    "launches": (GaugeMetricFamily, "Launched hosts", ("environment", "state")),
    "hosts_being_reclaimed": (GaugeMetricFamily, "Hosts that are to be taken away", ()),
    "hosts_held_by_brake": (GaugeMetricFamily, "Silent hosts that are waited for, as many fell silent at once", ()),
    "reclaimed_attempts": (CounterMetricFamily, "Attempts that ended with their hosts", ("environment",)),
    "attempts": (CounterMetricFamily, "Attempts that have ended", ("queue", "outcome")),
    "attempt_seconds": (CounterMetricFamily, "How long attempts ran that have ended", ("queue",)),
    "asked_seconds": (CounterMetricFamily, "What those held, times how long they ran", ("queue", "resource")),
    "used_seconds": (CounterMetricFamily, "What those used, in the same units", ("queue", "resource")),
}
"""Metrics that are read of the yard, by name: kind, help, labels."""


class _YardCollector(Collector):
    """Tells the last readings."""

    def __init__(self) -> None:
        self.readings: tuple[Reading, ...] = ()

    def collect(self) -> Iterator[Metric]:
        """Yield each metric with all that was read of it."""
        readings = self.readings
        for name, (kind, text, labels) in _OF_YARD.items():
            family = kind(f"batchyard_{name}", text, labels=labels)
            for reading in readings:
                if reading.metric == name:
                    family.add_metric(reading.labels, reading.value)
            yield family


class Metrics:
    """The controller's own registry, so that two in one process do not clash."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._commits = Histogram("batchyard_commit_seconds", "Duration of one group commit", registry=self.registry)
        self._records = Counter("batchyard_commit_groups", "Groups of records written", registry=self.registry)
        self._plans = Histogram("batchyard_plan_seconds", "Duration of one placement pass", registry=self.registry)
        self._waits = Histogram(
            "batchyard_wait_seconds",
            "From submission, or the end of the last try, to the claim of a host",
            ["queue"],
            registry=self.registry,
            buckets=_WAITS_S,
        )
        self._queues: dict[str, Histogram] = {}
        self._promises = Counter(
            "batchyard_reservations",
            "Reservations of hosts, by what became of them",
            ["outcome"],
            registry=self.registry,
        )
        self._late = Histogram(
            "batchyard_reservation_late_seconds",
            "How much later than promised a host was got; less than 0 for sooner",
            registry=self.registry,
            buckets=_LATE_S,
        )
        self._followed = Gauge(
            "batchyard_standby_records",
            "Records that a controller has read and that waits to lead; 0 where it leads, or has still to read them",
            registry=self.registry,
        )
        self._room = {
            name: Gauge(f"batchyard_store_{name}_bytes", text, registry=self.registry)
            for name, text in (
                ("size", "Size of the store's file; of several members' the largest"),
                ("used", "Of that, what is not free for more"),
                ("quota", "Size that it can reach"),
            )
        }
        self._fault = Gauge("batchyard_store_fault", "1 while somebody has to see to the store", registry=self.registry)
        self._stood = Gauge(
            "batchyard_loop_blocked_max_seconds",
            "Longest time for which the event loop stood still since the start",
            registry=self.registry,
        )
        self._stood_max_s = 0.0
        self._yard = _YardCollector()
        self.registry.register(self._yard)

    @contextmanager
    def committing(self, groups: int) -> Iterator[None]:
        """Time a commit."""
        with self._commits.time():
            yield
        self._records.inc(groups)

    def note_followed(self, records: int) -> None:
        """Keep how much a standby knows."""
        self._followed.set(records)

    def note_room(self, room: Room) -> None:
        """Keep how much the store holds."""
        self._room["size"].set(room.size_bytes)
        self._room["used"].set(room.used_bytes)
        self._room["quota"].set(room.quota_bytes)
        self._fault.set(bool(room.fault))

    async def watch_loop(self) -> None:
        """Measure, for ever, how long the event loop stands still."""
        loop = asyncio.get_running_loop()
        while True:
            wakes_at = loop.time() + LOOK_EVERY_S
            await asyncio.sleep(LOOK_EVERY_S)
            self._stood_max_s = max(self._stood_max_s, loop.time() - wakes_at)
            self._stood.set(self._stood_max_s)

    def planning(self) -> AbstractContextManager[object]:
        """Time a placement pass."""
        return self._plans.time()

    def note_wait(self, queue: str, waited_ms: int) -> None:
        """Count how long one had waited that got a host."""
        waits = self._queues.get(queue)
        if waits is None:
            name = queue if len(self._queues) < _QUEUES_MAX else _OTHERS
            waits = self._queues[queue] = self._waits.labels(name)
        waits.observe(waited_ms / 1000)

    def note_settled(self, settled: Iterable[Settled]) -> None:
        """Count what became of reservations."""
        for each in settled:
            self._promises.labels(each.outcome).inc()
            if each.outcome in (Outcome.KEPT, Outcome.MISSED):
                self._late.observe(each.late_ms / 1000)

    def note_readings(self, readings: Iterable[Reading]) -> None:
        """Keep what was read of the yard, until it is read again."""
        self._yard.readings = tuple(readings)
