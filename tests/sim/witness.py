"""
The witness: sees starts and ends with its own eyes, each commit, each answer, and holds the invariants to them.

I1 lost, I2 once, I3 no overlap, I4 claimed, I5 truth, I6 capacity, I7 monotone, I8 leader, I9 clean,
I10 answers; and seven that these do not say: B, who is given up though too many fell silent at once; H, what
is claimed for a host that nobody hears; C, which hosts are launched; L, all comes to rest once nothing fails
any more; O, who waits for whom; S, what may be had together; X, a program broke. It knows nothing of faults but
which machines were damaged, and believes no program's word.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.core.law import described, written

from batchyard.states import EndCause, JobState
from batchyard_controller.core.model.jobs import Job
from batchyard_controller.core.model.past import sums_of
from batchyard_controller.core.model.units import units_of
from batchyard_controller.core.model.usage import UsageSum
from batchyard_controller.core.reactor.adoption import UNKNOWN_END
from batchyard_controller.core.reactor.recovery import restore
from batchyard_controller.core.world.world import World
from batchyard_controller.store.moves import PREFIX

from .etcd import Commit
from .machine import Machine, Running
from .orders import Orders
from .shares import Shares

if TYPE_CHECKING:
    from .yard import Yard

EARLY_S = 1.0


@dataclass(frozen=True, slots=True)
class Violation:
    """One invariant that did not hold."""

    invariant: str
    text: str
    at: float

    def __str__(self) -> str:
        return f"{self.invariant} at {self.at:.3f} s: {self.text}"


@dataclass(slots=True)
class Run:
    """One attempt as it truly ran."""

    machine: str
    started_at: float
    ended_at: float | None = None
    exit_code: int | None = None
    by_itself: bool = False


class Witness:
    """Of one world."""

    def __init__(self, yard: Yard) -> None:
        self.yard = yard
        self.violations: list[Violation] = []
        self.orders = Orders(self)
        self.shares = Shares(self)
        self.counts: Counter[str] = Counter()
        self.runs: dict[str, Run] = {}
        self.acknowledged: dict[str, str] = {}
        """Job ids by label."""
        self.labels: dict[str, str] = {}
        self.by_unit: dict[str, list[str]] = {}
        """Attempts that ran, in the order of their starts."""
        self.claims: dict[str, dict[str, Any]] = {}
        self.claimed_at: dict[str, float] = {}
        self._unclaimed: set[str] = set()
        self.endings: dict[str, Any] = {}
        """How jobs ended, as stored."""
        self._seen_final: dict[str, int] = {}
        self._epoch = 0
        self.given_up: list[str] = []
        """Attempts that were given up or have ended, since a leader's world was looked at."""
        self.sent: set[str] = set()
        """Attempts whose hosts were told to start them, by any leader."""

    def forget_endings(self) -> None:
        """Let jobs end anew, as a backup does not know how they ended."""
        self.endings.clear()
        self._seen_final.clear()
        self._unclaimed.clear()

    def violated(self, invariant: str, text: str) -> None:
        self.violations.append(Violation(invariant, self.label(text), self.yard.loop.time()))
        self.told("!!", f"{invariant} IS BROKEN: {text}")
        self.yard.loop.stop()

    def told(self, who: str, what: str) -> None:
        self.yard.transcript.append((self.yard.loop.time(), who, what))

    def label(self, text: str) -> str:
        """Write jobs by their names."""
        for job_id, name in self.labels.items():
            text = text.replace(job_id, name)
        return text

    # What runs ----------------------------------------------------------------

    def started(self, machine: Machine, running: Running) -> None:
        attempt_id = running.attempt_id
        self.counts["starts"] += 1
        self.told(machine.name, f"{attempt_id} starts, for {running.duration_s:g} s")
        if attempt_id in self.runs:
            self.counts["twice"] += 1
            self.violated("I2", f"{attempt_id} is started a second time, on {machine.name}")
        unit = attempt_id.rpartition("#")[0]
        for other_id in self.by_unit.get(unit, ()):
            other = self.runs[other_id]
            if other.ended_at is None and other_id != attempt_id:
                self.counts["overlaps"] += 1
                self.violated("I3", f"{attempt_id} starts on {machine.name} while {other_id} runs on {other.machine}")
        claim = self.claims.get(attempt_id)
        if claim is None or claim["host_id"] != running.host_id:
            self.violated("I4", f"{attempt_id} starts on {machine.name}; claimed: {claim and claim['host_id']}")
        if attempt_id in self._unclaimed and not self.yard.was_restored:
            self.violated("I4", f"{attempt_id} starts on {machine.name} after it was given up")
        used = sum(each.cpu_millis for each in machine.running.values() if each.runs)
        if used > machine.cpu_millis:
            self.violated("I6", f"{machine.name} runs {used} of {machine.cpu_millis} millis of its CPUs")
        self.runs[attempt_id] = Run(machine.name, self.yard.loop.time())
        self.by_unit.setdefault(unit, []).append(attempt_id)
        self.orders.look_at_start(attempt_id)
        self.shares.look_at_start(attempt_id)

    def ended(self, machine: Machine, running: Running, code: int | None) -> None:
        run = self.runs[running.attempt_id]
        run.ended_at, run.exit_code, run.by_itself = self.yard.loop.time(), code, running.by_itself
        how = "with its machine" if code is None else f"with {code}"
        self.told(machine.name, f"{running.attempt_id} ends {how}")

    def obeyed(self, machine: Machine, epoch: int, known: int) -> None:
        """Note that an agent was welcomed by a leader that others followed, and took it."""
        if not self.yard.was_restored:
            self.violated("I7", f"{machine.name} obeys epoch {epoch} again, and has known epoch {known}")

    # What is stored -----------------------------------------------------------

    def committed(self, commit: Commit) -> None:
        """Look at one transaction."""
        changes = commit.changes
        if "leader" in changes and changes["leader"] is not None:
            self.counts["terms"] += 1
            self.told("etcd", f"epoch {commit.revision} begins: {changes['leader'].decode()}")
            if commit.revision <= self._epoch and not self.yard.was_restored:
                self.violated("I7", f"epoch {commit.revision} follows {self._epoch}")
            self._epoch = commit.revision
            return
        if commit.compared is None or commit.compared != commit.leader_revision:
            self.violated("I8", f"epoch {commit.compared} writes while {commit.leader_revision} leads")
        for key, value in changes.items():
            kind, _, name = key.partition("/")
            match kind:
                case "job" if value is None:
                    self._on_left(name)
                case "attempt":
                    self._on_attempt(name, value)
                case "state" if value is not None:
                    self._on_state(name, json.loads(value))
                case "launch":
                    self.yard.cloud.look_at(name, value)
        self.told("etcd", f"revision {commit.revision}: {_brief(changes)}")

    def _on_attempt(self, name: str, value: bytes | None) -> None:
        if value is None:
            self._unclaimed.add(name)
            self.given_up.append(name)
            run = self.runs.get(name)
            if run is not None and run.ended_at is None and not self.yard.was_restored:
                self.violated("I3", f"{name} is given up while it runs on {run.machine}")
            return
        if name in self._unclaimed and not self.yard.was_restored:
            self.violated("I7", f"{name} is claimed again after it ended")
        claim = json.loads(value)
        if name not in self.claims and claim["host_id"] in self.yard.operator.closed and not self.yard.was_restored:
            self.violated("H", f"{name} is claimed for {claim['host_id']}, which is to get no work")
        if name not in self.claims:
            self.shares.look_at_claim(name, claim["host_id"])
        self.claims[name] = claim
        self.claimed_at.setdefault(name, self.yard.loop.time())

    def _on_state(self, job_id: str, state: dict[str, Any]) -> None:
        ending = state.get("ending")
        if job_id in self.endings and ending != self.endings[job_id] and not self.yard.was_restored:
            self.violated("I7", f"{job_id} ended by {self.endings[job_id]}, now by {ending}")
        if ending is not None:
            self.endings[job_id] = ending

    def _on_left(self, job_id: str) -> None:
        """Look at the archive for a job that was deleted in the store."""
        is_acknowledged = job_id in self.acknowledged.values()
        if self.yard.traits.keep_jobs is None:
            if is_acknowledged:
                self.violated("I1", f"{job_id} was acknowledged and is deleted")
            return
        job = self.yard.shelf.jobs().get(job_id)
        if job is None:
            self.violated("I1", f"{job_id} is deleted, and not in the archive")
        elif not job.state.is_final:
            self.violated("I1", f"{job_id} is archived as {job.state}")

    # What is answered ---------------------------------------------------------

    def submitted(self, label: str, job_id: str, *, is_again: bool = False) -> None:
        self.counts["repeats" if is_again else "acknowledged"] += 1
        self.told("user", f"{label} is acknowledged{' again' * is_again}")
        known = self.acknowledged.setdefault(label, job_id)
        if known != job_id:
            self.counts["twice"] += 1
            self.violated("I10", f"{label} is two jobs: {known} and {job_id}")
        self.labels[job_id] = label

    def described(self, label: str, found: Any | None) -> None:
        """Look at what a reader was told of a job that was acknowledged before it asked."""
        self.counts["reads"] += 1
        if found is None:
            if not self.yard.was_restored:
                self.violated("I10", f"{label} was acknowledged, and is not found")
            return
        was = self._seen_final.get(label)
        if was is not None and found.state != was:
            self.violated("I10", f"{label} was seen in final state {was}, then in {found.state}")
        if found.state in (6, 7):
            self._seen_final[label] = found.state

    # In the end ---------------------------------------------------------------

    def at_rest(self, world: World, pairs: dict[str, bytes], archived: dict[str, Job]) -> None:
        """Look at everything once nothing goes on any more."""
        jobs = {**archived, **world.jobs}
        for label, job_id in self.acknowledged.items():
            if job_id not in jobs:
                self.counts["lost"] += 1
                self.violated("I1", f"{label} was acknowledged and is lost")
        self._check_archive(world, archived)
        self.orders.look_at_tokens(world, jobs)
        for job in jobs.values():
            self.labels.setdefault(job.id, job.name)
            for unit in units_of(job):
                self._check_truth(unit)
                self.orders.look_at_end(unit, jobs)
        stored = {key: value for key, value in pairs.items() if key != "leader" and not key.startswith(PREFIX)}
        afresh = {key: value for key, value, is_due in written(world) if is_due or key in stored}
        if stored != afresh:
            wrong = sorted(key for key in stored.keys() | afresh.keys() if stored.get(key) != afresh.get(key))
            self.violated("I9", f"what is stored is not what is held: {wrong[:5]}")
        for attempt_id, run in self.runs.items():
            if run.ended_at is None:
                self.violated("I9", f"{attempt_id} still runs on {run.machine}")

    def _check_archive(self, world: World, archived: dict[str, Job]) -> None:
        """Look whether jobs that left stand apart from those that stay, and were summed once."""
        left = {job_id: job for job_id, job in archived.items() if job_id not in world.jobs}
        self.counts["archived"] += len(left)
        numbers = Counter(job.seq for job in (*left.values(), *world.jobs.values()))
        if twice := [number for number, times in numbers.items() if times > 1]:
            self.violated("I10", f"number {twice[0]} in the order of submission is that of two jobs")
        sums: dict[str, UsageSum] = {}
        for job in left.values():
            for name, each in sums_of(job).items():
                sums.setdefault(name, UsageSum()).merge(each)
        if sums != world.past and not self.yard.was_restored:
            told, true = (sum(each.attempts for each in some.values()) for some in (world.past, sums))
            self.violated("I9", f"of jobs that left {told} attempts are summed; there were {true}")

    def same_when_restored(self, world: World, records: Any, now: Any) -> None:
        try:
            again = described(restore(records, now, world.retention))
        except Exception as error:  # noqa: BLE001  # as a new leader, which would break
            self.violated("I9", f"no world can be restored from the store: {error}")
            return
        if again != described(world):
            self.violated("I9", "a world restored from the store is another")

    def _check_truth(self, unit: Any) -> None:
        for ended in unit.attempts:
            attempt_id = ended.id_of(unit.id)
            run = self.runs.get(attempt_id)
            if run is None:
                if ended.cause in (EndCause.EXITED, EndCause.OUT_OF_MEMORY) or ended.started_at_ms:
                    self.violated("I5", f"{attempt_id} never ran, and is told to have ended by {ended.cause}")
                continue
            self._check_end(attempt_id, run, ended, unit)

    def _check_end(self, attempt_id: str, run: Run, ended: Any, unit: Any) -> None:
        if ended.cause is EndCause.EXITED and ended.exit_code != run.exit_code:
            self.violated("I5", f"{attempt_id} exited with {run.exit_code}, and is told to have with {ended.exit_code}")
        if ended.cause is EndCause.TIMED_OUT and run.ended_at is not None:
            ran_s, limit_s = run.ended_at - run.started_at, unit.job.spec.timeout_s
            if ran_s < limit_s - EARLY_S:
                self.violated("I5", f"{attempt_id} was ended for its time after {ran_s:.1f} of {limit_s} s")
        machine = self.yard.machines.get(run.machine)
        is_whole = machine is not None and machine.damage < run.started_at
        if run.by_itself and is_whole and ended.cause in (EndCause.HOST_ERROR, EndCause.START_FAILED):
            self.violated("I5", f"{attempt_id} exited with {run.exit_code}; told is {ended.cause}: {ended.reason}")
        if is_whole and ended.reason == UNKNOWN_END:
            self.violated("I5", f"{attempt_id} ran on {run.machine}, which remembers that; told is: {ended.reason}")
        if unit.state is JobState.SUCCEEDED and ended is unit.attempts[-1] and run.exit_code not in (0, None):
            is_node_stopped = unit.is_node and not unit.leads
            if not is_node_stopped:
                self.violated("I5", f"{unit.id} SUCCEEDED, and {attempt_id} exited with {run.exit_code}")


def _brief(changes: dict[str, bytes | None]) -> str:
    kinds = Counter(("-" if value is None else "+") + key.partition("/")[0] for key, value in changes.items())
    names = [key.partition("/")[2] for key in changes if key.startswith(("attempt/", "job/"))]
    what = ", ".join(f"{kind} {number}" if number > 1 else kind for kind, number in kinds.items())
    return f"{what} ({', '.join(names)})" if names else what
