"""
Membership: which hosts are an environment's, which are not, and by which rule.

It states no rule: `feasibility.exclusion`, by which placement goes, is asked.
"""

from __future__ import annotations

from dataclasses import dataclass

from batchyard_controller.core.model.hosts import HostRecord
from batchyard_controller.core.model.settings import ComputeEnvironment, KubernetesCluster
from batchyard_controller.core.placement.feasibility import Exclusion, exclusion
from batchyard_controller.core.world.world import World

NO_NAMESPACE = "CLIENT_ERROR - Unable to validate Kubernetes Namespace"
NO_NODES = (
    "Your compute environment has been INVALIDATED and scaled down because none of the nodes joined the underlying "
    "Amazon EKS Cluster."
)
"""Both: AWS Batch User Guide, "INVALID compute environment" of Amazon EKS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """
    How a host stands to an environment.

    Attributes:
        exclusion: Why it is none of the environment's; None of one that is.
        away: Why it gets no new work now; empty of one that gets some.
    """

    host: HostRecord
    exclusion: Exclusion | None
    away: str

    @property
    def place(self) -> str:
        """Where it stands in a list of hosts."""
        return f"{self.host.facts.name}/{self.host.id}"


def cluster_fault(world: World, environment: str, cluster: KubernetesCluster) -> str:
    """
    Say why an environment of a cluster is INVALID, in AWS's words; nothing if it is VALID.

    That the namespace is none of the cluster's is known by the agents of its nodes. While
    none has come, nothing is known; but where jobs wait for the environment one should have,
    as AWS sees when nodes that it launched for jobs do not join.
    """
    nodes = [facts for host in world.hosts.values() if (facts := host.record.facts.kubernetes) is not None]
    of_cluster = [node for node in nodes if node.cluster == cluster.name]
    if not of_cluster:
        queues = [queue for queue in world.queues.values() if environment in queue.compute_environments]
        return NO_NODES if any(world.lines.some_of(queue.name, 1) for queue in queues) else ""
    return "" if any(node.namespace == cluster.namespace for node in of_cluster) else NO_NAMESPACE


def memberships(world: World, environment: ComputeEnvironment) -> list[Membership]:
    """Return how each host stands to an environment, which need not be one of the yard's, in order of names."""
    fleet = world.fleet
    found = [
        Membership(
            host=host.record,
            exclusion=exclusion(host.record.facts, environment),
            away=fleet.away[fleet.rows[host_id]],
        )
        for host_id, host in world.hosts.items()
    ]
    return sorted(found, key=lambda each: each.place)
