"""A yard on a virtual clock, whose jobs end when they will."""

from __future__ import annotations

import heapq

from tests.core.yard import Yard

from batchyard.ids import AttemptId, JobId
from batchyard.states import EndCause, JobState
from batchyard_controller.core.attempt_reports import Phase, Report
from batchyard_controller.core.model.attempts import AttemptEnd
from batchyard_controller.core.model.jobs import Job
from batchyard_controller.core.model.values import Instant


class Day:
    """A yard on a virtual clock, whose jobs end when they will."""

    def __init__(self, yard: Yard) -> None:
        self.yard = yard
        self.runs_s: dict[JobId, int] = {}
        self.started_s: dict[JobId, int] = {}
        self._ends: list[tuple[int, AttemptId]] = []

    @property
    def now_s(self) -> int:
        return self.yard.now.boot_ms // 1000

    def submit(self, runs_s: int, **fields: object) -> Job:
        job = self.yard.submit(**fields)
        self.runs_s[job.id] = runs_s
        return job

    def step(self, until_s: int) -> bool:
        """Go on to the next end, if there is one by then."""
        self._start()
        if not self._ends or self._ends[0][0] > until_s:
            self._set(until_s)
            return False
        at_s, attempt = heapq.heappop(self._ends)
        self._set(at_s)
        end = AttemptEnd(cause=EndCause.EXITED, exit_code=0, stopped_at_ms=self.yard.now.wall_ms)
        self.yard.report(Report(attempt_id=attempt, phase=Phase.ENDED, end=end))
        self._start()
        return True

    def run(self, until_s: int) -> None:
        while self.step(until_s):
            pass

    def _set(self, at_s: int) -> None:
        self.yard.now = Instant(wall_ms=1000 * at_s, boot_ms=1000 * at_s)

    def _start(self) -> None:
        self.yard.plan()
        for attempt in list(self.yard.world.attempts.values()):
            if not attempt.started_at_ms:
                self.yard.started(attempt.id, self.yard.now.wall_ms)
                self.started_s[attempt.job_id] = self.now_s
                heapq.heappush(self._ends, (self.now_s + self.runs_s[attempt.job_id], attempt.id))


def states(*jobs: Job) -> list[str]:
    return ["in" if job.state.is_active else "waits" if job.state is JobState.RUNNABLE else "over" for job in jobs]
