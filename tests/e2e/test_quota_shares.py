"""Quota shares through boto3 and real processes: idle capacity is borrowed, and given back to its owner."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from tests.e2e.programs import until
from tests.e2e.yard import Yard
from tests.ports import hold_address

from batchyard import Client, job_state
from batchyard.states import JobState
from batchyard.v1 import attempt_pb2

pytestmark = pytest.mark.timeout(180)

GAVE_BACK = "Cross-share preemption triggered to reclaim borrowed capacity"


@pytest.fixture
def batch(yard: Yard) -> Any:
    """Return boto3's client of a gateway beside a yard with a host of 3 vCPUs."""
    http = hold_address()
    gateway = yard.add_program("gateway", "batchyard_gateway", "--listen", http, "--controller", yard.socket)
    gateway.start()
    yard.start("h", cpus=3)
    until(lambda: "listening" in gateway.tail(), "the gateway listens")
    with Client(yard.socket) as client:  # where keys are made
        key = client.create_access_key(description="boto3")
    return boto3.client(
        "batch",
        endpoint_url=f"http://{http}",
        region_name="us-east-1",
        aws_access_key_id=key.access_key.id,
        aws_secret_access_key=key.secret,
    )


def test_borrowed_capacity_is_given_back_though_the_controller_dies_meanwhile(yard: Yard, batch: Any) -> None:
    policy = batch.create_scheduling_policy(name="quota", quotaSharePolicy={"idleResourceAssignmentStrategy": "FIFO"})
    batch.create_job_queue(
        jobQueueName="shared",
        priority=1,
        schedulingPolicyArn=policy["arn"],
        computeEnvironmentOrder=[{"order": 1, "computeEnvironment": "default"}],
    )
    for name, strategy, vcpus in (("own", "LEND", 2), ("guest", "LEND_AND_BORROW", 1)):
        batch.create_quota_share(
            quotaShareName=name,
            jobQueue="shared",
            capacityLimits=[{"maxCapacity": vcpus, "capacityUnit": "VCPU"}],
            resourceSharingConfiguration={"strategy": strategy},
            preemptionConfiguration={"inSharePreemption": "DISABLED"},
        )
    told, released = yard.folder / "told", yard.folder / "released"
    again = f"trap 'echo told >> {told}; sleep 3; exit 9' TERM; while [ ! -e {released} ]; do sleep 0.1; done"
    sizes = [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "64"}]
    for name, command in (("guest", ["sh", "-c", again]), ("own", ["sleep", "1"])):
        batch.register_job_definition(
            jobDefinitionName=name,
            type="container",
            schedulingPriority=0,
            containerProperties={"image": "process://", "command": command, "resourceRequirements": sizes},
        )

    def submit(name: str) -> str:
        job: str = batch.submit_job(jobName=name, jobQueue="shared", jobDefinition=name, shareIdentifier=name)["jobId"]
        return job

    with yard.client() as client:
        guests = [submit("guest") for _ in range(3)]
        running = [JobState.RUNNING] * 3
        until(lambda: [job_state(client.describe_job(job)) for job in guests] == running, "what is idle is borrowed")
        owners = [submit("own") for _ in range(2)]
        until(lambda: told.exists() and len(told.read_text().split()) == 2, "two are told to stop")
        yard.controller.kill()
        yard.controller.start()
        for job in client.wait_all(owners, timeout_s=60):
            assert job_state(job) is JobState.SUCCEEDED
        released.touch()
        jobs = client.wait_all(guests, timeout_s=60)
        assert [job_state(job) for job in jobs] == [JobState.SUCCEEDED] * 3
        stopped = [job.attempts[0] for job in jobs if len(job.attempts) == 2]
        assert [(each.cause, each.status_reason) for each in stopped] == [
            (attempt_pb2.END_CAUSE_PREEMPTED, GAVE_BACK)
        ] * 2
        described = batch.describe_jobs(jobs=guests)["jobs"]
        reasons = [attempt["statusReason"] for job in described for attempt in job["attempts"]]
        assert reasons.count(GAVE_BACK) == 2
        shares = batch.list_quota_shares(jobQueue="shared")["quotaShares"]
        assert [each["status"] for each in shares] == ["VALID", "VALID"]
