"""Fleet: free and total amounts of every host, one row a host; the whole of what placement reckons with."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from batchyard.ids import HostId
from batchyard.resources import GPU_WHOLE, RESOURCE_KINDS, Resources
from batchyard_controller.core.model.attempts import GpuClaim
from batchyard_controller.core.model.hosts import HostFacts
from batchyard_controller.core.model.settings import ComputeEnvironment

from .feasibility import NO_ACCESS, Access, allows, belongs
from .strategies import Amounts

Mask = npt.NDArray[np.bool_]

UNBOUNDED = 1 << 40
"""More starts than any host has room for."""
_MASKS_KEPT = 4096
"""Jobs may each ask for a path of their own."""
CPU, MEMORY, GPU, DISK = range(4)


def row_of(resources: Resources) -> Amounts:
    """Write amounts as a row of the fleet's arrays."""
    return np.array([getattr(resources, kind) for kind in RESOURCE_KINDS], dtype=np.int64)


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
        self.hopeful: Mask = np.zeros(0, dtype=np.bool_)
        """Who is usable, or will be after a short rest."""
        self.away: list[str] = []
        """Why a host gets no new work now; empty of those that are usable."""
        self.start_room: Amounts = np.zeros(0, dtype=np.int64)
        """How many more starts a host is trusted with now."""
        self.doubted: set[HostId] = set()
        """Hosts on which starts failed of late, and none has succeeded since."""
        self.lacking: dict[str, set[HostId]] = {}
        """Hosts that could not get an image lately, by image."""
        self.gpu_free: list[dict[str, int]] = []
        self.environment_cpu: dict[str, int] = {}
        """CPU thousandths in use, by compute environment."""
        self.grown = 0
        """Rises whenever something that did not fit might fit now."""
        self._members: dict[tuple[ComputeEnvironment, str, Access], Mask] = {}

    def set_host(self, host_id: HostId, facts: HostFacts, *, away: str = "", rests: bool = False) -> None:
        """Add a host, or change what it is and why it gets no new work, if it gets none; one that *rests* will soon."""
        is_new = host_id not in self.rows
        row = self.rows.setdefault(host_id, len(self.ids))
        if is_new:
            self.ids.append(host_id)
            self.facts.append(facts)
            self.gpu_free.append({})
            self.free = np.vstack([self.free, np.zeros((1, 4), dtype=np.int64)])
            self.capacity = np.vstack([self.capacity, np.zeros((1, 4), dtype=np.int64)])
            self.usable = np.append(self.usable, False)  # numpy takes it so
            self.hopeful = np.append(self.hopeful, False)
            self.away.append("")
            self.start_room = np.append(self.start_room, UNBOUNDED)
        fit_gpus = [gpu.uuid for gpu in facts.gpus if not gpu.fault]
        capacity = row_of(facts.capacity)
        capacity[GPU] = len(fit_gpus) * GPU_WHOLE
        used = {u: GPU_WHOLE - free for u, free in self.gpu_free[row].items()}
        self.free[row] += capacity - self.capacity[row]
        self.capacity[row] = capacity
        self.gpu_free[row] = {uuid: GPU_WHOLE - used.get(uuid, 0) for uuid in fit_gpus}
        self.usable[row] = not away
        self.hopeful[row] = rests or not away
        self.away[row] = away
        if is_new or self.facts[row] != facts:
            self.facts[row] = facts
            self._members.clear()
        self.grown += 1

    def set_start_room(self, host_id: HostId, room: int) -> bool:
        """Say how many more starts a host is trusted with; return whether that is more than before."""
        row = self.rows[host_id]
        before, self.start_room[row] = int(self.start_room[row]), room
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
        for kept in (self.ids, self.facts, self.gpu_free, self.away):
            del kept[row]
        self.free, self.capacity = (np.delete(amounts, row, axis=0) for amounts in (self.free, self.capacity))
        self.usable, self.hopeful = np.delete(self.usable, row), np.delete(self.hopeful, row)
        self.start_room = np.delete(self.start_room, row)
        self.rows = {host_id: row for row, host_id in enumerate(self.ids)}
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
        self.free[row] += sign * row_of(resources)
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
