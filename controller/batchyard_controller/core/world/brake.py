"""
The brake: when many hosts fall silent at once, it is the network that is broken, or this controller's part of it.

Then the attempts of those hosts are not given up, fence or not, until most of them are heard
again or an operator says that they are gone (reliability, R12; Kubernetes' node controller stops
evicting likewise). It is kept in memory alone: a new leader counts anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from batchyard_controller.core import limits
from batchyard_controller.core.model.hosts import Host
from batchyard_controller.core.model.launches import launch_id_of
from batchyard_controller.core.model.values import Instant


@dataclass(slots=True, kw_only=True)
class Brake:
    """
    Whether silent hosts are waited for beyond their fence.

    Attributes:
        percent: Of which share of the hosts more have to fall silent within a minute; 0: it never holds.
        since_boot_ms: Hosts that were heard last at that time or later are waited for; None: it does not hold.
        since_wall_ms: When it began to hold.
        silent: How many hosts are waited for, as of the last look.
        hosts: Of how many.
        below_boot_ms: Since when fewer are silent than it takes; None: they are not.
        released_boot_ms: Hosts that were heard last before that time do not count, as an operator said.
    """

    percent: int = limits.BRAKE_PERCENT
    since_boot_ms: int | None = None
    since_wall_ms: int = 0
    silent: int = 0
    hosts: int = 0
    below_boot_ms: int | None = None
    released_boot_ms: int = -1

    def holds(self, host: Host) -> bool:
        """Say whether a silent host is waited for."""
        is_among = self.since_boot_ms is not None and host.heard_boot_ms >= self.since_boot_ms
        return is_among and not host.record.replaced_by and not host.is_missing

    def release(self, now: Instant) -> None:
        """Wait no longer, nor again for those that are silent now."""
        self.since_boot_ms = self.below_boot_ms = None
        self.released_boot_ms = now.boot_ms

    def forgive(self, late_ms: int) -> None:
        """Move all times on by one in which this controller was deaf, as those of hosts are."""
        if self.since_boot_ms is not None:
            self.since_boot_ms += late_ms
        if self.below_boot_ms is not None:
            self.below_boot_ms += late_ms
        if self.released_boot_ms >= 0:
            self.released_boot_ms += late_ms

    def look(self, hosts: Iterable[Host], now: Instant) -> bool:
        """Look who is silent; say whether it has begun or ceased to hold."""
        if not self.percent:
            return False
        heard, silent = 0, list[int]()
        for host in hosts:
            if not counts(host) or host.heard_boot_ms < self.released_boot_ms:
                continue
            if host.is_reachable or not host.is_silent(now, limits.CONTACT_LIMIT_MS):
                heard += 1
            else:
                silent.append(host.heard_boot_ms)
        if self.since_boot_ms is None:
            return self._begin(heard, sorted(silent), now)
        self.silent = sum(at_ms >= self.since_boot_ms for at_ms in silent)
        self.hosts = heard + self.silent
        if self._is_much(self.silent, self.hosts):
            self.below_boot_ms = None
            return False
        if self.below_boot_ms is None:
            self.below_boot_ms = now.boot_ms
        if self.silent and now.boot_ms - self.below_boot_ms < limits.BRAKE_WINDOW_MS:
            return False  # the others may be on their way back, with ends to tell
        self.since_boot_ms = self.below_boot_ms = None
        return True

    def _begin(self, heard: int, silent: list[int], now: Instant) -> bool:
        first = 0
        for last, at_ms in enumerate(silent):
            while at_ms - silent[first] > limits.BRAKE_WINDOW_MS:
                first += 1
            number = last - first + 1
            if self._is_much(number, heard + number):
                self.since_boot_ms, self.since_wall_ms = silent[first], now.wall_ms
                self.silent = len(silent) - first
                self.hosts = heard + self.silent
                return True
        return False

    def _is_much(self, silent: int, hosts: int) -> bool:
        """Say whether so many are more than fail by themselves; a single host, or two of many, may."""
        is_share = silent >= limits.BRAKE_HOSTS_MIN and silent * 100 > self.percent * hosts
        return is_share or silent == hosts > 1


def counts(host: Host) -> bool:
    """
    Say whether a host's silence means anything.

    That of a node of a cluster ends nothing; who was replaced will not come back, nor whom its provider has no more;
    who runs nothing and was told to take no more work, or was launched, may be switched off; and of whom this leader
    has never heard it knows only by attempts that it lived lately.
    """
    record = host.record
    is_leaving = record.cordoned or record.draining or record.reclaimed_at_ms > 0 or bool(launch_id_of(record.facts))
    is_known = host.is_reachable or (host.heard_wall_ms > 0 and not is_leaving)
    is_own = record.facts.kubernetes is None and not record.replaced_by
    return is_own and not host.is_missing and (is_known or bool(host.attempts))
