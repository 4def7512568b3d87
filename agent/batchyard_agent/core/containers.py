"""
Containers of one task: who may start, who has ended, what follows, and how it all ended.

Pure: what happened and the time in, orders out. Each container is ordered to start once at
most. An essential container's end, whatever it is, ends the task: the others get SIGTERM,
and SIGKILL when their stop timeout is over. Nothing of this is written down: after the
agent's death the runtime tells anew what it finds (``restore``).

Sources: AWS Batch API reference (TaskContainerProperties, TaskContainerDependency), Amazon
ECS Developer Guide ("Container dependency"); what they leave open: docs/decisions/0031.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from batchyard.resources import NO_USAGE
from batchyard.tasks import Container, ContainerDependency, ContainerEnd
from batchyard_agent.runtimes.protocol import (
    ContainersChanged,
    Exited,
    Started,
    StartFailed,
    StopSignal,
    Vanished,
)

STOP_TIMEOUT_S = 30
"""AWS: stopTimeout."""
KILL_REPEAT_MS = 10_000
REASON_LENGTH_MAX = 255
STOPPED_EARLY_REASON = "Stopped before it started"
OUT_OF_MEMORY_REASON = "OutOfMemoryError: Container killed due to memory usage"
"""AWS's text."""


@dataclass(frozen=True, slots=True)
class Start:
    """Have a container created and started."""

    name: str


@dataclass(frozen=True, slots=True)
class Kill:
    """Signal a container that runs, or is being started."""

    name: str
    signal: StopSignal


Order = Start | Kill
End = Exited | StartFailed | Vanished
Seen = Started | End
"""What a runtime tells of a container, whose name stands for the attempt's id."""


class Stage(enum.Enum):
    """How far a container has come."""

    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    OVER = "over"
    """It has ended, or the task has ended without it."""


@dataclass(slots=True)
class _Part:
    """
    One container.

    Attributes:
        since_ms: When its present stage began (boottime).
        started_at_ms: Wall clock; 0 until it ran.
        end: None of one that the task ended without.
        told: It was signalled, so that its end says nothing of itself.
        kill_at_ms: When SIGKILL is due (boottime); None until it was signalled.
    """

    container: Container
    since_ms: int
    stage: Stage = Stage.WAITING
    started_at_ms: int = 0
    end: End | None = None
    told: bool = False
    kill_at_ms: int | None = None

    @property
    def name(self) -> str:
        return self.container.shown_name

    @property
    def lives(self) -> bool:
        return self.stage in (Stage.STARTING, Stage.RUNNING)

    @property
    def has_succeeded(self) -> bool:
        return isinstance(self.end, Exited) and self.end.exit_code == 0


