"""
The judge: holds what users were told, and what the product says in the end, to what attempts did.

It believes the witness's ledger, what users wrote down as they were answered, locks, processes and
containers. Every difference is a violation, with its evidence.
"""

from __future__ import annotations

import itertools
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from batchyard import JobState
from batchyard.errors import BatchyardError
from batchyard.v1 import job_pb2
from batchyard.v1.attempt_pb2 import EndCause
from batchyard.v1.host_pb2 import HOST_STATE_READY, HOST_STATE_SUSPECTED
from batchyard.v1.job_pb2 import Job

from .nemesis import Struck
from .witness import Line, code_of_child
from .workload import Acknowledged, read_acknowledged
from .yard import CPUS, Yard

REST_LIMIT_S = 300.0
POLL_S = 2.0
BATCH = 100
LONG_AGO_S = 120.0
HARD = ("keeper", "past fence", "dies", "wipe")
"""Words of faults with which a host loses what ran there, or how it ended."""
SHARED = ("leader", "standby", "member", "compact", "answers")
"""Words of faults of what all need."""
OWN_ENDS = frozenset({EndCause.END_CAUSE_EXITED})
"""Causes with which an attempt's exit code is its own."""


@dataclass(slots=True, kw_only=True)
class Verdict:
    """
    What was found.

    Attributes:
        counts: Of what the report tells, by its words.
        violations: What must not be, with evidence.
        takeovers_s: From a leader's death to the next one's leading.
        readopts_s: From an agent's start after its death to its being connected.
    """

    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    takeovers_s: list[float] = field(default_factory=list)
    readopts_s: list[float] = field(default_factory=list)

    def violated(self, word: str, evidence: str) -> None:
        self.counts[word] += 1
        self.violations.append(f"{word}: {evidence}")

    def add(self, other: Verdict) -> None:
        """Take another yard's in."""
        self.counts.update(other.counts)
        self.violations += other.violations
        self.takeovers_s += other.takeovers_s
        self.readopts_s += other.readopts_s

    def report(self) -> str:
        """Return the line that is published."""
        counts, bound = self.counts, 3 / max(1, self.counts["faults"])
        wrong = (
            "lost",
            "twice",
            "overlaps",
            "wrong_exit",
            "leaked",
            "early",
            "overcommitted",
            "broken",
            "refused",
            "unexplained",
        )
        told = [f"{word}={counts[word]}" for word in ("faults", "acknowledged", "finished", "starts", *wrong)]
        takeovers = f"takeover p50/p99={quantile(self.takeovers_s, 0.5)}/{quantile(self.takeovers_s, 0.99)} s"
        readopts = f"readopt p50/p99={quantile(self.readopts_s, 0.5)}/{quantile(self.readopts_s, 0.99)} s"
        many = f"of {len(self.takeovers_s)} and {len(self.readopts_s)}"
        reruns = ", ".join(f"{count} {word}" for word, count in sorted(counts.items()) if word.startswith("ended by"))
        return (
            f"{' '.join(told)} {takeovers} {readopts} ({many}) bound 3/n={bound:.2%}; tried again: {reruns or 'none'}"
        )


def quantile(values: list[float], share: float) -> str:
    """Return a quantile, written."""
    return f"{sorted(values)[min(len(values) - 1, int(share * len(values)))]:.1f}" if values else "-"


def await_rest(yard: Yard) -> str:
    """Wait until all that was acknowledged has ended and nothing of it is left; return what still is, if not in time."""
    until, why = time.monotonic() + REST_LIMIT_S, "nothing was asked"
    with yard.client() as client:
        while time.monotonic() < until:
            try:
                for host in client.list_hosts():
                    if host.state == HOST_STATE_SUSPECTED:
                        client.uncordon_host(host.id)  # as an operator who has mended it
                ended = sum(1 for _ in client.list_jobs(states=[JobState.SUCCEEDED, JobState.FAILED], page_size=1000))
                left = [job.name for job in client.list_jobs(page_size=1000) if job.state not in FINAL]
                ready = sum(host.state == HOST_STATE_READY for host in client.list_hosts())
            except BatchyardError as error:
                why = str(error)
            else:
                kept = [one for host in yard.hosts.values() for one in host.kept()]
                if not left and not kept and not yard.witness.held() and ready >= len(yard.hosts):
                    return ""
                why = f"{ended} jobs have ended, not {left[:5]}; {kept[:5]} is kept; {ready} hosts are ready"
            time.sleep(POLL_S)
    return why


FINAL = (job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED)


