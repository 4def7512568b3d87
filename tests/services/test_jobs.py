"""Jobs through their RPCs: submit, describe, list, cancel, terminate, explain."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from batchyard.v1 import compute_environment_pb2 as environment_pb
from batchyard.v1 import host_pb2
from batchyard.v1 import job_definition_pb2 as definition_pb
from batchyard.v1 import job_pb2 as pb
from batchyard.v1 import job_queue_pb2 as queue_pb
from batchyard_controller.store.memory import MemoryData, MemoryStore
from batchyard_controller.store.protocol import Store
from batchyard_controller.store.sqlite import SqliteStore

from .controller import (
    Controller,
    MemoryController,
    amounts,
    container,
    definition,
    queue,
    refusal,
    submission,
)
from .hand_agent import HandAgent, ended

SEQUENTIAL = pb.DEPENDENCY_TYPE_SEQUENTIAL


# Submit -------------------------------------------------------------------------


async def test_job_with_its_own_container_is_kept_whole(yard: MemoryController) -> None:
    request = submission(
        "whole",
        container=container("echo", "a b", environment={"A": "b"}, image="busybox:latest", resources=amounts(500, 64)),
        retry_strategy=definition_pb.RetryStrategy(attempts=3, infrastructure_retries=7),
        timeout_s=60,
        propagate_tags=True,
        tags={"t": "u"},
        annotations={"tool": "\x1b[1m"},
        parameters={"unused": "x"},
    )
    answer = await yard.jobs.SubmitJob(request)
    assert answer.name == "whole"
    job = await yard.describe(answer.job_id)
    for field in ("name", "queue", "container", "retry_strategy", "timeout_s"):
        assert getattr(job, field) == getattr(request, field), field
    for field in ("propagate_tags", "tags", "annotations", "parameters"):
        assert getattr(job, field) == getattr(request, field), field
    assert (job.state, job.job_definition, len(job.attempts)) == (pb.JOB_STATE_RUNNABLE, "", 0)
    assert job.created_at_ms > 0
    assert not job.HasField("array")
    assert not job.HasField("exit_code")
    assert job.waiting_reason == "waits for a host: no host belongs to default and offers runtime docker"


async def test_dependencies_are_no_part_of_the_payload(yard: MemoryController) -> None:
    """1,000 of them are allowed, and alone are longer than the 30 KiB that AWS allows for the rest."""
    first = await yard.submit()
    request = submission("last", depends_on=[pb.Dependency(job_id=first)] * 1000)
    assert request.ByteSize() > 30 * 1024
    assert (await yard.state((await yard.jobs.SubmitJob(request)).job_id)) == "PENDING"


async def test_job_of_a_definition_takes_what_is_overridden_and_keeps_the_rest(yard: MemoryController) -> None:
    await yard.definitions.RegisterJobDefinition(
        definition(
            "train",
            container=container(
                "train",
                "Ref::epochs",
                "--to=Ref::place",
                environment={"A": "1", "B": "2"},
                resources=amounts(2000, 512),
            ),
            parameters={"epochs": "3", "place": "/out"},
            retry_strategy=definition_pb.RetryStrategy(attempts=4),
            timeout_s=99,
        )
    )
    plain = await yard.describe(await yard.submit(job_definition="train"))
    assert plain.job_definition == "train:1"
    assert list(plain.container.command) == ["train", "3", "--to=/out"]
    assert (plain.timeout_s, plain.retry_strategy.attempts) == (99, 4)
    changed = await yard.describe(
        await yard.submit(
            job_definition="train:1",
            parameters={"epochs": "9"},
            overrides=pb.ContainerOverrides(environment={"B": "x", "C": "y"}, memory_mib=256, gpu_millis=1000),
            timeout_s=5,
            retry_strategy=definition_pb.RetryStrategy(attempts=1),
        )
    )
    assert list(changed.container.command) == ["train", "9", "--to=/out"]
    assert dict(changed.container.environment) == {"A": "1", "B": "x", "C": "y"}
    assert changed.container.resources == amounts(2000, 256, gpu_millis=1000)
    assert (changed.timeout_s, changed.retry_strategy.attempts) == (5, 1)
    other = await yard.describe(
        await yard.submit(job_definition="train", overrides=pb.ContainerOverrides(command=["sh", "-c", "Ref::place"]))
    )
    assert list(other.container.command) == ["sh", "-c", "/out"]


async def test_array_is_one_job_whose_children_answer_by_index(yard: MemoryController) -> None:
    array = await yard.submit(array_size=5)
    request = pb.DescribeJobsRequest(job_ids=[array, f"{array}:4", f"{array}:5", f"{array}:04", f"{array}:", "nobody"])
    parent, child = (await yard.jobs.DescribeJobs(request)).jobs
    assert (parent.id, parent.state) == (array, pb.JOB_STATE_PENDING)
    assert parent.array.size == 5
    assert not parent.array.HasField("index")
    assert {k: v for k, v in parent.array.status_summary.items() if v} == {"RUNNABLE": 5}
    assert (child.id, child.state, child.array.index) == (f"{array}:4", pb.JOB_STATE_RUNNABLE, 4)
    assert not child.array.status_summary


async def test_job_waits_for_those_it_depends_on(yard: MemoryController) -> None:
    agent = HandAgent(yard)
    await agent.join()
    first = await yard.submit("first")
    second = await yard.submit("second", depends_on=[pb.Dependency(job_id=first)])
    job = await yard.describe(second)
    assert (job.state, job.waiting_reason) == (pb.JOB_STATE_PENDING, "waits for 1 of its 1 dependencies")
    assert [d.job_id for d in job.depends_on] == [first]
    (spec,) = await agent.hear_starts()
    await agent.finish(spec.attempt_id)
    (spec,) = await agent.hear_starts()
    assert spec.job_id == second


async def test_job_fails_with_the_one_it_depends_on(yard: MemoryController) -> None:
    agent = HandAgent(yard)
    await agent.join()
    first = await yard.submit("first")
    second = await yard.submit("second", depends_on=[pb.Dependency(job_id=first)])
    (spec,) = await agent.hear_starts()
    await agent.finish(spec.attempt_id, exit_code=1)
    job = await yard.describe(second)
    assert (job.state, job.status_reason) == (pb.JOB_STATE_FAILED, "Dependent Job failed")


async def test_one_request_id_is_one_job_however_often_it_comes_at_once(yard: MemoryController) -> None:
    answers = await asyncio.gather(*(yard.jobs.SubmitJob(submission(request_id="once")) for _ in range(30)))
    assert len({answer.job_id for answer in answers}) == 1
    listed = (await yard.jobs.ListJobs(pb.ListJobsRequest())).jobs
    assert [job.id for job in listed] == [answers[0].job_id]
    again = await yard.jobs.SubmitJob(submission("other-name", request_id="once", container=container("false")))
    assert (again.job_id, again.name) == (answers[0].job_id, "hello"), "the first job, whatever is asked now"
    assert await yard.submit() != answers[0].job_id, "without a request id every submit is a new job"


@pytest.fixture(params=["memory", "sqlite"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Store]:
    """Return how to open the same store once more."""
    data = MemoryData()
    if request.param == "memory":
        return lambda: MemoryStore(data)
    return lambda: SqliteStore(tmp_path / "controller.db")


async def test_request_id_is_remembered_over_a_restart(reopen: Callable[[], Store]) -> None:
    async with Controller(reopen()) as before:
        await before.until_leads()
        await before.furnish()
        job_id = await before.submit(request_id="once", array_size=3)
        told = await before.describe(job_id)
    async with Controller(reopen()) as after:
        await after.until_leads()
        assert await after.submit(request_id="once", array_size=3) == job_id
        again = await after.describe(job_id)
        again.array.status_summary_updated_at_ms = told.array.status_summary_updated_at_ms
        assert again == told
        assert await after.submit(request_id="twice") != job_id


async def test_submit_of_30_kib_is_taken_and_one_byte_more_is_not(yard: MemoryController) -> None:
    request = submission(parameters={"p": ""}, request_id="long")
    while request.ByteSize() != 30 * 1024:
        missing = 30 * 1024 - request.ByteSize()
        value = request.parameters["p"]
        request.parameters["p"] = value + "x" * missing if missing > 0 else value[:missing]
    await yard.jobs.SubmitJob(request)
    before = yard.stored()
    request.parameters["p"] += "x"
    request.request_id = "long2"
    too_long = await refusal(yard.jobs.SubmitJob(request))
    assert too_long.code == "INVALID_ARGUMENT"
    assert too_long.violations[0][0] == "request"
    assert "at most 30720 are allowed" in too_long.violations[0][1]
    assert yard.stored() == before
    request.parameters["p"] = request.parameters["p"][:-2]
    request.annotations["apart"] = "x" * 32_000
    await yard.jobs.SubmitJob(request)


# List ---------------------------------------------------------------------------


async def _ids(yard: MemoryController, **fields: Any) -> list[str]:
    return [job.id for job in (await yard.jobs.ListJobs(pb.ListJobsRequest(**fields))).jobs]


async def test_list_filters_by_queue_state_and_name_newest_first(yard: MemoryController) -> None:
    await yard.queues.CreateJobQueue(queue("other"))
    a, b = await yard.submit("one"), await yard.submit("two")
    c = await yard.submit("one", queue="other")
    await yard.jobs.CancelJob(pb.CancelJobRequest(job_id=b, reason="no"))
    assert await _ids(yard) == [c, b, a]
    assert await _ids(yard, queues=["default"]) == [b, a]
    assert await _ids(yard, name="one") == [c, a]
    assert await _ids(yard, states=[pb.JOB_STATE_FAILED]) == [b]
    assert await _ids(yard, states=[pb.JOB_STATE_FAILED, pb.JOB_STATE_RUNNABLE], queues=["default"]) == [b, a]
    assert await _ids(yard, queues=["other"], name="two") == []
    assert await _ids(yard, name="T*") == [b]
    summary = (await yard.jobs.ListJobs(pb.ListJobsRequest(name="two"))).jobs[0]
    assert (summary.name, summary.queue, summary.status_reason) == ("two", "default", "no")


async def test_list_filters_by_definition_moment_and_share(yard: MemoryController) -> None:
    for _ in range(2):
        await yard.definitions.RegisterJobDefinition(definition("train"))
    a, b = await yard.submit(job_definition="train:1"), await yard.submit(job_definition="train:2")
    c = await yard.submit()
    assert await _ids(yard, job_definition="train") == [b, a]
    assert await _ids(yard, job_definition="train:1") == [a]
    assert await _ids(yard, job_definition="tr*", queues=["default"]) == [b, a]
    at_ms = (await yard.describe(c)).created_at_ms
    assert c not in await _ids(yard, created_before_ms=at_ms)
    assert await _ids(yard, created_after_ms=at_ms) == []
    assert await _ids(yard, created_after_ms=1, created_before_ms=at_ms + 1) == [c, b, a]
    assert await _ids(yard, share_identifier="team") == []


async def test_who_submitted_is_kept_with_the_job(yard: MemoryController) -> None:
    job_id, nobody = await yard.submit(submitted_by="AKIAEXAMPLE"), await yard.submit()
    assert (await yard.describe(job_id)).submitted_by == "AKIAEXAMPLE"
    listed = (await yard.jobs.ListJobs(pb.ListJobsRequest())).jobs
    assert {job.id: job.submitted_by for job in listed} == {job_id: "AKIAEXAMPLE", nobody: ""}
    yard.data.depose()
    await yard.until_deposed()
    await yard.until_leads()
    assert (await yard.describe(job_id)).submitted_by == "AKIAEXAMPLE", "after a restart too"


async def test_list_filters_by_queues_tags_and_host(yard: MemoryController) -> None:
    await yard.queues.CreateJobQueue(queue("other"))
    agent = HandAgent(yard)
    await agent.join()
    a = await yard.submit(tags={"team": "x"})
    (spec,) = await agent.hear_starts()
    b = await yard.submit(
        queue="other",
        tags={"team": "y", "stage": ""},
        container=container(resources={"cpu_millis": 64_000, "memory_mib": 64}),
    )
    assert await _ids(yard, queues=["default", "other"]) == [b, a]
    assert await _ids(yard, queues=["default", "other"], oldest_first=True) == [a, b]
    assert await _ids(yard, tags=[pb.TagFilter(key="team")]) == [b, a]
    assert await _ids(yard, tags=[pb.TagFilter(key="team", value="x")]) == [a]
    assert await _ids(yard, tags=[pb.TagFilter(key="stage", value="")]) == [b]
    active = [pb.JOB_STATE_STARTING, pb.JOB_STATE_RUNNING]
    for host in ("alpha", agent.host_id):
        assert await _ids(yard, host=host, states=active) == [a]
    await agent.finish(spec.attempt_id)
    assert await _ids(yard, host="alpha", states=active) == []
    assert await _ids(yard, host="alpha") == [a]
    await yard.jobs.TerminateJob(pb.TerminateJobRequest(job_id=b, reason="enough"))
    await agent.leave()
    await yard.hosts.RemoveHost(host_pb2.RemoveHostRequest(host="alpha", force=True))
    for host in ("alpha", agent.host_id):
        assert await _ids(yard, host=host) == [a], "of a host that is gone"


async def test_pages_of_a_host_end_within_an_array(yard: MemoryController) -> None:
    agent = HandAgent(yard)
    await agent.join()
    array = await yard.submit(array_size=3, container=container(resources={"cpu_millis": 100, "memory_mib": 16}))
    await agent.hear_starts(3)
    request = pb.ListJobsRequest(host="alpha", page_size=1)
    seen: list[str] = []
    while True:
        page = await yard.jobs.ListJobs(request)
        seen += [job.id for job in page.jobs]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert seen == [f"{array}:{i}" for i in range(3)]


async def test_children_are_listed_by_index_and_state(yard: MemoryController) -> None:
    array = await yard.submit(array_size=150)
    await yard.jobs.CancelJob(pb.CancelJobRequest(job_id=f"{array}:70", reason="no"))
    request = pb.ListJobsRequest(array_job_id=array, page_size=64)
    seen: list[str] = []
    while True:
        page = await yard.jobs.ListJobs(request)
        seen += [job.id for job in page.jobs]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert seen == [f"{array}:{i}" for i in range(150)]
    assert await _ids(yard, array_job_id=array, states=[pb.JOB_STATE_FAILED]) == [f"{array}:70"]
    assert len(await _ids(yard, array_job_id=array, states=[pb.JOB_STATE_RUNNABLE], page_size=1000)) == 149


async def test_digest_tells_of_children_by_ranges(yard: MemoryController) -> None:
    array = await yard.submit(array_size=10)
    await yard.jobs.CancelJob(pb.CancelJobRequest(job_id=f"{array}:9", reason="no"))
    told = await yard.jobs.GetArrayDigest(pb.GetArrayDigestRequest(job_id=array, cells=4))
    assert (told.size, told.width) == (10, 3)
    assert [dict(cell.counts) for cell in told.cells] == [*[{"RUNNABLE": 3}] * 3, {"FAILED": 1}]
    whole = await yard.jobs.GetArrayDigest(pb.GetArrayDigestRequest(job_id=array))
    assert (whole.width, len(whole.cells)) == (1, 10)


async def test_pages_neither_repeat_nor_skip_while_jobs_are_added(yard: MemoryController) -> None:
    old = [await yard.submit() for _ in range(7)]
    request = pb.ListJobsRequest(page_size=2)
    seen: list[str] = []
    while True:
        page = await yard.jobs.ListJobs(request)
        seen += [job.id for job in page.jobs]
        await yard.submit("newer")
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert seen == list(reversed(old))


# Cancel and terminate -------------------------------------------------------------


async def test_cancel_ends_what_waits_and_leaves_what_runs(yard: MemoryController) -> None:
    agent = HandAgent(yard)
    await agent.join()
    runs = await yard.submit(container=container(resources=amounts(4000)))
    (spec,) = await agent.hear_starts()
    waits = await yard.submit()
    for job_id in (runs, waits):
        await yard.jobs.CancelJob(pb.CancelJobRequest(job_id=job_id, reason="not needed"))
    job = await yard.describe(waits)
    assert (job.state, job.status_reason, job.is_cancelled) == (pb.JOB_STATE_FAILED, "not needed", True)
    assert await yard.state(runs) == "STARTING"
    await agent.finish(spec.attempt_id)
    assert await yard.state(runs) == "SUCCEEDED"
    before = yard.stored()
    await yard.jobs.CancelJob(pb.CancelJobRequest(job_id=runs, reason="too late"))
    assert yard.stored() == before


async def test_terminate_stops_what_runs_and_the_job_fails_without_a_retry(yard: MemoryController) -> None:
    agent = HandAgent(yard)
    await agent.join()
    job_id = await yard.submit(retry_strategy=definition_pb.RetryStrategy(attempts=5))
    (spec,) = await agent.hear_starts()
    await yard.jobs.TerminateJob(pb.TerminateJobRequest(job_id=job_id, reason="enough"))
    stop = await agent.hear("stop")
    assert (stop.attempt_id, stop.grace_s) == (spec.attempt_id, 30)
    assert await yard.state(job_id) == "STARTING", "intent is not fact"
    assert (await yard.describe(job_id)).is_terminated
    await agent.report(ended(spec.attempt_id, 143, cause="END_CAUSE_STOPPED"))
    await agent.hear("ack")
    job = await yard.describe(job_id)
    assert (job.state, job.status_reason, job.exit_code) == (pb.JOB_STATE_FAILED, "enough", 143)
    assert [(a.number, a.exit_code, a.state) for a in job.attempts] == [(1, 143, pb.JOB_STATE_FAILED)]
    await agent.hear_nothing()


async def test_terminate_of_an_array_ends_every_child(yard: MemoryController) -> None:
    agent = HandAgent(yard)
    await agent.join()
    array = await yard.submit(array_size=6)
    specs = await agent.hear_starts(3)  # of a host that has not shown that it can start any
    await yard.jobs.TerminateJob(pb.TerminateJobRequest(job_id=array, reason="enough"))
    for _ in specs:
        await agent.hear("stop")
    await agent.report(*(ended(s.attempt_id, 143, cause="END_CAUSE_STOPPED") for s in specs))
    await agent.hear("ack")
    parent = await yard.describe(array)
    assert parent.state == pb.JOB_STATE_FAILED
    assert parent.array.status_summary["FAILED"] == 6


async def test_terminate_of_one_child_leaves_its_siblings(yard: MemoryController) -> None:
    array = await yard.submit(array_size=3)
    await yard.jobs.TerminateJob(pb.TerminateJobRequest(job_id=f"{array}:1", reason="this one"))
    child = await yard.describe(f"{array}:1")
    assert (child.state, child.status_reason, child.is_terminated) == (pb.JOB_STATE_FAILED, "this one", True)
    assert await yard.state(f"{array}:0") == "RUNNABLE"
    assert await yard.state(array) == "PENDING"


# Explain ------------------------------------------------------------------------


async def _explain(yard: MemoryController, job_id: str) -> pb.ExplainJobResponse:
    answer = await yard.jobs.ExplainJob(pb.ExplainJobRequest(job_id=job_id))
    assert isinstance(answer, pb.ExplainJobResponse)
    return answer


async def test_explain_follows_a_job_through_its_life(yard: MemoryController) -> None:
    agent = HandAgent(yard)
    await agent.join()
    first = await yard.submit(container=container(resources=amounts(3000)))
    second = await yard.submit(container=container(resources=amounts(2000)))
    third = await yard.submit(container=container(resources=amounts(2000)))
    (spec,) = await agent.hear_starts()
    assert (await _explain(yard, first)).summary == "starting on host alpha, attempt 1"
    waits = await _explain(yard, third)
    assert (waits.state, waits.position, waits.eligible_hosts) == (pb.JOB_STATE_RUNNABLE, 2, 1)
    (cpu,) = waits.refusals
    assert (cpu.kind, cpu.asked, cpu.free, cpu.largest_free, cpu.largest_capacity) == (
        "cpu_millis",
        2000,
        1000,
        1000,
        4000,
    )
    assert cpu.message in waits.summary
    await agent.finish(spec.attempt_id)
    assert (await _explain(yard, first)).summary == "ended SUCCEEDED: Essential container in task exited"
    assert (await _explain(yard, second)).summary == "starting on host alpha, attempt 1"


async def test_explain_says_that_no_host_could_ever_fit_a_job(yard: MemoryController) -> None:
    agent = HandAgent(yard)
    await agent.join()
    job_id = await yard.submit(container=container(resources=amounts(64_000)))
    explained = await _explain(yard, job_id)
    assert explained.refusals[0].largest_capacity == 4000
    assert "no host known now could ever fit it" in explained.summary
    assert (await yard.describe(job_id)).waiting_reason == explained.summary


async def test_first_in_line_of_a_blocked_queue_is_told_why_in_the_words_of_aws(yard: MemoryController) -> None:
    agent = HandAgent(yard)
    await agent.join()
    never, later = [await yard.submit(container=container(resources=amounts(64_000))) for _ in range(2)]
    text = (
        "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - The job resource requirement (vCPU/memory/GPU) is higher "
        "than that can be met by the CE(s) attached to the job queue."
    )
    assert (await yard.describe(never)).status_reason == text
    assert (await yard.describe(later)).status_reason == ""
    listed = (await yard.jobs.ListJobs(pb.ListJobsRequest())).jobs
    assert {job.id: job.status_reason for job in listed} == {never: text, later: ""}
    before = yard.stored()
    assert not any(b"MISCONFIGURATION" in value for value in before.values()), "it is derived, not stored"


async def test_explain_of_a_child_and_of_its_array(yard: MemoryController) -> None:
    array = await yard.submit(array_size=3)
    assert (await _explain(yard, array)).summary.startswith("children: 3 RUNNABLE; the next waits for a host: ")
    child = await _explain(yard, f"{array}:2")
    assert (child.job_id, child.state, child.refusals[0].kind) == (f"{array}:2", pb.JOB_STATE_RUNNABLE, "hosts")


async def test_disabled_queue_takes_no_job_and_keeps_those_it_has(yard: MemoryController) -> None:
    agent = HandAgent(yard)
    await agent.join()
    waits = await yard.submit(container=container(resources=amounts(64_000)))
    update = queue_pb.UpdateJobQueueRequest(name="default", state=environment_pb.RESOURCE_STATE_DISABLED)
    await yard.queues.UpdateJobQueue(update)
    before = yard.stored()
    told = await refusal(yard.jobs.SubmitJob(submission()))
    assert (told.code, told.text) == ("FAILED_PRECONDITION", "JobQueue default is DISABLED and takes no new jobs")
    assert yard.stored() == before
    assert await yard.state(waits) == "RUNNABLE"


async def test_caller_that_goes_away_leaves_a_whole_job_or_none(yard: MemoryController) -> None:
    """A submit that is cut by its caller is repeated with the same id and is one job."""
    call = yard.jobs.SubmitJob(submission(request_id="cut"))
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    job_id = await yard.submit(request_id="cut")
    assert await _ids(yard) == [job_id]


async def test_deadline_of_the_caller_is_kept(yard: MemoryController) -> None:
    watch = yard.jobs.WatchJobs(pb.WatchJobsRequest(), timeout=0.2)
    assert await watch.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_what_children_are_told_outlives_a_controller() -> None:
    """A million of them, of which nothing is kept but what was asked for."""
    data = MemoryData()
    axes = [
        {"name": "n", "values": [str(i) for i in range(1000)]},
        {"name": "m", "values": [str(i) for i in range(1000)]},
    ]
    async with MemoryController(data) as first:
        await first.until_leads()
        await first.furnish()
        task = container("fit", "Ref::n", "Ref::m", resources=amounts(4000, 64))
        values = {"numbers": "7-999999", "sweep": axes}
        made = await first.submit(container=task, array_size=999_993, array_values=values, array_max_fails=5)
        before = await first.describe(made)
    async with MemoryController(data) as second:
        await second.until_leads()
        after = await second.describe(made)
        assert after.array.values == before.array.values
        assert after.array.max_fails == 5
        assert (await second.describe(f"{made}:999992")).array.item == '{"n": "999", "m": "999"}'
        agent = HandAgent(second)
        await agent.join()
        (started,) = await agent.hear_starts()
        assert list(started.container.command) == ["fit", "0", "7"]
        assert (started.environment["BATCHYARD_ITEM_m"], started.environment["AWS_BATCH_JOB_ARRAY_INDEX"]) == ("7", "7")
