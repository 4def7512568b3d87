"""Each documented error, provoked through boto3 or, where boto3 would not send it, through plain HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from .endpoint import ARN, REQUIREMENTS, Endpoint, Yard, definition, environment, error_of, queue

LONG = "Error executing request, Exception : {}, RequestId: <id>"
UNKNOWN = "01a20d74-b844-703e-9dba-bd4473ccbda3"


def refusal(call: Any, **members: Any) -> str:
    """Return the text of a ClientException, the short one of a long one."""
    code, text, status = error_of(lambda: call(**members))
    assert (code, status) == ("ClientException", 400)
    if text.startswith("Error executing request"):
        begin, end = LONG.split("{}")
        assert text.startswith(begin)
        assert text.endswith(end)
        return "long: " + text.removeprefix(begin).removesuffix(end)
    return text


SUBMISSIONS: dict[str, tuple[dict[str, Any], str]] = {
    "name": ({"jobName": "-x"}, "long: Job name should match valid pattern"),
    "queue": ({"jobQueue": "nobody"}, "JobQueue nobody not found."),
    "definition": (
        {"jobDefinition": "nobody"},
        "JobDefinition name nobody does not exist or is not in ACTIVE status",
    ),
    "revision": (
        {"jobDefinition": f"{ARN}job-definition/d:9"},
        "JobDefinition name d:9 does not exist or is not in ACTIVE status",
    ),
    "reference": (
        {"containerOverrides": {"command": ["echo", "Ref::what"]}},
        "long: Unable to substitute value. No parameter found for reference what",
    ),
    "parameters": (
        {"containerOverrides": {"command": ["Ref::p"] * 9}, "parameters": {"p": "x" * 1000}},
        "long: Container Overrides length must be at most 8192; they make the command 9000 bytes",
    ),
    "dependencies": (
        {"dependsOn": [{"jobId": UNKNOWN}] * 21},
        "long: Job cannot have more than 20 dependencies",
    ),
    "retry": (
        {"retryStrategy": {"evaluateOnExit": [{"action": "EXIT", "onReason": "*"}]}},
        "long: RetryAttempts must be provided with retry strategy",
    ),
    "attempts": ({"retryStrategy": {"attempts": 11}}, "long: RetryAttempts must be between 1 and 10, not 11"),
    "rules": (
        {"retryStrategy": {"attempts": 2, "evaluateOnExit": [{"action": "EXIT", "onReason": "*"}] * 6}},
        "long: EvaluateOnExit must have at most 5 entries, not 6",
    ),
    "pattern": (
        {"retryStrategy": {"attempts": 2, "evaluateOnExit": [{"action": "EXIT", "onReason": "a*b"}]}},
        (
            "long: onReason 'a*b' is not a valid pattern: it may hold letters, digits, '.', ':' and white space, and a "
            "* at its end"
        ),
    ),
    "action": (
        {"retryStrategy": {"attempts": 2, "evaluateOnExit": [{"action": "STOP", "onReason": "*"}]}},
        (
            "1 validation error detected: Value 'STOP' at 'retryStrategy.evaluateOnExit.1.member.action' failed to "
            "satisfy constraint: Member must satisfy enum value set: [RETRY, EXIT]"
        ),
    ),
    "share": (
        {"shareIdentifier": "a"},
        (
            "long: Job with shareIdentifier or schedulingPriority can onlybe submitted to job queue with fair share "
            "scheduling policy."
        ),
    ),
    "priority": (
        {"schedulingPriorityOverride": 10000},
        "long: schedulingPriorityOverride must be between 0 and 9999, not 10000",
    ),
    "vcpu": (
        {"containerOverrides": {"resourceRequirements": [{"type": "VCPU", "value": "1.0"}]}},
        "long: Value 1.0 for type VCPU in resourceRequirement is not valid. Please provide a numeric value.",
    ),
    "vcpu word": (
        {"containerOverrides": {"resourceRequirements": [{"type": "VCPU", "value": "two"}]}},
        "long: Value two for type VCPU in resourceRequirement is not valid. Please provide a numeric value.",
    ),
    "memory": (
        {"containerOverrides": {"resourceRequirements": [{"type": "MEMORY", "value": "3"}]}},
        "long: Memory must be at least 4 MiB, not 3.",
    ),
    "gpu": (
        {"containerOverrides": {"resourceRequirements": [{"type": "GPU", "value": "0.5"}]}},
        "long: Value 0.5 for type GPU in resourceRequirement is not valid. Please provide a numeric value.",
    ),
    "deprecated": (
        {"containerOverrides": {"memory": 64}},
        (
            "long: This value was submitted in a deprecated key and may conflict with the value provided by the job "
            "definition's resource requirements."
        ),
    ),
    "size": ({"arrayProperties": {"size": 10001}}, "long: Array job size must be between 2 and 10000, not 10001"),
    "one": ({"arrayProperties": {"size": 1}}, "long: Array job size must be between 2 and 10000, not 1"),
    "timeout": (
        {"timeout": {"attemptDurationSeconds": 59}},
        "long: attemptDurationSeconds must be at least 60 seconds, not 59",
    ),
    "overrides": (
        {"containerOverrides": {"command": ["x" * 8192]}},
        "long: Container Overrides length must be at most 8192",
    ),
    "empty": (
        {"containerOverrides": {"command": ["a", ""]}},
        "long: Container overrides command must not contain empty string",
    ),
    "variable": (
        {"containerOverrides": {"environment": [{"name": "AWS_BATCH_X", "value": "1"}]}},
        "long: Environment variables cannot start with AWS_BATCH, which is reserved: AWS_BATCH_X",
    ),
    "dependency": ({"dependsOn": [{"jobId": UNKNOWN}]}, f"Job {UNKNOWN} not found"),
    "kind of dependency": (
        {"dependsOn": [{"type": "SEQUENTIAL"}]},
        "long: dependsOn[0].type: SEQUENTIAL is only for an array job",
    ),
    "payload": (
        {"parameters": {f"p{i}": "x" * 1000 for i in range(31)}},
        "long: SubmitJob payload size must be at most 30720 bytes, not 31334",
    ),
    "nodes": (
        {"nodeOverrides": {"numNodes": 2}},
        "long: nodeOverrides: is only for a multi-node job; the job definition is of type container",
    ),
    "eks": (
        {"eksPropertiesOverride": {"podProperties": {"metadata": {"labels": {"a": "b"}}}}},
        "long: eksPropertiesOverride is only applicable for a job definition with eksProperties.",
    ),
}


@pytest.fixture(scope="module")
def shared() -> Any:
    with Endpoint() as endpoint:
        yield Yard(endpoint, endpoint.batch())


@pytest.mark.parametrize("case", SUBMISSIONS)
def test_a_wrong_submission_gets_awss_text(shared: Yard, case: str) -> None:
    wrong, text = SUBMISSIONS[case]
    members = {"jobName": "j", "jobQueue": "q", "jobDefinition": "d"} | wrong
    assert refusal(shared.batch.submit_job, **members) == text
    assert shared.batch.list_jobs(jobQueue="q", filters=[{"name": "JOB_NAME", "values": ["*"]}])["jobSummaryList"] == []


FARGATE = {"platformCapabilities": ["FARGATE"]}


def fargate(vcpu: str, mib: str, **container: Any) -> dict[str, Any]:
    requirements = [{"type": "VCPU", "value": vcpu}, {"type": "MEMORY", "value": mib}]
    return definition("d", {"resourceRequirements": requirements, "executionRoleArn": "r", **container}) | FARGATE


SMALLEST = [{"type": "VCPU", "value": "0.25"}, {"type": "MEMORY", "value": "512"}]


def task(container: Mapping[str, Any] | None = None, **members: Any) -> dict[str, Any]:
    """Return a RegisterJobDefinition with a task of one container."""
    properties = {"image": "busybox", "resourceRequirements": REQUIREMENTS, **(container or {})}
    return {
        "jobDefinitionName": "d",
        "type": "container",
        "ecsProperties": {"taskProperties": [{"containers": [properties], **members}]},
    }


def several(*containers: Mapping[str, Any], **members: Any) -> dict[str, Any]:
    """Return a RegisterJobDefinition with a task of several containers."""
    filled = [{"image": "busybox", "resourceRequirements": REQUIREMENTS, **each} for each in containers]
    return {
        "jobDefinitionName": "d",
        "type": "container",
        "ecsProperties": {"taskProperties": [{"containers": filled, **members}]},
    }


def after(name: str, condition: str) -> dict[str, Any]:
    """Return what a container waits for."""
    return {"dependsOn": [{"containerName": name, "condition": condition}]}


DEFINITIONS: dict[str, tuple[dict[str, Any], str]] = {
    "name": (definition("a b"), "long: Job definition name should match valid pattern"),
    "vcpu": (definition("d", {"resourceRequirements": REQUIREMENTS[1:]}), "long: vCPU is not provided."),
    "memory": (definition("d", {"resourceRequirements": REQUIREMENTS[:1]}), "long: Memory is not provided."),
    "network": (
        definition("d", {"networkConfiguration": {"assignPublicIp": "ENABLED"}}),
        "long: networkConfiguration not applicable for EC2.",
    ),
    "user": (
        definition("d", {"user": "A b"}),
        "long: User 'A b' does not match regex ^([a-z0-9_][a-z0-9_-]{0,30})$",
    ),
    "no container": (
        {"jobDefinitionName": "d", "type": "container"},
        "Job definitions of type container need exactly one of containerProperties, ecsProperties, eksProperties",
    ),
    "multinode": (
        {"jobDefinitionName": "d", "type": "multinode"},
        "Job definitions of type multinode need nodeProperties",
    ),
    "several containers without names": (
        several({"name": "a"}, {}),
        "long: task.containers[1].name: each of several containers needs a name",
    ),
    "several containers of one name": (
        several({"name": "a"}, {"name": "a"}),
        (
            "long: task.containers[0].name: 'a' is the name of 2 containers; "
            "task.containers[1].name: 'a' is the name of 2 containers"
        ),
    ),
    "nobody essential": (
        several({"name": "a", "essential": False}, {"name": "b", "essential": False}),
        "long: task.containers: At least one container must be essential",
    ),
    "success of an essential container": (
        several({"name": "a"}, {"name": "b", **after("a", "SUCCESS")}),
        (
            "long: task.containers[1].dependsOn[0].condition: A dependency container with SUCCESS or COMPLETE condition "
            "cannot be an essential container: 'a'"
        ),
    ),
    "completion of an essential container": (
        several({"name": "a"}, {"name": "b", **after("a", "COMPLETE")}),
        (
            "long: task.containers[1].dependsOn[0].condition: A dependency container with SUCCESS or COMPLETE condition "
            "cannot be an essential container: 'a'"
        ),
    ),
    "a circle": (
        several({"name": "a", **after("b", "START")}, {"name": "b", **after("a", "START")}),
        "long: task.containers: containers wait for each other: 'a' -> 'b' -> 'a'",
    ),
    "nobody to wait for": (
        several({"name": "a"}, {"name": "b", **after("c", "START")}),
        "long: task.containers[1].dependsOn[0].container: 'c' is none of the job's containers",
    ),
    "waiting for itself": (
        several({"name": "a"}, {"name": "b", **after("b", "START")}),
        "long: task.containers[1].dependsOn[0].container: 'b' would wait for itself",
    ),
    "a condition of Amazon ECS alone": (
        several({"name": "a"}, {"name": "b", **after("a", "HEALTHY")}),
        "Condition HEALTHY is not one of START, COMPLETE, SUCCESS",
    ),
    "a start timeout": (
        several({"name": "a", "startTimeout": 1}, {"name": "b"}),
        "long: task.containers[0].startTimeoutS: 1 seconds is not between 2 and 604800",
    ),
    "a stop timeout of none": (
        several({"name": "a", "stopTimeout": 0}, {"name": "b"}),
        "long: stopTimeout must be at least 2, not 0",
    ),
    "eleven containers": (
        several(*({"name": f"c{i}"} for i in range(11))),
        "long: task.containers: 11 containers; at most 10 are allowed",
    ),
    "several containers without amounts": (
        several({"name": "a"}, {"name": "b", "resourceRequirements": []}),
        "long: vCPU is not provided.",
    ),
    "a fargate size of several": (
        several({"name": "a"}, {"name": "b"}, executionRoleArn="r") | {"platformCapabilities": ["FARGATE"]},
        "long: Fargate resource requirements (2.00 vCPU, 256 MiB) not valid.",
    ),
    "priority": (
        definition("d", schedulingPriority=-1),
        "long: schedulingPriority must be between 0 and 9999, not -1",
    ),
    "size": (
        definition("d", parameters={f"p{i}": "x" * 1000 for i in range(25)}),
        "long: Job definition size must be at most 24576 bytes, not 25420",
    ),
    "fargate size": (
        fargate("1", "128"),
        "long: Fargate resource requirements (1.00 vCPU, 128 MiB) not valid.",
    ),
    "fargate privileged": (fargate("0.25", "512", privileged=True), "long: privileged is not applicable for Fargate."),
    "no image": (
        {"jobDefinitionName": "d", "type": "container", "containerProperties": {"resourceRequirements": REQUIREMENTS}},
        "long: Image is required.",
    ),
    "an empty image": (definition("d", {"image": ""}), "long: Image is required."),
    "an empty image of a task": (task({"image": ""}), "long: Image is required."),
    "managed instances": (
        definition("d", platformCapabilities=["MANAGED_INSTANCES"]),
        "Amazon ECS Managed Instances are not offered by Batchyard",
    ),
    "rules without attempts": (
        definition("d", retryStrategy={"evaluateOnExit": [{"action": "EXIT", "onReason": "*"}]}),
        "long: RetryAttempts must be provided with retry strategy",
    ),
    "a pattern of exit codes": (
        definition("d", retryStrategy={"attempts": 2, "evaluateOnExit": [{"action": "EXIT", "onExitCode": "1-2"}]}),
        "long: onExitCode '1-2' is not a valid pattern: it may hold digits, and a * at its end",
    ),
    "a pattern of reasons": (
        definition("d", retryStrategy={"attempts": 2, "evaluateOnExit": [{"action": "EXIT", "onReason": "a-b"}]}),
        (
            "long: onReason 'a-b' is not a valid pattern: it may hold letters, digits, '.', ':' and white space, and a "
            "* at its end"
        ),
    ),
    "pid mode": (task(pidMode="host"), "pidMode host is not offered by Batchyard: jobs do not see the host's own"),
    "ipc mode": (task(ipcMode="host"), "ipcMode host is not offered by Batchyard: jobs do not see the host's own"),
    "no pid mode": (
        task(pidMode="private"),
        "long: Capability private is not valid. Valid capabilities: [host, task]",
    ),
    "no ipc mode": (
        task(ipcMode="private"),
        "long: ipcMode private is not valid. Valid values are: [host, task, none]",
    ),
    "network mode": (
        task(networkMode="host"),
        "networkMode host is not offered by Batchyard: the operator of a host says which network its containers are on",
    ),
    "task network": (
        task(networkConfiguration={"assignPublicIp": "ENABLED"}),
        "long: networkConfiguration not applicable for EC2.",
    ),
    "task platform": (task(platformVersion="LATEST"), "long: platformVersion not applicable for EC2."),
    "fire lens": (
        task({"firelensConfiguration": {"type": "fluentd"}}),
        "firelensConfiguration: logs are kept by the agent, whatever would route them",
    ),
    "container dependency": (
        task({"dependsOn": [{"containerName": "a", "condition": "START"}]}),
        "Container dependency can not be used in a single-container job.",
    ),
    "fargate windows": (
        fargate("1", "2048", runtimePlatform={"operatingSystemFamily": "WINDOWS_SERVER_2022_CORE"}),
        "operatingSystemFamily WINDOWS_SERVER_2022_CORE is not offered by Batchyard: hosts run Linux",
    ),
    "fargate vcpus": (
        fargate("1", "2048", vcpus=1),
        "long: vcpus is not applicable for Fargate. Use resource requirements instead.",
    ),
    "fargate memory": (
        fargate("1", "2048", memory=2048),
        "long: memory is not applicable for Fargate. Use resource requirements instead.",
    ),
    "fargate no swap": (
        fargate("1", "2048", linuxParameters={"maxSwap": 0}),
        "long: maxSwap is not applicable for Fargate.",
    ),
    "fargate log": (
        fargate("1", "2048", logConfiguration={"logDriver": "json-file"}),
        "long: Log driver for Fargate is not valid: json-file",
    ),
    "fargate ipc mode": (
        task({"resourceRequirements": SMALLEST}, ipcMode="task", executionRoleArn="r") | FARGATE,
        "long: ipcMode is not applicable for Fargate.",
    ),
    "fargate large": (
        fargate("32", "65536"),
        "long: Fargate resource requirements (32.00 vCPU, 65536 MiB) not valid.",
    ),
    "efs": (
        definition("d", {"volumes": [{"name": "v", "efsVolumeConfiguration": {"fileSystemId": "fs-1"}}]}),
        (
            "efsVolumeConfiguration is not offered by Batchyard: mount the file system on the hosts and give "
            "host.sourcePath"
        ),
    ),
}


@pytest.mark.parametrize("case", DEFINITIONS)
def test_a_wrong_definition_gets_awss_text(shared: Yard, case: str) -> None:
    wrong, text = DEFINITIONS[case]
    assert refusal(shared.batch.register_job_definition, **wrong) == text


@pytest.mark.parametrize("memory", ["61440", "122880", "249856"])
def test_fargate_has_32_vcpus(shared: Yard, memory: str) -> None:
    shared.batch.register_job_definition(**fargate("32", memory) | {"jobDefinitionName": "large"})


@pytest.mark.parametrize("driver", ["awslogs", "splunk"])
def test_fargate_has_two_log_drivers(shared: Yard, driver: str) -> None:
    members = fargate("1", "2048", logConfiguration={"logDriver": driver})
    shared.batch.register_job_definition(**members | {"jobDefinitionName": "logging"})


def test_a_part_of_a_vcpu_is_fargates(shared: Yard) -> None:
    shared.batch.register_job_definition(**fargate("0.25", "1024") | {"jobDefinitionName": "f"})
    shared.batch.create_compute_environment(
        computeEnvironmentName="f", type="MANAGED", computeResources={"type": "FARGATE", "maxvCpus": 4}
    )
    order = [{"order": 1, "computeEnvironment": "f"}]
    shared.batch.create_job_queue(jobQueueName="fargate", priority=1, computeEnvironmentOrder=order)
    part = {"resourceRequirements": [{"type": "VCPU", "value": "0.5"}]}
    job = shared.job(shared.submit(jobDefinition="f", jobQueue="fargate", containerOverrides=part))
    assert {"type": "VCPU", "value": "0.5"} in job["container"]["resourceRequirements"]
    assert job["platformCapabilities"] == ["FARGATE"]
    wrong = {"resourceRequirements": [{"type": "MEMORY", "value": "1000"}]}
    members = {"jobName": "j", "jobQueue": "fargate", "jobDefinition": "f"}
    text = refusal(shared.batch.submit_job, **members, containerOverrides=wrong)
    assert text == "long: Fargate resource requirements (0.25 vCPU, 1000 MiB) not valid."
    for queue_name, definition_name, capability in (("q", "f", "FARGATE"), ("fargate", "d", "EC2")):
        text = refusal(shared.batch.submit_job, jobName="j", jobQueue=queue_name, jobDefinition=definition_name)
        attached = "Job Queue is attached to Compute Environment that can not run Jobs with capability"
        assert text == f"long: {attached} {capability}."
    shared.batch.terminate_job(jobId=job["jobId"], reason="r")


def without(name: str, **resources: Any) -> dict[str, Any]:
    members = environment("x", **resources)
    del members["computeResources"][name]
    return members


ENVIRONMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "name": (environment("a.b"), "long: Compute environment name should match valid pattern"),
    "taken": (environment("ce"), "Object already exists"),
    "role": (without("instanceRole"), "long: Instance role is required."),
    "minimum": (without("minvCpus"), "long: Resource minvCpus is required."),
    "resources": (
        {"computeEnvironmentName": "x", "type": "MANAGED"},
        "long: computeResources is required for MANAGED compute environments.",
    ),
    "fargate": (
        environment("x", type="FARGATE"),
        "long: allocationStrategy is not applicable for Fargate.",
    ),
    "fargate tags": (
        {
            "computeEnvironmentName": "x",
            "type": "MANAGED",
            "computeResources": {"type": "FARGATE", "maxvCpus": 1, "tags": {"a": "b"}},
        },
        "long: tags is not applicable for Fargate.",
    ),
    "fargate desired": (
        {
            "computeEnvironmentName": "x",
            "type": "MANAGED",
            "computeResources": {"type": "FARGATE", "maxvCpus": 1, "desiredvCpus": 1},
        },
        "long: desiredvCpus is not applicable for Fargate.",
    ),
    "spot": (
        environment("x", allocationStrategy="SPOT_CAPACITY_OPTIMIZED"),
        "long: Allocation strategy SPOT_CAPACITY_OPTIMIZED is only for SPOT.",
    ),
    "desired": (environment("x", desiredvCpus=17), "long: desiredvCpus must be between 0 and 16, not 17"),
    "type": (
        environment("x", type="EC3"),
        (
            "1 validation error detected: Value 'EC3' at 'computeResources.type' failed to satisfy constraint: Member "
            "must satisfy enum value set: [EC2, SPOT, FARGATE, FARGATE_SPOT, ECS_MANAGED_INSTANCES]"
        ),
    ),
    "service role": (
        environment("x") | {"serviceRole": "AWSBatchServiceRole"},
        "long: Service role 'AWSBatchServiceRole' is not a valid ARN.",
    ),
    "eks": (
        environment("x") | {"eksConfiguration": {"eksClusterArn": "a", "kubernetesNamespace": "n"}},
        "long: eksClusterArn 'a' is not the ARN of an EKS cluster.",
    ),
}


@pytest.mark.parametrize("case", ENVIRONMENTS)
def test_a_wrong_environment_gets_awss_text(shared: Yard, case: str) -> None:
    wrong, text = ENVIRONMENTS[case]
    assert refusal(shared.batch.create_compute_environment, **wrong) == text


def test_environments_are_not_scaled_down_by_hand(batch: Any) -> None:
    batch.create_compute_environment(**environment("ce", desiredvCpus=4))
    assert refusal(batch.update_compute_environment, computeEnvironment="ce", computeResources={"desiredvCpus": 3}) == (
        "Manually scaling down compute environment is not supported. Disconnecting job queues from compute "
        "environment will cause it to scale-down to minvCpus"
    )
    text = refusal(batch.update_compute_environment, computeEnvironment="ce", serviceRole="r")
    assert text == "long: Service role 'r' is not a valid ARN."
    text = refusal(
        batch.update_compute_environment, computeEnvironment="ce", computeResources={"allocationStrategy": "BEST_FIT"}
    )
    assert "Value 'BEST_FIT' at 'computeResources.allocationStrategy'" in text
    assert refusal(batch.update_compute_environment, computeEnvironment="nobody", state="DISABLED") == (
        f"{ARN}compute-environment/nobody does not exist"
    )


def test_queues_and_their_environments_go_in_order_only(yard: Yard) -> None:
    batch = yard.batch
    assert refusal(batch.create_job_queue, **queue("q")) == "Object already exists"
    assert refusal(batch.create_job_queue, **queue("x y")) == "long: Job queue name should match valid pattern"
    assert "must be created and valid before attaching" in refusal(batch.create_job_queue, **queue("x", "nobody"))
    none = queue("x") | {"computeEnvironmentOrder": []}
    text = "long: computeEnvironmentOrder must have between 1 and 3 entries, not 0"
    assert refusal(batch.create_job_queue, **none) == text
    for call in (batch.update_job_queue, batch.delete_job_queue):
        assert refusal(call, jobQueue="nobody") == f"{ARN}job-queue/nobody does not exist"
    steps = queue("q", "nobody")["computeEnvironmentOrder"]
    text = "compute environment 'nobody' must be created and valid before attaching to a job queue"
    assert refusal(batch.update_job_queue, jobQueue="q", computeEnvironmentOrder=steps) == text
    text = f"{ARN}compute-environment/nobody does not exist"
    assert refusal(batch.delete_compute_environment, computeEnvironment="nobody") == text
    still = "Cannot delete, resource must be in the DISABLED state"
    assert refusal(batch.delete_job_queue, jobQueue="q") == still
    text = refusal(batch.delete_compute_environment, computeEnvironment="ce")
    assert text.startswith("Cannot delete, found existing JobQueue relationship")
    batch.update_job_queue(jobQueue="q", state="DISABLED")
    members = {"jobName": "j", "jobQueue": "q", "jobDefinition": "d"}
    assert refusal(batch.submit_job, **members) == "JobQueue q is DISABLED and takes no new jobs"
    batch.delete_job_queue(jobQueue="q")
    assert refusal(batch.delete_compute_environment, computeEnvironment="ce") == still


def test_questions_have_bounds(shared: Yard) -> None:
    batch = shared.batch
    assert refusal(batch.describe_jobs, jobs=["x"] * 101) == "Maximum number of jobs supported is 100"
    for call, member in (
        (batch.describe_job_queues, "jobQueues"),
        (batch.describe_compute_environments, "computeEnvironments"),
        (batch.describe_job_definitions, "jobDefinitions"),
    ):
        assert "is 100" in refusal(call, **{member: ["x"] * 101})
        for size in (0, 101):
            assert refusal(call, maxResults=size) == f"long: maxResults must be between 1 and 100, not {size}"
        text = "long: nextToken: is not a token that this list gave out"
        assert refusal(call, nextToken="nonsense") == text
    text = "jobDefinitions cannot be specified together with other parameters"
    assert refusal(batch.describe_job_definitions, jobDefinitions=["d:1"], status="ACTIVE") == text
    one = "Exactly one of jobQueue, arrayJobId, multiNodeJobId must be specified, not {}"
    assert refusal(batch.list_jobs) == one.format(0)
    assert refusal(batch.list_jobs, jobQueue="q", arrayJobId=UNKNOWN) == one.format(2)
    assert refusal(batch.list_jobs, jobQueue="nobody") == f"{ARN}job-queue/nobody does not exist"
    name = {"name": "JOB_NAME", "values": ["x"]}
    text = "Only one filter can be used at a time, not 2"
    assert refusal(batch.list_jobs, jobQueue="q", filters=[name, name]) == text
    assert "is not one of" in refusal(batch.list_jobs, jobQueue="q", filters=[{"name": "X", "values": ["x"]}])
    assert refusal(batch.list_jobs, jobQueue="q", maxResults=0) == "long: maxResults must be between 1 and 1000, not 0"


def test_stops_need_a_reason_of_some_length(shared: Yard) -> None:
    for call in (shared.batch.cancel_job, shared.batch.terminate_job):
        assert refusal(call, jobId=UNKNOWN, reason="x" * 1025) == "reason must be at most 1024 characters long"
        assert refusal(call, jobId=UNKNOWN, reason="") == "reason is required"
    for call in (shared.batch.cancel_jobs, shared.batch.terminate_jobs):
        text = "Maximum number of jobs supported is 50"
        assert refusal(call, jobs=[f"{i}" for i in range(51)], reason="r") == text


def test_tags_need_a_resource(shared: Yard) -> None:
    batch = shared.batch
    assert refusal(batch.list_tags_for_resource, resourceArn="q") == "Invalid ARN: q"
    assert "not found" in refusal(batch.tag_resource, resourceArn=f"{ARN}job-queue/nobody", tags={"a": "b"})
    assert "at 'tags' failed" in refusal(batch.tag_resource, resourceArn=f"{ARN}job-queue/q", tags={})
    other = f"{ARN}service-environment/s"
    assert "not offered by Batchyard" in refusal(batch.list_tags_for_resource, resourceArn=other)


def test_operations_that_are_not_there_say_so(endpoint: Endpoint) -> None:
    reply = endpoint.post("SubmitServiceJob", {})
    text = "SubmitServiceJob is for Amazon SageMaker and not offered by Batchyard"
    assert (reply.status, reply.json()["message"]) == (400, text)
    assert reply.headers["x-amzn-errortype"] == "ClientException"


def test_a_controller_that_is_away_is_a_fault_that_botocore_tries_again() -> None:
    tries: list[str] = []
    with Endpoint(controller="127.0.0.1:1") as endpoint:
        batch = endpoint.batch(retries={"mode": "standard", "total_max_attempts": 2})
        batch.meta.events.register("before-send.batch", lambda request, **_: tries.append(request.url))
        code, text, status = error_of(batch.describe_job_queues)
    assert (code, status, len(tries)) == ("ServerException", 500, 2)
    assert "cannot reach the controller" in text


def test_a_limit_of_calls_tells_clients_to_slow_down() -> None:
    with Endpoint(calls_per_second=2.0) as endpoint:
        ends = [endpoint.post("DescribeJobQueues", {}) for _ in range(3)]
        assert [reply.status for reply in ends] == [200, 200, 429]
        assert ends[2].headers["x-amzn-errortype"] == "TooManyRequestsException"
        assert ends[2].json()["message"] == "Too Many Requests"
        patient = endpoint.batch(retries={"mode": "standard", "total_max_attempts": 10})
        assert patient.describe_job_queues()["jobQueues"] == []