class Containers:
    """The containers of one task, from its beginning to its end."""

    def __init__(self, containers: Iterable[Container], now_ms: int) -> None:
        self._parts = {c.shown_name: _Part(container=c, since_ms=now_ms) for c in containers}
        self._ended: list[_Part] = []
        """Those that ended, in the order of their ends."""
        self._failure: StartFailed | None = None
        """Why one that waits can never start."""
        self._is_stopped = False
        """Somebody outside wants it to end."""
        self._told_started = False
        self._told: tuple[ContainerEnd, ...] = ()
        """What ``news`` last told of each."""

    # What happens.

    def restore(self, found: Iterable[Seen | str]) -> None:
        """
        Take what a former agent left: names of containers that were started and run, and ends, oldest first.

        Whom that agent had signalled nobody knows any more: what ended after the task was over counts as stopped.
        """
        for each in found:
            if isinstance(each, str):
                self._parts[each].stage = Stage.STARTING
            elif isinstance(each, Started):
                self._parts[each.attempt_id].started_at_ms = each.started_at_ms
            else:
                part = self._parts[each.attempt_id]
                part.told = self._is_ending
                self._end(part, each)

    def begin(self, now_ms: int) -> list[Order]:
        """Order the first ones to start."""
        return list(self._follow(now_ms))

    def observe(self, seen: Seen, now_ms: int) -> list[Order]:
        """Take what a runtime tells of a container."""
        part = self._parts[seen.attempt_id]
        if part.stage is Stage.OVER:
            return []
        if isinstance(seen, Started):
            part.stage, part.since_ms, part.started_at_ms = Stage.RUNNING, now_ms, seen.started_at_ms
        else:
            self._end(part, seen)
        return list(self._follow(now_ms))

    def stop(self, signal: StopSignal, now_ms: int) -> list[Order]:
        """Signal all, and start no more."""
        self._is_stopped = True
        if signal is not StopSignal.KILL:
            return list(self._follow(now_ms))
        for part in self._parts.values():
            if part.lives:
                part.told, part.kill_at_ms = True, now_ms
        return list(self._follow(now_ms))

    def on_time(self, now_ms: int) -> list[Order]:
        """Do what time demands."""
        return list(self._follow(now_ms))

    # What is so.

    @property
    def is_over(self) -> bool:
        """Whether nothing runs any more, nor ever will."""
        return all(part.stage is Stage.OVER for part in self._parts.values())

    @property
    def next_due_ms(self) -> int | None:
        """When ``on_time`` has something to do next (boottime)."""
        kills = [p.kill_at_ms for p in self._parts.values() if p.lives and p.kill_at_ms is not None]
        limits = [] if self._is_ending else [due_ms for _, due_ms, _ in self._limits()]
        return min((*kills, *limits), default=None)

    def news(self, attempt_id: str) -> list[Started | ContainersChanged]:
        """Return what is to be told of the attempt that was not told yet: that it runs, and how its containers are."""
        found: list[Started | ContainersChanged] = []
        if (ends := self.ends) != self._told:
            self._told = ends
            found.append(ContainersChanged(attempt_id=attempt_id, containers=ends))
        if not self._told_started and (started_at_ms := self.running_since_ms):
            self._told_started = True
            found.append(Started(attempt_id=attempt_id, started_at_ms=started_at_ms))
        return found

    def last_news(self, attempt_id: str) -> list[Started | End]:
        """Return how the attempt ended, when it is over; of one that was not told to run and has an exit code, when it ran."""
        end = self.outcome(attempt_id)
        if isinstance(end, Exited) and not self._told_started:
            started_at_ms = max(each.started_at_ms for each in self.ends)
            return [Started(attempt_id=attempt_id, started_at_ms=started_at_ms), end]
        return [end]

    @property
    def running_since_ms(self) -> int:
        """When the last of them was started (wall clock): from then on the task runs; 0 until then."""
        if any(part.stage in (Stage.WAITING, Stage.STARTING) for part in self._parts.values()):
            return 0
        if self._failure is not None or any(
            part.end is None and not part.started_at_ms for part in self._parts.values()
        ):
            return 0
        return max(part.started_at_ms for part in self._parts.values())

    @property
    def ends(self) -> tuple[ContainerEnd, ...]:
        """How each ended, in their order."""
        return tuple(map(_told, self._parts.values()))

    def outcome(self, attempt_id: str) -> End:
        """
        Return how the task ended, as the end of its attempt.

        Of the essential containers that ended by themselves the first that failed decides; if none
        did, one that succeeded. Where there is none, something could not start, or all was stopped.
        """
        assert self.is_over, self._parts
        essential = [part for part in self._ended if part.container.essential]
        own = [part for part in essential if not part.told]
        deciding = next((part for part in own if not part.has_succeeded), next(iter(own), None))
        if deciding is None and self._failure is None:
            deciding = next((part for part in essential if isinstance(part.end, Exited)), None)
        if deciding is None or deciding.end is None:
            end: End = self._failure or StartFailed(attempt_id="", reason=STOPPED_EARLY_REASON)
        else:
            end = deciding.end
        if isinstance(end, Exited):
            exits = [part.end for part in self._ended if isinstance(part.end, Exited)]
            stopped_at_ms, usage = max(e.stopped_at_ms for e in exits), sum((e.usage for e in exits), NO_USAGE)
            return replace(end, attempt_id=attempt_id, stopped_at_ms=stopped_at_ms, usage=usage, containers=self.ends)
        if isinstance(end, StartFailed):
            return replace(end, attempt_id=attempt_id, containers=self.ends)
        return replace(end, attempt_id=attempt_id)

    # What follows.

    @property
    def _is_ending(self) -> bool:
        return self._is_stopped or self._failure is not None or any(part.container.essential for part in self._ended)

    def _end(self, part: _Part, end: End) -> None:
        part.stage, part.end = Stage.OVER, end
        if isinstance(end, Exited):
            part.started_at_ms = part.started_at_ms or end.stopped_at_ms
        self._ended.append(part)

    def _follow(self, now_ms: int) -> Iterator[Order]:
        """Yield what is to be done as things are."""
        if not self._is_ending:
            self._failure = self._find_failure(now_ms)
        if self._is_ending:
            yield from self._wind_up(now_ms)
            return
        ready = [p for p in self._parts.values() if p.stage is Stage.WAITING and self._may_start(p)]
        for part in ready:
            part.stage, part.since_ms = Stage.STARTING, now_ms
            yield Start(part.name)

    def _wind_up(self, now_ms: int) -> Iterator[Order]:
        """End what lives, and start no more."""
        for part in self._parts.values():
            if part.stage is Stage.WAITING:
                part.stage = Stage.OVER
            elif part.lives and part.kill_at_ms is None:
                part.told = True
                part.kill_at_ms = now_ms + 1000 * (part.container.stop_timeout_s or STOP_TIMEOUT_S)
                yield Kill(part.name, StopSignal.TERM)
            elif part.lives and part.kill_at_ms is not None and part.kill_at_ms <= now_ms:
                part.kill_at_ms = now_ms + KILL_REPEAT_MS
                yield Kill(part.name, StopSignal.KILL)

    def _may_start(self, part: _Part) -> bool:
        return all(self._is_met(dependency) for dependency in part.container.depends_on)

    def _is_met(self, dependency: ContainerDependency) -> bool:
        return dependency.is_met_by(_told(self._parts[dependency.container]))

    def _find_failure(self, now_ms: int) -> StartFailed | None:
        """Say why one that waits can never start, or has waited too long; None if all may yet."""
        for part in self._parts.values():
            if part.stage is not Stage.WAITING:
                continue
            for dependency in part.container.depends_on:
                other = self._parts[dependency.container]
                if other.stage is Stage.OVER and not self._is_met(dependency):
                    return _unstartable(part, dependency, other)
        for part, due_ms, limit_s in self._limits():
            if due_ms <= now_ms:
                waited = ", ".join(d.container for d in part.container.depends_on if not self._is_met(d))
                text = f"Container {part.name} was not started: {waited} did not get ready within {limit_s} s"
                return StartFailed(attempt_id="", reason=text[:REASON_LENGTH_MAX])
        return None

    def _limits(self) -> Iterator[tuple[_Part, int, int]]:
        """
        Yield who waits, until when at most (boottime), and which limit that is.

        A container's own limit counts from the task's beginning; that of one that it waits for from that one's start,
        as Amazon ECS has it.
        """
        for part in self._parts.values():
            if part.stage is not Stage.WAITING:
                continue
            if limit_s := part.container.start_timeout_s:
                yield part, part.since_ms + 1000 * limit_s, limit_s
            for dependency in part.container.depends_on:
                other = self._parts[dependency.container]
                if (limit_s := other.container.start_timeout_s) and other.lives and not self._is_met(dependency):
                    yield part, other.since_ms + 1000 * limit_s, limit_s


