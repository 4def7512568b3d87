"""
Submissions: AWS's SubmitJob to the contract's.

Pure. What only the definition or the queue can decide is asked of them by the caller,
see ``needs_definition`` and ``needs_queue``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from google.protobuf.message import Message

from batchyard.v1 import job_definition_pb2 as definition_pb
from batchyard.v1 import job_pb2 as pb
from batchyard.v1 import job_queue_pb2 as queue_pb
from batchyard_gateway.errors import ClientException, ExecutionException
from batchyard_gateway.services import Context, Members

from . import amounts, containers, nodes, pods, rules
from .consumables import OVERRIDE, check_needs
from .definitions import PARAMETERS, PROPAGATE_TAGS, RETRY_STRATEGY, TAGS, TIMEOUT
from .mapping import LISTED, NAMED_VALUES, NestedList, Plain, Row, Word, fields, kept_in, to_message
from .names import DEFINITION, JOB, QUEUE, name_of


class _JobId(Plain):
    """A job by id or ARN."""

    def into(self, value: str) -> str:
        """Return its id."""
        return name_of(JOB, value)


class _Dependencies(NestedList):
    """Dependencies; SEQUENTIAL beside another job's id, as AWS ParallelCluster sends it, is about that job as a whole."""

    def into(self, value: Sequence[Members]) -> list[Message]:
        """Return the messages."""
        return NestedList.into(self, [_plain(each) if each.get("jobId") else each for each in value])


def _plain(dependency: Members) -> Members:
    return {name: value for name, value in dependency.items() if (name, value) != ("type", "SEQUENTIAL")}


_DEPENDENCY = (Row("jobId", "job_id", _JobId()), Row("type", "type", Word(pb.DependencyType)))
_ROWS = (
    Row("shareIdentifier", "share_identifier"),
    Row("schedulingPriorityOverride", "scheduling_priority"),
    Row("arrayProperties.size", "array_size"),
    Row("dependsOn", "depends_on", _Dependencies(_DEPENDENCY, pb.Dependency)),
    PARAMETERS,
    RETRY_STRATEGY,
    PROPAGATE_TAGS,
    TIMEOUT,
    TAGS,
    OVERRIDE,
)
_OVERRIDES = (Row("name", "name"), Row("command", "command", LISTED), Row("environment", "environment", NAMED_VALUES))

_WAYS = ("containerOverrides", "ecsPropertiesOverride", pods.OVERRIDE)
"""Members that say what is overridden of containers."""
_DEPRECATED_KEY = (
    "This value was submitted in a deprecated key and may conflict with the value provided by the job definition's "
    "resource requirements."
)
_NO_FAIR_SHARE = (
    "Job with shareIdentifier or schedulingPriority can onlybe submitted to job queue with fair share scheduling "
    "policy."
)
_NO_PRIORITY = "Either schedulingPriority in job definition or schedulingPriorityOverride is required."


def check(members: Members) -> None:
    """
    Check a submission by itself.

    Raises:
        ClientException: it breaks a rule of AWS's.
    """
    rules.check_job_name(members["jobName"])
    rules.check_size("SubmitJob payload", members, rules.PAYLOAD_BYTES_MAX)
    if len(given := [name for name in _WAYS if name in members]) > 1:
        raise ClientException(f"Give either {' or '.join(given)}, not {len(given)} of them")
    pods.check_override(members.get(pods.OVERRIDE, {}))
    check_needs(members, "consumableResourcePropertiesOverride")
    size = members.get("arrayProperties", {}).get("size")
    rules.check_between("Array job size", size, rules.ARRAY_SIZE_MIN, rules.ARRAY_SIZE_MAX)
    if len(members.get("dependsOn", ())) > rules.DEPENDENCIES_MAX:
        raise ExecutionException(f"Job cannot have more than {rules.DEPENDENCIES_MAX} dependencies")
    priority = members.get("schedulingPriorityOverride")
    rules.check_between("schedulingPriorityOverride", priority, 0, rules.SCHEDULING_PRIORITY_MAX)
    rules.check_retry(members)
    rules.check_timeout(members)
    _check_overrides(members)


def _check_overrides(members: Members) -> None:
    for overrides in (*_overrides(members), *nodes.check_overrides(members.get("nodeOverrides", {}))):
        _check_one(overrides)


def _check_one(overrides: Members) -> None:
    if rules.length_of(overrides) > rules.OVERRIDES_LENGTH_MAX:
        raise ExecutionException(f"Container Overrides length must be at most {rules.OVERRIDES_LENGTH_MAX}")
    if "" in overrides.get("command", ()):
        raise ExecutionException("Container overrides command must not contain empty string")
    rules.check_variables(overrides.get("environment", ()))
    amounts.amounts(overrides, fargate=True)


def _overrides(members: Members) -> list[Members]:
    """Return what is overridden of the containers of a task, or of the one of container properties."""
    if "ecsPropertiesOverride" not in members:
        return [members["containerOverrides"]] if "containerOverrides" in members else []
    tasks = members["ecsPropertiesOverride"].get("taskProperties", [])
    if len(tasks) > 1:
        raise ClientException(f"ecsPropertiesOverride must have one element of taskProperties, not {len(tasks)}")
    return [container for task in tasks for container in task.get("containers", ())]


