"""
A cluster as tests use it: what its controllers, kubelets and administrators do, done by hand.

Everything goes through the API, whichever server answers. One without controllers
(``api_server.py``) makes no service accounts in a namespace and frees none that is deleted.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightkube
from lightkube.core.resource import NamespacedSubResource
from lightkube.generic_resource import Generic
from lightkube.models.authentication_v1 import TokenRequestSpec
from lightkube.models.core_v1 import NodeSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.models.rbac_v1 import PolicyRule, RoleRef, Subject
from lightkube.resources.core_v1 import (
    ConfigMap,
    Namespace,
    Node,
    NodeStatus,
    Pod,
    PodBinding,
    PodStatus,
    ServiceAccount,
    ServiceAccountToken,
)
from lightkube.resources.rbac_authorization_v1 import ClusterRole, ClusterRoleBinding, Role, RoleBinding
from lightkube.types import PatchType
from tests.kubernetes.api_server import write_kubeconfig

TOKEN_LIFE_S = 3600
ACCOUNT_LIMIT_S = 20
RBAC = "rbac.authorization.k8s.io"


class _Bound(NamespacedSubResource, Generic):  # type: ignore[misc]  # so does the library itself
    """PodBinding, whose answer is a Status: the class of that name cannot hold it."""

    _api_info = PodBinding._api_info


class Cluster:
    """
    A cluster and an administrator of it; a context manager that removes what was made for the whole cluster.

    Args:
        kubeconfig: Of who may do everything.
        folder: Where further kubeconfigs go.
        ca: Of a cluster without controllers: the certificate of its authority, which pods must be told.
    """

    def __init__(self, kubeconfig: Path, folder: Path, ca: Path | None = None) -> None:
        self.kubeconfig, self._folder, self._ca = kubeconfig, folder, ca
        self.client = lightkube.Client(lightkube.KubeConfig.from_file(kubeconfig))
        self._made: list[tuple[Any, str]] = []

    def close(self) -> None:
        """Remove namespaces, nodes and roles that were made here, as far as the cluster lets them go."""
        for kind, name in reversed(self._made):
            try:
                self.client.delete(kind, name, grace_period=0)
            except lightkube.ApiError as error:
                if error.status.code != 404:
                    raise
        self._made.clear()
        self.client.close()

    def make_namespace(self, name: str = "", labels: Mapping[str, str] | None = None) -> str:
        """Make a namespace in which pods can be made, and return its name."""
        name = name or f"test-{uuid.uuid4().hex[:10]}"
        self.client.create(Namespace(metadata=ObjectMeta(name=name, labels=dict(labels or {}))))
        self._made.append((Namespace, name))
        if self._ca is None:
            self._wait_for_account(name)
        else:
            self.client.create(ServiceAccount(metadata=ObjectMeta(name="default", namespace=name)))
            authority = ConfigMap(
                metadata=ObjectMeta(name="kube-root-ca.crt", namespace=name), data={"ca.crt": self._ca.read_text()}
            )
            self.client.create(authority)
        return name

    def _wait_for_account(self, namespace: str) -> None:
        """Wait until the cluster's controllers have made what each pod of the namespace needs."""
        deadline = time.monotonic() + ACCOUNT_LIMIT_S
        while True:
            try:
                self.client.get(ServiceAccount, "default", namespace=namespace)
            except lightkube.ApiError as error:
                if error.status.code != 404 or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return

    def make_account(
        self, namespace: str, name: str, rules: Sequence[PolicyRule], cluster_rules: Sequence[PolicyRule] = ()
    ) -> Path:
        """
        Make a service account that may do these things and no others, and return its kubeconfig.

        Args:
            namespace: Where it lives, and where *rules* hold.
            name: Its name, its roles' too.
            rules: What it may do in the namespace.
            cluster_rules: What it may do in the whole cluster.
        """
        there = ObjectMeta(name=name, namespace=namespace)
        self.client.create(ServiceAccount(metadata=there))
        subjects = [Subject(kind="ServiceAccount", name=name, namespace=namespace)]
        self.client.create(Role(metadata=there, rules=list(rules)))
        role = RoleRef(apiGroup=RBAC, kind="Role", name=name)
        self.client.create(RoleBinding(metadata=there, roleRef=role, subjects=subjects))
        if cluster_rules:
            everywhere = ObjectMeta(name=f"{namespace}-{name}")
            self.client.create(ClusterRole(metadata=everywhere, rules=list(cluster_rules)))
            role = RoleRef(apiGroup=RBAC, kind="ClusterRole", name=f"{namespace}-{name}")
            self.client.create(ClusterRoleBinding(metadata=everywhere, roleRef=role, subjects=subjects))
            self._made += [(ClusterRole, f"{namespace}-{name}"), (ClusterRoleBinding, f"{namespace}-{name}")]
        return self.write_kubeconfig(namespace, name)

    def write_kubeconfig(self, namespace: str, account: str) -> Path:
        """Write a kubeconfig with a fresh token of a service account that is there, and return where it lies."""
        wish = ServiceAccountToken(
            metadata=ObjectMeta(), spec=TokenRequestSpec(audiences=[], expirationSeconds=TOKEN_LIFE_S)
        )
        answer = self.client.create(wish, account, namespace=namespace)
        assert answer.status is not None
        chosen = lightkube.KubeConfig.from_file(self.kubeconfig).get()
        assert chosen is not None
        assert chosen.cluster.server is not None
        cluster = {"server": chosen.cluster.server}
        if chosen.cluster.certificate_auth:
            cluster["certificate-authority"] = str(chosen.abs_file(chosen.cluster.certificate_auth))
        if chosen.cluster.certificate_auth_data:
            cluster["certificate-authority-data"] = chosen.cluster.certificate_auth_data
        path = self._folder / f"{namespace}-{account}.kubeconfig"
        return write_kubeconfig(path, cluster, {"token": answer.status.token or ""})

    def add_node(
        self,
        name: str,
        *,
        cpu: str = "4",
        memory: str = "8Gi",
        gpus: int = 0,
        labels: Mapping[str, str] | None = None,
    ) -> NodeStatus:
        """Make a node that is ready, without a kubelet: an object, on which pods are what the test says."""
        labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", **(labels or {})}
        self.client.create(Node(metadata=ObjectMeta(name=name, labels=labels), spec=NodeSpec()))
        self._made.append((Node, name))
        amounts = {"cpu": cpu, "memory": memory, "pods": "110", "ephemeral-storage": "100Gi"}
        if gpus:
            amounts["nvidia.com/gpu"] = str(gpus)
        status = {
            "capacity": amounts,
            "allocatable": amounts,
            "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}, {"type": "Hostname", "address": name}],
            "nodeInfo": _node_info(),
            "conditions": [_ready(True)],
        }
        return self.patch_node_status(name, status)

    def patch_node_status(self, name: str, status: Mapping[str, Any]) -> NodeStatus:
        """Say something of a node, as its kubelet does."""
        return self.client.patch(NodeStatus, name, {"status": dict(status)}, patch_type=PatchType.STRATEGIC)

    def set_ready(self, node: str, ready: bool) -> None:
        """Say whether a node is ready."""
        self.patch_node_status(node, {"conditions": [_ready(ready)]})

    def bind(self, namespace: str, pod: str, node: str) -> None:
        """Put a pod on a node, as the scheduler does."""
        target = {"apiVersion": "v1", "kind": "Node", "name": node}
        self.client.create(_Bound(metadata=ObjectMeta(name=pod), target=target), pod, namespace=namespace)

    def patch_pod_status(self, namespace: str, pod: str, status: Mapping[str, Any]) -> PodStatus:
        """Say something of a pod, as the kubelet of its node does."""
        kind = PatchType.MERGE  # lists are replaced as a whole
        return self.client.patch(PodStatus, pod, {"status": dict(status)}, namespace=namespace, patch_type=kind)

    def end_pod(self, namespace: str, pod: str) -> None:
        """Let a pod go that is being deleted, as its node's kubelet does when the containers have ended."""
        self.client.delete(Pod, pod, namespace=namespace, grace_period=0)


def _ready(ready: bool) -> dict[str, str]:
    return {"type": "Ready", "status": "True" if ready else "False", "reason": "Test", "message": "said by a test"}


def _node_info() -> dict[str, str]:
    """Return what a kubelet tells of its machine; all of it must be there."""
    return {
        "machineID": uuid.uuid4().hex,
        "systemUUID": str(uuid.uuid4()),
        "bootID": str(uuid.uuid4()),
        "kernelVersion": "6.1.0",
        "osImage": "Debian GNU/Linux 12 (bookworm)",
        "containerRuntimeVersion": "containerd://1.6.20",
        "kubeletVersion": "v1.34.4",
        "kubeProxyVersion": "",
        "operatingSystem": "linux",
        "architecture": "amd64",
    }
