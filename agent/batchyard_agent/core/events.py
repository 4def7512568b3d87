"""
Events: what has happened, in the past tense. They are facts and never rejected.

What a runtime observes (Started, ContainersChanged, Hindered, Exited, StartFailed, Vanished)
is an event as it comes. Events from the controller carry the epoch of the leader that spoke.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from batchyard.ids import AttemptId
from batchyard_agent.core.attempts import AttemptSpec
from batchyard_agent.core.commands import RuntimeCommand
from batchyard_agent.runtimes.protocol import (
    Adoption,
    ContainersChanged,
    Exited,
    Hindered,
    Observation,
    Started,
    StartFailed,
    Vanished,
)

__all__ = ["ContainersChanged", "Exited", "Hindered", "StartFailed", "Started", "Vanished"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """
    The time, on both clocks.

    Attributes:
        boot_ms: CLOCK_BOOTTIME, which goes on through suspend; for deadlines.
        wall_ms: Milliseconds since 1970; for what people read.
    """

    boot_ms: int
    wall_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOpened:
    """
    The controller welcomed this agent.

    Attributes:
        sent_at_ms: When the agent's hello was sent (boottime).
        fence_ms: See ``Meta``.
        session: Number of the session, which its starts carry.
    """

    epoch: int
    sent_at_ms: int
    fence_ms: int
    session: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatAcknowledged:
    """The controller answered the heartbeat that was sent at ``sent_at_ms`` (boottime)."""

    epoch: int
    sent_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRequested:
    """The controller claimed this host for an attempt, and said so in a session."""

    epoch: int
    session: int = 0
    spec: AttemptSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRequested:
    """The controller wants an attempt ended: SIGTERM, and SIGKILL after ``grace_s``."""

    epoch: int
    attempt_id: AttemptId
    grace_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeRequested:
    """The controller gives an attempt up: it must never start, or die at once."""

    epoch: int
    attempt_id: AttemptId


@dataclass(frozen=True, slots=True, kw_only=True)
class EndAcknowledged:
    """The controller has stored how the attempt ended."""

    epoch: int
    attempt_id: AttemptId


FromController = (
    SessionOpened | HeartbeatAcknowledged | StartRequested | StopRequested | RevokeRequested | EndAcknowledged
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """
    The agent has started and read its journal.

    Attributes:
        boot_id: The machine's present boot.
        held: Runtime and attempt of everything that runtimes still hold.
    """

    boot_id: str
    held: tuple[tuple[str, AttemptId], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeOpened:
    """A runtime can be used that could not when the agent started; ``held`` as in ``Recovered``."""

    held: tuple[tuple[str, AttemptId], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Discarded:
    """Nothing is left of an attempt that the journal did not know."""

    attempt_id: AttemptId


@dataclass(frozen=True, slots=True, kw_only=True)
class HostChanged:
    """
    The host has other runtimes or GPUs than before.

    Attributes:
        gpu_faults: What is wrong with GPUs, by UUID.
    """

    runtimes: frozenset[str]
    gpu_uuids: frozenset[str]
    gpu_faults: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostReclaimed:
    """The machine is to be taken away at ``at_ms`` (boottime); None: it is not, after all."""

    at_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """A runtime said whether it knows an attempt."""

    attempt_id: AttemptId
    adoption: Adoption


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalEnded:
    """
    The command of an attempt with a terminal has ended, or nobody has been at it for too long.

    Attributes:
        exit_code: The attempt's, from now on.
        reason: Empty mostly.
    """

    attempt_id: AttemptId
    exit_code: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandFailed:
    """
    A runtime broke while carrying out a command; what took effect is unknown.

    Attributes:
        is_away: It cannot be used now, so nothing speaks against the attempt.
    """

    command: RuntimeCommand
    error: str
    is_away: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticked:
    """Time has passed."""


Event = (
    FromController
    | Observation
    | Recovered
    | RuntimeOpened
    | Discarded
    | HostChanged
    | HostReclaimed
    | Adopted
    | TerminalEnded
    | CommandFailed
    | Ticked
)
