"""What the agent stands on: the API server itself keeps names, outcomes, watches and rights as it is said to."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import lightkube
import pytest
from lightkube.models.core_v1 import Container, PodSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.models.rbac_v1 import PolicyRule
from lightkube.resources.core_v1 import Node, Pod, Secret
from lightkube.types import PatchType
from tests.kubernetes.api_server import ApiServer
from tests.kubernetes.cluster import Cluster

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(180)]

FINALIZER = "batchyard.io/outcome"
WATCHED = 100


def pod(name: str, namespace: str, **metadata: Any) -> Pod:
    """Return a pod that runs nothing of note."""
    spec = PodSpec(containers=[Container(name="main", image="busybox:1")], restartPolicy="Never")
    return Pod(metadata=ObjectMeta(name=name, namespace=namespace, **metadata), spec=spec)


def terminated(code: int, reason: str) -> dict[str, Any]:
    """Return what a kubelet says of a pod whose only container has ended."""
    end = {"exitCode": code, "reason": reason, "finishedAt": "2026-01-01T00:00:00Z"}
    container = {"name": "main", "image": "busybox:1", "imageID": "", "ready": False, "restartCount": 0}
    return {
        "phase": "Failed" if code else "Succeeded",
        "containerStatuses": [{**container, "state": {"terminated": end}}],
    }


def version_of_nothing(cluster: Cluster, namespace: str) -> str:
    """Return the version at which a namespace has no pod yet."""
    pods = cluster.client.list(Pod, namespace=namespace)
    assert not list(pods)
    return pods.resourceVersion


@contextlib.contextmanager
def refusal(code: int) -> Iterator[pytest.ExceptionInfo[lightkube.ApiError]]:
    """Expect an answer of the API with a status code; its ``value.status`` holds the words."""
    with pytest.raises(lightkube.ApiError) as refused:
        yield refused
    assert refused.value.status.code == code, refused.value


def test_second_pod_of_a_name_is_refused(cluster: Cluster, namespace: str) -> None:
    first = cluster.client.create(pod("one", namespace))
    with refusal(409) as refused:
        cluster.client.create(pod("one", namespace))
    assert refused.value.status.reason == "AlreadyExists"
    assert first.metadata is not None
    there = cluster.client.get(Pod, "one", namespace=namespace)
    assert there.metadata is not None
    assert there.metadata.uid == first.metadata.uid


def test_finalizer_keeps_how_a_deleted_pod_ended(cluster: Cluster, namespace: str) -> None:
    cluster.client.create(pod("big", namespace, finalizers=[FINALIZER]))
    cluster.patch_pod_status(namespace, "big", terminated(137, "OOMKilled"))
    cluster.client.delete(Pod, "big", namespace=namespace, grace_period=0)
    kept = cluster.client.get(Pod, "big", namespace=namespace)
    assert kept.metadata is not None
    assert kept.metadata.deletionTimestamp is not None
    assert kept.status is not None
    (container,) = kept.status.containerStatuses or []
    assert container.state is not None
    assert container.state.terminated is not None
    assert (container.state.terminated.exitCode, container.state.terminated.reason) == (137, "OOMKilled")
    cluster.client.patch(
        Pod, "big", {"metadata": {"finalizers": None}}, namespace=namespace, patch_type=PatchType.MERGE
    )
    with refusal(404):
        cluster.client.get(Pod, "big", namespace=namespace)


def test_watch_sees_every_pod(cluster: Cluster, namespace: str) -> None:
    start = version_of_nothing(cluster, namespace)
    names = [f"p{number}" for number in range(WATCHED)]

    def make() -> None:
        for name in names:
            cluster.client.create(pod(name, namespace))

    maker = threading.Thread(target=make)
    maker.start()
    seen: list[str] = []
    for what, each in cluster.client.watch(Pod, namespace=namespace, resource_version=start, server_timeout=60):
        assert what == "ADDED"
        assert each.metadata is not None
        seen.append(each.metadata.name or "")
        if len(seen) == WATCHED:
            break
    maker.join()
    assert seen == names


def test_history_that_is_gone_is_410(own_api_server: ApiServer, own_cluster: Cluster) -> None:
    """Watches break with the server; who asks for what came before is sent to list again."""
    namespace = own_cluster.make_namespace()
    start = version_of_nothing(own_cluster, namespace)
    own_cluster.client.create(pod("one", namespace))
    own_api_server.forget_history()
    with refusal(410) as refused:
        list(own_cluster.client.watch(Pod, namespace=namespace, resource_version=start, server_timeout=10))
    assert refused.value.status.reason in ("Expired", "Gone")
    assert [each.metadata.name for each in own_cluster.client.list(Pod, namespace=namespace) if each.metadata] == [
        "one"
    ]


def test_account_may_do_what_its_rules_say_and_no_more(cluster: Cluster, namespace: str) -> None:
    kubeconfig = cluster.make_account(
        namespace,
        "narrow",
        [PolicyRule(apiGroups=[""], resources=["pods"], verbs=["create", "get"])],
        [PolicyRule(apiGroups=[""], resources=["nodes"], verbs=["list"])],
    )
    elsewhere = cluster.make_namespace()
    with lightkube.Client(lightkube.KubeConfig.from_file(kubeconfig), namespace=namespace) as client:
        client.create(pod("one", namespace))
        assert client.get(Pod, "one", namespace=namespace).status is not None
        list(client.list(Node))
        with refusal(403) as refused:
            client.delete(Pod, "one", namespace=namespace)
        who = f"system:serviceaccount:{namespace}:narrow"
        assert f'User "{who}" cannot delete resource "pods"' in str(refused.value)
        with refusal(403):
            list(client.list(Secret, namespace=namespace))
        with refusal(403):
            client.get(Pod, "one", namespace=elsewhere)


def test_pod_lies_on_the_node_that_it_is_bound_to(cluster: Cluster, namespace: str) -> None:
    name = f"node-{namespace}"
    node = cluster.add_node(name, gpus=2, labels={"zone": "a"})
    assert node.status is not None
    assert node.status.allocatable == {
        "cpu": "4",
        "memory": "8Gi",
        "pods": "110",
        "ephemeral-storage": "100Gi",
        "nvidia.com/gpu": "2",
    }
    cluster.client.create(pod("one", namespace))
    cluster.bind(namespace, "one", name)
    assert [
        each.metadata.name
        for each in cluster.client.list(Pod, namespace=namespace, fields={"spec.nodeName": name})
        if each.metadata
    ] == ["one"]
    cluster.client.delete(Pod, "one", namespace=namespace)
    cluster.end_pod(namespace, "one")
    with refusal(404):
        cluster.client.get(Pod, "one", namespace=namespace)
    cluster.set_ready(name, False)
    lost = cluster.client.get(Node, name)
    assert lost.status is not None
    (ready,) = [each for each in lost.status.conditions or [] if each.type == "Ready"]
    assert ready.status == "False"


def test_namespace_can_refuse_pods_that_share_the_hosts_network(cluster: Cluster) -> None:
    namespace = cluster.make_namespace(labels={"pod-security.kubernetes.io/enforce": "baseline"})
    sharing = pod("one", namespace)
    assert sharing.spec is not None
    sharing.spec.hostNetwork = True
    with refusal(403) as refused:
        cluster.client.create(sharing)
    assert "violates PodSecurity" in str(refused.value)
