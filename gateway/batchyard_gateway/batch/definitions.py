"""
Definitions: AWS's job definitions to the contract's and back.

Pure. A definition never changes, so its residue is kept whole with it, and jobs
inherit it.
"""

from __future__ import annotations

from typing import Any

from batchyard.v1 import job_definition_pb2 as pb
from batchyard_gateway.errors import ClientException
from batchyard_gateway.services import Members

from . import containers, nodes, pods, rules, tasks
from .consumables import PROPERTIES, check_needs
from .mapping import (
    LISTED,
    MAPPED,
    Nested,
    NestedList,
    Plain,
    Row,
    Word,
    annotated,
    fields,
    kept_in,
    residue,
    to_members,
    to_message,
)
from .names import DEFINITION, Names, name_of


class _DefinitionName(Plain):
    """A definition by name or ARN."""

    def into(self, value: str) -> str:
        """Return its name, with the revision if one is named."""
        return name_of(DEFINITION, value)


_EXIT_RULE = (
    Row("onStatusReason", "on_status_reason"),
    Row("onReason", "on_reason"),
    Row("onExitCode", "on_exit_code"),
    Row("action", "action", Word(pb.EvaluateOnExitAction, is_lower=True)),
)
_RETRY = (
    Row("attempts", "attempts", always=True),
    Row("evaluateOnExit", "evaluate_on_exit", NestedList(_EXIT_RULE, pb.EvaluateOnExit), always=True),
)


class _RetryStrategy(Nested):
    """A retry strategy; one that says nothing of attempts says nothing at all."""

    def into(self, value: Members) -> pb.RetryStrategy | None:  # type: ignore[override]  # None leaves a field unset
        """Return the message, if there is one."""
        return pb.RetryStrategy(**fields(self.rows, value)) if "attempts" in value else None


RETRY_STRATEGY = Row("retryStrategy", "retry_strategy", _RetryStrategy(_RETRY, pb.RetryStrategy))
TIMEOUT = Row("timeout.attemptDurationSeconds", "timeout_s")
PARAMETERS = Row("parameters", "parameters", MAPPED, always=True)
TAGS = Row("tags", "tags", MAPPED, always=True)
PROPAGATE_TAGS = Row("propagateTags", "propagate_tags")

_ROWS = (
    PARAMETERS,
    Row("schedulingPriority", "scheduling_priority"),
    RETRY_STRATEGY,
    PROPAGATE_TAGS,
    TIMEOUT,
    TAGS,
    Row("platformCapabilities", "platform_capabilities", LISTED),
    PROPERTIES,
)
_STATUS = Row("status", "status", Word(pb.JobDefinitionStatus))
_PAGE = (Row("jobDefinitionName", "name", _DefinitionName()), _STATUS, Row("nextToken", "page_token"))
_KEPT_FOR_JOBS = ("platformCapabilities",)
"""Members of a definition that jobs show, though the contract's jobs do not have them."""

_PLATFORM_DEFAULT = "EC2"
"""AWS: of a definition that names no platform."""

_WHAT = ("containerProperties", tasks.ECS, pods.EKS)
"""Members that say what a job of type container runs."""
_NOT_FOR_EKS = ("platformCapabilities", "propagateTags")
_MULTINODE = "multinode"


def check(members: Members) -> None:
    """
    Check a registration.

    Raises:
        ClientException: it breaks a rule of AWS's.
    """
    rules.check_name("Job definition", members["jobDefinitionName"])
    rules.check_size("Job definition", members, rules.DEFINITION_BYTES_MAX)
    check_needs(members, "consumableResourceProperties")
    if "MANAGED_INSTANCES" in members.get("platformCapabilities", ()):
        raise ClientException("Amazon ECS Managed Instances are not offered by Batchyard")
    is_multinode = members["type"] == _MULTINODE
    if nodes.NODES in members and not is_multinode:
        raise ClientException("nodeProperties is only applicable for a job definition of type multinode")
    if not is_multinode and len([name for name in _WHAT if name in members]) != 1:
        raise ClientException(f"Job definitions of type container need exactly one of {', '.join(_WHAT)}")
    rules.check_between("schedulingPriority", members.get("schedulingPriority"), 0, rules.SCHEDULING_PRIORITY_MAX)
    rules.check_retry(members)
    rules.check_timeout(members)
    capabilities = members.get("platformCapabilities", ())
    if pods.EKS in members or nodes.has_pods(members):
        for name in _NOT_FOR_EKS:
            if rules.is_said(members.get(name)):
                raise ClientException(f"{name} is not applicable for EKS.")
    if is_multinode:
        nodes.check(members)
    elif pods.EKS in members:
        pods.check(members[pods.EKS])
    elif tasks.ECS in members:
        tasks.check(members[tasks.ECS], capabilities)
    else:
        containers.check(members["containerProperties"], capabilities)


