"""
Pods: what a task says beyond containers where it is a pod of Kubernetes.

Records alone, in the words of controller and agent alike; their meaning is Kubernetes'.
Source of the fields: AWS Batch API reference, EksPodProperties and EksContainerSecurityContext.
"""

from __future__ import annotations

from dataclasses import dataclass

from batchyard.ids import named_uuid
from batchyard.pairs import Pairs

CLUSTER_LABEL = "batchyard.io/cluster"
"""Of a host that is a node of a cluster: the cluster's name."""
NAMESPACE_LABEL = "batchyard.io/namespace"
"""Of such a host: where its agent puts pods that name no namespace."""

PULL_ALWAYS = "Always"
PULL_IF_NOT_PRESENT = "IfNotPresent"
PULL_POLICIES = (PULL_ALWAYS, PULL_IF_NOT_PRESENT, "Never")

CLUSTER_FIRST = "ClusterFirst"
CLUSTER_FIRST_WITH_HOST_NET = "ClusterFirstWithHostNet"
DNS_POLICIES = ("Default", CLUSTER_FIRST, CLUSTER_FIRST_WITH_HOST_NET)

LOCALHOST = "Localhost"
SECCOMP_TYPES = ("RuntimeDefault", LOCALHOST, "Unconfined")

MEMORY = "Memory"
MEDIUMS = ("", MEMORY)
"""Of an empty folder: the host's disk, or its memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityContext:
    """
    What containers of a pod may do on their host; None: what the pod says, else Kubernetes or the image.

    Attributes:
        capabilities_add: Without ``CAP_``.
        seccomp_type: Of `SECCOMP_TYPES`; empty: nothing is said.
        seccomp_profile: Of `LOCALHOST`: path of the profile below the node's folder of profiles.
        fs_group: Of a pod alone: a group of all its containers that owns its volumes.
    """

    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    allow_privilege_escalation: bool | None = None
    capabilities_add: tuple[str, ...] = ()
    capabilities_drop: tuple[str, ...] = ()
    seccomp_type: str = ""
    seccomp_profile: str = ""
    fs_group: int | None = None


NO_SECURITY = SecurityContext()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """
    What a pod is beside its containers and volumes.

    Attributes:
        service_account: In the pod's namespace; empty: it gets no credentials.
        host_network: Whether it is on its node's network; None: it is (AWS).
        dns_policy: Of `DNS_POLICIES`; empty: what `dns` says.
        image_pull_secrets: Names of secrets of the cluster.
        namespace: Empty: its agent's.
        security: Of all containers that say nothing else.
    """

    service_account: str = ""
    host_network: bool | None = None
    dns_policy: str = ""
    image_pull_secrets: tuple[str, ...] = ()
    labels: Pairs = ()
    annotations: Pairs = ()
    namespace: str = ""
    security: SecurityContext = NO_SECURITY

    @property
    def is_on_host_network(self) -> bool:
        """Whether it is on its node's network."""
        return self.host_network is not False

    @property
    def dns(self) -> str:
        """The policy that it gets."""
        return self.dns_policy or (CLUSTER_FIRST_WITH_HOST_NET if self.is_on_host_network else CLUSTER_FIRST)


def pod_name(unit_id: str) -> str:
    """
    Return the name of the pod of a job, child or node: the same for all its attempts.

    So a cluster itself refuses a second one while there is a first. AWS's have the same
    form, and differ with each attempt.
    """
    return f"aws-batch.{named_uuid(f'pod/{unit_id}')}"


def pull_policy(image: str, said: str) -> str:
    """Return when an image is pulled: as it is *said*, else as Kubernetes does by its tag."""
    if said:
        return said
    name = image.rpartition("/")[2]
    is_latest = "@" not in name and name.partition(":")[2] in ("", "latest")
    return PULL_ALWAYS if is_latest else PULL_IF_NOT_PRESENT
