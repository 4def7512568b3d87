"""
Capacity: which hosts to launch and which to stop, so that what waits fits.

`decide` looks at who was refused a host, in the order in which they are served, and puts
them upon what is free or under way; for those left over it launches hosts of types that
the environment's strategy chooses, within its bounds. A host that is idle for longer than
the delay is stopped, as long as the least number of vCPUs remains. Laws: it changes
nothing but timers; what is decided is stored before a provider hears of it; a host on
which something runs is never stopped.

Source of the rules: AWS Batch API, ComputeResource and ComputeScalingPolicy.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

from batchyard.ids import HostId, LaunchId
from batchyard.resources import Resources
from batchyard_controller.core import limits
from batchyard_controller.core.model.hosts import Host
from batchyard_controller.core.model.launches import Launch, LaunchState
from batchyard_controller.core.model.settings import ComputeEnvironment, JobQueue, ResourceState
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement.bounds import Draws
from batchyard_controller.core.placement.fleet import Fleet
from batchyard_controller.core.placement.line import Line, Shape
from batchyard_controller.core.placement.lines import Lines
from batchyard_controller.core.placement.quota_sketch import QuotaSketch
from batchyard_controller.core.placement.quotas import use_of

from .catalogue import LaunchType
from .memory import Memory
from .orders import is_used
from .supply import Supply, could_run, needs_of, room_of, times
from .types import ORDERS, WAITING, Candidate, may_exceed

UNDER_WAY_MAX = 50
"""Ours: hosts of one environment that are launched at once."""
LINES_MAX = 200
"""Ours: lines of one queue that are looked at, those first in line first; so many more are at the next tick."""
UNITS_MAX = 10_000
"""Ours: units of one line that are looked at; more are than any environment launches hosts for at once."""
_VCPU = Shape("", Resources(cpu_millis=1000), "")
"""What the least number of vCPUs asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """A launch that is wanted no longer, and why; a failure keeps its type from being launched again at once."""

    launch_id: LaunchId
    reason: str
    is_failure: bool = False


@dataclass(slots=True)
class Decision:
    """
    What is to change.

    Attributes:
        reached: Environments whose desired vCPUs are there; from now on what waits decides.
    """

    launches: list[Launch] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)
    reached: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """All that is looked at; hosts that are *spared* may run what is not known."""

    launches: Mapping[LaunchId, Launch]
    hosts: Mapping[HostId, Host]
    spared: Collection[HostId]
    environments: Mapping[str, ComputeEnvironment]
    queues: Mapping[str, JobQueue]
    lines: Lines
    fleet: Fleet
    memory: Memory
    now: Instant


def decide(situation: Situation) -> Decision:
    """Decide what to launch and what to stop."""
    if not situation.launches and not any(e.has_provider for e in situation.environments.values()):
        return Decision()
    return _Decider(situation).decide()


