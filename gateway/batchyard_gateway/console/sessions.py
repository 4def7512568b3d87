"""
Sessions: who has signed in, for how long, and who failed too often.

Kept in memory alone, so that a restart of the gateway ends them all. It must never know
HTTP, clocks or dice: now and the throw are arguments. Law: a session is found only by the
token that was handed out, and only while it is young, used, and its access key good.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections import OrderedDict, deque
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .bulk import Bulk

LIFETIME_S = 12 * 3600.0
IDLE_S = 3600.0
CHECK_S = 50.0
"""How long a session is good without asking for its key again: a revoked one ends within a minute."""

SESSIONS_MAX = 1_000
NOTICES_MAX = 20
"""Kept for a session that looks at no page; the latest."""

FAILURES_MAX = 5
FAILURES_S = 60.0
SOURCES_MAX = 10_000


@dataclass(slots=True, kw_only=True)
class Session:
    """
    One browser that has signed in.

    Attributes:
        access_key_id: As whom.
        csrf: What every form of the session carries.
        started_s: When it began.
        seen_s: When it was last used.
        checked_s: When its key was last found good.
        notices: Sentences to show once, on the next page.
        answers: What the wizard was told so far, by step and field.
        bulks: What was asked for many jobs, by the name of each in an address.
        ends: Where forms that were sent ended, by a digest of each, oldest first.
        lock: Held while a form is carried out, as its button may be pressed twice.
    """

    access_key_id: str
    csrf: str
    started_s: float
    seen_s: float
    checked_s: float
    notices: deque[str] = field(default_factory=lambda: deque(maxlen=NOTICES_MAX))
    answers: MutableMapping[str, dict[str, list[str]]] = field(default_factory=dict)
    bulks: MutableMapping[str, Bulk] = field(default_factory=dict)
    ends: MutableMapping[str, str] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def has_token(self, token: str) -> bool:
        """Say whether a form carries this session's own token."""
        return hmac.compare_digest(self.csrf.encode(), token.encode())

    def take_notices(self) -> list[str]:
        """Return what is to be shown, once."""
        taken = list(self.notices)
        self.notices.clear()
        return taken


class Sessions:
    """
    All of them.

    Args:
        throw: Makes a new secret text of at least 256 random bits.
    """

    def __init__(self, throw: Callable[[], str]) -> None:
        self._throw = throw
        self._open: OrderedDict[bytes, Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def open(self, access_key_id: str, now_s: float) -> tuple[str, Session]:
        """Begin a session; return the token by which it is found, and itself."""
        token = self._throw()
        session = Session(
            access_key_id=access_key_id, csrf=self._throw(), started_s=now_s, seen_s=now_s, checked_s=now_s
        )
        self._open[_digest(token)] = session
        while len(self._open) > SESSIONS_MAX:
            self._open.popitem(last=False)
        return token, session

    def find(self, token: str, now_s: float, *, is_use: bool = True) -> Session | None:
        """Return the session of a token and note its use, if it is one; None where there is none any more."""
        name = _digest(token)
        session = self._open.get(name)
        if session is None:
            return None
        if now_s - session.started_s >= LIFETIME_S or now_s - session.seen_s >= IDLE_S:
            del self._open[name]
            return None
        if is_use:
            session.seen_s = now_s
            self._open.move_to_end(name)
        return session

    def close(self, token: str) -> None:
        """End a session, if there is one."""
        self._open.pop(_digest(token), None)


class Failures:
    """Who could not sign in, and how often of late: five a minute are answered, then none."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, deque[float]] = OrderedDict()

    def are_many(self, source: str, now_s: float) -> bool:
        """Say whether a source has to wait."""
        times = self._of.get(source, deque())
        while times and now_s - times[0] >= FAILURES_S:
            times.popleft()
        return len(times) >= FAILURES_MAX

    def count(self, source: str, now_s: float) -> None:
        """Note a failure."""
        self._of.setdefault(source, deque(maxlen=FAILURES_MAX)).append(now_s)
        self._of.move_to_end(source)
        while len(self._of) > SOURCES_MAX:
            self._of.popitem(last=False)

    def forgive(self, source: str, at_s: float) -> None:
        """Drop what was counted at a moment: it was none."""
        times = self._of.get(source, deque())
        if at_s in times:
            times.remove(at_s)


def _digest(token: str) -> bytes:
    """Return the name under which a session is kept: looking it up tells nothing of the token."""
    return hashlib.sha256(token.encode()).digest()
