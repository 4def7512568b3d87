"""The agent session: an agent driven by hand, and what the controller makes of its words."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import grpc
import pytest

from batchyard.arns import instance_id
from batchyard.ids import HostId, task_id
from batchyard.v1 import access_pb2 as access_pb
from batchyard.v1 import agent_pb2 as pb
from batchyard.v1 import attempt_pb2, host_pb2, job_pb2, security_pb2
from batchyard.v1 import compute_environment_pb2 as environment_pb
from batchyard.v1 import job_definition_pb2 as definition_pb
from batchyard.v1 import job_queue_pb2 as queue_pb
from batchyard.v1.job_pb2_grpc import JobServiceStub
from batchyard_controller import driver
from batchyard_controller.app import clock
from batchyard_controller.core import limits
from batchyard_controller.core.commands import EndSession, SendStart
from batchyard_controller.core.model.values import Instant
from batchyard_controller.doors import Door, PeerKind
from batchyard_controller.services.hosts import PAGE_BYTES_MAX
from batchyard_controller.store.memory import MemoryData
from batchyard_controller.throttles import Throttles

from .controller import PATIENCE_S, MemoryController, amounts, container, environment, queue, refusal, submission
from .hand_agent import HOST_ID, OTHER_ID, HandAgent, ended, facts, running


async def test_welcome_tells_epoch_and_timers(yard: MemoryController) -> None:
    welcome = await HandAgent(yard).join()
    assert (welcome.epoch, welcome.heartbeat_interval_ms, welcome.fence_ms) == (1, 3_000, 900_000)


async def test_attempt_is_told_to_the_host_with_all_it_needs(yard: MemoryController) -> None:
    agent = HandAgent(yard)
    await agent.join()
    job = container("echo", "hi", environment={"A": "b"}, resources=amounts(1000, 128))
    job_id = await yard.submit("greet", container=job, timeout_s=60)
    (spec,) = await agent.hear_starts()
    assert (spec.attempt_id, spec.job_id, spec.number, spec.timeout_s) == (f"{job_id}#1", job_id, 1, 60)
    assert spec.container == job
    assert dict(spec.environment) == {
        "AWS_BATCH_CE_NAME": "default",
        "AWS_BATCH_JQ_NAME": "default",
        "AWS_BATCH_JOB_ID": job_id,
        "AWS_BATCH_JOB_ATTEMPT": "1",
        "AWS_EXECUTION_ENV": "AWS_ECS_EC2",
        "BATCHYARD_ATTEMPT": spec.attempt_id,
        "BATCHYARD_FENCE_TOKEN": "1",
    }
    assert spec.log_stream_name == f"greet/default/{task_id(spec.attempt_id)}"
    assert f"attempt/{spec.attempt_id}" in yard.stored(), "it was stored before it was told"


async def test_attempt_is_told_the_platform_of_its_environment(yard: MemoryController) -> None:
    """As Amazon ECS tells it; Metaflow reads it and has no default. The agent is told, too."""
    agent = HandAgent(yard, platforms=["FARGATE"], runtimes=["docker"], capacity=amounts(4000, 8192, disk_mib=100_000))
    await agent.join()
    fargate = environment_pb.ComputeResources(type=environment_pb.CAPACITY_TYPE_FARGATE)
    await yard.environments.CreateComputeEnvironment(environment("f", compute_resources=fargate))
    await yard.queues.CreateJobQueue(queue("f", "f"))
    await yard.submit(queue="f", container=container("true", image="busybox", resources=amounts(1000, 2048)))
    (spec,) = await agent.hear_starts()
    assert spec.environment["AWS_EXECUTION_ENV"] == "AWS_ECS_FARGATE"
    assert spec.is_fargate
    assert spec.container.resources.disk_mib == 20 << 10


async def test_attempt_is_told_its_queue_and_the_level_of_that(yard: MemoryController) -> None:
    """Only an agent that can keep it to the level is sent it, and a change holds of all that starts from then on."""
    old = HandAgent(yard, name="old", runtimes=["docker"], capacity=amounts(4000, 8192))
    await old.join()
    level: Any = {"security_level": security_pb2.SECURITY_LEVEL_RESTRICTED}
    await yard.queues.CreateJobQueue(queue("strangers", "default", **level))
    job = container("true", image="busybox", resources=amounts(1000, 1024))
    first = await yard.submit(queue="strangers", container=job)
    await old.hear_nothing()
    agent = HandAgent(yard, runtimes=["docker"], capacity=amounts(4000, 8192), features=["secured-containers"])
    await agent.join()
    (spec,) = await agent.hear_starts()
    assert (spec.job_id, spec.job_queue) == (first, "strangers")
    assert spec.security_level == security_pb2.SECURITY_LEVEL_RESTRICTED
    level = {"security_level": security_pb2.SECURITY_LEVEL_BASELINE}
    changed = await yard.queues.UpdateJobQueue(queue_pb.UpdateJobQueueRequest(name="strangers", **level))
    assert changed.job_queue.security_level == security_pb2.SECURITY_LEVEL_BASELINE
    await yard.submit(queue="strangers", container=job)
    (spec,) = await agent.hear_starts()
    assert spec.security_level == security_pb2.SECURITY_LEVEL_BASELINE


async def test_attempt_is_told_whose_job_it_is_and_not_what_its_sender_says_of_that() -> None:
    """Processes may run as that account: it is who has shown that they are, and empty of the administrator's."""
    async with MemoryController(other=Door(PeerKind.TLS), throttles=Throttles()) as yard:
        await yard.until_leads()
        await yard.furnish()
        agent = HandAgent(yard)
        await agent.join()
        token = (await yard.access.CreateToken(access_pb.CreateTokenRequest(user="ann"))).token
        await yard.access.BindRole(access_pb.BindRoleRequest(user="ann", role="submitter"))
        async with grpc.aio.insecure_channel(yard.other_address) as channel:
            bearer = (("authorization", f"Bearer {token}"),)
            await JobServiceStub(channel).SubmitJob(submission("hers", submitted_by="bob"), metadata=bearer)
        assert [spec.owner for spec in await agent.hear_starts()] == ["ann"]
        await yard.submit(submitted_by="bob")
        assert [spec.owner for spec in await agent.hear_starts()] == [""]


