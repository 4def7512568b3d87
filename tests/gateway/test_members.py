"""
Every member of every offered operation has a meaning here, is refused, or stands in docs/aws.md.

Nothing is declared: each leaf of botocore's model is given with values that AWS takes,
and what the contract's request is then is compared with what it is without it. Where
nothing changes, docs/aws.md must say so; where something does, it must not.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from botocore.model import ListShape, MapShape, StructureShape
from google.protobuf.message import Message

from batchyard.client import AsyncClient
from batchyard.v1 import compute_environment_pb2 as environment_pb
from batchyard.v1 import job_definition_pb2 as definition_pb
from batchyard.v1 import job_queue_pb2 as queue_pb
from batchyard.v1 import scheduling_policy_pb2 as policy_pb
from batchyard_gateway.batch import (
    consumables,
    definitions,
    environments,
    listing,
    policies,
    queues,
    quota_shares,
    submissions,
)
from batchyard_gateway.batch.operations import OFFERED
from batchyard_gateway.errors import ApiError
from batchyard_gateway.services import Context, Principal

from .endpoint import ARN, MODEL, definition, environment, queue

DOCS = Path(__file__).parents[2] / "docs" / "aws.md"
At = tuple[str, ...]

KEPT_FIELDS = {
    "annotations",
    "desired_vcpus",
    "execution_role_arn",
    "job_role_arn",
    "log_configuration",
    "min_vcpus",
    "service_role",
}
"""Fields of the contract that nothing in the controller or the agent acts on."""

READ_BY_HANDLERS = {
    "CancelJob": {"jobId", "reason"},
    "CancelJobs": {"jobs", "reason"},
    "DeleteComputeEnvironment": {"computeEnvironment"},
    "DeleteConsumableResource": {"consumableResource"},
    "DeleteJobQueue": {"jobQueue"},
    "DeleteQuotaShare": {"quotaShareArn"},
    "DeleteSchedulingPolicy": {"arn"},
    "DeregisterJobDefinition": {"jobDefinition"},
    "DescribeComputeEnvironments": {"computeEnvironments", "maxResults", "nextToken"},
    "DescribeConsumableResource": {"consumableResource"},
    "DescribeJobDefinitions": {"jobDefinitions", "jobDefinitionName", "status", "maxResults", "nextToken"},
    "DescribeJobQueues": {"jobQueues", "maxResults", "nextToken"},
    "DescribeJobs": {"jobs"},
    "DescribeQuotaShare": {"quotaShareArn"},
    "DescribeSchedulingPolicies": {"arns"},
    "GetJobQueueSnapshot": {"jobQueue"},
    "ListSchedulingPolicies": {"maxResults", "nextToken"},
    "ListTagsForResource": {"resourceArn"},
    "TagResource": {"resourceArn", "tags"},
    "TerminateJob": {"jobId", "reason"},
    "TerminateJobs": {"jobs", "reason"},
    "UntagResource": {"resourceArn", "tagKeys"},
}
"""Operations without a translation; each member has a test of its own in test_batch or test_sharing."""

READ_ELSEWHERE = {
    "UpdateComputeEnvironment.computeEnvironment",  # what is changed is looked up by it
}
"""Members that mean something, though not in the request that is made of them."""

# Translations --------------------------------------------------------------------


def _create_environment(members: dict[str, Any]) -> Message:
    environments.check_new(members)
    return environments.creation(members)


def _update_environment(members: dict[str, Any]) -> Message:
    kind = members.pop("was")
    found = environment_pb.ComputeEnvironment(name="ce", type=environment_pb.COMPUTE_ENVIRONMENT_TYPE_MANAGED)
    if kind == "EKS":
        kind = EC2
        found.kubernetes.name = "c"
    if kind == "UNMANAGED":
        found.type = environment_pb.COMPUTE_ENVIRONMENT_TYPE_UNMANAGED
    else:
        created = environments.creation({"computeEnvironmentName": "ce", "type": "MANAGED", "computeResources": kind})
        found.compute_resources.CopyFrom(created.compute_resources)
        found.annotations.update(created.annotations)
    environments.check_change(members, found)
    return environments.change(members, found)


def _create_queue(members: dict[str, Any]) -> Message:
    queues.check_new(members)
    return queues.creation(members)


def _update_queue(members: dict[str, Any]) -> Message:
    queues.check_change(members)
    return queues.change(members)


def _register(members: dict[str, Any]) -> Message:
    definitions.check(members)
    return definitions.registration(members)


def _submit(members: dict[str, Any]) -> Message:
    submissions.check(members)
    found = definition_pb.JobDefinition(scheduling_priority=1, annotations={"aws": OLD_FORM})
    if "eksPropertiesOverride" in members:
        found.task.CopyFrom(definitions.registration(_pod(initContainers=[{"name": "b", "image": "i"}])).task)
    submissions.check_against_definition(members, found)
    if submissions.needs_queue(members):
        submissions.check_against_queue(queue_pb.JobQueue(scheduling_policy="fair"))
    context = Context(
        client=AsyncClient("127.0.0.1:1"),
        principal=Principal(access_key_id="BYAK"),
        account_id="1",
        region="r",
        request_id="1",
    )
    request = submissions.submission(members, context, found.task if found.HasField("task") else None)
    request.request_id = ""
    return request


def _create_policy(members: dict[str, Any]) -> Message:
    policies.check(members)
    return policies.creation(members)


def _update_policy(members: dict[str, Any]) -> Message:
    policies.check(members)
    return policies.change(members, policy_pb.SchedulingPolicy())


def _create_consumable(members: dict[str, Any]) -> Message:
    consumables.check_new(members)
    return consumables.creation(members)


def _update_consumable(members: dict[str, Any]) -> Message:
    consumables.check_change(members)
    return consumables.change(members)


OLD_FORM = '{"containerProperties": {"vcpus": 1, "memory": 4}}'

MADE: dict[str, Callable[[dict[str, Any]], Message]] = {
    "CreateComputeEnvironment": _create_environment,
    "CreateConsumableResource": _create_consumable,
    "CreateJobQueue": _create_queue,
    "CreateQuotaShare": quota_shares.creation,
    "CreateSchedulingPolicy": _create_policy,
    "ListConsumableResources": consumables.page_request,
    "ListJobs": listing.request,
    "ListJobsByConsumableResource": consumables.jobs_request,
    "ListQuotaShares": quota_shares.page_request,
    "RegisterJobDefinition": _register,
    "SubmitJob": _submit,
    "UpdateComputeEnvironment": _update_environment,
    "UpdateConsumableResource": _update_consumable,
    "UpdateJobQueue": _update_queue,
    "UpdateQuotaShare": quota_shares.change,
    "UpdateSchedulingPolicy": _update_policy,
}

# What is right without the member -------------------------------------------------

EC2 = environment("ce")["computeResources"]
FARGATE = {"type": "FARGATE", "maxvCpus": 16}
SMALL = {"resourceRequirements": [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "2048"}]}
TASK = {"jobDefinitionName": "d", "type": "container"}


def _task(**members: Any) -> dict[str, Any]:
    return {**TASK, "ecsProperties": {"taskProperties": [{"containers": [{"image": "i", **SMALL}], **members}]}}


def _several(**members: Any) -> dict[str, Any]:
    named = [{"image": "i", "name": name, **SMALL} for name in "ab"]
    return {**TASK, "ecsProperties": {"taskProperties": [{"containers": named, **members}]}}


CLUSTER = {"eksClusterArn": "arn:aws:eks:r:123456789012:cluster/c", "kubernetesNamespace": "n"}
LIMITS = {"cpu": "1", "memory": "128Mi"}


def _pod(**members: Any) -> dict[str, Any]:
    container = {"name": "a", "image": "i", "resources": {"limits": LIMITS, "requests": LIMITS}}
    return {**TASK, "eksProperties": {"podProperties": {"containers": [container], **members}}}


RETRY = {"retryStrategy": {"attempts": 2, "evaluateOnExit": [{"action": "RETRY", "onReason": "*"}]}}
ON_FARGATE = {"platformCapabilities": ["FARGATE"]}
SUBMISSION = {"jobName": "j", "jobQueue": "q", "jobDefinition": "d"}
BASES: dict[str, list[dict[str, Any]]] = {
    "CreateComputeEnvironment": [
        environment("ce"),
        environment("ce", type="SPOT"),
        {"computeEnvironmentName": "ce", "type": "MANAGED", "computeResources": FARGATE},
        {"computeEnvironmentName": "ce", "type": "UNMANAGED"},
        environment("ce") | {"eksConfiguration": CLUSTER},
    ],
    "UpdateComputeEnvironment": [
        {"computeEnvironment": "ce", "was": EC2, "computeResources": {"maxvCpus": 16}},
        {"computeEnvironment": "ce", "was": EC2 | {"type": "SPOT"}, "computeResources": {"maxvCpus": 16}},
        {"computeEnvironment": "ce", "was": FARGATE, "computeResources": {"maxvCpus": 16}},
        {"computeEnvironment": "ce", "was": "UNMANAGED"},
        {"computeEnvironment": "ce", "was": "EKS", "computeResources": {"maxvCpus": 16}},
    ],
    "CreateConsumableResource": [{"consumableResourceName": "c"}],
    "CreateJobQueue": [queue("q")],
    "CreateQuotaShare": [
        {
            "quotaShareName": "s",
            "jobQueue": "q",
            "capacityLimits": [{"maxCapacity": 1, "capacityUnit": "VCPU"}],
            "resourceSharingConfiguration": {"strategy": "LEND"},
            "preemptionConfiguration": {"inSharePreemption": "DISABLED"},
        }
    ],
    "UpdateQuotaShare": [{"quotaShareArn": f"{ARN}quota-share/q/s"}],
    "ListQuotaShares": [{"jobQueue": "q"}],
    "CreateSchedulingPolicy": [{"name": "p"}],
    "UpdateSchedulingPolicy": [{"arn": "p"}],
    "UpdateConsumableResource": [{"consumableResource": "c", "operation": "ADD", "quantity": 1}],
    "ListConsumableResources": [{}],
    "ListJobsByConsumableResource": [{"consumableResource": "c"}],
    "UpdateJobQueue": [{"jobQueue": "q"}],
    "ListJobs": [{"jobQueue": "q"}],
    "RegisterJobDefinition": [
        definition("d", SMALL) | RETRY,
        definition("d", SMALL | {"executionRoleArn": "r"}) | ON_FARGATE,
        definition("d", {"resourceRequirements": [], "vcpus": 1, "memory": 4}),
        _task(),
        _several(),
        _task(executionRoleArn="r") | ON_FARGATE,
        _pod(),
        _pod(initContainers=[{"name": "b", "image": "i"}]),
    ],
    "SubmitJob": [
        SUBMISSION | RETRY,
        SUBMISSION | {"arrayProperties": {"size": 2}},
        SUBMISSION | {"eksPropertiesOverride": {"podProperties": {"metadata": {"labels": {"a": "b"}}}}},
    ],
}
WORTH: dict[str, list[Any]] = {
    "attemptDurationSeconds": [61, 62],
    "dependsOn.jobId": ["01a20d74-b844-703e-9dba-bd4473ccbda3"],
    "filters.name": ["JOB_NAME", "JOB_DEFINITION"],
    "image": ["busybox", "alpine"],
    "jobExecutionTimeoutMinutes": [20],
    "jobStateTimeLimitActions.state": ["x", "RUNNABLE"],
    "maxTimeSeconds": [700, 800],
    "minScaleDownDelayMinutes": [21],
    "ipcMode": ["host", "none"],
    "operatingSystemFamily": ["WINDOWS_SERVER_2022_CORE", "LINUX"],
    "pidMode": ["host", "task"],
    "resourceRequirements.value": ["2", "4"],
    "serviceRole": ["arn:aws:iam::1:role/r"],
    "sizeInGiB": [30],
    "maxvCpus": [20, 30],
    "memory": [8, 16],
    "networkMode": ["host", "bridge"],
    "onExitCode": ["1", "2"],
    "desiredvCpus": [1],
}
"""Values that are tried, where any of the type will not do; AWS takes the last of them."""


def worth(at: At, shape: Any) -> list[Any]:
    """Return values for a leaf."""
    for length in (2, 1):
        if found := WORTH.get(".".join(_names(at)[-length:])):
            return found
    if words := getattr(shape, "enum", None):
        return [*reversed(words)]
    values: dict[str, list[Any]] = {
        "string": ["x", "y"],
        "integer": [5, 2],
        "long": [5, 2],
        "float": [5.5, 2.0],
        "boolean": [True, False],
        "map": [{"k": "v"}, {"k": "w"}],
    }
    return values[shape.type_name]


def _names(at: At) -> list[str]:
    return [name for name in at if name != "[]"]


LEAST = {"environment": {"name": "E"}, "filters": {"name": "JOB_NAME", "values": ["x"]}}
"""Of an item of a list: more than the model asks for, where AWS does."""


def leaves(shape: Any, at: At = ()) -> Iterator[tuple[At, Any]]:
    """Return the leaves of a shape; ``[]`` stands for the first item of a list."""
    match shape:
        case StructureShape():
            for name, member in shape.members.items():
                yield from leaves(member, (*at, name))
        case ListShape():
            yield from leaves(shape.member, (*at, "[]"))
        case _:
            yield at, shape


def least(shape: Any, at: At) -> Any:
    """Return the least of a shape that AWS takes."""
    match shape:
        case StructureShape() if at[-1] == "[]" and at[-2] in LEAST:
            return copy.deepcopy(LEAST[at[-2]])
        case StructureShape():
            return {name: least(shape.members[name], (*at, name)) for name in shape.required_members}
        case ListShape():
            return [least(shape.member, (*at, "[]"))]
        case MapShape():
            return {}
        case _:
            return worth(at, shape)[-1]


def put(shape: Any, given: Any, at: At, value: Any, done: At = ()) -> None:
    """Put a value at a place, with the least of what leads there."""
    name, *rest = at
    here = (*done, name)
    member = shape.member if name == "[]" else shape.members[name]
    place: Any = 0 if name == "[]" else name
    if name == "[]" and not given:
        given.append(least(member, here))
    if not rest:
        given[place] = value
        return
    if name != "[]" and name not in given:
        given[name] = [] if isinstance(member, ListShape) else least(member, here)
    put(member, given[place], tuple(rest), value, here)


def told(operation: str, members: dict[str, Any]) -> Message | str:
    """Return the contract's request without what nothing acts on, or the text of a refusal."""
    try:
        was = {"was": members["was"]} if "was" in members else {}
        checked = OFFERED[operation].takes.check({k: v for k, v in members.items() if k != "was"}, "")
        message = MADE[operation](copy.deepcopy(checked) | was)
    except ApiError as err:
        return err.message
    _forget(message)
    return message


