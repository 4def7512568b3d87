"""
Amazon ECS, as far as tools look up where a job ran: a cluster for each compute environment.

A task stands for an attempt, a container instance for a host. Names are made of the
yard's own ids, so nothing is kept. A task is found under whatever cluster is asked, as
its id is unique, and tells its true one; only attempts of before that was kept do not.

Source: Amazon ECS API Reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from batchyard import errors as sdk_errors
from batchyard import ids, wording
from batchyard.arns import Account, cluster_name, instance_id, last_part
from batchyard.states import JobState
from batchyard.tasks import DEFAULT_NAME
from batchyard.v1 import compute_environment_pb2 as environment_pb
from batchyard.v1 import host_pb2, job_pb2
from batchyard.v1.job_definition_pb2 import ContainerProperties

from . import inputs
from .errors import ApiError
from .protocols import JsonRpc
from .services import Context, Members, Operation, Service

CPU_UNITS = 1024
"""ECS counts a vCPU as so many units."""

DESCRIBE_MAX = 100
DESCRIBED_AT_ONCE = 1000
"""How many jobs the contract describes in one call."""

LAUNCH_TYPES = ["EC2", "FARGATE"]
_HOST_STATUSES = ("ACTIVE", "DRAINING", "REGISTERING", "DEREGISTERING", "REGISTRATION_FAILED")
"""Which a caller may ask for; no host is ever in the last three."""

_LAST_STATUS = {
    JobState.STARTING: "PENDING",
    JobState.RUNNING: "RUNNING",
    JobState.SUCCEEDED: "STOPPED",
    JobState.FAILED: "STOPPED",
}
_STATUS_OF_CONTAINERS = {
    job_pb2.CONTAINER_STATE_WAITING: "PENDING",
    job_pb2.CONTAINER_STATE_STARTING: "PENDING",
    job_pb2.CONTAINER_STATE_RUNNING: "RUNNING",
    job_pb2.CONTAINER_STATE_ENDED: "STOPPED",
}


async def list_clusters(context: Context, members: Members) -> Members:
    """List the compute environments' clusters, in name order."""
    limit = inputs.number(members, "maxResults", 100, least=1, most=100)
    after = inputs.place(members, _name) or ""
    account = _account(context)
    arns: list[str] = []
    async for environment in context.client.list_compute_environments():
        if environment.name <= after:
            continue
        if len(arns) == limit:
            return {"clusterArns": arns, "nextToken": inputs.token(after)}
        arns.append(account.cluster(environment.name))
        # Where the next page goes on, should there be one.
        after = environment.name
    return {"clusterArns": arns}


async def describe_clusters(context: Context, members: Members) -> Members:
    """Describe clusters by name or ARN."""
    asked = inputs.texts(members, "clusters", most=DESCRIBE_MAX) or ["default"]
    names = {each: _environment_name(each) for each in asked}
    known = sorted({name for name in names.values() if name})
    found = {each.name: each for each in await context.client.describe_compute_environments(known)} if known else {}
    account = _account(context)
    clusters, failures = [], []
    for each in asked:
        environment = found.get(names[each])
        if environment is None:
            failures.append(_missing(account.arn("ecs", f"cluster/{last_part(each)}")))
        else:
            clusters.append(_cluster(environment, account))
    return {"clusters": clusters, "failures": failures}


async def describe_tasks(context: Context, members: Members) -> Members:
    """Describe attempts by task id or ARN."""
    asked = inputs.texts(members, "tasks", most=DESCRIBE_MAX)
    if not asked:
        raise inputs.invalid("Tasks cannot be empty.")
    cluster = _asked_cluster(members)
    attempts = {each: ids.attempt_id_of_task(last_part(each)) for each in asked}
    job_ids = sorted({ids.split_attempt_id(attempt)[0] for attempt in attempts.values() if attempt is not None})
    jobs = {job.id: job for job in await context.client.describe_jobs(job_ids)} if job_ids else {}
    zones = await _zones(context, jobs.values())
    tasks, failures = [], []
    for each, attempt_id in attempts.items():
        found = _find(jobs, attempt_id)
        if found is None:
            failures.append(_missing(each))
        else:
            tasks.append(_task(*found, found[1].compute_environment or cluster, _account(context), zones))
    return {"tasks": tasks, "failures": failures}


