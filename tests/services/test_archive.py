"""A yard with an archive: whoever asks sees no difference, over a restart, too."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from batchyard.v1 import job_pb2 as pb
from batchyard.v1 import search_pb2, tag_pb2, usage_pb2
from batchyard_controller import archivist as archivists
from batchyard_controller.archivist import Archivist
from batchyard_controller.core.jobs import retention
from batchyard_controller.core.jobs.retention import DAY_MS, Retention
from batchyard_controller.store.archive import Archive
from batchyard_controller.store.memory import MemoryData, MemoryStore

from .controller import Controller, submission
from .hand_agent import HandAgent

KEPT = 2
KEEPING = Retention(count=KEPT, is_archived=True, usage_age_ms=100 * 365 * DAY_MS)
"""The clock of the hand-made host shows 1970."""


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> MemoryData:
    """The store's; jobs leave it at once, but for the last two."""
    monkeypatch.setattr(retention, "SETTLE_MS", 0)
    return MemoryData()


def controller(data: MemoryData, folder: Path) -> Controller:
    archivist = Archivist(Archive(folder), 365 * DAY_MS)
    return Controller(MemoryStore(data), archivist=archivist, retention=KEEPING)


async def until_left(yard: Controller, kept: int = KEPT) -> None:
    async with asyncio.timeout(20):
        while await yard.leadership.driver.read(lambda world: len(world.jobs)) > kept:
            await asyncio.sleep(0.05)


async def run(yard: Controller, *exit_codes: int, **fields: Any) -> list[str]:
    """Run jobs on one host and return their ids."""
    agent = HandAgent(yard)
    await agent.join()
    ids = []
    for code in exit_codes:
        ids.append(await yard.submit("job", **fields))
        (start,) = await agent.hear_starts()
        await agent.finish(start.attempt_id, code)
    await agent.leave()
    return ids


async def listed(yard: Controller, **fields: Any) -> list[str]:
    found: list[str] = []
    token = ""
    while True:
        answer = await yard.jobs.ListJobs(pb.ListJobsRequest(page_size=2, page_token=token, **fields))
        found += [job.id for job in answer.jobs]
        token = answer.next_page_token
        if not token:
            return found


async def test_nobody_sees_a_difference_and_a_restart_neither(data: MemoryData, tmp_path: Path) -> None:
    async with controller(data, tmp_path / "archive") as yard:
        await yard.until_leads()
        await yard.furnish()
        ids = await run(yard, 0, 1, 0, 0, 0, 0)
        before = (await yard.jobs.DescribeJobs(pb.DescribeJobsRequest(job_ids=ids))).jobs
        await until_left(yard)
        assert len([key for key in data.pairs if key.startswith("job/")]) == KEPT
        assert (await yard.jobs.DescribeJobs(pb.DescribeJobsRequest(job_ids=ids))).jobs == before
    async with controller(data, tmp_path / "archive") as yard:
        await yard.until_leads(2)
        assert (await yard.jobs.DescribeJobs(pb.DescribeJobsRequest(job_ids=ids))).jobs == before
        assert await listed(yard) == ids[::-1]
        assert await listed(yard, oldest_first=True) == ids
        assert await listed(yard, states=[pb.JOB_STATE_FAILED]) == [ids[1]]
        assert (await yard.searching.Search(search_pb2.SearchRequest(text=ids[1]))).jobs[0].id == ids[1]
        assert (await yard.jobs.ExplainJob(pb.ExplainJobRequest(job_id=ids[0]))).state == pb.JOB_STATE_SUCCEEDED
        tags = tag_pb2.ListTagsRequest(kind=tag_pb2.RESOURCE_KIND_JOB, name=ids[0])
        assert dict((await yard.tags.ListTags(tags)).tags) == {}
        await yard.jobs.CancelJob(pb.CancelJobRequest(job_id=ids[0], reason="late"))
        await yard.jobs.TerminateJob(pb.TerminateJobRequest(job_id=ids[0], reason="late"))
        async for answer in yard.jobs.WatchJobs(pb.WatchJobsRequest(job_ids=[ids[0]])):
            assert [event.job.state for event in answer.events] == [pb.JOB_STATE_SUCCEEDED]
            break
        kept = await yard.usage.SumUsage(usage_pb2.SumUsageRequest())
        left = await yard.usage.SumUsage(usage_pb2.SumUsageRequest(page_token=kept.next_page_token))
        assert [each.attempts for each in (*kept.sums, *left.sums)] == [KEPT, len(ids) - KEPT]
        assert await yard.submit("next") not in ids
        assert (await listed(yard))[1:] == ids[::-1]
        with pytest.raises(grpc.aio.AioRpcError, match="not found"):
            await yard.jobs.CancelJob(pb.CancelJobRequest(job_id=ids[0].replace("-7", "-8"), reason="nobody"))


