"""The fake runtime: all that the protocol asks, and no process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

from batchyard.resources import Resources
from batchyard_agent.runtimes.fake import FakeRuntime
from batchyard_agent.runtimes.protocol import (
    Adoption,
    Exited,
    LaunchSpec,
    Observation,
    Runtime,
    Started,
    StartFailed,
    StopSignal,
    Vanished,
)

from .specs import launch_spec


def attempt(attempt_id: str, *command: str, environment: Mapping[str, str] | None = None) -> LaunchSpec:
    return launch_spec(
        attempt_id=attempt_id,
        job_id="job",
        image="",
        command=command,
        environment=environment or {},
        resources=Resources(),
        log_path=Path("never-written"),
        log_bytes_max=0,
    )


class Told(asyncio.Queue[Observation]):
    """What the runtime told, in order."""

    async def next(self, count: int) -> list[Observation]:
        async with asyncio.timeout(60):
            return [await self.get() for _ in range(count)]


async def opened() -> tuple[Runtime, Told]:
    runtime, told = FakeRuntime(now_ms=lambda: 1000), Told()
    await runtime.open(told.put_nowait)
    return runtime, told


async def test_any_command_succeeds_at_once() -> None:
    """Started, then exit code 0, and not before launch has returned."""
    runtime, told = await opened()
    runtime.launch(attempt("a#1", "echo", "x"))
    assert told.empty()
    assert await told.next(2) == [
        Started(attempt_id="a#1", started_at_ms=1000),
        Exited(attempt_id="a#1", exit_code=0, stopped_at_ms=1000),
    ]
    assert await runtime.launched() == ["a#1"]
    assert not await runtime.remove(["a#1"])
    assert not await runtime.remove(["a#1"])
    assert await runtime.launched() == []


async def test_sleep_lasts_and_the_environment_overrides() -> None:
    """Duration and exit code are the test's to choose."""
    runtime, told = await opened()
    before_s = time.monotonic()
    runtime.launch(attempt("a#1", "sleep", "0.05"))
    await told.next(2)
    assert time.monotonic() - before_s >= 0.05
    fake = {"BATCHYARD_FAKE_DURATION_S": "0", "BATCHYARD_FAKE_EXIT_CODE": "3"}
    runtime.launch(attempt("b#1", "sleep", "600", environment=fake))
    assert (await told.next(2))[1] == Exited(attempt_id="b#1", exit_code=3, stopped_at_ms=1000)


async def test_a_duration_that_is_no_number_fails_the_start() -> None:
    """It is said, not taken for none."""
    runtime, told = await opened()
    runtime.launch(attempt("a#1", "sleep", "a-while"))
    [end] = await told.next(1)
    assert isinstance(end, StartFailed)
    assert "a-while" in end.reason


async def test_signals_end_it() -> None:
    """With the code that a real process would have; once only."""
    runtime, told = await opened()
    runtime.launch(attempt("a#1", "sleep", "600"))
    await runtime.signal("a#1", StopSignal.TERM)
    await runtime.signal("a#1", StopSignal.KILL)
    assert (await told.next(2))[1] == Exited(attempt_id="a#1", exit_code=137, stopped_at_ms=1000)
    await runtime.signal("a#1", StopSignal.KILL)
    runtime.launch(attempt("b#1"))
    assert [observation.attempt_id for observation in await told.next(2)] == ["b#1", "b#1"]


async def test_a_former_agents_attempt_has_vanished() -> None:
    """It may have run, so it is never said to be unlaunched."""
    runtime, told = await opened()
    assert await runtime.adopt(attempt("a#1")) is Adoption.KNOWN
    [end] = await told.next(1)
    assert isinstance(end, Vanished)


async def test_nothing_is_told_after_close() -> None:
    """The agent is gone."""
    runtime, told = await opened()
    runtime.launch(attempt("a#1"))
    runtime.launch(attempt("b#1", "sleep", "0.01"))
    await runtime.close()
    fresh, other = await opened()
    fresh.launch(attempt("c#1", "sleep", "0.02"))
    await other.next(2)
    assert told.empty()
