"""
Scaling rules: may an environment name this provider, and be changed so while hosts are launched for it?

Laws as in `submissions`. Source: AWS Batch User Guide, "Updating compute environments".
"""

from __future__ import annotations

from batchyard.errors import Reason, Violation
from batchyard_controller.core.model.settings import AllocationStrategy, ComputeEnvironment, EnvironmentType
from batchyard_controller.core.scaling.outlook import standing
from batchyard_controller.core.world.world import World

from .checks import Violations, quote

_AT = "compute_resources"
_INFRASTRUCTURE = ("type", "allocation_strategy", "instance_types", "labels", "provider", "bid_percentage")
"""What hosts are like (AWS: an infrastructure update); the rest is how many there are (a scaling update)."""


def check_provider(world: World, environment: ComputeEnvironment) -> Violations:
    """Return what is wrong with the provider that an environment names, and with the types that it is to launch."""
    out: Violations = []
    resources = environment.compute_resources
    if not resources.provider:
        return out
    if environment.type is EnvironmentType.UNMANAGED:
        text = "an UNMANAGED compute environment has no provider"
        out.append(Violation(f"{_AT}.provider", text, Reason.CONFLICT))
    catalogue = world.scaling.catalogues.get(resources.provider)
    if catalogue is None:
        known = ", ".join(sorted(world.scaling.catalogues))
        there = f"one of {known}" if known else "configured, and no other is"
        out.append(Violation(f"{_AT}.provider", f"{quote(resources.provider)} is not {there}", Reason.UNKNOWN_VALUE))
        return out
    families = {name.partition(".")[0] for name in catalogue.types} | set(catalogue.types) | {"optimal"}
    for i, name in enumerate(resources.instance_types):
        if name not in families:
            text = f"{quote(name)} is no type of provider {resources.provider}; there are {', '.join(catalogue.types)}"
            out.append(Violation(f"{_AT}.instance_types[{i}]", text, Reason.UNKNOWN_VALUE))
    return out


def check_scaling_change(world: World, found: ComputeEnvironment, changed: ComputeEnvironment) -> Violations:
    """Return what is wrong with a change of an environment that gets a provider, or has one."""
    out = check_provider(world, changed)
    before, after = found.compute_resources, changed.compute_resources
    if not before.provider:
        return out
    at = f"{_AT}.allocation_strategy"
    if before.allocation_strategy is AllocationStrategy.BEST_FIT:
        is_same = after.allocation_strategy is AllocationStrategy.BEST_FIT
        touched = [name for name in _INFRASTRUCTURE if getattr(before, name) != getattr(after, name)]
        if is_same and touched:
            text = f"an environment with BEST_FIT cannot change its {', '.join(touched)}; change the strategy with it"
            out.append(Violation(at, text, Reason.CONFLICT))
    elif after.allocation_strategy is AllocationStrategy.BEST_FIT:
        text = "no environment can be changed to BEST_FIT; create another"
        out.append(Violation(at, text, Reason.CONFLICT))
    there = standing(found, world.launches.values(), world.scaling).desired_vcpus(found)
    if after.desired_vcpus and after.desired_vcpus < there:
        text = f"{after.desired_vcpus} is less than the {there} now; idle hosts are stopped by themselves"
        out.append(Violation(f"{_AT}.desired_vcpus", text, Reason.OUT_OF_RANGE))
    return out
