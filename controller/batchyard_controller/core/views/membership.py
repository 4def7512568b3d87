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


def cluster_fault(world: World, cluster: KubernetesCluster) -> str:
    """
    Say why an environment of a cluster is INVALID, in AWS's words; nothing if it is VALID.

    That the namespace is none of the cluster's is known by the agents of its nodes; while
    none has come, nothing is known.
    """
    nodes = [facts for host in world.hosts.values() if (facts := host.record.facts.kubernetes) is not None]
    of_cluster = [node for node in nodes if node.cluster == cluster.name]
    if not of_cluster or any(node.namespace == cluster.namespace for node in of_cluster):
        return ""
    return NO_NAMESPACE


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
