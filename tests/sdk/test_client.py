"""The SDK against a real gRPC server: requests, errors, retries, waiting, logs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import grpc
import pytest
import pytest_asyncio
from tests.sdk.yard import Yard

import batchyard
from batchyard import (
    AlreadyExistsError,
    AsyncClient,
    Client,
    DeadlineExceededError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    JobState,
    NotFoundError,
    RequestError,
    ResourceExhaustedError,
    UnavailableError,
    Violation,
    container,
    job_state,
)
from batchyard.errors import BatchyardError, WorldError
from batchyard.v1 import job_pb2 as pb

HELLO = container(["echo", "hello"])


@pytest_asyncio.fixture
async def client(yard: Yard) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(yard.address, timeout_s=20, retry_s=20) as opened:
        yield opened


async def test_a_submitted_job_can_be_described(client: AsyncClient, yard: Yard) -> None:
    answer = await client.submit_job(name="hello", container=HELLO, tags={"team": "yard"}, attempts=3)
    job = await client.describe_job(answer.job_id)
    assert (job.name, job.queue, list(job.container.command)) == ("hello", "default", ["echo", "hello"])
    (sent,) = yard.do(lambda world: world.submits)
    assert (sent.retry_strategy.attempts, dict(sent.tags)) == (3, {"team": "yard"})
    assert (sent.container.resources.cpu_millis, sent.container.resources.memory_mib) == (1000, 256)


async def test_unset_fields_stay_unset_on_the_wire(client: AsyncClient, yard: Yard) -> None:
    """A definition's values must win where a submit says nothing."""
    await client.submit_job(name="hello", job_definition="train")
    (sent,) = yard.do(lambda world: world.submits)
    for field in ("container", "overrides", "retry_strategy", "scheduling_priority", "propagate_tags"):
        assert not sent.HasField(field)


async def test_dependencies_may_be_ids_or_messages(client: AsyncClient, yard: Yard) -> None:
    n_to_n = pb.Dependency(job_id="b", type=pb.DEPENDENCY_TYPE_N_TO_N)
    await client.submit_job(name="hello", container=HELLO, depends_on=["a", n_to_n])
    (sent,) = yard.do(lambda world: world.submits)
    assert list(sent.depends_on) == [pb.Dependency(job_id="a"), n_to_n]


async def test_every_submit_has_its_own_request_id(client: AsyncClient, yard: Yard) -> None:
    first = await client.submit_job(name="hello", container=HELLO)
    second = await client.submit_job(name="hello", container=HELLO)
    same = [await client.submit_job(name="hello", container=HELLO, request_id="mine") for _ in range(2)]
    assert first.job_id != second.job_id
    assert same[0].job_id == same[1].job_id
    assert all(yard.do(lambda world: [sent.request_id for sent in world.submits]))


async def test_a_submit_whose_answer_was_lost_makes_one_job(client: AsyncClient, yard: Yard) -> None:
    """The controller stores the job, then fails: the repeated submit must find the first."""
    yard.do(lambda world: world.failures.update(SubmitJob=[grpc.StatusCode.UNAVAILABLE] * 2))
    answer = await client.submit_job(name="hello", container=HELLO)
    sent, jobs = yard.do(lambda world: (world.submits, list(world.jobs)))
    assert len(sent) == 3
    assert len({request.request_id for request in sent}) == 1
    assert jobs == [answer.job_id]


async def test_a_submit_waits_for_a_controller_that_restarts(yard: Yard) -> None:
    yard.stop()
    told: list[WorldError] = []

    def on_retry(error: WorldError) -> None:
        told.append(error)
        if len(told) == 1:
            threading.Thread(target=yard.start).start()

    async with AsyncClient(yard.address, retry_s=20, on_retry=on_retry) as client:
        await client.submit_job(name="hello", container=HELLO)
    assert isinstance(told[0], UnavailableError)
    assert f"cannot reach the controller at {yard.address}" in str(told[0])


async def test_retries_end_after_retry_s(yard: Yard) -> None:
    yard.stop()
    told: list[WorldError] = []
    async with AsyncClient(yard.address, retry_s=0.5, on_retry=told.append) as client:
        with pytest.raises(UnavailableError):
            await client.submit_job(name="hello", container=HELLO)
    assert told


async def test_a_refused_submit_is_not_repeated(client: AsyncClient, yard: Yard) -> None:
    with pytest.raises(NotFoundError, match="no such queue: nowhere"):
        await client.submit_job(name="hello", queue="nowhere", container=HELLO)
    assert len(yard.do(lambda world: world.submits)) == 1


