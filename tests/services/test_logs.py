"""ReadLogs: slices asked of the host, and what is said when there is no log."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from batchyard.arns import instance_id
from batchyard.errors import Reason
from batchyard.v1 import host_pb2
from batchyard.v1 import job_definition_pb2 as definition_pb
from batchyard.v1 import job_pb2 as pb

from .controller import PATIENCE_S, MemoryController, Refusal, container, refusal_of
from .hand_agent import HOST_ID, HandAgent, ended, running


def _read(yard: MemoryController, job_id: str, **fields: Any) -> Any:
    return yard.jobs.ReadLogs(pb.ReadLogsRequest(job_id=job_id, **fields))


async def _all(call: Any) -> list[tuple[bytes, int]]:
    async with asyncio.timeout(PATIENCE_S):
        return [(response.data, response.next_offset) async for response in call]


async def _refused(yard: MemoryController, job_id: str, **fields: Any) -> Refusal:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _all(_read(yard, job_id, **fields))
    return refusal_of(caught.value)


async def _start(yard: MemoryController, **fields: Any) -> tuple[HandAgent, str, str]:
    """Run a job up to RUNNING; return agent, job and attempt."""
    agent = HandAgent(yard)
    await agent.join()
    job_id = await yard.submit(**fields)
    (spec,) = await agent.hear_starts()
    await agent.report(running(spec.attempt_id))
    await agent.hear_nothing()
    return agent, job_id, spec.attempt_id


async def test_log_is_read_to_its_present_end(yard: MemoryController) -> None:
    agent, job_id, attempt_id = await _start(yard)
    reading = asyncio.create_task(_all(_read(yard, job_id, offset=3)))
    read = await agent.hear("log_read")
    assert (read.attempt_id, read.offset, read.wait_ms) == (attempt_id, 3, 0)
    assert not read.HasField("tail_lines")
    await agent.answer_log(read.read_id, b"abc", next_offset=6)
    again = await agent.hear("log_read")
    assert (again.offset, again.read_id != read.read_id) == (6, True)
    await agent.answer_log(again.read_id, next_offset=6)
    assert await reading == [(b"abc", 6), (b"", 6)], "the last message tells where the log ends now"


async def test_follow_goes_on_to_the_end_of_the_attempt(yard: MemoryController) -> None:
    agent, job_id, _ = await _start(yard)
    reading = asyncio.create_task(_all(_read(yard, job_id, tail_lines=10, follow=True)))
    read = await agent.hear("log_read")
    assert (read.tail_lines, read.wait_ms > 0) == (10, True)
    await agent.answer_log(read.read_id, b"tail\n", next_offset=50)
    for data, offset, is_end in ((b"", 50, False), (b"more\n", 55, False), (b"", 55, True)):
        read = await agent.hear("log_read")
        assert not read.HasField("tail_lines"), "only at first"
        await agent.answer_log(read.read_id, data, next_offset=offset, end=is_end)
    assert await reading == [(b"tail\n", 50), (b"more\n", 55)]


async def test_follow_waits_for_a_job_to_start(yard: MemoryController) -> None:
    job_id = await yard.submit()
    reading = asyncio.create_task(_all(_read(yard, job_id, follow=True)))
    agent = HandAgent(yard)
    await agent.join()
    await agent.hear_starts()
    read = await agent.hear("log_read")
    await agent.answer_log(read.read_id, b"x", next_offset=1, end=True)
    assert await reading == [(b"x", 1)]


async def test_each_attempt_has_its_own_log(yard: MemoryController) -> None:
    agent, job_id, first = await _start(yard, retry_strategy=definition_pb.RetryStrategy(attempts=2))
    await agent.finish(first, exit_code=1)
    (second,) = await agent.hear_starts()
    for number, attempt_id in ((0, second.attempt_id), (1, first), (2, second.attempt_id)):
        reading = asyncio.create_task(_all(_read(yard, job_id, attempt=number)))
        read = await agent.hear("log_read")
        assert read.attempt_id == attempt_id
        await agent.answer_log(read.read_id, end=True)
        assert await reading == [(b"", 0)]
    told = await _refused(yard, job_id, attempt=3)
    assert (told.code, told.text) == ("NOT_FOUND", f"job {job_id} has no attempt 3; it has 2")
    assert (told.reason, told.metadata) == (Reason.ATTEMPT_NOT_FOUND, {"job_id": job_id, "attempt": "3"})


async def test_what_has_no_log_is_told_in_a_sentence(yard: MemoryController) -> None:
    waits, array = await yard.submit(), await yard.submit(array_size=2)
    cancelled = await yard.submit()
    await yard.jobs.CancelJob(pb.CancelJobRequest(job_id=cancelled, reason="no"))
    before = yard.stored()
    told = {
        "unknown": await _refused(yard, "nobody"),
        "waits": await _refused(yard, waits),
        "array": await _refused(yard, array, follow=True),
        "child": await _refused(yard, f"{array}:2"),
        "cancelled": await _refused(yard, cancelled, follow=True),
        "offset": await _refused(yard, waits, offset=-1),
        "tail": await _refused(yard, waits, tail_lines=-1),
        "attempt": await _refused(yard, waits, attempt=-1),
    }
    assert {name: (each.code, each.text) for name, each in told.items()} == {
        "unknown": ("NOT_FOUND", "job 'nobody' not found"),
        "waits": ("FAILED_PRECONDITION", f"job {waits} has not started; there is no log yet"),
        "array": ("FAILED_PRECONDITION", f"{array} is an array; name a child, such as {array}:0"),
        "child": ("NOT_FOUND", f"job '{array}:2' not found"),
        "cancelled": ("FAILED_PRECONDITION", f"job {cancelled} ended without running, so there is no log: no"),
        "offset": ("INVALID_ARGUMENT", "offset: -1 is not between 0 and 9223372036854775807"),
        "tail": ("INVALID_ARGUMENT", "tail_lines: -1 is not between 0 and 2147483647"),
        "attempt": ("INVALID_ARGUMENT", "attempt: -1 is not between 0 and 2147483647"),
    }
    assert {name: (each.reason, each.metadata) for name, each in told.items() if not each.violations} == {
        "unknown": (Reason.JOB_NOT_FOUND, {"job_id": "nobody"}),
        "waits": (Reason.JOB_NOT_STARTED, {"job_id": waits}),
        "array": (Reason.JOB_IS_ARRAY, {"job_id": array}),
        "child": (Reason.JOB_NOT_FOUND, {"job_id": f"{array}:2"}),
        "cancelled": (Reason.JOB_NEVER_RAN, {"job_id": cancelled}),
    }
    assert yard.stored() == before


async def test_log_that_the_host_does_not_keep_is_not_found(yard: MemoryController) -> None:
    agent, job_id, attempt_id = await _start(yard)
    reading = asyncio.create_task(_refused(yard, job_id))
    read = await agent.hear("log_read")
    await agent.answer_log(read.read_id, error="no such log")
    told = await reading
    assert (told.code, told.text) == ("NOT_FOUND", f"log of {attempt_id}: no such log")
    assert (told.reason, told.metadata) == (Reason.LOG_NOT_FOUND, {"attempt_id": attempt_id})


async def test_host_that_goes_away_in_the_middle_of_a_read_is_told_to_the_reader(yard: MemoryController) -> None:
    agent, job_id, _ = await _start(yard)
    reading = asyncio.create_task(_refused(yard, job_id, follow=True))
    await agent.hear("log_read")
    agent.drop()
    told = await reading
    assert (told.code, told.text) == ("UNAVAILABLE", "host alpha lost its connection")
    assert (told.reason, told.metadata) == (Reason.HOST_DISCONNECTED, {"host_id": agent.host_id})
    told = await _refused(yard, job_id)
    assert (told.reason, told.metadata) == (Reason.HOST_DISCONNECTED, {"host_id": agent.host_id})
    assert told.text == "host alpha is not connected; its logs cannot be read now"


async def test_answer_to_a_read_that_nobody_waits_for_means_nothing(yard: MemoryController) -> None:
    agent, job_id, _ = await _start(yard)
    await agent.answer_log(12345, b"stray", next_offset=5)
    reading = asyncio.create_task(_all(_read(yard, job_id)))
    read = await agent.hear("log_read")
    await agent.answer_log(read.read_id, end=True)
    await agent.answer_log(read.read_id, b"twice", next_offset=5)
    assert await reading == [(b"", 0)]


async def test_reader_that_goes_away_costs_the_session_nothing(yard: MemoryController) -> None:
    agent, job_id, _ = await _start(yard)
    call = _read(yard, job_id, follow=True)
    reading = asyncio.create_task(_all(call))
    read = await agent.hear("log_read")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await agent.answer_log(read.read_id, b"late", next_offset=4)
    await agent.hear_nothing()


async def test_log_of_an_attempt_that_did_not_start_is_told_why(yard: MemoryController) -> None:
    """Not that there is no such log, and not asked of its host."""
    agent = HandAgent(yard)
    await agent.join()
    job_id = await yard.submit()
    (spec,) = await agent.hear_starts()
    reason = "CannotPullContainerError: manifest unknown"
    failed = ended(spec.attempt_id, None, cause="END_CAUSE_START_FAILED", started_at_ms=0, reason=reason)
    await agent.report(failed)
    await agent.hear("ack")
    refused = await _refused(yard, job_id)
    assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "JOB_NEVER_RAN")
    assert refused.text == f"attempt 1 of job {job_id} did not start, so it has no log: {reason}"
    job = await yard.describe(job_id)
    assert (job.status_reason, job.ending_cause) == ("Task failed to start", reason)
    explained = await yard.jobs.ExplainJob(pb.ExplainJobRequest(job_id=job_id))
    assert explained.summary == f"ended FAILED: {reason}"


async def test_log_of_a_host_that_was_removed_is_gone_with_it(yard: MemoryController) -> None:
    """Told at once, also to who follows; the host is called by its name, as everywhere."""
    agent, job_id, _ = await _start(yard)
    await agent.leave()
    await yard.hosts.RemoveHost(host_pb2.RemoveHostRequest(host="alpha", force=True))
    for follow in (False, True):
        told = await _refused(yard, job_id, follow=follow)
        text = f"host alpha was removed, and the log of attempt 1 of job {job_id} with it"
        assert (told.code, told.text) == ("NOT_FOUND", text)
        metadata = {"job_id": job_id, "attempt": "1", "host_id": HOST_ID}
        assert (told.reason, told.metadata) == (Reason.HOST_REMOVED, metadata)
    (job,) = (await yard.jobs.DescribeJobs(pb.DescribeJobsRequest(job_ids=[job_id]))).jobs
    lost = job.attempts[0]
    assert (lost.host_name, lost.status_reason) == ("alpha", f"Host EC2 (instance {instance_id(HOST_ID)}) terminated.")


async def test_each_of_several_containers_has_a_log(yard: MemoryController) -> None:
    agent = HandAgent(yard, features=["several-containers"])
    await agent.join()
    parts = [
        definition_pb.ContainerProperties(name=name, image="busybox", resources=container().resources)
        for name in ("a", "b")
    ]
    request = pb.SubmitJobRequest(name="two", queue="default", task=definition_pb.TaskProperties(containers=parts))
    job_id = (await yard.jobs.SubmitJob(request)).job_id
    (spec,) = await agent.hear_starts()
    reading = asyncio.create_task(_all(_read(yard, job_id, container="b")))
    read = await agent.hear("log_read")
    assert (read.attempt_id, read.container) == (spec.attempt_id, "b")
    await agent.answer_log(read.read_id, b"b", next_offset=1, end=True)
    assert await reading == [(b"b", 1)]
    assert "the job has several containers: a, b" in (await _refused(yard, job_id)).text
    assert "'c' is none of the job's containers: a, b" in (await _refused(yard, job_id, container="c")).text


async def test_the_log_of_the_one_container_goes_by_its_name_too(yard: MemoryController) -> None:
    agent, job_id, _ = await _start(yard)
    reading = asyncio.create_task(_all(_read(yard, job_id, container="default")))
    read = await agent.hear("log_read")
    assert read.container == ""
    await agent.answer_log(read.read_id, b"x", next_offset=1, end=True)
    assert await reading == [(b"x", 1)]
    assert "'side' is none of the job's containers: default" in (await _refused(yard, job_id, container="side")).text
