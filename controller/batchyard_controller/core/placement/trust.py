"""
Trust: which hosts can start jobs, by the starts that failed and succeeded there.

A host that fails every start at once is always free and would draw all work (a black
hole). So a host that has not lately shown that it can start anything has few starts
under way at a time, and one that fails them is suspected and rests, each time for
longer, until a single try succeeds. Laws: what was under way already when it was
suspected adds nothing to that; one job alone makes no host suspected.

An image that a host cannot get says nothing of other images, nor, before others have
tried, whether the host or the job is to blame: it keeps the host from those who ask for
that image, for a while, and from nothing else.

Source: reliability, 1.3 row 27; the numbers are ours but for three failures in five minutes.
"""

from __future__ import annotations

from batchyard_controller.core.model.hosts import FailedStart, Trust

WINDOW_MS = 5 * 60_000
FAILURES_MAX = 3
"""So many failed starts of at least two jobs or children within the window, and a host is suspected."""
LACK_MS = WINDOW_MS
"""For so long nobody is sent to a host for an image that it could not get."""
PROOF_MS = 60_000
"""For so long a start that succeeded vouches for the next ones."""
EARLY_MS = 2 * 60_000
"""An attempt that its host failed so soon after its claim is as one that did not start."""
REST_MS = 5_000
"""First rest after a failed start; each further job that fails to start doubles it."""
SUSPECTED_MS = 5 * 60_000
SUSPECTED_MS_MAX = 60 * 60_000
"""First rest of a suspected host; doubled each time that it fails again, up to the highest."""


def start_limit(trust: Trust) -> int | None:
    """Return how many starts may be under way at once; None for no bound."""
    if trust.proven_until_boot_ms:
        return None
    return 1 if trust.strikes else max(1, FAILURES_MAX - len(trust.failures))


def is_suspected(trust: Trust) -> bool:
    """Say whether a host gets nothing at all, as it failed starts again and again."""
    return bool(trust.suspicion and trust.rests_until_boot_ms)


def note_success(trust: Trust, now_ms: int) -> None:
    """Take in that a start succeeded: all that was held against the host is over, but for other images."""
    trust.proven_until_boot_ms = now_ms + PROOF_MS
    trust.failures.clear()
    trust.strikes = trust.rests_until_boot_ms = 0
    trust.suspicion = ""


def note_failure(trust: Trust, failed: FailedStart, now_ms: int) -> None:
    """Take in that a start failed for reasons of its host, and decide for how long that rests."""
    trust.proven_until_boot_ms = 0
    trust.failures = [*_recent(trust, now_ms), failed]
    if is_suspected(trust):
        return
    units = len({each.unit_id for each in trust.failures})
    if trust.strikes or (len(trust.failures) >= FAILURES_MAX and units > 1):
        rest_ms = min(SUSPECTED_MS << min(trust.strikes, 10), SUSPECTED_MS_MAX)
        trust.strikes += 1
        trust.suspicion = f"starts failed on it: {failed.reason}"
    else:
        rest_ms = REST_MS << (units - 1)
    trust.rests_until_boot_ms = max(trust.rests_until_boot_ms, now_ms + rest_ms)


def end_rest(trust: Trust, now_ms: int) -> bool:
    """Forget a rest, a proof and failures that are over; return whether one was."""
    before = trust.rests_until_boot_ms, trust.proven_until_boot_ms, len(trust.failures)
    if trust.rests_until_boot_ms <= now_ms:
        trust.rests_until_boot_ms = 0
        trust.failures = _recent(trust, now_ms)
    if trust.proven_until_boot_ms <= now_ms:
        trust.proven_until_boot_ms = 0
    return before != (trust.rests_until_boot_ms, trust.proven_until_boot_ms, len(trust.failures))


def _recent(trust: Trust, now_ms: int) -> list[FailedStart]:
    return [each for each in trust.failures if each.at_boot_ms > now_ms - WINDOW_MS]
