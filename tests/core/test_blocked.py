"""Blocked queues: what the first in line is told, and how long it may stand there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.yard import Yard, container, facts, task

from batchyard.ids import HostId
from batchyard.resources import Resources
from batchyard.states import JobState
from batchyard.tasks import Container, MountPoint, Task, Volume
from batchyard_controller.core.events import HostHeard, HostJoined, HostLeft, HostMarked, QueueChanged, Ticked
from batchyard_controller.core.model.endings import Ending, Trigger
from batchyard_controller.core.model.hosts import GpuFacts
from batchyard_controller.core.model.settings import CapacityType, ComputeResources, ResourceState, StateTimeLimit
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement.refusals import LIMITED_BLOCKS, Block

FULL = (
    "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - "
    "Service cannot fulfill the capacity requested for instance type [optimal]"
)
NEVER = (
    "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - The job resource requirement (vCPU/memory/GPU) is higher than "
    "that can be met by the CE(s) attached to the job queue."
)
BOUND = (
    "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE - "
    "CE(s) associated with the job queue cannot meet the CPU requirement of the job."
)
NO_HOST = (
    "MISCONFIGURATION:EC2_INSTANCE_CONFIGURATION_UNSUPPORTED - "
    "Your compute environment associated with this job queue has an unsupported instance type configuration."
)
DISABLED = "ACTION_REQUIRED - CE(s) associated with the job queue are invalid."
UNDETERMINED = "UNDETERMINED - Batch job is blocked, root cause is undetermined."


def told(yard: Yard, job_id: str) -> str:
    """Return what one who waits is told."""
    return yard.reason(job_id) if yard.state(job_id) is JobState.RUNNABLE else ""


def plan_one(yard: Yard, wanted: Container | Task) -> str:
    """Submit one job, plan, and return what it is told."""
    job = yard.submit(container=wanted)
    yard.plan()
    assert job.state is JobState.RUNNABLE
    return told(yard, job.id)


# What it is told ------------------------------------------------------------


def test_only_the_first_in_line_is_told(yard: Yard):
    """One unit a queue, whatever its shape; who comes next is told once the first has gone."""
    yard.submit(container=container(cpu=4000))
    waiting = [yard.submit(container=container(cpu=cpu)) for cpu in (4000, 3000, 4000)]
    yard.plan()
    assert [told(yard, job.id) for job in waiting] == [FULL, "", ""]
    yard.cancel(waiting[0].id)
    yard.plan()
    assert [told(yard, job.id) for job in waiting] == ["", FULL, ""]


def test_of_an_array_the_first_child_that_waits_is_told(yard: Yard):
    """Children that were placed or cancelled stand in no line."""
    array = yard.submit(array_size=9)
    yard.plan()
    yard.cancel(f"{array.id}:4")
    assert [told(yard, f"{array.id}:{i}") for i in (3, 4, 5, 6)] == ["", "", FULL, ""]


def test_nothing_is_told_before_a_plan(yard: Yard):
    """A job that nobody has tried to place yet is not blocked."""
    assert told(yard, yard.submit().id) == ""


def test_more_than_any_host_could_ever_have(yard: Yard):
    """Tools kill such a job on sight, so it is said only where it can never run."""
    assert plan_one(yard, container(cpu=5000)) == NEVER


def test_amounts_that_no_single_host_has_together(yard: Yard):
    """CPU on one host and memory on another are no room for a job that needs both."""
    yard.host("memory", cpu=1000, memory=65_536)
    assert plan_one(yard, container(cpu=4000, memory=65_536)) == NEVER


@pytest.mark.parametrize("away", ["left", "cordoned", "away for long"])
def test_a_host_that_fits_and_is_away_may_come_back(yard: Yard, away: str):
    """As long as a host that fits is registered the job only waits for capacity."""
    yard.host("big", cpu=64_000)
    if away == "cordoned":
        yard.apply(HostMarked(host_id=HostId("big"), cordoned=True, draining=False))
    else:
        yard.apply(HostLeft(host_id=HostId("big"), session=1))
    if away == "away for long":
        yard.now = Instant(wall_ms=0, boot_ms=10**9)
        yard.apply(Ticked())
    assert plan_one(yard, container(cpu=64_000)) == FULL


def test_a_faulty_gpu_may_be_mended(yard: Yard):
    """A GPU with a fault gets no work, but is no proof that the job can never run."""
    gpus = (GpuFacts(uuid="a"), GpuFacts(uuid="b", fault="XID 79"))
    yard.apply(HostJoined(host_id=HostId("h"), facts=replace(facts("h"), gpus=gpus), session=1))
    assert plan_one(yard, container(gpu=2000)) == FULL


def test_more_gpus_than_any_host_has(yard: Yard):
    """Sound or not."""
    yard.host("h", gpus=2)
    assert plan_one(yard, container(gpu=3000)) == NEVER


def test_more_vcpus_than_every_environment_allows(yard: Yard):
    """One environment that allows more is enough to wait."""
    yard.host("big", cpu=64_000)
    yard.environment("ce", compute_resources=ComputeResources(max_vcpus=2))
    yard.environment("other", compute_resources=ComputeResources(max_vcpus=3))
    yard.queue("q", "ce", "other")
    assert plan_one(yard, container(cpu=3500)) == BOUND


def test_an_environment_at_its_bound_is_full(yard: Yard):
    """What others use now they give back."""
    yard.environment("ce", compute_resources=ComputeResources(max_vcpus=2, instance_types=("optimal", "m5")))
    yard.submit(container=container(cpu=2000))
    assert plan_one(yard, container(cpu=1000)) == FULL.replace("optimal", "optimal, m5")


def test_no_host_is_selected(yard: Yard):
    """Hosts there are, but none of the environment's types."""
    yard.environment("ce", compute_resources=ComputeResources(instance_types=("p5",)))
    assert plan_one(yard, container()) == NO_HOST


