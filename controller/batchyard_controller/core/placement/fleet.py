"""Fleet: free and total amounts of every host, one row a host; the whole of what placement reckons with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from batchyard.ids import HostId
from batchyard.resources import GPU_WHOLE, RESOURCE_KINDS, Resources
from batchyard_controller.core.model.attempts import GpuClaim
from batchyard_controller.core.model.hosts import GpuFacts, HostFacts
from batchyard_controller.core.model.settings import ComputeEnvironment

from .bounds import Bounds
from .changes import Changes
from .feasibility import NO_ACCESS, Access
from .gpus import by_kind, gpu_levels
from .kinds import Kinds, Mask
from .quotas import Quotas
from .strategies import Amounts

UNBOUNDED = 1 << 40
"""More starts than any host has room for."""
CPU, MEMORY, GPU, DISK, WHOLE_GPUS, GPU_PART, STARTS, USABLE = range(8)
"""Lines of ``Fleet.state``: the four amounts, and what else a host must have for a job to fit."""
_KINDS_SPARE = 1024


def row_of(resources: Resources) -> Amounts:
    """Write amounts as the fleet's arrays have them."""
    return np.array([getattr(resources, kind) for kind in RESOURCE_KINDS], dtype=np.int64)


class Fleet:
    """
    Free and total amounts of every host; the whole of what placement reckons with.

    The arrays have a line an amount and a column a host, called its row: an amount of all
    hosts lies together. The GPU line holds the sum over a host's GPUs; which GPU has
    how much left is in ``gpu_free``, since a job never spans two GPUs with parts. Law:
    whatever changes a row notes it in ``changes``.
    """

    def __init__(self) -> None:
        self.ids: list[HostId] = []
        self.facts: list[HostFacts] = []
        self.rows: dict[HostId, int] = {}
        self.state: Amounts = np.zeros((8, 0), dtype=np.int64)
        """What is left of each host; see the names of its lines."""
        self.capacity: Amounts = np.zeros((4, 0), dtype=np.int64)
        self.reserved: Amounts = np.zeros((4, 0), dtype=np.int64)
        """What others than this yard hold of each host; it is not among what is left."""
        self.kinds = Kinds()
        self.kind_of: Amounts = np.zeros(0, dtype=np.int64)
        self.hopeful: Mask = np.zeros(0, dtype=np.bool_)
        """Who is usable, or will be after a short rest."""
        self.has_mixed_gpus: Mask = np.zeros(0, dtype=np.bool_)
        """Who has GPUs of several kinds: whether those that a job wants have room is then asked of each alone."""
        self.gpu_places: list[tuple[tuple[GpuFacts, int], ...]] = []
        """The GPUs of those, each with the place of its kind among `kinds_of`, in that order."""
        self.away: list[str] = []
        """Why a host gets no new work now; empty of those that are usable."""
        self.gpu_held: list[dict[str, int]] = []
        """Thousandths that attempts hold of each GPU of a host, of faulty ones too."""
        self.gpu_free: list[dict[str, int]] = []
        """Thousandths that are left of each that is not faulty."""
        self.doubted: set[HostId] = set()
        """Hosts on which starts failed of late, and none has succeeded since."""
        self.lacking: dict[str, set[HostId]] = {}
        """Hosts that could not get an image lately, by image."""
        self.environment_cpu: dict[str, int] = {}
        """CPU thousandths in use, by compute environment."""
        self.bounds = Bounds()
        self.quotas = Quotas()
        self.changes = Changes()
        self.grown = 0
        """Rises whenever something that did not fit might fit now."""

    @property
    def free(self) -> Amounts:
        """Free amounts of every host."""
        return self.state[:4]

    @property
    def usable(self) -> Mask:
        """Which hosts get new work now."""
        mask: Mask = self.state[USABLE] > 0
        return mask

    def set_host(self, host_id: HostId, facts: HostFacts, *, away: str = "", rests: bool = False) -> None:
        """Add a host, or change what it is and why it gets no new work, if it gets none; one that *rests* will soon."""
        if host_id not in self.rows:
            self._add(host_id, facts)
        row = self.rows[host_id]
        self.facts[row] = facts
        self._set_kind(row)
        capacity = row_of(facts.capacity)
        capacity[GPU] = sum(not gpu.fault for gpu in facts.gpus) * GPU_WHOLE
        self.state[:4, row] += capacity - self.capacity[:, row]
        self.capacity[:, row] = capacity
        self.gpu_places[row] = by_kind(facts.gpus)
        self.has_mixed_gpus[row] = bool(self.gpu_places[row])
        self._set_gpus(row)
        self.state[USABLE, row] = not away
        self.hopeful[row] = rests or not away
        self.away[row] = away
        self.changes.note(row)
        self.grown += 1

    def _add(self, host_id: HostId, facts: HostFacts) -> None:
        """Give a host a row; what stands in it follows."""
        self.rows[host_id] = len(self.ids)
        self.ids.append(host_id)
        self.facts.append(facts)
        self.away.append("")
        self.gpu_places.append(())
        self.gpu_held.append({})
        self.gpu_free.append({})
        self.state = np.append(self.state, np.zeros((8, 1), dtype=np.int64), axis=1)
        self.state[STARTS, -1] = UNBOUNDED
        self.capacity = np.append(self.capacity, np.zeros((4, 1), dtype=np.int64), axis=1)
        self.reserved = np.append(self.reserved, np.zeros((4, 1), dtype=np.int64), axis=1)
        self.kind_of = np.append(self.kind_of, np.int64(0))
        self.hopeful = np.append(self.hopeful, np.False_)
        self.has_mixed_gpus = np.append(self.has_mixed_gpus, np.False_)

    def _set_kind(self, row: int) -> None:
        """Look up a host's kind; when most that are kept are of no host any more, count them afresh."""
        self.kind_of[row] = self.kinds.number(self.facts[row])
        if len(self.kinds) > len(self.ids) + _KINDS_SPARE:
            self.kinds = Kinds()
            self.kind_of[:] = [self.kinds.number(facts) for facts in self.facts]
            self.changes.note_all(len(self.ids))

    def _set_gpus(self, row: int) -> None:
        """Reckon what is left of a host's GPUs; whose are others' is known by their number alone, so the last free ones are."""
        held = self.gpu_held[row]
        fit = [gpu.uuid for gpu in self.facts[row].gpus if not gpu.fault]
        self.gpu_free[row] = free = {uuid: GPU_WHOLE - held.get(uuid, 0) for uuid in fit}
        taken = -(-int(self.reserved[GPU, row]) // GPU_WHOLE)
        for uuid in [uuid for uuid in reversed(fit) if uuid not in held][:taken]:
            free[uuid] = 0
        self.state[WHOLE_GPUS : GPU_PART + 1, row] = gpu_levels(self.gpu_free[row])

    def set_reserved(self, host_id: HostId, reserved: Resources) -> None:
        """Say what others than this yard hold of a host."""
        row = self.rows[host_id]
        more = row_of(reserved) - self.reserved[:, row]
        if not more.any():
            return
        self.reserved[:, row] += more
        self.state[:4, row] -= more
        self._set_gpus(row)
        self.changes.note(row)
        self.grown += bool((more < 0).any())

    def set_start_room(self, host_id: HostId, room: int) -> bool:
        """Say how many more starts a host is trusted with; return whether that is more than before."""
        row = self.rows[host_id]
        before = int(self.state[STARTS, row])
        if room != before:
            self.state[STARTS, row] = room
            self.changes.note(row)
        if room > before:
            self.grown += 1
        return room > before

    def note_lack(self, image: str, host_id: HostId) -> None:
        """Send nobody who asks for an image to a host that could not get it, while others could take them."""
        self.lacking.setdefault(image, set()).add(host_id)
        self.grown += 1  # where all lack it, all may be tried

    def end_lack(self, image: str, host_id: HostId) -> None:
        """Ask a host for an image again."""
        self.lacking[image].remove(host_id)
        if not self.lacking[image]:
            del self.lacking[image]
        self.grown += 1

    def drop_host(self, host_id: HostId) -> None:
        """Forget a host that nothing is claimed of."""
        row = self.rows[host_id]
        self.doubted.discard(host_id)
        for image in [image for image, hosts in self.lacking.items() if host_id in hosts]:
            self.end_lack(image, host_id)
        for kept in (self.ids, self.facts, self.gpu_places, self.gpu_held, self.gpu_free, self.away):
            del kept[row]
        self.state, self.capacity, self.reserved = (
            np.delete(amounts, row, axis=1) for amounts in (self.state, self.capacity, self.reserved)
        )
        self.kind_of, self.hopeful = np.delete(self.kind_of, row), np.delete(self.hopeful, row)
        self.has_mixed_gpus = np.delete(self.has_mixed_gpus, row)
        self.rows = {host_id: row for row, host_id in enumerate(self.ids)}
        self.changes.note_all(len(self.ids))
        self.grown += 1

    def claim(
        self, host_id: HostId, resources: Resources, gpus: Iterable[GpuClaim], environment: str, number: int = 1
    ) -> None:
        """Take amounts from a host, for so many units; *gpus* are those of all."""
        self._change(host_id, resources, gpus, environment, -number)

    def release(
        self, host_id: HostId, resources: Resources, gpus: Iterable[GpuClaim], environment: str, number: int = 1
    ) -> None:
        """Give amounts back to a host, of so many units."""
        self._change(host_id, resources, gpus, environment, number)
        self.grown += 1

    def _change(
        self, host_id: HostId, resources: Resources, gpus: Iterable[GpuClaim], environment: str, number: int
    ) -> None:
        row, state = self.rows[host_id], self.state
        state[CPU, row] += number * resources.cpu_millis  # one by one: an array of four costs more than these
        state[MEMORY, row] += number * resources.memory_mib
        if resources.disk_mib:
            state[DISK, row] += number * resources.disk_mib
        if resources.gpu_millis:
            state[GPU, row] += number * resources.gpu_millis
            self._change_gpus(row, gpus, 1 if number > 0 else -1)
        self.environment_cpu[environment] = self.environment_cpu.get(environment, 0) - number * resources.cpu_millis
        self.changes.note(row)

    def _change_gpus(self, row: int, gpus: Iterable[GpuClaim], sign: int) -> None:
        held, free = self.gpu_held[row], self.gpu_free[row]
        for gpu in gpus:
            held[gpu.uuid] = held.get(gpu.uuid, 0) - sign * gpu.millis
            if not held[gpu.uuid]:
                del held[gpu.uuid]
            if gpu.uuid in free:
                free[gpu.uuid] += sign * gpu.millis
        if self.reserved[GPU, row]:
            self._set_gpus(row)
            return
        self.state[WHOLE_GPUS : GPU_PART + 1, row] = gpu_levels(free)

    def members(self, environment: ComputeEnvironment, runtime: str, access: Access = NO_ACCESS) -> Mask:
        """Return which hosts belong to an environment and allow a runtime, empty for any, and the access."""
        return self.kinds.allowed(environment, runtime, access)[self.kind_of]

    def of_type(self, host_type: str) -> Mask:
        """Return which hosts are of a type."""
        kinds: Mask = np.array([kind.host_type == host_type for kind in self.kinds.facts()], dtype=np.bool_)
        return kinds[self.kind_of]

    def wanted_gpus(self, row: int, access: Access, free: Mapping[str, int]) -> Mapping[str, int]:
        """Return of what is left of a host's GPUs that of those which will do; of several kinds the least memory first."""
        placed = self.gpu_places[row]
        if not placed:
            return free
        return {gpu.uuid: free[gpu.uuid] for gpu, _ in placed if gpu.uuid in free and access.wants(gpu)}

    def allocated(self, host_id: HostId) -> Resources:
        """Return what attempts hold on a host."""
        row = self.rows[host_id]
        used = (self.capacity[:, row] - self.reserved[:, row] - self.free[:, row]).tolist()
        return Resources(**dict(zip(RESOURCE_KINDS, used, strict=True)))

    def sums(self, host_ids: Iterable[HostId]) -> tuple[Resources, Resources]:
        """Return what hosts have together, and what attempts hold of it."""
        rows = [self.rows[host_id] for host_id in host_ids]
        capacity = self.capacity[:, rows].sum(axis=1)
        used = capacity - self.reserved[:, rows].sum(axis=1) - self.free[:, rows].sum(axis=1)
        has, held = (Resources(**dict(zip(RESOURCE_KINDS, each.tolist(), strict=True))) for each in (capacity, used))
        return has, held

    def gpu_allocated(self, host_id: HostId) -> dict[str, int]:
        """Return the thousandths that attempts hold of each GPU of a host."""
        row = self.rows[host_id]
        return {uuid: self.gpu_held[row].get(uuid, 0) for uuid in self.gpu_free[row]}