async def test_child_is_told_its_index_and_its_gpus(yard: MemoryController) -> None:
    gpus = [host_pb2.Gpu(uuid=f"GPU-{i}", model="A") for i in range(2)]
    agent = HandAgent(yard, gpus=gpus, capacity=amounts(8000, 1024, gpu_millis=2000))
    await agent.join()
    array = await yard.submit(array_size=2, container=container(resources=amounts(gpu_millis=1000)))
    specs = await agent.hear_starts(2)
    assert [s.job_id for s in specs] == [f"{array}:0", f"{array}:1"]
    assert [s.environment["AWS_BATCH_JOB_ARRAY_INDEX"] for s in specs] == ["0", "1"]
    assert {s.environment["AWS_BATCH_JOB_ARRAY_SIZE"] for s in specs} == {"2"}
    assert sorted((g.uuid, g.millis) for s in specs for g in s.gpus) == [("GPU-0", 1000), ("GPU-1", 1000)]


async def test_reports_carry_a_job_through_its_states(yard: MemoryController) -> None:
    agent = HandAgent(yard)
    await agent.join()
    job_id = await yard.submit()
    (spec,) = await agent.hear_starts()
    assert await yard.state(job_id) == "STARTING"
    await agent.report(running(spec.attempt_id))
    await agent.hear_nothing()
    assert await yard.state(job_id) == "RUNNING"
    await agent.report(ended(spec.attempt_id, 7, reason="it said so"))
    assert list((await agent.hear("ack")).attempt_ids) == [spec.attempt_id]
    job = await yard.describe(job_id)
    assert (job.state, job.status_reason) == (job_pb2.JOB_STATE_FAILED, "Essential container in task exited")
    assert (job.exit_code, job.started_at_ms, job.stopped_at_ms) == (7, 1_000, 2_000)
    (attempt,) = job.attempts
    assert (attempt.host_name, attempt.reason, attempt.exit_code, attempt.epoch) == ("alpha", "it said so", 7, 1)


async def test_which_image_ran_is_told_from_the_start_and_kept(yard: MemoryController) -> None:
    agent = HandAgent(yard)
    await agent.join()
    digest, job_id = "sha256:" + "0" * 64, await yard.submit()
    (spec,) = await agent.hear_starts()
    report = running(spec.attempt_id)
    report.image_digest = digest
    await agent.report(report)
    await agent.hear_nothing()
    assert [attempt.image_digest for attempt in (await yard.describe(job_id)).attempts] == [digest]
    await agent.report(ended(spec.attempt_id))  # by an agent that was started anew meanwhile
    await agent.hear("ack")
    assert [attempt.image_digest for attempt in (await yard.describe(job_id)).attempts] == [digest]
    short_id = await yard.submit()
    (spec,) = await agent.hear_starts()
    await agent.report(ended(spec.attempt_id, image_digest=digest + "\x1b[2J"))
    await agent.hear("ack")
    (attempt,) = (await yard.describe(short_id)).attempts
    assert attempt.image_digest.startswith(digest)
    assert "\x1b" not in attempt.image_digest


