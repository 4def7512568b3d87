"""Who starts first, with real agents: a higher queue, a large job among small ones, shares by their weights."""

from __future__ import annotations

import itertools
import threading

import boto3
import pytest
from tests.e2e.programs import until
from tests.e2e.yard import Yard
from tests.ports import hold_address

from batchyard import Client, JobState, container, job_state
from batchyard.v1.job_definition_pb2 import ContainerProperties
from batchyard.v1.job_pb2 import Job

pytestmark = pytest.mark.timeout(180)

LIMIT_S = 90.0
NAP_S = 0.3


def nap(vcpus: float = 1, seconds: float = NAP_S) -> ContainerProperties:
    return container(["sleep", str(seconds)], vcpus=vcpus, memory=32)


def ended(client: Client, job_ids: list[str]) -> list[Job]:
    """Return the jobs in the order of their starts; all have succeeded."""
    jobs = list(client.wait_all(job_ids, timeout_s=LIMIT_S))
    assert {job_state(job) for job in jobs} == {JobState.SUCCEEDED}
    return sorted(jobs, key=lambda job: job.attempts[-1].started_at_ms)


def test_a_higher_queue_goes_first_on_the_hosts_that_two_share(yard: Yard) -> None:
    """Who waits in the lower one waits until all of the higher have started."""
    yard.start("a", cpus=1)
    with yard.client() as client:
        client.create_job_queue("urgent", priority=10)
        holder = client.submit_job(name="holder", container=nap(seconds=3)).job_id
        low = [client.submit_job(name=f"low-{i}", container=nap()).job_id for i in range(6)]
        high = [client.submit_job(name=f"high-{i}", queue="urgent", container=nap()).job_id for i in range(6)]
        order = [job.id for job in ended(client, [holder, *low, *high])]
    assert order[0] == holder
    assert set(order[1:7]) == set(high)


@pytest.mark.parametrize(("dispatch_order", "small_timeout_s"), [("DUE_TIME", 600), ("SUBMISSION_TIME", 60)])
def test_a_large_job_starts_in_a_stream_of_small_ones(yard: Yard, dispatch_order: str, small_timeout_s: int) -> None:
    """They never end, and one of them always runs; its host is kept for it all the same."""
    yard.start("a", cpus=2)
    has_started = threading.Event()
    with yard.client() as client:
        client.create_job_queue("stream", dispatch_order=dispatch_order)

        def stream() -> None:
            with yard.client() as other:
                for number in itertools.count():
                    name = f"small-{number}"
                    other.submit_job(name=name, queue="stream", container=nap(), timeout_s=small_timeout_s)
                    if has_started.wait(NAP_S / 4):
                        return

        streaming = threading.Thread(target=stream)
        streaming.start()
        try:
            large = client.submit_job(name="large", queue="stream", container=nap(vcpus=2), timeout_s=60).job_id
            (found,) = ended(client, [large])
        finally:
            has_started.set()
            streaming.join()
        assert found.attempts[0].host_name == "a"


def test_shares_get_what_their_weights_say(yard: Yard) -> None:
    """Through boto3: four times as much for a quarter of the weight, while both have work."""
    http = hold_address()
    gateway = yard.add_program("gateway", "batchyard_gateway", "--listen", http, "--controller", yard.socket)
    gateway.start()
    yard.start("a", cpus=1)
    until(lambda: "listening" in gateway.tail(), "the gateway listens")
    with Client(yard.socket) as client:  # where keys are made
        key = client.create_access_key(description="boto3")
    batch = boto3.client(
        "batch",
        endpoint_url=f"http://{http}",
        region_name="us-east-1",
        aws_access_key_id=key.access_key.id,
        aws_secret_access_key=key.secret,
    )
    weights = [{"shareIdentifier": "b*", "weightFactor": 0.25}]
    policy = batch.create_scheduling_policy(name="fair", fairsharePolicy={"shareDistribution": weights})["arn"]
    steps = [{"order": 1, "computeEnvironment": "default"}]
    batch.create_job_queue(jobQueueName="shared", priority=1, schedulingPolicyArn=policy, computeEnvironmentOrder=steps)
    sizes = [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "64"}]
    napping = {"image": "process://", "command": ["sleep", str(NAP_S)], "resourceRequirements": sizes}
    batch.register_job_definition(
        jobDefinitionName="nap", type="container", schedulingPriority=0, containerProperties=napping
    )
    jobs = [
        batch.submit_job(jobName=f"{share}-{i}", jobQueue="shared", jobDefinition="nap", shareIdentifier=share)["jobId"]
        for i in range(20)
        for share in ("a", "b1")
    ]
    with yard.client() as client:
        order = [job.share_identifier for job in ended(client, jobs)]
    assert 14 <= order[:20].count("b1") <= 18