def _unstartable(part: _Part, dependency: ContainerDependency, other: _Part) -> StartFailed:
    """Say why one can never start for what became of another; what the host did to that one it did to the task."""
    name, found = f"Container {part.name} was not started", dependency.container
    match other.end:
        case StartFailed() as failed:
            text = f"{name}: {found} could not start: {failed.reason}"
            return replace(failed, reason=text[:REASON_LENGTH_MAX], exit_code=None)
        case Exited(exit_code=code, host_failed=host_failed):
            why = f"exited with {code}"
        case Vanished(reason=why):
            host_failed = True
        case None:
            why, host_failed = "was not started", False
    text = f"{name}: {found}, which it waits for, {why}"
    return StartFailed(attempt_id="", reason=text[:REASON_LENGTH_MAX], host_failed=host_failed)


def _told(part: _Part) -> ContainerEnd:
    """Say how a container ended, for people."""
    end, name = part.end, part.name
    match end:
        case Exited():
            reason = end.reason or (OUT_OF_MEMORY_REASON if end.out_of_memory and end.exit_code else "")
            return ContainerEnd(
                name=name,
                exit_code=end.exit_code,
                reason=reason,
                started_at_ms=part.started_at_ms,
                stopped_at_ms=end.stopped_at_ms,
            )
        case StartFailed():
            return ContainerEnd(name=name, exit_code=end.exit_code, reason=end.reason)
        case Vanished():
            return ContainerEnd(name=name, reason=end.reason, started_at_ms=part.started_at_ms)
        case None:
            reason = "" if part.stage is not Stage.OVER else "It was not started"
            return ContainerEnd(name=name, reason=reason, started_at_ms=part.started_at_ms)
