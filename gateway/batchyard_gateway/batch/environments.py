"""
Environments: AWS's compute environments to the contract's and back.

Pure. Members that own machines have no use for (subnets, roles, bids, ...) are kept as
given and shown again.
"""

from __future__ import annotations

import re

from batchyard.arns import environment_uuid, last_part
from batchyard.v1 import compute_environment_pb2 as pb
from batchyard_gateway.errors import ClientException, ExecutionException
from batchyard_gateway.services import Members

from . import rules
from .mapping import ANNOTATION, LISTED, MAPPED, Row, Word, annotated, kept_in, residue, to_members, to_message
from .names import ENVIRONMENT, Names
from .pods import cluster_arn

FARGATE_TYPES = ("FARGATE", "FARGATE_SPOT")
_ROLE_ARN = re.compile(r"arn:.+", re.ASCII)

_ANY_HOST = ("optimal", "default_x86_64", "default_arm64")
"""AWS's words for: choose the instance types yourself."""

_NAME = Row("computeEnvironmentName", "name")
_TYPE = Row("type", "type", Word(pb.ComputeEnvironmentType))
_STATE = Row("state", "state", Word(pb.ResourceState))
_SERVICE_ROLE = Row("serviceRole", "service_role")
_UNMANAGED = Row("unmanagedvCpus", "unmanaged_vcpus")
_TAGS = Row("tags", "tags", MAPPED, always=True)
_STATUS = (Row("status", "status", Word(pb.ResourceStatus)), Row("statusReason", "status_reason"))
_CREATED = (_NAME, _TYPE, _STATE, _SERVICE_ROLE, _UNMANAGED, _TAGS)
_CHANGED = (_STATE, _SERVICE_ROLE, _UNMANAGED)
_SHOWN = (*_CREATED, *_STATUS)
_RESOURCES = (
    Row("type", "type", Word(pb.CapacityType), always=True),
    Row("allocationStrategy", "allocation_strategy", Word(pb.AllocationStrategy)),
    Row("minvCpus", "min_vcpus", always=True),
    Row("maxvCpus", "max_vcpus", always=True),
    Row("desiredvCpus", "desired_vcpus", always=True),
    Row("instanceTypes", "instance_types", LISTED, always=True),
)
_EMPTY: Members = {"instanceTypes": []}
_NOT_SHOWN_FOR_FARGATE = ("allocationStrategy", "minvCpus", "desiredvCpus", "instanceTypes")

_NOT_FOR_FARGATE = (
    *_NOT_SHOWN_FOR_FARGATE,
    "ec2KeyPair",
    "instanceRole",
    "tags",
    "placementGroup",
    "bidPercentage",
    "spotIamFleetRole",
    "launchTemplate",
    "imageId",
    "ec2Configuration",
    "scalingPolicy",
)
_EKS = "eksConfiguration"
_CLUSTER_ARN = re.compile(r"arn:[a-z-]+:eks:[a-z0-9-]+:[0-9]{12}:cluster/[0-9A-Za-z][A-Za-z0-9_-]{0,99}", re.ASCII)
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", re.ASCII)
_NAMESPACE_LENGTH_MAX = 63
_RESOURCES_NOT_OFFERED = {
    "managedInstancesProvider": "Amazon ECS Managed Instances are not offered by Batchyard",
    "capacityTags": "Amazon ECS Managed Instances are not offered by Batchyard",
}
PROVIDER_TAG = "batchyard:provider"
"""A tag of computeResources by which an environment names who launches its hosts."""
_DELAY_MINUTES = (20, 10080)
_KEPT = ("context", "ecsSettings", _EKS)
"""Members beside the resources that the contract does not have."""

_SCALING_DOWN = (
    "Manually scaling down compute environment is not supported. Disconnecting job queues from compute environment "
    "will cause it to scale-down to minvCpus"
)


def check_new(members: Members) -> None:
    """
    Check a new compute environment.

    Raises:
        ClientException: it breaks a rule of AWS's.
    """
    rules.check_name("Compute environment", members["computeEnvironmentName"])
    _check_members(members)
    resources = members.get("computeResources")
    if _EKS in members:
        _check_cluster(members)
    if members["type"] == "UNMANAGED":
        if resources is not None:
            raise ExecutionException("computeResources is not applicable for UNMANAGED compute environments.")
        return
    if resources is None:
        raise ExecutionException("computeResources is required for MANAGED compute environments.")
    if "unmanagedvCpus" in members:
        raise ExecutionException("unmanagedvCpus is not applicable for MANAGED compute environments.")
    if resources["type"] not in FARGATE_TYPES:
        if not resources.get("instanceRole"):
            raise ExecutionException("Instance role is required.")
        if "minvCpus" not in resources:
            raise ExecutionException("Resource minvCpus is required.")
    _check_resources(resources)


