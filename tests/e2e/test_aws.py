"""The `aws` CLI, unmodified, against a yard of real processes: a walk from nothing to finished jobs and back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.agent.runtimes.engine import ensure_image
from tests.cli.test_apply import ACCOUNT
from tests.e2e.programs import until
from tests.e2e.yard import Yard
from tests.ports import hold_address

from batchyard import Client, JobState, job_state

END_LIMIT_S = 120.0

pytestmark = pytest.mark.timeout(300)  # each call of the CLI is a process that takes a second or more to load


class Aws:
    """The CLI with nothing of this machine's AWS settings."""

    def __init__(self, yard: Yard, http: str, folder: Path) -> None:
        self._yard = yard
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "AWS_ENDPOINT_URL_BATCH": f"http://{http}",
            "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": f"http://{http}",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_PAGER": "",
        }
        self._program = str(Path(sys.executable).with_name("aws"))

    def sign_in(self, yard: Yard) -> None:
        """Make a key, and sign with it from now on."""
        with Client(yard.socket) as client:
            made = client.create_access_key(description="aws")
        self._environment["AWS_ACCESS_KEY_ID"] = made.access_key.id
        self._environment["AWS_SECRET_ACCESS_KEY"] = made.secret

    def run(self, operation: str, /, service: str = "batch", **members: Any) -> subprocess.CompletedProcess[str]:
        command = [self._program, service, operation, "--output", "json"]
        command += ["--cli-input-json", json.dumps(members)]
        return subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=150, check=False)

    def __call__(self, operation: str, /, **members: Any) -> Any:
        result = self.run(operation, **members)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout) if result.stdout.strip() else {}

    def log(self, stream: str) -> list[str]:
        """Return the lines of an attempt's log, as CloudWatch has them."""
        found = self("get-log-events", service="logs", logGroupName="/aws/batch/job", logStreamName=stream)
        return [event["message"] for event in found["events"]]

    def job(self, job_id: str) -> Any:
        (job,) = self("describe-jobs", jobs=[job_id])["jobs"]
        return job

    def wait(self, job_id: str) -> Any:
        """Wait by the SDK, whose calls cost no process, and describe the job."""
        with self._yard.client() as client:
            client.wait(job_id, timeout_s=END_LIMIT_S)
        return self.job(job_id)


@pytest.fixture
def aws(yard: Yard, tmp_path: Path) -> Aws:
    """Return the CLI of a gateway that is up."""
    http = hold_address()
    gateway = yard.add_program("gateway", "batchyard_gateway", "--listen", http, "--controller", yard.socket)
    gateway.start()
    until(lambda: "listening" in gateway.tail(), "the gateway listens")
    return Aws(yard, http, tmp_path)


