"""
Feasibility: may this host ever run a job of this environment and runtime?

What a host is decides (purchase option, type, labels, runtimes); how full it is
does not. One predicate serves placement, explanations and listings.
"""

from __future__ import annotations

from .model import CapacityType, ComputeEnvironment, HostFacts

_PURCHASE_OPTION = {CapacityType.EC2: "on-demand", CapacityType.SPOT: "spot"}


def belongs(facts: HostFacts, environment: ComputeEnvironment) -> bool:
    """Say whether a host is one of an environment's."""
    wanted = environment.compute_resources
    return (
        facts.purchase_option == _PURCHASE_OPTION[wanted.type]
        and _type_matches(facts.host_type, wanted.instance_types)
        and set(wanted.labels) <= set(facts.labels)
    )


def _type_matches(host_type: str, wanted: tuple[str, ...]) -> bool:
    """A host type such as ``m5.large`` is named whole, or by its family ``m5``."""
    if not wanted or "optimal" in wanted:
        return True
    return host_type in wanted or host_type.partition(".")[0] in wanted