def test_no_host_at_all():
    """An empty yard proves nothing about a job."""
    yard = Yard()
    yard.environment()
    yard.queue()
    assert plan_one(yard, container()) == FULL


def test_no_host_offers_the_runtime():
    """No registered host could ever take it, so a queue may bound the time that it blocks."""
    yard = Yard()
    yard.environment()
    yard.queue()
    yard.host("h1", runtimes=("process",))
    assert plan_one(yard, container(image="busybox")) == NEVER


def test_a_runtime_that_is_away_may_come_back():
    """A host whose engine does not answer offers less for a while, and says so."""
    yard = Yard()
    yard.environment()
    yard.queue()
    yard.host("h1", runtimes=("process",), faults=("the Docker Engine does not answer",))
    assert plan_one(yard, container(image="busybox")) == UNDETERMINED


@pytest.mark.parametrize("away", [True, False])
def test_what_no_host_offers_is_not_hoped_for_of_a_fault_that_has_nothing_to_do_with_it(away: bool):
    """Of a host that went with a full disk, or whose runtime works and allows no such volume."""
    yard = Yard()
    yard.environment()
    yard.queue()
    runtimes = ("process",) if away else ("process", "docker")
    yard.host("h1", runtimes=runtimes, faults=("less than 256 MiB are free on a disk of the agent's",))
    yard.host("h2", runtimes=("process",))
    if away:
        yard.apply(HostLeft(host_id=HostId("h1"), session=1))
    mounts = () if away else (MountPoint(source_volume="v", container_path="/v"),)
    what = replace(container(image="busybox"), mount_points=mounts)
    assert plan_one(yard, task(what, Volume(name="v", host_source_path="/data"))) == NEVER


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"purchase_option": "spot"}, "it is spot"),
        ({"host_type": "p5.large"}, "its type is p5.large"),
        ({"labels": (("rack", "2"),)}, "it lacks the label rack=1"),
    ],
)
def test_a_host_outside_the_queues_environments_is_named_with_the_rule_that_excludes_it(
    fields: dict[str, Any], rule: str
):
    """It could take the job, so it is not true that no known host ever could."""
    yard = Yard()
    resources = ComputeResources(instance_types=("workstation",), labels=(("rack", "1"),))
    yard.environment(compute_resources=resources)
    yard.queue()
    yard.host("alpha", cpu=2000, labels=(("rack", "1"),))
    yard.host("beta", cpu=4000, **({"labels": (("rack", "1"),)} | fields))
    assert plan_one(yard, container(cpu=4000)) == NEVER
    why = "4 vCPU asked, at most 2 free on one host (largest host: 2)"
    assert told_refusals(yard) == [
        f"{why}; none of this queue's environments could ever fit it; host beta is excluded because {rule}"
    ]


