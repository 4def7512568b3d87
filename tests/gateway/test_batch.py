"""Every operation through boto3 over a real controller; each answer is also checked against botocore's model."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from .endpoint import ARN, REQUIREMENTS, Endpoint, Yard, definition, environment, error_of, plain, queue

# Compute environments -----------------------------------------------------------


def test_an_environment_is_read_back_as_it_was_given(batch: Any) -> None:
    given = environment(
        "ce",
        type="SPOT",
        allocationStrategy="SPOT_CAPACITY_OPTIMIZED",
        minvCpus=2,
        desiredvCpus=4,
        bidPercentage=60,
        spotIamFleetRole="arn:aws:iam::123456789012:role/fleet",
        launchTemplate={"launchTemplateName": "t", "version": "$Latest"},
        ec2Configuration=[{"imageType": "ECS_AL2023"}],
        scalingPolicy={"minScaleDownDelayMinutes": 30},
        tags={"Name": "host"},
    ) | {"serviceRole": "arn:role", "tags": {"a": "b"}, "context": "c", "ecsSettings": {"containerInsights": "ENABLED"}}
    arn = f"{ARN}compute-environment/ce"
    assert plain(batch.create_compute_environment(**given)) == {
        "computeEnvironmentName": "ce",
        "computeEnvironmentArn": arn,
    }
    (found,) = batch.describe_compute_environments(computeEnvironments=[arn])["computeEnvironments"]
    assert {name: found[name] for name in given} == given
    assert (found["state"], found["status"], found["statusReason"]) == (
        "ENABLED",
        "VALID",
        "ComputeEnvironment Healthy",
    )
    assert found["computeEnvironmentArn"] == arn
    assert found["ecsClusterArn"].startswith("arn:aws:ecs:eu-central-1:123456789012:cluster/")


@pytest.mark.parametrize("kind", ["FARGATE", "FARGATE_SPOT"])
def test_a_fargate_environment_keeps_its_type(batch: Any, kind: str) -> None:
    resources = {"type": kind, "maxvCpus": 8, "subnets": ["s"], "securityGroupIds": ["g"]}
    batch.create_compute_environment(computeEnvironmentName="f", type="MANAGED", computeResources=resources)
    (found,) = batch.describe_compute_environments()["computeEnvironments"]
    assert found["computeResources"] == resources
    batch.update_compute_environment(computeEnvironment="f", computeResources={"maxvCpus": 9})
    (found,) = batch.describe_compute_environments()["computeEnvironments"]
    assert found["computeResources"] == resources | {"maxvCpus": 9}


def test_a_queue_may_have_on_demand_and_spot_but_not_fargate_beside_them(batch: Any) -> None:
    batch.create_compute_environment(**environment("on-demand"))
    batch.create_compute_environment(**environment("spot", type="SPOT"))
    for name, kind in (("fargate", "FARGATE"), ("fargate-spot", "FARGATE_SPOT")):
        batch.create_compute_environment(
            computeEnvironmentName=name, type="MANAGED", computeResources={"type": kind, "maxvCpus": 4}
        )

    def order(*names: str) -> list[dict[str, Any]]:
        return [{"order": i, "computeEnvironment": name} for i, name in enumerate(names)]

    batch.create_job_queue(jobQueueName="ec2", priority=1, computeEnvironmentOrder=order("on-demand", "spot"))
    batch.create_job_queue(jobQueueName="f", priority=1, computeEnvironmentOrder=order("fargate", "fargate-spot"))
    batch.update_compute_environment(computeEnvironment="spot", computeResources={"type": "EC2"})
    mixed = order("spot", f"{ARN}compute-environment/fargate")
    for call in (
        lambda: batch.create_job_queue(jobQueueName="x", priority=1, computeEnvironmentOrder=mixed),
        lambda: batch.update_job_queue(jobQueue="ec2", computeEnvironmentOrder=mixed),
        lambda: batch.update_compute_environment(computeEnvironment="fargate", computeResources={"type": "SPOT"}),
    ):
        assert "Fargate and EC2 compute environments can not be mixed." in error_of(call)[1]


@pytest.mark.parametrize("name", ["launchTemplateId", "launchTemplateName"])
def test_a_launch_template_of_no_name_takes_the_present_one_away(batch: Any, name: str) -> None:
    """As the model says; Terraform does so."""
    batch.create_compute_environment(**environment("ce", launchTemplate={name: "t", "version": "1"}))
    for changes, shown in (({}, {name: "t", "version": "1"}), ({name: "u"}, {name: "u"}), ({name: ""}, None)):
        batch.update_compute_environment(computeEnvironment="ce", computeResources={"launchTemplate": changes})
        (found,) = batch.describe_compute_environments()["computeEnvironments"]
        assert found["computeResources"].get("launchTemplate") == shown


def test_an_environment_turns_to_fargate_and_back(batch: Any) -> None:
    batch.create_compute_environment(**environment("ce", desiredvCpus=2))
    batch.update_compute_environment(computeEnvironment="ce", computeResources={"type": "FARGATE_SPOT"})
    (found,) = batch.describe_compute_environments()["computeEnvironments"]
    resources = {"type": "FARGATE_SPOT", "maxvCpus": 16, "subnets": ["subnet-1"], "securityGroupIds": ["sg-1"]}
    assert found["computeResources"] == resources
    batch.update_compute_environment(computeEnvironment="ce", computeResources={"type": "SPOT", "minvCpus": 1})
    (found,) = batch.describe_compute_environments()["computeEnvironments"]
    least = {"type": "SPOT", "allocationStrategy": "BEST_FIT", "minvCpus": 1, "desiredvCpus": 1, "instanceTypes": []}
    assert found["computeResources"] == resources | least


def test_an_unmanaged_environment_still_tells_its_resources(batch: Any) -> None:
    batch.create_compute_environment(computeEnvironmentName="u", type="UNMANAGED", unmanagedvCpus=7, state="DISABLED")
    (found,) = batch.describe_compute_environments()["computeEnvironments"]
    assert (found["type"], found["state"], found["unmanagedvCpus"]) == ("UNMANAGED", "DISABLED", 7)
    assert found["computeResources"]["type"] == "EC2"


def test_an_environment_is_changed_in_parts(batch: Any) -> None:
    batch.create_compute_environment(**environment("ce", bidPercentage=50))
    batch.update_compute_environment(
        computeEnvironment="ce",
        state="DISABLED",
        serviceRole="arn:aws:iam::1:role/other",
        updatePolicy={"terminateJobsOnUpdate": False, "jobExecutionTimeoutMinutes": 20},
        computeResources={
            "maxvCpus": 32,
            "desiredvCpus": 3,
            "subnets": ["subnet-2"],
            "allocationStrategy": "BEST_FIT_PROGRESSIVE_ORDERED",
        },
    )
    (found,) = batch.describe_compute_environments()["computeEnvironments"]
    assert found["state"] == "DISABLED"
    assert found["serviceRole"] == "arn:aws:iam::1:role/other"
    assert found["updatePolicy"] == {"terminateJobsOnUpdate": False, "jobExecutionTimeoutMinutes": 20}
    expected = environment("ce", bidPercentage=50)["computeResources"] | {
        "maxvCpus": 32,
        "desiredvCpus": 3,
        "subnets": ["subnet-2"],
        "allocationStrategy": "BEST_FIT_PROGRESSIVE_ORDERED",
    }
    assert found["computeResources"] == expected
    batch.update_compute_environment(computeEnvironment=found["computeEnvironmentArn"], state="ENABLED")
    (found,) = batch.describe_compute_environments()["computeEnvironments"]
    assert (found["state"], found["computeResources"]) == ("ENABLED", expected)


@pytest.mark.parametrize(("change", "desired"), [({"minvCpus": 8}, 8), ({"maxvCpus": 3}, 3), ({"maxvCpus": 20}, 4)])
def test_what_is_desired_follows_the_bounds(batch: Any, change: dict[str, int], desired: int) -> None:
    batch.create_compute_environment(**environment("ce", desiredvCpus=4))
    batch.update_compute_environment(computeEnvironment="ce", computeResources=change)
    (found,) = batch.describe_compute_environments()["computeEnvironments"]
    assert found["computeResources"] == environment("ce", desiredvCpus=desired)["computeResources"] | change


def test_an_environment_that_names_a_provider_scales(endpoint: Endpoint, batch: Any) -> None:
    given = environment(
        "burst",
        type="SPOT",
        allocationStrategy="SPOT_CAPACITY_OPTIMIZED",
        instanceTypes=["small"],
        minvCpus=1,
        maxvCpus=8,
        bidPercentage=60,
        scalingPolicy={"minScaleDownDelayMinutes": 30},
        tags={"Name": "host", "batchyard:provider": "hand"},
    )
    batch.create_compute_environment(**given)
    (native,) = endpoint.run(endpoint.client.describe_compute_environments(["burst"]))
    resources = native.compute_resources
    assert (resources.provider, resources.bid_percentage, resources.scale_down_delay_s) == ("hand", 60, 1800)
    (found,) = batch.describe_compute_environments()["computeEnvironments"]
    shown = given["computeResources"]
    assert found["computeResources"] == shown | {"desiredvCpus": 1}
    with pytest.raises(batch.exceptions.ClientException, match="Manually scaling down compute environment"):
        batch.update_compute_environment(computeEnvironment="burst", computeResources={"desiredvCpus": 0})
    batch.update_compute_environment(computeEnvironment="burst", computeResources={"desiredvCpus": 3, "maxvCpus": 9})
    (found,) = batch.describe_compute_environments()["computeEnvironments"]
    assert found["computeResources"] == shown | {"desiredvCpus": 3, "maxvCpus": 9}
    batch.update_compute_environment(computeEnvironment="burst", computeResources={"bidPercentage": 50})
    (native,) = endpoint.run(endpoint.client.describe_compute_environments(["burst"]))
    resources = native.compute_resources
    assert (resources.provider, resources.bid_percentage, resources.scale_down_delay_s) == ("hand", 50, 1800)


def test_what_is_wrong_with_a_provider_is_told(batch: Any) -> None:
    for members, text in (
        ({"tags": {"batchyard:provider": "nobody"}}, "'nobody' is not one of hand"),
        ({"tags": {"batchyard:provider": "hand"}, "instanceTypes": ["huge"]}, "'huge' is no type of provider hand"),
    ):
        with pytest.raises(batch.exceptions.ClientException, match=text):
            batch.create_compute_environment(**environment("e", **members))
    assert batch.describe_compute_environments()["computeEnvironments"] == []


def test_an_environment_of_the_native_side_is_described_too(endpoint: Endpoint, batch: Any) -> None:
    endpoint.run(endpoint.yard.furnish())
    (found,) = batch.describe_compute_environments(computeEnvironments=["default", "nobody"])["computeEnvironments"]
    assert found["computeResources"]["type"] == "EC2"
    (found,) = batch.describe_job_queues()["jobQueues"]
    assert found["computeEnvironmentOrder"][0]["computeEnvironment"] == f"{ARN}compute-environment/default"


def test_environments_and_queues_go_in_order(yard: Yard) -> None:
    yard.batch.update_job_queue(jobQueue=f"{ARN}job-queue/q", state="DISABLED", priority=9)
    (found,) = yard.batch.describe_job_queues(jobQueues=["q"])["jobQueues"]
    assert (found["state"], found["priority"]) == ("DISABLED", 9)
    yard.batch.delete_job_queue(jobQueue=f"{ARN}job-queue/q")
    yard.batch.update_compute_environment(computeEnvironment="ce", state="DISABLED")
    yard.batch.delete_compute_environment(computeEnvironment=f"{ARN}compute-environment/ce")
    assert yard.batch.describe_job_queues()["jobQueues"] == []
    assert yard.batch.describe_compute_environments(computeEnvironments=["ce"])["computeEnvironments"] == []


# Job queues -----------------------------------------------------------------------


TIME_LIMIT = {
    "reason": "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT",
    "state": "RUNNABLE",
    "maxTimeSeconds": 600,
    "action": "CANCEL",
}


def test_a_queue_is_read_back_as_it_was_given(batch: Any) -> None:
    for name in ("ce", "other"):
        batch.create_compute_environment(**environment(name))
    given = queue("q", state="DISABLED", jobQueueType="ECS", tags={"a": "b"}, jobStateTimeLimitActions=[TIME_LIMIT])
    given["computeEnvironmentOrder"] = [
        {"order": 2, "computeEnvironment": f"{ARN}compute-environment/other"},
        {"order": 1, "computeEnvironment": "ce"},
    ]
    assert plain(batch.create_job_queue(**given)) == {"jobQueueName": "q", "jobQueueArn": f"{ARN}job-queue/q"}
    (found,) = batch.describe_job_queues(jobQueues=[f"{ARN}job-queue/q"])["jobQueues"]
    assert found["computeEnvironmentOrder"] == [
        {"order": 2, "computeEnvironment": f"{ARN}compute-environment/other"},
        {"order": 1, "computeEnvironment": f"{ARN}compute-environment/ce"},
    ]
    names = ("jobQueueName", "priority", "state", "jobQueueType", "tags", "jobStateTimeLimitActions")
    assert {name: found[name] for name in names} == {name: given[name] for name in names}
    assert (found["status"], found["statusReason"]) == ("VALID", "JobQueue Healthy")
    later = TIME_LIMIT | {"maxTimeSeconds": 700}
    batch.update_job_queue(jobQueue="q", jobStateTimeLimitActions=[later])
    (found,) = batch.describe_job_queues(jobQueues=["q"])["jobQueues"]
    assert (found["jobStateTimeLimitActions"], found["priority"]) == ([later], 1)
    batch.update_job_queue(jobQueue="q", jobStateTimeLimitActions=[])
    assert "jobStateTimeLimitActions" not in batch.describe_job_queues(jobQueues=["q"])["jobQueues"][0]
    assert "nobody" not in str(batch.describe_job_queues(jobQueues=["nobody"])["jobQueues"])


def test_pages_are_followed_to_the_end(batch: Any) -> None:
    for i in range(5):
        batch.create_compute_environment(**environment(f"ce-{i}"))
        batch.create_job_queue(**queue(f"q-{i}", "ce-0"))
        batch.register_job_definition(**definition(f"d-{i}"))
    for operation, key, name in (
        ("describe_compute_environments", "computeEnvironments", "computeEnvironmentName"),
        ("describe_job_queues", "jobQueues", "jobQueueName"),
        ("describe_job_definitions", "jobDefinitions", "jobDefinitionName"),
    ):
        pages = batch.get_paginator(operation).paginate(PaginationConfig={"PageSize": 2})
        found = [each[name][-1] for page in pages for each in page[key]]
        assert found == list("01234")


# Job definitions ------------------------------------------------------------------

RICH = {
    "image": "public.ecr.aws/a/b:1",
    "command": ["echo", "Ref::what"],
    "jobRoleArn": "arn:aws:iam::1:role/j",
    "executionRoleArn": "arn:aws:iam::1:role/e",
    "environment": [{"name": "A", "value": "1"}, {"name": "B", "value": ""}],
    "readonlyRootFilesystem": False,
    "privileged": False,
    "ulimits": [{"hardLimit": 10, "name": "nofile", "softLimit": 5}],
    "user": "nobody",
    "resourceRequirements": [{"type": "MEMORY", "value": "128"}, {"type": "VCPU", "value": "2"}],
    "linuxParameters": {"initProcessEnabled": True, "sharedMemorySize": 64, "maxSwap": 0, "swappiness": 0},
    "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "g"}},
    "enableExecuteCommand": True,
    "repositoryCredentials": {"credentialsParameter": "arn:secret"},
}


def test_a_definition_is_read_back_as_it_was_given(batch: Any) -> None:
    given = definition(
        "d",
        RICH,
        parameters={"what": "x"},
        schedulingPriority=0,
        retryStrategy={"attempts": 3, "evaluateOnExit": [{"onReason": "*", "action": "Exit"}]},
        propagateTags=False,
        timeout={"attemptDurationSeconds": 60},
        tags={"a": "b"},
        platformCapabilities=["EC2"],
    )
    answer = batch.register_job_definition(**given)
    arn = f"{ARN}job-definition/d:1"
    assert plain(answer) == {"jobDefinitionName": "d", "jobDefinitionArn": arn, "revision": 1}
    (found,) = batch.describe_job_definitions(jobDefinitions=[arn])["jobDefinitions"]
    given["retryStrategy"]["evaluateOnExit"][0]["action"] = "exit"
    properties = given.pop("containerProperties")
    assert {name: found[name] for name in given} == given
    requirements = found["containerProperties"].pop("resourceRequirements")
    assert sorted(each["type"] + each["value"] for each in requirements) == ["MEMORY128", "VCPU2"]
    del properties["resourceRequirements"]
    assert {name: found["containerProperties"][name] for name in properties} == properties
    assert found["status"] == "ACTIVE"


def test_a_definition_shows_nothing_that_was_not_given(batch: Any) -> None:
    batch.register_job_definition(**definition("d"))
    (found,) = batch.describe_job_definitions()["jobDefinitions"]
    for name in ("propagateTags", "retryStrategy", "platformCapabilities", "timeout", "schedulingPriority"):
        assert name not in found
    assert found["containerProperties"] == {
        "image": "busybox",
        "command": ["true"],
        "resourceRequirements": REQUIREMENTS,
        "environment": [],
        "mountPoints": [],
        "secrets": [],
        "ulimits": [],
        "volumes": [],
    }


def test_deprecated_amounts_stay_in_their_form(yard: Yard) -> None:
    yard.batch.register_job_definition(
        **definition("old", {"vcpus": 2, "memory": 64, "resourceRequirements": []}),
    )
    (found,) = yard.batch.describe_job_definitions(jobDefinitionName="old")["jobDefinitions"]
    properties = found["containerProperties"]
    assert (properties["vcpus"], properties["memory"], properties["resourceRequirements"]) == (2, 64, [])
    job = yard.job(yard.submit(jobDefinition="old", containerOverrides={"memory": 96}))["container"]
    assert (job["vcpus"], job["memory"], job["resourceRequirements"]) == (2, 96, [])


def test_a_task_of_one_container_runs_and_is_read_back(yard: Yard) -> None:
    container = {
        "name": "main",
        "image": "busybox",
        "command": ["false"],
        "essential": True,
        "resourceRequirements": REQUIREMENTS,
        "environment": [{"name": "A", "value": "1"}],
    }
    task = {"containers": [container], "taskRoleArn": "arn:role", "networkMode": "bridge"}
    yard.batch.register_job_definition(
        jobDefinitionName="ecs", type="container", ecsProperties={"taskProperties": [task]}
    )
    (found,) = yard.batch.describe_job_definitions(jobDefinitions=["ecs:1"])["jobDefinitions"]
    assert found["ecsProperties"] == {"taskProperties": [task]}
    assert "containerProperties" not in found
    override = {"taskProperties": [{"containers": [{"name": "main", "command": ["true"]}]}]}
    agent = yard.endpoint.agent()
    job_id = yard.submit(jobDefinition="ecs", ecsPropertiesOverride=override)
    (spec,) = yard.endpoint.run(agent.hear_starts())
    assert (list(spec.container.command), spec.container.job_role_arn) == (["true"], "arn:role")
    yard.endpoint.run(agent.finish(spec.attempt_id, 3))
    job = yard.job(job_id)
    (detail,) = job["ecsProperties"]["taskProperties"]
    assert detail["containers"][0]["command"] == ["true"]
    assert detail["containers"][0]["exitCode"] == 3
    (attempt,) = job["attempts"]
    assert attempt["taskProperties"][0]["containers"][0]["exitCode"] == 3
    assert attempt["taskProperties"][0]["taskArn"] == detail["taskArn"]
    assert "container" not in job


def test_an_override_is_for_a_container_that_the_definition_has(yard: Yard) -> None:
    for name, given in (("named", {"name": "main"}), ("unnamed", {})):
        container = {"image": "busybox", "resourceRequirements": REQUIREMENTS, **given}
        yard.batch.register_job_definition(
            jobDefinitionName=name, type="container", ecsProperties={"taskProperties": [{"containers": [container]}]}
        )

    def submit(definition: str, *names: str) -> str:
        container = {"command": ["true"], **({"name": names[0]} if names else {})}
        override = {"taskProperties": [{"containers": [container]}]}
        return yard.submit(jobDefinition=definition, ecsPropertiesOverride=override)

    for right in (("named", "main"), ("named",), ("unnamed", "default"), ("unnamed",), ("d", "default")):
        assert submit(*right)
    for wrong in (("named", "default"), ("named", "sidecar"), ("unnamed", "main"), ("d", "main")):
        assert f"Container override '{wrong[1]}' should match a container" in error_of(partial(submit, *wrong))[1]


def test_definitions_are_listed_newest_first(batch: Any) -> None:
    for name in "bab":
        batch.register_job_definition(**definition(name))
    listed = [
        (each["jobDefinitionName"], each["revision"]) for each in batch.describe_job_definitions()["jobDefinitions"]
    ]
    assert listed == [("a", 1), ("b", 2), ("b", 1)]


def test_revisions_count_on_and_are_found_by_name_and_status(batch: Any) -> None:
    for _ in range(3):
        batch.register_job_definition(**definition("d"))
    batch.register_job_definition(**definition("other"))
    batch.deregister_job_definition(jobDefinition="d:3")
    batch.deregister_job_definition(jobDefinition=f"{ARN}job-definition/d:1")

    def found(**asked: Any) -> list[tuple[str, int]]:
        listed = batch.describe_job_definitions(**asked)["jobDefinitions"]
        return sorted((each["jobDefinitionName"], each["revision"]) for each in listed)

    assert found(status="ACTIVE") == [("d", 2), ("other", 1)]
    assert found(status="INACTIVE") == [("d", 1), ("d", 3)]
    assert found(jobDefinitionName="d", status="INACTIVE") == [("d", 1), ("d", 3)]
    assert found(jobDefinitions=["d:3", "d:4", "nobody:1"]) == [("d", 3)]
    assert batch.register_job_definition(**definition("d"))["revision"] == 4


# Tags -----------------------------------------------------------------------------


def test_all_kinds_of_resources_are_tagged(yard: Yard) -> None:
    job = f"{ARN}job/{yard.submit()}"
    for arn in (job, f"{ARN}job-queue/q", f"{ARN}job-definition/d:1", f"{ARN}compute-environment/ce"):
        assert yard.batch.list_tags_for_resource(resourceArn=arn)["tags"] == {}
        yard.batch.tag_resource(resourceArn=arn, tags={"a": "1", "b c/=": "2"})
        yard.batch.tag_resource(resourceArn=arn, tags={"a": "3", "d": ""})
        assert yard.batch.list_tags_for_resource(resourceArn=arn)["tags"] == {"a": "3", "b c/=": "2", "d": ""}
        yard.batch.untag_resource(resourceArn=arn, tagKeys=["b c/=", "d", "nothing"])
        assert yard.batch.list_tags_for_resource(resourceArn=arn)["tags"] == {"a": "3"}
    (found,) = yard.batch.describe_job_queues()["jobQueues"]
    assert found["tags"] == {"a": "3"}
