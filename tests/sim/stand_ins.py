"""
Stand-ins: what programs find in place of gRPC, clocks and disks while a world lives.

Their names are those by which the programs look for the real ones.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import grpc
import structlog

from batchyard.ids import JobId
from batchyard_agent import driver as agent_driver
from batchyard_controller import app, leadership
from batchyard_controller.core.model import children, chunks, units
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.reactor import progress
from batchyard_controller.core.reactor.hosts import BRAKE_HOLDS
from batchyard_controller.core.views import visits
from batchyard_controller.core.world import records
from batchyard_controller.store import archive as store_archive
from batchyard_controller.store import codec, etcd_janitor
from batchyard_controller.store import etcd as etcd_store
from batchyard_controller.store import lease as store_lease
from batchyard_controller.store.packing import pack
from batchyard_controller.store.protocol import Atom

from .calls import Channel, Server
from .lease import Keeper, Line
from .loop import _PROGRAM
from .network import Site
from .shelf import Worker
from .story import Traits

if TYPE_CHECKING:
    from .yard import Yard

POLL_S = 1.0
"""How often who waits for leadership asks: a third of all that goes on would be that question."""
IDLE_S = 5.0
"""How often an agent looks at what no timer of its own is set for; whatever becomes due wakes it in time."""
FOR_OPERATORS = (BRAKE_HOLDS, "store")
"""What controllers tell by an error of the log that is none of theirs."""


def _complain(yard: Yard) -> Any:
    def note(logger: Any, method: str, words: dict[str, Any]) -> Any:
        if words["event"] in FOR_OPERATORS:
            raise structlog.DropEvent
        yard.broken(f"{words.get('method', '')}", words.get("exc_info") or RuntimeError(str(words)))
        raise structlog.DropEvent

    return note


@contextlib.contextmanager
def in_place_of_the_real(yard: Yard, traits: Traits) -> Iterator[None]:
    """Let the programs find this world's network where they look for gRPC's, and their logs nobody."""

    def open_channel(address: str, *_: Any, **__: Any) -> Channel:
        program = _PROGRAM.get()
        assert program is not None
        site = yard.network._sites.get(id(program)) or Site(machine=program.name, program=program)
        return Channel(yard.network, site, address)

    def make_server(interceptors: Any, **_: Any) -> Server:
        return Server(interceptors, lambda error: yard.broken("a server", error))

    def read_clock() -> Instant:
        """Read those of the controller that asks."""
        program = _PROGRAM.get()
        return next(each.clock() for each in yard.controllers.values() if each is not None and each.program is program)

    def new_job_id() -> JobId:
        return yard.new_job_id()

    def read_time() -> float:
        return yard.loop.time()

    def cut(atoms: Sequence[Atom]) -> list[list[Atom]]:
        return [[atom] for atom in atoms] or [[]] if traits.is_narrow else pack(atoms)

    twins = (
        (grpc.aio, "insecure_channel", open_channel),
        (grpc.aio, "server", make_server),
        (agent_driver, "TICK_S", IDLE_S),
        (app, "clock", read_clock),
        (app, "new_job_id", new_job_id),
        (leadership.garbage, "look_at_all", lambda: None),
        (etcd_store, "_LEADER_POLL_S", POLL_S),
        (etcd_store, "LeaseKeeper", lambda *of_lease: Keeper(yard.network, *of_lease)),
        (etcd_store, "EtcdLine", Line),
        (etcd_store, "now", read_time),
        (etcd_store, "pack", cut),
        (etcd_janitor, "now", read_time),
        (etcd_janitor, "_read_quota", lambda *_: yard.etcd.space.quota_bytes),
        (store_archive, "ThreadPoolExecutor", lambda **_: Worker(yard.shelf)),
        (store_lease, "now", read_time),
        *((each, "CHUNK", traits.chunk) for each in (children, chunks, codec, progress, records, units, visits)),
    )
    former = [(owner, name, getattr(owner, name)) for owner, name, _ in twins]
    config = structlog.get_config()
    for owner, name, twin in twins:
        setattr(owner, name, twin)
    logs = structlog.make_filtering_bound_logger(40)
    structlog.configure(processors=[_complain(yard)], wrapper_class=logs, cache_logger_on_first_use=False)
    try:
        yield
    finally:
        for owner, name, real in former:
            setattr(owner, name, real)
        structlog.configure(**config)