async def test_violations_come_with_their_fields(client: AsyncClient) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await client.submit_job(name="no spaces", container=container([]))
    assert caught.value.violations == (
        Violation("name", "must be up to 128 letters, not 'no spaces'"),
        Violation("container.command", "must not be empty"),
    )
    assert (caught.value.reason, caught.value.metadata) == ("INVALID_ARGUMENT", {"limit": "128"})


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidArgumentError),
        (grpc.StatusCode.OUT_OF_RANGE, InvalidArgumentError),
        (grpc.StatusCode.NOT_FOUND, NotFoundError),
        (grpc.StatusCode.ALREADY_EXISTS, AlreadyExistsError),
        (grpc.StatusCode.FAILED_PRECONDITION, FailedPreconditionError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, ResourceExhaustedError),
        (grpc.StatusCode.PERMISSION_DENIED, RequestError),
        (grpc.StatusCode.UNAUTHENTICATED, RequestError),
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
    client: AsyncClient, yard: Yard, code: grpc.StatusCode, kind: type[BatchyardError]
) -> None:
    yard.do(lambda world: world.failures.update(DescribeJobs=[code]))
    with pytest.raises(BatchyardError) as caught:
        await client.describe_jobs(["a"])
    assert type(caught.value) is kind
    assert isinstance(caught.value.__cause__, grpc.aio.AioRpcError)


async def test_every_call_has_a_deadline(yard: Yard) -> None:
    yard.do(lambda world: setattr(world, "delay_s", 30.0))
    async with AsyncClient(yard.address, timeout_s=0.2) as client:
        with pytest.raises(DeadlineExceededError, match="did not answer in time"):
            await client.describe_jobs(["a"])


async def test_a_host_that_does_not_resolve_is_unavailable() -> None:
    async with AsyncClient("no.such.host.invalid:1", timeout_s=20) as client:
        with pytest.raises(UnavailableError, match=r"cannot reach the controller at no\.such\.host\.invalid:1"):
            await client.describe_jobs(["a"])


async def test_listing_goes_over_all_pages(client: AsyncClient, yard: Yard) -> None:
    made = [yard.do(lambda world: world.add_job()) for _ in range(7)]
    assert [job.id async for job in client.list_jobs(page_size=3)] == made[::-1]


async def test_listing_filters(client: AsyncClient, yard: Yard) -> None:
    done = yard.do(lambda world: world.add_job(name="other"))
    yard.do(lambda world: world.add_job())
    yard.do(lambda world: world.run(done))
    assert [job.id async for job in client.list_jobs(states=[JobState.SUCCEEDED])] == [done]
    assert [job.id async for job in client.list_jobs(states=["succeeded"], name="other")] == [done]
    assert [job.id async for job in client.list_jobs(queue="other")] == []


async def test_every_filter_is_sent(client: AsyncClient, yard: Yard) -> None:
    made = yard.do(lambda world: world.add_job(created_at_ms=5_000, job_definition="train:1", share_identifier="a"))
    yard.do(lambda world: world.add_job(created_at_ms=6_000))
    for filters in (
        {"job_definition": "train:1"},
        {"share_identifier": "a"},
        {"created_before_ms": 6_000},
        {"created_after_ms": 4_999, "created_before_ms": 5_001},
    ):
        assert [job.id async for job in client.list_jobs(**filters)] == [made], filters


async def test_describing_keeps_the_order_asked(client: AsyncClient, yard: Yard) -> None:
    made = [yard.do(lambda world: world.add_job()) for _ in range(3)]
    for job_id in made:
        yard.run_job(job_id)
    assert [job.id for job in await client.wait_all(made)] == made


async def test_wait_returns_the_ended_job(client: AsyncClient, yard: Yard) -> None:
    job_id = yard.do(lambda world: world.add_job())
    waiting = asyncio.create_task(client.wait(job_id))
    await asyncio.to_thread(yard.until, lambda world: world.watches)
    yard.do(lambda world: world.run(job_id, exit_code=7))
    job = await waiting
    assert (job_state(job), job.exit_code) == (JobState.FAILED, 7)


async def test_wait_for_an_ended_job_returns_at_once(client: AsyncClient, yard: Yard) -> None:
    job_id = yard.do(lambda world: world.add_job())
    yard.do(lambda world: world.run(job_id))
    assert job_state(await client.wait(job_id)) is JobState.SUCCEEDED
    assert yard.do(lambda world: world.watches) == []


