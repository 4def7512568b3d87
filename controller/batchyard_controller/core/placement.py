"""
Placement: where waiting jobs go, as a plan that leaves nothing to choose.

The fleet keeps the hosts' free amounts in arrays, one row a host. `make_plan`
serves queues by priority and, among equals, jobs by submission; a job that does
not fit lets others pass (there is no reservation yet). One vector pass finds the
hosts for a whole line; it is repeated only when another line has taken some of
the same hosts in between. A plan holds the placements and the refusals, and
changes nothing: it reckons on a sketch of the fleet.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from batchyard.ids import HostId
from batchyard.resources import GPU_WHOLE, RESOURCE_KINDS, Resources

from . import reasons
from .feasibility import NO_ACCESS, Access, allows, belongs, not_allowed
from .model import ComputeEnvironment, GpuClaim, HostFacts, Job, JobQueue, ResourceState
from .ordering import Line, Lines, Shape, Unit
from .reasons import Refusal
from .strategies import STRATEGIES, Amounts

Mask = npt.NDArray[np.bool_]

_MASKS_KEPT = 4096
"""Jobs may each ask for a path of their own."""
_CPU, _MEMORY, _GPU, _DISK = range(4)
_UNITS = {
    "cpu_millis": (1000, "vCPU"),
    "memory_mib": (1, "MiB memory"),
    "gpu_millis": (1000, "GPU"),
    "disk_mib": (1, "MiB disk"),
}


def _row(resources: Resources) -> Amounts:
    return np.array([getattr(resources, kind) for kind in RESOURCE_KINDS], dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Placement:
    """One unit on one host, its GPUs chosen."""

    job: Job
    index: int | None
    host_id: HostId
    compute_environment: str
    gpus: tuple[GpuClaim, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """Placements, how many leave each line, and why the first left over in a line waits."""

    placements: tuple[Placement, ...]
    taken: tuple[tuple[Line, int], ...]
    refusals: tuple[tuple[Line, tuple[Refusal, ...]], ...]


class Fleet:
    """
    Free and total amounts of every host; the whole of what placement reckons with.

    The GPU column holds the sum over a host's GPUs; which GPU has how much left
    is in ``gpu_free``, since a job never spans two GPUs with parts.
    """

    def __init__(self) -> None:
        self.ids: list[HostId] = []
        self.facts: list[HostFacts] = []
        self.rows: dict[HostId, int] = {}
        self.free: Amounts = np.zeros((0, 4), dtype=np.int64)
        self.capacity: Amounts = np.zeros((0, 4), dtype=np.int64)
        self.usable: Mask = np.zeros(0, dtype=np.bool_)
        self.gpu_free: list[dict[str, int]] = []
        self.environment_cpu: dict[str, int] = {}
        """CPU thousandths in use, by compute environment."""
        self.grown = 0
        """Rises whenever something that did not fit might fit now."""
        self._members: dict[tuple[ComputeEnvironment, str, Access], Mask] = {}

    def set_host(self, host_id: HostId, facts: HostFacts, *, usable: bool) -> None:
        """Add a host, or change what it is and whether it gets new work."""
        row = self.rows.get(host_id)
        if row is None:
            row = self.rows[host_id] = len(self.ids)
            self.ids.append(host_id)
            self.facts.append(facts)
            self.gpu_free.append({})
            self.free = np.vstack([self.free, np.zeros((1, 4), dtype=np.int64)])
            self.capacity = np.vstack([self.capacity, np.zeros((1, 4), dtype=np.int64)])
            self.usable = np.append(self.usable, False)  # numpy takes it so
        fit_gpus = [gpu.uuid for gpu in facts.gpus if not gpu.fault]
        capacity = _row(facts.capacity)
        capacity[_GPU] = len(fit_gpus) * GPU_WHOLE
        used = {u: GPU_WHOLE - free for u, free in self.gpu_free[row].items()}
        self.free[row] += capacity - self.capacity[row]
        self.capacity[row] = capacity
        self.gpu_free[row] = {uuid: GPU_WHOLE - used.get(uuid, 0) for uuid in fit_gpus}
        self.usable[row] = usable
        if self.facts[row] != facts:
            self.facts[row] = facts
        self._members.clear()
        self.grown += 1

    def claim(self, host_id: HostId, resources: Resources, gpus: Iterable[GpuClaim], environment: str) -> None:
        """Take amounts from a host."""
        self._change(host_id, resources, gpus, environment, -1)

    def release(self, host_id: HostId, resources: Resources, gpus: Iterable[GpuClaim], environment: str) -> None:
        """Give amounts back to a host."""
        self._change(host_id, resources, gpus, environment, 1)
        self.grown += 1

    def _change(
        self, host_id: HostId, resources: Resources, gpus: Iterable[GpuClaim], environment: str, sign: int
    ) -> None:
        row = self.rows[host_id]
        self.free[row] += sign * _row(resources)
        for gpu in gpus:
            if gpu.uuid in self.gpu_free[row]:
                self.gpu_free[row][gpu.uuid] += sign * gpu.millis
        self.environment_cpu[environment] = self.environment_cpu.get(environment, 0) - sign * resources.cpu_millis

    def members(self, environment: ComputeEnvironment, runtime: str, access: Access = NO_ACCESS) -> Mask:
        """Return which hosts belong to an environment and allow a runtime, empty for any, and the access."""
        key = (environment, runtime, access)
        mask = self._members.get(key)
        if mask is None:
            if len(self._members) >= _MASKS_KEPT:
                self._members.clear()
            mask = np.fromiter(
                (
                    belongs(f, environment) and (not runtime or runtime in f.runtimes) and allows(f, access)
                    for f in self.facts
                ),
                dtype=np.bool_,
                count=len(self.facts),
            )
            self._members[key] = mask
        return mask

    def allocated(self, host_id: HostId) -> Resources:
        """Return what attempts hold on a host."""
        row = self.rows[host_id]
        used = (self.capacity[row] - self.free[row]).tolist()
        return Resources(**dict(zip(RESOURCE_KINDS, used, strict=True)))

    def gpu_allocated(self, host_id: HostId) -> dict[str, int]:
        """Return the thousandths that attempts hold of each GPU of a host."""
        return {uuid: GPU_WHOLE - free for uuid, free in self.gpu_free[self.rows[host_id]].items()}


@dataclass(slots=True)
class _Sketch:
    """A copy of the fleet's free amounts that a plan may draw on."""

    fleet: Fleet
    free: Amounts
    environment_cpu: dict[str, int]
    gpu_free: dict[int, dict[str, int]] = field(default_factory=dict)
    """Copies of rows that were touched."""
    version: int = 0

    def gpus_of(self, row: int) -> Mapping[str, int]:
        return self.gpu_free.get(row) or self.fleet.gpu_free[row]

    def claim(self, row: int, asked: Amounts, environment: str) -> tuple[GpuClaim, ...]:
        gpus = _choose_gpus(self.gpus_of(row), int(asked[_GPU]))
        if gpus:
            left = dict(self.gpus_of(row))
            for gpu in gpus:
                left[gpu.uuid] -= gpu.millis
            self.gpu_free[row] = left
        self.free[row] -= asked
        self.environment_cpu[environment] = self.environment_cpu.get(environment, 0) + int(asked[_CPU])
        self.version += 1
        return gpus


