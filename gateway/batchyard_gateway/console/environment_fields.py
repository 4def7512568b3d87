"""
Environment fields: what a reader types about a compute environment, and what is asked for then.

Pure: fields of a form to members of CreateComputeEnvironment and UpdateComputeEnvironment,
and to what AWS's operations lack: labels, and no bound of vCPUs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from batchyard.v1 import compute_environment_pb2 as pb
from batchyard.wording import word, words
from batchyard_gateway.batch.environments import PROVIDER_TAG
from batchyard_gateway.services import Members

from .faults import Faults
from .values import Values, whole

CAPACITIES = tuple(words(pb.CapacityType))
STRATEGIES = tuple(words(pb.AllocationStrategy))
INSTANCE_ROLE = "ecsInstanceRole"
"""AWS asks for one, a yard has no use for it."""

_AT = "compute_resources"
FIELDS: Mapping[str, str] = {
    "name": "name",
    "Compute environment name": "name",
    "Object already exists": "name",
    "computeEnvironmentName": "name",
    "type": "kind",
    f"{_AT}.type": "capacity",
    f"{_AT}.allocation_strategy": "strategy",
    "Allocation strategy": "strategy",
    "allocationStrategy": "strategy",
    f"{_AT}.min_vcpus": "min_vcpus",
    "minvCpus": "min_vcpus",
    f"{_AT}.desired_vcpus": "desired_vcpus",
    "desiredvCpus": "desired_vcpus",
    "scaling down": "desired_vcpus",
    f"{_AT}.max_vcpus": "max_vcpus",
    "maxvCpus": "max_vcpus",
    f"{_AT}.instance_types": "instance_types",
    f"{_AT}.labels": "labels",
    f"{_AT}.provider": "provider",
    f"{_AT}.bid_percentage": "bid_percentage",
    f"{_AT}.scale_down_delay_s": "delay_s",
    "unmanaged_vcpus": "unmanaged_vcpus",
    "compute environment": "name",
}
"""Fields of the form by what refusals call them."""

NEW: Values = {
    "name": "", "kind": "MANAGED", "state": "ENABLED", "capacity": "EC2", "strategy": "BEST_FIT_PROGRESSIVE",
    "min_vcpus": "0", "desired_vcpus": "", "max_vcpus": "256", "instance_types": "optimal", "labels": "",
    "provider": "", "bid_percentage": "", "delay_s": "", "unmanaged_vcpus": "",
}  # fmt: skip
"""What stands in the form of a new environment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """
    What a form asks for.

    Attributes:
        members: Of AWS's operation, but for the environment's name and its type.
        resources: The same and what AWS lacks, as the contract has it; None of an unmanaged one.
        is_native: AWS cannot say it: there is no bound of vCPUs.
        faults: What cannot be read.
    """

    members: Members
    resources: pb.ComputeResources | None
    is_native: bool
    faults: Faults = field(default_factory=dict)


def values_of(environment: pb.ComputeEnvironment) -> Values:
    """Return an environment as its form shows it."""
    it = environment.compute_resources
    return {
        "name": environment.name,
        "kind": word(pb.ComputeEnvironmentType, environment.type),
        "state": word(pb.ResourceState, environment.state),
        "capacity": word(pb.CapacityType, it.type) or "EC2",
        "strategy": word(pb.AllocationStrategy, it.allocation_strategy),
        "min_vcpus": str(it.min_vcpus),
        "desired_vcpus": str(it.desired_vcpus or ""),
        "max_vcpus": str(it.max_vcpus or ""),
        "instance_types": "\n".join(it.instance_types) or "optimal",
        "labels": "\n".join(f"{key}={value}" for key, value in sorted(it.labels.items())),
        "provider": it.provider,
        "bid_percentage": str(it.bid_percentage or ""),
        "delay_s": str(it.scale_down_delay_s) if it.HasField("scale_down_delay_s") else "",
        "unmanaged_vcpus": str(environment.unmanaged_vcpus or ""),
    }