class _Decider:
    """What a decision has come to."""

    def __init__(self, situation: Situation) -> None:
        self._it = situation
        self._memory, self._now = situation.memory, situation.now
        self._decision = Decision()
        self._live: dict[str, dict[LaunchId, Launch]] = {name: {} for name in situation.environments}
        """Launches that are wanted and stay so, by environment."""
        self._cpu = dict.fromkeys(situation.environments, 0)
        """Their thousandths of vCPUs."""
        self._under_way = dict.fromkeys(situation.environments, 0)
        """How many of them have yet to join."""
        limit_ms = limits.CONTACT_LIMIT_MS
        self._failed: set[tuple[str, str]] = set()
        """Environments and types of which a host is given up now."""
        self._draws = Draws(situation.fleet.bounds)
        self._quotas: dict[str, QuotaSketch] = {}
        self._supply = Supply(
            situation.fleet,
            [
                host_id
                for host_id, host in situation.hosts.items()
                if not host.is_reachable and not host.record.cordoned and not host.is_silent(self._now, limit_ms)
            ],
        )

    def decide(self) -> Decision:
        """Give up who is lost, launch for who waits, stop who is idle."""
        for launch in self._it.launches.values():
            if launch.is_wanted:
                self._keep_or_give_up(launch)
        self._serve_queues()
        for environment in self._it.environments.values():
            if environment.has_provider:
                self._hold_ready(environment)
                self._stop_idle(environment)
        return self._decision

    # Who is there ---------------------------------------------------------------------

    def _keep_or_give_up(self, launch: Launch) -> None:
        stop = self._misfit(launch) or self._lost(launch)
        if stop is not None:
            self._decision.stops.append(stop)
            if stop.is_failure:
                self._failed.add((launch.environment, launch.host_type))
            return
        self._keep(launch)

    def _keep(self, launch: Launch) -> None:
        self._live[launch.environment][launch.id] = launch
        self._cpu[launch.environment] += launch.cpu_millis
        if launch.is_under_way:
            self._under_way[launch.environment] += 1
            self._rely_on(launch)

    def _rely_on(self, launch: Launch) -> None:
        """Reckon with a host that is under way, but for one that tries a type again which has failed."""
        facts = self._memory.facts_of(launch.provider, launch.host_type)
        trouble = self._memory.troubles.get((launch.environment, launch.host_type))
        is_trial = trouble is not None and trouble.at_boot_ms < self._memory.watch(launch, self._now).since_boot_ms
        if facts is not None and not is_trial:
            self._supply.add(launch.id, launch.environment, facts)

    def _misfit(self, launch: Launch) -> Stop | None:
        """Say why an environment, as it is now, would not launch such a host."""
        environment = self._it.environments.get(launch.environment)
        if environment is None:
            return Stop(launch_id=launch.id, reason="its compute environment was deleted")
        resources = environment.compute_resources
        catalogue = self._memory.catalogues.get(launch.provider)
        if catalogue is None and resources.provider == launch.provider:
            return None  # nobody could stop it now
        fits = (
            resources.provider == launch.provider
            and catalogue is not None
            and any(each.name == launch.host_type for each in catalogue.chosen(resources))
            and launch.purchase_option == resources.type.purchase_option
            and set(resources.labels) <= set(launch.labels)
        )
        return None if fits else Stop(launch_id=launch.id, reason="its compute environment asks for other hosts now")

    def _lost(self, launch: Launch) -> Stop | None:
        """Say of a host that never joined, or that has gone, that it is given up."""
        watch = self._memory.watch(launch, self._now)
        catalogue = self._memory.catalogues.get(launch.provider)
        limit_s = catalogue.join_limit_s if catalogue is not None else 0
        waited_ms = self._now.boot_ms - watch.since_boot_ms
        is_late = bool(limit_s) and waited_ms >= limit_s * 1000
        if launch.state is not LaunchState.JOINED:
            reason = f"no agent joined within {limit_s} s"
            return Stop(launch_id=launch.id, reason=reason, is_failure=True) if is_late else None
        host = self._it.hosts.get(HostId(launch.host_id))
        if host is None:
            return Stop(launch_id=launch.id, reason="its host was removed")
        if host.is_reachable:
            watch.since_boot_ms = self._now.boot_ms
            self._memory.note_seen(launch, host.record.facts, self._now)
        elif is_late and not is_used(host, self._it.spared):
            return Stop(launch_id=launch.id, reason=f"its host has been away for {limit_s} s")
        return None

    # Who waits ------------------------------------------------------------------------

    def _serve_queues(self) -> None:
        environments = self._it.environments
        for queue in sorted(self._it.queues.values(), key=lambda q: -q.priority):
            order = [environments[name] for name in queue.compute_environments]
            if not any(environment.has_provider for environment in order):
                continue
            enabled = [each for each in order if each.state is ResourceState.ENABLED]
            for line in _refused(self._it.lines, queue.name):
                self._serve(line, enabled)

    def _serve(self, line: Line, environments: list[ComputeEnvironment]) -> None:
        """Put those in a line whom caps, consumables and quota shares let go upon what there is, environment by environment, and launch hosts for the others."""
        draw = self._it.fleet.bounds.draw_of(line.shape)
        left = self._draws.most(draw, min(len(line) // line.shape.size, UNITS_MAX))
        quota, use = self._quota(line.shape.queue), use_of(line.shape.resources)
        if quota is not None:
            left = quota.most(line.shape.share, use, left)
        wanted = left
        for environment in environments:
            if left and line.shape.parts:
                left -= self._place_gangs(environment, line.shape, left)
            elif left:
                left -= self._place(environment, line.shape, left)
        self._draws.take(draw, wanted - left)
        if quota is not None:
            quota.take_units(line.shape.share, use, wanted - left)

    def _quota(self, queue: str) -> QuotaSketch | None:
        quota = self._it.fleet.quotas.of(queue)
        return None if quota is None else self._quotas.setdefault(queue, QuotaSketch(quota))

    def _place(self, environment: ComputeEnvironment, shape: Shape, wanted: int) -> int:
        """Return how many units an environment looks after; for the others there is the next."""
        here = min(wanted, self._supply.most(environment, shape))
        placed = self._supply.take(environment, shape, here)
        while placed < here and environment.has_provider:
            if self._under_way[environment.name] >= UNDER_WAY_MAX:
                return here  # more follow when these are there
            if not self._launch(environment, shape, here - placed):
                break
            placed += self._supply.take(environment, shape, here - placed)
        return placed

    def _place_gangs(self, environment: ComputeEnvironment, shape: Shape, wanted: int) -> int:
        """Return how many gangs an environment looks after, of which each is all there or on its way."""
        gangs = min(wanted, self._supply.most(environment, shape))
        for number in range(gangs):
            parts = zip(shape.parts, shape.singles, strict=True)
            if not all(self._place(environment, each, part.size) == part.size for part, each in parts):
                return number
        return gangs

    # Launching ------------------------------------------------------------------------

    def _launch(self, environment: ComputeEnvironment, shape: Shape, waiting: int) -> bool:
        """Launch the host that fits best for so many units of a shape, if one can be launched now."""
        resources = environment.compute_resources
        chosen = self._choose(environment, shape, waiting)
        if chosen is None:
            return False
        launch = Launch(
            id=LaunchId(f"{environment.name}-{self._now.wall_ms:x}-{len(self._decision.launches) + 1}"),
            environment=environment.name,
            provider=resources.provider,
            host_type=chosen.name,
            cpu_millis=chosen.facts.capacity.cpu_millis,
            purchase_option=resources.type.purchase_option,
            labels=resources.labels,
            asked_at_ms=self._now.wall_ms,
        )
        self._decision.launches.append(launch)
        self._keep(launch)
        return True

    def _choose(self, environment: ComputeEnvironment, shape: Shape, waiting: int) -> LaunchType | None:
        """Return the type to launch next: large enough, within the bounds, and not resting after a failure."""
        resources = environment.compute_resources
        catalogue = self._memory.catalogues.get(resources.provider)
        if catalogue is None:
            return None
        strategy, used = resources.allocation_strategy, self._cpu[environment.name]
        left = resources.max_vcpus * 1000 - used
        found = [
            (each, candidate)
            for place, each in enumerate(catalogue.chosen(resources))
            if (candidate := self._candidate(environment, each, place, shape, waiting)) is not None
        ]
        bounded = [pair for pair in found if pair[1].cpu_millis <= left]
        if not bounded and left > 0 and may_exceed(resources):
            bounded = found
        for each, candidate in sorted(bounded, key=lambda pair: ORDERS[strategy](pair[1])):
            if candidate.spare > 0 and self._may_try(environment, each.name):
                return each
            if strategy in WAITING:
                return None
        return None

    def _candidate(
        self, environment: ComputeEnvironment, each: LaunchType, place: int, shape: Shape, waiting: int
    ) -> Candidate | None:
        """Say what a type would do for those who wait; None of one that could never run them, or is too dear."""
        resources = environment.compute_resources
        facts = self._memory.facts_of(resources.provider, each.name) or each.facts
        jobs = int(times(room_of(facts), needs_of(shape.resources)))
        if not jobs or not could_run(facts, shape) or not each.is_affordable(resources):
            return None
        trouble = self._memory.troubles.get((environment.name, each.name))
        return Candidate(
            name=each.name,
            place=place,
            price=each.price_as(resources.type),
            cpu_millis=each.facts.capacity.cpu_millis,
            jobs=min(jobs, waiting),
            waiting=waiting,
            spare=each.count - self._existing(resources.provider, each.name) if each.count else math.inf,
            strikes=trouble.strikes if trouble is not None else 0,
        )

    def _existing(self, provider: str, host_type: str) -> int:
        """Return how many hosts of a type there are, those that are about to go included."""
        launches = (*self._it.launches.values(), *self._decision.launches)
        return sum((each.provider, each.host_type) == (provider, host_type) for each in launches)

    def _may_try(self, environment: ComputeEnvironment, host_type: str) -> bool:
        """Say whether a type may be launched now: one that failed not at once, and then one host at a time."""
        trouble = self._memory.troubles.get((environment.name, host_type))
        if trouble is None:
            return (environment.name, host_type) not in self._failed
        live = self._live[environment.name].values()
        is_tried = any(each.is_under_way and each.host_type == host_type for each in live)
        return self._now.boot_ms >= trouble.until_boot_ms and not is_tried

    # Bounds ---------------------------------------------------------------------------

    def _hold_ready(self, environment: ComputeEnvironment) -> None:
        """Launch hosts up to the least, or the desired, number of vCPUs."""
        resources = environment.compute_resources
        if environment.state is not ResourceState.ENABLED:
            return
        target = max(resources.min_vcpus, resources.desired_vcpus) * 1000
        while (missing := target - self._cpu[environment.name]) > 0:
            if self._under_way[environment.name] >= UNDER_WAY_MAX or not self._launch(
                environment, _VCPU, -(-missing // 1000)
            ):
                return
        joined = [each for each in self._live[environment.name].values() if each.state is LaunchState.JOINED]
        if resources.desired_vcpus and sum(each.cpu_millis for each in joined) >= target:
            self._decision.reached.append(environment.name)

    def _stop_idle(self, environment: ComputeEnvironment) -> None:
        """Stop hosts that are idle for longer than the delay, the longest first, down to the least number of vCPUs."""
        resources = environment.compute_resources
        floor = resources.min_vcpus
        if environment.state is ResourceState.ENABLED and environment.name not in self._decision.reached:
            floor = max(floor, resources.desired_vcpus)
        left = self._cpu[environment.name]
        for since_boot_ms, launch in sorted(self._idle(environment), key=lambda pair: (pair[0], pair[1].id)):
            is_due = self._now.boot_ms - since_boot_ms >= resources.delay_s * 1000
            if is_due and left - launch.cpu_millis >= floor * 1000:
                left -= launch.cpu_millis
                del self._live[environment.name][launch.id]
                reason = f"nothing ran on it for {resources.delay_s} s"
                self._decision.stops.append(Stop(launch_id=launch.id, reason=reason))

    def _idle(self, environment: ComputeEnvironment) -> Iterator[tuple[int, Launch]]:
        """Yield the launches on whose hosts nothing runs and nothing will, and since when; note it."""
        for launch in list(self._live[environment.name].values()):
            if launch.state is LaunchState.JOINED:
                watch, host_id = self._memory.watch(launch, self._now), HostId(launch.host_id)
                if is_used(self._it.hosts[host_id], self._it.spared) or self._supply.is_used(host_id):
                    watch.idle_since_boot_ms = 0
                else:
                    watch.idle_since_boot_ms = watch.idle_since_boot_ms or self._now.boot_ms
                    yield watch.idle_since_boot_ms, launch


def _refused(lines: Lines, queue: str) -> list[Line]:
    """Return the lines of a queue whose first was refused, of those that come first; what it costs does not grow with the queue."""
    shares = [heads.lines() for heads in lines.heads_of(queue).values()]
    first = islice(heapq.merge(*shares, key=lambda pair: pair[0]), LINES_MAX)
    return [line for _, line in first if line.refused_at >= 0]
