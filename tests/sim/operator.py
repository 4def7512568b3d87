"""
The operator: sees to hosts that are gone for good, once nothing fails any more, as docs/operations.md says.

He knows with his own eyes which machines lost their identity, and that nothing of it runs there any
more. Some let go of the brake and wait for fences; all remove by force what then still holds anything up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from grpc.aio import AioRpcError

from batchyard.errors import BatchyardError
from batchyard.rpc_errors import error_from_rpc
from batchyard.v1 import (
    compute_environment_pb2,
    compute_environment_pb2_grpc,
    host_pb2,
    host_pb2_grpc,
    job_queue_pb2,
    job_queue_pb2_grpc,
    quota_share_pb2,
    quota_share_pb2_grpc,
)

from .calls import Channel
from .loop import Program
from .story import QUOTA

if TYPE_CHECKING:
    from .machine import Machine
    from .yard import Yard

TIMEOUT_S = 5.0
LOOK_S = 5.0
PATIENCE_S = (0.0, 200.0)
"""How long they wait for fences: not at all, or for longer than any of a number of seconds."""


def _lender(vcpus: int) -> Any:
    limit = quota_share_pb2.CapacityLimit(capacity_unit="VCPU", max_capacity=vcpus)
    return quota_share_pb2.UpdateQuotaShareRequest(job_queue=QUOTA, name="lender", capacity_limits=[limit])


_ON, _OFF = compute_environment_pb2.RESOURCE_STATE_ENABLED, compute_environment_pb2.RESOURCE_STATE_DISABLED
_queue = partial(job_queue_pb2.UpdateJobQueueRequest, name="low")
_environment = partial(compute_environment_pb2.UpdateComputeEnvironmentRequest, name="ce")
CHANGES: dict[str, tuple[str, Any, Any]] = {
    "queue-off": ("UpdateJobQueue", _queue(state=_OFF), _queue(state=_ON)),
    "served-first": ("UpdateJobQueue", _queue(priority=9), _queue(priority=1)),
    "environment-off": ("UpdateComputeEnvironment", _environment(state=_OFF), _environment(state=_ON)),
    "lends-less": ("UpdateQuotaShare", _lender(1), _lender(3)),
}
"""What is asked so that something is otherwise, and so that it is as before."""


class _Stub(
    host_pb2_grpc.HostServiceStub,
    job_queue_pb2_grpc.JobQueueServiceStub,
    compute_environment_pb2_grpc.ComputeEnvironmentServiceStub,
    quota_share_pb2_grpc.QuotaShareServiceStub,
):
    """All that he asks of one controller."""

    def __init__(self, channel: Channel) -> None:
        for each in type(self).__bases__:
            each.__init__(self, channel)


class Operator:
    """Of one world."""

    def __init__(self, yard: Yard, program: Program, channels: dict[str, Channel]) -> None:
        self.program = program
        self.removed: set[str] = set()
        """Hosts that he said are gone, at first."""
        self.released_at = -1.0
        """When he let go of the brake."""
        self.closed: set[str] = set()
        """Hosts that are to get no work, as he has been told that they are marked so."""
        self.changed: dict[str, float] = {}
        """Since when changes are known to hold; they do until he takes them back."""
        self._marks: set[str] = set()
        self._changes: set[str] = set()
        self._ever_changed: set[str] = set()
        self._yard = yard
        self._patience_s = Random(f"operator {yard.dice.random()}").choice(PATIENCE_S)
        self._stubs = [_Stub(channel) for channel in channels.values()]

    async def see_to_hosts(self) -> None:
        """Look now and then who is gone, for ever."""
        began_at = self._yard.loop.time()
        while True:
            await asyncio.sleep(LOOK_S)
            machines = (*self._yard.machines.values(), *self._yard.cloud.lost)
            gone = [each for machine in machines for each in self._gone(machine)]
            if not gone:
                continue
            if self._yard.loop.time() - began_at < self._patience_s:
                await self._release()
                continue
            for host_id in gone:
                await self._remove(host_id)

    def _gone(self, machine: Machine) -> list[str]:
        """
        Return which hosts a machine was that are not to come back, and of which nothing runs.

        Its own, if it is sent away as another's: that one was a twin, which is off by now.
        """
        keeps = {running.host_id for running in machine.running.values() if running.ended is None}
        own = [machine.disk.meta.host_id] if machine.is_refused else []
        return [each for each in (*machine.former_ids, *own) if each not in keeps]

    def mark(self, who: str, how: str, span: float) -> None:
        """Have a host cordoned, drained or taken away, and take that back after a while."""
        machine = self._yard.machines[who]
        host_id = machine.disk.meta.host_id
        if host_id not in self._marks:
            self._marks.add(host_id)
            self.program.start(self._mark(machine, host_id, how, span))

    async def _mark(self, machine: Machine, host_id: str, how: str, span: float) -> None:
        def is_it() -> bool:
            return machine.disk.meta.host_id == host_id

        make: Any = {
            "cordon": host_pb2.CordonHostRequest,
            "drain": host_pb2.DrainHostRequest,
            "reclaim": host_pb2.ReclaimHostRequest,
        }
        is_done = await self._insist(f"{how.title()}Host", make[how](host=host_id), is_it)
        if is_done and how != "reclaim":  # that one is over when it boots again
            self.closed.add(host_id)
        await asyncio.sleep(span)
        self.closed.discard(host_id)
        undo = "reclaim" if how == "reclaim" else "cordon"
        await self._insist(f"{undo.title()}Host", make[undo](host=host_id, undo=True), is_it)
        self._marks.discard(host_id)

    def change(self, what: str, span: float) -> None:
        """Change a setting, and change it back after a while."""
        if what not in self._changes:
            self._changes.add(what)
            self._ever_changed.add(what)
            self.program.start(self._change(what, span))

    async def _change(self, what: str, span: float) -> None:
        how, there, _ = CHANGES[what]
        await self._insist(how, there)
        self.changed[what] = self._yard.loop.time()
        await asyncio.sleep(span)
        self.changed.pop(what, None)
        await self._change_back(what)

    async def _change_back(self, what: str) -> None:
        how, _, back = CHANGES[what]
        await self._insist(how, back)
        self._changes.discard(what)

    def set_right(self) -> None:
        """Have settings as they were before all changes: a backup that is put back may know them in between, or not at all."""
        self.changed.clear()
        for what in sorted(self._ever_changed - self._changes):
            self._changes.add(what)
            self.program.start(self._change_back(what))

    async def _insist(self, how: str, request: Any, is_wanted: Callable[[], bool] = lambda: True) -> bool:
        """Ask until it is done, or is wanted no longer, and say whether it is."""
        while is_wanted():
            if await self._ask(how, request) is not None:
                return True
            await asyncio.sleep(LOOK_S)
        return False

    async def _release(self) -> None:
        summary = await self._ask("SummarizeHosts", host_pb2.SummarizeHostsRequest())
        if summary is not None and summary.HasField("brake"):
            # It counts from when it was asked for: of what is unsaid it may have come to pass.
            self.released_at = self._yard.loop.time()
            self._yard.witness.told("operator", "lets go of the brake")
            await self._ask("ReleaseBrake", host_pb2.ReleaseBrakeRequest())

    async def _remove(self, host_id: str) -> None:
        listed = await self._ask("ListHosts", host_pb2.ListHostsRequest())
        if listed is not None and any(host.id == host_id for host in listed.hosts):
            self.removed.add(host_id)
            self._yard.witness.told("operator", f"removes host {host_id}")
            await self._ask("RemoveHost", host_pb2.RemoveHostRequest(host=host_id, force=True))

    async def _ask(self, how: str, request: Any) -> Any | None:
        """Ask one controller after the other; None: none answers well, or of before a restore, and he will look again."""
        was_restored = self._yard.was_restored
        for stub in self._stubs:
            try:
                answer = await getattr(stub, how)(request, timeout=TIMEOUT_S)
            except AioRpcError as error:
                why: BatchyardError = error_from_rpc(error, "")
            else:
                return answer if self._yard.was_restored is was_restored else None
            self._yard.witness.told("operator", f"{how}: {why}")
        return None
