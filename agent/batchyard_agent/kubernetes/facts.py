"""
What nodes and pods are, from the objects of the API.

Pure: objects of lightkube in, records out. It decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from lightkube.models import core_v1 as core
from lightkube.resources.core_v1 import Node, Pod
from lightkube.utils.quantity import parse_quantity

from batchyard.ids import AttemptId, HostId, attempt_id_of_task
from batchyard.resources import GPU_WHOLE, NOTHING, Resources
from batchyard_agent.core.pods import PodContainer, PodFacts
from batchyard_agent.kubernetes.pod_body import ATTEMPT_LABEL, FINALIZER, GPU, HOST_LABEL, NODE_TAINT

ARCHITECTURES = {"amd64": "X86_64", "arm64": "ARM64"}
"""Kubernetes' words (Go's), and AWS's."""
SPOT_LABELS = {
    "eks.amazonaws.com/capacityType": "SPOT",
    "karpenter.sh/capacity-type": "spot",
    "cloud.google.com/gke-spot": "true",
    "kubernetes.azure.com/scalesetpriority": "spot",
}
"""By which nodes say that they may be taken away."""
_KEEPING_OFF = frozenset({"NoSchedule", "NoExecute"})
_OWN_TAINTS = frozenset(
    {
        "node.kubernetes.io/unschedulable",
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    }
)
"""What conditions and spec of the node say as well."""
_OVER = frozenset({"Succeeded", "Failed"})
_MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """
    What the cluster says of a node.

    Attributes:
        boot_id: A new one at every boot.
        is_ready: It is heard from, and well.
        is_cordoned: It is to get no new pods.
        taint: What keeps pods off it that do not tolerate it; empty: nothing.
        allocatable: What pods may have of it, all together.
        address: Where others reach it.
        is_out_of_service: An operator says that it is down for good (taint
            ``node.kubernetes.io/out-of-service``), so that nothing runs there.
    """

    name: str
    uid: str
    boot_id: str = ""
    is_ready: bool = False
    is_cordoned: bool = False
    taint: str = ""
    allocatable: Resources = NOTHING
    address: str = ""
    labels: Mapping[str, str]
    operating_system: str = ""
    architecture: str = ""
    is_out_of_service: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenPod:
    """
    One pod, ours or another's.

    Attributes:
        node: Where it is bound; empty: nowhere yet.
        host_id: Of ours: the host that its label names; empty of others.
        attempt_id: Of ours: whose it is; empty of others.
        is_kept: It bears our finalizer.
        held: What it holds of its node: what it asks for, nothing once it is over.
    """

    name: str
    namespace: str
    uid: str
    node: str
    host_id: HostId
    attempt_id: AttemptId
    is_kept: bool
    held: Resources
    facts: PodFacts


def node_facts(node: Node) -> NodeFacts:
    """Read a node's object."""
    meta, spec, status = node.metadata, node.spec or core.NodeSpec(), node.status or core.NodeStatus()
    assert meta is not None
    assert meta.name is not None
    info = status.nodeInfo
    taints = {taint.key: taint for taint in spec.taints or ()}
    barring = [
        taint.key
        for taint in taints.values()
        if taint.effect in _KEEPING_OFF and taint.key != NODE_TAINT and taint.key not in _OWN_TAINTS
    ]
    return NodeFacts(
        name=meta.name,
        uid=meta.uid or "",
        boot_id=info.bootID if info is not None else "",
        is_ready=any(c.type == "Ready" and c.status == "True" for c in status.conditions or ()),
        is_cordoned=bool(spec.unschedulable),
        taint=barring[0] if barring else "",
        allocatable=_amounts(status.allocatable or status.capacity or {}, math.floor),
        address=next((a.address for a in status.addresses or () if a.type == "InternalIP"), ""),
        labels=dict(meta.labels or {}),
        operating_system=info.osImage if info is not None else "",
        architecture=ARCHITECTURES.get(info.architecture, "") if info is not None else "",
        is_out_of_service="node.kubernetes.io/out-of-service" in taints,
    )


def seen_pod(pod: Pod) -> SeenPod:
    """Read a pod's object."""
    meta, spec = pod.metadata, pod.spec
    assert meta is not None
    assert spec is not None
    labels = meta.labels or {}
    facts = pod_facts(pod)
    attempt_id = attempt_id_of_task(labels.get(ATTEMPT_LABEL, ""))
    return SeenPod(
        name=meta.name or "",
        namespace=meta.namespace or "",
        uid=meta.uid or "",
        node=spec.nodeName or "",
        host_id=HostId(labels.get(HOST_LABEL, "")) if attempt_id is not None else HostId(""),
        attempt_id=attempt_id or AttemptId(""),
        is_kept=FINALIZER in (meta.finalizers or ()),
        held=NOTHING if facts.phase in _OVER else _requests(spec),
        facts=facts,
    )


