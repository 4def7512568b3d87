"""
Nodes: AWS's node properties and overrides to the contract's and back.

Pure. A definition's nodeProperties are kept as they were given; of a job they show what
was overridden. A multi-node job has no container, by which programs tell it from others;
its nodes have one, and no nodeProperties.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from batchyard.v1 import job_definition_pb2 as pb
from batchyard.v1 import job_pb2
from batchyard_gateway.errors import ClientException, ExecutionException
from batchyard_gateway.services import Members

from . import containers, pods, tasks
from .consumables import OVERRIDE, PROPERTIES, check_needs
from .mapping import LISTED, Row, fields, residue

NODES = "nodeProperties"
_CONTAINER = "container"
_RANGES = "nodeRangeProperties"
_RANGE = (Row("targetNodes", "target_nodes"), Row("instanceTypes", "instance_types", LISTED), PROPERTIES)
_RANGE_OVERRIDE = (Row("targetNodes", "target_nodes"), Row("instanceTypes", "instance_types", LISTED), OVERRIDE)
_PARTS = (_CONTAINER, tasks.ECS, pods.EKS)
_BESIDE = ("containerProperties", tasks.ECS, pods.EKS)


def check(members: Members) -> None:
    """
    Check a registration of type multinode, as far as the contract does not.

    Raises:
        ClientException: it breaks a rule of AWS's.
    """
    if NODES not in members:
        raise ClientException("Job definitions of type multinode need nodeProperties")
    for name in _BESIDE:
        if name in members:
            raise ClientException(f"{name} is not applicable for a job definition of type multinode")
    for each in members[NODES][_RANGES]:
        given = [name for name in _PARTS if name in each]
        if len(given) != 1:
            raise ClientException(f"A node range needs exactly one of {', '.join(_PARTS)}, not {len(given)} of them")
        check_needs(each, "consumableResourceProperties")
        if pods.EKS in each:
            pods.check(each[pods.EKS])
        elif tasks.ECS in each:
            tasks.check(each[tasks.ECS], ())
        else:
            containers.check(each[_CONTAINER], ())


def request_field(node_properties: Members) -> pb.NodeProperties:
    """Return the contract's nodes for node properties that were checked."""
    return pb.NodeProperties(
        num_nodes=node_properties["numNodes"],
        main_node=node_properties["mainNode"],
        ranges=[pb.NodeRange(**_runs(each), **fields(_RANGE, each)) for each in node_properties[_RANGES]],
    )


def has_pods(members: Members) -> bool:
    """Say whether the nodes of a definition, if it has any, are pods."""
    return any(pods.EKS in each for each in members.get(NODES, {}).get(_RANGES, ()))


def _runs(given: Members) -> dict[str, Any]:
    if pods.EKS in given:
        return {"task": pods.request_field(given[pods.EKS])}
    if tasks.ECS in given:
        return tasks.request_fields(given[tasks.ECS], fargate=False)
    return {"container": containers.container(given[_CONTAINER], fargate=False)}


# Overrides --------------------------------------------------------------------------


def check_overrides(node_overrides: Members) -> list[Members]:
    """
    Check what is overridden of nodes; return what is of their containers, which is checked as of other jobs.

    Raises:
        ClientException: it breaks a rule of AWS's.
    """
    found: list[Members] = []
    for each in node_overrides.get("nodePropertyOverrides", ()):
        pods.check_override(each.get(pods.OVERRIDE, {}))
        check_needs(each, "consumableResourcePropertiesOverride")
        found += containers_of(each)
    if node_overrides.get("numNodes") == 0:
        raise ExecutionException("numNodes must be at least 1, not 0")
    return found


def containers_of(override: Members) -> list[Members]:
    """
    Return what is overridden of the containers of a range.

    Raises:
        ClientException: it is said in two ways.
    """
    given = [name for name in ("containerOverrides", "ecsPropertiesOverride", pods.OVERRIDE) if name in override]
    if len(given) > 1:
        raise ClientException(f"Give either {' or '.join(given)}, not {len(given)} of them")
    if "ecsPropertiesOverride" not in override:
        return [override["containerOverrides"]] if "containerOverrides" in override else []
    found = override["ecsPropertiesOverride"].get("taskProperties", [])
    return [container for task in found for container in task.get("containers", ())]


