"""
The engine's event stream: one thread that tells the event loop which containers ended.

The engine's events may be lost (it restarts, it drops what a slow reader does
not take), so they are only the fast way. Law: after every connect the runtime
is told to look for itself, and the stream begins before that look, so that
nothing falls between the two.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

import structlog

from batchyard_agent.runtimes.docker_engine import EngineError, EngineSilentError, Stream
from batchyard_agent.runtimes.docker_facts import ContainerDied, ContainerEvent

BACKOFF_S_MIN = 0.1
BACKOFF_S_MAX = 5.0
STOP_TIMEOUT_S = 5
OUTAGES_MAX = 100
CLOCK_SLACK_MS = 1_000
"""How far the engine's clock and ours may be apart, on one machine, and how late a break may be seen."""

_log = structlog.get_logger(__name__)


class EventSource(Protocol):
    """Where events can be followed, blocking."""

    def events(self, scope: str, since_s: int) -> Stream[ContainerEvent]:
        """Return the stream."""


class EventWatch:
    """
    Follows the engine's events until closed, through engine restarts.

    Args:
        source: The engine.
        scope: Value of the host label.
        since_s: Where to begin, by the engine's clock.
        on_event: Called on the event loop, in the engine's order. Events may
            come twice.
        on_connected: Called on the event loop after each connect.
        now_ms: Wall clock.
    """

    def __init__(
        self,
        source: EventSource,
        scope: str,
        since_s: int,
        on_event: Callable[[ContainerEvent], None],
        on_connected: Callable[[], None],
        now_ms: Callable[[], int],
    ) -> None:
        self._source = source
        self._scope = scope
        self._since_s = since_s
        self._on_event = on_event
        self._on_connected = on_connected
        self._now_ms = now_ms
        self._lost_at_ms: int | None = None
        self._outages: deque[tuple[int, int]] = deque(maxlen=OUTAGES_MAX)
        self._loop = asyncio.get_running_loop()
        self._stopped = threading.Event()
        self._stream: Stream[ContainerEvent] | None = None
        self._thread = threading.Thread(target=self._run, name="docker events", daemon=True)
        self._thread.start()

    def was_away(self, at_ms: int) -> bool:
        """Say whether the engine did not speak at that time: it was down, or the way to it was."""
        outages = [*self._outages]
        if self._lost_at_ms is not None:
            outages.append((self._lost_at_ms, self._now_ms()))
        return any(start - CLOCK_SLACK_MS <= at_ms <= end + CLOCK_SLACK_MS for start, end in outages)

    def close(self) -> None:
        """Stop following. Blocks for a moment."""
        self._stopped.set()
        if self._stream is not None:
            self._stream.close()
        self._thread.join(STOP_TIMEOUT_S)

    def _run(self) -> None:
        wait_s, is_warned = 0.0, False
        while not self._stopped.wait(wait_s):
            try:
                self._stream = self._source.events(self._scope, self._since_s)
                wait_s, is_warned = BACKOFF_S_MIN, False
                if self._lost_at_ms is not None:
                    self._outages.append((self._lost_at_ms, self._now_ms()))
                self._lost_at_ms = None
                self._follow(self._stream)
                self._lost_at_ms = self._now_ms()
            except (EngineError, EngineSilentError) as error:
                self._lost_at_ms = self._lost_at_ms or self._now_ms()
                wait_s = min(max(2 * wait_s, BACKOFF_S_MIN), BACKOFF_S_MAX)
                if not is_warned:
                    _log.warning("the Docker Engine's events broke off; connecting again", error=str(error))
                is_warned = True

    def _follow(self, stream: Stream[ContainerEvent]) -> None:
        if self._stopped.is_set():
            stream.close()
        self._tell(self._on_connected)
        for event in stream:
            if isinstance(event, ContainerDied):
                self._since_s = event.at_ms // 1000
            self._tell(functools.partial(self._on_event, event))

    def _tell(self, callback: Callable[[], None]) -> None:
        if not self._stopped.is_set():
            self._loop.call_soon_threadsafe(callback)
