"""
Command lines that make what a form describes: of ``aws batch``, and of ``batchyard``.

Pure. What has no flag, as all that is only kept for AWS, is not in the line of batchyard.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from batchyard_gateway.batch import pods
from batchyard_gateway.batch.environments import PROVIDER_TAG
from batchyard_gateway.batch.names import share_of
from batchyard_gateway.console.visit import Command, aws, batchyard
from batchyard_gateway.services import Members

from . import definition_form, submission_form, tables

_ANY_HOST = ("optimal", "default_x86_64", "default_arm64")
_FLAGS = {"VCPU": "--vcpus", "MEMORY": "--memory", "GPU": "--gpus"}
_PATTERNS = {"onExitCode": "exit-code", "onReason": "reason", "onStatusReason": "status-reason"}


def lines(operation: str, given: Members) -> tuple[Command, ...]:
    """
    Return the lines for an operation.

    Args:
        operation: As ``SubmitJob``.
        given: Its input, and what only batchyard can say too.
    """
    name = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in operation).lstrip("-")
    own = batchyard(*_OWN[operation](given))
    if operation == "SubmitJob" and submission_form.is_native(given):
        return (own,)
    return (own, aws(name, "--cli-input-json", json.dumps(tables.without_native(given), ensure_ascii=False)))


def _environment(given: Members) -> list[str]:
    resources, native = given.get("computeResources", {}), given.get(tables.NATIVE, {})
    is_new = "computeEnvironment" not in given
    words = ["compute-environment", "create" if is_new else "update"]
    words.append(given.get("computeEnvironmentName", "") if is_new else given["computeEnvironment"])
    words += ["--type", "UNMANAGED"] if given.get("type") == "UNMANAGED" else []
    words += ["--capacity", "SPOT"] if "SPOT" in resources.get("type", "") else []
    words += _flag("--cluster", given.get("eksConfiguration", {}).get("eksClusterArn", "").rpartition("/")[2])
    words += _flag("--namespace", given.get("eksConfiguration", {}).get("kubernetesNamespace"))
    words += _flag("--strategy", resources.get("allocationStrategy"))
    words += _flag("--max-vcpus", 0 if "is_unbounded" in native else resources.get("maxvCpus"))
    words += _flag("--min-vcpus", resources.get("minvCpus") or None)
    words += _flag("--desired-vcpus", resources.get("desiredvCpus"))
    types = resources.get("instanceTypes", ())
    if not any(each in _ANY_HOST for each in types):
        words += _each("--instance-type", types)
    words += _pairs("--label", native.get("labels") or {})
    if provider := resources.get("tags", {}).get(PROVIDER_TAG):
        delay_s = native.get("scale_down_delay_s")
        words += ["--provider", provider, *_flag("--scale-down-delay", None if delay_s is None else f"{delay_s}s")]
        words += _flag("--bid-percentage", resources.get("bidPercentage"))
    words += _flag("--unmanaged-vcpus", given.get("unmanagedvCpus")) + _state(given)
    return words + _pairs("--tag", given.get("tags", {}))


def _state(given: Members) -> list[str]:
    return ["--state", "DISABLED"] if given.get("state") == "DISABLED" else []


def _queue(given: Members) -> list[str]:
    native = given.get(tables.NATIVE, {})
    words = [
        "queue",
        *(["update", given["jobQueue"]] if "jobQueue" in given else ["create", given.get("jobQueueName", "")]),
    ]
    words += [*_flag("--priority", given.get("priority")), *_state(given)]
    order = given.get("computeEnvironmentOrder", ())
    words += _each("--compute-environment", [each["computeEnvironment"] for each in order])
    words += _flag("--scheduling-policy", given.get("schedulingPolicyArn"))
    limits = given.get("jobStateTimeLimitActions", ())
    words += _each("--time-limit", [f"{each['reason']}={each['maxTimeSeconds']}s" for each in limits if len(each) == 4])
    for name in ("max_running", "max_vcpus", "dispatch_order", "preemption", "security_level"):
        words += _flag(f"--{name.replace('_', '-')}", native.get(name))
    words += _flag("--max-overtake", f"{native['max_overtake_s']}s" if "max_overtake_s" in native else None)
    words += _flag("--fence", _fence(native["fence_s"]) if "fence_s" in native else None)
    words += ["--preemptible"] if native.get("preemptible") else []
    return words + _pairs("--tag", given.get("tags", {}))


def _fence(seconds: int) -> str:
    return "never" if seconds < 0 else f"{seconds}s"


def _share(given: Members) -> list[str]:
    if arn := given.get("quotaShareArn"):
        words = ["quota-share", "update", *share_of(arn)]
    else:
        words = ["quota-share", "create", given.get("jobQueue", ""), given.get("quotaShareName", "")]
    limits = [each for each in given.get("capacityLimits", ()) if len(each) == 2]
    words += _each("--limit", [f"{each['capacityUnit']}={each['maxCapacity']}" for each in limits])
    sharing = given.get("resourceSharingConfiguration", {})
    words += [*_flag("--strategy", sharing.get("strategy")), *_flag("--borrow-limit", sharing.get("borrowLimit"))]
    is_preempting = given.get("preemptionConfiguration", {}).get("inSharePreemption") == "ENABLED"
    words += ["--in-share-preemption"] if is_preempting else []
    return words + _state(given) + _pairs("--tag", given.get("tags", {}))


def _definition(given: Members) -> list[str]:
    words = ["job-definition", "register", given.get("jobDefinitionName", "")]
    if pods.EKS in given:
        return _pod(words, given)
    container = given.get("containerProperties", {})
    words += [*_container(container), *_template(given)]
    words += _flag("--priority", given.get("schedulingPriority"))
    return _then(words, container.get("command", ()))


def _pod(words: list[str], given: Members) -> list[str]:
    """Say a pod of one container; more have no flags, and stand in the line of AWS."""
    pod = given[pods.EKS][pods.POD]
    container: Members = next(iter(pod.get(pods.CONTAINERS, ())), {})
    resources = container.get("resources", {})
    asked = {**resources.get("limits", {}), **resources.get("requests", {})}
    words += ["--pod", *_flag("--image", container.get("image"))]
    words += _flag("--vcpus", asked.get("cpu")) + _flag("--memory", asked.get("memory", "").removesuffix("i"))
    words += _flag("--gpus", asked.get("nvidia.com/gpu")) + _flag("--service-account", pod.get("serviceAccountName"))
    words += [f"--entrypoint={word}" for word in container.get("command", ())]
    words += _each("--env", [f"{each['name']}={each.get('value', '')}" for each in container.get("env", ())])
    words += [*_template(given), *_flag("--priority", given.get("schedulingPriority"))]
    return _then(words, container.get("args", ()))


def _submission(given: Members) -> list[str]:
    words = ["submit", *_flag("--queue", given.get("jobQueue")), *_flag("--name", given.get("jobName"))]
    words += _flag("--definition", given.get("jobDefinition"))
    words += _flag("--array", given.get("arrayProperties", {}).get("size"))
    words += _flag("--concurrency", given.get(submission_form.CONCURRENCY))
    words += _each("--depends-on", map(_dependency, given.get("dependsOn", ())))
    ran = given.get("containerProperties") or given.get("containerOverrides", {})
    words += [*_container(ran), *_template(given), *_flag("--share", given.get("shareIdentifier"))]
    words += _flag("--priority", given.get("schedulingPriorityOverride"))
    return _then(words, ran.get("command", ()))


def _dependency(given: Mapping[str, str]) -> str:
    return ",".join(text for text in (given.get("jobId"), given.get("type")) if text)


def _container(given: Members) -> list[str]:
    image = given.get("image")
    words = _flag("--image", image) if image != definition_form.PROCESS else []
    for each in given.get("resourceRequirements", ()):
        words += [_FLAGS[each["type"]], f"{each['value']}M" if each["type"] == "MEMORY" else each["value"]]
    words += _flag("--user", given.get("user"))
    words += _each(
        "--env", [f"{each['name']}={each.get('value', '')}" for each in given.get("environment", ()) if "name" in each]
    )
    return words + _each(
        "--secret", [f"{each.get('name')}={each.get('valueFrom')}" for each in given.get("secrets", ())]
    )


def _template(given: Members) -> list[str]:
    retry = given.get("retryStrategy", {})
    words = _flag("--attempts", retry.get("attempts"))
    words += _each("--on-exit", map(_exit_rule, retry.get("evaluateOnExit", ())))
    seconds = given.get("timeout", {}).get("attemptDurationSeconds")
    words += _flag("--timeout", f"{seconds}s" if seconds else None)
    return [*words, *_pairs("--param", given.get("parameters", {})), *_pairs("--tag", given.get("tags", {}))]


def _exit_rule(rule: Mapping[str, str]) -> str:
    patterns = [f"{word}={rule[name]}" for name, word in _PATTERNS.items() if name in rule]
    return f"{rule.get('action', '').upper()}:{','.join(patterns)}"


def _then(words: list[str], command: Sequence[str]) -> list[str]:
    return [*words, "--", *command] if command else words


def _flag(name: str, value: Any) -> list[str]:
    return [] if value is None or value == "" else [name, str(value)]


def _each(name: str, values: Iterable[str]) -> list[str]:
    return [word for value in values for word in (name, value)]


def _pairs(name: str, values: Mapping[str, str]) -> list[str]:
    return _each(name, [f"{key}={value}" for key, value in values.items()])


_OWN: Mapping[str, Callable[[Members], list[str]]] = {
    "CreateComputeEnvironment": _environment,
    "CreateJobQueue": _queue,
    "CreateQuotaShare": _share,
    "RegisterJobDefinition": _definition,
    "SubmitJob": _submission,
    "UpdateComputeEnvironment": _environment,
    "UpdateJobQueue": _queue,
    "UpdateQuotaShare": _share,
}
