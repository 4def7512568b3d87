"""
Environment view: what pages show of compute environments.

Pure: environments of the contract in, records for a template out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from batchyard.v1 import compute_environment_pb2 as pb
from batchyard.v1 import host_pb2
from batchyard.wording import word
from batchyard_gateway.console.writing import amounts

NAMES_MAX = 100
"""Hosts that are named of those that one rule is for."""

SCALE_DOWN_DELAY_S = 300
"""What holds where an environment does not say it (the contract's default)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentRow:
    """
    One line of a list of environments.

    Attributes:
        kind: Who chooses hosts, and which by their purchase option.
        vcpus: What is held on its hosts, of what these have.
        most: Its bound.
        scaling: What its provider does; empty without one.
        failure: Why a host could not be launched last, and when that is tried again.
    """

    name: str
    path: str
    state: str
    status: str
    status_reason: str
    kind: str
    strategy: str
    hosts: int
    vcpus: str
    most: str
    scaling: str
    failure: str
    next_try_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A host of an environment; *away* is why it gets no new work now, empty if it does."""

    name: str
    path: str
    kind: str
    away: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruled:
    """
    Hosts that one rule leaves out.

    Attributes:
        rule: The field of the environment.
        reason: The same for a person, as of one host.
        hosts: At most 100 of them.
        count: All of them.
    """

    rule: str
    reason: str
    hosts: Sequence[Named]
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which hosts an environment selects (at most 100 are named), and which not, by rule."""

    selected: Sequence[Named]
    count: int
    left_out: Sequence[Ruled]


def row_of(environment: pb.ComputeEnvironment, hosts: Mapping[str, host_pb2.Host]) -> EnvironmentRow:
    """
    Return the line of an environment.

    Args:
        environment: As the controller tells it.
        hosts: All hosts, by id.
    """
    resources, scaling = environment.compute_resources, environment.scaling
    own = [hosts[host_id] for host_id in environment.host_ids if host_id in hosts]
    held, there = (sum(amounts_) for amounts_ in zip(*map(_cpus, own), strict=True)) if own else (0, 0)
    kind = word(pb.ComputeEnvironmentType, environment.type)
    capacity = word(pb.CapacityType, resources.type)
    return EnvironmentRow(
        name=environment.name,
        path=quote(environment.name, safe=""),
        state=word(pb.ResourceState, environment.state),
        status=word(pb.ResourceStatus, environment.status),
        status_reason=environment.status_reason,
        kind=f"{kind}, {_PURCHASES.get(capacity, capacity)}{_of_cluster(environment)}" if kind == "MANAGED" else kind,
        strategy=word(pb.AllocationStrategy, resources.allocation_strategy) or "-",
        hosts=len(environment.host_ids),
        vcpus=f"{amounts.millis(held)} of {amounts.millis(there)}",
        most=amounts.count(resources.max_vcpus) if resources.max_vcpus else "no bound",
        scaling=_scaling(scaling) if resources.provider else "",
        failure=scaling.last_failure,
        next_try_at_ms=scaling.next_try_at_ms if scaling.last_failure else 0,
    )


def _of_cluster(environment: pb.ComputeEnvironment) -> str:
    return f" of cluster {environment.kubernetes.name}" if environment.HasField("kubernetes") else ""


_PURCHASES = {"EC2": "on-demand hosts", "SPOT": "spot hosts"}


def _cpus(host: host_pb2.Host) -> tuple[int, int]:
    return host.allocated.cpu_millis, host.facts.capacity.cpu_millis


def _scaling(it: pb.ScalingStatus) -> str:
    running, launching = amounts.millis(it.running_cpu_millis), amounts.millis(it.launching_cpu_millis)
    return (
        f"{it.running_hosts} running ({running} vCPUs), {it.launching_hosts} launching ({launching} vCPUs), "
        f"{it.stopping_hosts} stopping"
    )


def facts_of(environment: pb.ComputeEnvironment) -> list[tuple[str, str]]:
    """Return what an environment is told, name by name."""
    it = environment.compute_resources
    if environment.type == pb.COMPUTE_ENVIRONMENT_TYPE_UNMANAGED:
        return [("vCPUs, for fair share", str(environment.unmanaged_vcpus)), ("Tags", _pairs(environment.tags))]
    cluster = environment.kubernetes
    facts = (
        [("Cluster", f"{cluster.name}, namespace {cluster.namespace}")] if environment.HasField("kubernetes") else []
    )
    facts += [
        ("Allocation strategy", word(pb.AllocationStrategy, it.allocation_strategy) or "none said"),
        ("Minimum vCPUs", amounts.count(it.min_vcpus)),
        ("Desired vCPUs", amounts.count(it.desired_vcpus)),
        ("Maximum vCPUs", amounts.count(it.max_vcpus) if it.max_vcpus else "no bound"),
        ("Instance types", ", ".join(it.instance_types) or "any"),
        ("Labels that a host must carry", _pairs(it.labels)),
        ("Provider", it.provider or "none: it selects hosts that are there"),
    ]
    if it.provider:
        delay_s = it.scale_down_delay_s if it.HasField("scale_down_delay_s") else SCALE_DOWN_DELAY_S
        facts.append(("Idle hosts are stopped after", f"{delay_s:,} s"))
        if it.type == pb.CAPACITY_TYPE_SPOT:
            facts.append(("Pays at most", f"{it.bid_percentage or 100} % of the on-demand price"))
    return [*facts, ("Tags", _pairs(environment.tags))]


def _pairs(map_: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(map_.items())) or "none"


def selection_of(judged: Iterable[pb.EnvironmentHost]) -> Selection:
    """Return which hosts an environment selects, and which not, those that one rule leaves out together."""
    selected: list[Named] = []
    count = 0
    groups: dict[tuple[str, str], tuple[list[Named], int]] = {}
    for each in judged:
        name = each.host_name
        path = quote(name, safe="") if name and "/" not in name else each.host_id
        named = Named(name=name, path=path, kind=each.host_type, away=each.away)
        if each.is_selected:
            count += 1
            if len(selected) < NAMES_MAX:
                selected.append(named)
            continue
        hosts, before = groups.get((each.rule, each.reason), ([], 0))
        groups[each.rule, each.reason] = ([*hosts, named] if before < NAMES_MAX else hosts, before + 1)
    left_out = [
        Ruled(rule=rule, reason=reason, hosts=hosts, count=number) for (rule, reason), (hosts, number) in groups.items()
    ]
    return Selection(selected=selected, count=count, left_out=left_out)
