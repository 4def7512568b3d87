"""
A node as the controller sees it: facts and usage, as messages.

It joins what the cluster says of the node with what the configuration says. It knows no
attempts. Law: what is offered is what the cluster lets pods have; what others' pods hold of
it changes all the time and is told with each heartbeat, and never stored.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID, uuid5

import batchyard_agent
from batchyard.ids import HostId
from batchyard.pods import CLUSTER_LABEL, NAMESPACE_LABEL
from batchyard.resources import GPU_WHOLE, NOTHING, Resources
from batchyard.runtimes import KUBERNETES
from batchyard.v1 import host_pb2, resources_pb2
from batchyard_agent.core.events import Now
from batchyard_agent.kubernetes.config import KubernetesConfig
from batchyard_agent.kubernetes.facts import SPOT_LABELS, NodeFacts
from batchyard_agent.kubernetes.mirror import Mirror

_HOSTS = UUID("5a3c1b6e-2f0d-5c3a-8d5e-6b1f0a9c7e42")
GONE = "the node is no part of the cluster any more"
HOST_TYPE_DEFAULT = "node"
LABEL_LENGTH_MAX = 255
"""The controller takes no longer one; Kubernetes' keys may be."""


def host_id_of(node_uid: str, namespace: str) -> HostId:
    """Return the id of the host that a node is to the agent of a namespace: the same whatever became of its state."""
    return HostId(str(uuid5(_HOSTS, f"{namespace}/{node_uid}")))


def gpu_uuids(node: NodeFacts) -> tuple[str, ...]:
    """Name a node's GPUs, of which Kubernetes tells the count alone."""
    return tuple(f"{node.uid}/gpu{i}" for i in range(node.allocatable.gpu_millis // GPU_WHOLE))


class NodeHost:
    """
    One node.

    Args:
        config: The agent's.
        mirror: What the cluster holds.
        node: What it says of the node first.
        read_now: The clock.
    """

    def __init__(self, config: KubernetesConfig, mirror: Mirror, node: NodeFacts, read_now: Callable[[], Now]) -> None:
        self._config = config
        self._mirror = mirror
        self._read_now = read_now
        self._is_gone = False
        self.node = node
        self._facts = self._make_facts()

    def take(self, node: NodeFacts) -> None:
        """Take what is said of the node now."""
        self.node, self._is_gone = node, False
        self._look()

    def take_gone(self) -> None:
        """Take that the node is no part of the cluster any more."""
        self._is_gone = True
        self._look()

    def facts(self) -> host_pb2.HostFacts:
        """Return what the host is; the same object until it has changed."""
        self._look()
        return self._facts

    async def read_usage(self) -> host_pb2.HostUsage:
        """Say what others hold of it."""
        held = self._mirror.held_by_others(self.node.name)
        reserved = _amounts(held) if held != NOTHING else None
        return host_pb2.HostUsage(wall_ms=self._read_now().wall_ms, reserved=reserved)

    def shortage(self) -> str:
        """Say why the node takes no new pods of ours; empty: it does."""
        node = self.node
        if self._is_gone:
            return GONE
        if self._mirror.fault:
            return self._mirror.fault
        if node.is_cordoned:
            return "the node is cordoned in Kubernetes"
        if node.taint:
            return f"the node has the taint {node.taint}"
        return "" if self._config.selector.chooses(node.labels) else "the node's labels are not those of --selector"

    def _look(self) -> None:
        if (facts := self._make_facts()) != self._facts:
            self._facts = facts

    def _make_facts(self) -> host_pb2.HostFacts:
        config, node, limits = self._config, self.node, self._config.limits
        shortage, labels = self.shortage(), node.labels
        return host_pb2.HostFacts(
            # Its successor may bear its name.
            name=f"{node.name}-{node.uid[:8]}" if self._is_gone else node.name,
            boot_id=node.boot_id,
            agent_version=batchyard_agent.__version__,
            capacity=_amounts(node.allocatable),
            gpus=[host_pb2.Gpu(uuid=uuid, model=labels.get("nvidia.com/gpu.product", "")) for uuid in gpu_uuids(node)],
            runtimes=[] if shortage else [KUBERNETES],
            faults=[shortage[:255]] if shortage else [],
            host_type=labels.get("node.kubernetes.io/instance-type", "") or HOST_TYPE_DEFAULT,
            purchase_option="spot" if any(labels.get(k) == v for k, v in SPOT_LABELS.items()) else "on-demand",
            zone=labels.get("topology.kubernetes.io/zone", ""),
            labels={
                **{key: value for key, value in labels.items() if len(key) <= LABEL_LENGTH_MAX},
                **config.labels,
                CLUSTER_LABEL: config.cluster,
                NAMESPACE_LABEL: limits.namespace,
            },
            operating_system=node.operating_system,
            allows_privileged=limits.privileged,
            volume_paths=limits.volume_paths,
            cpu_architecture=node.architecture,
            address=node.address,
            kubernetes=host_pb2.KubernetesFacts(
                cluster=config.cluster,
                namespace=limits.namespace,
                node_uid=node.uid,
                other_namespaces=limits.other_namespaces,
            ),
        )


def _amounts(amounts: Resources) -> resources_pb2.Resources:
    return resources_pb2.Resources(
        cpu_millis=max(0, amounts.cpu_millis),
        memory_mib=max(0, amounts.memory_mib),
        gpu_millis=max(0, amounts.gpu_millis),
    )
