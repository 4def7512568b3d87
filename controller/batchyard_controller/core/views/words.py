"""
Words: what became of units and attempts, as AWS says it.

Texts are made here of facts and decide nothing. Those of attempts come from ``ends``,
since users' retry rules match them.

Source: AWS Batch, as seen by its users (reference: aws-batch, 2.2).
"""

from __future__ import annotations

from typing import Any, assert_never

from batchyard.ids import HostId
from batchyard.pods import pod_name
from batchyard.states import EndCause
from batchyard_controller.core.jobs import ends
from batchyard_controller.core.model.attempts import EndedAttempt, RetryDecision, Verdict
from batchyard_controller.core.model.dependencies import Dependency, DependencyType
from batchyard_controller.core.model.endings import Trigger
from batchyard_controller.core.model.hosts import HostRecord
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.placement.refusals import Block
from batchyard_controller.core.world.world import World

ENVIRONMENT_HEALTHY = "ComputeEnvironment Healthy"
QUEUE_HEALTHY = "JobQueue Healthy"
DEPENDENCY_FAILED = "Dependent Job failed"
CHILD_FAILED = "Array Child Job failed"
TOO_MANY_TAGS = "The job and its job definition have more than 50 tags in all, which cannot be propagated"

_BLOCKED = {
    Block.NO_CAPACITY: "Service cannot fulfill the capacity requested for instance type [{types}]",
    Block.BEYOND_ENVIRONMENTS: "CE(s) associated with the job queue cannot meet the CPU requirement of the job.",
    Block.BEYOND_HOSTS: "The job resource requirement (vCPU/memory/GPU) is higher than that can be met by the CE(s) "
    "attached to the job queue.",
    Block.NO_HOST_SELECTED: "Your compute environment associated with this job queue has an unsupported "
    "instance type configuration.",
    Block.ENVIRONMENTS_DISABLED: "CE(s) associated with the job queue are invalid.",
    Block.UNDETERMINED: "Batch job is blocked, root cause is undetermined.",
}
_TYPES_SHOWN = 10


def no_provider(name: str) -> str:
    """Return the status reason of an environment whose provider the controller does not know."""
    return f"provider {name} is not configured: hosts are neither launched nor stopped"


def blocked(block: Block, instance_types: tuple[str, ...] = ()) -> str:
    """Return the status reason of a job that blocks the head of its queue."""
    types = ", ".join(instance_types[:_TYPES_SHOWN]) or "optimal"
    return f"{block} - {_BLOCKED[block].format(types=types)}"


def ending_reason(unit: Unit) -> str:
    """Return the status reason of a unit, or an array's parent, that has come to its end; else nothing."""
    ending = unit.ending
    if ending is None:
        return ""
    match ending.trigger:
        case Trigger.SUCCEEDED | Trigger.FAILED:
            return attempt_reason(unit, unit.attempts[-1])
        case Trigger.CANCELLED | Trigger.TERMINATED | Trigger.NODES_ENDED:
            return ending.words
        case Trigger.TIME_LIMIT_PASSED:
            return f"Canceled by JobStateTimeLimit action due to reason: {ending.words}"
        case Trigger.DEPENDENCY_FAILED:
            return _dependency_reason(ending.waited_for)
        case Trigger.CHILDREN_ENDED:
            return CHILD_FAILED
        case Trigger.QUEUE_DELETED:
            return ends.QUEUE_DELETED
        case Trigger.SHARE_DELETED:
            return ends.SHARE_DELETED
        case Trigger.TOO_MANY_TAGS:
            return TOO_MANY_TAGS
        case _:
            return ""


def _dependency_reason(waited_for: Dependency | None) -> str:
    if waited_for is not None and waited_for.type is DependencyType.AFTER_FAILURE:
        return f"Dependent Job succeeded: {waited_for.job_id} was waited for to fail"
    return DEPENDENCY_FAILED


def attempt_reason(unit: Unit, ended: EndedAttempt) -> str:
    """Return the status reason of a try that is over: whoever asked to stop it has the word."""
    if ended.cause is EndCause.STOPPED and unit.terminate_reason:
        return unit.terminate_reason
    return ends.status_reason(ended)


def host_name(world: World, host_id: str) -> str:
    """Return what a host is called, or was; its id if not even that is known any more."""
    record = _record(world, host_id)
    return record.facts.name if record is not None else host_id


def host_address(world: World, unit: Unit, host_id: str) -> str:
    """Return where other hosts reach the host of a node; nothing of other units."""
    if unit.job.spec.nodes is None:
        return ""
    record = _record(world, host_id)
    return record.facts.address if record is not None else ""


def pod_of(world: World, unit: Unit, host_id: str) -> dict[str, Any]:
    """Return which pod an attempt of a unit is on a host, by the contract's fields; nothing on one that is no node of a cluster."""
    record = _record(world, host_id)
    node = record.facts.kubernetes if record is not None else None
    if node is None:
        return {}
    asked = unit.task.pod
    namespace = (asked.namespace if asked is not None else "") or node.namespace
    return {"pod_name": pod_name(unit.id), "pod_namespace": namespace, "cluster": node.cluster}


def _record(world: World, host_id: str) -> HostRecord | None:
    host = world.hosts.get(HostId(host_id))
    return host.record if host is not None else world.gone_hosts.get(HostId(host_id))


def verdict(said: Verdict | None) -> str:
    """Say what a retry strategy decided of a failed try; nothing where nobody asked."""
    if said is None:
        return ""
    match said.decision:
        case RetryDecision.RETRY if said.rule:
            return f"evaluateOnExit rule {said.rule} says RETRY"
        case RetryDecision.ELSEWHERE:
            return "another attempt is allowed and does not count: its host failed it"
        case RetryDecision.PREEMPTED:
            return "another attempt is allowed and does not count: it was preempted"
        case RetryDecision.RETRY:
            return "another attempt is allowed"
        case RetryDecision.RULE_EXIT:
            return f"evaluateOnExit rule {said.rule} says EXIT"
        case RetryDecision.EXHAUSTED:
            return "no attempt is left"
        case RetryDecision.NEVER:
            return "never retried: it was stopped, or timed out"
        case _:
            assert_never(said.decision)