async def test_repeated_reports_change_nothing_and_are_acknowledged_again(yard: MemoryController) -> None:
    agent = HandAgent(yard)
    await agent.join()
    job_id = await yard.submit(retry_strategy=definition_pb.RetryStrategy(attempts=3))
    (spec,) = await agent.hear_starts()
    end = ended(spec.attempt_id, 1)
    await agent.report(running(spec.attempt_id), running(spec.attempt_id), end, end)
    assert list((await agent.hear("ack")).attempt_ids) == [spec.attempt_id] * 2
    (second,) = await agent.hear_starts()
    before = yard.stored()
    await agent.report(end)
    assert list((await agent.hear("ack")).attempt_ids) == [spec.attempt_id]
    assert yard.stored() == before
    assert [a.number for a in (await yard.describe(job_id)).attempts] == [1, 2]
    assert second.attempt_id == f"{job_id}#2"


async def test_report_of_an_attempt_that_is_not_the_hosts_own_is_revoked(yard: MemoryController) -> None:
    alpha, beta = HandAgent(yard), HandAgent(yard, OTHER_ID, "beta", capacity=amounts(100, 100))
    await alpha.join()
    await beta.join()
    job_id = await yard.submit()
    (spec,) = await alpha.hear_starts()
    await beta.report(running(spec.attempt_id))
    assert (await beta.hear("revoke")).attempt_id == spec.attempt_id
    await beta.report(ended(spec.attempt_id, 0))
    assert list((await beta.hear("ack")).attempt_ids) == [spec.attempt_id], "it may forget it"
    assert await yard.state(job_id) == "STARTING", "and nobody believes it"
    await beta.report(running("nonsense"), pb.AttemptReport(attempt_id="x", phase=99))  # type: ignore[arg-type]
    assert (await beta.hear("revoke")).attempt_id == "nonsense"
    await beta.hear_nothing()


async def test_end_is_acknowledged_only_after_it_is_stored(yard: MemoryController) -> None:
    """A commit that fails ends the term: no acknowledgement, and the agent says it again."""
    agent = HandAgent(yard)
    await agent.join()
    job_id = await yard.submit()
    (spec,) = await agent.hear_starts()
    yard.data.cut_next_commit(0)
    end = ended(spec.attempt_id, 0)
    await agent.report(end)
    assert await agent.read() is None, "the stream ended without an acknowledgement"
    await yard.until_leads()
    assert await yard.state(job_id) == "STARTING"
    again = HandAgent(yard)
    assert (await again.join([end], epoch=1)).epoch == 2
    assert list((await again.hear("ack")).attempt_ids) == [spec.attempt_id]
    job = await yard.describe(job_id)
    assert (job.state, len(job.attempts)) == (job_pb2.JOB_STATE_SUCCEEDED, 1)


async def test_start_that_was_lost_is_sent_again(yard: MemoryController) -> None:
    agent = HandAgent(yard)
    await agent.join()
    await yard.submit()
    (spec,) = await agent.hear_starts()
    agent.drop()
    again = HandAgent(yard)
    await again.join()
    assert await again.hear_starts() == [spec]
    third = HandAgent(yard)
    await third.join([pb.AttemptReport(attempt_id=spec.attempt_id, phase=pb.ATTEMPT_PHASE_STARTING)])
    await third.hear_nothing()


async def test_running_attempt_that_the_host_no_longer_knows_is_lost(yard: MemoryController) -> None:
    agent = HandAgent(yard)
    await agent.join()
    strategy = definition_pb.RetryStrategy(infrastructure_retries=0)
    job_id = await yard.submit(retry_strategy=strategy)
    (spec,) = await agent.hear_starts()
    await agent.report(running(spec.attempt_id))
    await agent.hear_nothing()
    again = HandAgent(yard)
    await again.join()
    assert (await again.hear("stop")).attempt_id == spec.attempt_id
    assert (await yard.describe(job_id)).state == job_pb2.JOB_STATE_RUNNING
    never = ended(spec.attempt_id, None, started_at_ms=0, cause=attempt_pb2.END_CAUSE_STOPPED)
    await again.report(never)
    await again.hear("ack")
    job = await yard.describe(job_id)
    assert (job.state, job.status_reason) == (
        job_pb2.JOB_STATE_FAILED,
        f"Host EC2 (instance {instance_id(HOST_ID)}) terminated.",
    )