def judge(yard: Yard, struck: list[Struck]) -> Verdict:
    """Judge a yard in which nothing fails any more."""
    verdict = Verdict()
    verdict.counts["faults"] = len(struck)
    if unrest := await_rest(yard):
        verdict.violated("leaked", f"it did not come to rest: {unrest}")
    acknowledged, lines = read_acknowledged(yard.folder), yard.witness.lines()
    verdict.counts["acknowledged"] = len(acknowledged)
    with yard.client() as client:
        listed = Counter(job.name for job in client.list_jobs(page_size=1000))
        names = [name for done in acknowledged for name in _ids(done)]
        found: dict[str, Job] = {}
        for start in range(0, len(names), BATCH):
            found |= {job.id: job for job in client.describe_jobs(names[start : start + BATCH])}
    for name, count in listed.items():
        if count > 1:
            verdict.violated("twice", f"{count} jobs are called {name}")
    for done in acknowledged:
        _judge_job(verdict, done, found)
    _judge_starts(verdict, lines)
    _judge_ends(verdict, lines, found)
    _judge_losses(verdict, struck, found)
    _judge_order(verdict, acknowledged, lines)
    _judge_room(verdict, lines, found)
    _judge_leavings(verdict, yard)
    _judge_programs(verdict, yard)
    _measure(verdict, yard, struck)
    return verdict


def _ids(done: Acknowledged) -> list[str]:
    return [f"{done.job_id}:{index}" for index in range(done.size)] or [done.job_id]


def _judge_job(verdict: Verdict, done: Acknowledged, found: dict[str, Job]) -> None:
    """See that a job is there and has ended as it must."""
    for index, name in enumerate(_ids(done)):
        code = code_of_child(index, done.code) if done.size else done.code
        job = found.get(name)
        if job is None or job.state not in FINAL:
            verdict.violated(
                "lost", f"{done.label} {name} was acknowledged and {'is not found' if job is None else _told(job)}"
            )
            continue
        verdict.counts["finished"] += 1
        wanted = job_pb2.JOB_STATE_FAILED if code else job_pb2.JOB_STATE_SUCCEEDED
        if job.state != wanted or not job.attempts or job.attempts[-1].exit_code != code:
            verdict.violated("wrong_exit", f"{done.label} must end with {code}: {_told(job)}")


def _told(job: Job) -> str:
    tries = "; ".join(
        f"#{each.number} on {each.host_name}, {EndCause.Name(each.cause)} {each.exit_code} {each.reason}"
        for each in job.attempts
    )
    return f"is {job_pb2.JobState.Name(job.state)} ({job.status_reason}): {tries}"


def _judge_starts(verdict: Verdict, lines: list[Line]) -> None:
    """See that no attempt started twice, none beside another, and all of a unit are of one job."""
    starts: Counter[tuple[str, int]] = Counter()
    by_unit: defaultdict[str, list[Line]] = defaultdict(list)
    for line in lines:
        by_unit[line.unit].append(line)
        if line.word == "START":
            starts[line.job_id, line.attempt] += 1
        elif line.word == "OVERLAP":
            verdict.violated("overlaps", f"{line} found this held: {by_unit[line.unit]}")
    verdict.counts["starts"] = starts.total()
    for (job_id, attempt), count in starts.items():
        if count > 1:
            verdict.violated("twice", f"{job_id}#{attempt} started {count} times")
    for unit, told in by_unit.items():
        if len({line.job_id for line in told}) > 1:
            verdict.violated("twice", f"{unit} ran as {sorted({line.job_id for line in told})}")
        for before, after in itertools.pairwise(told):
            if after.word == "END" and before.attempt != after.attempt:
                verdict.violated("overlaps", f"{unit}: {before}, then {after}")


def _judge_ends(verdict: Verdict, lines: list[Line], found: dict[str, Job]) -> None:
    """See that each attempt that ended by itself is told with its code, and none that did not."""
    ends = {(line.job_id, line.attempt): line.code for line in lines if line.word == "END"}
    started = {(line.job_id, line.attempt) for line in lines if line.word == "START"}
    for job in found.values():
        for attempt in job.attempts:
            key = (job.id, attempt.number)
            is_own = attempt.cause in OWN_ENDS and attempt.HasField("exit_code")
            if is_own and ends.get(key) != attempt.exit_code:
                verdict.violated("wrong_exit", f"{key} wrote {ends.get(key)}: {_told(job)}")
            if not is_own and key in ends:
                verdict.counts["unknown"] += 1
                if attempt is job.attempts[-1]:
                    verdict.violated("wrong_exit", f"{key} wrote {ends[key]}: {_told(job)}")
            if is_own and key not in started:
                verdict.violated("wrong_exit", f"{key} never started: {_told(job)}")


