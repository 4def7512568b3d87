"""Lines for a terminal: what they say is what the form says, and the programs take them."""

from __future__ import annotations

import json
import shlex
from typing import Any

import botocore.validate
import click
import pytest
from tests.gateway.endpoint import MODEL

from batchyard.cli.app import app
from batchyard_gateway.console.forms.command_lines import lines
from batchyard_gateway.console.visit import Command

from .test_forms import REGISTRATION

SUBMISSION: dict[str, Any] = {
    "jobName": "j", "jobQueue": "q", "jobDefinition": "d:1", "arrayProperties": {"size": 3},
    "dependsOn": [{"jobId": "a"}, {"jobId": "b", "type": "N_TO_N"}, {"type": "SEQUENTIAL"}],
    "tags": {"k": "it's"}, "shareIdentifier": "s", "schedulingPriorityOverride": 3,
    "retryStrategy": {"attempts": 2, "evaluateOnExit": [{"onReason": "x*", "onExitCode": "1", "action": "exit"}]},
    "timeout": {"attemptDurationSeconds": 90}, "parameters": {"p": "1"},
    "containerOverrides": {
        "command": ["sh", "-c", "a && b"], "environment": [{"name": "A", "value": "x y"}],
        "resourceRequirements": [{"type": "MEMORY", "value": "64"}, {"type": "GPU", "value": "1"}],
    },
}  # fmt: skip
NATIVE: dict[str, Any] = {
    "jobName": "j", "jobQueue": "q", "arrayProperties": {"size": 20_000}, "arrayConcurrency": 5,
    "dependsOn": [{"jobId": "a", "type": "AFTER_ANY"}],
    "containerProperties": {
        "image": "busybox", "command": ["echo", "--", "-x"], "user": "nobody",
        "secrets": [{"name": "S", "valueFrom": "secret"}],
        "resourceRequirements": [{"type": "VCPU", "value": "0.5"}],
    },
}  # fmt: skip
ENVIRONMENT: dict[str, Any] = {
    "computeEnvironmentName": "ce", "type": "MANAGED", "tags": {"a": "b"},
    "computeResources": {
        "type": "SPOT", "allocationStrategy": "SPOT_CAPACITY_OPTIMIZED", "minvCpus": 0, "maxvCpus": 8,
        "instanceTypes": ["m5", "c5"], "instanceRole": "r", "subnets": [], "securityGroupIds": [],
    },
}  # fmt: skip
QUEUE: dict[str, Any] = {
    "jobQueueName": "q", "priority": 1,
    "computeEnvironmentOrder": [{"order": 1, "computeEnvironment": "a"}, {"order": 2, "computeEnvironment": "b"}],
}  # fmt: skip
QUEUE_CHANGE: dict[str, Any] = {
    "jobQueue": "q", "priority": 2, "state": "DISABLED", "schedulingPolicyArn": "fair",
    "jobStateTimeLimitActions": [
        {"reason": "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY", "state": "RUNNABLE", "maxTimeSeconds": 700, "action": "CANCEL"}
    ],
}  # fmt: skip
SHARE: dict[str, Any] = {
    "capacityLimits": [{"capacityUnit": "VCPU", "maxCapacity": 4}, {"capacityUnit": "m5", "maxCapacity": 1}],
    "resourceSharingConfiguration": {"strategy": "LEND_AND_BORROW", "borrowLimit": 50},
    "preemptionConfiguration": {"inSharePreemption": "ENABLED"}, "state": "DISABLED",
}  # fmt: skip
OWN: dict[str, Any] = {
    "CreateComputeEnvironment": {"labels": {"rack": "a"}, "is_unbounded": True},
    "UpdateJobQueue": {
        "max_running": 3, "max_vcpus": 9, "max_overtake_s": 60, "dispatch_order": "STRICT", "preemption": "LOWER_PRIORITY",
        "preemptible": True, "security_level": "BASELINE", "fence_s": 900,
    },
}  # fmt: skip
"""What AWS has no members for, by operation."""

CASES = [
    ("UpdateJobQueue", QUEUE_CHANGE),
    ("UpdateComputeEnvironment", {"computeEnvironment": "ce", "state": "ENABLED", "computeResources": {"maxvCpus": 8}}),
    ("CreateComputeEnvironment", {"computeEnvironmentName": "u", "type": "UNMANAGED", "unmanagedvCpus": 3}),
    ("CreateQuotaShare", {"jobQueue": "q", "quotaShareName": "s", "tags": {"a": "b"}, **SHARE}),
    ("UpdateQuotaShare", {"quotaShareArn": "arn:aws:batch:r:123456789012:quota-share/q/s", **SHARE}),
    ("CreateComputeEnvironment", ENVIRONMENT),
    ("CreateJobQueue", QUEUE),
    ("RegisterJobDefinition", {"type": "container", **REGISTRATION, "parameters": {"a": "1"}}),
    ("SubmitJob", SUBMISSION),
    ("SubmitJob", NATIVE),
]


