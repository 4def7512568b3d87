"""
Room: how many hosts could hold what a form asks for, now and when they are empty.

Pure, and a help for who fills in a form; who gets which host is the controller's to decide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from batchyard.runtimes import DOCKER
from batchyard.v1 import compute_environment_pb2 as environment_pb
from batchyard.v1 import host_pb2 as pb
from batchyard.v1.resources_pb2 import Resources

SPOT = "spot"
OTHERS_MAX = 10
"""Hosts that are named of those that an environment would not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """
    How many hosts.

    Attributes:
        hosts: That are READY.
        now: Of these, with room at this moment.
        empty: Of these, with room when nothing runs there.
    """

    hosts: int
    now: int
    empty: int


def together(asked: Iterable[Resources]) -> Resources:
    """Return what several ask for."""
    total = Resources()
    for each in asked:
        total.cpu_millis += each.cpu_millis
        total.memory_mib += each.memory_mib
        total.gpu_millis += each.gpu_millis
    return total


def room_for(hosts: Iterable[pb.Host], asked: Resources, *, runtime: str) -> Room:
    """
    Return how many hosts could hold a job.

    Args:
        hosts: All of the yard.
        asked: What it asks for; whole GPUs.
        runtime: What runs it.
    """
    ready = [host for host in hosts if host.state == pb.HOST_STATE_READY]
    able = [host for host in ready if runtime in host.facts.runtimes]
    empty = [host for host in able if _holds(host.facts.capacity, host.facts.gpus, asked)]
    now = [host for host in empty if _holds(_free(host), [g for g in host.facts.gpus if not g.allocated_millis], asked)]
    return Room(hosts=len(ready), now=len(now), empty=len(empty))


def _free(host: pb.Host) -> Resources:
    capacity, held, others = host.facts.capacity, host.allocated, host.usage.reserved
    return Resources(
        cpu_millis=capacity.cpu_millis - held.cpu_millis - others.cpu_millis,
        memory_mib=capacity.memory_mib - held.memory_mib - others.memory_mib,
    )


def _holds(free: Resources, gpus: Sequence[pb.Gpu], asked: Resources) -> bool:
    fit = [gpu for gpu in gpus if not gpu.fault]
    return (
        asked.cpu_millis <= free.cpu_millis
        and asked.memory_mib <= free.memory_mib
        and asked.gpu_millis <= 1000 * len(fit)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """
    Which hosts an environment would have.

    Attributes:
        hosts: How many there are.
        selected: How many of them it would have.
        vcpus: Of those.
        others: Names of the first others, each with the rule that excludes it, in a sentence.
        more: How many further ones there are.
    """

    hosts: int
    selected: int
    vcpus: float
    others: Sequence[tuple[str, str]]
    more: int


def selection(judged: Iterable[environment_pb.EnvironmentHost], hosts: Iterable[pb.Host]) -> Selection:
    """Return which hosts an environment would have, from what the controller says of each."""
    judged = list(judged)
    vcpus = {host.id: host.facts.capacity.cpu_millis / 1000 for host in hosts}
    mine = [each for each in judged if each.is_selected]
    others = [(each.host_name, each.reason) for each in judged if not each.is_selected]
    return Selection(
        hosts=len(judged),
        selected=len(mine),
        vcpus=sum(vcpus.get(each.host_id, 0) for each in mine),
        others=others[:OTHERS_MAX],
        more=max(len(others) - OTHERS_MAX, 0),
    )


def host_types(hosts: Iterable[pb.Host]) -> dict[str, int]:
    """Return how many hosts there are of each type."""
    return dict(Counter(host.facts.host_type for host in hosts if host.facts.host_type))


def spot_hosts(hosts: Iterable[pb.Host]) -> int:
    """Return how many hosts may be reclaimed."""
    return sum(host.facts.purchase_option == SPOT for host in hosts)


def runs_containers(hosts: Iterable[pb.Host]) -> bool:
    """Say whether a host runs containers."""
    return any(DOCKER in host.facts.runtimes for host in hosts)
