"""Logs that cannot be had: it is told why, once, and there is an end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.cli.conftest import Result, Run
from tests.sdk.host import Host
from tests.sdk.yard import Yard
from tests.services.hand_agent import running

from batchyard import connection, container
from batchyard.v1.attempt_pb2 import END_CAUSE_START_FAILED
from batchyard.v1.job_pb2 import Dependency

AWAY = "batchyard: host alpha is not connected; its logs cannot be read now"


async def run_and_go(yard: Yard, job: str) -> Host:
    """Let a host run a job and go away meanwhile."""
    host = await yard.inner.join("alpha")
    (spec,) = await host.take()
    host.logs[spec.attempt_id] = b"hello\n"
    await host.report(running(spec.attempt_id))
    while not (await yard.inner.client.describe_job(job)).attempts[0].started_at_ms:
        await asyncio.sleep(0)
    host.drop()
    while yard.inner.controller.sessions._sessions:
        await asyncio.sleep(0)
    return host


@pytest.mark.parametrize("flags", [(), ("--follow",)], ids=["once", "follow"])
def test_logs_of_a_host_that_is_away_say_so_and_end(
    run: Run, yard: Yard, flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HOST_AWAY_S", 0.05)
    job = yard.submit()
    yard.do(run_and_go(yard, job))
    answer = run("logs", job, *flags)
    assert answer.code == 4
    assert answer.err.splitlines() == [f"{AWAY}; trying again", AWAY]


def test_logs_go_on_when_the_host_is_back_soon(run: Run, yard: Yard) -> None:
    """As after a restart of the controller, to which its hosts come back a moment later."""
    job = yard.submit()
    host = yard.do(run_and_go(yard, job))

    async def come_back() -> None:
        while not yard.wire.calls["ReadLogs"]:
            await asyncio.sleep(0)
        await host.join([running(f"{job}#1")])

    coming = yard.begin(come_back())
    answer = run("logs", job)
    coming.result()
    assert (answer.code, answer.out, answer.err) == (0, "hello\n", f"{AWAY}; trying again\n")


def test_submit_waits_for_its_job_without_the_log(run: Run, yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host may be away for longer than its log is asked for, and come back with the job."""
    monkeypatch.setattr(connection, "HOST_AWAY_S", 0.05)

    async def goes_and_comes_back(host: Host) -> None:
        (spec,) = await host.take()
        host.logs[spec.attempt_id] = b""
        host.drop()
        await host.join([running(spec.attempt_id)])
        host.drop()
        described = yard.wire.calls["DescribeJobs"]
        while yard.wire.calls["DescribeJobs"] == described:
            await asyncio.sleep(0)
        await host.join([running(spec.attempt_id)])
        await host.end(spec.attempt_id, 7)

    answer = run("submit", "--follow", "--", "true", meanwhile=goes_and_comes_back)
    assert answer.code == 7
    assert f"{AWAY}; the job is waited for without its log" in answer.err


@pytest.mark.parametrize("flags", [(), ("--follow",), ("--attempt", "1")], ids=" ".join)
def test_logs_of_a_job_that_ended_without_an_attempt_say_why(run: Run, yard: Yard, flags: tuple[str, ...]) -> None:
    first = yard.submit()
    job = yard.submit(depends_on=[Dependency(job_id=first)])
    run("cancel", first, "--reason", "wrong input")
    why = f"Dependent Job failed: {first}: wrong input"
    assert run("logs", first, *flags) == Result(3, "", f"batchyard: {first} never ran: wrong input\n")
    assert run("logs", job, *flags) == Result(3, "", f"batchyard: {job} never ran: {why}\n")


def test_logs_that_are_followed_say_why_a_job_never_ran(run: Run, yard: Yard) -> None:
    """It is cancelled while its log is waited for."""
    job = yard.submit(container=container(["true"], vcpus=64))

    async def cancels(_: Host) -> None:
        await yard.inner.client.cancel_job(job, "wrong input")

    answer = run("logs", "-f", job, meanwhile=cancels)
    assert answer == Result(3, "", f"batchyard: {job} never ran: wrong input\n")


def test_logs_that_are_followed_tell_once_why_a_start_failed(run: Run, yard: Yard) -> None:
    job = yard.submit()
    failed: dict[str, Any] = {"cause": END_CAUSE_START_FAILED, "started_at_ms": 0}
    yard.do(yard.join().run(None, log=None, reason="no such image", **failed))
    answer = run("logs", "-f", job)
    assert (answer.code, answer.out, answer.err.count("no such image")) == (0, "", 1)


def test_logs_of_a_host_that_was_removed_are_not_waited_for(run: Run, yard: Yard) -> None:
    """The host keeps its name in history."""
    job = yard.submit()
    yard.do(run_and_go(yard, job))
    run("host", "remove", "alpha", "--force")
    run("cancel", job)
    gone = f"host alpha was removed, and the log of attempt 1 of job {job} with it"
    assert run("logs", job) == Result(3, "", f"batchyard: {gone}\n")
    assert run("logs", job, "-f").err == f"batchyard: no log of attempt 1: {gone}\n"
    assert run("jobs").out.splitlines()[1].split()[-1] == "alpha"
