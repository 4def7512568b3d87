"""
A lease, renewed by a thread of its own, so that no long turn of the event loop loses it.

The thread renews for as long as the loop answers it now and then: a leader whose loop
stands still for good loses its lease, and so does a process that is stopped, as its
threads stop with it. Time is that since boot, which a machine's sleep does not stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from dataclasses import dataclass, replace
from typing import Protocol

from batchyard_controller.store.protocol import StoreError

STALL_S = 30.0
"""A loop that has not answered for so long does not come back: another shall lead."""

RETRY_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """
    How long a lease may be relied on.

    Attributes:
        ttl_s: How long the server keeps it.
        renewed_at: When its last renewal that succeeded was asked for, in seconds.
        answered_at: When the loop last answered.
    """

    ttl_s: float
    renewed_at: float
    answered_at: float

    @property
    def renews_at(self) -> float:
        """When it is to be renewed: three times in its life."""
        return self.renewed_at + self.ttl_s / 3

    @property
    def ends_at(self) -> float:
        """Until when it is surely held, a third before the server lets another have it."""
        return self.renewed_at + self.ttl_s * 2 / 3

    def is_held(self, now: float) -> bool:
        """Say whether nobody else can have it."""
        return now < self.ends_at

    def may_renew(self, now: float) -> bool:
        """Say whether it is held, by a leader that is alive."""
        return self.is_held(now) and now - self.answered_at < STALL_S


class Line(Protocol):
    """What renews a lease. Its calls wait, and are made by one thread."""

    def renew(self, timeout_s: float) -> bool:
        """
        Renew it; False: it is lost.

        Raises:
            StoreError: no answer came.
        """

    def close(self) -> None:
        """Let go of connections."""


class LeaseKeeper:
    """
    Renews one lease until it is lost or ``stop`` is called.

    Args:
        line: Taken over; closed in the end.
        ttl_s: Of the lease.
        asked_at: When it was asked for, by ``now``.
    """

    def __init__(self, line: Line, ttl_s: float, asked_at: float) -> None:
        self.over = asyncio.Event()
        """Set when the lease is lost, or may soon be."""
        self._line = line
        self._lease = Lease(ttl_s=ttl_s, renewed_at=asked_at, answered_at=now())
        self._answered_at = now()
        self._loop = asyncio.get_running_loop()
        self._stopped = threading.Event()
        self._sent_at = asked_at
        self._start()

    def _start(self) -> None:
        # A daemon: it waits for a server at most, and must not hold up the end of the process.
        threading.Thread(target=self._run, name="lease", daemon=True).start()

    def is_held(self) -> bool:
        """Say whether nobody else can have the lease now."""
        return not self._stopped.is_set() and self._lease.is_held(now())

    def stop(self) -> None:
        """Renew no more."""
        self._stopped.set()
        self.over.set()

    def _run(self) -> None:
        next_at = self._lease.renews_at
        while not self._stopped.wait(max(0.0, next_at - now())):
            timeout_s = self._begin_renewal()
            if timeout_s is None:
                break
            try:
                if not self._line.renew(timeout_s):
                    break
            except StoreError:
                next_at = self._end_renewal(is_answered=False)
            else:
                next_at = self._end_renewal(is_answered=True)
        self._line.close()
        self._call(self.stop)

    def _begin_renewal(self) -> float | None:
        """Return for how long a renewal that is asked for now may be waited for; None: the lease is over."""
        self._sent_at = now()
        self._lease = replace(self._lease, answered_at=self._answered_at)
        if not self._lease.may_renew(self._sent_at):
            return None
        self._call(self._answer)
        return self._lease.ends_at - self._sent_at

    def _end_renewal(self, *, is_answered: bool) -> float:
        """Return when the next renewal is due."""
        if not is_answered:
            return min(now() + RETRY_S, self._lease.ends_at)
        self._lease = replace(self._lease, renewed_at=self._sent_at)
        return self._lease.renews_at

    def _answer(self) -> None:
        self._answered_at = now()

    def _call(self, what: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(what)  # type: ignore[arg-type]


def now() -> float:
    """Return the seconds since boot, this machine's sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
