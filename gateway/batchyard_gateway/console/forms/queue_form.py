"""
The form of a job queue: a new one, or one that is there.

Pure. Caps, order, preemption, security and fences, which AWS has no members for, are in the
contract's one request with all the rest, see `amend`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from batchyard import wording
from batchyard.v1 import job_queue_pb2 as pb
from batchyard.v1 import security_pb2
from batchyard_gateway.batch import members, queues
from batchyard_gateway.services import Members

from .environment_form import STATE, TAGS
from .fields import Answers, Choice, Column, Field, Flag, Number, Rows
from .tables import NATIVE, Draft, Form, Section, fill, read

ORDER = "computeEnvironmentOrder"
LIMITS = "jobStateTimeLimitActions"
POLICY = "schedulingPolicyArn"

TIME_LIMITS: Mapping[str, str] = {
    "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY": "no host has room",
    "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE": "it asks for more than its environments may hold",
    "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT": "no host could ever hold it",
    "MISCONFIGURATION:EC2_INSTANCE_CONFIGURATION_UNSUPPORTED": "its environments select no host",
}
"""AWS's reasons, and the same for a person."""

_ENUMS = {
    "dispatch_order": pb.DispatchOrder, "preemption": pb.Preemption, "security_level": security_pb2.SecurityLevel
}  # fmt: skip
_NUMBERS = ("max_running", "max_vcpus", "max_overtake_s", "fence_s")

PRESETS: Mapping[str, str] = {"jobQueueName": "first-queue", "priority": "1"}
"""What stands in a form that nobody has filled in yet."""

NAME = Field(
    name="jobQueueName", label="Name", hint="1 to 128 letters, digits, - and _.", is_required=True,
    called=("Job queue name", "Object already exists", "name", "job queue"),
)  # fmt: skip
PRIORITY = Number(
    name="priority", label="Priority", hint="0 to 100; higher is served first.", is_required=True, least=0, most=100
)
_ANY_PRIORITY = replace(PRIORITY, hint="Higher is served first.", least=None, most=None)
"""Of a queue that is there: what made it may have said any number, as AWS takes them."""


def queue(
    environments: Sequence[str], policies: Sequence[tuple[str, str]] = (), *, is_first_given: bool = False,
    is_new: bool = True,
) -> Form:  # fmt: skip
    """
    Return the form of a job queue.

    Args:
        environments: Names of those that may serve it.
        policies: Names of scheduling policies, and what is shown for them; an empty name for none. Without any,
            nothing is asked.
        is_first_given: Its first environment is known already.
        is_new: It gets a name and tags.
    """
    head, tail = ((NAME,), (TAGS,)) if is_new else ((), ())
    policy = Choice(
        name=POLICY, label="Scheduling policy", options=tuple(policies), called=("scheduling_policy", "scheduling policy"),
        hint="How its shares take turns, or what each has of its own. A queue that is made without one never gets one; "
        "one that has one gets another of its kind at most.",
    )  # fmt: skip
    priority = PRIORITY if is_new else _ANY_PRIORITY
    asked = (*head, priority, _order(environments, is_first_given), *((policy,) if policies else ()), STATE, *tail)
    return (
        Section(title="Queue", fields=asked),
        Section(title="Time limits", fields=(_limits(),), is_fold=True),
        Section(title="Caps, order, preemption, security, fence", fields=_native(), is_fold=True, hint="Not of AWS."),
    )


def _order(environments: Sequence[str], is_first_given: bool) -> Field:
    options = (("", "None"), *((name, name) for name in environments))
    most = f"{queues.ENVIRONMENTS_MAX} environments at most."
    return Rows(
        name=ORDER, label="Further environments" if is_first_given else "Compute environments",
        columns=(Column(name="computeEnvironment", label="Then" if is_first_given else "Environment", options=options),),
        hint=f"Where jobs go when the first has no room; {most}" if is_first_given else f"In the order in which they are tried; {most}",
        called=("compute environment", "compute environments", "compute_environments", "compute_environment_order"),
    )  # fmt: skip


def _limits() -> Field:
    known = "; ".join(f"{reason}: {text}" for reason, text in TIME_LIMITS.items())
    columns = (
        Column(name="reason", label="Reason", suggestions=tuple(TIME_LIMITS)),
        Column(name="maxTimeSeconds", label="Seconds", number=int),
    )
    return Rows(
        name=LIMITS, label="Time limits", columns=columns, same=(("state", "RUNNABLE"), ("action", "CANCEL")),
        hint=f"A first in line that waits for longer, for such a reason, is cancelled: after 600 to 86400 seconds. {known}.",
        called=("maxTimeSeconds", "job_state_time_limit_actions"),
    )  # fmt: skip


