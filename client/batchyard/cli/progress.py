"""
Progress: what a waiting person sees on stderr, and the exit code at the end.

:class:`Tally` is pure: events in, one line of text out. :class:`Progress` shows it:
a status line that changes on a terminal, with a bar of how many have ended, else a line for each change.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Self

from batchyard import wording
from batchyard.cli import exits
from batchyard.cli import output as out
from batchyard.cli.clock import now_s
from batchyard.ids import split_job_id
from batchyard.states import JobState

if TYPE_CHECKING:
    from rich.status import Status

    from batchyard.sync import Client
    from batchyard.v1.job_pb2 import Job, JobEvent, JobSummary

_IN_ORDER = tuple(reversed(JobState))
"""Ended states first: they are what one waits for."""
BAR_WIDTH = 20
_ENDED, _LEFT = "\N{BOX DRAWINGS HEAVY HORIZONTAL}", "\N{BOX DRAWINGS LIGHT HORIZONTAL}"


@dataclass(slots=True, kw_only=True)
class Tally:
    """
    Where the watched jobs are.

    Attributes:
        watched: Ids of the jobs waited for.
        states: State of each of them, once it is known.
        children: Children of each watched array in each state.
    """

    watched: frozenset[str]
    states: dict[str, JobState] = field(default_factory=dict)
    children: dict[str, Counter[JobState]] = field(default_factory=dict)

    def see(self, event: JobEvent) -> None:
        """Take over the state of a watched job, or the change of an array's child."""
        job = event.job
        parent, index = split_job_id(job.id)
        if job.id in self.watched:
            self.states[job.id] = wording.job_state(job)
            if job.array.status_summary:
                self.children[job.id] = Counter({JobState(s): n for s, n in job.array.status_summary.items()})
        elif index is not None and event.previous_state and parent in self.children:
            self.children[parent][wording.job_state(job)] += 1
            self.children[parent][JobState(wording.word(_wire_state(), event.previous_state))] -= 1

    @property
    def has_counts(self) -> bool:
        """Whether there is more than one job to speak of."""
        return len(self.watched) > 1 or bool(self.children)

    @property
    def is_over(self) -> bool:
        """Whether every watched job has ended."""
        return len(self.states) == len(self.watched) and all(state.is_final for state in self.states.values())

    def line(self) -> str:
        """
        Write it all in one line: ``RUNNING``, or ``12 SUCCEEDED, 3 RUNNING, 5 RUNNABLE``.

        Empty until the state of every watched job is known.
        """
        if len(self.states) < len(self.watched):
            return ""
        counts = self._counted()
        return _counts(counts) if counts else next(iter(self.states.values())).value

    def bar(self, width: int) -> str:
        """Draw how many of several jobs, or of an array's children, have ended, and say so; empty of a single job."""
        counts = self._counted()
        total = sum(counts.values())
        if not total:
            return ""
        ended = sum(count for state, count in counts.items() if state.is_final)
        filled = width * ended // total
        return f"{_ENDED * filled}{_LEFT * (width - filled)} {ended:,}/{total:,}"

    def _counted(self) -> Counter[JobState]:
        """Count jobs by state, of one array its children; nothing of a single job, or once the array has ended."""
        if len(self.states) != 1:
            return Counter(self.states.values())
        (job_id, state), *_ = self.states.items()
        return Counter() if state.is_final else self.children.get(job_id, Counter())


class Progress:
    """
    Shows a tally on stderr while jobs are waited for; a context manager.

    Where stderr is no terminal, counts of many jobs are written once a second at
    most: an array of ten thousand would fill a log with its children's moves. Changes
    come in the client's thread; after an interrupt they may come late, and are not shown.
    """

    def __init__(self, job_ids: Sequence[str]) -> None:
        self._label = job_ids[0] if len(job_ids) == 1 else f"{len(job_ids)} jobs"
        self._tally = Tally(watched=frozenset(job_ids))
        self._shown = ""
        self._show_again_at_s = 0.0
        self._status: Status | None = None
        self._lock = threading.Lock()
        self._is_left = False

    def on_event(self, event: JobEvent) -> None:
        """Show a change, unless nobody waits any longer."""
        with self._lock:
            if not self._is_left:
                self._tally.see(event)
                self._show()

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console

            self._status = Console(stderr=True, highlight=False).status(f"{self._label}: ...")
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._is_left = True
        if self._status is not None:
            self._status.stop()

    def _show(self) -> None:
        line = self._tally.line()
        if line == self._shown or self._tally.is_over:  # the end is told by ``outcome``
            return
        if self._status is not None:
            self._status.update(" ".join(filter(None, [f"{self._label}:", self._tally.bar(BAR_WIDTH), line])))
        elif not self._tally.has_counts or now_s() >= self._show_again_at_s:
            out.note(f"{self._label}: {line}")
            self._show_again_at_s = now_s() + 1
        self._shown = line


def exit_code(client: Client, jobs: Sequence[Job]) -> int:
    """Return the highest exit code of ended jobs; an array's is its children's highest."""
    return max((_array_code(client, job) if job.array.size else code_of(job) for job in jobs), default=0)


def code_of(job: Job | JobSummary) -> int:
    """Return the exit code of an ended job: 0 when it succeeded, 1 when it failed without one."""
    if wording.job_state(job) is JobState.SUCCEEDED:
        return 0
    return job.exit_code if 0 < job.exit_code < 256 else exits.FAILED


def _array_code(client: Client, job: Job) -> int:
    if job.array.HasField("index"):
        return code_of(job)
    if wording.job_state(job) is JobState.SUCCEEDED:
        return 0
    failed = client.list_jobs(array_job_id=job.id, states=[JobState.FAILED], page_size=1000)
    return max(map(code_of, failed), default=exits.FAILED)


def outcome(job: Job) -> str:
    """Say in one line how an ended job ended."""
    state = wording.job_state(job)
    counts = Counter({JobState(s): n for s, n in job.array.status_summary.items()})
    parts = [_counts(counts)] if counts else []
    parts += [f"exit code {job.exit_code}"] if job.HasField("exit_code") else []
    why = job.ending_cause or job.status_reason
    parts += [why] if why and state is JobState.FAILED else []
    return f"{job.id} {state}" + (f" ({', '.join(parts)})" if parts else "")


def _counts(counts: Counter[JobState]) -> str:
    return ", ".join(f"{counts[state]} {state}" for state in _IN_ORDER if counts[state] > 0)


def _wire_state() -> wording.Enum:
    from batchyard.v1.job_pb2 import JobState as WireJobState

    return WireJobState
