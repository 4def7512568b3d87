"""Hosts as users see and mark them: listed, cordoned, drained, removed."""

from __future__ import annotations

import asyncio
from typing import Any

from batchyard.arns import instance_id
from batchyard.v1 import attempt_pb2, host_pb2
from batchyard.v1 import job_definition_pb2 as definition_pb
from batchyard_controller.app import clock

from .controller import PATIENCE_S, MemoryController
from .hand_agent import HOST_ID, HandAgent, ended, running


async def test_hosts_are_listed_in_name_order_and_pages(yard: MemoryController) -> None:
    names = ("delta", "alpha", "charlie", "bravo")
    for i, name in enumerate(names):
        await HandAgent(yard, f"00000000-0000-4000-8000-00000000000{i}", name).join()
    request, seen = host_pb2.ListHostsRequest(page_size=3), []
    while True:
        page = await yard.hosts.ListHosts(request)
        seen += [host.facts.name for host in page.hosts]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert seen == sorted(names)


async def test_host_is_described_by_id_and_by_name_with_its_attempts(yard: MemoryController) -> None:
    told: dict[str, Any] = {
        "host_type": "m5.large",
        "purchase_option": "on-demand",
        "zone": "z",
        "price_per_hour": 0.25,
    }
    agent = HandAgent(yard, labels={"rack": "7"}, **told)
    await agent.join()
    job_id = await yard.submit()
    (spec,) = await agent.hear_starts()
    by_name, by_id = await yard.describe_host(), await yard.describe_host(HOST_ID)
    assert by_name == by_id
    assert (list(by_id.attempt_ids), list(by_id.job_ids)) == ([spec.attempt_id], [job_id])
    host = by_id.host
    assert (host.id, host.state, host.attempts) == (HOST_ID, host_pb2.HOST_STATE_READY, 1)
    assert (host.allocated.cpu_millis, host.allocated.memory_mib) == (1000, 128)
    assert host.facts == agent.facts


async def test_cordon_gives_no_new_work_and_is_taken_back(yard: MemoryController) -> None:
    agent = HandAgent(yard)
    await agent.join()
    host = (await yard.hosts.CordonHost(host_pb2.CordonHostRequest(host="alpha"))).host
    assert (host.state, host.cordoned, host.draining) == (host_pb2.HOST_STATE_CORDONED, True, False)
    job_id = await yard.submit()
    await agent.hear_nothing()
    told = (await yard.describe(job_id)).waiting_reason
    waits = "waits for a host: none of the 1 hosts of default with runtime process takes work now"
    assert told == f"{waits}: alpha is cordoned"
    host = (await yard.hosts.CordonHost(host_pb2.CordonHostRequest(host=HOST_ID, undo=True))).host
    assert host.state == host_pb2.HOST_STATE_READY
    await agent.hear_starts()


async def test_drained_host_is_empty_and_stays_so_over_a_new_term(yard: MemoryController) -> None:
    agent = HandAgent(yard)
    await agent.join()
    await yard.submit()
    (spec,) = await agent.hear_starts()
    host = (await yard.hosts.DrainHost(host_pb2.DrainHostRequest(host="alpha"))).host
    assert (host.state, host.attempts, host.draining) == (host_pb2.HOST_STATE_DRAINING, 1, True)
    await agent.finish(spec.attempt_id)
    assert (await yard.describe_host()).host.state == host_pb2.HOST_STATE_DRAINED
    yard.data.depose()
    await yard.until_deposed()
    await yard.until_leads()
    assert (await yard.describe_host()).host.state == host_pb2.HOST_STATE_UNREACHABLE, "until it says hello"
    again = HandAgent(yard)
    await again.join()
    assert (await yard.describe_host()).host.state == host_pb2.HOST_STATE_DRAINED
    await yard.hosts.CordonHost(host_pb2.CordonHostRequest(host="alpha", undo=True))
    assert (await yard.describe_host()).host.state == host_pb2.HOST_STATE_READY