def _judge_losses(verdict: Verdict, struck: list[Struck], found: dict[str, Job]) -> None:
    """See that no host is said to have failed that was not hit hard enough, and count what was lost with those that were."""
    hit = {(fault.about, fault.at) for fault in struck if any(word in fault.kind for word in HARD)}
    for job in found.values():
        for attempt in job.attempts:
            if attempt.cause not in OWN_ENDS:
                verdict.counts[f"ended by {EndCause.Name(attempt.cause)}"] += 1
            if attempt.cause == EndCause.END_CAUSE_HOST_ERROR:
                since, until = attempt.claimed_at_ms / 1000 - LONG_AGO_S, attempt.stopped_at_ms / 1000 + LONG_AGO_S
                if not any(about == attempt.host_name and since < at < until for about, at in hit):
                    verdict.violated("unexplained", f"{job.name}#{attempt.number}: {_told(job)}")


def _judge_order(verdict: Verdict, acknowledged: list[Acknowledged], lines: list[Line]) -> None:
    """See that nobody started before what it waits for had ended."""
    ended: dict[str, float] = {}
    started: dict[str, float] = {}
    for line in lines:
        if line.word == "END":
            ended[line.unit] = line.at_s
        elif line.word == "START":
            started.setdefault(line.unit, line.at_s)
    for done in acknowledged:
        before, at = ended.get(done.depends_on, float("inf")), started.get(done.label)
        if done.depends_on and at is not None and at < before:
            verdict.violated("early", f"{done.label} started at {at}, {done.depends_on} ended at {before}")


def _judge_room(verdict: Verdict, lines: list[Line], found: dict[str, Job]) -> None:
    """See that no host ran more than it has room for; of attempts whose end nobody saw, nothing is known."""
    where = {(job.id, each.number): each.host_name for job in found.values() for each in job.attempts}
    whole = {(line.job_id, line.attempt) for line in lines if line.word == "END"}
    held: Counter[str] = Counter()
    for line in sorted(lines, key=lambda line: (line.at_s, line.word)):
        host = where.get((line.job_id, line.attempt), "")
        if not host or (line.job_id, line.attempt) not in whole or line.word == "OVERLAP":
            continue
        held[host] += 1 if line.word == "START" else -1
        if held[host] > CPUS:
            verdict.violated("overcommitted", f"{host} runs {held[host]} at {line.at_s}")


def _judge_leavings(verdict: Verdict, yard: Yard) -> None:
    """See that nothing of any attempt is left."""
    for unit in yard.witness.held():
        verdict.violated("leaked", f"something of {unit} lives")
    for host in yard.hosts.values():
        for one in host.kept():
            verdict.violated("leaked", f"{host.name} keeps {one}")
        for pid in host.processes():
            verdict.violated("leaked", f"{host.name} has process {pid}")


def _judge_programs(verdict: Verdict, yard: Yard) -> None:
    """See that no program broke, and no user was refused."""
    for program in yard.programs():
        text = program.text()
        if "Traceback" in text:
            verdict.violated("broken", f"{program.name}: {text[text.index('Traceback') :][:3000]}")
        if program is not yard.workload and not program.is_running:
            verdict.violated("broken", f"{program.name} ended by itself:\n{program.tail()}")
    refused = yard.folder / "refused"
    for line in refused.read_text().splitlines() if refused.exists() else ():
        verdict.violated("refused", line)


# Times --------------------------------------------------------------------------


def _measure(verdict: Verdict, yard: Yard, struck: list[Struck]) -> None:
    """Take times of those takeovers and adoptions beside which nothing else was struck that they need."""
    logs = [each.program.log for each in yard.controllers.values()]
    leading = sorted(at for log in logs for at, event in _events(log) if event == "leading")
    for fault in struck:
        others = [each for each in struck if each is not fault]
        if fault.kind == "kill leader":
            at = next((at for at in leading if at > fault.at), None)
            if at is not None and not _disturbed(others, fault.at, at, SHARED):
                verdict.takeovers_s.append(at - fault.at)
        elif fault.kind == "kill agent" and fault.until is not None:
            events = _events(yard.hosts[fault.about].agent.log)
            at = next((at for at, event in events if at > fault.until and event == "connected to the controller"), None)
            if at is not None and not _disturbed(others, fault.at, at, (*SHARED, fault.about)):
                verdict.readopts_s.append(at - fault.until)


def _disturbed(others: Iterable[Struck], begin: float, end: float, words: Iterable[str]) -> bool:
    """Say whether a fault of such a kind, or of such a thing, lasted in a span."""
    return any(
        any(word in f"{each.kind} {each.about}" for word in words)
        and each.at < end
        and (each.until is None or each.until > begin)
        for each in others
    )


def _events(log: Path) -> Iterator[tuple[float, str]]:
    """Return what a program's log tells, and when."""
    for line in log.read_text(errors="replace").splitlines():
        if found := re.match(r'timestamp=(\S+) level=\S+ event=(?:"([^"]*)"|(\S+))', line):
            yield datetime.fromisoformat(found[1]).timestamp(), found[2] or found[3]
