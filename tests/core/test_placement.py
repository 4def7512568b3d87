"""Where jobs go: priority, then order of submission, tightest fit, never too much."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.yard import Yard, container, facts, task

from batchyard.ids import HostId
from batchyard.states import JobState
from batchyard.tasks import Device, LinuxParameters, MountPoint, Task, Volume
from batchyard_controller.core.events import HostJoined, QueueChanged
from batchyard_controller.core.model.hosts import GpuFacts
from batchyard_controller.core.model.settings import CapacityType, ComputeResources, EnvironmentOrder, ResourceState
from batchyard_controller.core.placement.feasibility import NO_ACCESS
from batchyard_controller.core.placement.refusals import Block


@pytest.fixture
def empty() -> Yard:
    made = Yard()
    made.environment()
    made.queue()
    return made


def refusals(yard: Yard) -> list[str]:
    return [refusal.message for refusal in yard.refusals()]


def test_the_tightest_host_is_filled_first(empty: Yard):
    """A small job does not break up the big host."""
    empty.host("big", cpu=16000, memory=16384)
    empty.host("small", cpu=2000, memory=2048)
    small = [empty.submit() for _ in range(2)]
    large = empty.submit(container=container(cpu=16000))
    empty.plan()
    assert empty.live() == {f"{small[0].id}#1": "small", f"{small[1].id}#1": "small", f"{large.id}#1": "big"}


def test_higher_priority_is_served_first(empty: Yard):
    """A later job of a higher queue goes before."""
    empty.host("h", cpu=1000)
    empty.queue("urgent", "ce", priority=10)
    low, high = empty.submit("q"), empty.submit("urgent")
    empty.plan()
    assert (low.state, high.state) == (JobState.RUNNABLE, JobState.STARTING)


def test_queues_of_equal_priority_share_by_submission(empty: Yard):
    """Neither name nor shape of a job gives it precedence."""
    empty.host("h", cpu=3000)
    empty.queue("other", "ce")
    jobs = [empty.submit("q"), empty.submit("other"), empty.submit("q"), empty.submit("other")]
    empty.plan()
    assert [j.state for j in jobs] == [JobState.STARTING] * 3 + [JobState.RUNNABLE]


def test_a_job_that_does_not_fit_lets_others_pass_and_says_why(empty: Yard):
    """The reason names what was asked, what is free and what the largest host has."""
    empty.host("h", cpu=2000)
    big, small = empty.submit(container=container(cpu=8000)), empty.submit()
    empty.plan()
    assert (big.state, small.state) == (JobState.RUNNABLE, JobState.STARTING)
    (reason,) = refusals(empty)
    assert reason.startswith("8 vCPU asked, at most 1 free on one host (largest host: 2); no host")


def test_amounts_free_on_different_hosts_do_not_add_up(empty: Yard):
    """CPU here and memory there is no room for a job that needs both."""
    empty.host("cpu", cpu=8000, memory=100)
    empty.host("memory", cpu=100, memory=8192)
    empty.submit(container=container(cpu=4000, memory=4096))
    empty.plan()
    assert refusals(empty) == ["each amount is free on some of the 2 hosts, but no single host has all of them free"]


def test_no_host_offers_the_runtime(empty: Yard):
    """A container does not go to a host without Docker."""
    empty.host("h", runtimes=("process",))
    job = empty.submit(container=container(image="busybox"))
    empty.plan()
    assert job.state is JobState.RUNNABLE
    assert refusals(empty) == ["no host belongs to ce and offers runtime docker"]


def asking(*paths: str, privileged: bool = False, devices: tuple[str, ...] = ()) -> Task:
    volumes = tuple(Volume(name=f"v{i}", host_source_path=path) for i, path in enumerate(paths))
    asked = replace(
        container(image="busybox"),
        privileged=privileged,
        mount_points=tuple(MountPoint(source_volume=v.name, container_path=f"/{v.name}") for v in volumes),
        linux_parameters=LinuxParameters(devices=tuple(Device(host_path=path) for path in devices)),
    )
    return task(asked, *volumes)


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (asking("/data"), "no host allows to mount /data (hosts allow: /srv, /scratch)"),
        (asking("/srv-2/x"), "no host allows to mount /srv-2/x (hosts allow: /srv, /scratch)"),
        (asking("/srv/a", "/data"), "no host allows to mount /data (hosts allow: /srv, /scratch)"),
        (
            asking("/srv/a", "/scratch"),
            "each is allowed by some host, but no single host allows all that the job asks of it",
        ),
        (asking(privileged=True), "no host allows privileged containers"),
        (
            asking("/x", devices=("/dev/fuse",)),
            (
                "no host allows to mount /x (hosts allow: /srv, /scratch); "
                "no host allows the device /dev/fuse (hosts allow: /dev/nvidia*)"
            ),
        ),
    ],
)
def test_what_no_host_allows_waits_and_says_so(empty: Yard, asked: Task, text: str):
    """For ever, as things are: a queue may bound the time that it stands first in line."""
    empty.host("a", volume_paths=("/srv",), device_paths=("/dev/nvidia*",))
    empty.host("b", volume_paths=("/scratch",))
    job = empty.submit(container=asked)
    empty.plan()
    assert job.state is JobState.RUNNABLE
    assert refusals(empty) == [text]
    assert empty.refusals()[0].block is Block.BEYOND_HOSTS


@pytest.mark.parametrize(
    "asked",
    [
        asking("/srv"),
        asking("/srv/deep/er", "//srv/./a/"),
        asking(devices=("/dev/nvidia0",)),
        asking("/srv/a", privileged=True, devices=("/dev/fuse",)),
    ],
)
def test_a_job_goes_to_the_host_that_allows_what_it_asks(empty: Yard, asked: Task):
    """Tighter hosts are passed over."""
    empty.host("closed", cpu=1000)
    empty.host("open", allows_privileged=True, volume_paths=("/srv",), device_paths=("/dev/nvidia*", "/dev/fuse"))
    job = empty.submit(container=asked)
    empty.plan()
    assert empty.live() == {f"{job.id}#1": "open"}


def test_a_host_that_allows_more_wakes_those_who_wait(empty: Yard):
    empty.host("h")
    job = empty.submit(container=asking("/srv"))
    empty.plan()
    empty.host("h", volume_paths=("/srv",), session=2)
    empty.plan()
    assert job.state is JobState.STARTING


def test_scratch_and_volumes_that_nobody_mounts_ask_nothing(empty: Yard):
    """Jobs that ask nothing of the host stand in one line, whatever their other settings."""
    empty.host("h", cpu=1)
    mounts = replace(container(image="busybox"), mount_points=(MountPoint(source_volume="w", container_path="/w"),))
    scratch = task(mounts, Volume(name="w"), Volume(name="idle", host_source_path="/idle"))
    for asked in (container(image="busybox"), scratch):
        empty.submit(container=asked)
    (queue,) = empty.world.queues
    (line,) = empty.world.lines.of_queue(queue)
    assert len(list(line.units())) == 2
    assert line.shape.access is NO_ACCESS


def test_a_freed_amount_wakes_those_who_wait(empty: Yard):
    """A refusal is remembered until something is released."""
    empty.host("h", cpu=1000)
    first, second = empty.submit(), empty.submit()
    empty.plan()
    assert empty.plan() == []
    empty.ended(f"{first.id}#1")
    empty.plan()
    assert second.state is JobState.STARTING


def test_disabled_environments_get_nothing(empty: Yard):
    """The next environment in the order is tried; if there is none the job waits."""
    empty.host("h")
    empty.environment("off", state=ResourceState.DISABLED)
    empty.queue("first-off", "off", "ce")
    empty.queue("only-off", "off")
    through, stuck = empty.submit("first-off"), empty.submit("only-off")
    empty.plan()
    assert (through.state, stuck.state) == (JobState.STARTING, JobState.RUNNABLE)
    assert refusals(empty) == ["every compute environment of the queue is DISABLED (off)"]


def test_max_vcpus_bounds_an_environment(empty: Yard):
    """No more than so many vCPUs at once, however many hosts there are."""
    empty.host("h", cpu=8000)
    empty.environment("ce", compute_resources=ComputeResources(max_vcpus=2))
    jobs = [empty.submit() for _ in range(3)]
    empty.plan()
    assert [j.state for j in jobs] == [JobState.STARTING, JobState.STARTING, JobState.RUNNABLE]
    assert refusals(empty) == ["compute environment ce is at its bound of 2 vCPUs"]


def test_environments_select_hosts(empty: Yard):
    """By purchase option, host type or its family, and labels."""
    empty.host("plain")
    empty.host("spot", purchase_option="spot", host_type="m5.large", labels=(("site", "b"),))
    wanted = ComputeResources(type=CapacityType.SPOT, instance_types=("m5",), labels=(("site", "b"),))
    empty.environment("cheap", compute_resources=wanted)
    empty.queue("cheap", "cheap")
    job = empty.submit("cheap")
    empty.plan()
    assert empty.live() == {f"{job.id}#1": "spot"}


def test_whole_gpus_are_exclusive(empty: Yard):
    """Two jobs never hold one whole GPU; the claim names the device."""
    empty.host("h", gpus=2)
    jobs = [empty.submit(container=container(gpu=1000)) for _ in range(3)]
    empty.plan()
    claimed = [g.uuid for a in empty.world.attempts.values() for g in a.gpus]
    assert sorted(claimed) == ["GPU-h-0", "GPU-h-1"]
    assert jobs[2].state is JobState.RUNNABLE


def test_parts_of_a_gpu_are_packed_and_never_span_two(empty: Yard):
    """Two halves of different GPUs are no whole, and 700 + 700 do not fit one."""
    empty.host("h", gpus=2)
    parts = [empty.submit(container=container(gpu=700)), empty.submit(container=container(gpu=300))]
    empty.plan()
    assert len({g.uuid for a in empty.world.attempts.values() for g in a.gpus}) == 1
    second = empty.submit(container=container(gpu=700))
    third = empty.submit(container=container(gpu=700))
    empty.plan()
    assert [j.state for j in (*parts, second, third)] == [JobState.STARTING] * 3 + [JobState.RUNNABLE]


def test_a_whole_gpu_is_one_that_nobody_has_a_part_of(empty: Yard):
    """What is left of one that is shared is no whole, neither counted nor given."""
    empty.host("h", gpus=2)
    part, whole, late = (empty.submit(container=container(gpu=gpu)) for gpu in (300, 1000, 1000))
    empty.plan()
    claimed = {a.job_id: a.gpus[0].uuid for a in empty.world.attempts.values()}
    assert claimed == {part.id: "GPU-h-0", whole.id: "GPU-h-1"}
    assert late.state is JobState.RUNNABLE


def test_what_is_left_of_several_gpus_is_no_whole(empty: Yard):
    """Though it sums up to one."""
    empty.host("h", gpus=3)
    parts = [empty.submit(container=container(gpu=600)) for _ in range(3)]
    whole = empty.submit(container=container(gpu=1000))
    empty.plan()
    assert [job.state for job in (*parts, whole)] == [JobState.STARTING] * 3 + [JobState.RUNNABLE]


def test_environments_are_tried_in_the_order_of_their_numbers(empty: Yard):
    """Not in that in which the queue lists them."""
    for name in ("left", "right"):
        empty.environment(name, compute_resources=ComputeResources(labels=(("side", name),)))
        empty.host(name, labels=(("side", name),))
    order = {"right": 2, "left": 1}
    steps = tuple(EnvironmentOrder(order=n, compute_environment=name) for name, n in order.items())
    empty.apply(QueueChanged(queue=replace(empty.world.queues["q"], environment_order=steps)))
    job = empty.submit()
    empty.plan()
    assert empty.live() == {f"{job.id}#1": "left"}


def test_a_faulty_gpu_gets_no_work(empty: Yard):
    """A GPU with a fault does not count."""
    gpus = (GpuFacts(uuid="bad", fault="XID 79"), GpuFacts(uuid="good"))
    empty.apply(HostJoined(host_id=HostId("h"), facts=replace(facts("h"), gpus=gpus), session=1))
    jobs = [empty.submit(container=container(gpu=1000)) for _ in range(2)]
    empty.plan()
    assert [g.uuid for a in empty.world.attempts.values() for g in a.gpus] == ["good"]
    assert [j.state for j in jobs] == [JobState.STARTING, JobState.RUNNABLE]


def test_alternating_shapes_keep_their_order(empty: Yard):
    """Jobs of different shapes are served in order of submission all the same."""
    empty.host("h", cpu=6000)
    jobs = [empty.submit(container=container(cpu=1000 + 1000 * (i % 2))) for i in range(6)]
    empty.plan()
    assert [j.state for j in jobs] == [JobState.STARTING] * 4 + [JobState.RUNNABLE] * 2