def _forget(message: Message) -> None:
    has_annotations = isinstance(message, definition_pb.PodProperties)  # which the cluster is told
    for field in message.DESCRIPTOR.fields:
        if field.name in KEPT_FIELDS and not (has_annotations and field.name == "annotations"):
            message.ClearField(field.name)
    for field, value in message.ListFields():
        if isinstance(value, Message):
            _forget(value)
        elif field.message_type and not field.message_type.GetOptions().map_entry:
            for each in value:
                _forget(each)


# The law -------------------------------------------------------------------------

MEANS, REFUSED, KEPT = "means something", "is refused", "is kept without effect"


def outcome(operation: str, base: dict[str, Any], at: At, leaf: Any) -> Iterator[str]:
    """Say what becomes of a leaf beside what is given already; of some words, or of all."""
    shape = MODEL.operation_model(operation).input_shape
    results = []
    for value in worth(at, leaf):
        members = copy.deepcopy(base)
        put(shape, members, at, value)
        results.append(told(operation, members))
    if at[-1] != "[]":
        outer: Any = members
        for name in at[:-1]:
            outer = outer[0 if name == "[]" else name]
        del outer[at[-1]]
        without = told(operation, members)
        if isinstance(without, Message):
            results.append(without)
    taken = [each for each in results if isinstance(each, Message)]
    if len(taken) < len(results):
        yield REFUSED
    if any(each != taken[0] for each in taken):
        yield MEANS
    elif len(taken) > 1:
        yield KEPT


