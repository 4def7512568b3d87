"""
Jobs: the contract's jobs as AWS describes them.

Pure. Absent stays absent: a job that never ran has no times, one without a timeout none
of that. An attempt that runs is not yet among the attempts, as on AWS; what the job's
container tells is the latest attempt's.
"""

from __future__ import annotations

from typing import Any

from batchyard.ids import task_id
from batchyard.v1 import job_pb2 as pb
from batchyard_gateway.services import Members

from . import containers, nodes, pods, tasks
from .consumables import PROPERTIES
from .definitions import PARAMETERS, PROPAGATE_TAGS, RETRY_STRATEGY, TAGS, TIMEOUT
from .mapping import MAPPED, NestedList, Plain, Row, Word, kept_in, to_members
from .names import DEFINITION, JOB, QUEUE, Names

_DEPENDENCY = (Row("jobId", "job_id"), Row("type", "type", Word(pb.DependencyType)))
_AWS_DEPENDENCIES = ("N_TO_N", "SEQUENTIAL")


class _Dependencies(NestedList):
    """Dependencies, without the kinds that AWS does not have."""

    def out(self, value: object) -> list[Members]:
        """Return a list of members."""
        listed = NestedList.out(self, value)  # type: ignore[arg-type]
        return [
            {name: text for name, text in each.items() if name != "type" or text in _AWS_DEPENDENCIES}
            for each in listed
        ]


_STATE = (
    Row("status", "state", Word(pb.JobState), always=True),
    Row("createdAt", "created_at_ms"),
    Row("startedAt", "started_at_ms"),
    Row("stoppedAt", "stopped_at_ms"),
    Row("statusReason", "status_reason"),
)
_DETAIL = (
    Row("jobName", "name", always=True),
    Row("jobId", "id", always=True),
    *_STATE,
    Row("shareIdentifier", "share_identifier"),
    Row("schedulingPriority", "scheduling_priority"),
    Row("dependsOn", "depends_on", _Dependencies(_DEPENDENCY, pb.Dependency), always=True),
    RETRY_STRATEGY,
    PARAMETERS,
    TIMEOUT,
    TAGS,
    PROPAGATE_TAGS,
    PROPERTIES,
    Row("isCancelled", "is_cancelled", always=True),
    Row("isTerminated", "is_terminated", always=True),
)
_SUMMARY = (
    Row("jobName", "name", always=True),
    Row("jobId", "id", always=True),
    *_STATE,
    Row("shareIdentifier", "share_identifier"),
    Row("scheduledAt", "scheduled_at_ms"),
    Row("isCancelled", "is_cancelled"),
    Row("isTerminated", "is_terminated"),
)
_ENDING = (Row("exitCode", "exit_code"), Row("reason", "reason"))
_ATTEMPT = (
    Row("startedAt", "started_at_ms"),
    Row("stoppedAt", "stopped_at_ms"),
    Row("statusReason", "status_reason"),
)
_USAGE = (
    Row("peakMemoryKiB", "peak_memory_kib"),
    Row("userCpuMilliseconds", "user_cpu_ms"),
    Row("systemCpuMilliseconds", "system_cpu_ms"),
)
"""Our own: AWS tells nothing of it here."""
_PARENT = (
    Row("size", "size"),
    Row("statusSummary", "status_summary", MAPPED, always=True),
    Row("statusSummaryLastUpdatedAt", "status_summary_updated_at_ms"),
)
_CHILD = (Row("index", "index", Plain()),)


def _where(attempt: pb.Attempt, names: Names) -> Members:
    """Return where one attempt ran."""
    account, members = names.account, {}
    # Attempts of before this was kept do not tell their environment.
    environment = attempt.compute_environment or "default"
    if attempt.host_id:
        members["containerInstanceArn"] = account.container_instance(environment, attempt.host_id)
    if attempt.log_stream_name or any(each.log_stream_name for each in attempt.containers):
        members["taskArn"] = account.task(environment, task_id(attempt.id))
    return members


def members_of(job: pb.Job, names: Names) -> Members:
    """Return AWS's members of a job."""
    kept = kept_in(job.annotations)
    members = {
        "jobArn": names.arn(JOB, job.id),
        "jobQueue": names.arn(QUEUE, job.queue),
        "jobDefinition": _definition(job.job_definition, names),
        **to_members(_DETAIL, job),
    }
    if not job.status_reason and job.waiting_reason:
        # AWS is silent here, to the grief of its users.
        members["statusReason"] = job.waiting_reason
    if "platformCapabilities" in kept:
        members["platformCapabilities"] = kept["platformCapabilities"]
    if job.HasField("array"):
        members["arrayProperties"] = array_members(job.array)
    if job.HasField("nodes"):
        return {**members, **_of_nodes(job, kept.get(nodes.NODES, {}), names)}
    if job.HasField("node"):
        members["nodeDetails"] = nodes.details(job.node)
        kept = _kept_of(nodes.range_of(kept.get(nodes.NODES, {}), job.node, job.node.index))
    return {**members, **_ran_by(job, kept, names)}


