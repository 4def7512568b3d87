"""What a person who waited is told of an end: the fact that decided it."""

from __future__ import annotations

import pytest

from batchyard.cli.job_page import show_job
from batchyard.cli.progress import outcome
from batchyard.v1 import job_pb2 as pb


def killed_for_memory() -> pb.Job:
    return pb.Job(
        id="j",
        state=pb.JOB_STATE_FAILED,
        exit_code=137,
        status_reason="Essential container in task exited",
        ending_cause="OutOfMemoryError: Container killed due to memory usage",
    )


def test_the_cause_is_told_and_not_its_kind() -> None:
    job = killed_for_memory()
    assert outcome(job) == "j FAILED (exit code 137, OutOfMemoryError: Container killed due to memory usage)"
    job.ending_cause = ""  # of an older controller
    assert outcome(job) == "j FAILED (exit code 137, Essential container in task exited)"


def test_describe_gives_the_cause_as_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    job = killed_for_memory()
    show_job(job, 0)
    assert "Reason     OutOfMemoryError: Container killed due to memory usage\n" in capsys.readouterr().out
    job.ending_cause = ""  # it waits, or is of an older controller
    show_job(job, 0)
    assert "Reason     Essential container in task exited\n" in capsys.readouterr().out
