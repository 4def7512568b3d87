"""
The sweep of bad input over raw stubs: each request is refused with its own clear text, and changes nothing.

``refusals.txt`` holds the answers to ``bad_requests.py``. After a change of texts,
write it anew with ``REWRITE=1`` and read every line that changed.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from tests.house import reasons

from batchyard.errors import InvalidArgumentError, Reason, Violation
from batchyard.v1 import compute_environment_pb2 as ce
from batchyard.v1 import consumable_resource_pb2 as cr
from batchyard.v1 import job_definition_pb2 as jd
from batchyard.v1 import job_pb2, security_pb2
from batchyard.v1 import job_queue_pb2 as jq
from batchyard.v1 import scheduling_policy_pb2 as sp
from batchyard_controller.services.errors import status_of

from . import bad_requests
from .controller import (
    MemoryController,
    Refusal,
    container,
    definition,
    environment,
    queue,
    refusal,
    refusal_of,
    submission,
)
from .hand_agent import HandAgent
from .rpcs import RPCS

GOLDEN = Path(__file__).with_name("refusals.txt")
OURS = {"INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED"}
ANSWER_BYTES_MAX = 8 * 1024
"""gRPC takes no more metadata than this by default."""


@pytest.fixture
async def full(yard: MemoryController) -> AsyncIterator[MemoryController]:
    """Return a yard with something of everything, and a host that is full."""
    spot = ce.ComputeResources(type=ce.CAPACITY_TYPE_SPOT)
    for request in (environment("second", state=ce.RESOURCE_STATE_DISABLED), environment("idle")):
        await yard.environments.CreateComputeEnvironment(request)
    await yard.environments.CreateComputeEnvironment(environment("spot", compute_resources=spot))
    progressive = ce.ALLOCATION_STRATEGY_BEST_FIT_PROGRESSIVE
    scaling = ce.ComputeResources(provider="hand", max_vcpus=4, allocation_strategy=progressive, desired_vcpus=3)
    fitting = ce.ComputeResources(provider="hand", max_vcpus=4)
    for name, resources in (("scaling", scaling), ("fitting", fitting)):
        disabled = ce.RESOURCE_STATE_DISABLED  # else hosts would be launched meanwhile
        await yard.environments.CreateComputeEnvironment(environment(name, state=disabled, compute_resources=resources))
    cluster = environment("cluster", kubernetes=ce.KubernetesCluster(name="c", namespace="n"))
    await yard.environments.CreateComputeEnvironment(cluster)
    await yard.queues.CreateJobQueue(queue("pods", "cluster"))
    await yard.queues.CreateJobQueue(queue("guarded", security_level=security_pb2.SECURITY_LEVEL_RESTRICTED))
    await yard.queues.CreateJobQueue(queue("closed", "default", "second", state=ce.RESOURCE_STATE_DISABLED))
    await yard.queues.CreateJobQueue(queue("tagged", tags={str(i): "" for i in range(50)}))
    for policy in ("fair", "idle"):
        await yard.policies.CreateSchedulingPolicy(sp.CreateSchedulingPolicyRequest(name=policy))
    await yard.queues.CreateJobQueue(queue("shared", scheduling_policy="fair"))
    quota = sp.CreateSchedulingPolicyRequest(name="quota", quota_share=sp.QuotaSharePolicy())
    await yard.policies.CreateSchedulingPolicy(quota)
    for name, number in (("quotas", 2), ("crowded", 20)):
        await yard.queues.CreateJobQueue(queue(name, scheduling_policy="quota"))
        for i in range(number):
            await yard.quota_shares.CreateQuotaShare(bad_requests.quota_share(name=f"s{i}", job_queue=name))
    closed = bad_requests.quota_share(name="closed", state=ce.RESOURCE_STATE_DISABLED)
    await yard.quota_shares.CreateQuotaShare(closed)
    for name in ("licence", "other"):
        await yard.consumables.CreateConsumableResource(cr.CreateConsumableResourceRequest(name=name, total=1))
    add: dict[str, Any] = {"name": "licence", "operation": cr.CONSUMABLE_RESOURCE_OPERATION_ADD, "quantity": 1}
    await yard.consumables.UpdateConsumableResource(cr.UpdateConsumableResourceRequest(request_id="once", **add))
    for _ in range(2):
        await yard.definitions.RegisterJobDefinition(definition("train"))
    gone = jd.DeregisterJobDefinitionRequest(job_definition="train:2")
    await yard.definitions.DeregisterJobDefinition(gone)
    await yard.definitions.RegisterJobDefinition(definition("template", container=container("Ref::what")))
    agent = HandAgent(yard, capacity={"cpu_millis": 1, "memory_mib": 1})
    await agent.join()
    yield yard
    agent.drop()


async def call(yard: MemoryController, rpc: str, request: Message) -> Refusal | None:
    """Call any RPC; None when it was not refused."""
    try:
        await RPCS[rpc].ask(yard.channel, request)
    except grpc.aio.AioRpcError as err:
        return refusal_of(err)
    return None


def _check_form(rpc: str, refused: Refusal) -> None:
    """Check what holds of every refusal: the right family, a reason, details that agree, and short enough to arrive."""
    assert refused.code in OURS, (rpc, refused)
    assert refused.text, rpc
    assert refused.text.isprintable(), (rpc, refused)
    if refused.code == "INVALID_ARGUMENT":
        assert refused.violations, (rpc, "no field is named")
        assert all(field and text for field, text in refused.violations), refused
        assert set(refused.violation_reasons) <= reasons.OF_VIOLATIONS - {Reason.INVALID_VALUE}, (rpc, refused)
        assert (refused.reason, refused.metadata) == (Reason.INVALID_ARGUMENT, {}), (rpc, refused)
    else:
        assert refused.reason in reasons.METADATA, (rpc, refused, "no closer reason than its class")
    size = 2 * len(refused.text.encode()) + sum(len(f.encode()) + len(t.encode()) for f, t in refused.violations)
    assert size < ANSWER_BYTES_MAX, (rpc, size)


async def test_every_bad_request_is_refused_and_changes_nothing(full: MemoryController) -> None:
    waiting, array = await full.submit(consumables={"licence": 1}), await full.submit(array_size=2)
    before = full.stored()
    lines: list[str] = []
    for name, rpc, request in bad_requests.cases(waiting, array):
        refused = await call(full, rpc, request)
        assert refused is not None, f"{name} ({rpc}) was not refused"
        assert full.stored() == before, f"{name} ({rpc}) changed something"
        _check_form(rpc, refused)
        told = [f"    {field}: {text}" for field, text in refused.violations] or [f"    {refused.text}"]
        lines += [f"{rpc}, {name}", f"  {refused.code}", *told, ""]
    text = "\n".join(lines).replace(waiting, "<waiting>").replace(waiting.upper(), "<WAITING>")
    text = text.replace(array, "<array>")
    if os.environ.get("REWRITE"):
        GOLDEN.write_text(text, encoding="utf-8")
    assert text.splitlines() == GOLDEN.read_text(encoding="utf-8").splitlines()


def test_status_is_short_enough_to_arrive_whatever_it_tells() -> None:
    """gRPC sends the text percent-encoded and the details in base64."""
    long = "\N{PILE OF POO}" * 5000
    violations = tuple(Violation(long, long, Reason.UNKNOWN_PAGE_TOKEN) for _ in range(1000))
    short = tuple(Violation(f"f{i}", "t", Reason.UNKNOWN_PAGE_TOKEN) for i in range(1000))
    for told in (violations, short, ()):
        status = status_of(InvalidArgumentError(long, told, metadata={"name": long, "job_queue": long}))
        assert 3 * len(status.message.encode()) + len(base64.b64encode(status.SerializeToString())) < ANSWER_BYTES_MAX


def test_last_of_too_many_violations_counts_the_others() -> None:
    broken = InvalidArgumentError.from_violations([Violation("f", "wrong", Reason.REQUIRED)] * 100)
    bad = error_details_pb2.BadRequest()
    assert status_of(broken).details[1].Unpack(bad)
    *told, last = bad.field_violations
    assert {(v.field, v.description, v.reason) for v in told} == {("f", "wrong", "REQUIRED")}
    assert (last.description, last.reason) == (f"{100 - len(told)} more rules are broken", "MORE_VIOLATIONS")


async def test_token_of_another_list_is_refused(full: MemoryController) -> None:
    for i in range(2):
        await full.submit(f"job-{i}")
    arrays = [await full.submit(array_size=3), await full.submit(array_size=3)]
    await HandAgent(full, "00000000-0000-4000-8000-000000000009", "omega").join()
    lists: dict[str, Message] = {rpc: kind(page_size=1) for rpc, kind in bad_requests.LISTS.items()}
    of_queue = job_pb2.ListJobsRequest(page_size=1, queues=["default"])
    oldest_first = job_pb2.ListJobsRequest(page_size=1, oldest_first=True)
    of_arrays = [job_pb2.ListJobsRequest(page_size=1, array_job_id=array) for array in arrays]
    of_name = jd.ListJobDefinitionsRequest(page_size=1, name="train")
    every: list[tuple[str, Any]] = [
        *lists.items(),
        ("ListJobs", of_queue),
        ("ListJobs", oldest_first),
        *(("ListJobs", each) for each in of_arrays),
        ("ListJobDefinitions", of_name),
    ]
    tokens = [(await RPCS[rpc].ask(full.channel, request)).next_page_token for rpc, request in every]
    assert all(tokens)
    for i, (rpc, request) in enumerate(every):
        for j, token in enumerate(tokens):
            request.page_token = token
            refused = await call(full, rpc, request)
            if i == j:
                assert refused is None, (rpc, refused)
            else:
                assert refused is not None, (rpc, every[j])
                assert refused.violations == (("page_token", "is not a token that this list gave out"),)


async def test_thousand_and_first_queue_is_refused(yard: MemoryController) -> None:
    calls = [yard.queues.CreateJobQueue(queue(f"q{i}")) for i in range(999)]
    await asyncio.gather(*calls)
    before = yard.stored()
    told = await refusal(yard.queues.CreateJobQueue(queue("one-more")))
    assert (told.code, told.text) == ("RESOURCE_EXHAUSTED", "there are 1000 job queues, the most allowed")
    assert (told.reason, told.metadata) == (Reason.TOO_MANY_JOB_QUEUES, {"limit": "1000"})
    assert yard.stored() == before
    page = await yard.queues.ListJobQueues(jq.ListJobQueuesRequest(page_size=1000))
    assert len(page.job_queues) == 1000
    assert page.next_page_token == ""


# Bytes that are no request ------------------------------------------------------


def _raw(yard: MemoryController, path: str) -> Callable[[bytes], Awaitable[bytes]]:
    return cast("Callable[[bytes], Awaitable[bytes]]", yard.channel.unary_unary(f"/batchyard.v1.{path}"))


SURROGATE = b"\xed\xa0\x80"
UNDECODABLE = {
    "invalid UTF-8": b"\x0a\x02\xff\xfe",
    "a lone surrogate": b"\x0a\x03" + SURROGATE,
    "a cut message": b"\x0a\x7f",
    "no message": b"\xff\xff\xff\xff",
    "a deep group": b"\x0b" * 200,
}


@pytest.mark.parametrize("name", UNDECODABLE)
@pytest.mark.parametrize("path", ["JobService/SubmitJob", "JobQueueService/CreateJobQueue", "JobService/ExplainJob"])
async def test_bytes_that_are_no_request_are_refused(yard: MemoryController, name: str, path: str) -> None:
    before = yard.stored()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _raw(yard, path)(UNDECODABLE[name])
    told = refusal_of(caught.value)
    assert told.code == "INVALID_ARGUMENT", told
    assert told.violations == (
        ("request", "cannot be read: it is no message of this call, or a text in it is no UTF-8"),
    )
    assert yard.stored() == before


@pytest.mark.parametrize("name", UNDECODABLE)
async def test_bytes_that_are_no_request_end_a_stream_alone(yard: MemoryController, name: str) -> None:
    channel: Any = yard.channel
    stream = channel.unary_stream("/batchyard.v1.JobService/WatchJobs")(UNDECODABLE[name])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    agent = HandAgent(yard)
    await agent.join()
    garbled = channel.stream_stream("/batchyard.v1.AgentService/Connect")()
    await garbled.write(UNDECODABLE[name])
    assert (await garbled.code()) is grpc.StatusCode.INVALID_ARGUMENT
    await agent.hear_nothing()


async def test_request_of_10_mib_is_refused(yard: MemoryController) -> None:
    before = yard.stored()
    request = submission(parameters={"p": "x" * (10 << 20)})
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await yard.jobs.SubmitJob(request)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in (caught.value.details() or "")
    assert yard.stored() == before
    await yard.submit()


async def test_unknown_call_is_unimplemented(yard: MemoryController) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _raw(yard, "JobService/Nothing")(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_fields_that_a_later_version_may_add_are_ignored(yard: MemoryController) -> None:
    later = submission(request_id="later").SerializeToString() + b"\xfa\x3f\x03new"
    await _raw(yard, "JobService/SubmitJob")(later)
    assert len((await yard.jobs.ListJobs(job_pb2.ListJobsRequest())).jobs) == 1
