"""
The fake runtime: attempts that are nothing but a timer.

For benchmarks and simulated agents: real in all that the protocol asks, at a few
microseconds an attempt, without any process. It keeps nothing over a restart, so a
former agent's attempts have vanished.

``sleep N`` lasts N seconds, every other command no time at all; all exit with 0.
The environment overrides both: ``BATCHYARD_FAKE_DURATION_S``, ``BATCHYARD_FAKE_EXIT_CODE``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from batchyard_agent.runtimes.protocol import (
    Adoption,
    Entry,
    EntryEnd,
    EntryRefusedError,
    Exited,
    LaunchSpec,
    Observation,
    Observe,
    Started,
    StartFailed,
    StopSignal,
    Vanished,
    Wanted,
)


class FakeRuntime:
    """
    Pretends to run attempts.

    Args:
        now_ms: Wall clock.
    """

    name = "fake"
    fault = ""

    def __init__(self, *, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._running: dict[str, asyncio.Handle] = {}
        self._held: set[str] = set()

    async def open(self, observe: Observe) -> None:
        """See ``Runtime``."""
        self._observe: Observe | None = observe
        self._loop = asyncio.get_running_loop()

    def launch(self, spec: LaunchSpec) -> None:
        """See ``Runtime``."""
        attempt_id, now_ms = spec.attempt_id, self._now_ms()
        try:
            duration_s, exit_code = _duration_s(spec), int(spec.environment.get("BATCHYARD_FAKE_EXIT_CODE", 0))
        except ValueError as error:
            reason = f"CannotStartContainerError: {error}"[:255]
            self._tell(StartFailed(attempt_id=attempt_id, reason=reason, stopped_at_ms=now_ms))
            return
        self._held.add(attempt_id)
        started = Started(attempt_id=attempt_id, started_at_ms=now_ms)
        if duration_s > 0:
            self._tell(started)
            self._running[attempt_id] = self._loop.call_later(duration_s, self._end, attempt_id, exit_code)
        else:
            self._tell(started, Exited(attempt_id=attempt_id, exit_code=exit_code, stopped_at_ms=now_ms))

    async def adopt(self, spec: LaunchSpec) -> Adoption:
        """See ``Runtime``. What a former agent launched cannot be known."""
        if spec.attempt_id not in self._held:
            self._tell(Vanished(attempt_id=spec.attempt_id, reason="the fake runtime forgets at a restart"))
        return Adoption.KNOWN

    async def signal(self, attempt_id: str, signal: StopSignal) -> None:
        """See ``Runtime``."""
        if handle := self._running.get(attempt_id):
            handle.cancel()
            self._running[attempt_id] = self._loop.call_soon(self._end, attempt_id, 128 + signal)

    async def enter(self, spec: LaunchSpec, part: str, wanted: Wanted) -> Entry | EntryEnd:
        """See ``Runtime``. There is nothing to enter."""
        raise EntryRefusedError(f"the fake runtime runs nothing, so {wanted.command[0]!r} neither")

    async def remove(self, attempt_ids: Sequence[str]) -> Mapping[str, Exception]:
        """See ``Runtime``."""
        self._held.difference_update(attempt_ids)
        return {}

    async def launched(self) -> list[str]:
        """See ``Runtime``."""
        return sorted(self._held)

    async def discard(self, attempt_id: str) -> None:
        """See ``Runtime``."""
        self._held.discard(attempt_id)

    async def close(self) -> None:
        """See ``Runtime``. Unlike real ones, these attempts end with the agent."""
        self._observe = None
        for handle in self._running.values():
            handle.cancel()

    def _end(self, attempt_id: str, exit_code: int) -> None:
        del self._running[attempt_id]
        self._deliver(Exited(attempt_id=attempt_id, exit_code=exit_code, stopped_at_ms=self._now_ms()))

    def _tell(self, *observations: Observation) -> None:
        self._loop.call_soon(self._deliver, *observations)

    def _deliver(self, *observations: Observation) -> None:
        if self._observe:
            for observation in observations:
                self._observe(observation)


def _duration_s(spec: LaunchSpec) -> float:
    if "BATCHYARD_FAKE_DURATION_S" in spec.environment:
        return float(spec.environment["BATCHYARD_FAKE_DURATION_S"])
    command = spec.container.command
    if len(command) == 2 and command[0] == "sleep":
        return float(command[1])
    return 0.0
