"""Ids as people write them: beginnings, ``last``, and a table of jobs that fits a terminal of 80 columns."""

from __future__ import annotations

import itertools
import os
import pty
import random
import subprocess
import sys

import pytest
from tests.cli.conftest import Run
from tests.sdk.host import Host
from tests.sdk.yard import Yard

from batchyard import settings
from batchyard.cli import job_ids, output
from batchyard.cli.jobs import show_jobs
from batchyard.ids import uuid7
from batchyard.v1.job_pb2 import ArrayProperties, JobSummary
from batchyard.v1.job_pb2 import JobState as WireJobState

NOW = 1_764_072_000_000
NONE_IS_LAST = "batchyard: no job was submitted from here yet, so none is the last\n"


def test_the_beginning_of_an_id_is_enough(run: Run, yard: Yard) -> None:
    job = yard.submit()
    for length in (8, 13, 18, 30, 36):
        answer = run("-o", "name", "describe", job[:length])
        assert (answer.code, answer.out) == (0, f"{job}\n"), length


@pytest.mark.parametrize(
    "command",
    [
        ("describe",),
        ("explain",),
        ("cancel",),
        ("terminate",),
        ("jobs", "--array"),
        ("tag", "list", "job"),
        ("submit", "--", "true", "--depends-on"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("written", ["last", "beginning"])
def test_short_ids_are_taken_wherever_an_id_is(run: Run, yard: Yard, command: tuple[str, ...], written: str) -> None:
    job = run("submit", "--array", "2", "--", "true").out.strip()
    given = "last" if written == "last" else job[:18]
    if command[0] == "submit":
        made = run("submit", "--depends-on", given, "--", "true")
        assert [each.job_id for each in yard.client.describe_job(made.out.strip()).depends_on] == [job]
    else:
        answer = run(*command, given)
        assert answer.code == 0, answer.err


def test_wait_and_logs_take_short_ids(run: Run, yard: Yard) -> None:
    async def ends(host: Host) -> None:
        await host.run(0, log=b"hello\n")

    job = run("submit", "--", "true").out.strip()
    assert run("wait", "last", meanwhile=ends).code == 0
    assert run("logs", job[:18]).out == "hello\n"
    assert run("logs", "last").out == "hello\n"


def test_a_child_is_named_behind_a_short_id(run: Run, yard: Yard) -> None:
    job = run("submit", "--array", "2", "--", "true").out.strip()
    assert run("-o", "name", "describe", f"{job[:13]}:1", "last:0").out.split() == [f"{job}:1", f"{job}:0"]


def test_a_beginning_that_several_have_names_them(run: Run, yard: Yard) -> None:
    jobs = [yard.submit() for _ in range(3)]
    answer = run("describe", jobs[0][:4])
    assert answer.code == 3
    assert all(job in answer.err for job in jobs)


def test_a_beginning_that_none_has_is_refused(run: Run, yard: Yard) -> None:
    yard.submit()
    answer = run("describe", "00000000")
    assert (answer.code, answer.err) == (3, "batchyard: no job's id begins with 00000000\n")


def test_last_is_refused_while_nothing_was_submitted(run: Run) -> None:
    answer = run("describe", "last")
    assert (answer.code, answer.err) == (3, NONE_IS_LAST)


@pytest.mark.parametrize("kept", [b"", b"\n", b"\xff\xfe"])
def test_what_names_no_job_is_not_the_last(run: Run, kept: bytes) -> None:
    """As after a full disk."""
    run("submit", "--", "true")
    (settings.state_dir() / "last-job").write_bytes(kept)
    answer = run("describe", "last")
    assert (answer.code, answer.err) == (3, NONE_IS_LAST)


def test_a_last_job_that_cannot_be_kept_leaves_nothing_behind(run: Run) -> None:
    (settings.state_dir() / "last-job").mkdir(parents=True)
    assert run("submit", "--", "true").code == 0
    assert [path.name for path in settings.state_dir().iterdir()] == ["last-job"]


def test_short_ids_are_as_long_as_they_must_be() -> None:
    """Of different milliseconds the time is enough; what is shown never names two."""
    entropy = random.Random(4).randbytes  # no secret
    ids = [uuid7(NOW + i // 4, entropy(10)) for i in range(40)]
    shown = job_ids.short([*ids, f"{ids[0]}:3"])
    assert shown[-1] == f"{shown[0]}:3"
    for text, one in zip(shown, ids, strict=False):
        assert [each for each in ids if each.startswith(text)] == [one]
    alone = job_ids.short([uuid7(NOW, bytes(10)), uuid7(NOW + 1, bytes(10))])
    assert [len(text) for text in alone] == [13, 13]


def test_short_ids_of_many_jobs_at_once_name_none_that_is_not_shown() -> None:
    """Ten thousand of one second, the newest 50 shown: ten of each millisecond; the last row's others are hidden."""
    entropy = random.Random(6).randbytes  # no secret
    ids = [uuid7(NOW + i // 10, entropy(10)) for i in range(10_000)]
    for shown in (ids[-50:], ids[-51:]):
        for text, one in zip(job_ids.short(shown), shown, strict=True):
            assert [each for each in ids if each.startswith(text)] == [one]


@pytest.mark.parametrize("size", [0, 20, 999, 1_000_000])
@pytest.mark.parametrize("apart_ms", [0, 1])
def test_rows_of_jobs_fit_80_columns(
    size: int, apart_ms: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever names, queues, hosts, times and exit codes there are, and a thousand jobs in one call."""
    monkeypatch.setattr(output, "is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    entropy = random.Random(5).randbytes  # no secret
    states = itertools.cycle(WireJobState.values()[1:])
    rows = [
        JobSummary(
            id=uuid7(NOW + n * apart_ms, entropy(10)),
            name="n" * 128,
            queue="q" * 128,
            state=next(states),
            host_name="h" * 60,
            exit_code=137,
            created_at_ms=NOW - 364 * 86_400_000,
            started_at_ms=NOW - 3_599_000,
            array=ArrayProperties(size=size, status_summary={"FAILED": size}),
        )
        for n in range(12)
    ]
    show_jobs("table", rows, NOW)
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_a_terminal_of_80_columns_shows_a_row_a_job_whose_id_can_be_copied(yard: Yard) -> None:
    job = yard.submit(name="a" * 100)
    here, there = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "batchyard", "--address", yard.address, "jobs"],
        stdout=there,
        stdin=there,
        env={**os.environ, "TERM": "dumb", "COLUMNS": "80"},
    )
    os.close(there)
    assert process.wait(timeout=30) == 0
    lines = os.read(here, 4096).decode().splitlines()
    os.close(here)
    assert [len(line) <= 80 for line in lines] == [True, True]
    copied = lines[1].split()[0]
    assert (len(copied), copied) == (13, job[:13])
