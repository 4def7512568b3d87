"""
The life of an attempt of several plain processes: each is kept as an attempt of its own, under a name of its own.

They have the attempt's working folder in common; all else (cgroup, log, limits, GPUs,
namespace) each has for itself. Who starts when and what follows, its `Course` says. The law
"started once at most" holds of each by its name at the keeper, which knows it until the
attempt is removed, also where it could not be started.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

from batchyard_agent.core.containers import Kill, Order, Seen, Start
from batchyard_agent.runtimes.plain_names import part_name
from batchyard_agent.runtimes.process_live import Live
from batchyard_agent.runtimes.protocol import LaunchSpec, Observe, StopSignal, Vanished
from batchyard_agent.runtimes.task_course import Course


class Carrier(Protocol):
    """Who has processes started, signalled and followed."""

    def start(self, live: Live, spec: LaunchSpec) -> None:
        """Have a process started that never was."""

    def take_up(self, live: Live) -> None:
        """Follow one that a former agent had started; it is told anew that it was, and how it ended."""

    def signal_one(self, live: Live, signal: StopSignal) -> None:
        """Signal one that was started."""


class Tasks:
    """
    All attempts of several that have not ended, by their plain names.

    Args:
        carrier: Carries out.
        observe: Is told of each attempt.
    """

    def __init__(self, carrier: Carrier, observe: Observe) -> None:
        self._carrier, self._observe = carrier, observe
        self._found: dict[str, tuple[_TaskAttempt, asyncio.Task[None]]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._found

    def launch(self, spec: LaunchSpec, name: str) -> None:
        """Begin one that was never launched."""
        self._live(_TaskAttempt(spec, name, self._carrier, self._observe), name)

    def resume(self, spec: LaunchSpec, name: str, kept: Iterable[str], gone: Iterable[str], why: str) -> None:
        """
        Go on with one that a former agent launched.

        Args:
            spec: The attempt's.
            name: The attempt's plain one.
            kept: Plain names of processes that the keeper has, running or ended.
            gone: Of those that ran, as far as one knows, and are lost.
            why: These are.
        """
        attempt = _TaskAttempt(spec, name, self._carrier, self._observe)
        attempt.resume(kept, gone, why)
        self._live(attempt, name)

    def signal(self, name: str, signal: StopSignal) -> None:
        """Signal all processes of one, or end it before they start; no error if it has ended."""
        if name in self._found:
            self._found[name][0].signal(signal)

    async def close(self) -> None:
        """Follow them no more. They go on."""
        lives = [life for _, life in self._found.values()]
        for life in lives:
            life.cancel()
        await asyncio.gather(*lives, return_exceptions=True)

    def _live(self, attempt: _TaskAttempt, name: str) -> None:
        life = asyncio.get_running_loop().create_task(attempt.run())
        self._found[name] = attempt, life
        life.add_done_callback(partial(self._on_done, name))

    def _on_done(self, name: str, life: asyncio.Task[None]) -> None:
        del self._found[name]
        if not life.cancelled() and (error := life.exception()):
            # A bug. The loop's handler decides; the app ends the agent, whose next life adopts.
            life.get_loop().call_exception_handler({"message": "the process runtime broke", "exception": error})


class _TaskAttempt:
    """
    One attempt of several.

    Args:
        spec: The attempt's.
        name: The attempt's plain one.
        carrier: Carries out.
        observe: Is told of the attempt.
    """

    def __init__(self, spec: LaunchSpec, name: str, carrier: Carrier, observe: Observe) -> None:
        self._specs = {part.part: part for part in spec.parts}
        self._carrier = carrier
        self._course = Course(spec, observe)
        self._lives = {part.part: _live(part, name, i, self._course.see) for i, part in enumerate(spec.parts)}
        disk_mib = sum(live.disk_mib for live in self._lives.values())
        for live in self._lives.values():
            live.disk_mib = disk_mib  # of the folder that they share

    def signal(self, signal: StopSignal) -> None:
        """Signal all of them, or end those that wait before they start."""
        self._course.see(signal)

    def resume(self, kept: Iterable[str], gone: Iterable[str], why: str) -> None:
        """Take up what a former agent left."""
        parts = {live.name: part for part, live in self._lives.items()}
        ended: list[list[Seen]] = [[Vanished(attempt_id=parts[each], reason=why)] for each in gone]
        running = []
        for each in kept:
            live = self._lives[parts[each]]
            seen: list[Seen] = []
            live.tell = seen.append
            self._carrier.take_up(live)
            live.tell = self._course.see
            if live.has_ended:
                ended.append(seen)
                continue
            running.append(parts[each])
            for observation in seen:
                self._course.see(observation)
        self._course.restore(running, ended)

    async def run(self) -> None:
        """Start all that may start, and see it to its end."""
        await self._course.run(self._carry_out)
        self._course.tell_end()

    async def _carry_out(self, orders: list[Order]) -> None:
        for order in orders:
            match order:
                case Start(part):
                    self._carrier.start(self._lives[part], self._specs[part])
                case Kill(part, signal):
                    self._carrier.signal_one(self._lives[part], signal)


def _live(spec: LaunchSpec, name: str, number: int, tell: Callable[[Seen], None]) -> Live:
    live = Live.from_spec(spec, part_name(name, number), tell)
    live.attempt_id = spec.part  # as the course knows it
    return live
