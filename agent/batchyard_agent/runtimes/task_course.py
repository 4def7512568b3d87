"""
The course of an attempt of several containers, whichever runtime carries it out.

What is seen of them comes in one line with what time demands; `Containers` decides what
follows, the runtime carries it out, and of the attempt as a whole is told when it began to run
and how it ended. It must never start or signal anything itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from batchyard_agent import clock
from batchyard_agent.core.containers import Containers, Order, Seen, Start
from batchyard_agent.runtimes.protocol import (
    LaunchSpec,
    Observe,
    StartFailed,
    StopSignal,
)

NO_SECRETS_REASON = "ResourceInitializationError: unable to pull secrets: the agent was restarted, and had them no more"

CarryOut = Callable[[list[Order]], Awaitable[None]]


class Course:
    """
    One attempt of several, from its beginning or its adoption to its end.

    Args:
        spec: The attempt's.
        observe: Is told of the attempt.
    """

    def __init__(self, spec: LaunchSpec, observe: Observe) -> None:
        self._attempt_id = spec.attempt_id
        self._observe = observe
        self._containers = Containers([part.container for part in spec.parts], _boot_ms())
        self._lacking = {
            part.part for part in spec.parts if part.container.secrets and not (part.secrets or part.secret_files)
        }
        """Of an adopted attempt, whose secrets could not be had again: who needs some."""
        self._seen: asyncio.Queue[Seen | StopSignal] = asyncio.Queue()

    def see(self, seen: Seen | StopSignal) -> None:
        """Take what became of a container, whose name stands for the attempt's id, or that all are to be signalled."""
        self._seen.put_nowait(seen)

    def restore(self, running: Iterable[str], ended: Iterable[list[Seen]]) -> None:
        """
        Take what a former agent left.

        Args:
            running: Names of those that were started and have not ended.
            ended: What was seen of each of the others that were, its end last.
        """
        by_end = sorted(ended, key=lambda seen: _ended_at_ms(seen[-1]))
        self._containers.restore([*(each for seen in by_end for each in seen), *running])

    async def run(self, carry_out: CarryOut) -> None:
        """Go on until nothing runs any more, nor ever will."""
        if self._seen.empty():  # else it was stopped meanwhile, and starts nothing
            await carry_out(self._possible(self._containers.begin(_boot_ms())))
        while not self._containers.is_over:
            for each in self._containers.news(self._attempt_id):
                self._observe(each)
            await carry_out(self._possible(await self._next()))

    def _possible(self, orders: list[Order]) -> list[Order]:
        """Leave out who is to start and lacks its secrets, which is a failed start."""
        failed = [order.name for order in orders if isinstance(order, Start) and order.name in self._lacking]
        for name in failed:
            self.see(StartFailed(attempt_id=name, reason=NO_SECRETS_REASON, host_failed=True))
        return [order for order in orders if order.name not in failed]

    async def _next(self) -> list[Order]:
        """Wait for what happens next, or for what time demands; return what follows from it."""
        due_ms = self._containers.next_due_ms
        try:
            async with asyncio.timeout(None if due_ms is None else max(0, due_ms - _boot_ms()) / 1000):
                seen = await self._seen.get()
        except TimeoutError:
            return self._containers.on_time(_boot_ms())
        if isinstance(seen, StopSignal):
            return self._containers.stop(seen, _boot_ms())
        return self._containers.observe(seen, _boot_ms())

    def tell_end(self) -> None:
        """Tell how the attempt ended."""
        for each in self._containers.last_news(self._attempt_id):
            self._observe(each)


def _boot_ms() -> int:
    return clock.read_now().boot_ms


def _ended_at_ms(end: Seen) -> int:
    return getattr(end, "stopped_at_ms", 0)
