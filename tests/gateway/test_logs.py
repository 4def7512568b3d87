"""CloudWatch Logs as tools read it: boto3 against the gateway, the logs of real processes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.surroundings import ACCOUNT, REGION, Around, around, texts

from batchyard import container
from batchyard.ids import task_id

GROUP = "/aws/batch/job"
MISSING = "019a0000-0000-7000-8000-000000000000_1"


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Around]:
    async with around(tmp_path) as opened:
        yield opened


async def test_a_log_is_paged_forward_and_backward_until_tokens_repeat(yard: Around) -> None:
    job = await yard.run("sh", "-c", "for i in 1 2 3 4 5; do echo line $i; done", definition="count")
    (attempt,) = job.attempts
    assert attempt.log_stream_name == f"count/default/{task_id(attempt.id)}"
    boto = yard.boto("logs")
    stream: dict[str, Any] = {"logGroupName": GROUP, "logStreamName": attempt.log_stream_name}

    first = await yard.call(boto.get_log_events, **stream, limit=2, startFromHead=True)
    assert texts(first) == ["line 1", "line 2"]
    assert {event["timestamp"] for event in first["events"]} == {attempt.started_at_ms}
    pages, token = [], first["nextForwardToken"]
    while True:
        page = await yard.call(boto.get_log_events, **stream, limit=2, startFromHead=True, nextToken=token)
        pages.append(texts(page))
        if page["nextForwardToken"] == token:
            break
        token = page["nextForwardToken"]
    assert pages == [["line 3", "line 4"], ["line 5"], []]

    last = await yard.call(boto.get_log_events, **stream, limit=2)
    assert texts(last) == ["line 4", "line 5"]
    assert last["nextForwardToken"] == token
    pages, token = [], last["nextBackwardToken"]
    while True:
        page = await yard.call(boto.get_log_events, **stream, limit=2, nextToken=token)
        pages.append(texts(page))
        if page["nextBackwardToken"] == token:
            break
        token = page["nextBackwardToken"]
    assert pages == [["line 2", "line 3"], ["line 1"], []]


async def test_pages_pass_over_what_was_dropped_from_the_middle_of_a_log(yard: Around) -> None:
    """One way and the other: the same lines, each once, and the cause in the last of them."""
    command = ["sh", "-c", "seq 1000000 1599999; echo cause"]
    short = container(command, image="process://", vcpus=0.25, memory="64M")
    short.log_size_mib = 1
    submitted = await yard.client.submit_job(name="talker", container=short)
    job = await yard.client.wait(submitted.job_id)
    boto = yard.boto("logs")
    stream: dict[str, Any] = {"logGroupName": GROUP, "logStreamName": job.attempts[0].log_stream_name}
    ways = []
    for from_head, name in ((True, "nextForwardToken"), (False, "nextBackwardToken")):
        pages: list[list[str]] = []
        page = await yard.call(boto.get_log_events, **stream, startFromHead=from_head)
        token = ""
        while page[name] != token:
            pages.append(texts(page))
            token = page[name]
            page = await yard.call(boto.get_log_events, **stream, startFromHead=from_head, nextToken=token)
        ways.append([line for page in (pages if from_head else reversed(pages)) for line in page])
    forward, backward = ways
    assert forward[-1] == backward[-1] == "cause"
    assert (forward[0], backward[0]) == ("1000000", "1000000")
    assert sum("dropped" in line for line in forward) == 1
    # Where the end begins in the middle of a line, only one way can tell that it is not whole.
    assert len(forward) > 100_000
    assert set(forward) - set(backward) <= {forward[forward.index(next(x for x in forward if "dropped" in x)) + 1]}
    assert len(set(backward)) == len(backward)


async def test_a_running_log_grows_behind_the_same_token(yard: Around, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job_id = await yard.submit("sh", "-c", f"printf 'one\\ntw'; while [ ! -e {gate} ]; do sleep 0.05; done; echo o")
    (attempt,) = (await yard.running(job_id)).attempts
    boto = yard.boto("logs")
    stream: dict[str, Any] = {"logGroupIdentifier": f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{GROUP}:*"}
    stream |= {"logStreamName": attempt.log_stream_name}
    while texts(page := await yard.call(boto.get_log_events, **stream)) != ["one"]:
        assert texts(page) == []
    gate.touch()
    await yard.client.wait(job_id)
    assert texts(await yard.call(boto.get_log_events, **stream, nextToken=page["nextForwardToken"])) == ["two"]


async def test_times_bound_a_stream_as_a_whole(yard: Around) -> None:
    job = await yard.run("echo", "hello")
    (attempt,) = job.attempts
    boto = yard.boto("logs")
    stream: dict[str, Any] = {"logGroupName": GROUP, "logStreamName": attempt.log_stream_name}
    at_ms = attempt.started_at_ms
    assert texts(await yard.call(boto.get_log_events, **stream, startTime=at_ms, endTime=at_ms + 1)) == ["hello"]
    for bounds in ({"startTime": at_ms + 1}, {"endTime": at_ms}):
        page = await yard.call(boto.get_log_events, **stream, **bounds)
        assert texts(page) == []
        again = await yard.call(boto.get_log_events, **stream, **bounds, nextToken=page["nextForwardToken"])
        assert again["nextForwardToken"] == page["nextForwardToken"]
    assert texts(await yard.call(boto.filter_log_events, logGroupName=GROUP, endTime=at_ms)) == ["hello"]
    assert texts(await yard.call(boto.filter_log_events, logGroupName=GROUP, startTime=at_ms + 1)) == []


async def test_streams_are_listed_by_name_by_prefix_and_by_last_event(yard: Around) -> None:
    one = await yard.run("true", definition="b")
    array = await yard.run("sh", "-c", "echo child $AWS_BATCH_JOB_ARRAY_INDEX", definition="a", array_size=2)
    children = [await yard.client.describe_job(f"{array.id}:{index}") for index in (0, 1)]
    # Its own name is a definition's too; that must not show it twice.
    other = await yard.run("true", name="a")
    names = sorted(job.attempts[0].log_stream_name for job in (*children, one, other))
    first, second, third = (job.attempts[0].log_stream_name for job in (*children, one))
    boto = yard.boto("logs")

    async def listed(**arguments: Any) -> list[str]:
        found: list[str] = []
        token: dict[str, str] = {}
        while True:
            page = await yard.call(boto.describe_log_streams, logGroupName=GROUP, **arguments, **token)
            found += [stream["logStreamName"] for stream in page["logStreams"]]
            if "nextToken" not in page:
                return found
            token = {"nextToken": page["nextToken"]}

    assert await listed() == names
    assert await listed(limit=1) == names
    assert await listed(descending=True, limit=2) == names[::-1]
    assert await listed(logStreamNamePrefix="a/") == names[:3]
    assert await listed(logStreamNamePrefix="a") == names[:3]
    assert await listed(logStreamNamePrefix=second) == [second]
    assert await listed(logStreamNamePrefix="a/default/nothing") == []
    assert await listed(logStreamNamePrefix="x") == []
    by_time = await listed(orderBy="LastEventTime", limit=1)
    assert (by_time[0], set(by_time[1:3])) == (third, {first, second})
    page = await yard.call(boto.describe_log_streams, logGroupName=GROUP, logStreamNamePrefix=third)
    (stream,) = page["logStreams"]
    assert stream["arn"] == f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{GROUP}:log-stream:{third}"
    assert stream["firstEventTimestamp"] == one.attempts[0].started_at_ms


async def test_the_only_group_is_described(yard: Around) -> None:
    boto = yard.boto("logs")
    for arguments in ({}, {"logGroupNamePrefix": "/aws/batch"}, {"logGroupNamePattern": "Batch"}):
        (group,) = (await yard.call(boto.describe_log_groups, **arguments))["logGroups"]
        assert group["logGroupName"] == GROUP
    for arguments in ({"logGroupNamePrefix": "/ecs"}, {"logGroupNamePattern": "x"}):
        assert (await yard.call(boto.describe_log_groups, **arguments))["logGroups"] == []


async def test_events_are_searched_over_streams_and_pages(yard: Around) -> None:
    await yard.run("sh", "-c", "echo ERROR one; echo fine; echo ERROR two", definition="a")
    job = await yard.run("sh", "-c", 'echo ERROR three; echo "ERROR: no space left"', definition="b")
    boto = yard.boto("logs")

    async def found(**arguments: Any) -> list[list[str]]:
        pages: list[list[str]] = []
        token: dict[str, str] = {}
        while True:
            page = await yard.call(boto.filter_log_events, logGroupName=GROUP, **arguments, **token)
            pages.append(texts(page))
            if "nextToken" not in page:
                return pages
            token = {"nextToken": page["nextToken"]}

    everything = ["ERROR one", "ERROR two", "ERROR three", "ERROR: no space left"]
    assert await found(filterPattern="ERROR") == [everything]
    assert [text for page in await found(filterPattern="ERROR", limit=1) for text in page] == everything
    assert await found(filterPattern='ERROR "no space"') == [everything[3:]]
    assert await found(filterPattern="-ERROR") == [["fine"]]
    assert await found(logStreamNamePrefix="b/") == [everything[2:]]
    name = job.attempts[0].log_stream_name
    page = await yard.call(boto.filter_log_events, logGroupName=GROUP, logStreamNames=[name])
    assert [event["logStreamName"] for event in page["events"]] == [name, name]
    assert len({event["eventId"] for event in page["events"]}) == 2


async def test_what_is_not_there_or_not_understood_is_told_with_aws_codes(yard: Around) -> None:
    boto = yard.boto("logs")
    there = (await yard.run("true")).attempts[0].log_stream_name
    told = {
        "group": await yard.refused(boto.get_log_events, logGroupName="/other", logStreamName=there),
        "stream": await yard.refused(boto.get_log_events, logGroupName=GROUP, logStreamName=f"a/default/{MISSING}"),
        "name": await yard.refused(boto.get_log_events, logGroupName=GROUP, logStreamName="nonsense"),
        "token": await yard.refused(boto.get_log_events, logGroupName=GROUP, logStreamName=there, nextToken="x"),
        "page": await yard.refused(boto.describe_log_streams, logGroupName=GROUP, nextToken="WzFd"),
        "limit": await yard.refused(boto.get_log_events, logGroupName=GROUP, logStreamName=there, limit=10_001),
        "pattern": await yard.refused(boto.filter_log_events, logGroupName=GROUP, filterPattern="{ $.a = 1 }"),
        "neither": await yard.refused(boto.get_log_events, logStreamName=there),
        "unknown": await yard.refused(boto.delete_log_group, logGroupName=GROUP),
    }
    assert {name: (code, status) for name, (code, status, _) in told.items()} == {
        "group": ("ResourceNotFoundException", 400),
        "stream": ("ResourceNotFoundException", 400),
        "name": ("ResourceNotFoundException", 400),
        "token": ("InvalidParameterException", 400),
        "page": ("InvalidParameterException", 400),
        "limit": ("InvalidParameterException", 400),
        "pattern": ("InvalidParameterException", 400),
        "neither": ("InvalidParameterException", 400),
        "unknown": ("UnknownOperationException", 400),
    }
    assert told["stream"][2] == "The specified log stream does not exist."
