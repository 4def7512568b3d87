"""
Where jobs go, said once more: slow and obvious, with no arrays and nothing kept.

Units are taken one at a time, by priority and submission, and each goes to a host that
has room in the first environment that has one: of those that the environment's strategy
puts first to the tightest, or where jobs with GPUs are expected to the one whose worth to
them falls least. What is free is counted up from what runs; what is expected is asked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from batchyard.ids import HostId
from batchyard.states import EndCause
from batchyard.tasks import Task
from batchyard_controller.core.model.attempts import Attempt
from batchyard_controller.core.model.hosts import Host
from batchyard_controller.core.model.settings import ComputeEnvironment, ResourceState
from batchyard_controller.core.model.units import Unit, units_of
from batchyard_controller.core.placement.feasibility import access_of, allows, belongs
from batchyard_controller.core.placement.trust import is_suspected, start_limit
from batchyard_controller.core.placement.worth import Worth
from batchyard_controller.core.world.world import World

KINDS = ("cpu_millis", "memory_mib", "gpu_millis", "disk_mib")

Claim = tuple[str, str, str, tuple[tuple[str, int], ...]]
"""Unit, host, environment, GPUs."""


@dataclass
class PlainHost:
    """A host as it would be after the claims so far."""

    host: Host
    capacity: dict[str, int]
    free: dict[str, int]
    gpus: dict[str, int]
    starts: int

    @property
    def rests(self) -> bool:
        return bool(self.host.trust.rests_until_boot_ms)

    @property
    def is_usable(self) -> bool:
        return self.is_hopeful and not self.rests

    @property
    def is_hopeful(self) -> bool:
        host = self.host
        return host.is_reachable and not host.record.cordoned and not is_suspected(host.trust)


@dataclass
class PlainYard:
    """All that is placed on, and who was placed."""

    world: World
    hosts: dict[HostId, PlainHost] = field(default_factory=dict)
    vcpus: dict[str, int] = field(default_factory=dict)

    @property
    def worth(self) -> Worth | None:
        return self.world.rankings.packing.worth

    def take(self, task: Task, host_id: HostId, environment: str, gpus: tuple[tuple[str, int], ...]) -> None:
        host = self.hosts[host_id]
        for kind in KINDS:
            host.free[kind] -= getattr(task.resources, kind)
        for uuid, millis in gpus:
            if uuid in host.gpus:
                host.gpus[uuid] -= millis
        self.vcpus[environment] = self.vcpus.get(environment, 0) + task.resources.cpu_millis


def plain_claims(world: World) -> list[Claim]:
    """Return who is placed now, in order."""
    yard = PlainYard(world)
    world.rankings.packing.begin_round(world.lines, world.queues, world.environments)
    for host_id in world.fleet.ids:  # who joined first
        yard.hosts[host_id] = _host(world.hosts[host_id])
    for attempt in world.attempts.values():
        yard.take(world.unit_of(attempt).task, attempt.host_id, attempt.compute_environment, _gpus(attempt))
    waiting = [unit for job in world.jobs.values() for unit in units_of(job) if unit.state == "RUNNABLE"]
    waiting.sort(key=lambda unit: (-world.queues[unit.job.spec.queue].priority, unit.place))
    return [claim for unit in waiting if (claim := _place(yard, unit)) is not None]


def _host(host: Host) -> PlainHost:
    facts, limit = host.record.facts, start_limit(host.trust)
    capacity = {kind: getattr(facts.capacity, kind) for kind in KINDS}
    fit = [gpu.uuid for gpu in facts.gpus if not gpu.fault]
    capacity["gpu_millis"] = 1000 * len(fit)
    unstarted = sum(not attempt.started_at_ms for attempt in host.attempts.values())
    return PlainHost(
        host, capacity, dict(capacity), dict.fromkeys(fit, 1000), 1 << 30 if limit is None else limit - unstarted
    )


def _gpus(attempt: Attempt) -> tuple[tuple[str, int], ...]:
    return tuple((gpu.uuid, gpu.millis) for gpu in attempt.gpus)


def _place(yard: PlainYard, unit: Unit) -> Claim | None:
    task, world = unit.task, yard.world
    for environment in world.environments_of(world.queues[unit.job.spec.queue]):
        bound = environment.compute_resources.max_vcpus * 1000
        full = bound and yard.vcpus.get(environment.name, 0) + task.resources.cpu_millis > bound
        hosts = [host for host in _wanted(yard, unit) if host.is_usable and _suits(host, task, environment)]
        hosts = [host for host in hosts if _has_room(yard, host, task)]
        if environment.state is ResourceState.ENABLED and hosts and not full:
            hosts = _first_tier(hosts, _wanted(yard, unit), task, environment)
            if not hosts:
                continue
            host = min(hosts, key=lambda host: _key(yard, host, task))  # of equal ones the first
            gpus = _choose(yard, host, task.resources.gpu_millis)
            host.starts -= 1
            yard.take(task, host.host.record.id, environment.name, gpus)
            return unit.id, host.host.record.id, environment.name, gpus
    return None


def _suits(host: PlainHost, task: Task, environment: ComputeEnvironment) -> bool:
    facts = host.host.record.facts
    return belongs(facts, environment) and task.runtime in facts.runtimes and allows(facts, access_of(task))


def _has_room(yard: PlainYard, host: PlainHost, task: Task) -> bool:
    asked = task.resources
    if host.starts < 1 or any(host.free[kind] < getattr(asked, kind) > 0 for kind in KINDS):
        return False
    return not asked.gpu_millis or bool(_choose(yard, host, asked.gpu_millis))


def _choose(yard: PlainYard, host: PlainHost, asked: int) -> tuple[tuple[str, int], ...]:
    """Whole GPUs in their order, or a part of the one whose remainder loses least, then of that with least left."""
    if asked >= 1000:
        whole = [uuid for uuid, left in host.gpus.items() if left == 1000]
        return tuple((uuid, 1000) for uuid in whole[: asked // 1000]) if len(whole) >= asked // 1000 else ()
    parts = sorted((_loss(yard, left, asked), left, uuid) for uuid, left in host.gpus.items() if left >= asked)
    return ((parts[0][2], asked),) if asked and parts else ()


def _loss(yard: PlainYard, left: int, asked: int) -> int:
    return 0 if yard.worth is None else int(yard.worth.prices.worths[left] - yard.worth.prices.worths[left - asked])


def _key(yard: PlainYard, host: PlainHost, task: Task) -> float:
    """What one more unit costs: the worth that is lost, or what is left over."""
    if yard.worth is None:
        return _left(host, task)
    gpu = task.resources.gpu_millis
    chosen, after = _choose(yard, host, gpu), dict(host.gpus)
    for uuid, millis in chosen:
        after[uuid] -= millis
    cpu, memory = host.free["cpu_millis"], host.free["memory_mib"]
    fall = _worth(yard.worth, host, cpu, memory, host.gpus) - _worth(
        yard.worth, host, cpu - task.resources.cpu_millis, memory - task.resources.memory_mib, after
    )
    loss = _loss(yard, host.gpus[chosen[0][0]], gpu) if 0 < gpu < 1000 else 0
    # In grains of a thousandth of a thousandth of a GPU; a lost GPU counts a hundred thousand thousandths.
    cost = math.floor(1000 * fall + 0.381966) + 100 * loss
    return cost + 0.2 * _left(host, task) * (not gpu)


def _worth(worth: Worth, host: PlainHost, cpu: int, memory: int, gpus: dict[str, int]) -> float:
    """Thousandths of a GPU that what is expected could use."""
    facts, total = host.host.record.facts, 0.0
    asked = [e.resources for e in worth.expected]
    shares = [e.share for e in worth.expected]
    gpu = sum(share * r.gpu_millis for share, r in zip(shares, asked, strict=True))
    mean_cpu, mean_memory = (
        sum(share * getattr(r, kind) for share, r in zip(shares, asked, strict=True)) / gpu
        for kind in ("cpu_millis", "memory_mib")
    )
    for e, weight in zip(worth.expected, worth.weights, strict=True):
        r = e.resources
        if not any(
            belongs(facts, environment) and e.runtime in facts.runtimes and allows(facts, e.access)
            for environment in e.environments
        ):
            continue
        if r.gpu_millis >= 1000:
            count = sum(left == 1000 for left in gpus.values()) // (r.gpu_millis // 1000)
        else:
            count = sum(left // r.gpu_millis for left in gpus.values())
        rooms = (
            cpu / (0.25 * r.cpu_millis + 0.75 * mean_cpu * r.gpu_millis),
            memory / (0.25 * r.memory_mib + 0.75 * mean_memory * r.gpu_millis),
        )
        if min(rooms) > 1 - 1e-9:
            total += weight * r.gpu_millis * min(count, *rooms)
    return total


def _left(host: PlainHost, task: Task) -> float:
    left = 0.0
    for kind in KINDS:
        left += (host.free[kind] - getattr(task.resources, kind)) / max(host.capacity[kind], 1)
    return left


def _first_tier(
    hosts: list[PlainHost], wanted: list[PlainHost], task: Task, environment: ComputeEnvironment
) -> list[PlainHost]:
    """The cheapest ones an hour, or an hour and vCPU; BEST_FIT waits for those that are busy."""
    strategy = environment.compute_resources.allocation_strategy
    if strategy == "BEST_FIT":
        able = [
            host.host.record.facts.price_per_hour
            for host in wanted
            if host.is_hopeful
            and _suits(host, task, environment)
            and all(getattr(task.resources, kind) <= host.capacity[kind] for kind in KINDS)
        ]
        return [host for host in hosts if host.host.record.facts.price_per_hour == min(able)]
    prices = {id(host): host.host.record.facts.price_per_hour / host.capacity["cpu_millis"] for host in hosts}
    return [host for host in hosts if prices[id(host)] == min(prices.values())]


def _wanted(yard: PlainYard, unit: Unit) -> list[PlainHost]:
    """Hosts that have not failed it, unless none of these could ever take it."""
    failed = {e.host_id for e in unit.attempts if e.cause is EndCause.HOST_ERROR}
    image = unit.task.main.image
    avoided = [
        host
        for host in yard.hosts.values()
        if (host.host.record.id in failed and host.host.trust.failures) or (image and image in host.host.trust.lacks)
    ]
    others = [host for host in yard.hosts.values() if host not in avoided]
    return others if not avoided or any(_could_take(yard, host, unit) for host in others) else [*yard.hosts.values()]


def _could_take(yard: PlainYard, host: PlainHost, unit: Unit) -> bool:
    cpu = unit.task.resources.cpu_millis
    return host.is_hopeful and any(
        environment.state is ResourceState.ENABLED
        and (not (bound := environment.compute_resources.max_vcpus) or cpu <= bound * 1000)
        and _suits(host, unit.task, environment)
        and all(getattr(unit.task.resources, kind) <= host.capacity[kind] for kind in KINDS)
        for environment in yard.world.environments_of(yard.world.queues[unit.job.spec.queue])
    )
