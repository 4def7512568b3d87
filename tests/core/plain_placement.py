"""
Where jobs go, said once more: slow and obvious, with no arrays and nothing kept.

Units are taken one at a time, by priority and due time, and each goes to a host that
has room in the first environment that has one: of those that the environment's strategy
puts first to the tightest, or where jobs with GPUs are expected to the one whose worth to
them falls least. The first that finds none has the host kept for it that will have room
soonest. What is free is counted up from what runs; what is expected is asked.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from batchyard.ids import HostId
from batchyard.resources import Resources
from batchyard.states import EndCause
from batchyard.tasks import Task
from batchyard_controller.core.model.attempts import Attempt, GpuClaim
from batchyard_controller.core.model.hosts import Host
from batchyard_controller.core.model.settings import ComputeEnvironment, ResourceState
from batchyard_controller.core.model.units import Unit, units_of
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement.feasibility import access_of, allows, belongs
from batchyard_controller.core.placement.line import Shape
from batchyard_controller.core.placement.tenants import Tenant
from batchyard_controller.core.placement.trust import is_suspected, start_limit
from batchyard_controller.core.placement.worth import Worth
from batchyard_controller.core.world.tenancy import situation
from batchyard_controller.core.world.waiting import shape_of
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
        is_marked = host.record.cordoned or host.record.reclaimed_at_ms
        return host.is_reachable and not is_marked and not is_suspected(host.trust)


@dataclass
class PlainYard:
    """All that is placed on, and who was placed."""

    world: World
    now: Instant
    hosts: dict[HostId, PlainHost] = field(default_factory=dict)
    vcpus: dict[str, int] = field(default_factory=dict)
    active: list[Unit] = field(default_factory=list)
    """Who has a host, or was given one now."""
    placed: list[tuple[HostId, Tenant]] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)
    priority: int = 0
    covered: set[HostId] = field(default_factory=set)

    @property
    def worth(self) -> Worth | None:
        return self.world.rankings.packing.worth

    def ends_ms(self, unit: Unit) -> int:
        now_ms = self.now.boot_ms
        return self.world.lines.due_times.stay(shape_of(self.world, unit)).end(now_ms, now_ms)

    def take(self, unit: Unit, host_id: HostId, environment: str, gpus: tuple[tuple[str, int], ...]) -> None:
        task = unit.task
        self.active.append(unit)
        _take(self.hosts[host_id], task.resources, gpus)
        self.vcpus[environment] = self.vcpus.get(environment, 0) + task.resources.cpu_millis


def _take(host: PlainHost, asked: Resources, gpus: tuple[tuple[str, int], ...], sign: int = 1) -> None:
    for kind in KINDS:
        host.free[kind] -= sign * getattr(asked, kind)
    for uuid, millis in gpus:
        if uuid in host.gpus:
            host.gpus[uuid] -= sign * millis


def _copy(host: PlainHost) -> PlainHost:
    return replace(host, free=dict(host.free), gpus=dict(host.gpus))


def plain_claims(world: World, now: Instant) -> list[Claim]:
    """Return who is placed now, in order."""
    yard = PlainYard(world, now)
    world.rankings.packing.begin_round(world.lines, world.queues, world.environments)
    for host_id in world.fleet.ids:  # who joined first
        yard.hosts[host_id] = _host(world.hosts[host_id])
    for attempt in world.attempts.values():
        yard.take(world.unit_of(attempt), attempt.host_id, attempt.compute_environment, _gpus(attempt))
    waiting = [unit for job in world.jobs.values() for unit in units_of(job) if unit.state == "RUNNABLE"]
    claims: list[Claim] = []
    for priority in sorted({queue.priority for queue in world.queues.values()}, reverse=True):
        yard.priority, yard.covered = priority, set()
        claims += _serve(yard, [u for u in waiting if world.queues[u.job.spec.queue].priority == priority])
    return claims


def _serve(yard: PlainYard, waiting: list[Unit]) -> Iterator[Claim]:
    """Place the units of a priority, who is due first next; once a host is kept for one, the smallest of each queue next."""
    refused: set[Shape] = set()
    while waiting:
        by_size = any(kept.priority == yard.priority for kept in yard.kept)
        unit = min(_first_of_queues(yard, waiting, by_size), key=lambda unit: _rank(yard, unit, by_size=False))
        waiting.remove(unit)
        if shape_of(yard.world, unit) in refused:
            continue
        claim = _place(yard, unit)
        if claim is not None:
            yield claim
        else:
            refused.add(shape_of(yard.world, unit))
            if yard.world.queues[unit.job.spec.queue].dispatch_order == "STRICT":
                waiting = [other for other in waiting if other.job.spec.queue != unit.job.spec.queue]
            if _may_go(yard, unit):
                _keep_host(yard, unit)


def _first_of_queues(yard: PlainYard, waiting: list[Unit], by_size: bool) -> list[Unit]:
    first: dict[str, Unit] = {}
    for unit in sorted(waiting, key=lambda unit: _rank(yard, unit, by_size)):
        first.setdefault(unit.job.spec.queue, unit)
    return list(first.values())


def _rank(yard: PlainYard, unit: Unit, by_size: bool) -> tuple[int, ...]:
    timing = yard.world.lines.due_times.timing(shape_of(yard.world, unit))
    return (timing.size_ms if by_size else 0, unit.job.created_at_ms + timing.delay_ms, *unit.place)


@dataclass
class Kept:
    """A host that is kept for a unit, as it will be when that starts."""

    unit: Unit
    priority: int
    host: PlainHost
    environment: str
    vcpus_left: float
    starts_ms: int
    promised_ms: int

    def is_soon_over(self, yard: PlainYard, ends_ms: int) -> bool:
        is_young = yard.now.wall_ms - self.unit.job.created_at_ms < 7 * 24 * 3_600_000
        return ends_ms <= self.starts_ms and (self.starts_ms <= self.promised_ms or is_young)

    def stands_against(self, yard: PlainYard, unit: Unit) -> bool:
        return self.priority >= yard.priority and not self.is_soon_over(yard, yard.ends_ms(unit))

    def has_room(self, yard: PlainYard, asked: Resources, gpus: tuple[tuple[str, int], ...]) -> bool:
        """Say whether its unit will have room beside another that stays."""
        beside = _copy(self.host)
        _take(beside, asked, gpus)
        return _has_room(yard, beside, self.unit.task)


def _keep_host(yard: PlainYard, unit: Unit) -> None:
    """Keep for a unit the host that will have room for it first, unless one before it could have had that."""
    world = yard.world
    taken = {kept.host.host.record.id for kept in yard.kept}
    could = {h.host.record.id for h in _wanted(yard, unit) if h.is_usable} - yard.covered - taken
    last = next((r for r in world.reservations if r.is_for(unit.job.id, unit.index)), None)
    found: list[tuple[int, int, Kept]] = []
    for order, environment in enumerate(world.environments_of(world.queues[unit.job.spec.queue])):
        able = [host for host in _wanted(yard, unit) if _could_take(yard, host, unit, environment)]
        for name in [host.host.record.id for host in _awaited(able, environment)]:
            if name in could:
                kept = _when(yard, unit, yard.hosts[name], environment)
                found += [(kept.starts_ms, order, kept)] if kept is not None else []
    if last is not None:
        where = last.environment, last.host_id
        found = [each for each in found if (each[2].environment, each[2].host.host.record.id) == where] or found
    if found:
        kept = min(found, key=lambda each: each[:2])[2]
        if last is not None and last.host_id == kept.host.host.record.id:
            kept.promised_ms = last.promised_ms
        yard.kept.append(kept)
        yard.covered |= {name for name, host in yard.hosts.items() if _could_take(yard, host, unit)}


def _when(yard: PlainYard, unit: Unit, host: PlainHost, environment: ComputeEnvironment) -> Kept | None:
    """Let what runs end, one moment after the other, until there is room on a host."""
    plans, name = situation(yard.world), host.host.record.id
    then, now_ms = _copy(host), yard.now.boot_ms
    then.starts = 1
    bound = environment.compute_resources.max_vcpus * 1000
    left = bound - yard.vcpus.get(environment.name, 0) if bound else math.inf
    here = plans.tenants.of_host(name, now_ms) + [t for where, t in yard.placed if where == name]
    there = plans.tenants.of_environment(environment.name, now_ms) if bound else []
    there += [t for _, t in yard.placed if bound and t.environment == environment.name]
    for at_ms in sorted({now_ms, *(t.ends_ms for t in here + there)}):
        for tenant in [t for t in here if t.ends_ms == at_ms]:
            _take(then, tenant.resources, tuple((gpu.uuid, gpu.millis) for gpu in tenant.gpus), -1)
        left += sum(t.resources.cpu_millis for t in there if t.ends_ms == at_ms)
        if _has_room(yard, then, unit.task) and left >= unit.task.resources.cpu_millis:
            return Kept(unit, yard.priority, then, environment.name, left, at_ms, at_ms)
    return None


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
    if not _may_go(yard, unit):
        return None
    for environment in world.environments_of(world.queues[unit.job.spec.queue]):
        bound = environment.compute_resources.max_vcpus * 1000
        full = bound and yard.vcpus.get(environment.name, 0) + task.resources.cpu_millis > bound
        hosts = [host for host in _wanted(yard, unit) if host.is_usable and _suits(host, task, environment)]
        hosts = [host for host in hosts if _has_room(yard, host, task) and _is_open(yard, unit, host)]
        if environment.state is ResourceState.ENABLED and hosts and not full and _may_spend(yard, unit, environment):
            hosts = _first_tier(yard, hosts, unit, environment)
            if not hosts:
                continue
            host = min(hosts, key=lambda host: _key(yard, host, task))  # of equal ones the first
            gpus = _choose(yard, host, task)
            host.starts -= 1
            yard.take(unit, host.host.record.id, environment.name, gpus)
            _note_placed(yard, unit, host.host.record.id, environment.name, gpus)
            return unit.id, host.host.record.id, environment.name, gpus
    return None


def _is_open(yard: PlainYard, unit: Unit, host: PlainHost) -> bool:
    gpus = _choose(yard, host, unit.task)
    return all(
        kept.host.host is not host.host
        or not kept.stands_against(yard, unit)
        or kept.has_room(yard, unit.task.resources, gpus)
        for kept in yard.kept
    )


def _may_spend(yard: PlainYard, unit: Unit, environment: ComputeEnvironment) -> bool:
    cpu = unit.task.resources.cpu_millis
    return all(
        kept.environment != environment.name
        or not kept.stands_against(yard, unit)
        or kept.vcpus_left - cpu >= kept.unit.task.resources.cpu_millis
        for kept in yard.kept
    )


def _note_placed(
    yard: PlainYard, unit: Unit, host_id: HostId, environment: str, gpus: tuple[tuple[str, int], ...]
) -> None:
    ends_ms, asked = yard.ends_ms(unit), unit.task.resources
    claims = tuple(GpuClaim(uuid=uuid, millis=millis) for uuid, millis in gpus)
    yard.placed.append((host_id, Tenant(ends_ms, asked, claims, environment, yard.now.boot_ms)))
    for kept in yard.kept:
        if kept.is_soon_over(yard, ends_ms):
            continue
        if kept.host.host.record.id == host_id:
            _take(kept.host, asked, gpus)
        if kept.environment == environment:
            kept.vcpus_left -= asked.cpu_millis


def _may_go(yard: PlainYard, unit: Unit) -> bool:
    """Say whether its queue may have one more, and whether there is all that it needs beside a host."""
    spec = unit.job.spec
    queue, mine = yard.world.queues[spec.queue], [u for u in yard.active if u.job.spec.queue == spec.queue]
    cpu = sum(u.task.resources.cpu_millis for u in (*mine, unit))
    if (queue.max_running and len(mine) >= queue.max_running) or (queue.max_vcpus and cpu > queue.max_vcpus * 1000):
        return False
    for name, quantity in spec.consumables:
        found = yard.world.consumables[name]
        held = sum(dict(u.job.spec.consumables).get(name, 0) for u in yard.active)
        if found.total - found.consumed - held < quantity:
            return False
    return True


def _suits(host: PlainHost, task: Task, environment: ComputeEnvironment) -> bool:
    facts = host.host.record.facts
    return belongs(facts, environment) and task.runtime in facts.runtimes and allows(facts, access_of(task, ()))


def _has_room(yard: PlainYard, host: PlainHost, task: Task) -> bool:
    asked = task.resources
    if host.starts < 1 or any(host.free[kind] < getattr(asked, kind) > 0 for kind in KINDS):
        return False
    return not asked.gpu_millis or bool(_choose(yard, host, task))


def _choose(yard: PlainYard, host: PlainHost, task: Task) -> tuple[tuple[str, int], ...]:
    """Whole GPUs, or a part of the one whose remainder loses least, then with least left; first those of least memory."""
    asked = task.resources.gpu_millis
    free = {uuid: host.gpus[uuid] for uuid in _wanted_gpus(host, task) if uuid in host.gpus}
    if asked >= 1000:
        whole = [uuid for uuid, left in free.items() if left == 1000]
        return tuple((uuid, 1000) for uuid in whole[: asked // 1000]) if len(whole) >= asked // 1000 else ()
    parts = [(_loss(yard, left, asked), left, uuid) for uuid, left in free.items() if left >= asked]
    return ((min(parts, key=lambda part: part[:2])[2], asked),) if asked and parts else ()


def _loss(yard: PlainYard, left: int, asked: int) -> int:
    return 0 if yard.worth is None else int(yard.worth.prices.worths[left] - yard.worth.prices.worths[left - asked])


def _key(yard: PlainYard, host: PlainHost, task: Task) -> float:
    """What one more unit costs: the worth that is lost, or what is left over."""
    if yard.worth is None:
        return _left(host, task)
    gpu = task.resources.gpu_millis
    chosen, after = _choose(yard, host, task), dict(host.gpus)
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
        wanted = _called(host, e.access.gpu_models, e.access.gpu_memory_mib)
        levels = [left for uuid, left in gpus.items() if uuid in wanted]
        if r.gpu_millis >= 1000:
            count = levels.count(1000) // (r.gpu_millis // 1000)
        else:
            count = sum(left // r.gpu_millis for left in levels)
        rooms = (
            cpu / (0.25 * r.cpu_millis + 0.75 * mean_cpu * r.gpu_millis),
            memory / (0.25 * r.memory_mib + 0.75 * mean_memory * r.gpu_millis),
        )
        if min(rooms) > 1 - 1e-9:
            total += weight * r.gpu_millis * min(count, *rooms)
    return total


def _wanted_gpus(host: PlainHost, task: Task) -> list[str]:
    return _called(host, task.main.gpu_models, task.main.gpu_memory_mib)


def _called(host: PlainHost, models: tuple[str, ...], memory: int) -> list[str]:
    """UUIDs of the GPUs that are called by such a name, and have the memory; those with the least memory first."""
    names = {name.lower() for name in models}
    gpus = sorted(host.host.record.facts.gpus, key=lambda gpu: (gpu.memory_mib, gpu.model))
    return [gpu.uuid for gpu in gpus if (not names or gpu.model.lower() in names) and gpu.memory_mib >= memory]


def _left(host: PlainHost, task: Task) -> float:
    left = 0.0
    for kind in KINDS:
        left += (host.free[kind] - getattr(task.resources, kind)) / max(host.capacity[kind], 1)
    return left


def _first_tier(
    yard: PlainYard, hosts: list[PlainHost], unit: Unit, environment: ComputeEnvironment
) -> list[PlainHost]:
    """The cheapest ones an hour, or an hour and vCPU; BEST_FIT waits for those that are busy."""
    if environment.compute_resources.allocation_strategy == "BEST_FIT":
        able = [host for host in _wanted(yard, unit) if _could_take(yard, host, unit, environment)]
        awaited = _awaited(able, environment)
        return [host for host in hosts if host in awaited]
    prices = {id(host): host.host.record.facts.price_per_hour / host.capacity["cpu_millis"] for host in hosts}
    return [host for host in hosts if prices[id(host)] == min(prices.values())]


def _awaited(able: list[PlainHost], environment: ComputeEnvironment) -> list[PlainHost]:
    """Of hosts that could take a unit if they were empty those for which it waits: with BEST_FIT the cheapest."""
    prices = [host.host.record.facts.price_per_hour for host in able]
    if environment.compute_resources.allocation_strategy != "BEST_FIT":
        return able
    return [host for host in able if host.host.record.facts.price_per_hour == min(prices)]


def _wanted(yard: PlainYard, unit: Unit) -> list[PlainHost]:
    """Hosts that have not failed it, unless none of these could ever take it."""
    environments = yard.world.environments_of(yard.world.queues[unit.job.spec.queue])
    limit = unit.job.spec.retry.spot_attempts
    if limit and sum(e.cause is EndCause.RECLAIMED for e in unit.attempts) >= limit:
        environments = tuple(e for e in environments if e.compute_resources.type == "EC2") or environments
    hosts = [h for h in yard.hosts.values() if any(belongs(h.host.record.facts, e) for e in environments)]
    failed = {e.host_id for e in unit.attempts if e.cause is EndCause.HOST_ERROR}
    image = unit.task.main.image
    avoided = [
        host
        for host in hosts
        if (host.host.record.id in failed and host.host.trust.failures) or (image and image in host.host.trust.lacks)
    ]
    others = [host for host in hosts if host not in avoided]
    return others if not avoided or any(_could_take(yard, host, unit) for host in others) else hosts


def _could_take(yard: PlainYard, host: PlainHost, unit: Unit, only: ComputeEnvironment | None = None) -> bool:
    cpu = unit.task.resources.cpu_millis
    return host.is_hopeful and any(
        environment.state is ResourceState.ENABLED
        and (not (bound := environment.compute_resources.max_vcpus) or cpu <= bound * 1000)
        and _suits(host, unit.task, environment)
        and all(getattr(unit.task.resources, kind) <= host.capacity[kind] for kind in KINDS)
        and unit.task.resources.gpu_millis <= 1000 * len(host.gpus.keys() & _wanted_gpus(host, unit.task))
        for environment in ([only] if only else yard.world.environments_of(yard.world.queues[unit.job.spec.queue]))
    )
