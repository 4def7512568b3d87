"""What hosts that have joined say of themselves: what counts at once, and what waits for an operator."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.yard import Yard, container, facts

from batchyard.ids import HostId
from batchyard_controller.core.events import HostHeard, HostJoined
from batchyard_controller.core.model.claims import awaited
from batchyard_controller.core.model.hosts import GpuFacts, HostFacts, HostRecord
from batchyard_controller.core.requests.hosts import approve_host
from batchyard_controller.core.views.waiting import refusals

ALPHA = HostId("alpha")
BEFORE = facts("alpha", 4000, 4096, gpus=1, labels=(("agent/rack", "1"), ("pool", "open")))


@pytest.fixture
def joined() -> Yard:
    yard = Yard()
    tell(yard, BEFORE)
    return yard


def tell(yard: Yard, told: HostFacts, by: HostId | None = ALPHA) -> HostRecord:
    yard.apply(HostJoined(host_id=ALPHA, facts=told, session=1, by=by))
    return yard.world.hosts[ALPHA].record


def with_capacity(**amounts: int) -> HostFacts:
    return replace(BEFORE, capacity=replace(BEFORE.capacity, **amounts))


def test_what_it_joins_with_counts(joined: Yard) -> None:
    record = joined.world.hosts[ALPHA].record
    assert (record.facts, record.awaiting, awaited(record)) == (BEFORE, None, ())


@pytest.mark.parametrize(
    "told",
    [
        with_capacity(cpu_millis=5000),
        with_capacity(memory_mib=5120),
        with_capacity(cpu_millis=1000, memory_mib=100),
        with_capacity(disk_mib=1 << 30),
        replace(BEFORE, labels=(("agent/rack", "2"), ("agent/row", "9"), ("pool", "open"))),
        replace(BEFORE, labels=()),
        replace(BEFORE, gpus=(GpuFacts(uuid="GPU-other"),)),
        replace(BEFORE, gpus=()),
        replace(BEFORE, boot_id="another", agent_version="2", faults=("no engine",), price_per_hour=1.0),
    ],
)
def test_what_counts_at_once(joined: Yard, told: HostFacts) -> None:
    record = tell(joined, told)
    assert (record.facts, record.awaiting) == (told, None)


@pytest.mark.parametrize(
    ("told", "counts", "text"),
    [
        (with_capacity(cpu_millis=5001), BEFORE, "5.001 vCPUs, not 4"),
        (with_capacity(memory_mib=5121), BEFORE, "5121 MiB of memory, not 4096"),
        (
            replace(BEFORE, labels=(("pool", "secret"),)),
            replace(BEFORE, labels=(("pool", "open"),)),
            "label pool=secret",
        ),
        (
            replace(BEFORE, labels=(("agents/x", "1"), ("pool", "open"))),
            replace(BEFORE, labels=(("pool", "open"),)),
            "label agents/x=1",
        ),
        (replace(BEFORE, host_type="p5.48xlarge"), BEFORE, "type p5.48xlarge, not workstation"),
        (replace(BEFORE, platforms=("EC2", "FARGATE")), BEFORE, "platforms EC2, FARGATE"),
        (
            replace(BEFORE, gpus=(GpuFacts(uuid="GPU-new"), *BEFORE.gpus)),
            BEFORE,
            "2 GPUs, not 1",
        ),
    ],
)
def test_what_waits_is_as_it_was_until_it_is_approved(
    joined: Yard, told: HostFacts, counts: HostFacts, text: str
) -> None:
    record = tell(joined, told)
    assert (record.facts, record.awaiting, awaited(record)) == (counts, told, (text,))
    joined.apply(HostHeard(host_id=ALPHA, session=1))
    assert joined.world.hosts[ALPHA].record.awaiting == told
    event, what = approve_host(joined.world, "alpha")
    assert event is not None
    joined.apply(event)
    record = joined.world.hosts[ALPHA].record
    assert (record.facts, record.awaiting, what) == (told, None, (text,))
    assert approve_host(joined.world, "alpha") == (None, ())
    assert tell(joined, told).awaiting is None


def test_it_does_not_grow_in_small_steps(joined: Yard) -> None:
    """What it joined with is the measure, not what it said last; what it gives back it may have again."""
    for cpu_millis in (5000, 1000, 4000, 5000):
        assert tell(joined, with_capacity(cpu_millis=cpu_millis)).awaiting is None
    assert tell(joined, with_capacity(cpu_millis=6250)).facts.capacity.cpu_millis == 4000


def test_a_heartbeat_is_judged_like_a_greeting(joined: Yard) -> None:
    joined.apply(HostHeard(host_id=ALPHA, session=1, facts=with_capacity(cpu_millis=64_000)))
    assert joined.world.hosts[ALPHA].record.facts.capacity.cpu_millis == 4000


def test_on_the_controllers_own_machine_nothing_waits(joined: Yard) -> None:
    """Who is there could change the store; and what they say is the measure, should the host join again."""
    told = with_capacity(cpu_millis=64_000)
    assert tell(joined, told, by=None).facts == told
    assert tell(joined, told).awaiting is None


def test_explanations_say_what_waits(joined: Yard) -> None:
    joined.environment()
    joined.queue()
    job = joined.submit(container=container(8000))
    assert not [r for r in refusals(joined.world, joined.unit(job.id)) if r.kind == "approval"]
    tell(joined, with_capacity(cpu_millis=64_000))
    (told,) = [r for r in refusals(joined.world, joined.unit(job.id)) if r.kind == "approval"]
    assert told.message == (
        "host alpha says that it has 64 vCPUs, not 4: that counts once an operator approves it "
        "(batchyard host approve alpha)"
    )
