"""The SDK against a controller: requests, errors, retries, waiting, logs."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.sdk.yard import AsyncYard
from tests.services.hand_agent import HOST_ID, ended
from tests.services.secured import TOKEN, YARD, make_trust

import batchyard
from batchyard import (
    AlreadyExistsError,
    AsyncClient,
    DeadlineExceededError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    JobState,
    NotFoundError,
    PermissionDeniedError,
    RequestError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
    Violation,
    container,
    job_state,
)
from batchyard.credentials import Credentials, write_credentials
from batchyard.errors import BatchyardError, Reason, WorldError
from batchyard.v1 import compute_environment_pb2 as environment_pb
from batchyard.v1 import job_pb2 as pb

HELLO = container(["echo", "hello"])


@pytest.fixture
async def client(async_yard: AsyncYard) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(async_yard.address, timeout_s=20, retry_s=20) as opened:
        yield opened


async def submit(client: AsyncClient, **fields: Any) -> str:
    filled: dict[str, Any] = {"name": "hello", "container": HELLO} | fields
    return (await client.submit_job(**filled)).job_id


async def written(source: AsyncIterator[bytes]) -> bytes:
    return b"".join([data async for data in source])


async def test_a_submitted_job_can_be_described(client: AsyncClient) -> None:
    job = await client.describe_job(await submit(client, tags={"team": "yard"}, annotations={"a": "1"}, attempts=3))
    assert (job.name, job.queue, list(job.container.command)) == ("hello", "default", ["echo", "hello"])
    assert (job.retry_strategy.attempts, dict(job.tags), dict(job.annotations)) == (3, {"team": "yard"}, {"a": "1"})
    assert (job.container.resources.cpu_millis, job.container.resources.memory_mib) == (1000, 256)


async def test_a_definitions_values_win_where_a_submit_says_nothing(client: AsyncClient) -> None:
    await client.register_job_definition(
        "train",
        container=HELLO,
        attempts=4,
        timeout_s=60,
        parameters={"p": "1"},
        scheduling_priority=7,
        propagate_tags=True,
    )
    job = await client.describe_job((await client.submit_job(name="hello", job_definition="train")).job_id)
    assert job.container == HELLO
    assert (job.retry_strategy.attempts, job.timeout_s) == (4, 60)
    assert (job.scheduling_priority, job.propagate_tags) == (7, True)
    assert dict(job.parameters) == {"p": "1"}


async def test_dependencies_may_be_ids_or_messages(client: AsyncClient) -> None:
    first, array = await submit(client), await submit(client, array_size=2)
    n_to_n = pb.Dependency(job_id=array, type=pb.DEPENDENCY_TYPE_N_TO_N)
    job = await client.describe_job(await submit(client, array_size=2, depends_on=[first, n_to_n]))
    assert list(job.depends_on) == [pb.Dependency(job_id=first), n_to_n]


async def test_every_submit_is_a_job_of_its_own_but_for_a_repeated_request_id(client: AsyncClient) -> None:
    assert await submit(client) != await submit(client)
    assert await submit(client, request_id="mine") == await submit(client, request_id="mine")


async def test_a_submit_whose_answer_was_lost_makes_one_job(client: AsyncClient, async_yard: AsyncYard) -> None:
    """The controller stores the job, then fails: the repeated submit must find the first."""
    async_yard.wire.lose("SubmitJob", times=2)
    job_id = await submit(client)
    assert async_yard.wire.calls["SubmitJob"] == 3
    assert [job.id async for job in client.list_jobs()] == [job_id]


async def test_a_submit_waits_for_a_controller_that_restarts(async_yard: AsyncYard) -> None:
    await async_yard.stop()
    told: list[WorldError] = []
    starting: list[asyncio.Task[None]] = []

    def on_retry(error: WorldError) -> None:
        told.append(error)
        if not starting:
            starting.append(asyncio.create_task(async_yard.start()))

    async with AsyncClient(async_yard.address, retry_s=20, on_retry=on_retry) as client:
        await submit(client)
    assert isinstance(told[0], UnavailableError)
    assert f"cannot reach the controller at {async_yard.address}" in str(told[0])


async def test_retries_end_after_retry_s(async_yard: AsyncYard) -> None:
    await async_yard.stop()
    told: list[WorldError] = []
    async with AsyncClient(async_yard.address, retry_s=0.5, on_retry=told.append) as client:
        with pytest.raises(UnavailableError):
            await submit(client)
    assert told


async def test_a_refused_submit_is_not_repeated(client: AsyncClient, async_yard: AsyncYard) -> None:
    with pytest.raises(NotFoundError, match=r"JobQueue nowhere not found\.") as caught:
        await submit(client, queue="nowhere")
    assert (caught.value.reason, caught.value.metadata) == (Reason.JOB_QUEUE_NOT_FOUND, {"name": "nowhere"})
    assert async_yard.wire.calls["SubmitJob"] == 1


async def test_violations_come_with_their_fields(client: AsyncClient) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await submit(client, name="no spaces", container=container([""]))
    assert [violation.field for violation in caught.value.violations] == ["name", "container.command"]
    assert caught.value.violations[0] == Violation(
        "name",
        "Job name should match valid pattern: 'no spaces' may hold only letters, digits, '-' and '_'",
        Reason.BAD_CHARACTERS,
    )
    assert (caught.value.reason, caught.value.metadata) == ("INVALID_ARGUMENT", {})


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidArgumentError),
        (grpc.StatusCode.OUT_OF_RANGE, InvalidArgumentError),
        (grpc.StatusCode.NOT_FOUND, NotFoundError),
        (grpc.StatusCode.ALREADY_EXISTS, AlreadyExistsError),
        (grpc.StatusCode.FAILED_PRECONDITION, FailedPreconditionError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, ResourceExhaustedError),
        (grpc.StatusCode.PERMISSION_DENIED, PermissionDeniedError),
        (grpc.StatusCode.UNAUTHENTICATED, UnauthenticatedError),
        (grpc.StatusCode.UNIMPLEMENTED, RequestError),
        (grpc.StatusCode.UNAVAILABLE, UnavailableError),
        (grpc.StatusCode.CANCELLED, UnavailableError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, DeadlineExceededError),
        (grpc.StatusCode.INTERNAL, InternalError),
        (grpc.StatusCode.UNKNOWN, InternalError),
        (grpc.StatusCode.ABORTED, InternalError),
        (grpc.StatusCode.DATA_LOSS, InternalError),
    ],
)
async def test_each_code_has_its_class(
    client: AsyncClient, async_yard: AsyncYard, code: grpc.StatusCode, kind: type[BatchyardError]
) -> None:
    async_yard.wire.lose("DescribeJobs", code)
    with pytest.raises(BatchyardError) as caught:
        await client.describe_jobs(["a"])
    assert type(caught.value) is kind
    assert isinstance(caught.value.__cause__, grpc.aio.AioRpcError)


async def test_every_call_has_a_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        async with AsyncClient(address, timeout_s=0.2) as client:
            with pytest.raises(DeadlineExceededError, match="did not answer in time"):
                await client.describe_jobs(["a"])


async def test_a_host_that_does_not_resolve_is_unavailable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trust = make_trust(tmp_path)
    assert trust.authority is not None
    known = Credentials(address="x:1", yard=YARD, ca=trust.authority.bundle, token=TOKEN)
    write_credentials(tmp_path / "credentials.toml", known)
    monkeypatch.setenv("BATCHYARD_CREDENTIALS", str(tmp_path / "credentials.toml"))
    async with AsyncClient("no.such.host.invalid:1", timeout_s=20) as client:
        with pytest.raises(UnavailableError, match=r"cannot reach the controller at no\.such\.host\.invalid:1"):
            await client.describe_jobs(["a"])


async def test_listing_goes_over_all_pages(client: AsyncClient) -> None:
    made = [await submit(client) for _ in range(7)]
    assert [job.id async for job in client.list_jobs(page_size=3)] == made[::-1]


async def test_listing_filters(client: AsyncClient, async_yard: AsyncYard) -> None:
    await client.create_job_queue("other")
    done = await submit(client, name="other")
    await (await async_yard.join()).run()
    await submit(client)
    assert [job.id async for job in client.list_jobs(states=[JobState.SUCCEEDED])] == [done]
    assert [job.id async for job in client.list_jobs(states=["succeeded"], name="other")] == [done]
    assert [job.id async for job in client.list_jobs(queue="other")] == []


async def test_every_filter_is_sent(client: AsyncClient, async_yard: AsyncYard) -> None:
    await client.register_job_definition("train", container=HELLO)
    async_yard.behind_ms = 2_000
    made = await client.describe_job((await client.submit_job(name="a", job_definition="train:1")).job_id)
    async_yard.behind_ms = 0
    later = await client.describe_job(await submit(client))
    at_ms = made.created_at_ms
    for filters, found in (
        ({"job_definition": "train:1"}, [made.id]),
        ({"created_before_ms": later.created_at_ms}, [made.id]),
        ({"created_after_ms": at_ms - 1, "created_before_ms": at_ms + 1}, [made.id]),
        ({"created_after_ms": at_ms}, [later.id]),
        ({"share_identifier": "a"}, []),  # no queue takes one yet
    ):
        assert [job.id async for job in client.list_jobs(**filters)] == found, filters


async def test_a_page_tells_where_the_next_begins(client: AsyncClient) -> None:
    made = [await submit(client) for _ in range(3)]
    page = await client.list_jobs_page(page_size=2)
    assert [job.id for job in page.jobs] == [made[2], made[1]]
    page = await client.list_jobs_page(page_size=2, page_token=page.next_page_token)
    assert ([job.id for job in page.jobs], page.next_page_token) == ([made[0]], "")
    array = (await client.submit_job(name="array", container=HELLO, array_size=3)).job_id
    page = await client.list_jobs_page(array_job_id=array, states=["RUNNABLE"], page_size=2)
    assert [job.id for job in page.jobs] == [f"{array}:0", f"{array}:1"]
    page = await client.list_jobs_page(
        array_job_id=array, states=["RUNNABLE"], page_size=2, page_token=page.next_page_token
    )
    assert ([job.id for job in page.jobs], page.next_page_token) == ([f"{array}:2"], "")
    with pytest.raises(InvalidArgumentError, match="page_token"):
        await client.list_jobs_page(page_token="x")


async def test_lists_of_several_queues_tags_and_a_host(client: AsyncClient, async_yard: AsyncYard) -> None:
    await client.create_job_queue("other")
    one = (await client.submit_job(name="one", container=HELLO, tags={"team": "x"})).job_id
    await (await async_yard.join()).run()
    two = (await client.submit_job(name="two", container=HELLO, queue="other", tags={"team": "y"})).job_id
    for wanted, found in (
        ({"queue": ["default", "other"]}, [two, one]),
        ({"queue": ["default", "other"], "oldest_first": True}, [one, two]),
        ({"queue": "other"}, [two]),
        ({"tags": {"team": None}}, [two, one]),
        ({"tags": {"team": "x"}}, [one]),
        ({"tags": {"team": ""}}, []),
        ({"host": "alpha", "states": ["SUCCEEDED"]}, [one]),
    ):
        assert [job.id async for job in client.list_jobs(**wanted)] == found, wanted


async def test_changes_alone_come_without_present_states(client: AsyncClient, async_yard: AsyncYard) -> None:
    await submit(client)
    events = client.watch_jobs(changes_only=True)
    first = asyncio.ensure_future(anext(events))
    await async_yard.wire.until_sent("WatchJobs")
    job_id = await submit(client)
    event = await first
    assert (event.job.id, event.previous_state) == (job_id, pb.JOB_STATE_SUBMITTED)
    await events.aclose()


async def test_the_digest_of_an_array_has_as_many_cells_as_asked_for(client: AsyncClient) -> None:
    array = (await client.submit_job(name="array", container=HELLO, array_size=1000)).job_id
    digest = await client.get_array_digest(array, cells=2)
    assert (digest.width, [dict(cell.counts) for cell in digest.cells]) == (500, [{"RUNNABLE": 500}] * 2)
    assert len((await client.get_array_digest(array)).cells) == 1000
    with pytest.raises(InvalidArgumentError, match="cells"):
        await client.get_array_digest(array, cells=0)
    with pytest.raises(NotFoundError):
        await client.get_array_digest("nobody")


async def test_a_yard_is_told_of_as_a_whole(client: AsyncClient, async_yard: AsyncYard) -> None:
    await async_yard.join()
    job_id = await submit(client)
    hosts = await client.summarize_hosts()
    assert (dict(hosts.hosts_by_state), hosts.allocated.cpu_millis) == ({"READY": 1}, 1000)
    found = await client.search("hel", limit=1)
    assert [job.id for job in found.jobs] == [job_id]
    assert [host.name for host in (await client.search("ALPHA")).hosts] == ["alpha"]
    with pytest.raises(InvalidArgumentError, match="limit"):
        await client.search("hello", limit=0)


async def test_hosts_tell_how_they_stand_to_an_environment(client: AsyncClient, async_yard: AsyncYard) -> None:
    await async_yard.join(purchase_option="on-demand")
    assert [(host.host_name, host.is_selected) async for host in client.list_environment_hosts("default")] == [
        ("alpha", True)
    ]
    spot = environment_pb.ComputeResources(type=environment_pb.CAPACITY_TYPE_SPOT)
    (host,) = [host async for host in client.list_environment_hosts(compute_resources=spot)]
    assert (host.is_selected, host.reason) == (False, "it is on-demand")
    with pytest.raises(NotFoundError):
        await anext(client.list_environment_hosts("nobody"))


async def test_describing_keeps_the_order_asked(client: AsyncClient, async_yard: AsyncYard) -> None:
    made = [await submit(client) for _ in range(3)]
    host = await async_yard.join()
    for _ in made:
        await host.run()
    assert [job.id for job in await client.wait_all(made)] == made


async def test_wait_returns_the_ended_job(client: AsyncClient, async_yard: AsyncYard) -> None:
    waiting = asyncio.create_task(client.wait(await submit(client)))
    await async_yard.wire.until_sent("WatchJobs")
    await (await async_yard.join()).run(7)
    job = await waiting
    assert (job_state(job), job.exit_code) == (JobState.FAILED, 7)


async def test_wait_for_an_ended_job_returns_at_once(client: AsyncClient, async_yard: AsyncYard) -> None:
    job_id = await submit(client)
    await (await async_yard.join()).run()
    assert job_state(await client.wait(job_id)) is JobState.SUCCEEDED
    assert async_yard.wire.calls["WatchJobs"] == 0


async def test_wait_resumes_a_broken_stream_after_the_last_cursor(client: AsyncClient, async_yard: AsyncYard) -> None:
    """Nothing is told twice, as present states would be, and nothing is missed."""
    job_id = await submit(client)
    async_yard.wire.lose("WatchJobs", after=2)
    seen: list[pb.JobEvent] = []
    waiting = asyncio.create_task(client.wait_all([job_id], on_event=seen.append))
    await async_yard.wire.until_sent("WatchJobs")
    host = await async_yard.join()
    await async_yard.wire.until_sent("WatchJobs", 2)
    await host.run()
    await waiting
    states = [job_state(event.job).value for event in seen]
    assert states == ["RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED"]
    assert async_yard.wire.calls["WatchJobs"] == 2


async def test_wait_goes_on_over_a_restart_of_the_controller(client: AsyncClient, async_yard: AsyncYard) -> None:
    job_id = await submit(client)
    (spec,) = await (await async_yard.join()).take()
    waiting = asyncio.create_task(client.wait(job_id))
    await async_yard.wire.until_sent("WatchJobs")
    await async_yard.stop()
    await async_yard.start()
    await async_yard.join(attempts=[ended(spec.attempt_id)])
    assert job_state(await waiting) is JobState.SUCCEEDED


async def test_wait_gives_up_after_its_timeout(client: AsyncClient) -> None:
    with pytest.raises(DeadlineExceededError, match=r"1 of 1 jobs not ended in 0\.2 s"):
        await client.wait(await submit(client), timeout_s=0.2)


async def test_wait_for_an_unknown_job_says_so(client: AsyncClient) -> None:
    with pytest.raises(NotFoundError, match="no such job: nothing"):
        await client.wait("nothing")


async def test_logs_are_read_whole_and_by_tail(client: AsyncClient, async_yard: AsyncYard) -> None:
    job_id = await submit(client)
    log = b"one\ntwo\nthree\n"
    await (await async_yard.join()).run(log=log)
    assert await written(client.read_logs(job_id)) == log
    assert await written(client.read_logs(job_id, tail_lines=1)) == b"three\n"
    assert await written(client.read_logs(job_id, offset=8)) == b"three\n"


async def test_logs_go_on_at_the_byte_where_the_stream_broke(client: AsyncClient, async_yard: AsyncYard) -> None:
    job_id = await submit(client)
    log = b"".join(b"line %d\n" % i for i in range(20))
    await (await async_yard.join(slice_bytes=8)).run(log=log)
    async_yard.wire.lose("ReadLogs", after=5)
    assert await written(client.read_logs(job_id, follow=True)) == log
    assert async_yard.wire.calls["ReadLogs"] == 2


async def test_a_tail_is_not_started_again_after_a_break(client: AsyncClient, async_yard: AsyncYard) -> None:
    job_id = await submit(client)
    await (await async_yard.join(slice_bytes=8)).run(log=b"".join(b"line %d\n" % i for i in range(9)))
    async_yard.wire.lose("ReadLogs", after=2)
    assert await written(client.read_logs(job_id, tail_lines=4)) == b"line 5\nline 6\nline 7\nline 8\n"


async def test_a_slice_of_a_log_is_what_was_asked_and_tells_where_it_ends(
    client: AsyncClient, async_yard: AsyncYard
) -> None:
    job_id = await submit(client)
    await (await async_yard.join(slice_bytes=8)).run(log=b"one\ntwo\nthree\n")
    read = partial(client.read_log_slice, job_id)
    assert await read() == pb.ReadLogsResponse(data=b"one\ntwo\nthree\n", next_offset=14)
    assert await read(offset=2, limit_bytes=9) == pb.ReadLogsResponse(data=b"e\ntwo\nthr", next_offset=11)
    assert await read(offset=99) == pb.ReadLogsResponse(next_offset=14)
    with pytest.raises(NotFoundError):
        await read(attempt=2)


async def test_a_slice_of_a_log_is_asked_for_once(client: AsyncClient, async_yard: AsyncYard) -> None:
    job_id = await submit(client)
    await (await async_yard.join(slice_bytes=8)).run(log=bytes(100))
    async_yard.wire.lose("ReadLogs", after=5)
    with pytest.raises(UnavailableError):
        await client.read_log_slice(job_id)


async def test_a_closed_client_says_so(async_yard: AsyncYard) -> None:
    client = AsyncClient(async_yard.address)
    await client.close()
    with pytest.raises(RuntimeError, match="this client is closed"):
        await client.describe_jobs(["a"])


async def test_queues_environments_definitions_and_hosts(client: AsyncClient, async_yard: AsyncYard) -> None:
    await async_yard.join()
    for name in ("ce", "other"):
        await client.create_compute_environment(name)
    assert [row.name for row in await client.describe_compute_environments(["ce", "nothing"])] == ["ce"]
    queue = await client.create_job_queue("fast", priority=9, compute_environments=["ce", "other"])
    assert [entry.compute_environment for entry in queue.compute_environment_order] == ["ce", "other"]
    assert (await client.update_job_queue("fast", priority=0)).priority == 0
    bound = await client.update_job_queue("fast", time_limits={"CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY": 600})
    (limit,) = bound.job_state_time_limit_actions
    assert (limit.reason, limit.state, limit.max_time_s, limit.action) == (
        "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY",
        "RUNNABLE",
        600,
        "CANCEL",
    )
    assert len((await client.update_job_queue("fast", priority=0)).job_state_time_limit_actions) == 1
    assert not (await client.update_job_queue("fast", time_limits={})).job_state_time_limit_actions
    with pytest.raises(AlreadyExistsError):
        await client.create_job_queue("fast", compute_environments=["ce"])
    with pytest.raises(FailedPreconditionError):
        await client.delete_job_queue("fast")
    await client.update_job_queue("fast", state="DISABLED")
    await client.delete_job_queue("fast")
    for name in ("ce", "other"):
        await client.update_compute_environment(name, state="DISABLED")
        await client.delete_compute_environment(name)
    assert [row.name async for row in client.list_job_queues()] == ["default"]
    assert [row.name async for row in client.list_compute_environments()] == ["default"]
    first = await client.register_job_definition("train", container=HELLO)
    second = await client.register_job_definition("train", container=HELLO)
    await client.deregister_job_definition("train:1")
    assert (first.revision, second.revision) == (1, 2)
    assert [row.revision async for row in client.list_job_definitions(status="ACTIVE")] == [2]
    assert [row.revision for row in await client.describe_job_definitions(["train:1"])] == [1]
    assert [host.facts.name async for host in client.list_hosts()] == ["alpha"]
    assert (await client.cordon_host("alpha")).state != (await client.uncordon_host("alpha")).state
    assert (await client.reclaim_host("alpha", delay_s=60)).reclaimed_at_ms
    assert not (await client.keep_host("alpha")).reclaimed_at_ms
    await client.drain_host("alpha")
    assert (await client.describe_host("alpha")).host.id == HOST_ID


def test_importing_batchyard_loads_no_grpc() -> None:
    script = (
        "import sys, batchyard; assert not {'grpc', 'google', 'asyncio', 'rich'} & set(sys.modules); batchyard.Client"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = batchyard.nothing
    assert set(batchyard.__all__) <= set(dir(batchyard))
    assert all(getattr(batchyard, name) is not None for name in batchyard.__all__)
