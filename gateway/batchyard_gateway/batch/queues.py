"""
Queues: AWS's job queues to the contract's and back.

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from batchyard.v1 import compute_environment_pb2 as environment_pb
from batchyard.v1 import job_queue_pb2 as pb
from batchyard.v1 import quota_share_pb2 as quota_pb
from batchyard_gateway.errors import ClientException, ExecutionException
from batchyard_gateway.services import Members

from . import rules
from .mapping import MAPPED, NestedList, Plain, Row, Word, annotated, kept_in, to_members, to_message
from .names import ENVIRONMENT, JOB, POLICY, QUEUE, Names, name_of

ENVIRONMENTS_MAX = 3


class _EnvironmentName(Plain):
    """A compute environment by name or ARN."""

    def into(self, value: str) -> str:
        """Return its name."""
        return name_of(ENVIRONMENT, value)


class _PolicyName(Plain):
    """A scheduling policy by name or ARN."""

    def into(self, value: str) -> str:
        """Return its name."""
        return name_of(POLICY, value)


_ACTION = (
    Row("reason", "reason", always=True),
    Row("state", "state", always=True),
    Row("maxTimeSeconds", "max_time_s", always=True),
    Row("action", "action", always=True),
)
_STEP = (
    Row("order", "order", always=True),
    Row("computeEnvironment", "compute_environment", _EnvironmentName(), always=True),
)
_PRIORITY = Row("priority", "priority", always=True)
_ORDER = Row(
    "computeEnvironmentOrder",
    "compute_environment_order",
    NestedList(_STEP, pb.ComputeEnvironmentOrder),
    always=True,
)
_ACTIONS = Row(
    "jobStateTimeLimitActions", "job_state_time_limit_actions", NestedList(_ACTION, pb.JobStateTimeLimitAction)
)
_TAGS = Row("tags", "tags", MAPPED, always=True)
_STATE = Row("state", "state", Word(environment_pb.ResourceState))
_NAME = Row("jobQueueName", "name")
_POLICY = Row("schedulingPolicyArn", "scheduling_policy", _PolicyName())
_CREATED = (_NAME, _STATE, _PRIORITY, _ORDER, _POLICY, _ACTIONS, _TAGS)
_SHOWN = (*_CREATED, Row("status", "status", Word(environment_pb.ResourceStatus)), Row("statusReason", "status_reason"))

_NOT_OFFERED = {
    "serviceEnvironmentOrder": "service environments are for Amazon SageMaker and not offered by Batchyard",
}
_KEPT = ("jobQueueType",)
"""Members that the contract does not have."""

_TYPES_NOT_OFFERED = ("SAGEMAKER_TRAINING", "ECS_MANAGED_INSTANCES")
_ECS, _EKS = "ECS", "EKS"


def check_new(members: Members) -> None:
    """
    Check a new queue.

    Raises:
        ClientException: it breaks a rule of AWS's.
    """
    rules.check_name("Job queue", members["jobQueueName"])
    kind = members.get("jobQueueType")
    if kind in _TYPES_NOT_OFFERED:
        raise ClientException(f"Job queues of type {kind} are not offered by Batchyard")
    _check_order(members.get("computeEnvironmentOrder", ()))
    _check_common(members)


def check_change(members: Members) -> None:
    """
    Check a change of a queue.

    Raises:
        ClientException: it breaks a rule of AWS's.
    """
    if "computeEnvironmentOrder" in members:
        _check_order(members["computeEnvironmentOrder"])
    _check_common(members)


def _check_order(order: Sequence[Members]) -> None:
    if not 1 <= len(order) <= ENVIRONMENTS_MAX:
        raise ExecutionException(
            f"computeEnvironmentOrder must have between 1 and {ENVIRONMENTS_MAX} entries, not {len(order)}"
        )


def check_orchestration(members: Members, environments: Sequence[environment_pb.ComputeEnvironment]) -> None:
    """
    Check that all environments of a queue are of Amazon EKS, or none is, and that its type says so.

    Raises:
        ClientException: they are mixed, or of another type.
    """
    found = {_EKS if environment.HasField("kubernetes") else _ECS for environment in environments}
    if len(found) > 1:
        raise ExecutionException("EKS and ECS compute environments can not be mixed.")
    kind = members.get("jobQueueType")
    if kind and found and (kind == _EKS) != (found == {_EKS}):
        raise ExecutionException(f"Job queue of type {kind} can not have compute environments of {found.pop()}.")


def environment_names(members: Members) -> list[str]:
    """Return the names of the environments that a queue is to have."""
    return [name_of(ENVIRONMENT, step["computeEnvironment"]) for step in members.get("computeEnvironmentOrder", ())]


def _check_common(members: Members) -> None:
    rules.check_not_given(members, _NOT_OFFERED)
    for action in members.get("jobStateTimeLimitActions", ()):
        rules.check_between("maxTimeSeconds", action["maxTimeSeconds"], 600, 86400)
        if action["action"] != "CANCEL":
            raise ExecutionException("jobStateTimeLimitActions: the action must be CANCEL")


def creation(members: Members) -> pb.CreateJobQueueRequest:
    """Return the contract's request for a new queue that was checked."""
    request = to_message(_CREATED, pb.CreateJobQueueRequest, members)
    request.annotations.update(annotated({name: members[name] for name in _KEPT if name in members}))
    return request