def needs_definition(members: Members) -> bool:
    """Say whether the overrides, or the lack of a priority, are right only for some definitions."""
    overrides = _overrides(members)
    if "shareIdentifier" in members and "schedulingPriorityOverride" not in members:
        return True
    if ("ecsPropertiesOverride" in members and overrides) or pods.OVERRIDE in members:
        return True
    return any(name in each for each in overrides for name in ("vcpus", "memory")) or any(
        map(amounts.has_fraction, overrides)
    )


def check_against_definition(members: Members, definition: definition_pb.JobDefinition) -> None:
    """
    Check the overrides against the definition that they are for.

    Raises:
        ClientException: they do not go with it.
    """
    has_priority = "schedulingPriorityOverride" in members or definition.HasField("scheduling_priority")
    if members.get("shareIdentifier") and not has_priority:
        raise ExecutionException(_NO_PRIORITY)
    if pods.OVERRIDE in members:
        if not definition.task.HasField("pod"):
            raise ExecutionException(f"{pods.OVERRIDE} is only applicable for a job definition with {pods.EKS}.")
        pods.check_against(members[pods.OVERRIDE], definition.task)
        return
    overrides, kept = _overrides(members), kept_in(definition.annotations)
    names = [container.name for container in definition.task.containers] or [containers.name_in(kept)]
    deprecated = kept.get("containerProperties", {})
    if len(names) > 1 and "containerOverrides" in members:
        raise ExecutionException(
            "Container overrides are not applicable for a job of several containers. Use ecsPropertiesOverride instead."
        )
    for each in overrides:
        name = each.get("name", names[0] if len(names) == 1 else "")
        if name not in names:
            text = f"should match a container of the job definition: {', '.join(names)}"
            raise ExecutionException(f"Container override '{name[:100]}' {text}")
        amounts.amounts(each, fargate=containers.FARGATE in definition.platform_capabilities)
        if any(key in each and key not in deprecated for key in ("vcpus", "memory")):
            raise ExecutionException(_DEPRECATED_KEY)
    if len({each.get("name") for each in overrides}) < len(overrides):
        raise ExecutionException("Each container may be overridden once.")


def needs_queue(members: Members) -> bool:
    """Say whether the job may be submitted to some queues only."""
    return bool(members.get("shareIdentifier")) or "schedulingPriorityOverride" in members


def check_against_queue(queue: queue_pb.JobQueue) -> None:
    """
    Check that a queue shares fairly.

    Raises:
        ClientException: it serves who comes first.
    """
    if not queue.scheduling_policy:
        raise ExecutionException(_NO_FAIR_SHARE)


def definition_name(members: Members) -> str:
    """Return ``name`` or ``name:revision`` of the definition."""
    return name_of(DEFINITION, members["jobDefinition"])


def queue_name(members: Members) -> str:
    """Return the queue's name."""
    return name_of(QUEUE, members["jobQueue"])


def submission(
    members: Members, context: Context, task: definition_pb.TaskProperties | None = None
) -> pb.SubmitJobRequest:
    """
    Return the contract's request for a submission that was checked.

    Args:
        members: AWS's.
        context: Who calls.
        task: Of a definition with several containers, or of a pod: overrides go by their names.
    """
    has_several = task is not None
    overrides = [_override(each) for each in _overrides(members) or [{}]]
    if task is not None and pods.OVERRIDE in members:
        overrides = pods.overrides(members[pods.OVERRIDE], task)
    elif task is not None and task.HasField("pod"):
        overrides[0].name = task.containers[0].name
    for message in overrides if not has_several else ():
        message.ClearField("name")
    return pb.SubmitJobRequest(
        name=members["jobName"],
        queue=queue_name(members),
        job_definition=definition_name(members),
        overrides=overrides[0] if overrides and not has_several else None,
        container_overrides=overrides if has_several else (),
        node_overrides=_node_overrides(members.get("nodeOverrides", {})),
        pod_overrides=pods.pod_overrides(members.get(pods.OVERRIDE, {})),
        request_id=_request_id(members, context),
        submitted_by=context.principal.access_key_id,
        **fields(_ROWS, members),
    )


def _node_overrides(members: Members) -> pb.NodeOverrides | None:
    if "numNodes" not in members and not members.get("nodePropertyOverrides"):
        return None
    return pb.NodeOverrides(
        num_nodes=members.get("numNodes", 0),
        ranges=[
            nodes.range_overrides(each, [_override(one) for one in nodes.containers_of(each)] + _of_pod(each))
            for each in members.get("nodePropertyOverrides", ())
        ],
    )


def _of_pod(members: Members) -> list[pb.ContainerOverrides]:
    return pods.overrides(members.get(pods.OVERRIDE, {}))


def _override(members: Members) -> pb.ContainerOverrides:
    asked = amounts.amounts(members, fargate=True)
    message = to_message(_OVERRIDES, pb.ContainerOverrides, members)
    for field in ("cpu_millis", "memory_mib", "gpu_millis"):
        if getattr(asked, field):
            setattr(message, field, getattr(asked, field))
    return message


def _request_id(members: Members, context: Context) -> str:
    """
    Return the same id for each try of one call, so that an SDK's retries submit one job.

    An SDK that does not say which tries belong together gets a new one each time.
    """
    if not context.invocation_id:
        return f"aws-{context.request_id}"
    text = json.dumps([context.principal.access_key_id, context.invocation_id, members], sort_keys=True)
    return f"aws-{hashlib.sha256(text.encode()).hexdigest()}"
