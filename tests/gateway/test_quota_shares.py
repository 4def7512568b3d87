"""Quota shares through boto3, seen to work over a real controller."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from .endpoint import ARN, Yard, definition, error_of, plain, queue

POLICY = f"{ARN}scheduling-policy/quota"
OWN, GUEST = f"{ARN}quota-share/shared/own", f"{ARN}quota-share/shared/guest-1"
FIFO = {"idleResourceAssignmentStrategy": "FIFO"}


def share(name: str, strategy: str = "LEND", vcpus: int = 2, **members: Any) -> dict[str, Any]:
    return {
        "quotaShareName": name,
        "jobQueue": "shared",
        "capacityLimits": [{"maxCapacity": vcpus, "capacityUnit": "VCPU"}],
        "resourceSharingConfiguration": {"strategy": strategy},
        "preemptionConfiguration": {"inSharePreemption": "DISABLED"},
    } | members


def refused(call: Any, **members: Any) -> str:
    """Return the text of a ClientException, the inner one of a long one."""
    code, text, status = error_of(lambda: call(**members))
    assert (code, status) == ("ClientException", 400)
    return text.removeprefix("Error executing request, Exception : ").removesuffix(", RequestId: <id>")


@pytest.fixture
def shared(yard: Yard) -> Yard:
    """Return a yard with a queue of two quota shares: one lends, the other borrows."""
    made = yard.batch.create_scheduling_policy(name="quota", quotaSharePolicy=FIFO, tags={"a": "b"})
    assert plain(made) == {"name": "quota", "arn": POLICY}
    yard.batch.create_job_queue(**queue("shared", schedulingPolicyArn=POLICY))
    yard.batch.create_quota_share(**share("own"))
    yard.batch.create_quota_share(**share("guest-1", "LEND_AND_BORROW", vcpus=1, tags={"team": "x"}))
    yard.batch.register_job_definition(**definition("ranked", schedulingPriority=3))
    return yard


def test_a_policy_of_quota_shares_keeps_its_kind(shared: Yard) -> None:
    batch = shared.batch
    (found,) = batch.describe_scheduling_policies(arns=[POLICY])["schedulingPolicies"]
    assert found == {"name": "quota", "arn": POLICY, "quotaSharePolicy": FIFO, "tags": {"a": "b"}}
    assert plain(batch.update_scheduling_policy(arn=POLICY, quotaSharePolicy=FIFO)) == {}
    text = "fairsharePolicy: scheduling policy quota was made with quota_share; its kind never changes"
    assert refused(batch.update_scheduling_policy, arn=POLICY, fairsharePolicy={"shareDecaySeconds": 60}) == text


def test_a_share_is_read_back_as_it_was_given_changed_and_deleted(shared: Yard) -> None:
    batch = shared.batch
    made = plain(batch.create_quota_share(**share("third", "RESERVE", state="DISABLED")))
    third = f"{ARN}quota-share/shared/third"
    assert made == {"quotaShareName": "third", "quotaShareArn": third}
    found = plain(batch.describe_quota_share(quotaShareArn=GUEST))
    assert found == {
        "quotaShareName": "guest-1",
        "quotaShareArn": GUEST,
        "jobQueueArn": f"{ARN}job-queue/shared",
        "capacityLimits": [{"maxCapacity": 1, "capacityUnit": "VCPU"}],
        "resourceSharingConfiguration": {"strategy": "LEND_AND_BORROW", "borrowLimit": -1},
        "preemptionConfiguration": {"inSharePreemption": "DISABLED"},
        "state": "ENABLED",
        "status": "VALID",
        "tags": {"team": "x"},
    }
    pages = batch.get_paginator("list_quota_shares").paginate(jobQueue="shared", PaginationConfig={"PageSize": 2})
    listed = [each for page in pages for each in page["quotaShares"]]
    assert [each["quotaShareName"] for each in listed] == ["guest-1", "own", "third"]
    assert listed[0] == {name: value for name, value in found.items() if name != "tags"}
    assert listed[2]["resourceSharingConfiguration"] == {"strategy": "RESERVE"}
    borrows = {"strategy": "LEND_AND_BORROW", "borrowLimit": 50}
    limits = [{"maxCapacity": 2, "capacityUnit": "GPU"}, {"maxCapacity": 100, "capacityUnit": "MEMORY_MIB"}]
    enabled = {"inSharePreemption": "ENABLED"}
    update = partial(batch.update_quota_share, quotaShareArn=third)
    changes = {
        "resourceSharingConfiguration": borrows,
        "capacityLimits": limits,
        "preemptionConfiguration": enabled,
        "state": "ENABLED",
    }
    assert plain(update(**changes)) == made
    found = batch.describe_quota_share(quotaShareArn=third)
    assert {name: found[name] for name in changes} == changes
    assert plain(update(resourceSharingConfiguration={"strategy": "LEND_AND_BORROW"})) == made
    found = batch.describe_quota_share(quotaShareArn=third)
    assert found["resourceSharingConfiguration"]["borrowLimit"] == -1
    still = "Cannot delete, resource must be in the DISABLED state"
    assert refused(batch.delete_quota_share, quotaShareArn=third) == still
    update(state="DISABLED")
    assert plain(batch.delete_quota_share(quotaShareArn=third)) == {}
    missing = "quota share third of job queue shared not found"
    assert refused(batch.describe_quota_share, quotaShareArn=third) == missing
    batch.tag_resource(resourceArn=OWN, tags={"k": "v"})
    assert batch.list_tags_for_resource(resourceArn=OWN)["tags"] == {"k": "v"}


BAD_SHARES: dict[str, tuple[dict[str, Any], str]] = {
    "name": ({"quotaShareName": "a b"}, "Quota share name should match valid pattern"),
    "exists": ({"quotaShareName": "own"}, "Object already exists"),
    "no queue": ({"jobQueue": "nobody"}, "JobQueue 'nobody' not found."),
    "no shares": ({"jobQueue": "q"}, "job queue q has no scheduling policy with quota shares"),
    "6 limits": (
        {"capacityLimits": [{"maxCapacity": 1, "capacityUnit": f"u{i}"} for i in range(6)]},
        "capacityLimits: 6 capacity limits; 1 to 5 are allowed",
    ),
    "no limits": ({"capacityLimits": []}, "capacityLimits: 0 capacity limits; 1 to 5 are allowed"),
    "unknown unit": (
        {"capacityLimits": [{"maxCapacity": 1, "capacityUnit": "CPU"}]},
        "capacityLimits[0].capacityUnit: 'CPU' is none of VCPU, MEMORY_MIB, GPU, and no host type that is known here",
    ),
    "borrows and lends alone": (
        {"resourceSharingConfiguration": {"strategy": "LEND", "borrowLimit": 10}},
        "resourceSharingConfiguration.borrowLimit: is only for the strategy LEND_AND_BORROW, not LEND",
    ),
}


@pytest.mark.parametrize("what", BAD_SHARES)
def test_a_bad_share_is_refused(shared: Yard, what: str) -> None:
    members, text = BAD_SHARES[what]
    assert refused(shared.batch.create_quota_share, **(share("new") | members)) == text


def test_jobs_choose_their_share_and_give_back_what_they_borrowed(shared: Yard) -> None:
    """The snapshot tells who is first in each share and what it uses; the attempt's reason is AWS's."""
    batch = shared.batch
    shared.endpoint.agent()
    submit = partial(batch.submit_job, jobName="j", jobQueue="shared", jobDefinition="ranked")
    missing = "quota share 'nobody' of job queue 'shared' not found"
    assert refused(submit, shareIdentifier="nobody") == missing
    assert "shareIdentifier: is required" in refused(submit)
    guests = [submit(shareIdentifier="guest-1")["jobId"] for _ in range(4)]
    states = [shared.job(job)["status"] for job in guests]
    assert states == ["STARTING"] * 3 + ["RUNNABLE"], "3 vCPUs are all that both have"
    told = "1 VCPU asked, quota share guest-1 of queue shared uses 3 of its limit of 1, and other shares have 0 idle to lend"
    assert shared.job(guests[3])["statusReason"] == told
    owner = submit(shareIdentifier="own")["jobId"]
    found = plain(batch.get_job_queue_snapshot(jobQueue="shared"))
    firsts = found["frontOfQuotaShares"]["quotaShares"]
    assert {name: [each["jobArn"] for each in jobs] for name, jobs in firsts.items()} == {
        "guest-1": [f"{ARN}job/{guests[3]}"],
        "own": [f"{ARN}job/{owner}"],
    }
    used = found["queueUtilization"]["quotaShareUtilization"]["topCapacityUtilization"]
    assert {each["quotaShareName"]: each["capacityUsage"] for each in used} == {
        "guest-1": [{"capacityUnit": "VCPU", "quantity": 3.0}],
        "own": [{"capacityUnit": "VCPU", "quantity": 0.0}],
    }
    assert "fairshareUtilization" not in found["queueUtilization"]
