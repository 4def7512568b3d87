"""Leadership that ends in the middle: callers hear UNAVAILABLE, the next term believes the store alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from batchyard import AsyncClient
from batchyard.errors import Reason
from batchyard.v1 import job_pb2 as pb
from batchyard.v1 import job_queue_pb2 as queue_pb
from batchyard_controller.app import clock
from batchyard_controller.core.jobs.retention import Retention
from batchyard_controller.leadership import Leadership, lead
from batchyard_controller.metrics import Metrics
from batchyard_controller.sessions import Sessions
from batchyard_controller.store.memory import MemoryData, MemoryStore
from batchyard_controller.store.moves import PREFIX
from batchyard_controller.vault import Vault, make_keys

from .controller import PATIENCE_S, MemoryController, code_of, container, queue, refusal, refusal_of, submission
from .hand_agent import HandAgent, running


async def test_controller_that_does_not_lead_says_so() -> None:
    async with MemoryController() as first:
        await first.until_leads()
        await first.furnish()
        async with MemoryController(first.data) as standby:
            told = await refusal(standby.jobs.SubmitJob(submission()))
            assert (told.code, told.reason) == ("UNAVAILABLE", Reason.NOT_LEADING)
            assert told.text == f"this controller does not lead now; the controller at {first.address} leads"
            assert told.metadata == {"leader": first.address}
            told = await refusal(standby.queues.ListJobQueues(queue_pb.ListJobQueuesRequest()))
            assert told.code == "UNAVAILABLE"
            agent = HandAgent(standby)
            await agent.open(None)
            assert await agent.code() == "UNAVAILABLE"
            job_id = await first.submit()
            first.data.depose()
            await standby.until_leads()
            assert await standby.state(job_id) == "RUNNABLE"


async def test_client_of_several_controllers_finds_the_one_that_leads() -> None:
    """A submit and a question find their way past a standby, and over to it when it leads, without an error."""
    retries: list[str] = []
    async with MemoryController() as first:
        await first.until_leads()
        await first.furnish()
        async with MemoryController(first.data) as standby:
            everywhere = f"{standby.address},{first.address}"
            async with AsyncClient(
                everywhere, retry_s=PATIENCE_S, on_retry=lambda e: retries.append(e.reason)
            ) as client:
                queues = [queue.name async for queue in client.list_job_queues()]
                assert queues == ["default"]
                before = (await client.submit_job(name="before", container=container())).job_id
                assert not retries, "the standby says where to go"
                first.data.depose()
                await standby.until_leads(epoch=2)
                await first.stop_serving()
                after = (await client.submit_job(name="after", container=container())).job_id
                assert [job.id async for job in client.list_jobs(queue="default")] == [after, before]


async def test_leader_that_may_have_been_overtaken_answers_no_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stood still: another may lead, and count the host's fence from before this heartbeat."""
    async with MemoryController() as yard:
        await yard.until_leads()
        agent = HandAgent(yard)
        await agent.join()
        monkeypatch.setattr(MemoryStore, "leads", lambda self, epoch: False)
        await agent.beat()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await agent.read()  # an acknowledgement would come first
        assert refusal_of(refused.value).reason == Reason.NOT_LEADING


async def test_controller_stops_though_its_term_ends_at_that_moment() -> None:
    """A stop and a lost lease in one turn of the loop: it does not campaign again."""
    data, leadership = MemoryData(), Leadership()
    open_sink = Sessions(leadership, Vault(make_keys())).open_term
    terms = asyncio.create_task(lead(MemoryStore(data), "test", leadership, open_sink, clock, Metrics(), Retention()))
    while not leadership.leads:
        await leadership.change.wait()
    data.depose()
    await asyncio.sleep(0)  # the lease's watcher has seen it, and fails next
    terms.cancel()
    await asyncio.wait({terms}, timeout=PATIENCE_S)
    assert terms.cancelled()


@pytest.mark.parametrize("atoms", [0, 1])
async def test_submit_whose_commit_is_cut_is_unknown_and_safe_to_repeat(yard: MemoryController, atoms: int) -> None:
    yard.data.cut_next_commit(atoms)
    told = await refusal(yard.jobs.SubmitJob(submission(request_id="once")))
    assert (told.code, told.text) == ("UNAVAILABLE", "this controller stopped leading; try again")
    assert told.reason == Reason.LEADERSHIP_LOST
    await yard.until_leads(epoch=2)  # callers hear of the end of a term before all of it has ended
    kept = [key for key in yard.stored() if key.startswith("job/")]
    assert len(kept) == atoms
    job_id = await yard.submit(request_id="once")
    listed = (await yard.jobs.ListJobs(pb.ListJobsRequest())).jobs
    assert [job.id for job in listed] == [job_id]
    assert not kept or kept == [f"job/{job_id}"]


async def test_next_term_has_exactly_what_was_committed(yard: MemoryController) -> None:
    """Of many submits at once, those and only those whose commit was not cut are there afterwards."""
    yard.data.cut_next_commit(5)
    calls = [yard.jobs.SubmitJob(submission(f"job-{i}")) for i in range(12)]
    ends = await asyncio.gather(*calls, return_exceptions=True)
    acknowledged = {end.job_id for end in ends if isinstance(end, pb.SubmitJobResponse)}
    codes = {code_of(end) for end in ends if isinstance(end, BaseException)}
    assert codes <= {"UNAVAILABLE"}
    await yard.until_leads(epoch=2)
    stored = {key.removeprefix("job/") for key in yard.stored() if key.startswith("job/")}
    listed = {job.id for job in (await yard.jobs.ListJobs(pb.ListJobsRequest())).jobs}
    assert listed == stored
    assert acknowledged <= stored


