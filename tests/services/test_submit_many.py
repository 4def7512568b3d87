"""SubmitJobs: each job with an answer of its own, in order, stored before it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from batchyard.errors import Reason
from batchyard.v1 import job_pb2 as pb
from batchyard_controller import driver
from batchyard_controller.app import new_job_id
from batchyard_controller.core.access.roles import THE_ADMINISTRATOR
from batchyard_controller.services.callers import CALLER
from batchyard_controller.services.submissions import UNDER_WAY_MAX, Submissions

from .controller import PATIENCE_S, MemoryController, refusal_of, submission
from .hand_agent import HandAgent


def _message(*jobs: pb.SubmitJobRequest) -> pb.SubmitJobsRequest:
    return pb.SubmitJobsRequest(jobs=jobs)


async def _submit(yard: MemoryController, *messages: pb.SubmitJobsRequest) -> list[pb.SubmitJobsResponse]:
    """Send all messages, then read all answers."""
    call = yard.jobs.SubmitJobs()
    async with asyncio.timeout(PATIENCE_S):
        for message in messages:
            await call.write(message)
        await call.done_writing()
        return [response async for response in call]


async def _refused(yard: MemoryController, *messages: pb.SubmitJobsRequest) -> tuple[list[Any], Any]:
    """Send messages, the last of which ends the stream; return the answers before it and the refusal."""
    call = yard.jobs.SubmitJobs()
    async with asyncio.timeout(PATIENCE_S):
        for message in messages:
            await call.write(message)
        answers = [await call.read() for _ in messages[1:]]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    return answers, refusal_of(caught.value)


async def test_jobs_are_answered_in_order_message_by_message(yard: MemoryController) -> None:
    messages = [_message(*(submission(f"job-{m}-{i}", request_id=f"{m}/{i}") for i in range(7))) for m in range(20)]
    answers = await _submit(yard, *messages)
    results = [result for answer in answers for result in answer.results]
    assert [len(answer.results) for answer in answers] == [7] * 20
    assert [result.request_id for result in results] == [f"{m}/{i}" for m in range(20) for i in range(7)]
    assert [result.job.name for result in results] == [f"job-{m}-{i}" for m in range(20) for i in range(7)]
    listed = (await yard.jobs.ListJobs(pb.ListJobsRequest(page_size=1000))).jobs
    assert [job.id for job in reversed(listed)] == [result.job.job_id for result in results], "stored in that order"


async def test_refused_job_leaves_the_others_be(yard: MemoryController) -> None:
    await yard.submit(request_id="first")
    (answer,) = await _submit(
        yard,
        _message(
            submission("good"),
            submission("bad name", timeout_s=-1, request_id="r"),
            submission("nowhere", queue="nobody"),
            submission("again", request_id="first"),
            submission("also-good"),
        ),
    )
    good, bad, nowhere, again, also = answer.results
    assert bad.refusal.code == "InvalidArgument"
    told = [(v.field, v.reason) for v in bad.refusal.violations]
    assert told == [("name", Reason.BAD_CHARACTERS), ("timeout_s", Reason.OUT_OF_RANGE)]
    assert bad.refusal.message == "; ".join(f"{v.field}: {v.message}" for v in bad.refusal.violations)
    assert (bad.request_id, bad.HasField("job")) == ("r", False)
    assert (nowhere.refusal.code, nowhere.refusal.message) == ("NotFound", "JobQueue nobody not found.")
    assert nowhere.refusal.reason == Reason.JOB_QUEUE_NOT_FOUND
    assert dict(nowhere.refusal.metadata) == {"name": "nobody"}
    assert not nowhere.refusal.violations
    assert again.job.name == "hello", "the job that the request id is of"
    listed = {job.id for job in (await yard.jobs.ListJobs(pb.ListJobsRequest())).jobs}
    assert listed == {good.job.job_id, also.job.job_id, again.job.job_id}


async def test_job_may_depend_on_an_earlier_one_of_its_stream(yard: MemoryController) -> None:
    by_request = pb.Dependency(job_id="request:first")
    answers = await _submit(
        yard,
        _message(
            submission("first", request_id="first"),
            submission("second", depends_on=[by_request]),
            submission("early", depends_on=[pb.Dependency(job_id="request:later")]),
        ),
        _message(submission("third", request_id="later", depends_on=[by_request])),
    )
    first, second, early, third = (result for answer in answers for result in answer.results)
    assert (early.refusal.code, early.refusal.message) == (
        "NotFound",
        "depends_on: no job was submitted with 'request:later'",
    )
    for dependent in (second, third):
        told = await yard.describe(dependent.job.job_id)
        assert [d.job_id for d in told.depends_on] == [first.job.job_id]
        assert told.state == pb.JOB_STATE_PENDING


async def test_no_request_id_is_a_new_job_each_time(yard: MemoryController) -> None:
    (answer,) = await _submit(yard, _message(submission(), submission()))
    assert len({result.job.job_id for result in answer.results}) == 2


async def test_thousand_jobs_are_taken_and_one_more_ends_the_stream(yard: MemoryController) -> None:
    full, more = _message(*[submission()] * 1000), _message(*[submission()] * 1001)
    answers, told = await _refused(yard, full, _message(), more)
    assert [len(answer.results) for answer in answers] == [1000, 0], "what came before is answered"
    assert told.violations == (("jobs", "1001 jobs in a message is not between 0 and 1000"),)
    assert sum(job_id.startswith("job/") for job_id in yard.stored()) == 1000


async def test_bytes_that_are_no_message_end_the_stream_after_what_came_before(yard: MemoryController) -> None:
    channel: Any = yard.channel
    call = channel.stream_stream("/batchyard.v1.JobService/SubmitJobs")()
    await call.write(_message(submission()).SerializeToString())
    await call.write(b"\xff\xff\xff")
    async with asyncio.timeout(PATIENCE_S):
        answer = pb.SubmitJobsResponse.FromString(await call.read())
        assert answer.results[0].HasField("job")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    assert refusal_of(caught.value).violations[0][0] == "request"


async def test_no_more_is_read_than_may_be_under_way(yard: MemoryController) -> None:
    """A caller that sends faster than it reads is held up, not kept in memory."""
    CALLER.set(THE_ADMINISTRATOR)
    read = 0

    async def messages() -> AsyncIterator[pb.SubmitJobsRequest]:
        nonlocal read
        for read in range(1, 21):
            yield _message(submission(f"job-{read}"))

    answers = Submissions(yard.leadership, new_job_id).submit_all(messages())
    for taken in range(1, 21):
        answer = await anext(answers)
        assert answer.results[0].job.name == f"job-{taken}"
        await yard.submit()  # time enough for all that may be read to be read
        assert read == min(taken + UNDER_WAY_MAX - 1, 20)
    with pytest.raises(StopAsyncIteration):
        await anext(answers)


async def test_turns_take_whole_messages_and_all_are_answered(
    yard: MemoryController, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when one message is more than a turn is for, and single submits stand behind it."""
    monkeypatch.setattr(driver, "TURN_MAX", 10)
    singles = asyncio.gather(*(yard.submit() for _ in range(25)))
    messages = [_message(*[submission()] * 25) for _ in range(4)]
    answers, ids = await asyncio.gather(_submit(yard, *messages), singles)
    assert [len(answer.results) for answer in answers] == [25] * 4
    told = {result.job.job_id for answer in answers for result in answer.results} | set(ids)
    assert len(told) == 125 == sum(key.startswith("job/") for key in yard.stored())


async def test_caller_that_goes_away_harms_nobody(yard: MemoryController) -> None:
    call = yard.jobs.SubmitJobs()
    await call.write(_message(*(submission(request_id=f"{i}") for i in range(500))))
    call.cancel()
    answers = await _submit(yard, _message(*(submission(request_id=f"{i}") for i in range(500))))
    assert len({result.job.job_id for result in answers[0].results}) == 500
    assert sum(job_id.startswith("job/") for job_id in yard.stored()) == 500


async def test_stream_ends_with_the_term(yard: MemoryController) -> None:
    call = yard.jobs.SubmitJobs()
    await call.write(_message(submission()))
    async with asyncio.timeout(PATIENCE_S):
        assert (await call.read()).results[0].HasField("job")
        yard.data.depose()
        await yard.until_deposed()
        await call.write(_message(submission()))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_jobs_of_a_stream_run(yard: MemoryController) -> None:
    agent = HandAgent(yard)
    await agent.join()
    (answer,) = await _submit(yard, _message(submission("one"), submission("two")))
    started = await agent.hear_starts(2)
    assert {spec.job_id for spec in started} == {result.job.job_id for result in answer.results}
