"""Nodes of clusters as hosts: whose they are, which jobs they take, what others hold of them, and overflow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.core.law import Shelf
from tests.core.yard import Yard, container, facts, task

from batchyard.errors import InvalidArgumentError
from batchyard.ids import AttemptId, HostId
from batchyard.pod_limits import not_as_pod
from batchyard.pods import CLUSTER_FIRST, CLUSTER_FIRST_WITH_HOST_NET, Pod, pod_name, pull_policy
from batchyard.resources import NOTHING, Resources
from batchyard.states import EndCause
from batchyard.tasks import (
    Container,
    ContainerEnd,
    Device,
    LinuxParameters,
    MountPoint,
    Task,
    Tmpfs,
    Ulimit,
    Volume,
)
from batchyard_controller.core.attempt_reports import Phase, Report
from batchyard_controller.core.events import DefinitionChanged, HostHeard
from batchyard_controller.core.jobs.resolution import Overrides, PodOverrides, Submission, resolve
from batchyard_controller.core.jobs.variables import common_variables, own_variables
from batchyard_controller.core.model.attempts import AttemptEnd
from batchyard_controller.core.model.hosts import HostFacts, KubernetesFacts
from batchyard_controller.core.model.jobs import JobDefinition
from batchyard_controller.core.model.nodes import NodeRange, Nodes
from batchyard_controller.core.model.settings import (
    CapacityType,
    ComputeEnvironment,
    ComputeResources,
    KubernetesCluster,
    Platform,
)
from batchyard_controller.core.placement.feasibility import exclusion
from batchyard_controller.core.requests.settings_rules import check_host_facts, check_reserved
from batchyard_controller.core.views.membership import NO_NAMESPACE, NO_NODES, cluster_fault
from batchyard_controller.core.views.waiting import summary

IMAGED = container(image="busybox")
CLUSTER = KubernetesCluster(name="c", namespace="n")


def node(cluster: str = "c", namespace: str = "n", **more: Any) -> KubernetesFacts:
    return KubernetesFacts(cluster=cluster, namespace=namespace, node_uid="uid-1", **more)


def pod(*containers: Container, **fields: Any) -> Task:
    return Task(containers=containers or (IMAGED,), **({"pod": Pod()} | fields))


def join(yard: Yard, name: str, kubernetes: KubernetesFacts | None = None, **fields: Any) -> None:
    yard.host(name, **({"kubernetes": kubernetes or node(), "runtimes": ("kubernetes",)} | fields))


@pytest.fixture
def yard() -> Yard:
    """A queue of own hosts first and a cluster second, another of the cluster alone; a host of each."""
    made = Yard()
    made.environment("own")
    made.environment("cluster", kubernetes=CLUSTER)
    made.queue("q", "own", "cluster")
    made.queue("pods", "cluster")
    made.host("mine", cpu=1000)
    join(made, "node")
    return made


def waits(yard: Yard) -> str:
    """Return what is told of those whom a plan leaves waiting."""
    yard.plan()
    return "; ".join(refusal.message for refusal in yard.refusals())


def heard(yard: Yard, name: str, **held: int) -> None:
    yard.apply(HostHeard(host_id=HostId(name), session=1, reserved=Resources(**held)))


@pytest.mark.parametrize(
    ("told", "wanted", "excluded_because"),
    [
        (node(), CLUSTER, None),
        (node(cluster="d"), CLUSTER, "it is a node of cluster d, for namespace n"),
        (node(namespace="m", other_namespaces=("n",)), CLUSTER, "it is a node of cluster c, for namespace m"),
        (node(), None, "it is a node of cluster c, for namespace n"),
        (None, CLUSTER, "it is no node of a Kubernetes cluster"),
        (None, None, None),
    ],
)
def test_a_node_is_of_its_clusters_environments_alone(
    told: KubernetesFacts | None, wanted: KubernetesCluster | None, excluded_because: str | None
) -> None:
    found = exclusion(facts("h", kubernetes=told), ComputeEnvironment(name="ce", kubernetes=wanted))
    assert (found and found.text) == excluded_because
    assert found is None or found.rule == "kubernetes"


def test_a_node_may_be_spot_and_is_of_its_type() -> None:
    spot = ComputeEnvironment(
        name="ce", kubernetes=CLUSTER, compute_resources=ComputeResources(type=CapacityType.SPOT, labels=(("a", "b"),))
    )
    assert exclusion(facts("h", kubernetes=node(), purchase_option="spot", labels=(("a", "b"),)), spot) is None
    told = [
        exclusion(facts("h", kubernetes=node()), spot),
        exclusion(facts("h", kubernetes=node(), purchase_option="spot"), spot),
    ]
    assert [found and found.text for found in told] == ["it is on-demand", "it lacks the label a=b"]


def test_overflow_goes_to_the_cluster_and_is_told(yard: Yard) -> None:
    """What has an image and finds no room on own hosts runs on a node; why it is there is said."""
    first, second = yard.submit(container=IMAGED), yard.submit(container=IMAGED)
    yard.plan()
    assert yard.live() == {f"{first.id}#1": "mine", f"{second.id}#1": "node"}
    told = [summary(yard.world, yard.unit(job.id), None) for job in (first, second)]
    assert told == [
        "starting on host mine, attempt 1",
        "starting on host node of compute environment cluster, after own in its queue, attempt 1",
    ]


def test_a_process_stays_on_own_hosts(yard: Yard) -> None:
    yard.submit()
    waiting = yard.submit()
    yard.plan()
    assert [*yard.live().values()] == ["mine"]
    assert "1 vCPU asked, at most 0 free on one host (largest host: 1)" in waits(yard)
    assert yard.state(waiting.id) == "RUNNABLE"


def test_a_pod_goes_to_nodes_alone(yard: Yard) -> None:
    """Though hosts of its queue that come first have Docker, and room."""
    job = yard.submit(container=pod())
    yard.plan()
    assert yard.live() == {f"{job.id}#1": "node"}


def test_a_queue_without_a_cluster_takes_no_pods(yard: Yard) -> None:
    yard.queue("bare", "own")
    with pytest.raises(InvalidArgumentError, match="can not run Jobs with capability EKS"):
        yard.submit("bare", container=pod())


def test_a_queue_of_clusters_alone_takes_what_names_no_capability(yard: Yard) -> None:
    """As on AWS a definition for EC2 is refused there; where own hosts come first it may overflow."""
    definition = JobDefinition(name="d", revision=1, task=task(IMAGED), platform_capabilities=("EC2",))
    yard.apply(DefinitionChanged(definition=definition))
    with pytest.raises(InvalidArgumentError, match="can not run Jobs with capability EC2"):
        yard.submit("pods", container=None, definition="d")
    job = yard.submit("pods", container=IMAGED)
    both = [yard.submit("q", container=None, definition="d") for _ in range(2)]
    yard.plan()
    hosts = {f"{job.id}#1": "node", f"{both[0].id}#1": "mine", f"{both[1].id}#1": "node"}
    assert yard.live() == hosts


def test_a_pod_needs_its_namespace_and_what_its_host_allows(yard: Yard) -> None:
    folder = pod(
        replace(IMAGED, mount_points=(MountPoint(source_volume="v", container_path="/v"),)),
        volumes=(Volume(name="v", host_source_path="/data/x"),),
        init_containers=(replace(IMAGED, name="before", privileged=True),),
    )
    elsewhere = yard.submit("pods", container=pod(pod=Pod(namespace="m")))
    assert waits(yard) == "no host's agent makes pods in namespace m (agents do in: n)"
    asking = yard.submit("pods", container=folder)
    yard.plan()
    assert yard.live() == {}
    join(yard, "other", node(other_namespaces=("m",)), allows_privileged=True, volume_paths=("/data",))
    yard.plan()
    assert yard.live() == {f"{elsewhere.id}#1": "other", f"{asking.id}#1": "other"}


@pytest.mark.parametrize(
    ("asking", "named"),
    [
        (IMAGED, ""),
        (replace(IMAGED, user="1000:1000"), ""),
        (replace(IMAGED, linux_parameters=LinuxParameters(tmpfs=(Tmpfs(container_path="/t", size_mib=1),))), ""),
        (replace(IMAGED, user="nobody"), "user 'nobody', who is no number"),
        (replace(IMAGED, ulimits=(Ulimit(name="nofile", soft_limit=1, hard_limit=1),)), "ulimits"),
        (replace(IMAGED, linux_parameters=LinuxParameters(devices=(Device(host_path="/dev/x"),))), "devices"),
        (replace(IMAGED, linux_parameters=LinuxParameters(swappiness=1)), "swappiness"),
        (replace(IMAGED, linux_parameters=LinuxParameters(max_swap_mib=0)), "max_swap_mib"),
        (
            replace(
                IMAGED,
                linux_parameters=LinuxParameters(
                    tmpfs=(Tmpfs(container_path="/t", size_mib=1, mount_options=("ro",)),)
                ),
            ),
            "mount_options of tmpfs",
        ),
        (container(image="i", gpu=500), "a part of a GPU"),
        (container(), "a process without an image"),
    ],
)
def test_what_no_pod_can_have_is_named(asking: Container, named: str) -> None:
    assert not_as_pod(task(asking)) == named
    assert not_as_pod(pod(asking)) == ""


def test_what_no_pod_can_have_keeps_a_job_from_nodes(yard: Yard) -> None:
    """On own hosts it runs; where there are nodes alone it is told why it does not."""
    named = replace(IMAGED, user="nobody")
    own = yard.submit(container=named)
    yard.plan()
    assert yard.live() == {f"{own.id}#1": "mine"}
    yard.submit("pods", container=named)
    assert waits(yard) == "its hosts run pods alone, and none can have user 'nobody', who is no number"


def test_several_containers_that_are_no_pod_stay_off_nodes(yard: Yard) -> None:
    several = Task(containers=(replace(IMAGED, name="a"), replace(IMAGED, name="b")))
    yard.submit("pods", container=several)
    yard.plan()
    assert yard.live() == {}
    assert "none can have several containers, but for those of a pod" in waits(yard)


def test_a_pod_holds_what_its_containers_ask_or_one_before_them() -> None:
    """As Kubernetes reckons: of each amount the larger."""
    before = container(cpu=5000, memory=10)
    asked = pod(container(cpu=1000), container(cpu=2000), init_containers=(before, container(memory=700))).resources
    assert asked == Resources(cpu_millis=5000, memory_mib=700)


def test_what_others_hold_is_not_free_and_is_named(yard: Yard) -> None:
    heard(yard, "node", cpu_millis=3500, memory_mib=1000)
    job = yard.submit("pods", container=pod())
    yard.plan()
    assert waits(yard) == (
        "1 vCPU asked, at most 0.5 free on one host (largest host: 4); 3.5 vCPU of these hosts held by other pods"
    )
    assert yard.world.fleet.allocated(HostId("node")) == NOTHING
    Shelf().check(yard.world, yard.now)  # nobody stores it
    heard(yard, "node", cpu_millis=3000)
    yard.plan()
    assert yard.live() == {f"{job.id}#1": "node"}


def test_what_others_hold_may_be_more_than_is_free(yard: Yard) -> None:
    """Their pods came after ours were placed: nothing is free, nothing breaks, and it is free again later."""
    job = yard.submit("pods", container=pod(container(cpu=3000, image="i")))
    yard.plan()
    heard(yard, "node", cpu_millis=2000)
    yard.submit("pods", container=pod())
    assert "at most 0 free on one host" in waits(yard)
    yard.ended(f"{job.id}#1")
    yard.plan()
    assert [*yard.live().values()] == ["node"]


def test_a_host_that_is_no_node_may_be_shared_too(yard: Yard) -> None:
    heard(yard, "mine", cpu_millis=800)
    yard.queue("alone", "own")
    yard.submit("alone")
    assert waits(yard).endswith("0.8 vCPU of these hosts held by others")


def test_gpus_of_others_are_known_by_number(yard: Yard) -> None:
    """Whichever they are, a claim takes one that is left."""
    join(yard, "gpus", gpus=3)
    heard(yard, "gpus", gpu_millis=2000)
    asking = pod(container(cpu=100, gpu=1000, image="i"))
    first, second = yard.submit("pods", container=asking), yard.submit("pods", container=asking)
    yard.plan()
    assert yard.live() == {f"{first.id}#1": "gpus"}
    assert (
        "1 GPU asked, at most 0 free on one host (largest host: 3); 2 GPU of these hosts held by other pods"
        in waits(yard)
    )
    yard.ended(f"{first.id}#1")
    yard.plan()
    assert yard.live() == {f"{second.id}#1": "gpus"}
    heard(yard, "gpus")
    third = yard.submit("pods", container=pod(container(cpu=100, gpu=2000, image="i")))
    yard.plan()
    assert yard.live()[f"{third.id}#1"] == "gpus"


def test_what_others_hold_ends_with_the_session(yard: Yard) -> None:
    heard(yard, "node", cpu_millis=4000)
    join(yard, "node", session=2)
    job = yard.submit("pods", container=pod())
    yard.plan()
    assert yard.live() == {f"{job.id}#1": "node"}


def test_nodes_of_a_job_are_pods_on_nodes(yard: Yard) -> None:
    join(yard, "second")
    nodes = Nodes(count=2, ranges=(NodeRange(target_nodes=":", task=pod()),))
    job = yard.submit("pods", container=None, nodes=nodes)
    yard.plan()
    assert sorted(yard.live().values()) == ["node", "second"]
    assert {name.partition("#")[0] for name in yard.live()} == {job.id}


def test_variables_of_a_pod_tell_its_node(yard: Yard) -> None:
    job = yard.submit("pods", container=pod())
    yard.plan()
    (attempt,) = yard.world.attempts.values()
    told = common_variables(job, attempt.compute_environment, Platform.EKS, facts("h", kubernetes=node()))
    told |= own_variables(yard.unit(job.id), attempt, attempt.id)
    assert told["AWS_BATCH_JOB_KUBERNETES_NODE_UID"] == "uid-1"
    assert "AWS_EXECUTION_ENV" not in told


def test_overrides_of_a_pod_reach_all_of_it() -> None:
    given = pod(
        replace(IMAGED, name="a", entrypoint=("Ref::program",)),
        init_containers=(replace(IMAGED, name="b"),),
        pod=Pod(labels=(("a", "1"), ("b", "1")), annotations=(("x", "1"),)),
    )
    submission = Submission(
        name="j",
        queue="q",
        task=given,
        parameters=(("program", "/bin/x"),),
        container_overrides=(
            Overrides(name="a", image="new", command=("arg",), cpu_limit_millis=2000),
            Overrides(name="b", entrypoint=("/init",), memory_mib=8),
        ),
        pod_overrides=PodOverrides(labels=(("b", "2"), ("c", "2"))),
    )
    spec, wrong = resolve(submission, None)
    assert wrong == []
    (main,), (before,), made = spec.task.containers, spec.task.init_containers, spec.task.pod
    assert (main.image, main.entrypoint, main.command, main.cpu_limit_millis) == ("new", ("/bin/x",), ("arg",), 2000)
    assert (before.entrypoint, before.resources.memory_mib) == (("/init",), 8)
    assert made == Pod(labels=(("a", "1"), ("b", "2"), ("c", "2")), annotations=(("x", "1"),))


def test_an_environment_whose_namespace_no_agent_has_is_invalid(yard: Yard) -> None:
    """As long as no node of the cluster has come, nothing is known of its namespaces."""
    world = yard.world
    assert cluster_fault(world, "eks", CLUSTER) == ""
    assert cluster_fault(world, "eks", KubernetesCluster(name="c", namespace="x")) == NO_NAMESPACE
    assert cluster_fault(world, "eks", KubernetesCluster(name="d", namespace="x")) == ""


def test_an_environment_for_which_jobs_wait_and_no_node_has_come_is_invalid(yard: Yard) -> None:
    nowhere = KubernetesCluster(name="d", namespace="x")
    yard.environment("nowhere", kubernetes=nowhere)
    yard.queue("far", "nowhere")
    assert cluster_fault(yard.world, "nowhere", nowhere) == ""
    job = yard.submit("far", container=IMAGED)
    assert cluster_fault(yard.world, "nowhere", nowhere) == NO_NODES
    yard.cancel(job.id)
    assert cluster_fault(yard.world, "nowhere", nowhere) == ""


@pytest.mark.parametrize(
    ("image", "said", "policy"),
    [
        ("busybox", "", "Always"),
        ("busybox:latest", "", "Always"),
        ("busybox:1.36", "", "IfNotPresent"),
        ("host:5000/busybox", "", "Always"),
        ("host:5000/busybox:1", "", "IfNotPresent"),
        ("busybox@sha256:00", "", "IfNotPresent"),
        ("busybox", "Never", "Never"),
    ],
)
def test_when_an_image_is_pulled(image: str, said: str, policy: str) -> None:
    assert pull_policy(image, said) == policy


def test_a_pod_is_on_its_hosts_network_unless_it_says_otherwise() -> None:
    assert (Pod().is_on_host_network, Pod().dns) == (True, CLUSTER_FIRST_WITH_HOST_NET)
    other = Pod(host_network=False)
    assert (other.is_on_host_network, other.dns) == (False, CLUSTER_FIRST)
    assert Pod(dns_policy="Default").dns == "Default"


def test_a_pod_is_named_by_its_unit() -> None:
    """So a cluster itself refuses a second one, whichever attempt it is."""
    name = pod_name("018f3c1e-0000-7000-8000-000000000000:3")
    assert name == pod_name("018f3c1e-0000-7000-8000-000000000000:3")
    assert name != pod_name("018f3c1e-0000-7000-8000-000000000000#3")
    assert name.startswith("aws-batch.")
    assert len(name) == len("aws-batch.") + 36


def test_what_a_node_says_of_containers_is_within_bounds(yard: Yard) -> None:
    """Ten that run, ten before them, and no id without end."""
    job = yard.submit("pods", container=pod())
    yard.plan()
    ends = tuple(ContainerEnd(name=f"c{i}", exit_code=0, container_id="x" * 300) for i in range(25))
    end = AttemptEnd(cause=EndCause.EXITED, started_at_ms=1, stopped_at_ms=2, exit_code=0, containers=ends)
    yard.report(Report(attempt_id=AttemptId(f"{job.id}#1"), phase=Phase.ENDED, started_at_ms=1, end=end))
    (ended,) = yard.unit(job.id).attempts
    assert len(ended.containers) == 20
    assert {len(each.container_id) for each in ended.containers} == {255}
    Shelf().check(yard.world, yard.now)


def test_facts_of_a_node_are_within_bounds() -> None:
    wrong = check_host_facts(HostFacts(name="h", kubernetes=node(cluster="", namespace="n" * 256)))
    assert [violation.field for violation in wrong] == ["facts.kubernetes.namespace", "facts.kubernetes.cluster"]
    many = node(other_namespaces=tuple(f"n{i}" for i in range(17)))
    assert [v.field for v in check_host_facts(HostFacts(name="h", kubernetes=many))] == [
        "facts.kubernetes.other_namespaces"
    ]
    assert [v.field for v in check_reserved(Resources(cpu_millis=-1))] == ["usage.reserved.cpu_millis"]