async def describe_container_instances(context: Context, members: Members) -> Members:
    """Describe hosts by the ids of their container instances."""
    asked = inputs.texts(members, "containerInstances", most=DESCRIBE_MAX)
    if not asked:
        raise inputs.invalid("Container instances cannot be empty.")
    cluster = _asked_cluster(members)
    instances, failures = [], []
    for each in asked:
        host = await _host(context, _uuid(last_part(each)))
        if host is None:
            failures.append(_missing(each))
        else:
            instances.append(_container_instance(host, cluster, _account(context)))
    return {"containerInstances": instances, "failures": failures}


async def list_container_instances(context: Context, members: Members) -> Members:
    """List the hosts of a cluster, in the order of their ids."""
    environment = await _environment(context, members)
    status = inputs.text(members, "status")
    if inputs.text(members, "filter"):
        raise inputs.invalid("filter is not offered by Batchyard.")
    if status not in ("", *_HOST_STATUSES):
        raise inputs.invalid(f"status must be one of {', '.join(_HOST_STATUSES)}.")
    hosts = [host for host_id in sorted(environment.host_ids) if (host := await _host(context, host_id)) is not None]
    account = _account(context)
    arns = [
        account.container_instance(environment.name, host.id) for host in hosts if status in ("", _host_status(host))
    ]
    return _page(members, "containerInstanceArns", arns)


async def list_tasks(context: Context, members: Members) -> Members:
    """List a cluster's attempts that have not ended, in the order of their tasks' ids."""
    environment = await _environment(context, members)
    for name in ("startedBy", "serviceName", "daemonName"):
        if inputs.text(members, name):
            raise inputs.invalid(f"{name} is not offered by Batchyard.")
    if inputs.text(members, "desiredStatus", "RUNNING") != "RUNNING":
        raise inputs.invalid("Only tasks of desiredStatus RUNNING are listed; AWS Batch lists jobs that have ended.")
    asked = _uuid(last_part(inputs.text(members, "containerInstance")))
    if inputs.text(members, "containerInstance") and asked not in environment.host_ids:
        raise inputs.invalid("The container instance is not of this cluster.")
    family, launch_type = inputs.text(members, "family"), inputs.text(members, "launchType", LAUNCH_TYPES[0])
    found = await _live(context, [asked] if asked else sorted(environment.host_ids))
    account = _account(context)
    arns = [
        account.task(environment.name, ids.task_id(attempt.id))
        for job, attempt in found
        if attempt.compute_environment == environment.name
        and launch_type == _launch_type(job)
        and family in ("", job.job_definition.partition(":")[0])
    ]
    return _page(members, "taskArns", sorted(arns))


async def _environment(context: Context, members: Members) -> environment_pb.ComputeEnvironment:
    """
    Return the compute environment whose cluster is asked for.

    Raises:
        ApiError: there is no such cluster.
    """
    name = _environment_name(inputs.text(members, "cluster", "default"))
    found = await context.client.describe_compute_environments([name]) if name else []
    if not found:
        raise ApiError("ClusterNotFoundException", "Cluster not found.")
    return found[0]


async def _live(context: Context, host_ids: Sequence[str]) -> list[tuple[job_pb2.Job, job_pb2.Attempt]]:
    """Return the attempts that are on some hosts, each with its job."""
    attempts: dict[str, str] = {}
    for host_id in host_ids:
        try:
            described = await context.client.describe_host(host_id)
        except sdk_errors.NotFoundError:
            continue
        attempts |= dict(zip(described.attempt_ids, described.job_ids, strict=True))
    job_ids = sorted(set(attempts.values()))
    jobs: dict[str, job_pb2.Job] = {}
    for i in range(0, len(job_ids), DESCRIBED_AT_ONCE):
        jobs |= {job.id: job for job in await context.client.describe_jobs(job_ids[i : i + DESCRIBED_AT_ONCE])}
    return [found for attempt_id in attempts if (found := _find(jobs, attempt_id)) is not None]


