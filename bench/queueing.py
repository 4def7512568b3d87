"""
Mean wait and bounded slowdown of a log of jobs, by the planner on a virtual clock, beside plain EASY++.

    .venv/bin/python bench/queueing.py LOG.swf [--rate 1.2] [--without-bounds]

The log is one in the Standard Workload Format of a machine of equal processors: here one host
that has them all. An owner is a user: the job's definition bears the user's number. A
job's timeout is the time its user asked for, at least the minute that a timeout has here;
what ran for longer than that is cut. Slowdown is bounded at 10 s.
"""

from __future__ import annotations

import concurrent.futures
import heapq
import multiprocessing
import os
import statistics
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

# The checkout instead of this folder: its own packages are found by their full names.
sys.path[0] = str(Path(__file__).resolve().parents[1])

import click
from tests.core.yard import container as asks
from tests.core.yard import facts, task

from batchyard.ids import AttemptId, HostId, JobId, uuid7
from batchyard.resources import Resources
from batchyard.states import EndCause
from batchyard_controller.core.attempt_reports import Phase, Report
from batchyard_controller.core.events import (
    AttemptsReported,
    DefinitionChanged,
    EnvironmentChanged,
    HostJoined,
    JobSubmitted,
    Planned,
    QueueChanged,
)
from batchyard_controller.core.jobs.resolution import Overrides, Submission
from batchyard_controller.core.jobs.retention import Retention
from batchyard_controller.core.model.attempts import AttemptEnd
from batchyard_controller.core.model.jobs import JobDefinition
from batchyard_controller.core.model.settings import ComputeEnvironment, DispatchOrder, EnvironmentOrder, JobQueue
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement.plan import make_plan
from batchyard_controller.core.reactor.apply import apply
from batchyard_controller.core.requests.submissions import submit_job
from batchyard_controller.core.world.tenancy import situation
from batchyard_controller.core.world.world import World

WALL_MS = 1_700_000_000_000
TIMEOUT_S_MIN = 60
SLOWDOWN_S = 10
HOST = HostId("machine")


@dataclass(frozen=True, slots=True)
class LogJob:
    """One line of a log; times in seconds."""

    submitted_s: int
    runs_s: int
    processors: int
    bound_s: int
    user: int


@dataclass(frozen=True, slots=True)
class Result:
    """Waits in seconds, in order of the log, and how long it took to reckon them."""

    waits_s: list[int]
    took_s: float


def read_log(path: Path, rate: float) -> tuple[list[LogJob], int]:
    """Return the jobs of a log, submitted *rate* times as fast, and how many processors its machine has."""
    jobs, processors = [], 0
    for line in path.read_text().splitlines():
        if line.startswith(";"):
            name, _, value = line.strip("; ").partition(":")
            processors = int(value) if name == "MaxProcs" else processors
            continue
        fields = [int(float(field)) for field in line.split()]
        submitted, runs, asked, bound, user = fields[1], fields[3], fields[4], fields[8], fields[11]
        if runs >= 0 and asked > 0:
            bound = max(bound, TIMEOUT_S_MIN) if bound > 0 else runs
            jobs.append(LogJob(int(submitted / rate), max(1, min(runs, bound)), asked, bound, user))
    jobs.sort(key=lambda job: job.submitted_s)
    return jobs, processors or max(job.processors for job in jobs)


