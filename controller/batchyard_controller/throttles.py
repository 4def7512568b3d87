"""
Throttles: how often a user may call, and a source fail.

After authentication, so that nobody uses up another's calls; of failures by their source,
so that a flood of them is answered shortly and written down no more. The administrator is
never told to wait. Law: what is remembered is bounded by the calls of one window.
"""

from __future__ import annotations

from limits import RateLimitItemPerMinute, RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from batchyard.errors import Reason, ResourceExhaustedError
from batchyard_controller.core.access.roles import Principal

CALLS_PER_SECOND = 100
"""Of one user; AWS lets an account submit 50 jobs a second."""
FAILURES_PER_MINUTE = 10
"""Of one source (reliability, 2.7)."""


class Throttles:
    """
    Counts.

    Args:
        calls_per_second: Most calls of one user; 0: no limit.
        failures_per_minute: Of one source that are told why.
    """

    def __init__(
        self, calls_per_second: int = CALLS_PER_SECOND, failures_per_minute: int = FAILURES_PER_MINUTE
    ) -> None:
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._calls = RateLimitItemPerSecond(calls_per_second) if calls_per_second else None
        self._failures = RateLimitItemPerMinute(failures_per_minute)

    def take(self, principal: Principal) -> None:
        """
        Count a call.

        Raises:
            ResourceExhaustedError: its user calls too often.
        """
        if self._calls is None or not principal.user:
            return  # the administrator, and who is no user: agents and gateways, who speak for many
        if not self._limiter.hit(self._calls, principal.user):
            text = f"{principal.user} calls more than {self._calls.amount} times a second"
            raise ResourceExhaustedError(text, reason=Reason.TOO_MANY_CALLS)

    def fail(self, source: str) -> bool:
        """Count a failure; say whether it is to be told why."""
        return self._limiter.hit(self._failures, "failures", source)
