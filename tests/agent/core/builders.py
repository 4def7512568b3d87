"""Builders for the agent's core: a table, a clock to turn, and attempts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from batchyard.ids import AttemptId
from batchyard.tasks import Container
from batchyard_agent.core.attempts import Attempt, AttemptSpec, GpuClaim, Meta, Phase, Table
from batchyard_agent.core.events import (
    EndAcknowledged,
    Event,
    Exited,
    Now,
    Started,
    StartRequested,
    StopRequested,
)
from batchyard_agent.core.turns import Turn, take_turn
from batchyard_agent.runtimes.protocol import LaunchSpec

A, B, C = AttemptId("job-a#1"), AttemptId("job-b#1"), AttemptId("job-c#1")
WALL_MS = 1_700_000_000_000
EPOCH = 3
SESSION = 4


def spec(
    attempt_id: AttemptId = A,
    *,
    runtime: str = "process",
    timeout_s: int = 0,
    gpus: tuple[GpuClaim, ...] = (),
    fence_ms: int | None = None,
):
    launch = LaunchSpec(
        attempt_id=attempt_id,
        job_id=attempt_id.partition("#")[0],
        container=Container(command=("true",)),
        environment={},
        log_path=Path("log"),
        log_bytes_max=1000,
    )
    return AttemptSpec(
        attempt_id=attempt_id, runtime=runtime, launch=launch, timeout_s=timeout_s, gpus=gpus, fence_ms=fence_ms
    )


def at(ms: int) -> Now:
    """The time *ms* milliseconds into the story."""
    return Now(boot_ms=ms, wall_ms=WALL_MS + ms)


def table(**changes: Any) -> Table:
    fields = {
        "meta": Meta(host_id="host-1", epoch=EPOCH, boot_id="boot-1", contact_ms=0),
        "session": SESSION,
        "launch_limits": {"process": 2},
        "runtimes": frozenset({"process", "fake"}),
    }
    return Table(**(fields | changes))


def start(attempt_id: AttemptId = A, epoch: int = EPOCH, session: int = SESSION, **changes: Any) -> StartRequested:
    return StartRequested(epoch=epoch, session=session, spec=spec(attempt_id, **changes))


def started(attempt_id: AttemptId = A, ms: int = 0) -> Started:
    return Started(attempt_id=attempt_id, started_at_ms=WALL_MS + ms)


def exited(attempt_id: AttemptId = A, ms: int = 0, exit_code: int = 0, **changes: Any) -> Exited:
    return Exited(attempt_id=attempt_id, exit_code=exit_code, stopped_at_ms=WALL_MS + ms, **changes)


def stop(attempt_id: AttemptId = A, grace_s: int = 0) -> StopRequested:
    return StopRequested(epoch=EPOCH, attempt_id=attempt_id, grace_s=grace_s)


def acknowledged(attempt_id: AttemptId = A) -> EndAcknowledged:
    return EndAcknowledged(epoch=EPOCH, attempt_id=attempt_id)


def turn(the_table: Table, ms: int, *events: Event) -> Turn:
    return take_turn(the_table, events, at(ms))


def running(the_table: Table, attempt_id: AttemptId = A, ms: int = 0, **changes: Any) -> Attempt:
    """Bring an attempt to RUNNING at *ms*."""
    turn(the_table, ms, start(attempt_id, **changes))
    turn(the_table, ms, started(attempt_id, ms))
    attempt = the_table.attempts[attempt_id]
    assert attempt.phase is Phase.RUNNING
    return attempt