@cache
def outcomes(operation: str) -> dict[str, set[str]]:
    """Return what becomes of each leaf, in all that it may stand beside."""
    found: dict[str, set[str]] = {}
    for at, leaf in leaves(MODEL.operation_model(operation).input_shape):
        for base in BASES[operation]:
            if at[0] in ("containerProperties", "ecsProperties") and at[0] not in base:
                continue
            found.setdefault(".".join((operation, *_names(at))), set()).update(outcome(operation, base, at, leaf))
    return found


def documented() -> list[str]:
    """Return what docs/aws.md lists as kept without effect."""
    section = DOCS.read_text(encoding="utf-8").partition("## Members without effect\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| `")]
    words = [[re.findall(r"`([^`]+)`", cell) for cell in row] for row in rows]
    return [f"{outer}.{inner}" for outers, inners in words for outer in outers for inner in inners]


def _is_silent(found: set[str]) -> bool:
    return KEPT in found and MEANS not in found


def _is_covered(path: str, listed: str) -> bool:
    return path == listed or path.startswith(listed + ".")


@pytest.mark.parametrize("operation", sorted(OFFERED))
def test_every_member_has_a_meaning_or_is_refused_or_is_documented(operation: str) -> None:
    if operation in READ_BY_HANDLERS:
        assert set(MODEL.operation_model(operation).input_shape.members) == READ_BY_HANDLERS[operation]
        return
    for base in BASES[operation]:
        assert isinstance(told(operation, base), Message), (base, told(operation, base))
    listed = documented()
    silent = [
        path
        for path, found in outcomes(operation).items()
        if _is_silent(found) and path not in READ_ELSEWHERE and not any(_is_covered(path, each) for each in listed)
    ]
    assert not silent, "these are taken and change nothing, and docs/aws.md does not say so"


def test_what_is_documented_to_have_no_effect_has_none() -> None:
    found = {path: each for operation in MADE for path, each in outcomes(operation).items()}
    for listed in documented():
        covered = [path for path in found if _is_covered(path, listed)]
        assert covered, f"{listed} is no member"
        assert not [path for path in covered if not _is_silent(found[path])], listed