@pytest.mark.docker
def test_a_walk_through_the_service(yard: Yard, aws: Aws) -> None:
    yard.start("alpha", cpus=2, runtimes="docker")
    aws.sign_in(yard)
    resources = {
        "type": "EC2",
        "allocationStrategy": "BEST_FIT_PROGRESSIVE",
        "minvCpus": 0,
        "maxvCpus": 256,
        "instanceTypes": ["optimal"],
        "subnets": ["subnet-12345678"],
        "securityGroupIds": ["sg-12345678"],
        "instanceRole": "ecsInstanceRole",
    }
    spot = resources | {"type": "SPOT", "allocationStrategy": "SPOT_CAPACITY_OPTIMIZED", "bidPercentage": 50}
    for name, given in (("on-demand", resources), ("spot", spot)):
        aws("create-compute-environment", computeEnvironmentName=name, type="MANAGED", computeResources=given)
    described = aws("describe-compute-environments", computeEnvironments=["spot"])["computeEnvironments"]
    assert {name: described[0]["computeResources"][name] for name in spot} == spot
    steps = [{"order": 1, "computeEnvironment": "on-demand"}]
    aws("create-job-queue", jobQueueName="work", priority=10, computeEnvironmentOrder=steps, tags={"team": "a"})
    (queue,) = aws("describe-job-queues", jobQueues=["work"])["jobQueues"]
    assert (queue["state"], queue["status"], queue["tags"]) == ("ENABLED", "VALID", {"team": "a"})

    script = 'echo "attempt $AWS_BATCH_JOB_ATTEMPT of $WHO"; test "$AWS_BATCH_JOB_ATTEMPT" -ge Ref::needed'
    definition = aws(
        "register-job-definition",
        jobDefinitionName="work",
        type="container",
        parameters={"needed": "1"},
        containerProperties={
            "image": ensure_image(),
            "command": ["sh", "-c", script],
            "resourceRequirements": [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "64"}],
        },
    )
    submitted = aws(
        "submit-job",
        jobName="retried",
        jobQueue=queue["jobQueueArn"],
        jobDefinition=definition["jobDefinitionArn"],
        parameters={"needed": "3"},
        containerOverrides={"environment": [{"name": "WHO", "value": "aws"}]},
        retryStrategy={
            "attempts": 4,
            "evaluateOnExit": [{"onExitCode": "1", "action": "RETRY"}, {"onReason": "*", "action": "EXIT"}],
        },
        timeout={"attemptDurationSeconds": 60},
        tags={"a": "b"},
    )
    array = aws(
        "submit-job",
        jobName="array",
        jobQueue="work",
        jobDefinition="work",
        arrayProperties={"size": 3},
        dependsOn=[{"jobId": submitted["jobId"]}],
    )
    job = aws.wait(submitted["jobId"])
    assert (job["status"], job["tags"], job["container"]["exitCode"]) == ("SUCCEEDED", {"a": "b"}, 0)
    assert [attempt["container"]["exitCode"] for attempt in job["attempts"]] == [1, 1, 0]
    assert {attempt["statusReason"] for attempt in job["attempts"]} == {"Essential container in task exited"}
    streams = [attempt["container"]["logStreamName"] for attempt in job["attempts"]]
    assert [aws.log(stream) for stream in streams] == [[f"attempt {n} of aws"] for n in (1, 2, 3)]
    parent = aws.wait(array["jobId"])
    assert (parent["status"], parent["arrayProperties"]["statusSummary"]["SUCCEEDED"]) == ("SUCCEEDED", 3)
    listed = aws("list-jobs", arrayJobId=array["jobId"], jobStatus="SUCCEEDED")["jobSummaryList"]
    assert [each["jobId"] for each in listed] == [f"{array['jobId']}:{i}" for i in range(3)]

    refused = aws.run("delete-job-queue", jobQueue="work")
    assert refused.returncode != 0
    assert "(ClientException)" in refused.stderr
    aws("tag-resource", resourceArn=queue["jobQueueArn"], tags={"b": "c"})
    aws("untag-resource", resourceArn=queue["jobQueueArn"], tagKeys=["team"])
    assert aws("list-tags-for-resource", resourceArn=queue["jobQueueArn"])["tags"] == {"b": "c"}
    aws("update-job-queue", jobQueue="work", state="DISABLED")
    aws("delete-job-queue", jobQueue="work")
    for name in ("on-demand", "spot"):
        aws("update-compute-environment", computeEnvironment=name, state="DISABLED")
        aws("delete-compute-environment", computeEnvironment=name)
    aws("deregister-job-definition", jobDefinition="work:1")
    assert aws("describe-job-definitions", status="ACTIVE")["jobDefinitions"] == []
    assert aws("describe-job-queues", jobQueues=["work"])["jobQueues"] == []


def test_jobs_share_a_queue_and_a_licence(yard: Yard, aws: Aws) -> None:
    """A policy and a consumable resource are made, asked for and seen to work, with real processes."""
    yard.start("alpha", cpus=2, runtimes="process")
    aws.sign_in(yard)
    weights = [{"shareIdentifier": "A", "weightFactor": 0.5}]
    policy = aws("create-scheduling-policy", name="fair", fairsharePolicy={"shareDistribution": weights})
    steps = [{"order": 1, "computeEnvironment": "default"}]
    shared = {"jobQueueName": "shared", "priority": 1, "schedulingPolicyArn": policy["arn"]}
    aws("create-job-queue", computeEnvironmentOrder=steps, **shared)
    aws(
        "create-consumable-resource", consumableResourceName="ticket", totalQuantity=1, resourceType="NON_REPLENISHABLE"
    )
    needs = {"consumableResourceList": [{"consumableResource": "ticket", "quantity": 1}]}
    sizes = [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "64"}]
    container = {"image": "process://", "command": ["true"], "resourceRequirements": sizes}
    aws(
        "register-job-definition",
        jobDefinitionName="d",
        type="container",
        schedulingPriority=1,
        containerProperties=container,
        consumableResourceProperties=needs,
    )
    job = {"jobQueue": "shared", "jobDefinition": "d", "shareIdentifier": "A"}
    first = aws("submit-job", jobName="first", **job)["jobId"]
    assert aws.wait(first)["status"] == "SUCCEEDED"
    second = aws("submit-job", jobName="second", **job)["jobId"]
    waiting = aws.job(second)
    assert waiting["status"] == "RUNNABLE"
    assert waiting["statusReason"].endswith("1 of consumable resource ticket asked, 0 free of 0")
    change = {"consumableResource": "ticket", "operation": "ADD", "quantity": 1}
    assert aws("update-consumable-resource", **change)["totalQuantity"] == 1
    assert aws.wait(second)["status"] == "SUCCEEDED"
    listed = aws("list-jobs-by-consumable-resource", consumableResource="ticket")["jobs"]
    assert [(each["jobName"], each["jobStatus"]) for each in listed] == [
        ("second", "SUCCEEDED"),
        ("first", "SUCCEEDED"),
    ]
    assert (
        "shareIdentifier: is required"
        in aws.run("submit-job", jobName="j", jobQueue="shared", jobDefinition="d").stderr
    )


