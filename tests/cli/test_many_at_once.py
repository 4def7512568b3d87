"""Several children by one word, logs of many, lists that are sorted, a yard at one look."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.cli.conftest import Run
from tests.sdk.yard import Yard

from batchyard.cli import checkup
from batchyard.v1.compute_environment_pb2 import RESOURCE_STATE_ENABLED, ComputeEnvironment
from batchyard.v1.host_pb2 import HOST_STATE_READY, Host, HostFacts, HostUsage, StoreRoom, SummarizeHostsResponse
from batchyard.v1.job_queue_pb2 import JobQueue


def test_ranges_of_children_are_jobs(run: Run, yard: Yard) -> None:
    array = yard.submit(array_size=9)
    found = json.loads(run("describe", "-o", "json", f"{array}:1-3,8").out)
    assert [job["id"] for job in found] == [f"{array}:{i}" for i in (1, 2, 3, 8)]
    assert run("cancel", f"{array}:0-1").code == 0
    assert run("describe", "-o", "name", "last:0-1").code == 3
    wrong = run("describe", f"{array}:3-1")
    assert (wrong.code, wrong.out) == (3, "")
    assert "'3-1' is an empty range" in wrong.err
    assert "names 999999 children; at most 10000 are taken at once" in run("describe", f"{array}:1-999999").err


def test_logs_of_many_have_their_job_before_each_line(run: Run, yard: Yard) -> None:
    array = yard.submit(array_size=2)
    host = yard.join()
    yard.do(host.run(log=b"one\ntwo"))
    yard.do(host.run(log=b"three\n"))
    other = run("submit", "--vcpus", "99", "--", "x").out.strip()
    listed = run("logs", f"{array}:0-1", other)
    lines = [line.partition(" | ") for line in listed.out.splitlines()]
    assert [text for _, _, text in lines] == ["one", "two", "three"]
    assert [label.rpartition(":")[2].strip() for label, _, _ in lines] == ["0", "0", "1"]
    assert all(array.startswith(label.partition(":")[0]) for label, _, _ in lines)
    assert f"{other} has not started" in listed.err
    followed = run("logs", "-f", f"{array}:0-1")
    assert sorted(line.partition(" | ")[2] for line in followed.out.splitlines()) == ["one", "three", "two"]


def test_lists_are_sorted_as_asked(run: Run, yard: Yard) -> None:
    for name in ("b", "c", "a"):
        yard.submit(name=name)
    names = [job["name"] for job in json.loads(run("jobs", "--sort", "name", "-o", "json").out)]
    assert names == ["a", "b", "c"]
    assert [job["name"] for job in json.loads(run("jobs", "--sort", "-name", "-o", "json").out)] == ["c", "b", "a"]


def test_a_drain_is_waited_for(run: Run, yard: Yard) -> None:
    yard.submit()
    host = yard.join()
    (spec,) = yard.do(host.take())
    late = run("drain", "alpha", "--wait", "--timeout", "0.1s")
    assert (late.code, "1 attempts still run on alpha after 0.1 s" in late.err) == (124, True)
    yard.do(host.end(spec.attempt_id, 0, log=b""))
    assert "alpha is DRAINED" in run("drain", "alpha", "--wait").err


def test_doctor_finds_a_yard_well_and_top_shows_it(run: Run, yard: Yard) -> None:
    yard.join()
    yard.submit()
    told = run("doctor")
    assert told.code == 0, told.out
    assert "ok      hosts: 1 of 1 take work" in told.out
    shown = run("top", "-n", "1")
    assert (shown.code, shown.out.splitlines()[0]) == (0, "hosts  1 READY")


def found(**parts: object) -> list[tuple[str, str, str]]:
    nothing = {"version": "1", "hosts": [], "queues": [], "environments": [], "summary": SummarizeHostsResponse()}
    yard = checkup.Yard(**(nothing | parts))  # type: ignore[arg-type]
    return [(each.grade, each.about, each.text) for each in checkup.findings(yard)]


def test_what_a_new_yard_lacks_is_said() -> None:
    assert found() == [
        ("fault", "environments", "there is no compute environment"),
        ("fault", "queues", "there is no job queue"),
        ("fault", "hosts", "no host has ever joined"),
    ]


@pytest.mark.parametrize(
    ("facts", "usage", "text"),
    [
        ({"faults": ["docker does not answer"]}, {}, "docker does not answer"),
        ({"agent_version": "0"}, {}, "its agent is 0, this program 1"),
        ({}, {"wall_ms": 190_000}, "its clock is 90 s ahead"),
        ({}, {"disk_free_mib": 9}, "9 MiB are free on its disk"),
    ],
)
def test_what_a_host_lacks_is_said(facts: dict[str, object], usage: dict[str, int], text: str) -> None:
    told = HostFacts(name="a", runtimes=["process", "docker"], **facts)  # type: ignore[arg-type]
    host = Host(state=HOST_STATE_READY, facts=told, usage=HostUsage(**usage), last_heard_at_ms=100_000)  # type: ignore[arg-type]
    well = {
        "hosts": [host],
        "queues": [JobQueue(name="q", state=RESOURCE_STATE_ENABLED)],
        "environments": [ComputeEnvironment(name="e", state=RESOURCE_STATE_ENABLED)],
    }
    assert [each for each in found(**well) if each[0] != "ok"] == [("warning", "host a", text)]


def summary(**store: Any) -> SummarizeHostsResponse:
    return SummarizeHostsResponse(store=StoreRoom(**store))


def test_a_store_that_fills_is_told_with_what_helps() -> None:
    said = found(summary=summary(used_bytes=1 << 20, quota_bytes=2 << 30))
    assert said[0] == ("ok", "store", "1 of at most 2048 MiB")
    said = found(summary=summary(quota_bytes=1, is_tight=True, fault="it is nearly full; do this"))
    assert said[0] == ("fault", "store", "it is nearly full; do this")
