"""
The rules of jobs once more, slow and obvious: what the core is held against.

One small record a unit, nothing packed, nothing indexed. After each fact everybody
who waits is looked at again, until nobody moves. Shares no code with the core.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

WAITING, RUNNABLE, ACTIVE, SUCCEEDED, FAILED = "waiting", "runnable", "active", "succeeded", "failed"


@dataclass
class Unit:
    """A single job, or one child."""

    state: str = WAITING
    ends: list[tuple[str, int, bool]] = field(default_factory=list)
    """Cause and exit code of each try that is over, and whether its host was to blame."""
    is_terminated: bool = False


@dataclass
class PlainJob:
    """What was submitted, and its units."""

    units: list[Unit]
    whole: list[tuple[str, str]]
    """Kind (WHOLE, AFTER_ANY, AFTER_FAILURE) and the job waited for."""
    n_to_n: list[str]
    is_sequential: bool
    bound: int
    attempts: int
    infrastructure: int
    exit_codes: tuple[str, ...]
    """Exit codes at which there is no other try."""

    @property
    def state(self) -> str:
        states = {unit.state for unit in self.units}
        if states & {WAITING, RUNNABLE, ACTIVE}:
            return WAITING
        return FAILED if FAILED in states else SUCCEEDED


class PlainRules:
    """All jobs, in order of submission."""

    def __init__(self) -> None:
        self.jobs: dict[str, PlainJob] = {}

    def submit(self, job_id: str, job: PlainJob) -> None:
        self.jobs[job_id] = job
        self._settle()

    def claim(self, job_id: str, index: int) -> None:
        assert self.jobs[job_id].units[index].state == RUNNABLE
        self.jobs[job_id].units[index].state = ACTIVE

    def end(self, job_id: str, index: int, cause: str, code: int, *, has_other_taker: bool = False) -> None:
        """Take in an end; an image that could not be had is its host's fault as long as another may still have it."""
        job = self.jobs[job_id]
        unit = job.units[index]
        if cause in ("STOPPED", "PREEMPTED") and not unit.is_terminated:
            cause = "RECLAIMED"  # nobody else stops what nobody terminates
        is_of_host = cause in ("LOST", "FENCED", "RECLAIMED", "HOST_ERROR")
        is_of_host = is_of_host or (cause == "IMAGE_UNAVAILABLE" and has_other_taker)
        unit.ends.append((cause, code, is_of_host))
        if cause == "EXITED" and code == 0:
            unit.state = SUCCEEDED
        elif unit.is_terminated or not _may_try_again(job, unit):
            unit.state = FAILED
        else:
            unit.state = RUNNABLE
        self._settle()

    def cancel(self, job_id: str, index: int | None) -> None:
        for unit in self._units(job_id, index):
            if unit.state in (WAITING, RUNNABLE):
                unit.state = FAILED
        self._settle()

    def terminate(self, job_id: str, index: int | None) -> None:
        for unit in self._units(job_id, index):
            if unit.state == ACTIVE:
                unit.is_terminated = True
        self.cancel(job_id, index)

    def _units(self, job_id: str, index: int | None) -> list[Unit]:
        units = self.jobs[job_id].units
        return units if index is None else [units[index]]

    def _settle(self) -> None:
        """Let everybody who waits look at those they wait for, again and again until nobody moves."""
        while any(self._look(job) for job in self.jobs.values()):
            pass

    def _look(self, job: PlainJob) -> bool:
        moved = False
        for index, unit in enumerate(job.units):
            if unit.state != WAITING:
                continue
            needs = set(self._needs(job, index))
            busy = sum(other.state in (RUNNABLE, ACTIVE) for other in job.units)
            if "never" in needs:
                unit.state, moved = FAILED, True
            elif "not yet" not in needs and (not job.bound or busy < job.bound):
                unit.state, moved = RUNNABLE, True
        return moved

    def _needs(self, job: PlainJob, index: int) -> Iterator[str]:
        """Yield what each dependency says: fine, not yet, or never."""
        for kind, other in job.whole:
            state = self.jobs[other].state
            wanted = {"WHOLE": (SUCCEEDED,), "AFTER_FAILURE": (FAILED,), "AFTER_ANY": (SUCCEEDED, FAILED)}[kind]
            yield "not yet" if state == WAITING else "fine" if state in wanted else "never"
        singles = [self.jobs[other].units[index] for other in job.n_to_n]
        if job.is_sequential and index > 0:
            singles.append(job.units[index - 1])
        for unit in singles:
            yield {SUCCEEDED: "fine", FAILED: "never"}.get(unit.state, "not yet")


def _may_try_again(job: PlainJob, unit: Unit) -> bool:
    cause, code, is_of_host = unit.ends[-1]
    if cause in ("STOPPED", "TIMED_OUT"):
        return False
    of_hosts = sum(is_of_host for _, _, is_of_host in unit.ends)
    if is_of_host and of_hosts <= job.infrastructure and cause in ("HOST_ERROR", "IMAGE_UNAVAILABLE"):
        return True
    counted = len(unit.ends) - min(of_hosts, job.infrastructure)
    return counted < job.attempts and str(code) not in job.exit_codes