def asked(values: Values) -> Asked:
    """Return what a form asks for."""
    faults: Faults = {}
    if values["kind"] == "UNMANAGED":
        vcpus = whole(values, "unmanaged_vcpus", faults)
        members: Members = {"state": values["state"], "unmanagedvCpus": vcpus}
        return Asked(members=members, resources=None, is_native=False, faults=faults)
    resources = _resources(values, faults)
    given: Members = {
        "type": values["capacity"],
        "minvCpus": resources.min_vcpus,
        "maxvCpus": resources.max_vcpus,
        "instanceTypes": list(resources.instance_types) or ["optimal"],
        "tags": {PROVIDER_TAG: resources.provider} if resources.provider else {},
    }
    if values["strategy"]:
        given["allocationStrategy"] = values["strategy"]
    if resources.desired_vcpus:
        given["desiredvCpus"] = resources.desired_vcpus
    if resources.bid_percentage:
        given["bidPercentage"] = resources.bid_percentage
    return Asked(
        members={"state": values["state"], "computeResources": given},
        resources=resources,
        is_native=not values["max_vcpus"].strip(),
        faults=faults,
    )


def _resources(values: Values, faults: Faults) -> pb.ComputeResources:
    types = [each for each in re.split(r"[\s,]+", values["instance_types"]) if each]
    resources = pb.ComputeResources(
        type=_number(pb.CapacityType, "capacity", values, faults),  # type: ignore[arg-type]  # one of its numbers
        allocation_strategy=_number(pb.AllocationStrategy, "strategy", values, faults),  # type: ignore[arg-type]
        instance_types=[] if "optimal" in types else types,
        labels=_labels(values["labels"], faults),
        provider=values["provider"].strip(),
    )
    for name in ("min_vcpus", "desired_vcpus", "max_vcpus", "bid_percentage"):
        setattr(resources, name, _bounded(values, name, faults))
    if values["delay_s"].strip():
        resources.scale_down_delay_s = _bounded(values, "delay_s", faults)
    return resources


def _bounded(values: Values, name: str, faults: Faults) -> int:
    """Return a number that the contract can hold; its own bounds are the controller's to check."""
    number = whole(values, name, faults)
    if not -(1 << 31) <= number < 1 << 31:
        faults[name] = f"{number} is beyond all bounds"
        return 0
    return number


def _number(enum: type, name: str, values: Values, faults: Faults) -> int:
    if values[name] and values[name] not in words(enum):
        faults[name] = f"{values[name][:50]!r} is not one of {', '.join(words(enum))}"
        return 0
    return next((value.number for value in enum.DESCRIPTOR.values if word(enum, value.number) == values[name]), 0)  # type: ignore[attr-defined]


def _labels(text: str, faults: Faults) -> dict[str, str]:
    labels = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        key, mark, value = line.partition("=")
        if not mark or not key:
            faults["labels"] = f"{line[:50]!r} is not name=value"
        labels[key] = value
    return labels


def merged(resources: pb.ComputeResources, present: pb.ComputeResources) -> pb.ComputeResources:
    """Return what an environment with a provider is told: what it desires is left to what waits, unless that was changed."""
    wanted = pb.ComputeResources()
    wanted.CopyFrom(resources)
    if wanted.desired_vcpus == present.desired_vcpus and wanted.provider:
        wanted.desired_vcpus = 0
    return wanted


def lacks(resources: pb.ComputeResources, told: pb.ComputeResources) -> bool:
    """Say whether AWS's operation left something of a form unsaid, as labels; what is desired follows what waits."""
    wanted, present = pb.ComputeResources(), pb.ComputeResources()
    wanted.CopyFrom(resources)
    present.CopyFrom(told)
    for each in (wanted, present):
        each.ClearField("desired_vcpus")
    return wanted != present