def range_overrides(override: Members, messages: Sequence[job_pb2.ContainerOverrides]) -> job_pb2.NodeRangeOverrides:
    """Return the contract's overrides of a range, given those of its containers, which go by name where they have one."""
    of_pod = pods.pod_overrides(override.get(pods.OVERRIDE, {}))
    result = job_pb2.NodeRangeOverrides(**fields(_RANGE_OVERRIDE, override), pod_overrides=of_pod)
    if len(messages) == 1 and not messages[0].name:
        result.overrides.CopyFrom(messages[0])
    else:
        result.container_overrides.extend(messages)
    return result


# Reading ----------------------------------------------------------------------------


def shown(nodes: pb.NodeProperties, kept: Members) -> Members:
    """
    Return AWS's node properties.

    Args:
        nodes: Of a definition; of a job with what its submission replaced.
        kept: Those of its definition as they were given; empty of one that was registered natively.
    """
    given = kept.get(_RANGES, [{}] * len(nodes.ranges))
    return {
        "numNodes": nodes.num_nodes,
        "mainNode": nodes.main_node,
        _RANGES: [_shown_range(each, old) for each, old in zip(nodes.ranges, given, strict=True)],
    }


def _shown_range(each: pb.NodeRange, given: Members) -> Members:
    members: Members = {**given, "targetNodes": each.target_nodes}
    if each.instance_types:
        members["instanceTypes"] = list(each.instance_types)
    if each.task.HasField("pod"):
        members[pods.EKS] = pods.job_members(job_pb2.Job(task=each.task), given.get(pods.EKS, {}))
    elif tasks.ECS in given or each.HasField("task"):
        job = job_pb2.Job(**_part(each))
        members[tasks.ECS] = tasks.job_members(job, given.get(tasks.ECS, {}), {})
    else:
        members[_CONTAINER] = containers.job_members(each.container, container_residue(given))
    return members


def _part(each: pb.NodeRange) -> dict[str, Any]:
    return {"task": each.task} if each.HasField("task") else {"container": each.container}


def container_residue(given: Members) -> Members:
    """Return what of the container of a range the contract cannot say."""
    if _CONTAINER not in given:
        return {}
    return containers.residue_of(given[_CONTAINER], containers.container(given[_CONTAINER], fargate=False))


def residue_of(node_properties: Members, nodes: pb.NodeProperties) -> Members:
    """Return node properties whole if the contract cannot say all of them; nothing if it can."""
    return node_properties if residue(node_properties, shown(nodes, {})) else {}


def range_of(kept: Members, details: job_pb2.NodeDetails, index: int) -> Members:
    """Return what a definition gave for a node: the innermost range that holds it."""
    spans = [(_span(each["targetNodes"], details.num_nodes), each) for each in kept.get(_RANGES, ())]
    holding = [(stop - start, i) for i, ((start, stop), _) in enumerate(spans) if start <= index < stop]
    return spans[min(holding)[1]][1] if holding else {}


def _span(target: str, count: int) -> tuple[int, int]:
    first, colon, last = target.partition(":")
    start = int(first or 0)
    return start, (int(last) + 1 if last else count) if colon else start + 1


def as_main(job: job_pb2.Job) -> job_pb2.Job:
    """Return a multi-node job as one that runs what its main node does."""
    kept = {_RANGES: [{"targetNodes": each.target_nodes, "place": i} for i, each in enumerate(job.nodes.ranges)]}
    place = range_of(kept, job.node, job.node.main_node)["place"]
    found = job_pb2.Job()
    found.CopyFrom(job)
    found.MergeFrom(job_pb2.Job(**_part(job.nodes.ranges[place])))
    return found


def details(node: job_pb2.NodeDetails) -> Members:
    """Return AWS's details of a node."""
    return {"nodeIndex": node.index, "isMainNode": node.index == node.main_node}


def summary(node: job_pb2.NodeDetails) -> Members:
    """Return what a list says of a node, or of a multi-node job."""
    return {"numNodes": node.num_nodes, **(details(node) if node.HasField("index") else {})}
