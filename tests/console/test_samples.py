"""The ring of figures."""

from __future__ import annotations

import tracemalloc

import pytest

from batchyard.v1.host_pb2 import HOST_STATE_READY, HOST_STATE_UNREACHABLE, Gpu, Host, HostFacts, HostState, HostUsage
from batchyard.v1.job_queue_pb2 import JobQueue
from batchyard.v1.resources_pb2 import Resources
from batchyard_gateway.console.figures.samples import DAY, HOUR, Ring, Samples, per_minute


def host(i: int = 0, state: HostState.ValueType = HOST_STATE_READY, gpus: int = 0, cpu_percent: int = 50) -> Host:
    usage = HostUsage(cpu_percent=cpu_percent, memory_used_mib=256)
    slots = [Gpu(uuid=f"g{n}") for n in range(gpus)]
    capacity = Resources(cpu_millis=4000, memory_mib=1024)
    return Host(
        id=f"h{i}", state=state, facts=HostFacts(name=f"h{i}", capacity=capacity, gpus=slots), allocated=Resources(cpu_millis=1000),
        usage=usage,
    )  # fmt: skip


def queue(name: str = "q", **counts: int) -> JobQueue:
    return JobQueue(name=name, job_counts=counts)


def test_a_ring_forgets_the_oldest() -> None:
    ring = Ring(10, 3, "f", -1)
    for i in range(5):
        ring.advance(i * 10)
        ring.put("a", [i, -i])
    assert ring.read("a") == [2, 3, 4]
    assert ring.read("a", 1) == [-2, -3, -4]
    assert ring.read("a", 2) == [None] * 3


def test_what_was_not_heard_is_a_gap() -> None:
    ring = Ring(10, 5, "f", -1)
    for at_s in (100, 130):
        ring.advance(at_s)
        ring.put("a", [0])
    assert ring.read("a") == [None, 0, None, None, 0]
    ring.advance(1_000)
    assert ring.read("a") == [None] * 5
    ring.forget_silent()
    assert ring.read("a") == [None] * 5


def test_the_last_of_a_step_is_kept() -> None:
    ring = Ring(120, 2, "f", -1)
    for at_s, value in ((0, 1), (110, 2)):
        ring.advance(at_s)
        ring.put("a", [value])
    assert ring.read("a") == [None, 2]


def test_sums_and_single_figures_are_kept_for_both_periods() -> None:
    samples = Samples()
    queues = [queue("a", RUNNABLE=2, PENDING=1, FAILED=4), queue("b", RUNNABLE=5)]
    samples.take(1000, queues, [host(1), host(2, HOST_STATE_UNREACHABLE)])
    for period, now_s in ((HOUR, 1010), (DAY, 1120)):
        assert samples.of_yard(period, "RUNNABLE", now_s)[-1] == 7
        assert samples.of_yard(period, "held cpu_millis", now_s)[-1] == 1000
        assert samples.of_yard(period, "there cpu_millis", now_s)[-1] == 4000
        assert samples.of_yard(period, "used cpu_millis", now_s)[-1] == 2000
        assert samples.of_queue(period, "a", "waiting", now_s)[-1] == 3
        assert samples.of_queue(period, "a", "failed", now_s)[-1] == 4
        assert samples.of_queue(period, "c", "failed", now_s)[-1] is None
    assert samples.of_host("h1", 0, 1010)[-1] == 50
    assert samples.of_host("h1", 1, 1010)[-1] == 25
    assert samples.of_host("h2", 0, 1010)[-1] is None


def test_a_controller_away_leaves_a_gap() -> None:
    samples = Samples()
    samples.take(1000, [queue(RUNNING=1)], [])
    samples.take(1030, [queue(RUNNING=2)], [])
    assert samples.of_yard(HOUR, "RUNNING", 1050)[-5:] == [1, None, None, 2, None]


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ([1, 2, 4], [None, 6, 12]),
        ([1, None, 4, 5], [None, None, None, 6]),
        ([9, 3], [None, 0]),  # forgotten
        ([], []),
    ],
)
def test_growth_a_minute(figures: list[float | None], expected: list[float | None]) -> None:
    assert per_minute(figures, HOUR) == expected


def test_50_queues_and_1000_hosts_take_less_than_5_mb() -> None:
    queues = [queue(f"q{i}", RUNNABLE=i) for i in range(50)]
    hosts = [host(i, gpus=8) for i in range(1000)]
    tracemalloc.start()
    samples = Samples()
    for i in range(3):
        samples.take(i * 10, queues, hosts)
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    print(f"samples of 50 queues and 1,000 hosts of 8 GPUs: {size / 1e6:.1f} MB")
    assert size < 5e6
