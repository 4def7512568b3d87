"""
Trust: which hosts can start jobs, by the starts that failed and succeeded there.

A host that fails every start at once is always free and would draw all work (a black
hole). So a host that has not lately shown that it can start anything has few starts
under way at a time, and one that fails them is suspected and rests, each time for
longer, until a single try succeeds. Law: what proves to be the job's own mistake, as
an image that no host can get, counts against no host.

Source: reliability, 1.3 row 27; the numbers are ours but for three failures in five minutes.
"""

from __future__ import annotations

from batchyard.ids import HostId
from batchyard_controller.core.model.hosts import FailedStart, Trust

WINDOW_MS = 5 * 60_000
FAILURES_MAX = 3
"""So many failed starts of at least two jobs or children within the window, and a host is suspected."""
LONE_FAILURES_MAX = 2
"""As FAILURES_MAX, where another host has started the same image."""
PROOF_MS = 60_000
"""For so long a start that succeeded vouches for the next ones."""
EARLY_MS = 2 * 60_000
"""An attempt that its host failed so soon after its claim is as one that did not start."""
REST_MS = 5_000
"""First rest after a failed start; each further one doubles it."""
SUSPECTED_MS = 5 * 60_000
SUSPECTED_MS_MAX = 60 * 60_000
"""First rest of a suspected host; doubled each time that it fails again, up to the highest."""
IMAGES_MAX = 4096


class StartedImages:
    """Which hosts have started which images, as far as it is remembered."""

    def __init__(self) -> None:
        self._hosts: dict[str, set[HostId]] = {}

    def add(self, image: str, host_id: HostId) -> None:
        """Remember that a host started an image."""
        if image not in self._hosts and len(self._hosts) >= IMAGES_MAX:
            del self._hosts[next(iter(self._hosts))]
        self._hosts.setdefault(image, set()).add(host_id)

    def elsewhere(self, image: str, host_id: HostId) -> bool:
        """Say whether a host but this one has started an image."""
        return bool(self._hosts.get(image, set()) - {host_id})


def start_limit(trust: Trust) -> int | None:
    """Return how many starts may be under way at once; None for no bound."""
    if trust.proven_until_boot_ms:
        return None
    return 1 if trust.strikes else max(1, FAILURES_MAX - len(trust.failures))


def note_success(trust: Trust, image: str, now_ms: int) -> None:
    """Take in that a start succeeded; images that the host could not get it may still not have."""
    trust.proven_until_boot_ms = now_ms + PROOF_MS
    trust.failures = [failed for failed in trust.failures if failed.image and failed.image != image]
    if not trust.failures:
        _clear(trust)


def note_failure(trust: Trust, failed: FailedStart, now_ms: int) -> None:
    """Take in that a start failed, or may have failed, for reasons of its host."""
    trust.proven_until_boot_ms = 0
    trust.failures = [each for each in trust.failures if each.at_boot_ms > now_ms - WINDOW_MS]
    trust.failures.append(failed)


def judge(trust: Trust, images: StartedImages, host_id: HostId, now_ms: int) -> None:
    """Decide for how long a host rests after a failed start."""
    last = trust.failures[-1]
    lone = [each for each in trust.failures if each.image and images.elsewhere(each.image, host_id)]
    if trust.strikes or _are_many(trust.failures, FAILURES_MAX) or _are_many(lone, LONE_FAILURES_MAX):
        rest_ms = min(SUSPECTED_MS << min(trust.strikes, 10), SUSPECTED_MS_MAX)
        trust.strikes += 1
        trust.suspicion = f"starts failed on it: {last.reason}"
    else:
        rest_ms = REST_MS << (len(trust.failures) - 1)
    trust.rests_until_boot_ms = max(trust.rests_until_boot_ms, now_ms + rest_ms)


def _are_many(failures: list[FailedStart], limit: int) -> bool:
    return len(failures) >= limit and len({each.unit_id for each in failures}) > 1


def acquit(trust: Trust, image: str) -> None:
    """Forget that a host could not get an image, as no other can either."""
    trust.failures = [failed for failed in trust.failures if failed.image != image]
    if not trust.failures:
        _clear(trust)


def _clear(trust: Trust) -> None:
    trust.strikes = trust.rests_until_boot_ms = 0
    trust.suspicion = ""


def end_rest(trust: Trust, now_ms: int) -> bool:
    """Forget a rest, a proof and failures that are over; return whether one was."""
    before = trust.rests_until_boot_ms, trust.proven_until_boot_ms, len(trust.failures)
    if trust.rests_until_boot_ms <= now_ms:
        trust.rests_until_boot_ms = 0
        trust.failures = [each for each in trust.failures if each.at_boot_ms > now_ms - WINDOW_MS]
    if trust.proven_until_boot_ms <= now_ms:
        trust.proven_until_boot_ms = 0
    return before != (trust.rests_until_boot_ms, trust.proven_until_boot_ms, len(trust.failures))