async def test_readers_never_see_what_was_not_stored(yard: MemoryController) -> None:
    yard.data.cut_next_commit(0)
    submit = asyncio.ensure_future(refusal(yard.jobs.SubmitJob(submission("ghost"))))
    reads = [yard.jobs.ListJobs(pb.ListJobsRequest()) for _ in range(20)]
    ends = await asyncio.gather(*reads, return_exceptions=True)
    await submit
    await yard.until_leads(epoch=2)
    for end in ends:
        if isinstance(end, pb.ListJobsResponse):
            assert not end.jobs
    assert not (await yard.jobs.ListJobs(pb.ListJobsRequest())).jobs


async def test_everything_comes_back_as_it_was_in_the_next_term(yard: MemoryController) -> None:
    agent = HandAgent(yard)
    await agent.join()
    done = await yard.submit("done")
    (spec,) = await agent.hear_starts()
    await agent.finish(spec.attempt_id, exit_code=3)
    array = await yard.submit(array_size=6)
    specs = await agent.hear_starts(4)
    await agent.report(*(running(s.attempt_id) for s in specs))
    await agent.hear_nothing()
    await yard.jobs.CancelJob(pb.CancelJobRequest(job_id=f"{array}:5", reason="no"))
    after_array = await yard.submit("after", depends_on=[pb.Dependency(job_id=array)])
    ids = [done, array, after_array, *(f"{array}:{i}" for i in range(6))]
    told = [await yard.describe(job_id) for job_id in ids]
    counts = (await yard.queues.ListJobQueues(queue_pb.ListJobQueuesRequest())).job_queues
    before = yard.stored()
    yard.data.depose()
    await yard.until_deposed()
    await yard.until_leads()
    again = [await yard.describe(job_id) for job_id in ids]
    for old, new in zip(told, again, strict=True):
        new.waiting_reason = old.waiting_reason  # it names hosts, and none is connected yet
        if new.HasField("array"):  # children were moved again, into the state they had
            new.array.status_summary_updated_at_ms = old.array.status_summary_updated_at_ms
        assert new == old
    assert (await yard.queues.ListJobQueues(queue_pb.ListJobQueuesRequest())).job_queues == counts
    assert yard.stored() == before


async def test_agent_goes_on_with_what_runs_in_the_next_term(yard: MemoryController) -> None:
    agent = HandAgent(yard)
    await agent.join()
    job_id = await yard.submit()
    (spec,) = await agent.hear_starts()
    yard.data.depose()
    assert await agent.read() is None
    await yard.until_leads()
    again = HandAgent(yard)
    welcome = await again.join([running(spec.attempt_id)], epoch=1)
    assert welcome.epoch == 2
    await again.hear_nothing()
    assert await yard.state(job_id) == "RUNNING"
    await again.finish(spec.attempt_id)
    (attempt,) = (await yard.describe(job_id)).attempts
    assert attempt.epoch == 1, "the leader that claimed it"


async def test_callers_who_wait_when_the_term_ends_are_answered(yard: MemoryController) -> None:
    calls = [yard.queues.CreateJobQueue(queue(f"q{i}")) for i in range(20)]
    yard.data.depose()
    async with asyncio.timeout(PATIENCE_S):
        ends = await asyncio.gather(*calls, return_exceptions=True)
    await yard.until_leads(epoch=2)
    listed = (await yard.queues.ListJobQueues(queue_pb.ListJobQueuesRequest())).job_queues
    names = {row.name for row in listed}
    for i, end in enumerate(ends):
        if isinstance(end, BaseException):
            assert code_of(end) == "UNAVAILABLE"
        else:
            assert f"q{i}" in names


async def test_leader_that_steps_down_makes_room_for_another(yard: MemoryController) -> None:
    other = MemoryStore(yard.data)
    taking = asyncio.create_task(other.campaign("other"))
    await asyncio.sleep(0)
    yard.data.depose()
    assert await taking == 2
    await yard.until_deposed()
    told = await refusal(yard.jobs.SubmitJob(submission()))
    assert told.code == "UNAVAILABLE"
    await other.close()
    await yard.until_leads()
    assert await yard.state(await yard.submit()) == "RUNNABLE"


async def test_standby_that_has_read_the_store_leads_without_reading_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it followed is what it leads with; its metric says that it has."""
    async with MemoryController() as first:
        await first.until_leads()
        await first.furnish()
        async with MemoryController(first.data) as standby:
            job_id = await first.submit()
            async with asyncio.timeout(PATIENCE_S):
                while read_metric(standby, "standby_records") < sum(
                    not key.startswith(PREFIX) for key in first.stored()
                ):
                    await asyncio.sleep(0.01)
            load = MemoryStore.load

            def load_part(store: MemoryStore, prefix: str) -> AsyncIterator[list[tuple[str, bytes]]]:
                return load(store, prefix)

            monkeypatch.setattr(MemoryStore, "load", load_part)  # of the trail alone
            first.data.depose()
            await standby.until_leads(epoch=2)
            assert await standby.state(job_id) == "RUNNABLE"
            assert read_metric(standby, "standby_records") == 0


def read_metric(controller: MemoryController, name: str) -> float:
    return controller.metrics.registry.get_sample_value(f"batchyard_{name}") or 0.0
