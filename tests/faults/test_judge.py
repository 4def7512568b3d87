"""The judge sees what it is there to see, in ledgers and answers that are written here."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from tests.faults import judge
from tests.faults.faults import LONG, WEIGHTS, Kinds
from tests.faults.judge import Verdict
from tests.faults.nemesis import Struck
from tests.faults.witness import Line
from tests.faults.workload import Acknowledged

from batchyard.v1.attempt_pb2 import EndCause
from batchyard.v1.job_pb2 import Attempt, Job, JobState

DONE = Acknowledged(label="u0-1", job_id="j", code=0, size=0, depends_on="")


def line(word: str, at_s: float, *, attempt: int = 1, code: int = 0, job_id: str = "j", unit: str = "u0-1") -> Line:
    return Line(word=word, at_s=at_s, code=code, unit=unit, job_id=job_id, attempt=attempt, folder="/")


def job(*attempts: Attempt, state: JobState.ValueType = JobState.JOB_STATE_SUCCEEDED) -> Job:
    return Job(id="j", name="u0-1", state=state, attempts=attempts)


def tried(number: int = 1, code: int | None = 0, cause: EndCause.ValueType = EndCause.END_CAUSE_EXITED) -> Attempt:
    found = Attempt(number=number, host_name="h0", cause=cause, claimed_at_ms=1_000_000, stopped_at_ms=1_010_000)
    if code is not None:
        found.exit_code = code
    return found


def words(verdict: Verdict) -> set[str]:
    return {violation.partition(":")[0] for violation in verdict.violations}


def judged(lines: Sequence[Line], found: Job | None, done: Acknowledged = DONE) -> set[str]:
    """Return what is wrong with one job."""
    verdict, jobs = Verdict(), {found.id: found} if found is not None else {}
    judge._judge_job(verdict, done, jobs)
    judge._judge_starts(verdict, list(lines))
    judge._judge_ends(verdict, list(lines), jobs)
    judge._judge_room(verdict, list(lines), jobs)
    return words(verdict)


ONCE = [line("START", 1.0), line("END", 2.0)]
AGAIN = [line("START", 1.0), line("START", 5.0, attempt=2), line("END", 6.0, attempt=2)]
LOST = tried(code=None, cause=EndCause.END_CAUSE_FENCED)


def test_what_is_right_is_right() -> None:
    assert judged(ONCE, job(tried())) == set()
    assert judged(AGAIN, job(LOST, tried(2))) == set()


@pytest.mark.parametrize(
    ("lines", "found", "wrong"),
    [
        (ONCE, None, "lost"),
        (ONCE, job(tried(), state=JobState.JOB_STATE_RUNNING), "lost"),
        ([ONCE[0], *ONCE], job(tried()), "twice"),
        ([*ONCE, line("START", 3.0, job_id="k"), line("END", 4.0, job_id="k")], job(tried()), "twice"),
        ([*ONCE, line("OVERLAP", 1.5, attempt=2)], job(tried()), "overlaps"),
        ([line("START", 1.0), *AGAIN[1:2], line("END", 5.5), AGAIN[2]], job(LOST, tried(2)), "overlaps"),
        (ONCE, job(tried(code=3), state=JobState.JOB_STATE_FAILED), "wrong_exit"),
        (ONCE, job(LOST, state=JobState.JOB_STATE_FAILED), "wrong_exit"),
        ([], job(tried()), "wrong_exit"),
    ],
)
def test_what_is_wrong_is_seen(lines: list[Line], found: Job | None, wrong: str) -> None:
    assert wrong in judged(lines, found)


def test_who_starts_too_early_is_seen() -> None:
    waiting = Acknowledged(label="u0-2", job_id="k", code=0, size=0, depends_on="u0-1")
    for at_s, wrong in ((2.5, set()), (1.5, {"early"})):
        verdict = Verdict()
        judge._judge_order(verdict, [DONE, waiting], [*ONCE, line("START", at_s, job_id="k", unit="u0-2")])
        assert words(verdict) == wrong


def test_more_than_a_host_has_is_seen() -> None:
    jobs = {f"j{n}": Job(id=f"j{n}", attempts=[tried()]) for n in range(5)}
    lines = [line(word, at_s, job_id=name) for word, at_s in (("START", 1.0), ("END", 2.0)) for name in jobs]
    verdict = Verdict()
    judge._judge_room(verdict, lines, jobs)
    assert words(verdict) == {"overcommitted"}


def test_each_kind_can_be_drawn() -> None:
    for kind in WEIGHTS:
        assert callable(getattr(Kinds, kind.replace(" ", "_")))
    assert set(LONG) < set(WEIGHTS)


def test_a_host_that_failed_was_struck() -> None:
    found = {"j": job(tried(code=None, cause=EndCause.END_CAUSE_HOST_ERROR), tried(2))}
    struck = Struck(kind="host dies", about="h0", at=1_005.0)
    for faults, wrong in (([struck], set()), ([], {"unexplained"})):
        verdict = Verdict()
        judge._judge_losses(verdict, faults, found)
        assert words(verdict) == wrong
