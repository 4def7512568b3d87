"""
An event loop whose clock jumps, and programs that may be stopped, go on, or die in it.

asyncio's own tasks, futures and locks run on it unchanged. When nothing is ready, the clock
jumps to the next timer. A handle belongs to the program in whose context it was made: those
of a program that is stopped (SIGSTOP) wait, those of one that was killed never run, and none of
its ``finally`` either, as after SIGKILL. Law: one seed, one history; nothing here asks a real
clock, and what iterates over sets of tasks finds them in the order in which they were made.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

STEPS_MAX = 400_000
"""Handles of one history; a world that takes more is in an endless loop."""
AT_ONCE_MAX = 2_000
"""Handles before the next timer, likewise; worlds that come to rest have less than a hundred."""

_PROGRAM: contextvars.ContextVar[Program | None] = contextvars.ContextVar("program", default=None)
CATCH_UP_S = 0.02
HANDLE_S = 1e-6
"""What each takes: who asks for a clock twice never finds it standing still."""


class EndlessError(Exception):
    """The world does not come to rest."""


class Handle:
    """Something that is to be called: as little of ``asyncio.Handle`` as asyncio asks for."""

    __slots__ = ("args", "callback", "context", "is_cancelled")

    def __init__(
        self, callback: Callable[..., Any], args: tuple[Any, ...], context: contextvars.Context | None
    ) -> None:
        self.callback, self.args = callback, args
        self.context = contextvars.copy_context() if context is None else context
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True

    def cancelled(self) -> bool:
        return self.is_cancelled


class Task(asyncio.Task):
    """A task that is hashed by its number, so that sets of tasks have one order."""

    def __init__(self, coro: Any, *, number: int, **more: Any) -> None:
        self._number = number
        super().__init__(coro, **more)
        self._log_destroy_pending = False

    def __hash__(self) -> int:
        return self._number


class Program:
    """One process of one machine, from its start to its end."""

    def __init__(self, loop: VirtualLoop, name: str, on_error: Callable[[str, BaseException], None]) -> None:
        self.name = name
        self.is_alive = True
        self.is_stopped = False
        self.stopped_at = 0.0
        self.frozen: list[Handle] = []
        self.backlog: list[tuple[Callable[..., None], Any]] = []
        """What came for it while it stood still: it hears that a moment after it has seen the clock."""
        self.grave: list[Handle] = []
        self.on_death: list[Callable[[], None]] = []
        self.on_stop: list[Callable[[], None]] = []
        self.on_go_on: list[Callable[[], None]] = []
        self._loop = loop
        self._on_error = on_error
        self._context = contextvars.copy_context()
        self._context.run(_PROGRAM.set, self)

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run *work* as a part of this program; if it breaks, the program does."""
        task = self.spawn(work)
        task.add_done_callback(self._look, context=self._context)
        return task

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run *work* in this program; nobody need hold the task, as nothing is collected while a world lives."""
        return self._loop.create_task(work, context=self._context.copy())

    def call(self, what: Callable[..., Any], *args: Any) -> None:
        """Call something soon, as a part of this program."""
        self._loop.call_soon(what, *args, context=self._context)

    def _look(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_error(self.name, error)

    def stop(self) -> None:
        """Let it stand still, as SIGSTOP does."""
        if self.is_alive and not self.is_stopped:
            self.is_stopped, self.stopped_at = True, self._loop.time()
            for tell in list(self.on_stop):
                tell()

    def go_on(self) -> None:
        """Let it go on where it stood."""
        if self.is_stopped:
            self.is_stopped = False
            frozen, self.frozen = self.frozen, []
            self._loop.take_back(frozen)
            self._loop.call_later(CATCH_UP_S, self._catch_up, context=contextvars.Context())
            for tell in list(self.on_go_on):
                tell()

    def puts_off(self, what: Callable[..., None], message: Any) -> bool:
        """Keep for later what comes for a program that stands still, and what comes behind that."""
        if self.is_stopped or self.backlog:
            self.backlog.append((what, message))
            return True
        return False

    def _catch_up(self) -> None:
        if not self.is_stopped:
            backlog, self.backlog = self.backlog, []
            for what, message in backlog:
                what(message)

    def busy(self, seconds: float) -> None:
        """Let it compute for so long: meanwhile it hears nothing, and its timers wait."""
        if seconds > 0 and not self.is_stopped:
            self.is_stopped, self.stopped_at = True, self._loop.time()
            self._loop.call_later(seconds, self.go_on, context=contextvars.Context())

    def kill(self) -> None:
        """End it at once, as SIGKILL does."""
        if self.is_alive:
            self.is_alive = False
            self.grave += self.frozen
            for tell in list(self.on_death):
                tell()


class VirtualLoop(asyncio.AbstractEventLoop):
    """As much of an event loop as asyncio asks for where no sockets, threads or signals are."""

    def __init__(self, on_error: Callable[[str, BaseException], None]) -> None:
        self._now = 0.0
        self._ready: deque[Handle] = deque()
        self._timers: list[tuple[float, int, Handle]] = []
        self._numbers = 0
        self._on_error = on_error
        self._is_over = False
        self.steps = 0
        self._steps_max = AT_ONCE_MAX

    def time(self) -> float:
        """Return the seconds since the world began."""
        return self._now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def stop(self) -> None:
        """Go no further than what is ready now."""
        self._is_over = True

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Handle:  # type: ignore[override]
        handle = Handle(callback, args, context)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]  # there is one thread

    def run_in_executor(self, executor: object, work: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Do at once what is asked of a thread."""
        done = self.create_future()
        done.set_result(work(*args))
        return done

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Handle:  # type: ignore[override]
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Handle:  # type: ignore[override]
        handle = Handle(callback, args, context)
        self._numbers += 1
        heapq.heappush(self._timers, (when, self._numbers, handle))
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None) -> asyncio.Task[Any]:
        self._numbers += 1
        return Task(coro, loop=self, name=name, context=context, number=self._numbers)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, BaseException):
            self._on_error("loop", error)

    def take_back(self, handles: list[Handle]) -> None:
        """Have handles run that could not before."""
        self._ready.extend(handles)

    def run_to(self, end: float) -> None:
        """
        Run until the clock shows *end*, or until it is stopped.

        Raises:
            EndlessError: something goes on for ever.
        """
        ready, timers, pop = self._ready, self._timers, heapq.heappop
        events._set_running_loop(self)
        try:
            while True:
                while ready:
                    self._run(ready.popleft())
                if self._is_over:
                    return
                if not timers or timers[0][0] > end:
                    self._now = end
                    return
                when, _, handle = pop(timers)
                if handle.is_cancelled:
                    continue
                self._now = max(self._now, when)
                self._steps_max = min(STEPS_MAX, self.steps + AT_ONCE_MAX)
                ready.append(handle)
                while timers and timers[0][0] <= self._now:
                    ready.append(pop(timers)[2])
        finally:
            events._set_running_loop(None)

    def _run(self, handle: Handle) -> None:
        if handle.is_cancelled:
            return
        self.steps += 1
        self._now += HANDLE_S
        if self.steps > self._steps_max:
            raise EndlessError(f"after {self._now:.3f} s: {handle.callback}")
        program = handle.context.get(_PROGRAM)
        if program is not None:
            if not program.is_alive:
                program.grave.append(handle)
                return
            if program.is_stopped:
                program.frozen.append(handle)
                return
        try:
            handle.context.run(handle.callback, *handle.args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001  # as asyncio's own
            self._on_error("loop", error)