def _page(members: Members, name: str, arns: Sequence[str]) -> Members:
    """Return a page of sorted ARNs under a name."""
    limit = inputs.number(members, "maxResults", DESCRIBE_MAX, least=1, most=DESCRIBE_MAX)
    after = inputs.place(members, _name) or ""
    rest = [arn for arn in arns if last_part(arn) > after]
    page = rest[:limit]
    more = {"nextToken": inputs.token(last_part(page[-1]))} if len(rest) > limit else {}
    return {name: page, **more}


def _environment_name(cluster: str) -> str:
    """Return the compute environment that a cluster's name or ARN stands for; empty when it is none of ours."""
    name, prefix = last_part(cluster), cluster_name("")
    return name.removeprefix(prefix) if name.startswith(prefix) else ""


def _account(context: Context) -> Account:
    return Account(region=context.region, account_id=context.account_id)


def _name(place: Any) -> str:
    (name,) = place
    if not isinstance(name, str):
        raise TypeError(name)
    return name


def _asked_cluster(members: Members) -> str:
    """Return the compute environment whose cluster is asked for."""
    return last_part(inputs.text(members, "cluster", "default")).removeprefix(cluster_name(""))


def _missing(arn: str) -> Members:
    return {"arn": arn, "reason": "MISSING"}


def _cluster(environment: environment_pb.ComputeEnvironment, account: Account) -> Members:
    return {
        "clusterArn": account.cluster(environment.name),
        "clusterName": cluster_name(environment.name),
        "status": "ACTIVE",
        "registeredContainerInstancesCount": len(environment.host_ids),
        "activeServicesCount": 0,
    }


def _find(jobs: dict[str, job_pb2.Job], attempt_id: str | None) -> tuple[job_pb2.Job, job_pb2.Attempt] | None:
    if attempt_id is None:
        return None
    job = jobs.get(ids.split_attempt_id(attempt_id)[0])
    return next(((job, attempt) for attempt in job.attempts if attempt.id == attempt_id), None) if job else None


async def _zones(context: Context, jobs: Any) -> dict[str, str]:
    """Return the zones of the hosts that those jobs were on, as far as these are still known."""
    zones = {}
    for host_id in {attempt.host_id for job in jobs for attempt in job.attempts}:
        host = await _host(context, host_id)
        if host is not None and host.facts.zone:
            zones[host_id] = host.facts.zone
    return zones


async def _host(context: Context, host_id: str) -> host_pb2.Host | None:
    try:
        return (await context.client.describe_host(host_id)).host if host_id else None
    except sdk_errors.NotFoundError:
        return None


def _uuid(text: str) -> str:
    """Return the host's id that a container instance's id stands for; empty when it is none."""
    uuid = f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
    return uuid if ids.is_uuid(uuid) else ""


def _task(
    job: job_pb2.Job, attempt: job_pb2.Attempt, environment: str, account: Account, zones: dict[str, str]
) -> Members:
    task_id = ids.task_id(attempt.id)
    arn = account.task(environment, task_id)
    status = _LAST_STATUS.get(wording.job_state(attempt), "PENDING")
    launch_type = _launch_type(job)
    has_instance = launch_type == LAUNCH_TYPES[0]
    several = job.task.containers
    ends: Sequence[job_pb2.Attempt | job_pb2.ContainerStatus] = attempt.containers if several else [attempt]
    containers = [
        _container(container, end, arn, status) for container, end in zip(several or [job.container], ends, strict=True)
    ]
    task = {
        "taskArn": arn,
        "clusterArn": account.cluster(environment),
        "containerInstanceArn": account.container_instance(environment, attempt.host_id) if has_instance else "",
        "lastStatus": status,
        "desiredStatus": "STOPPED" if job.is_terminated or status == "STOPPED" else "RUNNING",
        "availabilityZone": zones.get(attempt.host_id, ""),
        "launchType": launch_type,
        "createdAt": _seconds(attempt.claimed_at_ms),
        "startedAt": _seconds(attempt.started_at_ms),
        "stoppedAt": _seconds(attempt.stopped_at_ms),
        "stoppedReason": attempt.status_reason,
        "containers": containers,
        **{kind: str(sum(int(each.get(kind, 0)) for each in containers)) for kind in ("cpu", "memory")},
    }
    return _present(task)


