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

_PROGRAM: contextvars.ContextVar[Program | None] = contextvars.ContextVar("program", default=None)
CATCH_UP_S = 0.02
HANDLE_S = 1e-6
"""What each takes: who asks for a clock twice never finds it standing still."""


class EndlessError(Exception):
    """The world does not come to rest."""


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
        self.frozen: list[asyncio.Handle] = []
        self.backlog: list[tuple[Callable[..., None], Any]] = []
        """What came for it while it stood still: it hears that a moment after it has seen the clock."""
        self.grave: list[asyncio.Handle] = []
        self.on_death: list[Callable[[], None]] = []
        self.on_stop: list[Callable[[], None]] = []
        self.on_go_on: list[Callable[[], None]] = []
        self._loop = loop
        self._on_error = on_error
        self._context = contextvars.copy_context()
        self._context.run(_PROGRAM.set, self)
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run *work* as a part of this program; if it breaks, the program does."""
        task = self.spawn(work)
        task.add_done_callback(self._look, context=self._context)
        return task

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run *work* in this program, and let whoever holds the task see to its end."""
        task = self._loop.create_task(work, context=self._context.copy())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard, context=self._context)
        return task

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
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._numbers = 0
        self._on_error = on_error
        self.steps = 0

    def time(self) -> float:
        """Return the seconds since the world began."""
        return self._now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._numbers += 1
        heapq.heappush(self._timers, (when, self._numbers, handle))
        handle._scheduled = True
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Do nothing: it is left out when its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None) -> asyncio.Task[Any]:
        self._numbers += 1
        return Task(coro, loop=self, name=name, context=context, number=self._numbers)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, BaseException):
            self._on_error("loop", error)

    def take_back(self, handles: list[asyncio.Handle]) -> None:
        """Have handles run that could not before."""
        self._ready.extend(handles)

    def run_to(self, end: float, is_over: Callable[[], bool] = lambda: False) -> None:
        """
        Run until the clock shows *end*, or *is_over* says so, which is asked whenever nothing is ready.

        Raises:
            EndlessError: something goes on for ever.
        """
        events._set_running_loop(self)
        try:
            while self._step_time(end, is_over):
                while self._ready:
                    self._run_one(self._ready.popleft())
        finally:
            events._set_running_loop(None)

    def _step_time(self, end: float, is_over: Callable[[], bool]) -> bool:
        """Make the next timers ready; say whether there is anything to do before *end*."""
        if self._ready:
            return True
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        if is_over() or not self._timers or self._timers[0][0] > end:
            self._now = self._now if is_over() else end
            return False
        self._now = max(self._now, self._timers[0][0])
        while self._timers and self._timers[0][0] <= self._now:
            self._ready.append(heapq.heappop(self._timers)[2])
        return True

    def _run_one(self, handle: asyncio.Handle) -> None:
        if handle.cancelled():
            return
        self.steps += 1
        self._now += HANDLE_S
        if self.steps > STEPS_MAX:
            raise EndlessError(f"after {self._now:.3f} s: {handle}")
        program = handle._context.get(_PROGRAM)
        if program is not None:
            if not program.is_alive:
                program.grave.append(handle)
                return
            if program.is_stopped:
                program.frozen.append(handle)
                return
        handle._run()
