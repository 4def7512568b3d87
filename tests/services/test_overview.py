"""What is told of a yard as a whole: hosts by state and what they hold, and search."""

from __future__ import annotations

import pytest

from batchyard.v1 import host_pb2, search_pb2, usage_pb2
from batchyard_controller.core.views import usage

from .controller import MemoryController, definition
from .hand_agent import OTHER_ID, HandAgent


async def test_hosts_are_counted_by_state_with_what_they_hold(yard: MemoryController) -> None:
    empty = await yard.hosts.SummarizeHosts(host_pb2.SummarizeHostsRequest())
    assert (dict(empty.hosts_by_state), empty.capacity.cpu_millis) == ({}, 0)
    alpha, omega = HandAgent(yard), HandAgent(yard, OTHER_ID, "omega")
    await alpha.join()
    await omega.join()
    await yard.submit()
    (listed,) = [host for host in (await yard.hosts.ListHosts(host_pb2.ListHostsRequest())).hosts if host.attempts]
    await yard.hosts.CordonHost(host_pb2.CordonHostRequest(host="omega"))
    told = await yard.hosts.SummarizeHosts(host_pb2.SummarizeHostsRequest())
    states = {"READY": 1, "CORDONED": 1}
    assert dict(told.hosts_by_state) == states
    assert told.allocated == listed.allocated
    assert told.capacity.cpu_millis == 2 * listed.facts.capacity.cpu_millis
    await omega.leave()
    told = await yard.hosts.SummarizeHosts(host_pb2.SummarizeHostsRequest())
    assert dict(told.hosts_by_state) == {"READY": 1, "UNREACHABLE": 1}
    assert told.capacity.cpu_millis == listed.facts.capacity.cpu_millis, "of what can be reached"


async def test_search_finds_things_of_every_kind(yard: MemoryController) -> None:
    await yard.definitions.RegisterJobDefinition(definition("default-d"))
    await HandAgent(yard, name="default-h").join()
    job_id = await yard.submit("default-j")
    told = await yard.searching.Search(search_pb2.SearchRequest(text="Default"))
    assert [(job.id, job.name) for job in told.jobs] == [(job_id, "default-j")]
    assert (list(told.queues), list(told.compute_environments)) == (["default"], ["default"])
    assert list(told.job_definitions) == ["default-d"]
    assert [host.name for host in told.hosts] == ["default-h"]
    assert not told.is_partial
    for _ in range(3):
        await yard.submit("default-j")
    told = await yard.searching.Search(search_pb2.SearchRequest(text="default", limit=2))
    assert (len(told.jobs), told.is_partial) == (2, True)


async def test_usage_is_summed_page_by_page(yard: MemoryController, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever adds up what the pages say has it all."""
    agent = HandAgent(yard)
    await agent.join()
    for _ in range(3):
        await yard.submit()
        (spec,) = await agent.hear_starts()
        await agent.finish(spec.attempt_id)
    monkeypatch.setattr(usage, "LOOKS_MAX", 2)
    by = [usage_pb2.USAGE_KEY_USER, usage_pb2.USAGE_KEY_QUEUE]
    first = await yard.usage.SumUsage(usage_pb2.SumUsageRequest(by=by))
    assert [list(each.keys) for each in first.sums] == [["administrator", "default"]]
    second = await yard.usage.SumUsage(usage_pb2.SumUsageRequest(by=by, page_token=first.next_page_token))
    assert [page.sums[0].attempts for page in (first, second)] == [2, 1]
    assert not second.next_page_token
