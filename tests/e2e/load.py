"""
A load of jobs whose right outcome is known, submitted while things break.

200 jobs: an array of 100, and 100 single jobs that are submitted in step with
what has run, so that submissions go on over the whole of a test. One in ten ends
with exit code 3.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from tests.e2e.programs import until
from tests.e2e.witness import Witness

from batchyard import Client, JobState, container, job_state
from batchyard.v1.job_definition_pb2 import ContainerProperties

ARRAY_SIZE = 100
SINGLES = 100
JOBS = ARRAY_SIZE + SINGLES
EXIT_CODE = 3
SUBMITTERS = 4
AHEAD = 50
"""How many more jobs are submitted than have run."""
PROGRESS_LIMIT_S = 60.0
END_LIMIT_S = 60.0


def code_of(number: int) -> int:
    """Return the exit code that a job must have."""
    return EXIT_CODE if number % 10 == 7 else 0


class Load:
    """The jobs of one test."""

    def __init__(self, client: Client, witness: Witness) -> None:
        self._client = client
        self._witness = witness
        self._array_id = ""
        self._ids: list[str] = []

    def run(self, break_something: Callable[[int], None], *, faults: int) -> None:
        """
        Submit everything while *break_something* is called again and again.

        It is called with 0, 1, ..., each time after another part of the jobs has
        begun; the last time while there are still jobs to come.
        """
        self._array_id = self._client.submit_job(
            name="array",
            container=self._container("array", EXIT_CODE),
            array_size=ARRAY_SIZE,
        ).job_id
        with ThreadPoolExecutor(SUBMITTERS) as submitters:
            acknowledged: list[Future[str]] = [submitters.submit(self._submit, number) for number in range(SINGLES)]
            for fault in range(faults):
                self._await_starts((fault + 1) * JOBS // (faults + 2))
                break_something(fault)
            self._ids = [future.result() for future in acknowledged]

    def check(self) -> None:
        """Make sure that every acknowledged job has ended as it must, and ran once."""
        assert len(set(self._ids)) == SINGLES
        singles = self._client.wait_all([*self._ids, self._array_id], timeout_s=END_LIMIT_S)[:-1]
        children = self._client.describe_jobs([f"{self._array_id}:{index}" for index in range(ARRAY_SIZE)])
        for jobs, count in ((singles, SINGLES), (children, ARRAY_SIZE)):
            ends = {job.id: (job_state(job), job.exit_code, len(job.attempts)) for job in jobs}
            assert len(ends) == count
            assert list(ends.values()) == [wanted_end(number) for number in range(count)], ends
        self._witness.check_once(
            [f"array-{index}" for index in range(ARRAY_SIZE)] + [f"single-{number}" for number in range(SINGLES)]
        )

    def check_logs(self) -> None:
        """Make sure that the logs of all jobs are there and complete."""
        units = {f"single-{number}": job_id for number, job_id in enumerate(self._ids)}
        units |= {f"array-{index}": f"{self._array_id}:{index}" for index in range(ARRAY_SIZE)}
        logs = {name: b"".join(self._client.read_logs(job_id)).decode() for name, job_id in units.items()}
        assert logs == {name: f"begin {name}\nfinish {name}\n" for name in units}

    def _submit(self, number: int) -> str:
        self._await_starts(2 * number - AHEAD)
        name = f"single-{number}"
        return self._client.submit_job(name=name, container=self._container(name, code_of(number))).job_id

    def _await_starts(self, count: int) -> None:
        until(
            lambda: self._witness.count("start") >= count,
            f"{count} jobs have begun, now {self._witness.count('start')}",
            PROGRESS_LIMIT_S,
        )

    def _container(self, name: str, code: int) -> ContainerProperties:
        return container(self._witness.command(name, code=code), vcpus=1, memory=32)


def wanted_end(number: int) -> tuple[JobState, int, int]:
    """Return state, exit code and number of attempts with which a job must end."""
    code = code_of(number)
    return (JobState.FAILED if code else JobState.SUCCEEDED, code, 1)