def _choose_gpus(free: Mapping[str, int], asked: int) -> tuple[GpuClaim, ...]:
    """Take whole GPUs that are quite free, or the tightest one that has the part left."""
    if asked == 0:
        return ()
    if asked >= GPU_WHOLE:
        whole = [uuid for uuid, left in free.items() if left == GPU_WHOLE][: asked // GPU_WHOLE]
        return tuple(GpuClaim(uuid=uuid, millis=GPU_WHOLE) for uuid in whole)
    _, uuid = min((left, uuid) for uuid, left in free.items() if left >= asked)
    return (GpuClaim(uuid=uuid, millis=asked),)


def _gpu_room(free: Mapping[str, int], asked: int) -> int:
    """Return how many jobs that ask for so much GPU the GPUs of one host can take."""
    if asked >= GPU_WHOLE:
        return sum(left == GPU_WHOLE for left in free.values()) // (asked // GPU_WHOLE)
    return sum(left // asked for left in free.values())


def make_plan(
    lines: Lines, queues: Mapping[str, JobQueue], environments: Mapping[str, ComputeEnvironment], fleet: Fleet
) -> Plan:
    """Decide where waiting jobs go now, and say why the others wait."""
    sketch = _Sketch(fleet, fleet.free.copy(), dict(fleet.environment_cpu))
    placements: list[Placement] = []
    turns: list[_Turn] = []
    by_priority: dict[int, list[JobQueue]] = {}
    for queue in queues.values():
        by_priority.setdefault(queue.priority, []).append(queue)
    for priority in sorted(by_priority, reverse=True):
        waiting = [
            _Turn(line, _steps(queue, environments), sketch)
            for queue in by_priority[priority]
            for line in lines.of_queue(queue.name)
            if line.refused_at != fleet.grown
        ]
        _serve(waiting, placements)
        turns += waiting
    return Plan(
        placements=tuple(placements),
        taken=tuple((turn.line, turn.placed) for turn in turns if turn.placed),
        refusals=tuple((turn.line, turn.refusals) for turn in turns if turn.refusals),
    )


def _steps(queue: JobQueue, environments: Mapping[str, ComputeEnvironment]) -> tuple[ComputeEnvironment, ...]:
    """Return the queue's environments in their order."""
    ordered = sorted(queue.environment_order, key=lambda step: step.order)
    return tuple(environments[step.compute_environment] for step in ordered)


def _serve(waiting: list[_Turn], placements: list[Placement]) -> None:
    """Place the units of several lines, always the earliest submitted first."""
    heap = [(turn.head[0].seq, i, turn) for i, turn in enumerate(waiting) if turn.head is not None]
    heapq.heapify(heap)
    while heap:
        _, i, turn = heapq.heappop(heap)
        limit = heap[0][0] if heap else None
        while turn.head is not None and (limit is None or turn.head[0].seq <= limit):
            placement = turn.place()
            if placement is None:
                break
            placements.append(placement)
        else:
            if turn.head is not None:
                heapq.heappush(heap, (turn.head[0].seq, i, turn))


class _Turn:
    """One line's part in a plan: who is next, and which hosts are left for it."""

    def __init__(self, line: Line, environments: tuple[ComputeEnvironment, ...], sketch: _Sketch) -> None:
        self.line = line
        self._environments = environments
        self._sketch = sketch
        self._asked = _row(line.shape.resources)
        self._units = line.units()
        self.head: Unit | None = next(self._units, None)
        self.placed = 0
        self.refusals: tuple[Refusal, ...] = ()
        self._slots: Iterator[tuple[int, str]] = iter(())
        self._version = -1

    def place(self) -> Placement | None:
        """Place the head of the line and move on; None, and refusals, when there is no room."""
        assert self.head is not None, "nobody is left in this line"
        if self._version != self._sketch.version:
            self._slots = self._find_slots()
        slot = next(self._slots, None)
        if slot is None:
            self.refusals = explain(self.line.shape, self._environments, self._sketch.fleet, self._sketch)
            return None
        row, environment = slot
        gpus = self._sketch.claim(row, self._asked, environment)
        self._version = self._sketch.version
        job, index = self.head
        self.head = next(self._units, None)
        self.placed += 1
        return Placement(job, index, self._sketch.fleet.ids[row], environment, gpus)

    def _find_slots(self) -> Iterator[tuple[int, str]]:
        """Yield a host row for one unit after the other, environments in order, tightest host first."""
        fleet, sketch, asked = self._sketch.fleet, self._sketch, self._asked
        for environment in self._environments:
            if environment.state is not ResourceState.ENABLED:
                continue
            room = _room(sketch, self.line.shape, environment, asked)
            rows = np.nonzero(room)[0]
            strategy = STRATEGIES[environment.compute_resources.allocation_strategy]
            order = np.argsort(strategy(sketch.free[rows], fleet.capacity[rows], asked), kind="stable")
            for row in rows[order].tolist():
                for _ in range(int(room[row])):
                    if _vcpus_left(sketch, environment) < asked[_CPU]:
                        break
                    yield row, environment.name


def _vcpus_left(sketch: _Sketch, environment: ComputeEnvironment) -> int:
    bound = environment.compute_resources.max_vcpus
    if bound == 0:
        return np.iinfo(np.int64).max
    return bound * 1000 - sketch.environment_cpu.get(environment.name, 0)


def _room(sketch: _Sketch, shape: Shape, environment: ComputeEnvironment, asked: Amounts) -> Amounts:
    """Return how many units each host can take now."""
    fleet = sketch.fleet
    mask = fleet.members(environment, shape.runtime, shape.access) & fleet.usable
    room: Amounts = np.zeros(len(fleet.ids), dtype=np.int64)
    if not mask.any():
        return room
    kinds = np.nonzero(asked)[0]
    room[mask] = np.maximum((sketch.free[mask][:, kinds] // asked[kinds]).min(axis=1), 0) if len(kinds) else 1
    if asked[_GPU]:
        for row in np.nonzero(room)[0].tolist():
            room[row] = min(int(room[row]), _gpu_room(sketch.gpus_of(row), int(asked[_GPU])))
    return room


def explain(
    shape: Shape, environments: tuple[ComputeEnvironment, ...], fleet: Fleet, sketch: _Sketch | None = None
) -> tuple[Refusal, ...]:
    """Say, per resource, what a job of *shape* asks for and what there is."""
    enabled = [e for e in environments if e.state is ResourceState.ENABLED]
    if not enabled:
        names = ", ".join(e.name for e in environments)
        text = f"every compute environment of the queue is DISABLED ({names})"
        blocked = reasons.blocked(reasons.ENVIRONMENTS_DISABLED)
        return (Refusal(kind="environments", message=text, blocked=blocked),)
    sketch = sketch or _Sketch(fleet, fleet.free, fleet.environment_cpu)
    member = _members(fleet, enabled, shape.runtime, shape.access)
    blocked = _blocked(_row(shape.resources), enabled, fleet, member)
    return tuple(replace(refusal, blocked=blocked) for refusal in _refusals(shape, enabled, sketch, member))


def _members(fleet: Fleet, environments: list[ComputeEnvironment], runtime: str, access: Access = NO_ACCESS) -> Mask:
    """Return which hosts belong to any of the environments and allow a runtime, empty for any, and the access."""
    member: Mask = np.zeros(len(fleet.ids), dtype=np.bool_)
    for environment in environments:
        member |= fleet.members(environment, runtime, access)
    return member


def _blocked(asked: Amounts, enabled: list[ComputeEnvironment], fleet: Fleet, member: Mask) -> str:
    """
    Say in AWS's words why a job that asks for so much is not placed.

    Tools kill a job on sight of JOB_RESOURCE_REQUIREMENT, so it is said only when no
    registered host could take the job if it were here, empty and sound.
    """
    if all(0 < e.compute_resources.max_vcpus * 1000 < asked[_CPU] for e in enabled):
        return reasons.blocked(reasons.BEYOND_ENVIRONMENTS)
    if fleet.ids and not member.any():
        is_selected = _members(fleet, enabled, "").any()
        return reasons.blocked(reasons.UNDETERMINED if is_selected else reasons.NO_HOST_SELECTED)
    capacity = fleet.capacity[member]
    if asked[_GPU]:
        capacity[:, _GPU] = [GPU_WHOLE * len(fleet.facts[row].gpus) for row in np.nonzero(member)[0].tolist()]
    if fleet.ids and not (capacity >= asked).all(axis=1).any():
        return reasons.blocked(reasons.BEYOND_HOSTS)
    types = dict.fromkeys(name for e in enabled for name in e.compute_resources.instance_types)
    return reasons.blocked(reasons.NO_CAPACITY, tuple(types))


def _refusals(shape: Shape, enabled: list[ComputeEnvironment], sketch: _Sketch, member: Mask) -> tuple[Refusal, ...]:
    fleet = sketch.fleet
    ready = member & fleet.usable
    if not ready.any():
        return (_no_host(shape, enabled, fleet, int(member.sum())),)
    asked = _row(shape.resources)
    if any(_room(sketch, shape, e, asked).any() and _vcpus_left(sketch, e) >= asked[_CPU] for e in enabled):
        return (Refusal(kind="hosts", message="a host has room for it: it is placed next", asked=1),)
    refusals = [
        _amount_refusal(kind, int(asked[i]), sketch.free[ready][:, i], fleet.capacity[member][:, i])
        for i, kind in enumerate(RESOURCE_KINDS)
        if asked[i] > max(0, int(sketch.free[ready][:, i].max()))
    ]
    for environment in enabled:
        if _vcpus_left(sketch, environment) < asked[_CPU]:
            bound = environment.compute_resources.max_vcpus
            refusals.append(
                Refusal(
                    kind="max_vcpus",
                    message=f"compute environment {environment.name} is at its bound of {bound} vCPUs",
                    asked=int(asked[_CPU]),
                    free=max(0, _vcpus_left(sketch, environment)),
                    largest_free=max(0, _vcpus_left(sketch, environment)),
                    largest_capacity=bound * 1000,
                )
            )
    return tuple(refusals) or (_no_single_host(shape.resources, int(ready.sum())),)


def _no_host(shape: Shape, environments: list[ComputeEnvironment], fleet: Fleet, members: int) -> Refusal:
    names = ", ".join(e.name for e in environments)
    others = np.nonzero(_members(fleet, environments, shape.runtime))[0].tolist()
    if others and not members:
        text = not_allowed(shape.access, (fleet.facts[row] for row in others))
    elif members:
        text = f"none of the {members} hosts of {names} with runtime {shape.runtime} takes work now"
    else:
        text = f"no host belongs to {names} and offers runtime {shape.runtime}"
    return Refusal(kind="hosts", message=text, asked=1, largest_capacity=members)


def _no_single_host(resources: Resources, hosts: int) -> Refusal:
    text = f"each amount is free on some of the {hosts} hosts, but no single host has all of them free"
    return Refusal(kind="hosts", message=text, asked=1, largest_capacity=hosts)


def _amount_refusal(kind: str, asked: int, free: Amounts, capacity: Amounts) -> Refusal:
    per_unit, unit = _UNITS[kind]
    largest, most_free = int(capacity.max()), max(0, int(free.max()))
    text = (
        f"{asked / per_unit:.10g} {unit} asked, at most {most_free / per_unit:.10g} free on one host "
        f"(largest host: {largest / per_unit:.10g})"
    )
    if asked > largest:
        text += "; no host known now could ever fit it"
    return Refusal(
        kind=kind,
        message=text,
        asked=asked,
        free=int(np.maximum(free, 0).sum()),
        largest_free=most_free,
        largest_capacity=largest,
    )
