"""EC2 and Fargate: which hosts an environment takes, which jobs a queue, and of what size."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.yard import Yard, container, facts, task

from batchyard import fargate
from batchyard.errors import InvalidArgumentError
from batchyard.resources import Resources
from batchyard.states import JobState
from batchyard.tasks import Container, LinuxParameters, Volume
from batchyard_controller.core.events import DefinitionChanged
from batchyard_controller.core.jobs.resolution import Overrides
from batchyard_controller.core.model.hosts import HostFacts
from batchyard_controller.core.model.jobs import JobDefinition
from batchyard_controller.core.model.settings import CapacityType, ComputeEnvironment, ComputeResources
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement.feasibility import exclusion
from batchyard_controller.core.requests import settings
from batchyard_controller.core.requests.settings_rules import check_compute_resources, check_host_facts

LARGE = Resources(cpu_millis=8000, memory_mib=32768, disk_mib=50_000)
SIZED = container(cpu=1000, memory=2048, image="busybox")


@pytest.fixture
def yard() -> Yard:
    """Two queues, one of each platform, with a host each; the job definition d is of Fargate."""
    made = Yard()
    made.environment("ec2")
    made.environment("fargate", compute_resources=ComputeResources(type=CapacityType.FARGATE))
    made.queue("q", "ec2")
    made.queue("fq", "fargate")
    made.host("own", capacity=LARGE)
    made.host("sized", capacity=LARGE, platforms=("FARGATE",))
    definition = JobDefinition(name="d", revision=1, task=task(SIZED), platform_capabilities=("FARGATE",))
    made.apply(DefinitionChanged(definition=definition))
    return made


def refused(yard: Yard, queue: str = "fq", **fields: object) -> list[str]:
    """Return what is wrong with a submission."""
    with pytest.raises(InvalidArgumentError) as caught:
        yard.submit(queue, **fields)
    return [f"{violation.field}: {violation.message}" for violation in caught.value.violations]


def waits(yard: Yard) -> str:
    """Return what is told of those that wait."""
    return "; ".join(refusal.message for refusal in yard.refusals())


def test_each_platform_has_hosts_of_its_own(yard: Yard) -> None:
    """Nobody chooses a host, and no job of Fargate goes elsewhere."""
    own = yard.submit("q", container=SIZED)
    sized = [yard.submit("fq", container=SIZED), yard.submit("fq", definition="d", container=None)]
    yard.plan()
    hosts = {f"{own.id}#1": "own"} | {f"{job.id}#1": "sized" for job in sized}
    assert yard.live() == hosts


@pytest.mark.parametrize(
    ("type_", "platforms", "option", "excluded_because"),
    [
        ("EC2", (), "on-demand", None),
        ("EC2", ("EC2",), "on-demand", None),
        ("EC2", ("EC2", "FARGATE"), "on-demand", None),
        ("EC2", ("FARGATE",), "on-demand", "it does not offer EC2"),
        ("SPOT", ("FARGATE",), "spot", "it does not offer EC2"),
        ("FARGATE", (), "on-demand", "it does not offer FARGATE"),
        ("FARGATE", ("FARGATE",), "on-demand", None),
        ("FARGATE", ("EC2", "FARGATE"), "on-demand", None),
        ("FARGATE", ("FARGATE",), "spot", "it is spot"),
        ("FARGATE_SPOT", ("FARGATE",), "spot", None),
        ("FARGATE_SPOT", ("FARGATE",), "on-demand", "it is on-demand"),
    ],
)
def test_platform_and_purchase_option_decide_whose_a_host_is(
    type_: str, platforms: tuple[str, ...], option: str, excluded_because: str | None
) -> None:
    environment = ComputeEnvironment(name="ce", compute_resources=ComputeResources(type=CapacityType(type_)))
    found = exclusion(facts("h", platforms=platforms, purchase_option=option), environment)
    assert (found and found.text) == excluded_because


def test_a_job_of_fargate_has_a_disk_of_its_own(yard: Yard) -> None:
    """Twenty GiB unless it asks for more, which are held like all that it asks for (AWS: EphemeralStorage)."""
    asking = replace(SIZED, resources=replace(SIZED.resources, disk_mib=21 << 10))
    held = [yard.submit("fq", container=each).spec.task.resources.disk_mib for each in (SIZED, asking)]
    assert held == [fargate.DISK_MIB, 21 << 10]
    assert yard.submit("q", container=SIZED).spec.task.resources.disk_mib == 0
    yard.plan()
    assert len([host for host in yard.live().values() if host == "sized"]) == 2
    yard.submit("fq", container=SIZED)
    yard.plan()
    assert "20480 MiB disk asked, at most 8016 free on one host" in waits(yard)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (container(image="i"), "container.resources: Fargate resource requirements (1.00 vCPU, 100 MiB) not valid."),
        (
            container(cpu=3000, memory=8192, image="i"),
            "container.resources: Fargate resource requirements (3.00 vCPU, 8192 MiB) not valid.",
        ),
        (container(memory=2048), "container.image: Fargate runs containers alone: give the job an image"),
        (container(memory=2048, gpu=1000, image="i"), "container: GPU is not applicable for Fargate."),
        (replace(SIZED, privileged=True), "container: privileged is not applicable for Fargate."),
        (
            replace(SIZED, linux_parameters=LinuxParameters(max_swap_mib=0)),
            "container: maxSwap is not applicable for Fargate.",
        ),
        (
            replace(SIZED, resources=replace(SIZED.resources, disk_mib=1)),
            "container.resources.disk_mib: 1 MiB is not between 21504 and 204800",
        ),
    ],
)
def test_fargate_refuses_what_it_has_not(yard: Yard, given: Container, told: str) -> None:
    assert refused(yard, container=given) == [told]
    assert not yard.world.jobs


def test_no_job_of_fargate_mounts_a_folder_of_its_host(yard: Yard) -> None:
    told = refused(yard, container=task(SIZED, Volume(name="v", host_source_path="/data")))
    assert told == ["container.volumes: host is not applicable for Fargate."]


def test_overrides_are_held_to_the_sizes_too(yard: Yard) -> None:
    told = refused(yard, definition="d", container=None, overrides=Overrides(memory_mib=2049))
    assert told == ["container.resources: Fargate resource requirements (1.00 vCPU, 2049 MiB) not valid."]


def test_a_queue_refuses_jobs_of_the_other_platform(yard: Yard) -> None:
    text = "queue: Job Queue is attached to Compute Environment that can not run Jobs with capability {}."
    assert refused(yard, "q", definition="d", container=None) == [text.format("FARGATE")]
    ec2 = JobDefinition(name="e", revision=1, task=task(SIZED), platform_capabilities=("EC2",))
    yard.apply(DefinitionChanged(definition=ec2))
    assert refused(yard, "fq", definition="e", container=None) == [text.format("EC2")]


def test_a_job_whose_queue_has_turned_waits_and_says_why(yard: Yard) -> None:
    """Nothing is placed where it may not run, whatever became of its queue."""
    job = yard.submit("fq", definition="d", container=None)
    yard.queue("fq", "ec2")
    yard.plan()
    assert yard.state(job.id) is JobState.RUNNABLE
    assert "it can run on FARGATE alone, but the compute environments of the queue are of EC2 (ec2)" in waits(yard)


def test_no_queue_has_environments_of_both_platforms(yard: Yard) -> None:
    """Neither a new one, nor one that is changed, nor one whose environment is (AWS)."""
    now, text = Instant(wall_ms=1, boot_ms=1), "Fargate and EC2 compute environments can not be mixed."
    yard.queue("both", "fargate")
    order = (*yard.world.queues["both"].environment_order, *yard.world.queues["q"].environment_order)
    order = tuple(replace(step, order=i) for i, step in enumerate(order))
    spot = ComputeResources(type=CapacityType.FARGATE_SPOT)
    for change in (
        lambda: settings.update_queue(yard.world, "both", {"environment_order": order}),
        lambda: settings.create_queue(
            yard.world, replace(yard.world.queues["q"], name="new", environment_order=order), now
        ),
    ):
        with pytest.raises(InvalidArgumentError, match=text):
            change()
    settings.update_environment(yard.world, "ec2", {"compute_resources": spot})
    yard.environment("ec2-too")
    yard.queue("q", "ec2", "ec2-too")
    with pytest.raises(InvalidArgumentError, match=text):
        settings.update_environment(yard.world, "ec2", {"compute_resources": spot})


def test_an_environment_of_fargate_says_nothing_of_hosts() -> None:
    out: list[object] = []
    resources = ComputeResources(
        type=CapacityType.FARGATE, max_vcpus=8, min_vcpus=1, instance_types=("m5",), provider="p"
    )
    check_compute_resources(out, resources)
    told = {violation.message for violation in out}
    assert {f"{name} is not applicable for Fargate." for name in ("min_vcpus", "instance_types", "provider")} <= told


def test_a_job_goes_to_hosts_of_its_architecture_alone(yard: Yard) -> None:
    """A host that says nothing of its CPUs counts as none of them."""
    job = yard.submit("q", container=replace(SIZED, cpu_architecture="ARM64"))
    yard.plan()
    assert "no host has a CPU of architecture ARM64 (hosts have: not told)" in waits(yard)
    yard.host("x86", capacity=LARGE, cpu_architecture="X86_64")
    yard.host("arm", capacity=LARGE, cpu_architecture="ARM64")
    yard.plan()
    assert yard.live() == {f"{job.id}#1": "arm"}
    told = refused(yard, "q", container=replace(SIZED, cpu_architecture="SPARC"))
    assert told == ["container.cpu_architecture: 'SPARC' is not one of X86_64, ARM64"]


def test_a_host_offers_platforms_that_there_are() -> None:
    (violation,) = check_host_facts(HostFacts(name="h", platforms=("EC2", "LAMBDA")))
    assert violation.message == "'LAMBDA' is not one of EC2, FARGATE"