async def test_many_hosts_share_an_array_without_over_commitment(yard: MemoryController) -> None:
    agents = [HandAgent(yard, f"00000000-0000-4000-8000-00000000000{i}", f"h{i}") for i in range(3)]
    for agent in agents:
        await agent.join()
    array = await yard.submit(array_size=20)

    async def work(agent: HandAgent) -> int:
        done = 0
        while await yard.state(array) == "PENDING":
            message = await agent.read()
            assert message is not None
            if message.WhichOneof("message") != "start":
                continue
            host = (await yard.describe_host(agent.host_id)).host
            assert host.attempts <= 4, "four vCPUs"
            for spec in message.start.attempts:
                await agent.report(running(spec.attempt_id), ended(spec.attempt_id, 0))
                done += 1
        return done

    workers = [asyncio.create_task(work(agent)) for agent in agents]
    async with asyncio.timeout(PATIENCE_S):
        while await yard.state(array) == "PENDING":
            await asyncio.wait(workers, timeout=0.05, return_when=asyncio.FIRST_COMPLETED)
    assert await yard.state(array) == "SUCCEEDED"
    for agent in agents:
        await agent.beat()
    done = await asyncio.gather(*workers)
    assert sum(done) == 20
    assert min(done) > 0


async def test_reclaimed_host_says_when_and_its_attempts_go_elsewhere(yard: MemoryController) -> None:
    """Announced with a heartbeat; a new leader reads it in the store, and the host's next boot ends it."""
    agent = HandAgent(yard, name="alpha", purchase_option="on-demand")
    await agent.join()
    job_id = await yard.submit(retry_strategy=definition_pb.RetryStrategy(spot_attempts=2))
    (spec,) = await agent.hear_starts()
    await agent.report(running(spec.attempt_id))
    agent.facts.reclaimed_at_ms = 4_000_000_000_000
    await agent.beat(facts=agent.facts)
    await agent.hear("heartbeat_ack")
    host = (await yard.describe_host()).host
    assert (host.state, host.reclaimed_at_ms) == (host_pb2.HOST_STATE_RECLAIMED, 4_000_000_000_000)
    waiting = await yard.submit()
    told = (await yard.describe(waiting)).waiting_reason
    assert told.endswith("takes work now: alpha is reclaimed at 2096-10-02T07:06:40Z")
    yard.data.depose()
    await yard.until_deposed()
    await yard.until_leads()
    assert (await yard.describe_host()).host.reclaimed_at_ms == 4_000_000_000_000
    booted = HandAgent(yard, name="alpha", boot_id="boot-2")
    lost = ended(spec.attempt_id, None, cause=attempt_pb2.END_CAUSE_LOST, reason="The host was restarted")
    await booted.join([lost])
    assert list((await booted.hear("ack")).attempt_ids) == [spec.attempt_id]
    again = await booted.hear_starts(2)
    assert {attempt.job_id for attempt in again} == {job_id, waiting}
    first = (await yard.describe(job_id)).attempts[0]
    assert first.cause == attempt_pb2.END_CAUSE_RECLAIMED
    assert first.status_reason == f"Host EC2 (instance {instance_id(HOST_ID)}) terminated."
    assert (await yard.describe_host()).host.state == host_pb2.HOST_STATE_READY


async def test_operator_reclaims_a_host_and_takes_it_back(yard: MemoryController) -> None:
    agent = HandAgent(yard)
    await agent.join()
    job_id = await yard.submit()
    (spec,) = await agent.hear_starts()
    await agent.report(running(spec.attempt_id))
    host = (await yard.hosts.ReclaimHost(host_pb2.ReclaimHostRequest(host="alpha", delay_s=3600))).host
    assert host.state == host_pb2.HOST_STATE_RECLAIMED
    assert 3590_000 < host.reclaimed_at_ms - clock().wall_ms <= 3600_000
    host = (await yard.hosts.ReclaimHost(host_pb2.ReclaimHostRequest(host="alpha", undo=True))).host
    assert (host.state, host.reclaimed_at_ms) == (host_pb2.HOST_STATE_READY, 0)
    await yard.hosts.ReclaimHost(host_pb2.ReclaimHostRequest(host="alpha"))
    assert (await agent.hear("stop")).attempt_id == spec.attempt_id
    await agent.report(ended(spec.attempt_id, 143, cause=attempt_pb2.END_CAUSE_STOPPED))
    await agent.hear("ack")
    assert await yard.state(job_id) == "RUNNABLE"
