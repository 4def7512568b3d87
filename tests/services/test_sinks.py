"""SinkService: sinks, and relays that pull what they want, over terms, bounds and other relays."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from batchyard.v1 import host_pb2, job_pb2
from batchyard.v1 import sink_pb2 as pb
from batchyard_controller import trail as trail_module
from batchyard_controller.trail import TrailBounds

from .controller import MemoryController, queue, refusal
from .hand_agent import HandAgent


class Relay:
    """A relay that is played by hand."""

    def __init__(self, yard: MemoryController, name: str = "relay", sink: str = "s") -> None:
        self.stub = yard.sinks
        self.name, self.sink = name, sink

    async def create(self, **fields: Any) -> pb.CreateSinkResponse:
        request = pb.CreateSinkRequest(**{"name": self.sink, "url": "https://a.example/x", **fields})
        answer = await self.stub.CreateSink(request)
        assert isinstance(answer, pb.CreateSinkResponse)
        return answer

    async def pull(self, **fields: Any) -> pb.PullEventsResponse:
        answer = await self.stub.PullEvents(pb.PullEventsRequest(name=self.sink, relay=self.name, **fields))
        assert isinstance(answer, pb.PullEventsResponse)
        return answer

    async def shown(self) -> pb.Sink:
        (sink,) = (await self.stub.ListSinks(pb.ListSinksRequest())).sinks
        assert isinstance(sink, pb.Sink)
        return sink


async def test_a_sink_is_told_what_happens_from_now_on_and_again_until_it_is_delivered(yard: MemoryController) -> None:
    await yard.submit()
    relay = Relay(yard)
    made = await relay.create()
    assert made.secret.startswith("whsec_")
    first = await yard.submit()
    for _ in range(2):
        pulled = await relay.pull()
        assert [event.job_id for event in pulled.events] == [first]
        assert pulled.secret == made.secret
    second = await yard.submit()
    pulled = await relay.pull(delivered=pulled.through, count=1)
    assert [event.job_id for event in pulled.events] == [second]
    shown = await relay.shown()
    assert (shown.delivered, shown.lag, shown.relay) == (1, 1, "relay")


async def test_what_was_delivered_outlives_the_term_and_what_was_not_comes_again(yard: MemoryController) -> None:
    relay = Relay(yard)
    await relay.create()
    ids = [await yard.submit() for _ in range(3)]
    pulled = await relay.pull(limit=1)
    assert [event.job_id for event in pulled.events] == ids[:1]
    await relay.pull(delivered=pulled.through, count=1, error="it broke")
    await relay.pull()  # it says that it is still there
    yard.data.depose()
    await yard.until_deposed()
    await yard.until_leads()
    assert (await relay.shown()).error == "it broke"
    other = Relay(yard, "other")
    pulled = await other.pull()
    assert [event.job_id for event in pulled.events] == ids[1:]
    await other.pull(delivered=pulled.through, count=2)
    shown = await relay.shown()
    assert (shown.delivered, shown.lag, shown.error, shown.relay) == (3, 0, "", "other")


async def test_one_relay_has_a_sink(yard: MemoryController) -> None:
    relay, other = Relay(yard), Relay(yard, "other")
    await relay.create()
    await relay.pull()
    assert (await refusal(other.pull())).reason == "SINK_HELD"
    assert (await refusal(Relay(yard, sink="none").pull())).reason == "SINK_NOT_FOUND"


async def test_a_sink_gets_what_it_wants_alone(yard: MemoryController) -> None:
    agent = HandAgent(yard)
    await agent.join()
    await yard.hosts.CordonHost(host_pb2.CordonHostRequest(host="alpha"))
    await yard.queues.CreateJobQueue(queue("other"))
    relays = {name: Relay(yard, sink=name) for name in ("queue", "ends", "all", "none", "failed")}
    await relays["queue"].create(queues=["other"])
    await relays["ends"].create()
    await relays["all"].create(children=pb.SINK_CHILDREN_ALL)
    await relays["none"].create(children=pb.SINK_CHILDREN_NONE)
    await relays["failed"].create(states=[job_pb2.JOB_STATE_FAILED])
    array = await yard.submit(array_size=2)
    single = await yard.submit(queue="other")
    await yard.jobs.TerminateJob(job_pb2.TerminateJobRequest(job_id=array, reason="r"))
    await yard.hosts.DrainHost(host_pb2.DrainHostRequest(host="alpha"))
    told = {name: [event.what for event in (await relay.pull()).events] for name, relay in relays.items()}
    whole = ["CHILD_RUNNABLE", "RELEASED", "TERMINATED", "CHILDREN_ENDED", "DRAINED"]
    assert told == {
        "queue": ["RELEASED"],
        "ends": whole,
        "all": whole,
        "none": [each for each in whole if each != "TERMINATED"],
        "failed": ["TERMINATED", "CHILDREN_ENDED"],
    }
    assert [event.children for event in (await relays["all"].pull()).events if event.what == "TERMINATED"] == [2]
    assert [event.job_id for event in (await relays["queue"].pull()).events] == [single]


async def test_what_is_dropped_before_it_was_delivered_is_told(
    yard: MemoryController, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay = Relay(yard)
    await relay.create()
    monkeypatch.setattr(trail_module, "_TRIM_MIN", 1)
    monkeypatch.setattr(yard.leadership.driver.trail, "_bounds", TrailBounds(moves_max=1, backlog_max=2))
    ids = [await yard.submit() for _ in range(5)]
    assert (await relay.shown()).has_lost
    pulled = await relay.pull()
    assert pulled.lost_from
    assert pulled.lost_to
    assert [event.job_id for event in pulled.events] == ids[-2:]
    pulled = await relay.pull(delivered=pulled.through, count=3)
    assert not pulled.lost_to
    assert not (await relay.shown()).has_lost


async def test_a_sink_that_is_off_or_gone_waits(yard: MemoryController) -> None:
    relay = Relay(yard)
    await relay.create()
    await relay.pull(error="410", is_gone=True)
    job_id = await yard.submit()
    assert (await relay.shown()).is_disabled
    await relay.stub.UpdateSink(pb.UpdateSinkRequest(name="s"))
    assert [event.job_id for event in (await relay.pull()).events] == [job_id]
    await relay.stub.DeleteSink(pb.DeleteSinkRequest(name="s"))
    assert not (await relay.stub.ListSinks(pb.ListSinksRequest())).sinks


async def test_secrets_of_sinks_are_stored_sealed_and_rekeyed(yard: MemoryController) -> None:
    relay = Relay(yard)
    secret = "whsec_" + base64.b64encode(b"a canary that nobody may see ever").decode()
    await relay.create(secret=secret)
    stored = b"".join(yard.data.pairs.values())
    assert secret.encode() not in stored
    assert (await relay.pull()).secret == secret