def _launch_type(job: job_pb2.Job) -> str:
    """Return on which platform a job runs; nobody is told the host of one that runs on Fargate."""
    return LAUNCH_TYPES[1] if list(job.platform_capabilities) == LAUNCH_TYPES[1:] else LAUNCH_TYPES[0]


def _container(
    container: ContainerProperties, end: job_pb2.Attempt | job_pb2.ContainerStatus, task: str, task_status: str
) -> Members:
    """Tell of a container of a task: as that is, or of several as it ended itself."""
    name = end.name if isinstance(end, job_pb2.ContainerStatus) else DEFAULT_NAME
    members: Members = {
        "containerArn": f"{task.replace(':task/', ':container/')}/{name}",
        "taskArn": task,
        "name": name,
        "image": container.image,
        "lastStatus": _status_of(end, task_status),
        "reason": end.reason,
        "networkInterfaces": [],
        "cpu": str(container.resources.cpu_millis * CPU_UNITS // 1000),
        "memory": str(container.resources.memory_mib),
    }
    if end.HasField("exit_code"):
        members["exitCode"] = end.exit_code
    return _present(members)


def _status_of(end: job_pb2.Attempt | job_pb2.ContainerStatus, task_status: str) -> str:
    """Return where a container is; where its host tells nothing of it, where its task is."""
    if end.stopped_at_ms:
        return "STOPPED"
    known = end.state if isinstance(end, job_pb2.ContainerStatus) else job_pb2.CONTAINER_STATE_UNSPECIFIED
    return _STATUS_OF_CONTAINERS.get(known, task_status)


def _host_status(host: host_pb2.Host) -> str:
    return "DRAINING" if host.cordoned or host.draining or host.reclaimed_at_ms else "ACTIVE"


def _container_instance(host: host_pb2.Host, environment: str, account: Account) -> Members:
    facts = host.facts
    attributes = {
        "ecs.instance-type": facts.host_type,
        "ecs.availability-zone": facts.zone,
        "ecs.os-type": "linux",
    }
    return {
        "containerInstanceArn": account.container_instance(environment, host.id),
        "ec2InstanceId": instance_id(host.id),
        "status": _host_status(host),
        "agentConnected": host.state != host_pb2.HOST_STATE_UNREACHABLE,
        "runningTasksCount": host.attempts,
        "versionInfo": _present({"agentVersion": facts.agent_version}),
        "registeredResources": _resources(facts.capacity),
        "remainingResources": _resources(facts.capacity, host.allocated),
        "attributes": [{"name": name, "value": value} for name, value in attributes.items() if value],
    }


def _resources(capacity: Any, taken: Any = None) -> list[Members]:
    def left(field: str) -> int:
        return int(getattr(capacity, field)) - (int(getattr(taken, field)) if taken is not None else 0)

    amounts = {"CPU": left("cpu_millis") * CPU_UNITS // 1000, "MEMORY": left("memory_mib")}
    return [{"name": name, "type": "INTEGER", "integerValue": amount} for name, amount in amounts.items()]


def _seconds(at_ms: int) -> float | None:
    return at_ms / 1000 if at_ms else None


def _present(members: Members) -> Members:
    return {name: value for name, value in members.items() if value not in ("", None)}


SERVICE = Service(
    name="ecs",
    protocol=JsonRpc(),
    target_prefix="AmazonEC2ContainerServiceV20141113",
    operations={
        operation.name: operation
        for operation in (
            Operation(name="ListClusters", handler=list_clusters),
            Operation(name="DescribeClusters", handler=describe_clusters),
            Operation(name="ListContainerInstances", handler=list_container_instances),
            Operation(name="ListTasks", handler=list_tasks),
            Operation(name="DescribeTasks", handler=describe_tasks),
            Operation(name="DescribeContainerInstances", handler=describe_container_instances),
        )
    },
)
