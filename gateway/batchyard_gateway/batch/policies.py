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
from .mapping import MAPPED, Nested, NestedList, Row, to_members, to_message
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
_TAGS = Row("tags", "tags", MAPPED, always=True)
_NAME = Row("name", "name", always=True)
_CREATED = (_NAME, _POLICY, _TAGS)

_NOT_OFFERED = {"quotaSharePolicy": "quota shares are not supported yet; give fairsharePolicy"}


def check(members: Members) -> None:
    """
    Check a new policy, or a change of one.

    Raises:
        ClientException: it breaks a rule of AWS's.
    """
    if rules.is_said(members.get("quotaSharePolicy")) and "fairsharePolicy" in members:
        raise ClientException("Only one of fairsharePolicy or quotaSharePolicy can be set.")
    rules.check_not_given(members, _NOT_OFFERED)
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
    return to_message(_CREATED, pb.CreateSchedulingPolicyRequest, members)


def change(members: Members, found: pb.SchedulingPolicy) -> pb.UpdateSchedulingPolicyRequest:
    """Return the contract's request for a change that was checked of a policy as it is."""
    request = to_message((_POLICY,), pb.UpdateSchedulingPolicyRequest, members)
    request.name = name_of(POLICY, members["arn"])
    former = {weight.share_identifier: weight for weight in found.fairshare.share_distribution}
    for weight in request.fairshare.share_distribution:
        if weight.share_identifier in former:
            weight.max_running = former[weight.share_identifier].max_running
            weight.max_vcpus = former[weight.share_identifier].max_vcpus
    return request


def members_of(policy: pb.SchedulingPolicy, names: Names) -> Members:
    """Return AWS's members of a policy."""
    return {"arn": names.arn(POLICY, policy.name), **to_members(_CREATED, policy)}
