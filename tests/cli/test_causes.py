"""What a person who waited is told of an end: the fact that decided it."""

from __future__ import annotations

from batchyard.cli.progress import outcome
from batchyard.v1 import job_pb2 as pb


def test_the_cause_is_told_and_not_its_kind() -> None:
    job = pb.Job(
        id="j",
        state=pb.JOB_STATE_FAILED,
        exit_code=137,
        status_reason="Essential container in task exited",
        ending_cause="OutOfMemoryError: Container killed due to memory usage",
    )
    assert outcome(job) == "j FAILED (exit code 137, OutOfMemoryError: Container killed due to memory usage)"
    job.ending_cause = ""  # of an older controller
    assert outcome(job) == "j FAILED (exit code 137, Essential container in task exited)"