async def test_stop_that_was_lost_is_sent_again(yard: MemoryController) -> None:
    agent = HandAgent(yard)
    await agent.join()
    job_id = await yard.submit()
    (spec,) = await agent.hear_starts()
    await agent.report(running(spec.attempt_id))
    await agent.hear_nothing()
    agent.drop()
    await yard.jobs.TerminateJob(job_pb2.TerminateJobRequest(job_id=job_id, reason="enough"))
    again = HandAgent(yard)
    await again.join([running(spec.attempt_id)])
    assert (await again.hear("stop")).attempt_id == spec.attempt_id


async def test_second_session_of_a_host_replaces_the_first(yard: MemoryController) -> None:
    first, second = HandAgent(yard), HandAgent(yard)
    await first.join()
    await second.join()
    assert await first.read() is None
    assert await first.code() == "OK"
    assert (await yard.describe_host()).host.state == host_pb2.HOST_STATE_READY, (
        "the end of the first is not the host's"
    )
    await yard.submit()
    await second.hear_starts()


async def test_of_two_agents_with_one_identity_the_first_stays(yard: MemoryController) -> None:
    """As after a state folder was copied; the second is told so in one sentence."""
    first, second = HandAgent(yard, nonce="one"), HandAgent(yard, nonce="two")
    await first.join()
    for _ in range(20):
        await second.open(second.hello())
        assert await second.code() == "ALREADY_EXISTS"
        assert await second.error() == (
            f"another agent with this one's host id {HOST_ID} is connected, from this machine: "
            "one's state folder is a copy of the other's; start this one with an empty folder"
        )
    await yard.submit()
    await first.hear_starts()
    await first.leave()
    await second.join()


async def test_host_that_is_silent_is_hung_up_on(yard: MemoryController) -> None:
    agent = HandAgent(yard)
    await agent.join()
    host = yard.leadership.driver
    session = await host.read(lambda world: world.hosts[HostId(HOST_ID)].session)
    await host.read(lambda world: yard.sessions.carry_out(world, [EndSession(HostId(HOST_ID), session)]))
    assert (await agent.code(), await agent.error()) == ("UNAVAILABLE", "nothing was heard of this host for 45 s")


