"""
Where jobs go, said once more: slow and obvious, with no arrays and nothing kept.

Units are taken one at a time, by priority and submission, and each goes to the
tightest of the hosts that have room, in the first environment that has one. What is
free is counted up from what runs.
"""

from __future__ import annotations

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
    hosts: dict[HostId, PlainHost] = field(default_factory=dict)
    vcpus: dict[str, int] = field(default_factory=dict)

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
        hosts = [host for host in hosts if _has_room(host, task)]
        if environment.state is ResourceState.ENABLED and hosts and not full:
            host = min(hosts, key=lambda host: _left(host, task))  # of equal ones the first
            gpus = _choose(host, task)
            host.starts -= 1
            yard.take(task, host.host.record.id, environment.name, gpus)
            return unit.id, host.host.record.id, environment.name, gpus
    return None


def _suits(host: PlainHost, task: Task, environment: ComputeEnvironment) -> bool:
    facts = host.host.record.facts
    return belongs(facts, environment) and task.runtime in facts.runtimes and allows(facts, access_of(task))


def _has_room(host: PlainHost, task: Task) -> bool:
    asked = task.resources
    if host.starts < 1 or any(host.free[kind] < getattr(asked, kind) > 0 for kind in KINDS):
        return False
    return not asked.gpu_millis or bool(_choose(host, task))


def _choose(host: PlainHost, task: Task) -> tuple[tuple[str, int], ...]:
    """Whole GPUs in their order, or a part of the one that has least left, of those that will do."""
    asked, wanted = task.resources.gpu_millis, _wanted_gpus(host, task)
    if asked >= 1000:
        whole = [uuid for uuid, left in host.gpus.items() if left == 1000 and uuid in wanted]
        return tuple((uuid, 1000) for uuid in whole[: asked // 1000]) if len(whole) >= asked // 1000 else ()
    parts = sorted((left, uuid) for uuid, left in host.gpus.items() if left >= asked and uuid in wanted)
    return ((parts[0][1], asked),) if asked and parts else ()


def _wanted_gpus(host: PlainHost, task: Task) -> set[str]:
    """UUIDs of the GPUs that are called as the task wants, and have the memory."""
    names = {name.lower() for name in task.main.gpu_models}
    return {
        gpu.uuid
        for gpu in host.host.record.facts.gpus
        if (not names or gpu.model.lower() in names) and gpu.memory_mib >= task.main.gpu_memory_mib
    }


def _left(host: PlainHost, task: Task) -> float:
    left = 0.0
    for kind in KINDS:
        left += (host.free[kind] - getattr(task.resources, kind)) / max(host.capacity[kind], 1)
    return left


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


def _could_take(yard: PlainYard, host: PlainHost, unit: Unit) -> bool:
    cpu = unit.task.resources.cpu_millis
    return host.is_hopeful and any(
        environment.state is ResourceState.ENABLED
        and (not (bound := environment.compute_resources.max_vcpus) or cpu <= bound * 1000)
        and _suits(host, unit.task, environment)
        and all(getattr(unit.task.resources, kind) <= host.capacity[kind] for kind in KINDS)
        and unit.task.resources.gpu_millis <= 1000 * len(_wanted_gpus(host, unit.task) & host.gpus.keys())
        for environment in yard.world.environments_of(yard.world.queues[unit.job.spec.queue])
    )
