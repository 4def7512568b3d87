"""Streams that are open when rights change: they end with their next message, and what follows is asked anew."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from batchyard.v1 import access_pb2 as access_pb
from batchyard.v1 import job_pb2
from batchyard.v1.job_pb2_grpc import JobServiceStub
from batchyard_controller.doors import Door, PeerKind

from .controller import MemoryController, refusal, refusal_of, submission
from .test_access import bearer


@pytest.fixture
async def yard() -> AsyncIterator[MemoryController]:
    async with MemoryController(other=Door(PeerKind.TLS)) as controller:
        await controller.until_leads()
        await controller.furnish()
        await controller.access.BindRole(access_pb.BindRoleRequest(user="ann", role="viewer"))
        yield controller


class Ann:
    """A viewer with a token, on a channel of her own."""

    def __init__(self, channel: grpc.aio.Channel, made: Any) -> None:
        self.jobs: Any = JobServiceStub(channel)
        self.metadata, self.token_id = bearer(made.token), made.info.id

    def watch(self) -> Any:
        return self.jobs.WatchJobs(job_pb2.WatchJobsRequest(), metadata=self.metadata)


@pytest.fixture
async def ann(yard: MemoryController) -> AsyncIterator[Ann]:
    made = await yard.access.CreateToken(access_pb.CreateTokenRequest(user="ann"))
    async with grpc.aio.insecure_channel(yard.other_address) as channel:
        yield Ann(channel, made)


async def _end_of(stream: Any) -> tuple[str, str]:
    async def drain() -> None:
        while await stream.read() is not grpc.aio.EOF:
            pass

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await drain()
    found = refusal_of(caught.value)
    return found.code, found.reason


async def test_a_stream_ends_when_a_role_is_taken(yard: MemoryController, ann: Ann) -> None:
    stream = ann.watch()
    assert (await stream.read()).snapshot
    await yard.access.UnbindRole(access_pb.UnbindRoleRequest(user="ann", role="viewer"))
    await yard.submit("unseen")
    assert await _end_of(stream) == ("UNAVAILABLE", "RIGHTS_CHANGED")
    again = ann.watch()
    assert not (await again.read()).events, "and what follows is asked anew"
    again.cancel()


async def test_a_stream_ends_with_its_token(yard: MemoryController, ann: Ann) -> None:
    stream = ann.watch()
    assert (await stream.read()).snapshot
    await yard.access.RevokeToken(access_pb.RevokeTokenRequest(id=ann.token_id))
    await yard.submit("unseen")
    assert await _end_of(stream) == ("UNAUTHENTICATED", "BAD_CREDENTIALS")
    assert (
        await refusal(ann.jobs.ListJobs(job_pb2.ListJobsRequest(), metadata=ann.metadata))
    ).code == "UNAUTHENTICATED"


async def test_submits_of_a_stream_end_when_a_role_is_taken(yard: MemoryController, ann: Ann) -> None:
    await yard.access.BindRole(access_pb.BindRoleRequest(user="ann", role="submitter"))
    stream = ann.jobs.SubmitJobs(metadata=ann.metadata)
    await stream.write(job_pb2.SubmitJobsRequest(jobs=[submission("hers")]))
    assert (await stream.read()).results[0].HasField("job")
    await yard.access.UnbindRole(access_pb.UnbindRoleRequest(user="ann", role="submitter"))
    await stream.write(job_pb2.SubmitJobsRequest(jobs=[submission("no longer")]))
    assert await _end_of(stream) == ("UNAVAILABLE", "RIGHTS_CHANGED")
    listed = await yard.jobs.ListJobs(job_pb2.ListJobsRequest())
    assert [job.name for job in listed.jobs] == ["hers"]


async def test_a_user_calls_no_more_than_their_share(ann: Ann) -> None:
    codes = []
    for _ in range(250):
        try:
            await ann.jobs.ListJobs(job_pb2.ListJobsRequest(), metadata=ann.metadata)
        except grpc.aio.AioRpcError as error:
            codes.append(refusal_of(error).reason)
    assert set(codes) <= {"TOO_MANY_CALLS"}
