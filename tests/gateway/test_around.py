"""ECS, EC2 and STS as tools look up where a job ran, and what the job itself can read about that."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.surroundings import ACCOUNT, HOST_ID, REGION, Around, around

from batchyard.arns import Account, instance_id
from batchyard.ids import task_id
from batchyard.v1.compute_environment_pb2 import ComputeResources

NAMES = Account(region=REGION, account_id=ACCOUNT)
CLUSTER = f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/AWSBatch-default"


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Around]:
    async with around(tmp_path) as opened:
        yield opened


async def test_a_task_leads_to_its_host(yard: Around) -> None:
    """The walk of Nextflow: environment, cluster, task, container instance, instance."""
    job = await yard.run("sh", "-c", "exit 3", definition="greet")
    (attempt,) = job.attempts
    batch, ecs, ec2 = yard.boto("batch"), yard.boto("ecs"), yard.boto("ec2")
    (cluster,) = (await yard.call(ecs.list_clusters))["clusterArns"]
    assert cluster == CLUSTER
    arn = NAMES.task("default", task_id(attempt.id))
    (described,) = (await asyncio.to_thread(batch.describe_jobs, jobs=[job.id]))["jobs"]
    told = described["attempts"][0]["container"]
    assert (told["taskArn"], told["logStreamName"]) == (arn, attempt.log_stream_name)
    (environment,) = (await yard.call(batch.describe_compute_environments))["computeEnvironments"]
    assert environment["ecsClusterArn"] == cluster
    answer = await yard.call(ecs.describe_tasks, cluster=cluster, tasks=[arn])
    assert answer["failures"] == []
    (task,) = answer["tasks"]
    assert (task["taskArn"], task["clusterArn"], task["lastStatus"]) == (arn, cluster, "STOPPED")
    assert (task["cpu"], task["memory"], task["availabilityZone"]) == ("256", "64", "rack-1")
    assert task["startedAt"].timestamp() == attempt.started_at_ms / 1000
    assert task["containers"][0]["exitCode"] == 3
    assert task["containerInstanceArn"] == told["containerInstanceArn"]

    answer = await yard.call(
        ecs.describe_container_instances, cluster=cluster, containerInstances=[task["containerInstanceArn"]]
    )
    (found,) = answer["containerInstances"]
    assert (found["ec2InstanceId"], found["status"], found["agentConnected"]) == (instance_id(HOST_ID), "ACTIVE", True)
    registered = {each["name"]: each["integerValue"] for each in found["registeredResources"]}
    assert registered == {"CPU": 4096, "MEMORY": 1024}

    answer = await yard.call(ec2.describe_instances, InstanceIds=[found["ec2InstanceId"]])
    (reservation,) = answer["Reservations"]
    (instance,) = reservation["Instances"]
    assert (instance["InstanceId"], instance["InstanceType"]) == (instance_id(HOST_ID), "m5.large")
    assert instance["Placement"]["AvailabilityZone"] == "rack-1"
    assert instance["State"]["Name"] == "running"
    assert instance["Tags"] == [{"Key": "room", "Value": "cellar"}]
    assert "InstanceLifecycle" not in instance


async def test_a_running_task_is_running(yard: Around) -> None:
    job = await yard.running(await yard.submit("sleep", "600"))
    ecs = yard.boto("ecs")
    name = task_id(job.attempts[0].id)
    (task,) = (await yard.call(ecs.describe_tasks, tasks=[name]))["tasks"]
    assert (task["lastStatus"], task["desiredStatus"]) == ("RUNNING", "RUNNING")
    assert "stoppedAt" not in task
    await yard.client.terminate_job(job.id, "enough")
    await yard.client.wait(job.id)
    (task,) = (await yard.call(ecs.describe_tasks, tasks=[name]))["tasks"]
    assert (task["lastStatus"], task["desiredStatus"], task["stoppedReason"]) == ("STOPPED", "STOPPED", "enough")


async def test_a_task_of_a_reclaimed_host_names_the_instance_as_ec2_does(yard: Around) -> None:
    """What the retry rules of tools match, and by which they find the machine."""
    job = await yard.running(await yard.submit("sleep", "600", infrastructure_retries=0))
    await yard.client.reclaim_host(HOST_ID)
    await yard.client.wait(job.id)
    batch, ecs, ec2 = yard.boto("batch"), yard.boto("ecs"), yard.boto("ec2")
    (described,) = (await asyncio.to_thread(batch.describe_jobs, jobs=[job.id]))["jobs"]
    reason = f"Host EC2 (instance {instance_id(HOST_ID)}) terminated."
    assert (described["status"], described["statusReason"]) == ("FAILED", reason)
    assert [attempt["statusReason"] for attempt in described["attempts"]] == [reason]
    arn = NAMES.container_instance("default", HOST_ID)
    answer = await yard.call(ecs.describe_container_instances, cluster=CLUSTER, containerInstances=[arn])
    assert answer["containerInstances"][0]["status"] == "DRAINING"
    (found,) = (await yard.call(ec2.describe_instances, InstanceIds=[instance_id(HOST_ID)]))["Reservations"]
    assert found["Instances"][0]["InstanceId"] in reason


async def test_a_task_names_the_environment_it_ran_in(yard: Around) -> None:
    """Not the first of its queue, nor whatever cluster is asked for."""
    elsewhere = ComputeResources(labels={"rack": "none"})
    await yard.client.create_compute_environment("elsewhere", compute_resources=elsewhere)
    await yard.client.create_job_queue("wide", compute_environments=["elsewhere", "default"])
    job = await yard.run("true", queue="wide")
    batch, ecs = yard.boto("batch"), yard.boto("ecs")
    arn = NAMES.task("default", task_id(job.attempts[0].id))
    (described,) = (await asyncio.to_thread(batch.describe_jobs, jobs=[job.id]))["jobs"]
    (attempt,) = described["attempts"]
    assert (attempt["container"]["taskArn"], described["container"]["taskArn"]) == (arn, arn)
    assert "/AWSBatch-default/" in attempt["container"]["containerInstanceArn"]
    (task,) = (await yard.call(ecs.describe_tasks, cluster="AWSBatch-elsewhere", tasks=[arn]))["tasks"]
    assert (task["taskArn"], task["clusterArn"]) == (arn, CLUSTER)


async def test_clusters_are_environments(yard: Around) -> None:
    for name in ("a", "b"):
        await yard.client.create_compute_environment(name)
    ecs = yard.boto("ecs")
    pages = await yard.call(ecs.list_clusters, maxResults=2)
    assert [arn.rpartition("/")[2] for arn in pages["clusterArns"]] == ["AWSBatch-a", "AWSBatch-b"]
    rest = await yard.call(ecs.list_clusters, maxResults=2, nextToken=pages["nextToken"])
    assert rest == {"clusterArns": [CLUSTER]}
    answer = await yard.call(ecs.describe_clusters, clusters=[CLUSTER, "AWSBatch-a", "AWSBatch-x", "default"])
    assert [(c["clusterName"], c["status"]) for c in answer["clusters"]] == [
        ("AWSBatch-default", "ACTIVE"),
        ("AWSBatch-a", "ACTIVE"),
    ]
    assert answer["clusters"][0]["registeredContainerInstancesCount"] == 1
    assert [failure["arn"].rpartition("/")[2] for failure in answer["failures"]] == ["AWSBatch-x", "default"]


async def test_a_cluster_lists_its_hosts(yard: Around) -> None:
    """As ParallelCluster's awsbhosts asks, and no other environment's."""
    await yard.client.create_compute_environment(
        "elsewhere", compute_resources=ComputeResources(labels={"rack": "none"})
    )
    ecs = yard.boto("ecs")
    arn = NAMES.container_instance("default", HOST_ID)
    assert await yard.call(ecs.list_container_instances, cluster=CLUSTER) == {"containerInstanceArns": [arn]}
    for asked, found in (
        ({"cluster": "AWSBatch-default", "status": "ACTIVE", "maxResults": 1}, [arn]),
        ({"cluster": CLUSTER, "status": "DRAINING"}, []),
        ({"cluster": "AWSBatch-elsewhere"}, []),
    ):
        assert (await yard.call(ecs.list_container_instances, **asked))["containerInstanceArns"] == found
    await yard.client.cordon_host(HOST_ID)
    draining = await yard.call(ecs.list_container_instances, cluster=CLUSTER, status="DRAINING")
    assert draining == {"containerInstanceArns": [arn]}


async def test_a_cluster_lists_its_tasks_that_have_not_ended(yard: Around) -> None:
    """Children of arrays too; by page, host and family."""
    await yard.run("true")
    ecs = yard.boto("ecs")
    assert await yard.call(ecs.list_tasks, cluster=CLUSTER) == {"taskArns": []}
    job = await yard.running(await yard.submit("sleep", "600", definition="greet"))
    array = await yard.submit("sleep", "600", array_size=2)
    tasks = [await yard.running(each) for each in (job.id, f"{array}:0", f"{array}:1")]
    arns = sorted(NAMES.task("default", task_id(each.attempts[0].id)) for each in tasks)
    assert await yard.call(ecs.list_tasks, cluster=CLUSTER) == {"taskArns": arns}
    first = await yard.call(ecs.list_tasks, cluster=CLUSTER, maxResults=2)
    rest = await yard.call(ecs.list_tasks, cluster=CLUSTER, maxResults=2, nextToken=first["nextToken"])
    assert [first["taskArns"], rest] == [arns[:2], {"taskArns": arns[2:]}]
    mine = [NAMES.task("default", task_id(job.attempts[0].id))]
    instance = NAMES.container_instance("default", HOST_ID)
    for asked, found in (
        ({"family": "greet"}, mine),
        ({"family": "other"}, []),
        ({"containerInstance": instance, "desiredStatus": "RUNNING", "launchType": "EC2"}, arns),
        ({"launchType": "FARGATE"}, []),
    ):
        assert (await yard.call(ecs.list_tasks, cluster=CLUSTER, **asked))["taskArns"] == found
    for each in (job.id, array):
        await yard.client.terminate_job(each, "all is seen")
        await yard.client.wait(each, timeout_s=60)
    assert await yard.call(ecs.list_tasks, cluster=CLUSTER) == {"taskArns": []}


async def test_what_cannot_be_listed_is_refused(yard: Around) -> None:
    ecs = yard.boto("ecs")
    for call, asked, code in (
        (ecs.list_tasks, {}, "ClusterNotFoundException"),
        (ecs.list_container_instances, {"cluster": "AWSBatch-nobody"}, "ClusterNotFoundException"),
        (ecs.list_container_instances, {"cluster": "AWSBatch-"}, "ClusterNotFoundException"),
        (ecs.list_container_instances, {"cluster": CLUSTER, "filter": "a == b"}, "InvalidParameterException"),
        (ecs.list_container_instances, {"cluster": CLUSTER, "maxResults": 101}, "InvalidParameterException"),
        (ecs.list_tasks, {"cluster": CLUSTER, "desiredStatus": "STOPPED"}, "InvalidParameterException"),
        (ecs.list_tasks, {"cluster": CLUSTER, "containerInstance": "x"}, "InvalidParameterException"),
        (ecs.list_tasks, {"cluster": CLUSTER, "startedBy": "x"}, "InvalidParameterException"),
        (ecs.list_tasks, {"cluster": CLUSTER, "nextToken": "x"}, "InvalidParameterException"),
    ):
        assert (await yard.refused(call, **asked))[0] == code, asked


async def test_what_is_not_there_is_missing_or_not_found(yard: Around) -> None:
    ecs, ec2 = yard.boto("ecs"), yard.boto("ec2")
    nobody = "019a0000-0000-7000-8000-000000000000_1"
    answer = await yard.call(ecs.describe_tasks, tasks=["nonsense", nobody])
    assert answer == {"tasks": [], "failures": [{"arn": t, "reason": "MISSING"} for t in ("nonsense", nobody)]}
    answer = await yard.call(ecs.describe_container_instances, containerInstances=["x", "0" * 32])
    assert [failure["reason"] for failure in answer["failures"]] == ["MISSING", "MISSING"]
    told = [
        await yard.refused(ec2.describe_instances, InstanceIds=["i-0123456789abcdef0"]),
        await yard.refused(ec2.describe_instances, InstanceIds=["x"]),
        await yard.refused(ec2.describe_instances, Filters=[{"Name": "vpc-id", "Values": ["a"]}]),
        await yard.refused(ec2.describe_instances, NextToken="x"),
        await yard.refused(ec2.run_instances, MinCount=1, MaxCount=1),
        await yard.refused(ecs.stop_task, task=nobody),
    ]
    assert [(code, status) for code, status, _ in told] == [
        ("InvalidInstanceID.NotFound", 400),
        ("InvalidInstanceID.Malformed", 400),
        ("InvalidParameterValue", 400),
        ("InvalidParameterException", 400),
        ("InvalidAction", 400),
        ("UnknownOperationException", 400),
    ]


@pytest.mark.parametrize(
    ("name", "value", "is_found"), [("instance-type", "m5.large", True), ("availability-zone", "x", False)]
)
async def test_instances_are_filtered(yard: Around, name: str, value: str, is_found: bool) -> None:
    filters: list[dict[str, Any]] = [{"Name": name, "Values": ["y", value]}]
    answer = await yard.call(yard.boto("ec2").describe_instances, Filters=filters)
    assert bool(answer["Reservations"]) is is_found


async def test_a_caller_learns_the_account(yard: Around) -> None:
    answer = await yard.call(yard.boto("sts").get_caller_identity)
    assert answer == {"Account": ACCOUNT, "UserId": "ANYBODY", "Arn": f"arn:aws:iam::{ACCOUNT}:user/ANYBODY"}


async def test_a_process_reads_about_itself(yard: Around) -> None:
    """As Metaflow does: the stream of its own log, from the endpoint that its environment names."""
    script = (
        "import os,urllib.request as r; print(r.urlopen(os.environ['ECS_CONTAINER_METADATA_URI_V4']).read().decode())"
    )
    job = await yard.run("env", "-u", "http_proxy", "python3", "-c", script, definition="self")
    (attempt,) = job.attempts
    assert job.exit_code == 0
    log = await yard.call(
        yard.boto("logs").get_log_events, logGroupName="/aws/batch/job", logStreamName=attempt.log_stream_name
    )
    told = json.loads(log["events"][0]["message"])
    assert told["LogOptions"]["awslogs-stream"] == attempt.log_stream_name
    assert told["LogOptions"]["awslogs-group"] == "/aws/batch/job"
    assert told["Labels"]["com.amazonaws.ecs.task-arn"].endswith(f"task/AWSBatch-default/{task_id(attempt.id)}")
    assert told["KnownStatus"] == "RUNNING"