def test_who_excludes_a_host_is_told_of_each_environment():
    yard = Yard()
    yard.environment("ce", compute_resources=ComputeResources(instance_types=("m5",)))
    yard.environment("cheap", compute_resources=ComputeResources(type=CapacityType.SPOT))
    yard.queue("q", "ce", "cheap")
    yard.host("beta", cpu=4000)
    assert plan_one(yard, container(cpu=4000)) == NO_HOST
    assert told_refusals(yard) == [
        (
            "no host belongs to ce, cheap and offers runtime process; "
            "host beta is excluded because its type is workstation (ce), it is on-demand (cheap)"
        )
    ]


def told_refusals(yard: Yard) -> list[str]:
    return [refusal.message for refusal in yard.refusals()]


def test_all_environments_are_disabled(yard: Yard):
    """Somebody has to act."""
    yard.environment("ce", state=ResourceState.DISABLED)
    assert plan_one(yard, container()) == DISABLED


HOSTS = st.lists(st.tuples(st.sampled_from([1000, 4000, 16_000]), st.sampled_from([100, 1000, 9000]), st.booleans()))
ASKED = st.lists(st.tuples(st.sampled_from([500, 4000, 20_000]), st.sampled_from([50, 1000, 9000])), min_size=1)


@given(hosts=HOSTS, asked=ASKED)
def test_never_is_said_only_of_what_no_registered_host_could_hold(
    hosts: list[tuple[int, int, bool]], asked: list[tuple[int, int]]
):
    """A slow and obvious model: one unit at most is told, the first that waits, and what holds of it."""
    yard = Yard()
    yard.environment()
    yard.queue()
    for i, (cpu, memory, is_away) in enumerate(hosts):
        yard.host(f"h{i}", cpu=cpu, memory=memory)
        if is_away:
            yard.apply(HostLeft(host_id=HostId(f"h{i}"), session=1))
    jobs = [yard.submit(container=container(cpu=cpu, memory=memory)) for cpu, memory in asked]
    yard.plan()
    waiting = [job for job in jobs if job.state is JobState.RUNNABLE]
    assert [told(yard, job.id) != "" for job in waiting] == [job is waiting[0] for job in waiting]
    if waiting:
        amounts = waiting[0].spec.task.main.resources
        could = any(cpu >= amounts.cpu_millis and memory >= amounts.memory_mib for cpu, memory, _ in hosts)
        assert told(yard, waiting[0].id) == (FULL if could or not hosts else NEVER)


def test_every_text_has_its_code():
    """The code before the dash is what time limits name."""
    texts = (FULL, NEVER, BOUND, NO_HOST, DISABLED, UNDETERMINED)
    assert {text.partition(" - ")[0] for text in texts} >= set(LIMITED_BLOCKS)


# How long it may stand there ------------------------------------------------


def bound(yard: Yard, *codes: str, max_time_s: int = 600) -> None:
    limits = tuple(StateTimeLimit(reason=c, state="RUNNABLE", max_time_s=max_time_s, action="CANCEL") for c in codes)
    yard.apply(QueueChanged(queue=replace(yard.world.queues["q"], state_time_limits=limits)))


def tick(yard: Yard, at_s: int) -> None:
    yard.now = Instant(wall_ms=0, boot_ms=at_s * 1000)
    yard.apply(Ticked())
    yard.plan()