def parsed(command: Command) -> dict[str, Any]:
    """Return what the command line of batchyard reads in a line."""
    program, *words = shlex.split(command.line)
    assert program == "batchyard"
    found: click.Command = app
    context = click.Context(app)
    while isinstance(found, click.Group):
        name, *words = words
        leaf = found.get_command(context, name)
        assert leaf is not None, name
        found = leaf
    return found.make_context(found.name, words).params


@pytest.mark.parametrize(("operation", "members"), CASES)
def test_batchyard_takes_its_line(operation: str, members: dict[str, Any]) -> None:
    assert parsed(lines(operation, members)[0])


def test_what_aws_has_no_members_for_is_in_the_line_of_batchyard_alone() -> None:
    own, of_aws = lines("UpdateJobQueue", {**QUEUE_CHANGE, "native": OWN["UpdateJobQueue"]})
    read = parsed(own)
    assert (read["max_running"], read["max_overtake_s"], read["preemptible"]) == (3, 60, True)
    assert (read["security_level"], read["fence_s"]) == ("BASELINE", 900)
    assert read["time_limits"] == (("CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY", 700),)
    assert "native" not in of_aws.line
    own, of_aws = lines("CreateComputeEnvironment", {**ENVIRONMENT, "native": OWN["CreateComputeEnvironment"]})
    assert (parsed(own)["labels"], parsed(own)["max_vcpus"]) == ((("rack", "a"),), 0)
    assert "native" not in of_aws.line
    provided = {**ENVIRONMENT["computeResources"], "tags": {"batchyard:provider": "local"}, "bidPercentage": 40}
    own, _ = lines(
        "CreateComputeEnvironment", {**ENVIRONMENT, "computeResources": provided, "native": {"scale_down_delay_s": 0}}
    )
    read = parsed(own)
    assert (read["provider"], read["bid_percentage"], read["scale_down_delay_s"]) == ("local", 40, 0)
    own, _ = lines("UpdateQuotaShare", dict(CASES)["UpdateQuotaShare"])
    read = parsed(own)
    assert (read["queue"], read["name"], read["preempts"], read["borrow_limit"]) == ("q", "s", True, 50)
    assert read["limits"] == (("VCPU", 4), ("m5", 1))


def test_batchyard_reads_what_the_form_says() -> None:
    read = parsed(lines("SubmitJob", NATIVE)[0])
    assert (read["image"], read["array"], read["array_concurrency"]) == ("busybox", "20000", 5)
    assert read["command"] == ("echo", "--", "-x")
    assert read["depends_on"] == ("a,AFTER_ANY",)
    read = parsed(lines("SubmitJob", SUBMISSION)[0])
    assert read["command"] == ("sh", "-c", "a && b")
    assert (read["definition"], read["share_identifier"], read["queue"]) == ("d:1", "s", "q")
    assert read["depends_on"] == ("a", "b,N_TO_N", "SEQUENTIAL")
    read = parsed(lines("CreateComputeEnvironment", ENVIRONMENT)[0])
    assert (read["type"], read["instance_types"], read["max_vcpus"]) == ("SPOT", ("m5", "c5"), 8)


@pytest.mark.parametrize(("operation", "members"), CASES[:-1])
def test_aws_takes_its_line(operation: str, members: dict[str, Any]) -> None:
    _, command = lines(operation, members)
    program, service, name, flag, text = shlex.split(command.line)
    assert (program, service, flag) == ("aws", "batch", "--cli-input-json")
    assert name.replace("-", "") == operation.lower()
    assert json.loads(text) == members
    shape = MODEL.operation_model(operation).input_shape
    report = botocore.validate.ParamValidator().validate(members, shape)
    assert not report.has_errors(), report.generate_report()


def test_what_aws_cannot_be_told_has_one_line() -> None:
    assert [command.tool for command in lines("SubmitJob", NATIVE)] == ["batchyard"]


@pytest.mark.parametrize(
    "operation",
    ["CreateComputeEnvironment", "CreateJobQueue", "CreateQuotaShare", "RegisterJobDefinition", "SubmitJob"],
)
def test_an_empty_form_has_lines_too(operation: str) -> None:
    assert len(lines(operation, {})) == 2