def _check_cluster(members: Members) -> None:
    """Check an environment of Amazon EKS (AWS: EksConfiguration)."""
    cluster, resources = members[_EKS], members.get("computeResources", {})
    if members["type"] == "UNMANAGED":
        raise ExecutionException("UNMANAGED compute environments are not applicable for EKS.")
    if not _CLUSTER_ARN.fullmatch(cluster["eksClusterArn"]):
        raise ExecutionException(f"eksClusterArn '{cluster['eksClusterArn'][:100]}' is not the ARN of an EKS cluster.")
    namespace = cluster["kubernetesNamespace"]
    if not 1 <= len(namespace) <= _NAMESPACE_LENGTH_MAX or not _NAMESPACE.fullmatch(namespace):
        text = f"at most {_NAMESPACE_LENGTH_MAX} characters that match ^{_NAMESPACE.pattern}$"
        raise ExecutionException(f"kubernetesNamespace '{namespace[:100]}' is not valid. It must be {text}")
    if namespace == "default" or namespace.startswith("kube-"):
        raise ExecutionException(
            f"kubernetesNamespace can't be set to default, and can't start with kube-: {namespace}"
        )
    if resources.get("type") in FARGATE_TYPES:
        raise ExecutionException(f"{resources['type']} is not applicable for EKS.")
    if resources and not resources.get("allocationStrategy"):
        raise ExecutionException("allocationStrategy is required for EKS compute environments.")


def _check_members(members: Members) -> None:
    role = members.get("serviceRole", "")
    if role and not _ROLE_ARN.fullmatch(role):
        raise ExecutionException(f"Service role '{role[:100]}' is not a valid ARN.")


def _check_resources(resources: Members) -> None:
    rules.check_not_given(resources, _RESOURCES_NOT_OFFERED)
    kind = resources["type"]
    if kind == "ECS_MANAGED_INSTANCES":
        raise ClientException("Amazon ECS Managed Instances are not offered by Batchyard")
    if kind in FARGATE_TYPES:
        for name in _NOT_FOR_FARGATE:
            if rules.is_said(resources.get(name)):
                raise ExecutionException(f"{name} is not applicable for Fargate.")
    if resources.get("allocationStrategy", "").startswith("SPOT") and kind != "SPOT":
        raise ExecutionException(f"Allocation strategy {resources['allocationStrategy']} is only for SPOT.")
    low, high = resources.get("minvCpus", 0), resources["maxvCpus"]
    rules.check_between("maxvCpus", high, 1, (1 << 31) - 1)
    rules.check_between("minvCpus", low, 0, high)
    rules.check_between("desiredvCpus", resources.get("desiredvCpus"), low, high)
    delay = resources.get("scalingPolicy", {}).get("minScaleDownDelayMinutes")
    if delay:
        rules.check_between("minScaleDownDelayMinutes", delay, *_DELAY_MINUTES)


def creation(members: Members) -> pb.CreateComputeEnvironmentRequest:
    """Return the contract's request for a new environment that was checked."""
    request = to_message(_CREATED, pb.CreateComputeEnvironmentRequest, members)
    if "computeResources" in members:
        given = members["computeResources"]
        request.compute_resources.CopyFrom(_resources({"desiredvCpus": given.get("minvCpus", 0), **given}))
        _set_scaling(request.compute_resources, given, pb.ComputeResources())
    if _EKS in members:
        cluster = members[_EKS]
        request.kubernetes.name = last_part(cluster["eksClusterArn"])
        request.kubernetes.namespace = cluster["kubernetesNamespace"]
    request.annotations.update(annotated(_residue(members, request.compute_resources)))
    return request


def check_change(members: Members, found: pb.ComputeEnvironment) -> None:
    """
    Check a change of *found*.

    Raises:
        ClientException: it breaks a rule of AWS's.
    """
    _check_members(members)
    is_managed = found.type == pb.COMPUTE_ENVIRONMENT_TYPE_MANAGED
    if _EKS in members and not found.HasField("kubernetes"):
        raise ExecutionException("eksConfiguration is not applicable for ECS compute environments.")
    if "unmanagedvCpus" in members and is_managed:
        raise ExecutionException("unmanagedvCpus is not applicable for MANAGED compute environments.")
    changes = members.get("computeResources")
    if changes is None:
        return
    if not is_managed:
        raise ExecutionException("computeResources is not applicable for UNMANAGED compute environments.")
    present = _resources_of(found)
    if changes.get("desiredvCpus", present.get("desiredvCpus", 0)) < present.get("desiredvCpus", 0):
        raise ClientException(_SCALING_DOWN)
    _check_resources(_merged(present, changes))


def change(members: Members, found: pb.ComputeEnvironment) -> pb.UpdateComputeEnvironmentRequest:
    """Return the contract's request for a change of *found* that was checked."""
    request = to_message(_CHANGED, pb.UpdateComputeEnvironmentRequest, members)
    request.name = found.name
    before = kept_in(found.annotations)
    kept = before | {name: members[name] for name in (*_KEPT, "updatePolicy") if name in members}
    if _EKS in members:
        kept[_EKS] = before.get(_EKS, {}) | members[_EKS]
    if "computeResources" in members:
        merged = _merged(_resources_of(found), members["computeResources"])
        request.compute_resources.CopyFrom(_resources(merged))
        request.compute_resources.labels.update(found.compute_resources.labels)
        _set_scaling(request.compute_resources, members["computeResources"], found.compute_resources)
        if request.compute_resources.provider and "desiredvCpus" not in members["computeResources"]:
            request.compute_resources.desired_vcpus = 0  # as many as there are, by then
        kept["computeResources"] = residue({**_EMPTY, **merged}, to_members(_RESOURCES, request.compute_resources))
    request.annotations.update(annotated(kept) or {ANNOTATION: ""})
    return request


