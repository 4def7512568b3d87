"""``cancel`` and ``terminate``: what has started goes on but for the second, and whoever cancels hears of it."""

from __future__ import annotations

import pytest
from tests.cli.conftest import Result, Run
from tests.sdk.yard import Yard

from batchyard.v1.attempt_pb2 import END_CAUSE_STOPPED


def test_cancel_and_terminate(run: Run, yard: Yard) -> None:
    waits, other = yard.submit(), yard.submit()
    assert run("cancel", waits, "--reason", "wrong input").code == 0
    assert run("terminate", other).code == 0
    assert [job.status_reason for job in map(yard.client.wait, (waits, other))] == [
        "wrong input",
        "Terminated by the user",
    ]
    assert run("cancel", "nothing").code == 3


def test_only_terminate_stops_what_has_started(run: Run, yard: Yard) -> None:
    host = yard.join()
    job_id = yard.submit()
    (spec,) = yard.do(host.take())
    assert run("cancel", job_id).code == 3
    assert run("terminate", job_id, "--reason", "wrong input").code == 0
    yard.do(host.end(spec.attempt_id, 137, cause=END_CAUSE_STOPPED))
    assert host.stopped == [spec.attempt_id]
    assert yard.client.wait(job_id).status_reason == "wrong input"


def test_cancel_says_of_an_array_what_became_of_it(run: Run, yard: Yard) -> None:
    """Only what waited is cancelled, and only if something did; who hears of children that go on, gets 3."""
    host = yard.join()
    runs = yard.submit(array_size=2)
    yard.do(host.take(2))
    partly = yard.submit(array_size=4, array_concurrency=1)
    (child,) = yard.do(host.take())
    told = f"batchyard: {runs}: 2 children go on (`batchyard terminate {runs}` stops them)\n"
    assert run("cancel", runs) == Result(3, "", told)
    told = f"1 child goes on (`batchyard terminate {partly}` stops it)\n"
    assert run("cancel", partly) == Result(3, "", f"batchyard: {partly}: what waited is cancelled; {told}")
    assert run("cancel", partly) == Result(3, "", f"batchyard: {partly}: {told}")
    yard.do(host.end(child.attempt_id))
    assert run("cancel", partly) == Result(0, "", f"batchyard: {partly} is cancelled\n")


def test_all_that_match_are_cancelled_or_terminated(run: Run, yard: Yard) -> None:
    host = yard.join()
    runs = yard.submit(name="part-1")
    (spec,) = yard.do(host.take())
    yard.client.cordon_host("alpha")
    waits, other = yard.submit(name="part-2"), yard.submit(name="whole")
    refused = run("cancel", "--name", "part*")
    assert (refused.code, "1 job would be meant: --yes does it without asking" in refused.err) == (2, True)
    assert not yard.client.describe_job(waits).is_cancelled
    done = run("cancel", "--name", "part*", "--yes")
    assert done == Result(0, "", f"batchyard: 1 job matches\nbatchyard: {waits} is cancelled\n")
    assert run("terminate", "--since", "1h", "--yes").code == 0
    assert yard.client.describe_job(runs).is_terminated
    assert yard.client.wait(other).status_reason == "Terminated by the user"
    yard.do(host.end(spec.attempt_id, 137, cause=END_CAUSE_STOPPED))
    assert run("terminate", "--name", "part*", "--yes") == Result(0, "", "batchyard: 0 jobs match\n")


@pytest.mark.parametrize("words", [(), ("JOB", "--name", "part*"), ("--name", "*part")])
def test_it_is_clear_which_jobs_are_meant(run: Run, words: tuple[str, ...]) -> None:
    assert run("cancel", *words).code == 2