def test_the_gateway_stops_well(yard: Yard, aws: Aws) -> None:
    gateway = yard.others[-1]
    assert gateway.stop() == 0
    assert "stopped" in gateway.tail()


@pytest.mark.docker
def test_a_job_of_fargate_goes_to_hosts_that_offer_it_alone(yard: Yard, aws: Aws) -> None:
    """Beside a host that does not, as a container of its size; nobody is told its host."""
    yard.add_agent("sized", runtimes="docker").arguments += ["--platform", "FARGATE"]
    yard.start("own", cpus=4, runtimes="docker")
    yard.agents["sized"].start()
    aws.sign_in(yard)
    resources = {"type": "FARGATE", "maxvCpus": 4, "subnets": ["subnet-1"], "securityGroupIds": ["sg-1"]}
    aws("create-compute-environment", computeEnvironmentName="f", type="MANAGED", computeResources=resources)
    steps = [{"order": 1, "computeEnvironment": "f"}]
    aws("create-job-queue", jobQueueName="f", priority=1, computeEnvironmentOrder=steps)
    aws(
        "register-job-definition",
        jobDefinitionName="f",
        type="container",
        platformCapabilities=["FARGATE"],
        containerProperties={
            "image": ensure_image(),
            "command": ["sh", "-c", "echo $AWS_EXECUTION_ENV"],
            "resourceRequirements": [{"type": "VCPU", "value": "0.25"}, {"type": "MEMORY", "value": "512"}],
            "executionRoleArn": "arn:aws:iam::000000000000:role/r",
            "ephemeralStorage": {"sizeInGiB": 21},
        },
    )
    job = aws.wait(aws("submit-job", jobName="f", jobQueue="f", jobDefinition="f")["jobId"])
    assert (job["status"], job["platformCapabilities"]) == ("SUCCEEDED", ["FARGATE"])
    assert "containerInstanceArn" not in job["container"] | job["attempts"][0]["container"]
    assert aws.log(job["container"]["logStreamName"]) == ["AWS_ECS_FARGATE"]
    with yard.client() as client:
        told = client.describe_job(job["jobId"])
        assert told.attempts[0].host_name == "sized"
        assert told.container.resources.disk_mib == 21 << 10
        (facts,) = [each.facts for each in client.list_hosts() if each.facts.name == "sized"]
    assert (list(facts.platforms), facts.sandbox) == (["FARGATE"], "")


@pytest.mark.docker
def test_an_accounts_definitions_move_over_and_run(yard: Yard, tmp_path: Path) -> None:
    """What AWS says of an account is imported by the command line; its definitions run in its queue."""
    yard.start("alpha", cpus=4, runtimes="docker")
    exported = tmp_path / "account.json"
    exported.write_text(ACCOUNT.read_text().replace('"busybox"', json.dumps(ensure_image())))
    command = [str(Path(sys.executable).with_name("batchyard")), "--address", yard.socket, "import", str(exported)]
    imported = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "19 made" in imported.stderr, imported.stderr
    names = ("plain", "old-style", "parameters", "environment", "retries", "timeout", "limits", "roles", "tagged")
    with yard.client() as client:
        jobs = [client.submit_job(name=name, queue="high", job_definition=name).job_id for name in names]
        ended = client.wait_all(jobs, timeout_s=END_LIMIT_S)
        assert {job.name: job_state(job) for job in ended} == dict.fromkeys(names, JobState.SUCCEEDED)
        said = {name: b"".join(client.read_logs(job)).decode() for name, job in zip(names, jobs, strict=True)}
    assert said == dict.fromkeys(names, "moved\n") | {"plain": "moved again\n", "old-style": ""}
