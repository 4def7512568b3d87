"""Offers: what there is in the yard that a form may name, and how much room there is for what it asks."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

from batchyard.runtimes import DOCKER, KUBERNETES, PROCESS
from batchyard.v1 import compute_environment_pb2 as environment_pb
from batchyard.v1 import host_pb2
from batchyard.v1 import job_queue_pb2 as queue_pb
from batchyard_gateway.batch import amounts, pod_amounts
from batchyard_gateway.batch.names import Names
from batchyard_gateway.batch.pods import CONTAINERS, EKS, POD, cluster_arn
from batchyard_gateway.console.visit import Visit
from batchyard_gateway.errors import ApiError
from batchyard_gateway.services import Members

from . import definition_form, room

NAMES_MAX = 1000
"""Things of a kind that are offered by name."""

REVISIONS_MAX = 5000
"""Revisions that are looked through for the newest of each name."""


async def hosts(visit: Visit) -> list[host_pb2.Host]:
    """Return all hosts."""
    return [host async for host in visit.client.list_hosts(page_size=1000)]


async def environments(visit: Visit) -> list[environment_pb.ComputeEnvironment]:
    """Return all compute environments."""
    return [each async for each in visit.client.list_compute_environments(page_size=1000)]


def clusters(found: Sequence[host_pb2.Host], names: Names) -> list[tuple[str, str]]:
    """Return ARN and namespace of each cluster that hosts are nodes of."""
    nodes = [host.facts.kubernetes for host in found if host.facts.HasField("kubernetes")]
    return list(dict.fromkeys((cluster_arn(node.cluster, names), node.namespace) for node in nodes))


async def queues(visit: Visit) -> list[queue_pb.JobQueue]:
    """Return the first job queues by name."""
    return [queue async for queue in visit.client.list_job_queues(page_size=1000)][:NAMES_MAX]


async def policies(visit: Visit) -> list[tuple[str, str]]:
    """Return the names of scheduling policies and of what kind each is, after an empty one for none."""
    found = [each async for each in visit.client.list_scheduling_policies(page_size=1000)]
    kinds = [(each.name, "quota shares" if each.HasField("quota_share") else "fair share") for each in found]
    return [("", "None: first in, first out"), *((name, f"{name} ({kind})") for name, kind in kinds)]


async def newest_definitions(visit: Visit) -> list[str]:
    """Return ``name:revision`` of the newest ACTIVE revision of each name."""
    found: dict[str, str] = {}
    looked_at = 0
    async with aclosing(visit.client.list_job_definitions(status="ACTIVE", page_size=1000)) as revisions:
        async for each in revisions:
            found.setdefault(each.name, f"{each.name}:{each.revision}")
            looked_at += 1
            if len(found) >= NAMES_MAX or looked_at >= REVISIONS_MAX:
                break
    return list(found.values())


async def secrets(visit: Visit) -> list[str]:
    """Return the names of secrets."""
    return [each.name async for each in visit.client.list_secrets()][:NAMES_MAX]


async def shares(visit: Visit, found: list[queue_pb.JobQueue]) -> dict[str, list[str]]:
    """
    Return the shares that jobs may name, by queue with a scheduling policy.

    Of a queue with quota shares they are all that there are; of one of weights those that its policy
    names, beside which jobs may name any other.
    """
    by_name = {each.name: each async for each in visit.client.list_scheduling_policies(page_size=1000)}
    named: dict[str, list[str]] = {}
    for queue in found:
        policy = by_name.get(queue.scheduling_policy)
        if policy is None:
            continue
        if policy.HasField("quota_share"):
            named[queue.name] = [each.name async for each in visit.client.list_quota_shares(queue.name)]
        else:
            named[queue.name] = [each.share_identifier for each in policy.fairshare.share_distribution]
    return named


async def room_of(visit: Visit, members: Members) -> room.Room | None:
    """Return how many hosts could hold what a container asks for; None while it says nothing that can be read."""
    container = members.get("containerProperties", {})
    try:
        if EKS in members:
            pod = members[EKS][POD]
            found = [pod_amounts.of(each.get("resources", {})).resources for each in pod.get(CONTAINERS, ())]
            return room.room_for(await hosts(visit), room.together(found), runtime=KUBERNETES)
        asked = amounts.amounts(container, fargate=True)
    except ApiError:
        return None
    runtime = PROCESS if container.get("image") == definition_form.PROCESS else DOCKER
    return room.room_for(await hosts(visit), asked, runtime=runtime)
