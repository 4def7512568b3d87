"""
Orders: what a provider has to do now.

Read off what is stored, again and again, so that none is lost with a process: whoever
leads next gives them again, and providers do nothing twice for one launch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from batchyard.ids import HostId
from batchyard_controller.core.model.hosts import Host
from batchyard_controller.core.model.launches import Launch, LaunchState

from .memory import Memory


class Operation(StrEnum):
    """What a provider can be asked to do."""

    LAUNCH = "launch"
    STOP = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One thing to do."""

    operation: Operation
    launch: Launch


def is_used(host: Host, spared: Collection[HostId]) -> bool:
    """Say whether something runs on a host, or may, as those that are *spared* may run what is not known."""
    return bool(host.attempts) or host.record.id in spared


def orders(
    launches: Iterable[Launch], hosts: Mapping[HostId, Host], memory: Memory, spared: Collection[HostId]
) -> tuple[Order, ...]:
    """Return all that is to be done: launches that were asked for, and stops of hosts on which nothing runs or may."""
    found = []
    for launch in launches:
        if not launch.is_wanted:
            host = hosts.get(HostId(launch.host_id))
            watch = memory.watches.get(launch.id)
            is_due = watch is None or watch.stop_after_boot_ms <= memory.boot_ms
            if is_due and (host is None or not is_used(host, spared)):
                found.append(Order(operation=Operation.STOP, launch=launch))
        elif launch.state is LaunchState.ASKED:
            found.append(Order(operation=Operation.LAUNCH, launch=launch))
    return tuple(found)