def registration(members: Members) -> pb.RegisterJobDefinitionRequest:
    """Return the contract's request for a registration that was checked."""
    fargate = containers.FARGATE in members.get("platformCapabilities", ())
    what: dict[str, Any]
    if members["type"] == _MULTINODE:
        what = {"nodes": nodes.request_field(members[nodes.NODES])}
    elif pods.EKS in members:
        what = {"task": pods.request_field(members[pods.EKS])}
    elif tasks.ECS in members:
        what = tasks.request_fields(members[tasks.ECS], fargate=fargate)
    else:
        what = {"container": containers.container(members["containerProperties"], fargate=fargate)}
    request = pb.RegisterJobDefinitionRequest(
        name=members["jobDefinitionName"],
        type=pb.JOB_DEFINITION_TYPE_MULTINODE if "nodes" in what else pb.JOB_DEFINITION_TYPE_CONTAINER,
        **what,
        **fields(_ROWS, members),
    )
    kept = residue({row.member: members[row.member] for row in _ROWS if row.member in members}, _shown(request))
    kept |= {name: members[name] for name in _KEPT_FOR_JOBS if name in members}
    if nodes.NODES in members:
        if given := nodes.residue_of(members[nodes.NODES], request.nodes):
            kept[nodes.NODES] = given
    elif tasks.ECS in members:
        kept[tasks.ECS] = members[tasks.ECS]
    elif pods.EKS in members:
        kept[pods.EKS] = pods.as_shown(members[pods.EKS])
    elif properties := containers.residue_of(members["containerProperties"], request.container):
        kept["containerProperties"] = properties
    if not (request.platform_capabilities or pods.EKS in members or nodes.has_pods(members)):
        request.platform_capabilities.append(_PLATFORM_DEFAULT)
    request.annotations.update(annotated(kept))
    return request


def page_request(members: Members) -> pb.ListJobDefinitionsRequest:
    """Return the contract's request for a page of definitions."""
    return to_message(_PAGE, pb.ListJobDefinitionsRequest, members)


def members_of(definition: pb.JobDefinition, names: Names) -> Members:
    """Return AWS's members of a definition."""
    kept = kept_in(definition.annotations)
    properties = kept.pop("containerProperties", {})
    shown = _shown(definition)
    if "platformCapabilities" not in kept and shown.get("platformCapabilities") == [_PLATFORM_DEFAULT]:
        del shown["platformCapabilities"]  # as it was given
    members = {
        "jobDefinitionName": definition.name,
        "jobDefinitionArn": names.arn(DEFINITION, f"{definition.name}:{definition.revision}"),
        "revision": definition.revision,
        **to_members((_STATUS,), definition),
        "type": _MULTINODE if definition.HasField("nodes") else "container",
        "containerOrchestrationType": "EKS" if _has_pods(definition) else "ECS",
        **shown,
        **kept,
    }
    if definition.HasField("nodes"):
        members[nodes.NODES] = kept.get(nodes.NODES) or nodes.shown(definition.nodes, {})
    elif definition.task.HasField("pod"):
        members[pods.EKS] = kept.get(pods.EKS) or pods.shown(definition.task)
    elif tasks.ECS not in kept and definition.HasField("task"):
        members[tasks.ECS] = tasks.shown(definition.task)
    elif tasks.ECS not in kept:
        members["containerProperties"] = containers.members_of(definition.container) | properties
    return members


def _has_pods(definition: pb.JobDefinition) -> bool:
    return any(task.HasField("pod") for task in (definition.task, *(each.task for each in definition.nodes.ranges)))


def _shown(message: pb.RegisterJobDefinitionRequest | pb.JobDefinition) -> Members:
    return to_members(_ROWS, message)