def test_who_blocks_for_too_long_is_cancelled(yard: Yard):
    """Ten minutes with one reason, counted from the tick that saw it first; the next begins afresh."""
    bound(yard, Block.BEYOND_HOSTS)
    first, second = (yard.submit(container=container(cpu=9000)) for _ in range(2))
    yard.plan()
    tick(yard, 100)
    tick(yard, 699)
    assert first.state is JobState.RUNNABLE
    tick(yard, 700)
    assert (first.state, first.is_cancelled) == (JobState.FAILED, True)
    assert yard.reason(first.id) == (
        "Canceled by JobStateTimeLimit action due to reason: MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT"
    )
    tick(yard, 701)
    tick(yard, 1300)
    assert second.state is JobState.RUNNABLE
    tick(yard, 1301)
    assert second.state is JobState.FAILED


def test_who_lacks_a_consumable_is_bounded_in_time_and_who_waits_for_a_cap_is_not(yard: Yard):
    """What jobs take of each other counts as capacity; a queue at its own cap is not blocked."""
    yard.host("h", cpu=4000)
    yard.consumable("licence", 1)
    short = yard.submit(consumables=(("licence", 2),))
    limit = StateTimeLimit(reason=Block.NO_CAPACITY, state="RUNNABLE", max_time_s=600, action="CANCEL")
    queue = replace(yard.world.queues["q"], state_time_limits=(limit,))
    yard.apply(QueueChanged(queue=queue))
    yard.apply(QueueChanged(queue=replace(queue, name="capped", max_running=1)))
    running, capped = yard.submit("capped"), yard.submit("capped")
    yard.plan()
    for at_s in (0, 600):
        tick(yard, at_s)
    assert short.ending == Ending(trigger=Trigger.TIME_LIMIT_PASSED, words=Block.NO_CAPACITY)
    assert (running.state, capped.state) == (JobState.STARTING, JobState.RUNNABLE)


def test_another_reason_begins_the_time_afresh(yard: Yard):
    """The reason must have been the same all the time."""
    bound(yard, Block.BEYOND_HOSTS, Block.NO_CAPACITY)
    job = yard.submit(container=container(cpu=9000))
    yard.plan()
    tick(yard, 0)
    yard.host("big", cpu=9000)
    yard.apply(HostLeft(host_id=HostId("big"), session=1))
    tick(yard, 500)
    tick(yard, 501)
    tick(yard, 600)
    assert job.state is JobState.RUNNABLE
    tick(yard, 1101)
    assert job.ending == Ending(trigger=Trigger.TIME_LIMIT_PASSED, words=Block.NO_CAPACITY)


def test_a_busy_yard_does_not_begin_the_time_afresh(yard: Yard):
    """Jobs that come and go beside it change nothing for who stays blocked."""
    bound(yard, Block.BEYOND_HOSTS)
    job = yard.submit(container=container(cpu=9000))
    for at_s in range(0, 601, 100):
        small = yard.submit()
        yard.plan()
        yard.ended(f"{small.id}#1")
        yard.now = Instant(wall_ms=0, boot_ms=at_s * 1000)
        yard.apply(HostHeard(host_id=HostId("h1")))
        tick(yard, at_s)
    assert job.state is JobState.FAILED


def test_a_reason_without_a_limit_is_waited_out(yard: Yard):
    """So is every reason in a queue that names none."""
    bound(yard, Block.NO_CAPACITY)
    job = yard.submit(container=container(cpu=9000))
    yard.plan()
    tick(yard, 0)
    tick(yard, 10**6)
    assert job.state is JobState.RUNNABLE


def test_of_an_array_one_child_is_cancelled(yard: Yard):
    """Its siblings each get their time."""
    bound(yard, Block.BEYOND_HOSTS)
    array = yard.submit(
        array_size=2, container=Container(command=("x",), resources=Resources(cpu_millis=9000, memory_mib=4))
    )
    yard.plan()
    tick(yard, 0)
    tick(yard, 600)
    assert [yard.state(f"{array.id}:{i}") for i in (0, 1)] == [JobState.FAILED, JobState.RUNNABLE]
    assert array.state is JobState.PENDING