def _merged(present: Members, changes: Members) -> Members:
    """
    Return an environment's resources after a change.

    What is desired follows the bounds where it is not given; what Fargate does not
    have is forgotten by an environment that turns to it; a launch template of no
    name takes the present one away.
    """
    is_fargate = changes.get("type", present["type"]) in FARGATE_TYPES
    kept = {name: value for name, value in present.items() if not (is_fargate and name in _NOT_FOR_FARGATE)}
    merged = {name: value for name, value in {**kept, **changes}.items() if name != "updateToLatestImageVersion"}
    if "desiredvCpus" not in changes and not is_fargate:
        least = max(merged.get("desiredvCpus", 0), merged.get("minvCpus", 0))
        merged["desiredvCpus"] = min(least, merged["maxvCpus"])
    if not any(merged.get("launchTemplate", {}).values()):
        merged.pop("launchTemplate", None)
    return merged


def members_of(environment: pb.ComputeEnvironment, names: Names) -> Members:
    """Return AWS's members of an environment."""
    kept = kept_in(environment.annotations)
    kept.pop("computeResources", None)
    orchestration: Members = {
        "containerOrchestrationType": "ECS",
        "ecsClusterArn": names.account.cluster(environment.name),
    }
    if environment.HasField("kubernetes"):
        cluster = environment.kubernetes
        told = {"eksClusterArn": cluster_arn(cluster.name, names), "kubernetesNamespace": cluster.namespace}
        orchestration = {"containerOrchestrationType": "EKS", _EKS: told | kept.pop(_EKS, {})}
    return {
        "computeEnvironmentArn": names.arn(ENVIRONMENT, environment.name),
        "computeResources": _resources_of(environment),
        **orchestration,
        "uuid": environment_uuid(environment.name, environment.created_at_ms),
        **to_members(_SHOWN, environment),
        **kept,
    }


def _resources(members: Members) -> pb.ComputeResources:
    alike = dict(members)
    types = members.get("instanceTypes", [])
    alike["instanceTypes"] = [] if any(each in _ANY_HOST for each in types) else types
    return to_message(_RESOURCES, pb.ComputeResources, alike)


def _set_scaling(resources: pb.ComputeResources, given: Members, before: pb.ComputeResources) -> None:
    """Say who launches hosts, and what it is told; without a provider these members are only kept and shown again."""
    tags, policy = given.get("tags"), given.get("scalingPolicy")
    resources.provider = before.provider if tags is None else tags.get(PROVIDER_TAG, "")
    if not resources.provider:
        return
    if resources.type == pb.CAPACITY_TYPE_SPOT:
        resources.bid_percentage = given.get("bidPercentage", before.bid_percentage)
    if policy is None and before.HasField("scale_down_delay_s"):
        resources.scale_down_delay_s = before.scale_down_delay_s
    elif minutes := (policy or {}).get("minScaleDownDelayMinutes"):
        resources.scale_down_delay_s = minutes * 60


def _shown_scaling(resources: pb.ComputeResources, members: Members) -> Members:
    """Return AWS's members of what a provider is told, as far as AWS could say it."""
    if not resources.provider:
        return {}
    shown: Members = {"tags": {**members.get("tags", {}), PROVIDER_TAG: resources.provider}}
    if resources.bid_percentage:
        shown["bidPercentage"] = resources.bid_percentage
    minutes, seconds = divmod(resources.scale_down_delay_s, 60)
    if not seconds and _DELAY_MINUTES[0] <= minutes <= _DELAY_MINUTES[1]:
        shown["scalingPolicy"] = {"minScaleDownDelayMinutes": minutes}
    return shown


def _residue(members: Members, resources: pb.ComputeResources) -> Members:
    kept = {name: members[name] for name in _KEPT if name in members}
    given = members.get("computeResources")
    if given is not None:
        kept["computeResources"] = residue({**_EMPTY, **given}, to_members(_RESOURCES, resources))
    return {name: value for name, value in kept.items() if value}


def _resources_of(environment: pb.ComputeEnvironment) -> Members:
    """Return AWS's members of an environment's resources, for all kinds: tools read their type unasked."""
    members = to_members(_RESOURCES, environment.compute_resources)
    members |= kept_in(environment.annotations).get("computeResources", {})
    members |= _shown_scaling(environment.compute_resources, members)
    if members["type"] in FARGATE_TYPES:
        for name in _NOT_SHOWN_FOR_FARGATE:
            members.pop(name, None)
    return members
