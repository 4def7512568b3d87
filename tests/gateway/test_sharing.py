"""Scheduling policies, consumable resources and caps through boto3, seen to work over a real controller."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from batchyard.v1 import scheduling_policy_pb2 as sp

from .endpoint import ARN, Yard, definition, error_of, plain, queue

POLICY = f"{ARN}scheduling-policy/fair"
LICENCE = f"{ARN}consumable-resource/licence"
FAIRSHARE = {
    "shareDecaySeconds": 3600,
    "computeReservation": 10,
    "shareDistribution": [{"shareIdentifier": "A1", "weightFactor": 0.5}, {"shareIdentifier": "B*", "weightFactor": 2}],
}


def refused(call: Any, **members: Any) -> str:
    """Return the text of a ClientException, the inner one of a long one."""
    code, text, status = error_of(lambda: call(**members))
    assert (code, status) == ("ClientException", 400)
    return text.removeprefix("Error executing request, Exception : ").removesuffix(", RequestId: <id>")


# Scheduling policies ----------------------------------------------------------------


def test_a_policy_is_read_back_as_it_was_given(batch: Any) -> None:
    made = batch.create_scheduling_policy(name="fair", fairsharePolicy=FAIRSHARE, tags={"a": "b"})
    assert plain(made) == {"name": "fair", "arn": POLICY}
    (found,) = batch.describe_scheduling_policies(arns=[POLICY, f"{ARN}scheduling-policy/nobody"])["schedulingPolicies"]
    assert found == {"name": "fair", "arn": POLICY, "fairsharePolicy": FAIRSHARE, "tags": {"a": "b"}}
    assert batch.describe_scheduling_policies(arns=[])["schedulingPolicies"] == []
    batch.create_scheduling_policy(name="plain")
    pages = batch.get_paginator("list_scheduling_policies").paginate(PaginationConfig={"PageSize": 1})
    listed = [each for page in pages for each in page["schedulingPolicies"]]
    assert listed == [{"arn": POLICY}, {"arn": f"{ARN}scheduling-policy/plain"}]
    (found,) = batch.describe_scheduling_policies(arns=["plain"])["schedulingPolicies"]
    least = {"shareDecaySeconds": 0, "computeReservation": 0, "shareDistribution": []}
    assert found["fairsharePolicy"] == least


def test_a_policy_is_changed_as_a_whole_and_keeps_caps_of_the_native_side(yard: Yard) -> None:
    batch = yard.batch
    weights = [sp.ShareWeight(share_identifier=name, max_running=3, max_vcpus=4) for name in ("A1", "C")]
    fairshare = sp.FairsharePolicy(share_distribution=weights)
    yard.endpoint.run(yard.endpoint.client.create_scheduling_policy("fair", fairshare=fairshare))
    assert plain(batch.update_scheduling_policy(arn=POLICY, fairsharePolicy=FAIRSHARE)) == {}
    (found,) = batch.describe_scheduling_policies(arns=[POLICY])["schedulingPolicies"]
    assert found["fairsharePolicy"] == FAIRSHARE
    (native,) = yard.endpoint.run(yard.endpoint.client.describe_scheduling_policies(["fair"]))
    caps = {w.share_identifier: (w.max_running, w.max_vcpus) for w in native.fairshare.share_distribution}
    assert caps == {"A1": (3, 4), "B*": (0, 0)}
    batch.update_scheduling_policy(arn=POLICY)
    assert batch.describe_scheduling_policies(arns=[POLICY])["schedulingPolicies"] == [found]


def test_a_policy_is_attached_to_a_queue_for_ever(yard: Yard) -> None:
    batch = yard.batch
    for name in ("fair", "other"):
        batch.create_scheduling_policy(name=name, fairsharePolicy=FAIRSHARE)
    batch.create_job_queue(**queue("shared", schedulingPolicyArn=POLICY))
    (found,) = batch.describe_job_queues(jobQueues=["shared"])["jobQueues"]
    assert found["schedulingPolicyArn"] == POLICY
    assert "schedulingPolicyArn" not in batch.describe_job_queues(jobQueues=["q"])["jobQueues"][0]
    batch.update_job_queue(jobQueue="shared", schedulingPolicyArn=f"{ARN}scheduling-policy/other", priority=5)
    (found,) = batch.describe_job_queues(jobQueues=["shared"])["jobQueues"]
    assert (found["schedulingPolicyArn"], found["priority"]) == (f"{ARN}scheduling-policy/other", 5)
    batch.delete_scheduling_policy(arn=POLICY)
    added = "A scheduling policy cannot be added to a job queue that was created without one."
    assert refused(batch.update_job_queue, jobQueue="q", schedulingPolicyArn="other") == added
    removed = refused(batch.update_job_queue, jobQueue="shared", schedulingPolicyArn="")
    assert removed == "The scheduling policy of a job queue can be replaced, but not removed."
    missing = refused(batch.update_job_queue, jobQueue="shared", schedulingPolicyArn=POLICY)
    assert missing == f"{POLICY} does not exist"
    assert refused(batch.create_job_queue, **queue("x", schedulingPolicyArn=POLICY)) == f"{POLICY} does not exist"
    in_use = refused(batch.delete_scheduling_policy, arn="other")
    assert in_use == "scheduling policy other is used by job queues: shared"


def test_jobs_of_a_shared_queue_name_their_share_and_a_priority(yard: Yard) -> None:
    batch = yard.batch
    batch.create_scheduling_policy(name="fair", fairsharePolicy=FAIRSHARE)
    batch.create_job_queue(**queue("shared", schedulingPolicyArn=POLICY))
    batch.register_job_definition(**definition("ranked", schedulingPriority=3))
    submit = partial(batch.submit_job, jobName="j", jobQueue="shared")
    no_priority = "Either schedulingPriority in job definition or schedulingPriorityOverride is required."
    assert refused(submit, jobDefinition="d", shareIdentifier="A1") == no_priority
    no_share = "shareIdentifier: is required, as JobQueue shared has a scheduling policy"
    assert refused(submit, jobDefinition="ranked") == no_share
    ranked = submit(jobDefinition="ranked", shareIdentifier="A1")["jobId"]
    urgent = submit(jobDefinition="d", shareIdentifier="B7", schedulingPriorityOverride=9)["jobId"]
    assert [yard.job(job)["schedulingPriority"] for job in (ranked, urgent)] == [3, 9]
    for name, share, found in (("RUNNABLE", "B7", [urgent]), ("RUNNING", "B7", []), ("RUNNABLE", "A1", [ranked])):
        filters = [{"name": "SHARE_IDENTIFIER", "values": [share]}]
        listed = batch.list_jobs(jobQueue="shared", jobStatus=name, filters=filters)["jobSummaryList"]
        assert [each["jobId"] for each in listed] == found
        assert all(each["shareIdentifier"] == share for each in listed)


def test_a_snapshot_of_a_queue_has_its_front_and_its_shares(yard: Yard) -> None:
    """Children of an array stand there one by one, as jobs that can be described."""
    batch = yard.batch
    assert set(plain(batch.get_job_queue_snapshot(jobQueue="q"))) == {"frontOfQueue", "queueUtilization"}
    yard.endpoint.agent()
    batch.create_scheduling_policy(name="fair", fairsharePolicy=FAIRSHARE)
    batch.create_job_queue(**queue("shared", schedulingPolicyArn=POLICY))
    batch.register_job_definition(**definition("ranked", schedulingPriority=3))
    submit = partial(batch.submit_job, jobName="j", jobQueue="shared", jobDefinition="ranked")
    large = {"resourceRequirements": [{"type": "VCPU", "value": "3"}]}
    for _ in range(2):
        runs = submit(shareIdentifier="A1", containerOverrides=large)["jobId"]
    array = submit(shareIdentifier="B7", containerOverrides=large, arrayProperties={"size": 2})["jobId"]
    found = plain(batch.get_job_queue_snapshot(jobQueue=f"{ARN}job-queue/shared"))
    front = found["frontOfQueue"]
    arns = [each["jobArn"] for each in front["jobs"]]
    assert sorted(arns) == sorted([f"{ARN}job/{array}:0", f"{ARN}job/{array}:1", f"{ARN}job/{runs}"])
    assert {each["earliestTimeAtPosition"] for each in front["jobs"]} == {front["lastUpdatedAt"]}
    described = batch.describe_jobs(jobs=arns)["jobs"]
    assert {each["status"] for each in described} == {"RUNNABLE"}
    vcpus = [{"capacityUnit": "VCPU", "quantity": 3.0}]
    assert found["queueUtilization"] == {
        "totalCapacityUsage": vcpus,
        "fairshareUtilization": {
            "activeShareCount": 1,
            "topCapacityUtilization": [{"shareIdentifier": "A1", "capacityUsage": vcpus}],
        },
        "lastUpdatedAt": front["lastUpdatedAt"],
    }
    missing = refused(batch.get_job_queue_snapshot, jobQueue="nobody")
    assert missing == f"{ARN}job-queue/nobody does not exist"


BAD_POLICIES: dict[str, tuple[dict[str, Any], str]] = {
    "name": ({"name": "a b"}, "Scheduling policy name should match valid pattern"),
    "exists": ({"name": "fair"}, "Object already exists"),
    "both": (
        {"quotaSharePolicy": {"idleResourceAssignmentStrategy": "FIFO"}, "fairsharePolicy": FAIRSHARE},
        "Only one of fairsharePolicy or quotaSharePolicy can be set.",
    ),
    "decay": (
        {"fairsharePolicy": {"shareDecaySeconds": 604801}},
        "shareDecaySeconds must be between 0 and 604800, not 604801",
    ),
    "reservation": (
        {"fairsharePolicy": {"computeReservation": 100}},
        "computeReservation must be between 0 and 99, not 100",
    ),
    "weight": (
        {"fairsharePolicy": {"shareDistribution": [{"shareIdentifier": "A", "weightFactor": 0}]}},
        "weightFactor must be between 0.0001 and 999.9999, not 0.0",
    ),
    "overlap": (
        {"fairsharePolicy": {"shareDistribution": [{"shareIdentifier": "UserA*"}, {"shareIdentifier": "UserA1"}]}},
        "fairsharePolicy.shareDistribution: 'UserA*' and 'UserA1' overlap",
    ),
    "characters": (
        {"fairsharePolicy": {"shareDistribution": [{"shareIdentifier": "a-b"}]}},
        (
            "fairsharePolicy.shareDistribution[0].shareIdentifier: 'a-b' may hold only letters and digits, and a '*' "
            "at its end"
        ),
    ),
}


@pytest.mark.parametrize("name", BAD_POLICIES)
def test_a_bad_policy_is_refused(batch: Any, name: str) -> None:
    batch.create_scheduling_policy(name="fair")
    members, text = BAD_POLICIES[name]
    assert refused(batch.create_scheduling_policy, **({"name": "p"} | members)) == text
    if "name" not in members:
        assert refused(batch.update_scheduling_policy, arn=POLICY, **members) == text


def test_policies_that_are_not_there_are_refused(batch: Any) -> None:
    for call in (batch.update_scheduling_policy, batch.delete_scheduling_policy):
        assert refused(call, arn=POLICY) == f"{POLICY} does not exist"
    assert refused(batch.delete_scheduling_policy, arn=f"{ARN}job-queue/q") == (
        f"{ARN}job-queue/q is not the ARN of a scheduling policy"
    )
    many = refused(batch.describe_scheduling_policies, arns=[POLICY] * 101)
    assert many == "Maximum number of scheduling policies supported is 100"


# Consumable resources ---------------------------------------------------------------


def test_a_consumable_is_made_changed_and_deleted(batch: Any) -> None:
    made = batch.create_consumable_resource(consumableResourceName="licence", totalQuantity=4, tags={"a": "b"})
    assert plain(made) == {"consumableResourceName": "licence", "consumableResourceArn": LICENCE}
    found = plain(batch.describe_consumable_resource(consumableResource=LICENCE))
    assert found.pop("createdAt") > 0
    assert found == {
        **plain(made),
        "totalQuantity": 4,
        "inUseQuantity": 0,
        "availableQuantity": 4,
        "resourceType": "REPLENISHABLE",
        "tags": {"a": "b"},
    }
    change = partial(batch.update_consumable_resource, consumableResource="licence")
    assert plain(change(operation="SET", quantity=7)) == {**plain(made), "totalQuantity": 7}
    for _ in range(2):
        assert change(operation="ADD", quantity=1, clientToken="once")["totalQuantity"] == 8
    assert change(operation="REMOVE", quantity=3)["totalQuantity"] == 5
    batch.delete_consumable_resource(consumableResource=LICENCE)
    describe = partial(batch.describe_consumable_resource, consumableResource="licence")
    assert refused(describe) == f"{LICENCE} does not exist"


def test_consumables_are_listed_by_name(batch: Any) -> None:
    for name in ("licence-a", "Licence-b", "token"):
        batch.create_consumable_resource(consumableResourceName=name, totalQuantity=2, resourceType="NON_REPLENISHABLE")
    pages = batch.get_paginator("list_consumable_resources").paginate(PaginationConfig={"PageSize": 1})
    listed = [each for page in pages for each in page["consumableResources"]]
    assert [each["consumableResourceName"] for each in listed] == ["Licence-b", "licence-a", "token"]
    assert listed[2] == {
        "consumableResourceArn": f"{ARN}consumable-resource/token",
        "consumableResourceName": "token",
        "totalQuantity": 2,
        "inUseQuantity": 0,
        "resourceType": "NON_REPLENISHABLE",
    }
    filters = [{"name": "CONSUMABLE_RESOURCE_NAME", "values": ["LICENCE*"]}]
    assert len(batch.list_consumable_resources(filters=filters)["consumableResources"]) == 2


def test_a_job_waits_for_a_consumable_and_goes_when_there_is_enough(yard: Yard) -> None:
    batch, agent = yard.batch, yard.endpoint.agent()
    batch.create_consumable_resource(consumableResourceName="licence", totalQuantity=2)
    needs = {"consumableResourceList": [{"consumableResource": LICENCE, "quantity": 2}]}
    batch.register_job_definition(**definition("licensed", consumableResourceProperties=needs))
    shown = {"consumableResourceList": [{"consumableResource": "licence", "quantity": 2}]}
    (found,) = batch.describe_job_definitions(jobDefinitions=["licensed:1"])["jobDefinitions"]
    assert found["consumableResourceProperties"] == shown
    first = yard.submit("first", jobDefinition="licensed")
    (spec,) = yard.endpoint.run(agent.hear_starts())
    assert batch.describe_consumable_resource(consumableResource="licence")["inUseQuantity"] == 2
    one = {"consumableResourceList": [{"consumableResource": "licence", "quantity": 1}]}
    second = yard.submit("second", jobDefinition="licensed", consumableResourcePropertiesOverride=one)
    job = yard.job(second)
    assert job["consumableResourceProperties"] == one
    assert job["statusReason"] == (
        "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - 1 of consumable resource licence asked, 0 free of 2"
    )
    yard.endpoint.run(agent.finish(spec.attempt_id, 0))
    (spec,) = yard.endpoint.run(agent.hear_starts())
    assert spec.attempt_id.startswith(second)
    listed = batch.list_jobs_by_consumable_resource(consumableResource=LICENCE)["jobs"]
    assert [(each["jobName"], each["jobStatus"], each["quantity"]) for each in listed] == [
        ("second", "STARTING", 1),
        ("first", "SUCCEEDED", 2),
    ]
    assert listed[1]["jobArn"] == f"{ARN}job/{first}"
    assert listed[1]["jobQueueArn"] == f"{ARN}job-queue/q"
    assert listed[1]["jobDefinitionArn"] == f"{ARN}job-definition/licensed:1"
    assert listed[1]["consumableResourceProperties"] == shown
    for name, values, found in (
        ("JOB_STATUS", ["SUCCEEDED", "FAILED"], ["first"]),
        ("JOB_NAME", ["SEC*"], ["second"]),
        ("JOB_NAME", ["s"], []),
    ):
        answer = batch.list_jobs_by_consumable_resource(
            consumableResource="licence", filters=[{"name": name, "values": values}]
        )
        assert [each["jobName"] for each in answer["jobs"]] == found
    in_use = refused(batch.delete_consumable_resource, consumableResource="licence")
    assert in_use == f"consumable resource licence is asked for by job {second}, which has not ended"


BAD_NEEDS: dict[str, tuple[list[dict[str, Any]], str]] = {
    "no name": ([{"quantity": 1}], "consumableResourceList: consumableResource is required"),
    "no quantity": (
        [{"consumableResource": "licence"}],
        "consumableResourceList: quantity must be at least 1, not 0",
    ),
    "twice": (
        [{"consumableResource": "licence", "quantity": 1}, {"consumableResource": LICENCE, "quantity": 2}],
        "consumableResourceList: licence is named 2 times",
    ),
    "six": (
        [{"consumableResource": f"c{i}", "quantity": 1} for i in range(6)],
        "consumableResourceList must have at most 5 entries, not 6",
    ),
    "another's ARN": (
        [{"consumableResource": f"{ARN}job-queue/q", "quantity": 1}],
        f"{ARN}job-queue/q is not the ARN of a consumable resource",
    ),
}


@pytest.mark.parametrize("name", BAD_NEEDS)
def test_bad_needs_are_refused(yard: Yard, name: str) -> None:
    given, text = {"consumableResourceList": BAD_NEEDS[name][0]}, BAD_NEEDS[name][1]
    register = yard.batch.register_job_definition
    assert refused(register, **definition("x", consumableResourceProperties=given)) == text
    assert refused(yard.submit, consumableResourcePropertiesOverride=given) == text


def test_a_job_that_asks_for_what_is_not_there_is_refused(yard: Yard) -> None:
    given = {"consumableResourceList": [{"consumableResource": "licence", "quantity": 1}]}
    assert refused(yard.submit, consumableResourcePropertiesOverride=given) == f"{LICENCE} does not exist"


BAD_CONSUMABLES: dict[str, tuple[str, dict[str, Any], str]] = {
    "name": (
        "create_consumable_resource",
        {"consumableResourceName": "a b"},
        "Consumable resource name should match valid pattern",
    ),
    "exists": ("create_consumable_resource", {"consumableResourceName": "licence"}, "Object already exists"),
    "type": (
        "create_consumable_resource",
        {"consumableResourceName": "c", "resourceType": "LEASED"},
        "resourceType 'LEASED' is not one of REPLENISHABLE, NON_REPLENISHABLE",
    ),
    "total": (
        "create_consumable_resource",
        {"consumableResourceName": "c", "totalQuantity": -1},
        "totalQuantity must be 0 or greater, not -1",
    ),
    "no operation": ("update_consumable_resource", {"quantity": 1}, "operation is required"),
    "no quantity": ("update_consumable_resource", {"operation": "ADD"}, "quantity is required"),
    "operation": (
        "update_consumable_resource",
        {"operation": "DOUBLE", "quantity": 1},
        "operation 'DOUBLE' is not one of SET, ADD, REMOVE",
    ),
    "quantity": (
        "update_consumable_resource",
        {"operation": "ADD", "quantity": -1},
        "quantity must be 0 or greater, not -1",
    ),
    "less than nothing": (
        "update_consumable_resource",
        {"operation": "REMOVE", "quantity": 9},
        "quantity: REMOVE 9 would make the total -8, which is not between 0 and 9007199254740992",
    ),
    "filter": (
        "list_consumable_resources",
        {"filters": [{"name": "NAME", "values": ["x"]}]},
        "Filter 'NAME' is not one of CONSUMABLE_RESOURCE_NAME",
    ),
    "filter twice": (
        "list_consumable_resources",
        {"filters": [{"name": "CONSUMABLE_RESOURCE_NAME", "values": ["x"]}] * 2},
        "Filter CONSUMABLE_RESOURCE_NAME must be given once, with values",
    ),
    "two names": (
        "list_consumable_resources",
        {"filters": [{"name": "CONSUMABLE_RESOURCE_NAME", "values": ["x", "y"]}]},
        "Filter CONSUMABLE_RESOURCE_NAME must have exactly one value, not 2",
    ),
    "status": (
        "list_jobs_by_consumable_resource",
        {"filters": [{"name": "JOB_STATUS", "values": ["LATE"]}]},
        ("Filter JOB_STATUS 'LATE' is not one of SUBMITTED, PENDING, RUNNABLE, STARTING, RUNNING, SUCCEEDED, FAILED"),
    ),
    "page": ("list_consumable_resources", {"maxResults": 101}, "maxResults must be between 1 and 100, not 101"),
    "no such": ("list_jobs_by_consumable_resource", {"consumableResource": "nobody"}, "nobody does not exist"),
    "none to change": (
        "update_consumable_resource",
        {"consumableResource": "nobody", "operation": "ADD", "quantity": 1},
        "nobody does not exist",
    ),
    "none to delete": ("delete_consumable_resource", {"consumableResource": "nobody"}, "nobody does not exist"),
}


@pytest.mark.parametrize("name", BAD_CONSUMABLES)
def test_bad_requests_about_consumables_are_refused(batch: Any, name: str) -> None:
    batch.create_consumable_resource(consumableResourceName="licence", totalQuantity=1)
    operation, members, text = BAD_CONSUMABLES[name]
    if operation not in ("create_consumable_resource", "list_consumable_resources"):
        members = {"consumableResource": "licence"} | members
    told = refused(getattr(batch, operation), **members)
    assert told.replace(f"{ARN}consumable-resource/", "") == text


def test_what_jobs_share_is_tagged_too(batch: Any) -> None:
    batch.create_scheduling_policy(name="fair")
    batch.create_consumable_resource(consumableResourceName="licence")
    for arn in (POLICY, LICENCE):
        batch.tag_resource(resourceArn=arn, tags={"a": "1", "b": "2"})
        batch.untag_resource(resourceArn=arn, tagKeys=["a"])
        assert batch.list_tags_for_resource(resourceArn=arn)["tags"] == {"b": "2"}
