"""What pods are like on a node of the tests: they run for real, and the API tells how they ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from lightkube.models.core_v1 import (
    Affinity,
    Container,
    ContainerStatus,
    NodeAffinity,
    NodeSelector,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    PodSpec,
    ResourceRequirements,
)
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Pod
from tests.kubernetes.api_server import ApiServer
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.images import BUSYBOX
from tests.kubernetes.node import Node, leftovers

pytestmark = [pytest.mark.kubelet, pytest.mark.timeout(240)]

LIMIT_S = 60


class Run:
    """Pods on one node, in a namespace of the test's own."""

    def __init__(self, cluster: Cluster, node: Node) -> None:
        self.client, self.node = cluster.client, node
        self.namespace = cluster.make_namespace()

    def start(self, name: str, script: str, *, image: str = BUSYBOX, memory: str = "32Mi") -> None:
        """Make a pod that wants to be on the node, as the agent does: by affinity."""
        here = NodeSelectorRequirement(key="metadata.name", operator="In", values=[self.node.name])
        terms = NodeSelector(nodeSelectorTerms=[NodeSelectorTerm(matchFields=[here])])
        container = Container(
            name="main",
            image=image,
            command=["sh", "-c", script],
            resources=ResourceRequirements(limits={"memory": memory, "cpu": "1"}, requests={"cpu": "10m"}),
        )
        spec = PodSpec(
            containers=[container],
            restartPolicy="Never",
            hostNetwork=True,
            terminationGracePeriodSeconds=2,
            affinity=Affinity(nodeAffinity=NodeAffinity(requiredDuringSchedulingIgnoredDuringExecution=terms)),
        )
        self.client.create(Pod(metadata=ObjectMeta(name=name, namespace=self.namespace), spec=spec))

    def wait(self, name: str, is_there: Callable[[ContainerStatus], object]) -> Pod:
        """Wait until the pod's container is in some state, and return the pod."""
        deadline = time.monotonic() + LIMIT_S
        while True:
            pod = self.client.get(Pod, name, namespace=self.namespace)
            statuses = (pod.status and pod.status.containerStatuses) or []
            if statuses and is_there(statuses[0]):
                return pod
            assert time.monotonic() < deadline, pod
            time.sleep(0.1)

    def end(self, name: str) -> tuple[int, str | None]:
        """Wait for the end of a pod; return its exit code and the reason of that."""
        pod = self.wait(name, lambda status: status.state and status.state.terminated)
        assert pod.status is not None
        (status,) = pod.status.containerStatuses or []
        assert status.state is not None
        assert status.state.terminated is not None
        return status.state.terminated.exitCode, status.state.terminated.reason

    def log(self, name: str) -> list[str]:
        """Return what the pod wrote."""
        return [line.rstrip("\n") for line in self.client.log(name, namespace=self.namespace)]


@pytest.fixture
def run(kubelet_cluster: Cluster, node: Node) -> Run:
    """Pods of this test on the node that tests share."""
    return Run(kubelet_cluster, node)


def test_exit_code_and_log_are_told(run: Run) -> None:
    run.start("fails", "echo one; echo two >&2; exit 7")
    run.start("ends", "echo fine")
    assert run.end("fails") == (7, "Error")
    assert sorted(run.log("fails")) == ["one", "two"]
    assert run.end("ends") == (0, "Completed")
    assert run.log("ends") == ["fine"]


def test_want_of_memory_is_told(run: Run) -> None:
    run.start("hungry", "exec tail /dev/zero", memory="16Mi")
    assert run.end("hungry") == (137, "OOMKilled")


def test_missing_image_is_waited_for_with_its_reason(run: Run) -> None:
    run.start("nowhere", "true", image="127.0.0.1:1/nothing:1")
    pod = run.wait("nowhere", lambda status: status.state and status.state.waiting and "Pull" in str(status.state))
    assert pod.status is not None
    (status,) = pod.status.containerStatuses or []
    assert status.state is not None
    assert status.state.waiting is not None
    assert status.state.waiting.reason in ("ErrImagePull", "ImagePullBackOff")
    assert "127.0.0.1:1/nothing:1" in (status.state.waiting.message or "")


def test_pod_is_at_the_hosts_address(run: Run) -> None:
    """It sees the node's address, and is told to be there."""
    run.start("net", "busybox ip -4 addr show lo; sleep 60")
    pod = run.wait("net", lambda status: status.state and status.state.running)
    assert pod.status is not None
    assert pod.status.hostIP == pod.status.podIP == run.node.address
    deadline = time.monotonic() + LIMIT_S
    while not any(run.node.address in line for line in run.log("net")):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_deleted_pod_is_asked_first_and_killed_then(run: Run) -> None:
    """Its log goes with its containers, finalizer or not: who wants all of it reads along."""
    run.start("polite", "trap 'echo asked; exit 3' TERM; echo up; while :; do sleep 0.1; done")
    run.start("deaf", "trap '' TERM; echo up; while :; do sleep 0.1; done")
    for name, end, log in (("polite", (3, "Error"), ["up", "asked"]), ("deaf", (137, "Error"), ["up"])):
        run.wait(name, lambda status: status.state and status.state.running)
        finalizers = {"metadata": {"finalizers": ["batchyard.io/outcome"]}}
        run.client.patch(Pod, name, finalizers, namespace=run.namespace)
        lines = run.client.log(name, namespace=run.namespace, follow=True)
        seen = [next(iter(lines))]
        run.client.delete(Pod, name, namespace=run.namespace)
        assert run.end(name) == end
        assert [line.strip() for line in [*seen, *lines]] == log


def test_pods_of_two_nodes_reach_each_other(
    kubelet_server: ApiServer, kubelet_cluster: Cluster, run: Run, tmp_path: Path
) -> None:
    """Each at its node's address, where ports are its own."""
    with Node(kubelet_server, tmp_path, "other") as other:
        there = Run(kubelet_cluster, other)
        for each in (run, there):
            address = each.node.address
            each.start("serves", f"echo {each.node.name} > /tmp/x; exec busybox httpd -f -p {address}:8080 -h /tmp")
            each.wait("serves", lambda status: status.state and status.state.running)
        for here, far in ((run, there), (there, run)):
            ask = f"busybox wget -qO- http://{far.node.address}:8080/x"
            here.start("asks", f"until {ask}; do sleep 0.2; done")
            assert here.end("asks") == (0, "Completed")
            assert [line for line in here.log("asks") if "wget" not in line] == [far.node.name]


def test_pods_outlive_the_kubelet(run: Run) -> None:
    """What ended meanwhile is told when it is back."""
    run.start("long", "sleep 3; exit 5")
    run.wait("long", lambda status: status.state and status.state.running)
    run.node.kill_kubelet()
    time.sleep(4)
    assert run.wait("long", lambda status: status.state and status.state.running)
    run.node.start_kubelet()
    assert run.end("long") == (5, "Error")


def test_node_leaves_nothing_behind(kubelet_server: ApiServer, kubelet_cluster: Cluster, tmp_path: Path) -> None:
    """Not a process, a mount, a cgroup, an address or a file, though a pod runs when it ends."""
    with Node(kubelet_server, tmp_path, "gone") as node:
        run = Run(kubelet_cluster, node)
        run.start("long", "sleep 600")
        run.wait("long", lambda status: status.state and status.state.running)
        assert leftovers(node)
    assert leftovers(node) == []
