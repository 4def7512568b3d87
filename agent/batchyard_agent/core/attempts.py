"""
The attempt table: what this host was told to run, and what became of it.

Records are frozen; a new phase comes only from ``Table.move``, which follows one
transition table. The table knows no wire format, no clock and no runtime. Law:
the phase of an attempt only rises, but for a launch that never left this process
(``take_back``), and an attempt that ended stays ended.
"""

from __future__ import annotations

import enum
import heapq
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from batchyard.ids import AttemptId
from batchyard.records import replace
from batchyard.resources import NO_USAGE, NOTHING, Resources, Usage
from batchyard.states import EndCause
from batchyard.tasks import ContainerEnd
from batchyard_agent.runtimes.protocol import LaunchSpec

TOMBSTONES_MAX = 100_000
"""Most attempts remembered after their acknowledgement; the oldest go first."""

TOMBSTONE_AGE_MS = 24 * 3600 * 1000
"""How long an acknowledged attempt is remembered, so that a late start is refused."""

ALARMS_SLACK = 1_000
"""Alarms of ended attempts that are let be before they are swept out."""


class Phase(enum.StrEnum):
    """How far an attempt has come."""

    ACCEPTED = "ACCEPTED"
    """Journalled; no runtime was asked to launch it, as far as this agent knows."""
    LAUNCHING = "LAUNCHING"
    """A runtime has it; its command does not run yet."""
    RUNNING = "RUNNING"
    ENDED = "ENDED"
    """Over; reported until the controller acknowledges."""
    DONE = "DONE"
    """Acknowledged; only a tombstone is left."""


TRANSITIONS: Mapping[Phase, frozenset[Phase]] = {
    Phase.ACCEPTED: frozenset({Phase.LAUNCHING, Phase.ENDED}),
    Phase.LAUNCHING: frozenset({Phase.RUNNING, Phase.ENDED}),
    Phase.RUNNING: frozenset({Phase.ENDED}),
    Phase.ENDED: frozenset({Phase.DONE}),
    Phase.DONE: frozenset(),
}

OVER = frozenset({Phase.ENDED, Phase.DONE})


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuClaim:
    """Thousandths of one GPU that the controller claimed for an attempt."""

    uuid: str
    millis: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptSpec:
    """
    One attempt as this host is told to run it.

    Attributes:
        runtime: Name of the runtime that its image asks for.
        timeout_s: Seconds it may be RUNNING; 0 means no limit.
        resources: What it was promised of the host.
        needs_secrets: Values must be had from the controller before the launch.
        wire: The message it came in, for the journal; opaque here.
        refusal: Why this agent cannot run it as asked; empty when it can.
        stop_timeout_s: What its containers say of the time from SIGTERM to SIGKILL, at most; 0: nothing.
        fence_ms: Its own fence; 0 means never, None that of its host (``Meta.fence_ms``).
    """

    attempt_id: AttemptId
    runtime: str
    launch: LaunchSpec
    timeout_s: int = 0
    gpus: tuple[GpuClaim, ...] = ()
    resources: Resources = NOTHING
    needs_secrets: bool = False
    wire: bytes = b""
    refusal: str = ""
    stop_timeout_s: int = 0
    fence_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """
    The wish to end an attempt; a fact only once the attempt has ended.

    Attributes:
        cause: What the attempt's end will be put down to.
        reason: Text of that end; empty leaves the runtime's.
        grace_ms: Time between SIGTERM and SIGKILL; 0 means SIGKILL at once.
        kill_at_ms: When SIGKILL is due (boottime); None until a signal was sent.
    """

    cause: EndCause
    reason: str = ""
    grace_ms: int
    kill_at_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """
    Everything known about one attempt.

    Attributes:
        spec: None once DONE, and for attempts stopped before they were heard of.
        launched: A runtime may hold traces of it, so it must be told to let go.
        started_at_ms: Wall clock; 0 until it ran.
        stopped_at_ms: Wall clock; 0 until ENDED.
        exit_code: None when there is none to tell; of what ran at a terminal, once it is being stopped for that.
        cause: Set exactly when the phase is ENDED or DONE.
        timeout_at_ms: When its time is up (boottime); None without a limit.
        done_at_ms: When it was acknowledged (boottime, of whichever boot); 0 until DONE.
        containers: How each of several is, or ended.
        hindrance: What keeps it from starting, while it is LAUNCHING; empty: nothing that is known.
        image_digest: Which image it runs; not in the journal, as its runtime tells it anew.
    """

    attempt_id: AttemptId
    phase: Phase
    runtime: str = ""
    spec: AttemptSpec | None = None
    launched: bool = False
    started_at_ms: int = 0
    stopped_at_ms: int = 0
    exit_code: int | None = None
    cause: EndCause | None = None
    reason: str = ""
    stop: Stop | None = None
    timeout_at_ms: int | None = None
    done_at_ms: int = 0
    usage: Usage = NO_USAGE
    containers: tuple[ContainerEnd, ...] = ()
    hindrance: str = ""
    image_digest: str = ""

    @property
    def is_over(self) -> bool:
        """Whether it has ended for ever."""
        return self.phase in OVER


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """
    What the agent must remember besides attempts.

    Attributes:
        epoch: Highest one seen; commands below it are refused.
        boot_id: The boot of the machine in which the rest was written.
        contact_ms: When the last acknowledged heartbeat was sent (boottime).
        fence_ms: Silence after which attempts are killed that have no fence of their own; 0 means never.
        yard: Whose epochs are counted; empty: that of this machine, whoever has its socket.
        run: Number of this run of the agent, one higher each time it starts.
    """

    host_id: str
    epoch: int = 0
    boot_id: str = ""
    contact_ms: int | None = None
    fence_ms: int = 0
    yard: str = ""
    run: int = 0