async def test_who_asks_again_or_waits_for_one_that_left_gets_what_it_would_have_got(
    data: MemoryData, tmp_path: Path
) -> None:
    async with controller(data, tmp_path / "archive") as yard:
        await yard.until_leads()
        await yard.furnish()
        first = (await yard.jobs.SubmitJob(submission("first", request_id="mine"))).job_id
        await yard.jobs.CancelJob(pb.CancelJobRequest(job_id=first, reason="no"))
        failed, good, *_ = await run(yard, 1, 0, 0, 0, 0)
        await until_left(yard)
        await yard.leadership.driver.read(lambda world: world.jobs)  # who left a moment ago is known; be it not
        archive = yard.leadership.archive
        assert archive is not None
        for job in list(archive.recent.by_id.values()):
            archive.recent.drop(job)
        assert (await yard.jobs.SubmitJob(submission("first", request_id="mine"))).job_id == first
        waiting = await yard.submit("waits", depends_on=[pb.Dependency(job_id=good)])
        assert (await yard.describe(waiting)).state == pb.JOB_STATE_RUNNABLE
        doomed = await yard.submit("doomed", depends_on=[pb.Dependency(job_id=failed)])
        assert (await yard.describe(doomed)).state == pb.JOB_STATE_FAILED
        with pytest.raises(grpc.aio.AioRpcError, match="depends_on"):
            await yard.submit("lost", depends_on=[pb.Dependency(job_id=good.replace("-7", "-8"))])


async def test_without_its_archive_a_yard_goes_on_and_keeps_its_jobs(data: MemoryData, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    async with controller(data, tmp_path / "file") as yard:
        await yard.until_leads()
        await yard.furnish()
        ids = await run(yard, 0, 0, 0, 0)
        found = (await yard.jobs.DescribeJobs(pb.DescribeJobsRequest(job_ids=ids))).jobs
        assert [job.state for job in found] == [pb.JOB_STATE_SUCCEEDED] * 4
        with pytest.raises(grpc.aio.AioRpcError, match="archive") as away:
            await yard.jobs.DescribeJobs(pb.DescribeJobsRequest(job_ids=["nobody"]))
        assert away.value.code() is grpc.StatusCode.UNAVAILABLE


async def answered(yard: Controller, **fields: Any) -> str:
    """Submit until that is not refused, and return the job's id."""
    async with asyncio.timeout(20):
        while True:
            try:
                job_id: str = (await yard.jobs.SubmitJob(submission("job", **fields))).job_id
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
            else:
                return job_id
            await asyncio.sleep(0.05)


async def test_an_archive_that_comes_back_is_read_again_though_no_job_is_due(
    data: MemoryData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks by a request, or for a job that is not kept, is refused until then; seeds 8321 and 8322."""
    monkeypatch.setattr(archivists, "RETRY_S", 0.1)
    tries: list[int] = []
    open_term = Archive.open_term

    async def count(archive: Archive, term: int) -> int:
        tries.append(term)
        return await open_term(archive, term)

    monkeypatch.setattr(Archive, "open_term", count)
    (folder := tmp_path / "archive").write_text("")
    async with controller(data, folder) as yard:
        await yard.until_leads()
        await yard.furnish()
        with pytest.raises(grpc.aio.AioRpcError, match="archive"):
            await yard.jobs.SubmitJob(submission("job", request_id="mine"))
        async with asyncio.timeout(20):
            while len(tries) < 4:  # it goes on trying, and not only as the hour's look at what is old fails
                await asyncio.sleep(0.05)
        folder.unlink()
        first = await answered(yard, request_id="mine")
        assert yard.leadership.archive is not None
        yard.leadership.archive._close_files()  # as a share that was mounted anew
        with pytest.raises(grpc.aio.AioRpcError, match="archive"):
            await yard.jobs.SubmitJob(submission("job", request_id="yours"))
        assert await answered(yard, request_id="yours") != first


async def test_no_number_is_given_twice_where_the_store_was_lost_and_its_archive_is_away(
    data: MemoryData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list goes by numbers in the order of submission: of two jobs of one number it would show one."""
    monkeypatch.setattr(archivists, "RETRY_S", 0.1)
    folder, elsewhere = tmp_path / "archive", tmp_path / "elsewhere"
    async with controller(data, folder) as yard:
        await yard.until_leads()
        await yard.furnish()
        archived, _, *kept = await run(yard, 0, 0, 0, 0)
        await until_left(yard)
    folder.rename(elsewhere)
    folder.write_text("")  # nothing can be read there
    async with controller(MemoryData(), folder) as yard:
        await yard.until_leads()
        await yard.furnish()
        first, second = await yard.submit(), await yard.submit()
        folder.unlink()
        elsewhere.rename(folder)
        await answered(yard, request_id="mine")
        found = await listed(yard, oldest_first=True)
        assert found[0] == archived
        assert found[2:4] == [first, second]
        assert not set(kept) & set(found), "they went with the store"
