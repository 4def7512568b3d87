"""
The form of a scheduling policy, of either kind.

Pure. A policy is of weights (fair share) or of quota shares, for good. Caps of shares, which
AWS has no members for, stand in the rows of AWS's and are in the contract's one request with
all the rest, see `amend`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from batchyard.v1 import scheduling_policy_pb2 as pb
from batchyard_gateway.services import Members

from .environment_form import TAGS
from .fields import Choice, Column, Field, Number, Rows
from .tables import Form, Section, fill

FAIR, QUOTA = "fairsharePolicy", "quotaSharePolicy"

_SHARES = f"{FAIR}.shareDistribution"
_CAPS = ("max_running", "max_vcpus")

NAME = Field(
    name="name", label="Name", hint="1 to 128 letters, digits, - and _; it keeps its kind.", is_required=True,
    called=("Scheduling policy name", "Object already exists"),
)  # fmt: skip
KIND = Choice(
    name=f"{QUOTA}.idleResourceAssignmentStrategy", label="Kind", called=(QUOTA, "quota_share"),
    options=(("", "Fair share: shares take turns by weights"), ("FIFO", "Quota shares: each has capacity of its own")),
    hint="With quota shares nothing below is asked: each queue has shares of its own, which its page makes.",
)  # fmt: skip
WEIGHTS = (
    Number(
        name=f"{FAIR}.shareDecaySeconds", label="Share decay, in seconds", called=("fairshare.share_decay_s",),
        hint="Over how long what a share used counts, ever less: up to 604800. Empty: 600, AWS's least.",
    ),
    Number(
        name=f"{FAIR}.computeReservation", label="Compute reservation, in per cent", called=("fairshare.compute_reservation",),
        hint="0 to 99: kept free for shares that are not active, to the power of the number of those that are.",
    ),
    Rows(
        name=_SHARES, label="Shares", called=("fairshare.share_distribution", "weightFactor", "shareIdentifier"),
        columns=(
            Column(name="shareIdentifier", label="Identifier", is_always=True),
            Column(name="weightFactor", label="Weight", number=float),
            Column(name="max_running", label="Most that run", number=int),
            Column(name="max_vcpus", label="Most vCPUs", number=int),
        ),
        hint="The lower the weight, the more a share gets; shares that are not named have the weight 1. An identifier that "
        "ends in * means all that begin so. The two most are not of AWS.",
    ),
)  # fmt: skip


def policy(*, is_new: bool = True) -> Form:
    """Return the form of a new scheduling policy, or of one of weights that is there."""
    head, tail = ((NAME, KIND), (TAGS,)) if is_new else ((), ())
    return (Section(title="", fields=(*head, *WEIGHTS, *tail)),)


def changes(said: Members, arn: str) -> Members:
    """Return UpdateSchedulingPolicy's input: weights are replaced as a whole."""
    empty = {"shareDecaySeconds": 0, "computeReservation": 0, "shareDistribution": []}
    return {"arn": arn, FAIR: {**empty, **said.get(FAIR, {})}}


def amend(given: Members) -> Callable[[Any], None]:
    """Return what adds the caps of shares to the contract's request."""
    rows = given.get(FAIR, {}).get("shareDistribution", ())

    def add(request: pb.CreateSchedulingPolicyRequest | pb.UpdateSchedulingPolicyRequest) -> None:
        for weight, row in zip(request.fairshare.share_distribution, rows, strict=True):
            for name in _CAPS:
                setattr(weight, name, row.get(name, 0))

    return add


def filled(policy: pb.SchedulingPolicy, form: Form) -> dict[str, list[str]]:
    """Return the answers by which a form says a policy of weights that is there."""
    it = policy.fairshare
    given: Members = {"shareDecaySeconds": it.share_decay_s, "computeReservation": it.compute_reservation}
    given["shareDistribution"] = [_row(each) for each in it.share_distribution]
    return fill(form, {FAIR: {name: value for name, value in given.items() if value}})


def _row(weight: pb.ShareWeight) -> Members:
    row: Members = {"shareIdentifier": weight.share_identifier}
    row |= {"weightFactor": weight.weight_factor} if weight.HasField("weight_factor") else {}
    return row | {name: getattr(weight, name) for name in _CAPS if getattr(weight, name)}