class IllegalMoveError(AssertionError):
    """A bug: an attempt was about to leave the transition table."""


@dataclass(slots=True, kw_only=True)
class Table:
    """
    All attempts of this host; changed by ``reconcile`` and ``turns`` alone.

    Attributes:
        gpu_faults: What is wrong with GPUs, by UUID.
        reclaim_at_ms: When the machine is taken away (boottime); None if nobody says so.
        reclaimed: That time has come, and everything was told to stop.
        attempts: Those not yet DONE.
        tombstones: The DONE ones, oldest first.
        launch_limits: Most launches in flight by runtime; absent means no bound.
        launching: Launches in flight, by runtime.
        waiting: Accepted attempts that wait for a launch, by runtime, in order.
            May hold attempts that have gone on since; they are skipped.
        adopting: Attempts whose runtime is being asked whether it knows them.
        adoption_failures: How often the adoption of attempts broke.
        launch_errors: What went wrong with a launch that broke half-way.
        unremoved: Acknowledged attempts whose removal broke and is to be repeated.
        discarding: Runtimes of attempts that the journal does not know and that are being
            killed. Nothing is launched beside them, as they hold what the host has.
        fenced_ms: Fences of up to so long were raised for the present silence; 0: none.
        session: Number of the session whose starts are taken; None before this run of
            the agent was welcomed by a controller.
        contact_saved_ms: Which ``meta.contact_ms`` the journal holds.
    """

    meta: Meta
    launch_limits: Mapping[str, int] = field(default_factory=dict)
    runtimes: frozenset[str] = frozenset()
    gpu_uuids: frozenset[str] = frozenset()
    gpu_faults: Mapping[str, str] = field(default_factory=dict)
    reclaim_at_ms: int | None = None
    reclaimed: bool = False
    attempts: dict[AttemptId, Attempt] = field(default_factory=dict)
    tombstones: dict[AttemptId, Attempt] = field(default_factory=dict)
    launching: dict[str, set[AttemptId]] = field(default_factory=dict)
    waiting: dict[str, deque[AttemptId]] = field(default_factory=dict)
    adopting: set[AttemptId] = field(default_factory=set)
    adoption_failures: dict[AttemptId, int] = field(default_factory=dict)
    launch_errors: dict[AttemptId, str] = field(default_factory=dict)
    unremoved: set[AttemptId] = field(default_factory=set)
    discarding: dict[AttemptId, str] = field(default_factory=dict)
    fenced_ms: int = 0
    session: int | None = None
    contact_saved_ms: int | None = None
    _alarms: list[tuple[int, AttemptId]] = field(default_factory=list)
    _fences: Counter[int | None] = field(default_factory=Counter)
    """How many living attempts have each fence, None: that of the host."""

    def get(self, attempt_id: AttemptId) -> Attempt | None:
        """Return the attempt, also if only its tombstone is left."""
        return self.attempts.get(attempt_id) or self.tombstones.get(attempt_id)

    def living(self) -> Iterator[Attempt]:
        """Yield all attempts that have not ended; the table may change meanwhile."""
        return (a for a in list(self.attempts.values()) if not a.is_over)

    def add(self, attempt: Attempt) -> None:
        """Take in an attempt that the table has never held."""
        assert self.get(attempt.attempt_id) is None, attempt
        self.attempts[attempt.attempt_id] = attempt
        self._fences[_own_fence(attempt)] += 1

    def restore(self, attempt: Attempt) -> None:
        """
        Take in an attempt from the journal; tombstones must come by age.

        Whether a launch was begun before the agent died nobody knows, so such an
        attempt counts as accepted, and as one that a runtime may hold.
        """
        if attempt.phase is Phase.DONE:
            self.tombstones[attempt.attempt_id] = attempt
            return
        if attempt.phase is Phase.LAUNCHING:
            attempt = replace(attempt, phase=Phase.ACCEPTED)
        self.attempts[attempt.attempt_id] = replace(attempt, launched=True)
        if not attempt.is_over:
            self._fences[_own_fence(attempt)] += 1

    def note(self, attempt: Attempt) -> Attempt:
        """Keep changed fields of an attempt whose phase stays the same."""
        assert self.attempts[attempt.attempt_id].phase is attempt.phase, attempt
        self.attempts[attempt.attempt_id] = attempt
        return attempt

    def move(self, attempt: Attempt) -> Attempt:
        """
        Store *attempt*, which has come to a new phase.

        Raises:
            IllegalMoveError: the transition table has no such move.
        """
        attempt_id = attempt.attempt_id
        former = self.attempts[attempt_id]
        if attempt.phase not in TRANSITIONS[former.phase]:
            raise IllegalMoveError(f"{attempt.phase} does not follow {former}")
        if attempt.phase is Phase.ENDED:
            self._fences[_own_fence(former)] -= 1
        if attempt.phase is Phase.DONE:
            del self.attempts[attempt_id]
            self.tombstones[attempt_id] = attempt
        else:
            self.attempts[attempt_id] = attempt
        return attempt

    def queue(self, attempt: Attempt) -> None:
        """Put an accepted attempt at the end of those that wait for a launch."""
        self.waiting.setdefault(attempt.runtime, deque()).append(attempt.attempt_id)

    def take_back(self, attempt_id: AttemptId) -> None:
        """Let an attempt wait again, before all others, whose launch no runtime was told of."""
        attempt = self.attempts[attempt_id]
        assert attempt.phase is Phase.LAUNCHING, attempt
        self.attempts[attempt_id] = replace(attempt, phase=Phase.ACCEPTED)
        self.free_slot(attempt)
        self.waiting[attempt.runtime].appendleft(attempt_id)

    def free_slot(self, attempt: Attempt) -> None:
        """Note that the launch of *attempt* is no longer in flight."""
        self.launching.get(attempt.runtime, set()).discard(attempt.attempt_id)

    def release(self, attempt: Attempt) -> None:
        """Drop whatever was kept while *attempt* started."""
        self.free_slot(attempt)
        self.adopting.discard(attempt.attempt_id)
        self.launch_errors.pop(attempt.attempt_id, None)
        self.adoption_failures.pop(attempt.attempt_id, None)

    def set_alarm(self, due_ms: int, attempt_id: AttemptId) -> None:
        """Have the attempt looked at when *due_ms* (boottime) has come."""
        if len(self._alarms) > 2 * len(self.attempts) + ALARMS_SLACK:
            # Attempts mostly end long before their timeout; drop what they left.
            self._alarms = [alarm for alarm in self._alarms if self._minds(alarm[1])]
            heapq.heapify(self._alarms)
        heapq.heappush(self._alarms, (due_ms, attempt_id))

    def _minds(self, attempt_id: AttemptId) -> bool:
        return attempt_id in self.attempts or attempt_id in self.unremoved or attempt_id in self.discarding

    def pop_alarms(self, now_ms: int) -> Iterator[AttemptId]:
        """Yield the attempts whose alarms have gone off, each alarm once."""
        while self._alarms and self._alarms[0][0] <= now_ms:
            yield heapq.heappop(self._alarms)[1]

    @property
    def fence_at_ms(self) -> int | None:
        """When attempts are to be killed next for the present silence (boottime); None: never, as far as is known."""
        if self.meta.contact_ms is None:
            return None
        fences = [fence_ms for fence_ms in self.living_fences if fence_ms > self.fenced_ms]
        return self.meta.contact_ms + min(fences) if fences else None

    @property
    def living_fences(self) -> set[int]:
        """The fences of all attempts that have not ended; 0 means never."""
        return {self.meta.fence_ms if own is None else own for own, number in self._fences.items() if number}

    def fence_of(self, attempt: Attempt) -> int:
        """Return the fence of an attempt; 0 means never."""
        own = _own_fence(attempt)
        return self.meta.fence_ms if own is None else own

    def is_in_touch(self, attempt: Attempt, now_ms: int) -> bool:
        """
        Say whether the controller still counts on this host for an attempt: after its fence another may have it.

        That no fence is due is not enough: it is not due any more once it was raised, nor
        before the first contact, as after a reboot or in a copied state folder.
        """
        if self.session is None or self.meta.contact_ms is None:
            return False
        fence_ms = self.fence_of(attempt)
        return fence_ms <= 0 or now_ms < self.meta.contact_ms + fence_ms

    @property
    def next_due_ms(self) -> int | None:
        """When ``Ticked`` has something to do next (boottime)."""
        dues = [self._alarms[0][0]] if self._alarms else []
        if self.fence_at_ms is not None:
            dues.append(self.fence_at_ms)
        if self.reclaim_at_ms is not None and not self.reclaimed:
            dues.append(self.reclaim_at_ms)
        return min(dues, default=None)


def _own_fence(attempt: Attempt) -> int | None:
    return attempt.spec.fence_ms if attempt.spec is not None else None
