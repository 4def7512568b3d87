"""
Memory: what scaling remembers from tick to tick, none of it stored.

A new leader begins afresh: with no failures, and with all the time there is for hosts
to join and to be idle.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from batchyard.ids import LaunchId
from batchyard_controller.core.model.hosts import HostFacts
from batchyard_controller.core.model.launches import Launch
from batchyard_controller.core.model.values import Instant

from .catalogue import Catalogue

RETRY_MS_MIN = 5_000
RETRY_MS_MAX = 15 * 60_000
"""Ours: after a failure so long at least and at most, twice as long after each in a row."""


def retry_ms(strikes: int) -> int:
    """Return how long to wait after so many failures in a row."""
    return min(RETRY_MS_MAX, RETRY_MS_MIN << min(strikes - 1, 20))


@dataclass(slots=True, kw_only=True)
class Watch:
    """
    The timers of one launch, on our clock.

    Attributes:
        since_boot_ms: When it was asked for, or found by a new leader; of one that joined, when its host was last there.
        idle_since_boot_ms: Since when nothing runs on its host; 0: something does, or it has not joined.
        stop_strikes: How often stopping it failed.
        stop_after_boot_ms: It is not tried again before.
    """

    since_boot_ms: int
    idle_since_boot_ms: int = 0
    stop_strikes: int = 0
    stop_after_boot_ms: int = 0


@dataclass(slots=True, kw_only=True)
class Trouble:
    """
    Why no host of a type is launched for an environment now; gone as soon as one joins.

    Attributes:
        strikes: Failures in a row; launches that were under way together count once.
        until_boot_ms: It is not tried again before.
        at_ms: When the last was, for people.
    """

    reason: str
    strikes: int
    at_boot_ms: int
    at_ms: int
    until_boot_ms: int

    @property
    def next_try_ms(self) -> int:
        """When it may be tried again, for people."""
        return self.at_ms + self.until_boot_ms - self.at_boot_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """
    The launches of an environment, counted.

    Attributes:
        cpu_millis: Of those that are wanted.
        under_way: How many of each type have yet to join.
    """

    cpu_millis: int
    under_way: Mapping[str, int]


@dataclass(slots=True)
class Memory:
    """
    Catalogues, timers and failures.

    Attributes:
        catalogues: By provider; of those that are configured.
        watches: Of each launch.
        troubles: By environment and type of host.
        seen: What hosts of a provider's type turned out to be, and when one was last there: what is declared may be wrong.
        boot_ms: When the last tick was.
        tallies: By environment, as they were last counted; dropped when a launch changes.
    """

    catalogues: Mapping[str, Catalogue] = field(default_factory=dict)
    watches: dict[LaunchId, Watch] = field(default_factory=dict)
    troubles: dict[tuple[str, str], Trouble] = field(default_factory=dict)
    seen: dict[tuple[str, str], tuple[HostFacts, int]] = field(default_factory=dict)
    boot_ms: int = 0
    tallies: dict[str, Tally] = field(default_factory=dict)

    def tally(self, environment: str, launches: Iterable[Launch]) -> Tally:
        """Count the launches of an environment, once for all who ask before one changes."""
        found = self.tallies.get(environment)
        if found is None:
            own = [launch for launch in launches if launch.environment == environment and launch.is_wanted]
            types = Counter(launch.host_type for launch in own if launch.is_under_way)
            found = Tally(cpu_millis=sum(launch.cpu_millis for launch in own), under_way=types)
            self.tallies[environment] = found
        return found

    def watch(self, launch: Launch, now: Instant) -> Watch:
        """Return the timers of a launch."""
        return self.watches.setdefault(launch.id, Watch(since_boot_ms=now.boot_ms))

    def note_failure(self, launch: Launch, reason: str, now: Instant) -> None:
        """Wait before another host of this type is launched for this environment."""
        key = launch.environment, launch.host_type
        before = self.troubles.get(key)
        strikes = before.strikes if before is not None else 0
        is_new = before is None or self.watch(launch, now).since_boot_ms > before.at_boot_ms
        if before is None or is_new:
            strikes += 1
            until = now.boot_ms + retry_ms(strikes)
            self.troubles[key] = Trouble(
                reason=reason, strikes=strikes, at_boot_ms=now.boot_ms, at_ms=now.wall_ms, until_boot_ms=until
            )
        else:
            before.reason = reason

    def note_joined(self, launch: Launch, facts: HostFacts, now: Instant) -> None:
        """Learn from a host that has joined."""
        self.troubles.pop((launch.environment, launch.host_type), None)
        self.note_seen(launch, facts, now)
        self.watches[launch.id] = Watch(since_boot_ms=now.boot_ms)

    def note_seen(self, launch: Launch, facts: HostFacts, now: Instant) -> None:
        """Note what a host is that is there; of several at once the one that can do most, as one may be out of order."""
        key = launch.provider, launch.host_type
        before, at_boot_ms = self.seen.get(key, (facts, now.boot_ms))
        is_more = at_boot_ms < now.boot_ms or _ability(facts) >= _ability(before)
        self.seen[key] = (facts if is_more else before), now.boot_ms

    def note_stop_failed(self, launch: Launch, now: Instant) -> None:
        """Wait before a provider is asked again to stop a host."""
        watch = self.watch(launch, now)
        watch.stop_strikes += 1
        watch.stop_after_boot_ms = now.boot_ms + retry_ms(watch.stop_strikes)

    def forget_launch(self, launch_id: LaunchId) -> None:
        """Forget the timers of a launch that is over."""
        self.watches.pop(launch_id, None)

    def forget_environments(self, known: Iterable[str]) -> None:
        """Forget the failures of environments that are no more."""
        kept = set(known)
        self.troubles = {key: trouble for key, trouble in self.troubles.items() if key[0] in kept}

    def troubles_of(self, environment: str) -> dict[str, Trouble]:
        """Return what an environment's types of hosts are in, by type."""
        return {host_type: trouble for (name, host_type), trouble in self.troubles.items() if name == environment}

    def facts_of(self, provider: str, host_type: str) -> HostFacts | None:
        """
        Return what a host of a type will be; None of a type that is declared no more.

        What was seen counts for as long as a failed type rests at most: whatever was wrong may have been mended.
        """
        catalogue = self.catalogues.get(provider)
        declared = catalogue.types.get(host_type) if catalogue is not None else None
        facts, at_boot_ms = self.seen.get((provider, host_type), (None, 0))
        if facts is not None and self.boot_ms - at_boot_ms < RETRY_MS_MAX:
            return facts
        return declared.facts if declared is not None else None


def _ability(facts: HostFacts) -> tuple[int, ...]:
    amounts = facts.capacity
    return len(facts.runtimes), sum(not gpu.fault for gpu in facts.gpus), amounts.cpu_millis, amounts.memory_mib
