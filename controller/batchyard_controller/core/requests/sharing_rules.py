"""Sharing rules: what a scheduling policy, or a need of consumable resources, may say by itself."""

from __future__ import annotations

import re
from itertools import pairwise

from batchyard.errors import Reason, Violation
from batchyard_controller.core import limits
from batchyard_controller.core.model.consumables import ConsumableResource, Quantities
from batchyard_controller.core.model.policies import FairsharePolicy, SchedulingPolicy, ShareWeight

from .checks import Violations, check_range, check_text, quote
from .names import check_annotations, check_name, check_tags

_SHARE = re.compile(r"[A-Za-z0-9]*\*?", re.ASCII)
_NAMED = re.compile(r"[A-Za-z0-9_-]*\*?", re.ASCII)


def check_share(out: Violations, field: str, value: str) -> None:
    """Check the identifier of a share, or the beginning of several (AWS: shareIdentifier)."""
    check_text(out, field, value, limits.SHARE_IDENTIFIER_LENGTH_MAX)
    if not _SHARE.fullmatch(value):
        text = f"{quote(value)} may hold only letters and digits, and a '*' at its end"
        out.append(Violation(field, text, Reason.BAD_CHARACTERS))


def check_named_share(out: Violations, field: str, value: str) -> None:
    """Check what a job names: the identifier of a share, or the name of a quota share."""
    check_text(out, field, value, limits.SHARE_IDENTIFIER_LENGTH_MAX)
    if not _NAMED.fullmatch(value):
        text = f"{quote(value)} may hold only letters, digits, '-' and '_', and a '*' at its end"
        out.append(Violation(field, text, Reason.BAD_CHARACTERS))


def check_policy(policy: SchedulingPolicy) -> Violations:
    """Return everything that is wrong with a new scheduling policy by itself."""
    out: Violations = []
    check_name(out, "name", policy.name)
    check_fairshare(out, policy.fairshare)
    if policy.quota_share is not None and policy.fairshare != FairsharePolicy():
        text = "Only one of fairsharePolicy or quotaSharePolicy can be set."
        out.append(Violation("quota_share", text, Reason.CONFLICT))
    check_tags(out, policy.tags)
    check_annotations(out, policy.annotations)
    return out


def check_fairshare(out: Violations, fairshare: FairsharePolicy) -> None:
    """Check how shares take turns (AWS: FairsharePolicy, ShareAttributes)."""
    at = "fairshare.share_distribution"
    check_range(out, "fairshare.share_decay_s", fairshare.share_decay_s, 0, limits.SHARE_DECAY_S_MAX, "seconds")
    check_range(
        out, "fairshare.compute_reservation", fairshare.compute_reservation, 0, limits.COMPUTE_RESERVATION_MAX, "%"
    )
    weights = fairshare.share_distribution
    if len(weights) > limits.SHARE_WEIGHTS_MAX:
        text = f"{len(weights)} entries; at most {limits.SHARE_WEIGHTS_MAX} are allowed"
        out.append(Violation(at, text, Reason.TOO_MANY))
        return
    wrong: Violations = []
    for i, weight in enumerate(weights):
        _check_weight(wrong, f"{at}[{i}]", weight)
    out += wrong
    if wrong:
        return
    # Of those that begin alike neighbours do, so that neighbours alone need be compared.
    for one, other in pairwise(sorted(weights, key=lambda weight: weight.share_identifier.rstrip("*"))):
        if _overlap(one.share_identifier, other.share_identifier):
            text = f"{quote(one.share_identifier)} and {quote(other.share_identifier)} overlap"
            out.append(Violation(at, text, Reason.DUPLICATE))


def _check_weight(out: Violations, at: str, weight: ShareWeight) -> None:
    if not weight.share_identifier:
        out.append(Violation(f"{at}.share_identifier", "a share identifier is required", Reason.REQUIRED))
    check_share(out, f"{at}.share_identifier", weight.share_identifier)
    low, high = limits.WEIGHT_FACTOR_MIN, limits.WEIGHT_FACTOR_MAX
    check_range(out, f"{at}.weight_factor", weight.weight_factor, low, high)
    check_caps(out, f"{at}.", weight.max_running, weight.max_vcpus)


def _overlap(one: str, other: str) -> bool:
    """Say whether a share could be meant by both of two entries, of which the first does not begin with the second."""
    begins = other.rstrip("*").startswith(one.rstrip("*"))
    return one.rstrip("*") == other.rstrip("*") or (one.endswith("*") and begins)


def check_caps(out: Violations, at: str, max_running: int, max_vcpus: int) -> None:
    """Check what the jobs of a queue or share may hold together; 0 is no bound."""
    check_range(out, f"{at}max_running", max_running, 0, limits.INT32_MAX)
    check_range(out, f"{at}max_vcpus", max_vcpus, 0, limits.MAX_VCPUS_MAX)


def check_consumable(resource: ConsumableResource) -> Violations:
    """Return everything that is wrong with a new consumable resource by itself."""
    out: Violations = []
    check_name(out, "name", resource.name)
    check_range(out, "total", resource.total, 0, limits.CONSUMABLE_QUANTITY_MAX)
    check_tags(out, resource.tags)
    return out


def check_quantities(out: Violations, field: str, quantities: Quantities) -> None:
    """Check what a job asks of consumable resources (AWS: ConsumableResourceRequirement)."""
    if len(quantities) > limits.CONSUMABLES_PER_JOB_MAX:
        text = f"{len(quantities)} consumable resources; at most {limits.CONSUMABLES_PER_JOB_MAX} are allowed"
        out.append(Violation(field, text, Reason.TOO_MANY))
        return
    for name, quantity in quantities:
        check_name(out, f"{field}[{quote(name)}].key", name)
        check_range(out, f"{field}[{quote(name)}]", quantity, 1, limits.CONSUMABLE_QUANTITY_MAX)