def pod_facts(pod: Pod) -> PodFacts:
    """Read what a pod's object says of how it is."""
    meta, spec, status = pod.metadata, pod.spec, pod.status or core.PodStatus()
    assert meta is not None
    assert spec is not None
    conditions = {condition.type: condition for condition in status.conditions or ()}
    scheduled, disrupted = conditions.get("PodScheduled"), conditions.get("DisruptionTarget")
    unschedulable = disruption = ""
    if scheduled is not None and scheduled.status == "False":
        unschedulable = scheduled.message or scheduled.reason or ""
    if disrupted is not None and disrupted.status == "True":
        disruption = ": ".join(filter(None, (disrupted.reason, disrupted.message))) or "DisruptionTarget"
    return PodFacts(
        phase=status.phase or "Pending",
        reason=status.reason or "",
        message=status.message or "",
        is_bound=bool(spec.nodeName),
        unschedulable=unschedulable,
        disruption=disruption,
        is_deleted=meta.deletionTimestamp is not None,
        containers=_containers(spec.containers, status.containerStatuses),
        init_containers=_containers(spec.initContainers, status.initContainerStatuses),
    )


def _containers(
    containers: Iterable[core.Container] | None, statuses: Iterable[core.ContainerStatus] | None
) -> tuple[PodContainer, ...]:
    told = {status.name: status for status in statuses or ()}
    return tuple(_container(container.name, told.get(container.name)) for container in containers or ())


def _container(name: str, status: core.ContainerStatus | None) -> PodContainer:
    state = status.state if status is not None else None
    if status is None or state is None:
        return PodContainer(name=name)
    container_id = status.containerID or ""
    if (ended := state.terminated) is not None:
        return PodContainer(
            name=name,
            state="terminated",
            reason=ended.reason or ("Error" if ended.exitCode else "Completed"),
            message=ended.message or "",
            exit_code=ended.exitCode,
            # The kubelet says year 1 of 1970 of what never started.
            started_at_ms=_ms(ended.startedAt),
            stopped_at_ms=_ms(ended.finishedAt),
            container_id=ended.containerID or container_id,
        )
    if state.running is not None:
        started_at_ms = _ms(state.running.startedAt)
        return PodContainer(name=name, state="running", started_at_ms=started_at_ms, container_id=container_id)
    if (waiting := state.waiting) is not None:
        return PodContainer(name=name, state="waiting", reason=waiting.reason or "", message=waiting.message or "")
    return PodContainer(name=name)


def _ms(moment: datetime | None) -> int:
    return max(0, int(moment.timestamp() * 1000)) if moment is not None else 0


def _requests(spec: core.PodSpec) -> Resources:
    """Return what a pod holds: all its containers' together, or one that runs before them, if more."""
    held = NOTHING
    before = NOTHING
    for container in spec.initContainers or ():
        asked = _asked(container)
        if container.restartPolicy == "Always":  # it goes on beside the others
            held += asked
        before = _most(before, asked)
    for container in spec.containers:
        held += _asked(container)
    return _most(held, before) + _amounts(spec.overhead or {}, math.ceil)


def _asked(container: core.Container) -> Resources:
    resources = container.resources or core.ResourceRequirements()
    return _amounts({**(resources.limits or {}), **(resources.requests or {})}, math.ceil)


def _most(one: Resources, other: Resources) -> Resources:
    return Resources(
        cpu_millis=max(one.cpu_millis, other.cpu_millis),
        memory_mib=max(one.memory_mib, other.memory_mib),
        gpu_millis=max(one.gpu_millis, other.gpu_millis),
    )


def _amounts(said: Mapping[str, str], rounded: Callable[[float], int]) -> Resources:
    return Resources(
        cpu_millis=rounded(_number(said, "cpu") * 1000),
        memory_mib=rounded(_number(said, "memory") / _MIB),
        gpu_millis=rounded(_number(said, GPU)) * GPU_WHOLE,
    )


def _number(said: Mapping[str, str], name: str) -> float:
    return float(parse_quantity(str(said.get(name, "0"))) or 0)