async def test_controller_that_stood_still_hangs_up_on_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its clock went on, and heartbeats of meanwhile are read only now."""
    monkeypatch.setattr(driver, "TICK_S", 0.02)
    ahead_ms, seen = 0, 0

    def late() -> Instant:
        nonlocal seen
        seen += 1
        return replace(clock(), boot_ms=clock().boot_ms + ahead_ms)

    async with MemoryController(MemoryData(), clock=late) as yard:
        await yard.until_leads()
        await HandAgent(yard).join()
        ahead_ms = 10 * 60_000
        before = seen
        async with asyncio.timeout(PATIENCE_S):
            while seen < before + 10:
                await asyncio.sleep(0.02)
        assert (await yard.describe_host()).host.state == host_pb2.HOST_STATE_READY


async def test_starts_carry_the_number_of_their_session(yard: MemoryController) -> None:
    agent = HandAgent(yard)
    welcome = await agent.join()
    await yard.submit()
    start = await agent.hear("start")
    assert (start.session, bool(start.session)) == (welcome.session, True)


async def test_start_that_was_decided_before_a_session_began_is_not_sent_over_that(yard: MemoryController) -> None:
    """Its commit may last for as long as a host needs to come back, after a reboot which makes it lose what it was told."""
    agent = HandAgent(yard)
    welcome = await agent.join()
    await yard.submit()
    await agent.hear("start")
    host_id, leader = HostId(HOST_ID), yard.leadership.driver
    claimed = await leader.read(lambda world: tuple(world.attempts.values()))
    starts = [SendStart(host_id, session, claimed) for session in (welcome.session - 1, welcome.session)]
    await leader.read(lambda world: yard.sessions.carry_out(world, starts))
    await agent.hear("start")
    await agent.hear_nothing()


async def test_suspected_host_is_named_with_its_reason(yard: MemoryController) -> None:
    agent = HandAgent(yard)
    await agent.join()
    for _ in range(3):
        await yard.submit()
    for spec in await agent.hear_starts(3):
        failed = ended(spec.attempt_id, None, cause=attempt_pb2.END_CAUSE_HOST_ERROR, started_at_ms=0, reason="no disk")
        await agent.report(failed)
        await agent.hear("ack")
    host = (await yard.describe_host()).host
    assert host.state == host_pb2.HOST_STATE_SUSPECTED
    assert host.suspicion == "starts failed on it: no disk"
    assert host.suspected_until_ms > host.last_heard_at_ms
    await yard.hosts.CordonHost(host_pb2.CordonHostRequest(host="alpha", undo=True))
    assert (await yard.describe_host()).host.state == host_pb2.HOST_STATE_READY


async def test_host_that_is_gone_is_removed(yard: MemoryController) -> None:
    agent = HandAgent(yard)
    await agent.join()
    job_id = await yard.submit()
    await agent.hear_starts()
    remove = host_pb2.RemoveHostRequest(host="alpha")
    assert (await refusal(yard.hosts.RemoveHost(remove))).reason == "HOST_CONNECTED"
    await agent.leave()
    assert (await refusal(yard.hosts.RemoveHost(remove))).reason == "HOST_BUSY"
    await yard.hosts.RemoveHost(host_pb2.RemoveHostRequest(host="alpha", force=True))
    assert not (await yard.hosts.ListHosts(host_pb2.ListHostsRequest())).hosts
    assert b"gone_at_ms" in yard.stored()[f"host/{HOST_ID}"], "for its name, which jobs tell"
    assert await yard.state(job_id) == "RUNNABLE", "its try was lost, and does not count"
    assert (await refusal(yard.hosts.RemoveHost(remove))).reason == "HOST_NOT_FOUND"


async def test_host_that_left_is_unreachable_and_gets_no_work(yard: MemoryController) -> None:
    agent = HandAgent(yard)
    await agent.join()
    await agent.leave()
    assert (await yard.describe_host()).host.state == host_pb2.HOST_STATE_UNREACHABLE
    assert await yard.state(await yard.submit()) == "RUNNABLE"


async def test_name_of_another_connected_host_is_refused(yard: MemoryController) -> None:
    first = HandAgent(yard)
    await first.join()
    before = yard.stored()
    clash = HandAgent(yard, OTHER_ID, "alpha")
    await clash.open(pb.ConnectRequest(hello=pb.Hello(host_id=OTHER_ID, facts=clash.facts)))
    assert await clash.code() == "ALREADY_EXISTS"
    assert await clash.error() == "another host named alpha is connected; give this one another --name"
    assert yard.stored() == before
    await first.leave()
    await clash.join()
    assert (await yard.describe_host("alpha")).host.id == OTHER_ID, "the connected one of two with one name"


GARBAGE = {
    "nothing": (None, "the first message of a session must be a hello"),
    "empty": (pb.ConnectRequest(), "the first message of a session must be a hello"),
    "heartbeat": (
        pb.ConnectRequest(heartbeat=pb.Heartbeat(sequence=1)),
        "the first message of a session must be a hello",
    ),
    "no id": (pb.ConnectRequest(hello=pb.Hello(facts=facts())), "hello.host_id: '' is no UUID"),
    "bad id": (
        pb.ConnectRequest(hello=pb.Hello(host_id="A" * 36, facts=facts())),
        f"hello.host_id: '{'A' * 36}' is no UUID",
    ),
    "no name": (pb.ConnectRequest(hello=pb.Hello(host_id=HOST_ID)), "hello.facts.name: '' is no host name"),
    "NUL": (
        pb.ConnectRequest(hello=pb.Hello(host_id=HOST_ID, facts=facts("a\0"))),
        "hello.facts.name: 'a\\x00' is no host name",
    ),
}


@pytest.mark.parametrize("name", GARBAGE)
async def test_session_that_begins_with_garbage_is_refused(yard: MemoryController, name: str) -> None:
    first, text = GARBAGE[name]
    before = yard.stored()
    agent = HandAgent(yard)
    await agent.open(first)
    assert await agent.code() == "INVALID_ARGUMENT"
    assert await agent.error() == text
    assert yard.stored() == before


BAD_FACTS: dict[str, tuple[dict[str, Any], str]] = {
    "a huge label": (
        {"labels": {"k": "v" * 2_000_000}},
        "facts.labels['k']: 2000000 characters; at most 256 are allowed",
    ),
    "a price below nothing": ({"price_per_hour": -0.5}, "facts.price_per_hour: -0.5 is no price: 0 or more"),
    "no price at all": ({"price_per_hour": float("nan")}, "facts.price_per_hour: nan is no price: 0 or more"),
    "a huge model": ({"cpu_model": "m" * 2_000_000}, "facts.cpu_model: 2000000 characters; at most 255 are allowed"),
    "negative capacity": (
        {"capacity": {"cpu_millis": -1}},
        "facts.capacity.cpu_millis: -1 thousandths of a vCPU is not between 0 and 100000000",
    ),
    "huge capacity": (
        {"capacity": {"memory_mib": 2**63 - 1}},
        f"facts.capacity.memory_mib: {2**63 - 1} MiB is not between 0 and 1073741824",
    ),
    "one GPU twice": (
        {"gpus": [{"uuid": "G"}, {"uuid": "G"}]},
        "facts.gpus: none may be empty, and none may stand twice",
    ),
    "101 folders": (
        {"volume_paths": [f"/{i}" for i in range(101)]},
        "facts.volume_paths: 101 given; at most 100 are allowed",
    ),
    "an empty device": ({"device_paths": [""]}, "facts.device_paths: none may be empty, and none may stand twice"),
    "a reclaim in the year 10000": (
        {"reclaimed_at_ms": 253_402_300_800_000},
        "facts.reclaimed_at_ms: 253402300800000 is not between 0 and 253402300799000",
    ),
    "17 runtimes": ({"runtimes": [str(i) for i in range(17)]}, "facts.runtimes: 17 given; at most 16 are allowed"),
}


@pytest.mark.parametrize("name", BAD_FACTS)
async def test_host_that_says_nonsense_of_itself_is_refused(yard: MemoryController, name: str) -> None:
    fields, text = BAD_FACTS[name]
    before = yard.stored()
    agent = HandAgent(yard, **fields)
    await agent.open(pb.ConnectRequest(hello=pb.Hello(host_id=HOST_ID, facts=agent.facts)))
    assert await agent.code() == "INVALID_ARGUMENT"
    assert await agent.error() == text
    assert yard.stored() == before
    await HandAgent(yard).join()


async def test_what_a_host_allows_is_stored_and_told(yard: MemoryController) -> None:
    allowed: dict[str, Any] = {
        "allows_privileged": True,
        "volume_paths": ["/srv"],
        "device_paths": ["/dev/fuse", "/dev/nvidia*"],
    }
    await HandAgent(yard, **allowed).join()
    told = (await yard.describe_host()).host.facts
    assert told.allows_privileged
    assert (list(told.volume_paths), list(told.device_paths)) == (allowed["volume_paths"], allowed["device_paths"])
    stored = b"".join(yard.stored().values())
    assert all(text in stored for text in (b'"allows_privileged":true', b'"/srv"', b'"/dev/nvidia*"'))


async def test_exit_code_that_no_process_has_counts_as_the_highest(yard: MemoryController) -> None:
    agent = HandAgent(yard)
    await agent.join()
    array = await yard.submit(array_size=2)
    for spec, code in zip(await agent.hear_starts(2), (2**31 - 1, -(2**31)), strict=True):
        await agent.finish(spec.attempt_id, code)
    for i in range(2):
        child = await yard.describe(f"{array}:{i}")
        assert (child.state, child.exit_code) == (job_pb2.JOB_STATE_FAILED, 255)


async def test_times_that_cannot_be_and_reasons_that_are_no_text_are_bounded(yard: MemoryController) -> None:
    agent = HandAgent(yard)
    await agent.join()
    job_id = await yard.submit()
    (spec,) = await agent.hear_starts()
    reason = "\x1b]0;owned\x07 and \x9b31m so on" + "." * 5000
    said = ended(spec.attempt_id, 1, started_at_ms=-5, stopped_at_ms=2**62, reason=reason)
    await agent.report(running(spec.attempt_id), said)
    await agent.hear("ack")
    job = await yard.describe(job_id)
    (attempt,) = job.attempts
    assert attempt.started_at_ms >= 0
    assert attempt.stopped_at_ms <= clock().wall_ms + limits.CLOCK_AHEAD_MS_MAX
    assert attempt.reason.startswith("\ufffd]0;owned\ufffd and \ufffd31m so on...")
    assert len(attempt.reason) == limits.CONTAINER_REASON_LENGTH_MAX
    assert not any(b"\x1b" in value or b"\\u001b" in value for value in yard.stored().values())


BAD_USAGE: dict[str, host_pb2.HostUsage] = {
    "far too many GPUs": host_pb2.HostUsage(gpus=[host_pb2.Gpu(uuid=str(i)) for i in range(100_000)]),
    "a GPU of 3 MB": host_pb2.HostUsage(gpus=[host_pb2.Gpu(model="m" * 3_000_000)]),
    "a GPU with an escape": host_pb2.HostUsage(gpus=[host_pb2.Gpu(fault="\x1b[2J")]),
    "less than nothing": host_pb2.HostUsage(memory_used_mib=-1),
    "more than there can be": host_pb2.HostUsage(disk_free_mib=2**62),
}


@pytest.mark.parametrize("name", BAD_USAGE)
async def test_host_that_says_nonsense_of_its_use_is_refused(yard: MemoryController, name: str) -> None:
    agent = HandAgent(yard)
    await agent.join()
    await agent.beat(usage=BAD_USAGE[name])
    assert await agent.code() == "INVALID_ARGUMENT"
    assert not (await yard.describe_host()).host.usage.gpus


async def test_what_is_not_known_of_a_hosts_use_is_not_kept(yard: MemoryController) -> None:
    agent = HandAgent(yard)
    await agent.join()
    padded = host_pb2.HostUsage(gpus=[host_pb2.Gpu(uuid="G")])
    padded.gpus[0].MergeFromString(b"\xfa\x7f" + b"\x80\x80\x80\x01" + b"x" * (2 << 20))  # field 2047, 2 MiB
    await agent.beat(usage=padded)
    await agent.hear("heartbeat_ack")
    assert (await yard.describe_host()).host.ByteSize() < 10_000


async def test_thousands_of_invented_hosts_hide_no_host_and_are_bounded(
    yard: MemoryController, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each says as much of itself as it may: the list still comes, in pages that a client takes."""
    monkeypatch.setattr(limits, "HOSTS_MAX", 6)
    gpus = [{"uuid": str(i), "model": "m" * 255, "fault": "f" * 255} for i in range(1000)]
    for i in range(6):
        await HandAgent(yard, f"00000000-0000-4000-8000-{i:012}", f"host-{i:02}", gpus=gpus).join()
    surplus = HandAgent(yard, "00000000-0000-4000-8000-999999999999", "one-more")
    await surplus.open(pb.ConnectRequest(hello=pb.Hello(host_id=surplus.host_id, facts=surplus.facts)))
    assert await surplus.code() == "RESOURCE_EXHAUSTED"
    names, request = [], host_pb2.ListHostsRequest(page_size=1000)
    while True:
        page = await yard.hosts.ListHosts(request)
        assert page.ByteSize() < PAGE_BYTES_MAX + (1 << 20)
        names += [host.facts.name for host in page.hosts]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert names == [f"host-{i:02}" for i in range(6)]


async def test_garbage_later_on_is_ignored(yard: MemoryController) -> None:
    agent = HandAgent(yard)
    await agent.join()
    before = yard.stored()
    await agent._call.write(pb.ConnectRequest())
    await agent._call.write(pb.ConnectRequest(hello=pb.Hello(host_id=OTHER_ID)))
    await agent.report()
    await agent.report(pb.AttemptReport())
    await agent.hear_nothing()
    assert yard.stored() == before


async def test_heartbeat_brings_usage_and_new_facts(yard: MemoryController) -> None:
    agent = HandAgent(yard)
    await agent.join()
    usage = host_pb2.HostUsage(cpu_percent=50, memory_used_mib=100, disk_free_mib=7, wall_ms=clock().wall_ms)
    before = yard.stored()
    await agent.beat(usage=usage)
    assert (await agent.hear("heartbeat_ack")).sequence == 1
    host = (await yard.describe_host()).host
    assert host.usage == usage
    assert host.last_heard_at_ms > 0
    assert yard.stored() == before, "what a host is doing is not stored"
    await agent.beat(facts=facts(zone="east"))
    await agent.hear("heartbeat_ack")
    assert (await yard.describe_host()).host.facts.zone == "east"
