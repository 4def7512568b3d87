"""
Policies: AWS's scheduling policies to the contract's and back.

Pure. Caps of shares are the native side's own: a change through AWS leaves those of
shares be that it names again.
"""

from __future__ import annotations

from batchyard.v1 import scheduling_policy_pb2 as pb
from batchyard_gateway.errors import ClientException
from batchyard_gateway.services import Members

from . import rules
from .mapping import MAPPED, Nested, NestedList, Row, Word, to_members, to_message
from .names import POLICY, Names, name_of

_SHARE = (
    Row("shareIdentifier", "share_identifier", always=True),
    Row("weightFactor", "weight_factor", always=True),
)
_FAIRSHARE = (
    Row("shareDecaySeconds", "share_decay_s", always=True),
    Row("computeReservation", "compute_reservation", always=True),
    Row("shareDistribution", "share_distribution", NestedList(_SHARE, pb.ShareWeight), always=True),
)
_POLICY = Row("fairsharePolicy", "fairshare", Nested(_FAIRSHARE, pb.FairsharePolicy), always=True)
_QUOTA = (Row("idleResourceAssignmentStrategy", "idle_resource_assignment", Word(pb.IdleAssignment), always=True),)
_QUOTA_POLICY = Row("quotaSharePolicy", "quota_share", Nested(_QUOTA, pb.QuotaSharePolicy))
_TAGS = Row("tags", "tags", MAPPED, always=True)
_NAME = Row("name", "name", always=True)
_CREATED = (_NAME, _POLICY, _TAGS)
_CREATED_WITH_QUOTA = (_NAME, _QUOTA_POLICY, _TAGS)


def check(members: Members) -> None:
    """
    Check a new policy, or a change of one.

    Raises:
        ClientException: it breaks a rule of AWS's.
    """
    if "quotaSharePolicy" in members and "fairsharePolicy" in members:
        raise ClientException("Only one of fairsharePolicy or quotaSharePolicy can be set.")
    if "name" in members:
        rules.check_name("Scheduling policy", members["name"])
    fairshare = members.get("fairsharePolicy", {})
    rules.check_between("shareDecaySeconds", fairshare.get("shareDecaySeconds"), 0, rules.SHARE_DECAY_S_MAX)
    rules.check_between("computeReservation", fairshare.get("computeReservation"), 0, rules.COMPUTE_RESERVATION_MAX)
    for share in fairshare.get("shareDistribution", ()):
        low, high = rules.WEIGHT_FACTOR_MIN, rules.WEIGHT_FACTOR_MAX
        rules.check_between("weightFactor", share.get("weightFactor"), low, high)


def creation(members: Members) -> pb.CreateSchedulingPolicyRequest:
    """Return the contract's request for a new policy that was checked."""
    rows = _CREATED_WITH_QUOTA if "quotaSharePolicy" in members else _CREATED
    return to_message(rows, pb.CreateSchedulingPolicyRequest, members)


def change(members: Members, found: pb.SchedulingPolicy) -> pb.UpdateSchedulingPolicyRequest:
    """Return the contract's request for a change that was checked of a policy as it is."""
    request = to_message((_POLICY, _QUOTA_POLICY), pb.UpdateSchedulingPolicyRequest, members)
    request.name = name_of(POLICY, members["arn"])
    former = {weight.share_identifier: weight for weight in found.fairshare.share_distribution}
    for weight in request.fairshare.share_distribution:
        if weight.share_identifier in former:
            weight.max_running = former[weight.share_identifier].max_running
            weight.max_vcpus = former[weight.share_identifier].max_vcpus
    return request


def members_of(policy: pb.SchedulingPolicy, names: Names) -> Members:
    """Return AWS's members of a policy."""
    rows = _CREATED_WITH_QUOTA if policy.HasField("quota_share") else _CREATED
    return {"arn": names.arn(POLICY, policy.name), **to_members(rows, policy)}
