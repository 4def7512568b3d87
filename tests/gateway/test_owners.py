"""A signed request may what the owner of its key may: over boto3, and in the console."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.gateway.surroundings import REGION, Around, around
from tests.gateway.test_signature import SERVICES

from batchyard import AsyncClient, container
from batchyard.errors import PermissionDeniedError, UnauthenticatedError
from batchyard_agent import clock
from batchyard_gateway.authentication import Authenticator

JOB = {
    "jobQueue": "default",
    "jobDefinition": "work",
}


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Around]:
    def guard(client: AsyncClient) -> Authenticator:
        return Authenticator(client, region=REGION, services=SERVICES, read_wall_s=lambda: clock.read_wall_ms() / 1000)

    async with around(tmp_path, guard=guard) as opened:
        await opened.client.register_job_definition(
            "work", container=container(["true"], vcpus=0.1, memory="64M", environment={})
        )
        yield opened


async def batch_of(yard: Around, user: str, *roles: str) -> Any:
    """Return boto3's client of a user."""
    for role in roles:
        await yard.client.bind_role(user, role)
    made = await yard.client.create_access_key(owner=user)
    return yard.boto("batch", made.access_key.id, made.secret)


async def code_of(yard: Around, call: Any, **given: Any) -> str:
    with pytest.raises(ClientError) as caught:
        await yard.call(call, **given)
    return str(caught.value.response["Error"]["Code"])


async def test_each_sees_and_stops_their_own_jobs(yard: Around) -> None:
    ann, bob = await batch_of(yard, "ann", "submitter"), await batch_of(yard, "bob", "submitter")
    job_id = (await yard.call(ann.submit_job, jobName="anns", **JOB))["jobId"]
    assert (await yard.client.describe_job(job_id)).owner == "ann"
    assert [job["jobId"] for job in await listed(yard, ann)] == [job_id]
    assert await listed(yard, bob) == []
    assert (await yard.call(bob.describe_jobs, jobs=[job_id]))["jobs"] == []
    described = await asyncio.to_thread(ann.describe_jobs, jobs=[job_id])
    assert [job["jobName"] for job in described["jobs"]] == ["anns"]
    await yard.call(bob.terminate_job, jobId=job_id, reason="mine?")  # as of a job that is not there
    assert not (await yard.client.describe_job(job_id)).is_terminated
    await yard.call(ann.terminate_job, jobId=job_id, reason="enough")


async def listed(yard: Around, batch: Any) -> list[Any]:
    found: dict[str, Any] = {}  # a job may go from one state to the next meanwhile
    for state in ("RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED"):
        jobs = (await yard.call(batch.list_jobs, jobQueue="default", jobStatus=state))["jobSummaryList"]
        found |= {job["jobId"]: job for job in jobs}
    return [*found.values()]


async def test_what_a_role_does_not_give_is_refused_in_awss_words(yard: Around) -> None:
    ann = await batch_of(yard, "ann", "viewer")
    assert await code_of(yard, ann.submit_job, jobName="j", **JOB) == "AccessDeniedException"
    assert await code_of(yard, ann.deregister_job_definition, jobDefinition="work:1") == "AccessDeniedException"
    nobody = await batch_of(yard, "nobody")
    assert (await yard.call(nobody.describe_job_queues))["jobQueues"] == []
    assert (await yard.call(nobody.describe_compute_environments))["computeEnvironments"] == []


async def test_a_key_that_is_revoked_opens_nothing_though_its_signature_is_known(yard: Around) -> None:
    await yard.client.bind_role("ann", "submitter")
    made = await yard.client.create_access_key(owner="ann")
    ann = yard.boto("batch", made.access_key.id, made.secret)
    await yard.call(ann.describe_job_queues)
    await yard.client.revoke_access_key(made.access_key.id)
    assert await code_of(yard, ann.describe_job_queues) == "UnrecognizedClientException"


async def test_a_gateway_may_nothing_in_its_own_name(yard: Around) -> None:
    made = await yard.client.create_access_key(owner="ann")
    async with AsyncClient(yard.client.address, role="gateway") as gateway:
        assert (await gateway.who_am_i()).via == "gateway by socket"
        with pytest.raises(PermissionDeniedError):
            await gateway.submit_job(name="j", queue="default", job_definition="work")
        assert [job async for job in gateway.list_jobs()] == []
        with pytest.raises(PermissionDeniedError):
            await gateway.create_token("ann")
        acting = gateway.acting_for(made.access_key.id)
        assert (await acting.who_am_i()).user == "ann"
        with pytest.raises(PermissionDeniedError):
            await acting.submit_job(name="j", queue="default", job_definition="work")
        with pytest.raises(UnauthenticatedError):
            await gateway.acting_for("BYAKNOBODY").who_am_i()
        assert gateway.acting_for(made.access_key.id) is acting