async def test_wait_resumes_a_broken_stream_after_the_last_cursor(client: AsyncClient, yard: Yard) -> None:
    job_id = yard.do(lambda world: world.add_job())
    yard.do(lambda world: setattr(world, "break_after_events", 2))
    seen: list[pb.JobEvent] = []
    waiting = asyncio.create_task(client.wait_all([job_id], on_event=seen.append))
    await asyncio.to_thread(yard.until, lambda world: world.watches)
    yard.do(lambda world: world.run(job_id))
    await waiting
    states = [job_state(event.job).value for event in seen]
    assert states == ["RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED"]
    assert [watch.cursor for watch in yard.do(lambda world: world.watches)] == ["", "2"]


async def test_wait_goes_on_over_a_restart_of_the_controller(client: AsyncClient, yard: Yard) -> None:
    job_id = yard.do(lambda world: world.add_job())
    waiting = asyncio.create_task(client.wait(job_id))
    await asyncio.to_thread(yard.until, lambda world: world.watches)
    await asyncio.to_thread(yard.stop)
    yard.do(lambda world: world.run(job_id))
    await asyncio.to_thread(yard.start)
    assert job_state(await waiting) is JobState.SUCCEEDED


async def test_wait_gives_up_after_its_timeout(client: AsyncClient, yard: Yard) -> None:
    job_id = yard.do(lambda world: world.add_job())
    with pytest.raises(DeadlineExceededError, match=r"1 of 1 jobs not ended in 0\.2 s"):
        await client.wait(job_id, timeout_s=0.2)


async def test_wait_for_an_unknown_job_says_so(client: AsyncClient) -> None:
    with pytest.raises(NotFoundError, match="no such job: nothing"):
        await client.wait("nothing")


async def test_logs_are_read_whole_and_by_tail(client: AsyncClient, yard: Yard) -> None:
    job_id = yard.do(lambda world: world.add_job())
    log = b"one\ntwo\nthree\n"
    yard.do(lambda world: world.run(job_id, log=log))
    assert b"".join([data async for data in client.read_logs(job_id)]) == log
    assert b"".join([data async for data in client.read_logs(job_id, tail_lines=1)]) == b"three\n"
    assert b"".join([data async for data in client.read_logs(job_id, offset=8)]) == b"three\n"


async def test_logs_go_on_at_the_byte_where_the_stream_broke(client: AsyncClient, yard: Yard) -> None:
    job_id = yard.do(lambda world: world.add_job())
    log = b"".join(b"line %d\n" % i for i in range(20))
    yard.do(lambda world: world.run(job_id, log=log))
    yard.do(lambda world: setattr(world, "break_after_bytes", 40))
    assert b"".join([data async for data in client.read_logs(job_id, follow=True)]) == log
    assert [read.offset for read in yard.do(lambda world: world.log_reads)] == [0, 40]


async def test_a_tail_is_not_started_again_after_a_break(client: AsyncClient, yard: Yard) -> None:
    job_id = yard.do(lambda world: world.add_job())
    log = b"".join(b"line %d\n" % i for i in range(9))
    yard.do(lambda world: world.run(job_id, log=log))
    yard.do(lambda world: setattr(world, "break_after_bytes", 48))
    data = b"".join([data async for data in client.read_logs(job_id, tail_lines=4)])
    assert data == b"line 5\nline 6\nline 7\nline 8\n"


async def test_a_slice_of_a_log_is_what_was_asked_and_tells_where_it_ends(client: AsyncClient, yard: Yard) -> None:
    job_id = yard.do(lambda world: world.add_job())
    yard.do(lambda world: world.run(job_id, log=b"one\ntwo\nthree\n"))
    read = partial(client.read_log_slice, job_id)
    assert await read() == pb.ReadLogsResponse(data=b"one\ntwo\nthree\n", next_offset=14)
    assert await read(offset=2, limit_bytes=9) == pb.ReadLogsResponse(data=b"e\ntwo\nthr", next_offset=11)
    assert await read(offset=99) == pb.ReadLogsResponse(next_offset=14)
    with pytest.raises(NotFoundError):
        await read(attempt=2)


async def test_a_slice_of_a_log_is_asked_for_once(client: AsyncClient, yard: Yard) -> None:
    job_id = yard.do(lambda world: world.add_job())
    yard.do(lambda world: world.run(job_id, log=bytes(100)))
    yard.do(lambda world: setattr(world, "break_after_bytes", 40))
    with pytest.raises(UnavailableError):
        await client.read_log_slice(job_id)


