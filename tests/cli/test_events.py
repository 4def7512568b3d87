"""What ``events`` and ``sink`` say, as tables, as names and as JSON."""

from __future__ import annotations

import json

from tests.cli.conftest import Run
from tests.sdk.yard import Yard

from batchyard import container


def test_events_tell_of_a_job_a_host_or_all(run: Run, yard: Yard) -> None:
    yard.join(name="box")
    job_id = yard.submit(container=container(["true"], vcpus=1000))
    run("cancel", job_id, "--reason", "not now")
    lines = [line[26:] for line in run("events", job_id[:20]).out.splitlines()]
    assert lines == [
        f"{job_id}  SUBMITTED -> RUNNABLE: it waits for nothing but a host",
        f"{job_id}  RUNNABLE -> FAILED: it was cancelled before it started; not now",
    ]
    assert [line[26:] for line in run("events", "box").out.splitlines()] == ["box  JOINED: its agent connected"]
    told = json.loads(run("events", "-o", "json").out)
    assert [event["what"] for event in told] == ["JOINED", "RELEASED", "CANCELLED"]
    assert (told[2]["state"], told[2]["words"]) == ("FAILED", "not now")
    assert run("events", "--since", "1m", "-o", "name").out.split() == [event["cursor"] for event in told]
    assert "nobody" in run("events", "nobody").err


def test_the_last_ones_alone(run: Run, yard: Yard) -> None:
    ids = [yard.submit(container=container(["true"], vcpus=1000)) for _ in range(3)]
    told = json.loads(run("events", "-n", "2", "-o", "json").out)
    assert [event["job_id"] for event in told] == ids[1:]
    assert len(run("events", ids[0], "--last", "9", "-o", "name").out.split()) == 1
    assert run("events", "-n", "0").code == 2


def test_sinks_are_made_listed_switched_and_deleted(run: Run, yard: Yard) -> None:
    assert run("sink", "create", "file", "--url", "file:a.jsonl", "-q", "default", "--state", "FAILED").code == 0
    assert run("sink", "create", "hook", "--url", "https://a.example/x", "--children", "all").out.startswith("whsec_")
    yard.submit(container=container(["true"], vcpus=1000))
    rows = [line.split()[:3] for line in run("sink", "list").out.splitlines()]
    assert rows == [["NAME", "STATE", "DELIVERED"], ["file", "NO", "RELAY"], ["hook", "NO", "RELAY"]]
    run("sink", "disable", "hook")
    listed = json.loads(run("sink", "list", "-o", "json").out)
    assert [(each["name"], each["is_disabled"], each["lag"]) for each in listed] == [
        ("file", False, 1),
        ("hook", True, 1),
    ]
    assert (listed[0]["queues"], listed[0]["states"], listed[1]["children"]) == (["default"], ["FAILED"], "ALL")
    run("sink", "enable", "hook")
    run("sink", "delete", "file")
    assert run("sink", "list", "-o", "name").out.split() == ["hook"]
    refused = run("sink", "create", "hook", "--url", "file:b")
    assert (refused.code, "exists already" in refused.err) == (3, True)