def _of_nodes(job: pb.Job, given: Members, names: Names) -> Members:
    """Return what AWS tells of a multi-node job: its nodes, and the attempts of its main node; no container."""
    kept = _kept_of(nodes.range_of(given, job.node, job.node.main_node))
    found = _ran_by(nodes.as_main(job), kept, names)
    told: Members = {name: found[name] for name in ("attempts", "eksAttempts") if name in found}
    return {nodes.NODES: nodes.shown(job.nodes, given), **told}


def _kept_of(given: Members) -> Members:
    """Return what is kept of a node's range as it is of a definition's only container."""
    for name in (tasks.ECS, pods.EKS):
        if name in given:
            return {name: given[name]}
    return {"containerProperties": nodes.container_residue(given)}


def _ran_by(job: pb.Job, kept: Members, names: Names) -> Members:
    """Return what AWS tells of what a job runs, and of its attempts."""
    members: Members = {}
    ended = [attempt for attempt in job.attempts if attempt.stopped_at_ms]
    if job.task.HasField("pod"):
        told = [pods.attempt_members(job, attempt, names) for attempt in ended]
        return {
            "attempts": [],
            pods.EKS: pods.job_members(job, kept.get(pods.EKS, {})),
            **({"eksAttempts": told} if told else {}),
        }
    if tasks.ECS in kept or job.HasField("task"):
        given = kept.get(tasks.ECS, {})
        members["attempts"] = [
            tasks.attempt_members(job, attempt, given, _where(attempt, names)) | to_members(_ATTEMPT, attempt)
            for attempt in ended
        ]
        where = _where(job.attempts[-1], names) if job.attempts else {}
        members[tasks.ECS] = tasks.job_members(job, given, where)
    else:
        members["attempts"] = [_attempt(attempt, names) for attempt in ended]
        members["container"] = _container(job, kept, names)
    return _without_hosts(members) if list(job.platform_capabilities) == [containers.FARGATE] else members


def _without_hosts(members: Any) -> Any:
    """Return members without container instances, which Fargate has not."""
    if isinstance(members, list):
        return [_without_hosts(each) for each in members]
    if not isinstance(members, dict):
        return members
    return {name: _without_hosts(each) for name, each in members.items() if name != "containerInstanceArn"}


def summary_of(job: pb.JobSummary, names: Names) -> Members:
    """Return AWS's members of a job in a list."""
    members = {
        "jobArn": names.arn(JOB, job.id),
        "jobDefinition": _definition(job.job_definition, names),
        **to_members(_SUMMARY, job),
    }
    if job.cpu_millis:
        members["capacityUsage"] = [{"capacityUnit": "VCPU", "quantity": job.cpu_millis / 1000}]
    if ending := to_members(_ENDING, job):
        members["container"] = ending
    if job.HasField("array"):
        members["arrayProperties"] = array_members(job.array)
    if job.HasField("node"):
        members["nodeProperties"] = nodes.summary(job.node)
    return members


def array_members(array: pb.ArrayProperties) -> Members:
    """Return AWS's members of an array, or of one of its children."""
    return to_members(_CHILD if array.HasField("index") else _PARENT, array)


def _definition(key: str, names: Names) -> str:
    """Return the ARN of a definition; a job that was submitted without one has none."""
    return names.arn(DEFINITION, key) if key else ""


def _ran(attempt: pb.Attempt, names: Names) -> Members:
    """Return what AWS tells of the container of an attempt."""
    return {
        **_where(attempt, names),
        **to_members((*_ENDING, Row("logStreamName", "log_stream_name")), attempt),
        "networkInterfaces": _interfaces(attempt),
    }


def _interfaces(attempt: pb.Attempt) -> list[Members]:
    """Return where a node is reached; of other jobs AWS tells nothing."""
    return [{"privateIpv4Address": attempt.host_address}] if attempt.host_address else []


def _attempt(attempt: pb.Attempt, names: Names) -> Members:
    members = {"container": _ran(attempt, names), **to_members(_ATTEMPT, attempt)}
    if attempt.HasField("usage"):
        wall_ms = attempt.stopped_at_ms - attempt.started_at_ms
        members["batchyardUsage"] = {**to_members(_USAGE, attempt.usage), "wallMilliseconds": wall_ms}
    return members


def _container(job: pb.Job, kept: Members, names: Names) -> Members:
    latest = _ran(job.attempts[-1], names) if job.attempts else {"networkInterfaces": []}
    return {**containers.job_members(job.container, kept.get("containerProperties", {})), **latest}