async def test_a_closed_client_says_so(yard: Yard) -> None:
    client = AsyncClient(yard.address)
    await client.close()
    with pytest.raises(RuntimeError, match="this client is closed"):
        await client.describe_jobs(["a"])


def test_the_sync_client_does_the_same(yard: Yard) -> None:
    with Client(yard.address) as client:
        answer = client.submit_job(name="hello", container=HELLO)
        yard.do(lambda world: world.run(answer.job_id, exit_code=3, log=b"out\n"))
        assert client.wait(answer.job_id).exit_code == 3
        assert b"".join(client.read_logs(answer.job_id)) == b"out\n"
        assert [job.id for job in client.list_jobs()] == [answer.job_id]
        with pytest.raises(NotFoundError):
            client.describe_job("nothing")


def test_the_sync_client_lets_go_of_an_iterator_left_early(yard: Yard) -> None:
    with Client(yard.address) as client:
        for _ in range(3):
            yard.do(lambda world: world.add_job())
        first = client.list_jobs(page_size=1)
        next(first)
        first.close()
        events = client.watch_jobs([next(client.list_jobs()).id])
        next(events)
        events.close()


def test_the_sync_client_serves_many_threads(yard: Yard) -> None:
    with Client(yard.address) as client, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: client.submit_job(name=f"job{i}", container=HELLO), range(40)))
    assert len({answer.job_id for answer in answers}) == 40


def test_many_sync_clients_come_and_go_in_many_threads(yard: Yard) -> None:
    def submit(i: int) -> str:
        with Client(yard.address) as client:
            return client.submit_job(name=f"job{i}", container=HELLO).job_id

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(submit, range(40)))) == 40


def test_an_unclosed_client_leaves_nothing_to_say_at_exit(yard: Yard) -> None:
    """A script that forgets close(), even in the middle of a stream, ends quietly."""
    job_id = yard.do(lambda world: world.add_job())
    script = (
        "import sys; from batchyard import Client; c = Client(sys.argv[1]); w = c.watch_jobs([sys.argv[2]]); next(w)"
    )
    command = [sys.executable, "-c", script, yard.address, job_id]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")


def test_a_forked_process_gets_a_loop_of_its_own(yard: Yard) -> None:
    """A process that has not called yet may fork, and both sides may then call."""
    script = (
        "import os, sys; from batchyard.sync import Client; parent = Client(sys.argv[1]); pid = os.fork()\n"
        "with Client(sys.argv[1]) as client: client.describe_jobs(['a'])\n"
        "if pid: sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    )
    command = [sys.executable, "-c", script, yard.address]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (answer.returncode, answer.stderr) == (0, "")


def test_a_closed_sync_client_says_so(yard: Yard) -> None:
    client = Client(yard.address)
    client.close()
    client.close()
    with pytest.raises(RuntimeError, match="this client is closed"):
        client.describe_jobs(["a"])


def test_both_clients_have_the_same_methods() -> None:
    """What one can do the other can; and each carries its documentation."""

    def public(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_") and callable(getattr(kind, name))}

    assert public(Client) - {"run", "iterate"} == public(AsyncClient)
    assert all(
        getattr(Client, name).__doc__ == getattr(AsyncClient, name).__doc__ for name in public(AsyncClient) - {"close"}
    )


async def test_queues_environments_definitions_and_hosts(client: AsyncClient, yard: Yard) -> None:
    yard.do(lambda world: world.add_host("alpha"))
    environment = await client.create_compute_environment("ce")
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
    await client.delete_compute_environment(environment.name)
    assert [row.name async for row in client.list_job_queues()] == ["default"]
    assert [row.name async for row in client.list_compute_environments()] == []
    first = await client.register_job_definition("train", container=HELLO)
    second = await client.register_job_definition("train", container=HELLO)
    await client.deregister_job_definition("train:1")
    assert (first.revision, second.revision) == (1, 2)
    assert [row.revision async for row in client.list_job_definitions(status="ACTIVE")] == [2]
    assert [row.revision for row in await client.describe_job_definitions(["train:1"])] == [1]
    assert [host.facts.name async for host in client.list_hosts()] == ["alpha"]
    assert (await client.cordon_host("alpha")).state != (await client.uncordon_host("alpha")).state
    await client.drain_host("alpha")
    assert (await client.describe_host("alpha")).host.id == "id-of-alpha"


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
