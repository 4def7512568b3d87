"""
The form of a quota share of a queue: a new one, or one that is there.

Pure. AWS has a member for all of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from batchyard.v1 import quota_share_pb2 as pb
from batchyard_gateway.batch import quota_shares
from batchyard_gateway.batch.names import SHARE, Names
from batchyard_gateway.services import Members

from .environment_form import TAGS
from .fields import Answers, Choice, Column, Field, Number, Rows
from .tables import Draft, Form, Section, fill, read

UNITS = ("VCPU", "MEMORY_MIB", "GPU")
STRATEGIES: Mapping[str, str] = {
    "RESERVE": "what is idle of its own stays so",
    "LEND": "others may use what is idle of its own",
    "LEND_AND_BORROW": "it may also use what is idle of others",
}
PRESETS: Mapping[str, str] = {"capacityLimits.capacityUnit": "VCPU"}
"""What stands in a form that nobody has filled in yet."""

_SHARING = "resourceSharingConfiguration"
_PREEMPTION = "preemptionConfiguration.inSharePreemption"
_NAME = Field(
    name="quotaShareName", label="Name", hint="1 to 128 letters, digits, - and _; jobs name it as their share.",
    is_required=True, called=("Quota share name", "Object already exists", "name"),
)  # fmt: skip


def share(host_types: Sequence[str] = (), *, is_new: bool = True) -> Form:
    """
    Return the form of a quota share.

    Args:
        host_types: Those that the yard has: of them jobs may be counted.
        is_new: It gets a name and tags.
    """
    head, tail = ((_NAME,), (TAGS,)) if is_new else ((), ())
    limits = Rows(
        name="capacityLimits", label="Its own capacity", called=("capacity_limits", "capacityUnit", "maxCapacity"),
        columns=(
            Column(name="capacityUnit", label="Unit", suggestions=(*UNITS, *host_types), is_always=True),
            Column(name="maxCapacity", label="How much", number=int),
        ),
        hint="1 to 5 units: VCPU, MEMORY_MIB, GPU, or a host type, of which jobs and children are counted. A unit that any "
        "share of the queue lists counts for all of them.",
    )  # fmt: skip
    strategy = Choice(
        name=f"{_SHARING}.strategy", label="Strategy", called=("sharing_strategy",),
        options=tuple((word, f"{word}: {text}") for word, text in STRATEGIES.items()),
    )  # fmt: skip
    borrow = Number(
        name=f"{_SHARING}.borrowLimit", label="Borrows at most, in per cent of its own", called=("borrow_limit",),
        hint="With LEND_AND_BORROW. Empty: as much as is idle.",
    )  # fmt: skip
    preemption = Choice(
        name=_PREEMPTION, label="Preemption inside the share", called=("in_share_preemption",),
        options=(("DISABLED", "No"), ("ENABLED", "Jobs of lower scheduling priority are stopped for its others")),
    )  # fmt: skip
    state = Choice(
        name="state", label="State", options=(("ENABLED", "ENABLED"), ("DISABLED", "DISABLED: takes no new jobs"))
    )
    return (Section(title="", fields=(*head, limits, strategy, borrow, preemption, state, *tail)),)


def share_draft(form: Form, answers: Answers, queue: str) -> Draft:
    """Return what a form of a share says: CreateQuotaShare's input."""
    draft = read(form, answers)
    sharing = {"strategy": "RESERVE", **draft.members.get(_SHARING, {})}
    preemption = draft.members.get("preemptionConfiguration", {"inSharePreemption": "DISABLED"})
    given = {"capacityLimits": [], **draft.members, _SHARING: sharing, "preemptionConfiguration": preemption}
    return Draft(members={"jobQueue": queue, **given}, faults=draft.faults)


def changes(said: Members, share: pb.QuotaShare, names: Names) -> Members:
    """Return UpdateQuotaShare's input for what the form says."""
    arn = names.arn(SHARE, f"{share.job_queue}/{share.name}")
    return {"quotaShareArn": arn, **{name: value for name, value in said.items() if name != "jobQueue"}}


def filled(share: pb.QuotaShare, form: Form, names: Names) -> dict[str, list[str]]:
    """Return the answers by which a form says a share that is there."""
    given = quota_shares.summary_of(share, names)
    sharing = given[_SHARING]
    if sharing.get("borrowLimit", -1) < 0:
        sharing.pop("borrowLimit", None)
    asked = ("capacityLimits", _SHARING, "preemptionConfiguration", "state")
    return fill(form, {name: given[name] for name in asked})