class Machine:
    """A controller's core, a queue and one host, on a virtual clock."""

    def __init__(self, jobs: list[LogJob], processors: int, order: DispatchOrder, has_bounds: bool) -> None:
        self._jobs = jobs
        self._has_bounds = has_bounds
        self._ids: dict[str, int] = {}
        self._ends: list[tuple[int, AttemptId]] = []
        self._now_s = 0
        self._waits_s = [0] * len(jobs)
        self.world = World(Retention())
        self._apply(EnvironmentChanged(environment=ComputeEnvironment(name="all")))
        steps = (EnvironmentOrder(order=1, compute_environment="all"),)
        self._apply(QueueChanged(queue=JobQueue(name="q", environment_order=steps, dispatch_order=order)))
        told = facts("machine", capacity=Resources(cpu_millis=1000 * processors, memory_mib=1 << 20))
        self._apply(HostJoined(host_id=HOST, facts=told, session=1, reports=()))
        host = self.world.hosts[HOST]
        host.trust.proven_until_boot_ms = 1 << 60
        self.world.refresh_host(host)
        for user in sorted({job.user for job in jobs}):
            definition = JobDefinition(name=f"user{user}", revision=1, task=task(asks()))
            self._apply(DefinitionChanged(definition=definition))

    @property
    def _now(self) -> Instant:
        return Instant(wall_ms=WALL_MS + 1000 * self._now_s, boot_ms=1000 * (1 + self._now_s))

    def _apply(self, event: object) -> None:
        apply(self.world, event, self._now)  # type: ignore[arg-type]

    def run(self) -> list[int]:
        """Return how long each job waited, in seconds."""
        number = 0
        while number < len(self._jobs) or self._ends:
            next_s = [self._jobs[number].submitted_s] if number < len(self._jobs) else []
            self._now_s = min(next_s + ([self._ends[0][0]] if self._ends else []))
            while self._ends and self._ends[0][0] == self._now_s:
                self._end(heapq.heappop(self._ends)[1])
            while number < len(self._jobs) and self._jobs[number].submitted_s == self._now_s:
                self._submit(number)
                number += 1
            self._plan()
        return self._waits_s

    def _submit(self, number: int) -> None:
        job = self._jobs[number]
        job_id = JobId(uuid7(self._now.wall_ms, number.to_bytes(10, "big")))
        submission = Submission(
            name=f"job{number}",
            queue="q",
            definition=f"user{job.user}:1",
            overrides=Overrides(cpu_millis=1000 * job.processors),
            timeout_s=job.bound_s if self._has_bounds else 0,
        )
        event, _ = submit_job(self.world, submission, job_id, self._now)
        assert isinstance(event, JobSubmitted), "every submission is new"
        self._ids[job_id] = number
        self._apply(event)

    def _plan(self) -> None:
        while self.world.wants_plan:
            self.world.wants_plan = False
            plan = make_plan(situation(self.world), self._now)
            self._apply(Planned(plan=plan, epoch=1))
            for placement in plan.placements:
                number = self._ids[placement.job_id]
                job = self._jobs[number]
                self._waits_s[number] = self._now_s - job.submitted_s
                attempt = AttemptId(f"{placement.job_id}#1")
                report = Report(attempt_id=attempt, phase=Phase.RUNNING, started_at_ms=self._now.wall_ms)
                self._apply(AttemptsReported(host_id=HOST, reports=(report,)))
                heapq.heappush(self._ends, (self._now_s + job.runs_s, attempt))

    def _end(self, attempt: AttemptId) -> None:
        end = AttemptEnd(cause=EndCause.EXITED, exit_code=0, stopped_at_ms=self._now.wall_ms)
        self._apply(AttemptsReported(host_id=HOST, reports=(Report(attempt_id=attempt, phase=Phase.ENDED, end=end),)))