def _native() -> tuple[Field, ...]:
    orders = {"DUE_TIME": "short ones are due sooner", "SUBMISSION_TIME": "as submitted",
              "STRICT": "as submitted, and nobody passes the first, as AWS does it"}  # fmt: skip
    levels = {"PRIVILEGED": "what a host's operator allows, as AWS does it",
              "BASELINE": "nothing privileged, no devices, a network apart from hosts and other queues",
              "RESTRICTED": "beyond that never root, and no capabilities"}  # fmt: skip
    whom = {"NEVER": "nobody", "LOWER_PRIORITY": "jobs of preemptible queues of lower priority"}
    return (
        Number(
            name=f"{NATIVE}.max_running", label="Jobs and children that run at once",
            hint="At most. Empty: no bound. What runs already goes on.",
        ),
        Number(name=f"{NATIVE}.max_vcpus", label="vCPUs that they have at once", hint="At most. Empty: no bound."),
        Choice(
            name=f"{NATIVE}.dispatch_order", label="Order of equals",
            options=tuple((word, f"{word}: {text}") for word, text in orders.items()),
        ),
        Number(
            name=f"{NATIVE}.max_overtake_s", label="Nobody submitted so many seconds later goes first",
            hint="Empty: five times a job's timeout, or seven days.",
        ),
        Choice(
            name=f"{NATIVE}.preemption", label="Whom it has stopped when a job lacks room",
            options=tuple((word, f"{word}: {text}") for word, text in whom.items()),
        ),
        Flag(
            name=f"{NATIVE}.preemptible", label="Its jobs may be stopped so",
            options=(("no", "No"), ("yes", "Yes: they run again")),
        ),
        Choice(
            name=f"{NATIVE}.security_level", label="What its jobs are kept to on their hosts",
            options=tuple((word, f"{word}: {text}") for word, text in levels.items()),
            hint="Pods are kept to what their namespace says.",
        ),
        Number(
            name=f"{NATIVE}.fence_s", label="Seconds without its host after which an attempt is tried elsewhere",
            hint="30 to 86400. -1: never. Empty: as the controller says.", least=-1,
        ),
    )  # fmt: skip


# To the operation ------------------------------------------------------------------


def queue_draft(form: Form, answers: Answers, environment: str = "") -> Draft:
    """Return what a form of a queue says, whose first environment may be given: CreateJobQueue's input."""
    draft = read(form, answers)
    asked = [row["computeEnvironment"] for row in draft.members.get(ORDER, ())]
    names = [environment, *(name for name in asked if name != environment)] if environment else asked
    order = [{"order": i, "computeEnvironment": name} for i, name in enumerate(names, 1)]
    return Draft(members={**draft.members, ORDER: order}, faults=draft.faults)


def check_queue(given: Members) -> None:
    """
    Check a queue by AWS's own rules.

    Raises:
        ApiError: it breaks one.
    """
    queues.check_new(members.CREATE_JOB_QUEUE.check(given, ""))


def amend(given: Members) -> Callable[[Any], None]:
    """Return what adds to the contract's request what AWS has no members for; what is not said is as if it were new."""
    native: Members = given.get(NATIVE, {})

    def add(request: pb.CreateJobQueueRequest | pb.UpdateJobQueueRequest) -> None:
        for name in _NUMBERS:
            setattr(request, name, native.get(name, 0))
        for name, enum in _ENUMS.items():
            setattr(request, name, wording.number(enum, name, native[name]) if name in native else 0)
        request.preemptible = native.get("preemptible", False)

    return add


# From a queue, and back ------------------------------------------------------------


def filled(queue: pb.JobQueue, form: Form) -> dict[str, list[str]]:
    """Return the answers by which a form says a queue that is there."""
    steps = sorted(queue.compute_environment_order, key=lambda step: step.order)
    native: Members = {name: getattr(queue, name) for name in _NUMBERS if getattr(queue, name)}
    words = {name: wording.word(enum, getattr(queue, name)) for name, enum in _ENUMS.items()}
    native |= {name: word for name, word in words.items() if word}
    given: Members = {
        "priority": queue.priority,
        "state": "DISABLED" if queue.state == 2 else "ENABLED",
        ORDER: [{"computeEnvironment": step.compute_environment} for step in steps],
        NATIVE: {**native, "preemptible": queue.preemptible},
    }
    given |= {POLICY: queue.scheduling_policy} if queue.scheduling_policy else {}
    if queue.job_state_time_limit_actions:
        given[LIMITS] = [
            {"reason": each.reason, "maxTimeSeconds": each.max_time_s, "state": each.state, "action": each.action}
            for each in queue.job_state_time_limit_actions
        ]
    return fill(form, given)


def changes(said: Members, name: str) -> Members:
    """Return UpdateJobQueue's input for what the form of a queue says: all of it, no time limits too."""
    return {"jobQueue": name, LIMITS: [], **said}