def change(members: Members) -> pb.UpdateJobQueueRequest:
    """Return the contract's request for a change that was checked."""
    request = to_message((_STATE, _PRIORITY, _ORDER, _POLICY), pb.UpdateJobQueueRequest, members)
    request.name = name_of(QUEUE, members["jobQueue"])
    if "jobStateTimeLimitActions" in members:
        actions = to_message((Row(_ACTIONS.member, "actions", _ACTIONS.kind),), pb.JobStateTimeLimitActions, members)
        request.job_state_time_limit_actions.CopyFrom(actions)
    return request


def members_of(queue: pb.JobQueue, names: Names) -> Members:
    """Return AWS's members of a queue."""
    shown = to_members(_SHOWN, queue)
    for step in shown["computeEnvironmentOrder"]:
        step["computeEnvironment"] = names.arn(ENVIRONMENT, step["computeEnvironment"])
    if queue.scheduling_policy:
        shown["schedulingPolicyArn"] = names.arn(POLICY, queue.scheduling_policy)
    return {
        "jobQueueArn": names.arn(QUEUE, queue.name),
        "jobQueueType": _EKS if list(queue.platforms) == [_EKS] else _ECS,
        **shown,
        **kept_in(queue.annotations),
    }


def snapshot(found: pb.GetJobQueueSnapshotResponse, names: Names) -> Members:
    """Return AWS's members of who is first in a queue, children of arrays one by one, and of what its jobs hold."""
    front = [_front(each, names) for each in found.front]
    utilization: Members = {"totalCapacityUsage": _vcpus(found.cpu_millis), "lastUpdatedAt": found.seen_at_ms}
    if found.has_shares:
        utilization["fairshareUtilization"] = {
            "activeShareCount": found.active_shares,
            "topCapacityUtilization": [
                {"shareIdentifier": each.share_identifier, "capacityUsage": _vcpus(each.cpu_millis)}
                for each in found.top_shares
            ],
        }
    shown: Members = {"frontOfQueue": {"jobs": front, "lastUpdatedAt": found.seen_at_ms}}
    if found.quota_shares:
        shares = {share.name: [_front(share.first, names)] for share in found.quota_shares if share.HasField("first")}
        shown["frontOfQuotaShares"] = {"quotaShares": shares, "lastUpdatedAt": found.seen_at_ms}
        utilization["quotaShareUtilization"] = {
            "topCapacityUtilization": [
                {"quotaShareName": share.name, "capacityUsage": list(map(_used, share.use))}
                for share in found.quota_shares
            ]
        }
    return {**shown, "queueUtilization": utilization}


def _front(job: pb.FrontOfQueueJob, names: Names) -> Members:
    return {"jobArn": names.arn(JOB, job.job_id), "earliestTimeAtPosition": job.since_ms}


def _used(use: quota_pb.CapacityUse) -> Members:
    return {"capacityUnit": use.capacity_unit, "quantity": use.used}


def _vcpus(cpu_millis: int) -> list[Members]:
    return [{"capacityUnit": "VCPU", "quantity": cpu_millis / 1000}]
