"""
Queue fields: what a reader types about a job queue, and what is asked for then.

Pure: fields of a form to members of CreateJobQueue and UpdateJobQueue, and to what AWS's
operations lack. What is typed is shown again as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from batchyard.v1 import job_queue_pb2 as pb
from batchyard.wording import word, words
from batchyard_gateway.batch.queues import ENVIRONMENTS_MAX
from batchyard_gateway.services import Members

from .faults import Faults
from .queue_view import environments_of
from .values import Values, flag, whole

TIME_LIMITS = {
    "no_capacity": ("CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY", "no host has room"),
    "beyond_environments": (
        "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE",
        "it asks for more than its environments may hold",
    ),
    "beyond_hosts": ("MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT", "no host could ever hold it"),
    "no_host_selected": ("MISCONFIGURATION:EC2_INSTANCE_CONFIGURATION_UNSUPPORTED", "its environments select no host"),
}
"""Fields, AWS's reasons, and the same for a person."""

_TIME_S = (600, 86_400)
"""Bounds of ``maxTimeSeconds`` (AWS: JobStateTimeLimitAction)."""

STEPS = tuple(f"environment_{i}" for i in range(1, ENVIRONMENTS_MAX + 1))
DISPATCH_ORDERS = tuple(words(pb.DispatchOrder))
PREEMPTIONS = tuple(words(pb.Preemption))

FIELDS: Mapping[str, str] = {
    "name": "name",
    "jobQueueName": "name",
    "Job queue name": "name",
    "Object already exists": "name",
    "priority": "priority",
    "state": "state",
    "compute_environment_order": STEPS[0],
    "computeEnvironmentOrder": STEPS[0],
    "compute environment": STEPS[0],
    "compute environments": STEPS[0],
    "scheduling_policy": "policy",
    "scheduling policy": "policy",
    "max_running": "max_running",
    "max_vcpus": "max_vcpus",
    "max_overtake_s": "max_overtake_s",
    "dispatch_order": "dispatch_order",
    "preemption": "preemption",
    "job queue": "name",
}
"""Fields of the form by what refusals call them."""

NEW: Values = {
    "name": "", "priority": "1", "state": "ENABLED", "policy": "", "max_running": "", "max_vcpus": "",
    "dispatch_order": "DUE_TIME", "max_overtake_s": "", "preemption": "NEVER", "preemptible": "",
    **dict.fromkeys((*STEPS, *TIME_LIMITS), ""),
}  # fmt: skip
"""What stands in the form of a new queue."""


def called(values: Values) -> Mapping[str, str]:
    """Return the fields of a form by what refusals call them; that of a time limit is the first out of AWS's bounds."""
    typed = [name for name in TIME_LIMITS if values[name].strip()]
    wrong = [name for name in typed if not _TIME_S[0] <= whole(values, name, {}) <= _TIME_S[1]]
    field = next(iter([*wrong, *typed, *TIME_LIMITS]))
    return {**FIELDS, "job_state_time_limit_actions": field, "maxTimeSeconds": field}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """
    What a form asks for.

    Attributes:
        members: Of AWS's operation, but for the queue's name.
        native: What AWS has no members for, as the SDK's ``update_job_queue`` takes it.
        faults: What cannot be read.
    """

    members: Members
    native: Mapping[str, Any]
    faults: Faults = field(default_factory=dict)


def values_of(queue: pb.JobQueue) -> Values:
    """Return a queue as its form shows it."""
    limits = {action.reason: action.max_time_s for action in queue.job_state_time_limit_actions}
    order = environments_of(queue)
    return {
        **NEW,
        "name": queue.name,
        "priority": str(queue.priority),
        "state": "DISABLED" if queue.state == 2 else "ENABLED",
        "policy": queue.scheduling_policy,
        "max_running": str(queue.max_running or ""),
        "max_vcpus": str(queue.max_vcpus or ""),
        "dispatch_order": word(pb.DispatchOrder, queue.dispatch_order) or "DUE_TIME",
        "max_overtake_s": str(queue.max_overtake_s or ""),
        "preemption": word(pb.Preemption, queue.preemption) or "NEVER",
        "preemptible": "yes" if queue.preemptible else "",
        **dict(zip(STEPS, order, strict=False)),
        **{name: str(limits.get(reason, "")) for name, (reason, _) in TIME_LIMITS.items()},
    }


def asked(values: Values) -> Asked:
    """Return what a form asks for."""
    faults: Faults = {}
    order = [values[step] for step in STEPS if values[step]]
    limits = {reason: whole(values, name, faults) for name, (reason, _) in TIME_LIMITS.items() if values[name].strip()}
    members: Members = {
        "priority": whole(values, "priority", faults),
        "state": values["state"],
        "computeEnvironmentOrder": [
            {"order": i, "computeEnvironment": name} for i, name in enumerate(order, start=1)
        ],
        "jobStateTimeLimitActions": [
            {"reason": reason, "state": "RUNNABLE", "maxTimeSeconds": seconds, "action": "CANCEL"}
            for reason, seconds in limits.items()
        ],
    }  # fmt: skip
    if values["policy"]:
        members["schedulingPolicyArn"] = values["policy"]
    native = {
        **{name: whole(values, name, faults) for name in ("max_running", "max_vcpus", "max_overtake_s")},
        "dispatch_order": values["dispatch_order"],
        "preemption": values["preemption"],
        "preemptible": flag(values, "preemptible"),
    }
    return Asked(members=members, native=native, faults=faults)


def changed(native: Mapping[str, Any], queue: pb.JobQueue) -> dict[str, Any]:
    """Return what of the native part differs from a queue."""
    present = asked(values_of(queue)).native
    return {name: value for name, value in native.items() if value != present[name]}