class PlainEasyPlusPlus:
    """
    EASY++ (Tsafrir, Etsion, Feitelson 2007): backfilling by predictions, the shortest first.

    A prediction is the mean of the user's last two runs, within the bound; one that was
    outrun is put off to the bound, which is the stronger of the corrections in use.
    """

    def __init__(self, jobs: list[LogJob], processors: int) -> None:
        self._jobs = jobs
        self._free = processors
        self._waiting: list[int] = []
        self._running: dict[int, tuple[int, int]] = {}
        """By job: start, predicted seconds."""
        self._past: dict[int, deque[int]] = {}
        self._waits_s = [0] * len(jobs)

    def run(self) -> list[int]:
        """Return how long each job waited, in seconds."""
        ends: list[tuple[int, int]] = []
        number = 0
        while number < len(self._jobs) or ends:
            next_s = [self._jobs[number].submitted_s] if number < len(self._jobs) else []
            now_s = min(next_s + ([ends[0][0]] if ends else []))
            while ends and ends[0][0] == now_s:
                ended = heapq.heappop(ends)[1]
                job = self._jobs[ended]
                del self._running[ended]
                self._free += job.processors
                self._past.setdefault(job.user, deque(maxlen=2)).append(job.runs_s)
            while number < len(self._jobs) and self._jobs[number].submitted_s == now_s:
                self._waiting.append(number)
                number += 1
            for started in self._start(now_s):
                heapq.heappush(ends, (now_s + self._jobs[started].runs_s, started))
        return self._waits_s

    def _predict(self, number: int) -> int:
        job = self._jobs[number]
        past = self._past.get(job.user)
        return min(job.bound_s, max(1, sum(past) // len(past))) if past and len(past) == 2 else job.bound_s

    def _start(self, now_s: int) -> list[int]:
        started = []
        while self._waiting and self._jobs[self._waiting[0]].processors <= self._free:
            started.append(self._begin(self._waiting[0], now_s))
        if not self._waiting:
            return started
        shadow_s, spare = self._shadow(now_s)
        for number in sorted(self._waiting[1:], key=lambda n: (self._predict(n), n)):
            asked = self._jobs[number].processors
            is_over = now_s + self._predict(number) <= shadow_s
            if asked <= self._free and (is_over or asked <= spare):
                spare -= 0 if is_over else asked
                started.append(self._begin(number, now_s))
        return started

    def _begin(self, number: int, now_s: int) -> int:
        self._waiting.remove(number)
        self._free -= self._jobs[number].processors
        self._running[number] = now_s, self._predict(number)
        self._waits_s[number] = now_s - self._jobs[number].submitted_s
        return number

    def _shadow(self, now_s: int) -> tuple[int, int]:
        """Return when the first has room, and how much is left over then."""
        ends = []
        for number, (start_s, predicted_s) in self._running.items():
            end_s = start_s + predicted_s
            job = self._jobs[number]
            ends.append((end_s if end_s > now_s else start_s + job.bound_s, job.processors))
        free, asked = self._free, self._jobs[self._waiting[0]].processors
        for end_s, processors in sorted(ends):
            free += processors
            if free >= asked:
                return end_s, free - asked
        raise AssertionError("a job asks for more than the machine has")


def simulate(name: str, jobs: list[LogJob], processors: int, has_bounds: bool) -> Result:
    """Run one rule over a log."""
    began = time.process_time()
    if name == "EASY++":
        waits_s = PlainEasyPlusPlus(jobs, processors).run()
    else:
        waits_s = Machine(jobs, processors, RULES[name], has_bounds).run()
    return Result(waits_s, time.process_time() - began)


RULES = {
    "FCFS": DispatchOrder.STRICT,
    "EASY": DispatchOrder.SUBMISSION_TIME,
    "due times": DispatchOrder.DUE_TIME,
}


def described(name: str, jobs: list[LogJob], result: Result) -> str:
    """Return one line of the table."""
    slowdowns = [
        max(1.0, (wait_s + job.runs_s) / max(job.runs_s, SLOWDOWN_S))
        for job, wait_s in zip(jobs, result.waits_s, strict=True)
    ]
    wait_min = statistics.fmean(result.waits_s) / 60
    return (
        f"{name:<10} {wait_min:>9.1f} {statistics.fmean(slowdowns):>9.1f} "
        f"{max(result.waits_s) / 3600:>9.1f} {result.took_s:>8.1f}"
    )


@click.command(help=__doc__)
@click.argument("log", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--rate", default=1.0, show_default=True, help="Arrivals come so many times as fast.")
@click.option("--without-bounds", is_flag=True, help="Nobody gives a timeout (EASY++ has them all the same).")
def main(log: Path, rate: float, without_bounds: bool) -> None:
    """Print a line for each rule."""
    jobs, processors = read_log(log, rate)
    click.echo(f"{len(jobs):,} jobs on {processors} processors, arrivals x{rate:g}")
    click.echo(f"{'rule':<10} {'wait/min':>9} {'slowdown':>9} {'longest/h':>9} {'cpu/s':>8}")
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count(), mp_context=context) as pool:
        futures = {
            name: pool.submit(simulate, name, jobs, processors, not without_bounds) for name in [*RULES, "EASY++"]
        }
        for name, future in futures.items():
            click.echo(described(name, jobs, future.result()))


if __name__ == "__main__":
    main()
