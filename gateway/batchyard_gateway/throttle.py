"""
Throttle: how many calls a second are taken (AWS: token bucket, 429).

It must never read a clock: now is an argument. Law: over any span of t seconds at most
burst + rate * t calls pass.
"""

from __future__ import annotations


class TokenBucket:
    """
    Takes *rate* calls a second, and after quiet a burst of one second's worth at once.

    Args:
        rate: Calls a second; 0 takes all.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._burst = max(rate, 1.0)
        self._tokens = self._burst
        self._filled_at_s: float | None = None

    def take(self, now_s: float) -> bool:
        """Say whether a call may pass, and count it if so; *now_s* never goes back."""
        if not self.has(now_s):
            return False
        self._tokens -= 1.0
        return True

    def has(self, now_s: float) -> bool:
        """Say whether a call might pass, and count none."""
        if not self._rate:
            return True
        if self._filled_at_s is not None:
            self._tokens = min(self._burst, self._tokens + max(0.0, now_s - self._filled_at_s) * self._rate)
        self._filled_at_s = now_s
        return self._tokens >= 1.0
