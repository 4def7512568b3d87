"""Jobs through AWS's API: submitted, listed, described, stopped."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.services.hand_agent import ended, running

from batchyard.v1 import attempt_pb2

from .endpoint import ARN, Endpoint, Yard, definition, environment, plain, queue

VALIDATION = "ValidationException"
STATUSES = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED")


def test_an_empty_map_of_tags_is_none_for_what_is_new(yard: Yard) -> None:
    """The model asks for one at least; AWS takes none, and Airflow sends none with every job."""
    assert yard.job(yard.submit(tags={}))["tags"] == {}
    yard.batch.create_compute_environment(**environment("bare"), tags={})
    yard.batch.create_job_queue(**queue("bare"), tags={})
    yard.batch.register_job_definition(**definition("bare"), tags={})


def test_a_job_that_waits_has_no_times_and_says_why(yard: Yard) -> None:
    yard.submit("head", timeout={"attemptDurationSeconds": 60})
    job = yard.job(yard.submit(tags={"a": "b"}, propagateTags=True, timeout={"attemptDurationSeconds": 61}))
    assert job["status"] == "RUNNABLE"
    assert job["jobArn"] == f"{ARN}job/{job['jobId']}"
    assert (job["jobQueue"], job["jobDefinition"]) == (f"{ARN}job-queue/q", f"{ARN}job-definition/d:1")
    assert "startedAt" not in job
    assert "stoppedAt" not in job
    assert (job["attempts"], job["dependsOn"], job["parameters"]) == ([], [], {})
    assert (job["isCancelled"], job["isTerminated"]) == (False, False)
    assert (job["tags"], job["propagateTags"]) == ({"a": "b"}, True)
    assert job["timeout"] == {"attemptDurationSeconds": 61}
    assert job["retryStrategy"] == {"attempts": 1, "evaluateOnExit": []}
    assert job["statusReason"].startswith("waits for a host")


def test_the_key_that_signed_is_who_submitted(yard: Yard) -> None:
    """AWS shows it nowhere; the SDK does."""
    job_id = yard.submit()
    assert yard.endpoint.run(yard.endpoint.client.describe_job(job_id)).submitted_by == "ANYBODY"


def test_attempts_are_told_with_their_places(yard: Yard) -> None:
    agent = yard.endpoint.agent()
    job_id = yard.submit(
        retryStrategy={"attempts": 2, "evaluateOnExit": [{"onExitCode": "1", "action": "RETRY"}]},
        parameters={"x": "y"},
        containerOverrides={
            "command": ["echo", "Ref::x"],
            "environment": [{"name": "E", "value": "F"}],
            "resourceRequirements": [{"type": "VCPU", "value": "2"}],
        },
    )
    (first,) = yard.endpoint.run(agent.hear_starts())
    assert list(first.container.command) == ["echo", "y"]
    assert yard.job(job_id)["status"] == "STARTING"
    yard.endpoint.run(agent.report(running(first.attempt_id)))
    yard.endpoint.run(agent.report(ended(first.attempt_id, 1, reason="told by the runtime")))
    assert yard.endpoint.run(agent.hear("ack"))
    (second,) = yard.endpoint.run(agent.hear_starts())
    yard.endpoint.run(agent.finish(second.attempt_id, 0))
    job = yard.job(job_id)
    assert (job["status"], job["startedAt"], job["stoppedAt"]) == ("SUCCEEDED", 1000, 2000)
    one, two = job["attempts"]
    assert (one["startedAt"], one["stoppedAt"]) == (1000, 2000)
    assert one["statusReason"] == "Essential container in task exited"
    assert (one["container"]["exitCode"], one["container"]["reason"]) == (1, "told by the runtime")
    for attempt, spec in ((one, first), (two, second)):
        container = attempt["container"]
        assert container["logStreamName"] == spec.log_stream_name
        assert container["taskArn"].endswith("/" + spec.log_stream_name.rpartition("/")[2])
        assert ":container-instance/" in container["containerInstanceArn"]
        assert container["networkInterfaces"] == []
    container = job["container"]
    assert {name: container[name] for name in two["container"]} == two["container"]
    assert container["command"] == ["echo", "y"]
    assert container["environment"] == [{"name": "E", "value": "F"}]
    assert {each["type"]: each["value"] for each in container["resourceRequirements"]} == {"VCPU": "2", "MEMORY": "128"}
    assert job["retryStrategy"]["evaluateOnExit"] == [{"onExitCode": "1", "action": "retry"}]


def test_what_attempts_have_used_is_told_in_a_member_of_our_own(yard: Yard) -> None:
    """AWS's SDKs pass it over; where nothing is known there is none."""
    agent = yard.endpoint.agent()
    used = attempt_pb2.Usage(peak_memory_kib=2048, user_cpu_ms=1_500)
    job_id = yard.submit(retryStrategy={"attempts": 2})
    for usage in (None, used):
        (spec,) = yard.endpoint.run(agent.hear_starts())
        yard.endpoint.run(agent.report(running(spec.attempt_id)))
        yard.endpoint.run(agent.report(ended(spec.attempt_id, 1, usage=usage)))
        assert yard.endpoint.run(agent.hear("ack"))
    (job,) = json.loads(yard.endpoint.post("DescribeJobs", {"jobs": [job_id]}).body)["jobs"]
    unknown, known = job["attempts"]
    assert "batchyardUsage" not in unknown
    assert known["batchyardUsage"] == {"peakMemoryKiB": 2048, "userCpuMilliseconds": 1_500, "wallMilliseconds": 1_000}


def test_a_running_attempt_is_not_yet_among_the_attempts(yard: Yard) -> None:
    agent = yard.endpoint.agent()
    job_id = yard.submit()
    (spec,) = yard.endpoint.run(agent.hear_starts())
    yard.endpoint.run(agent.report(running(spec.attempt_id)))
    yard.endpoint.run(agent.hear_nothing())
    job = yard.job(job_id)
    assert (job["status"], job["attempts"], job["startedAt"]) == ("RUNNING", [], 1000)
    assert job["container"]["logStreamName"] == spec.log_stream_name
    assert "stoppedAt" not in job


def test_an_array_tells_its_children(yard: Yard) -> None:
    parent_id = yard.submit(arrayProperties={"size": 3})
    parent, child = yard.batch.describe_jobs(jobs=[parent_id, f"{parent_id}:2"])["jobs"]
    array = parent["arrayProperties"]
    assert (array["size"], array["statusSummary"]["RUNNABLE"]) == (3, 3)
    assert sorted(array["statusSummary"]) == sorted(STATUSES)
    assert array["statusSummaryLastUpdatedAt"] >= parent["createdAt"]
    assert (parent["status"], child["status"]) == ("PENDING", "RUNNABLE")
    assert child["arrayProperties"] == {"index": 2}
    assert child["jobArn"] == f"{ARN}job/{parent_id}:2"
    listed = yard.batch.list_jobs(arrayJobId=parent_id, jobStatus="RUNNABLE")["jobSummaryList"]
    assert [each["jobId"] for each in listed] == [f"{parent_id}:{i}" for i in range(3)]
    assert yard.batch.list_jobs(arrayJobId=parent_id)["jobSummaryList"] == []


def test_dependencies_are_told_as_they_were_given(yard: Yard) -> None:
    first = yard.submit(arrayProperties={"size": 2})
    given = [{"jobId": first, "type": "N_TO_N"}, {"type": "SEQUENTIAL"}]
    job = yard.job(yard.submit(arrayProperties={"size": 2}, dependsOn=given))
    assert sorted(job["dependsOn"], key=str) == sorted(given, key=str)
    assert job["status"] == "PENDING"
    plain_job = yard.job(yard.submit(dependsOn=[{"jobId": f"{ARN}job/{first}"}]))
    assert plain_job["dependsOn"] == [{"jobId": first}]


@pytest.mark.parametrize("members", [{}, {"arrayProperties": {"size": 2}}], ids=["job", "array"])
def test_sequential_beside_a_job_id_is_a_plain_dependency(yard: Yard, members: dict[str, Any]) -> None:
    """AWS ParallelCluster sends this for plain jobs."""
    first = yard.submit()
    job = yard.job(yard.submit(dependsOn=[{"jobId": first, "type": "SEQUENTIAL"}], **members))
    assert (job["status"], job["dependsOn"]) == ("PENDING", [{"jobId": first}])


def test_a_list_tells_of_jobs_what_the_model_has(yard: Yard) -> None:
    """Whether someone stopped it is told only of a job that was stopped."""
    agent = yard.endpoint.agent()
    running_id = yard.submit()
    (spec,) = yard.endpoint.run(agent.hear_starts())
    yard.endpoint.run(agent.report(running(spec.attempt_id)))
    large = {"resourceRequirements": [{"type": "VCPU", "value": "4"}]}
    cancelled, terminated, array = (
        yard.submit(containerOverrides=large),
        yard.submit(containerOverrides=large),
        yard.submit(arrayProperties={"size": 2}, containerOverrides=large),
    )
    yard.batch.cancel_job(jobId=cancelled, reason="r")
    yard.batch.terminate_job(jobId=terminated, reason="r")

    def listed(**asked: Any) -> dict[str, Any]:
        return {each["jobId"]: each for each in yard.batch.list_jobs(**asked)["jobSummaryList"]}

    found = listed(jobQueue="q", filters=[{"name": "JOB_NAME", "values": ["*"]}])
    flags = {job_id: (each.get("isCancelled"), each.get("isTerminated")) for job_id, each in found.items()}
    assert flags == {
        running_id: (None, None),
        cancelled: (True, None),
        terminated: (None, True),
        array: (None, None),
    }
    assert found[running_id]["capacityUsage"] == [{"capacityUnit": "VCPU", "quantity": 1.0}]
    assert found[running_id]["createdAt"] <= found[running_id]["scheduledAt"]
    assert "scheduledAt" not in found[cancelled]
    assert "capacityUsage" not in found[array]
    children = listed(arrayJobId=array, jobStatus="RUNNABLE")
    assert [each["capacityUsage"][0]["quantity"] for each in children.values()] == [4.0, 4.0]


def test_a_job_of_the_native_side_is_described_too(endpoint: Endpoint, batch: Any) -> None:
    endpoint.run(endpoint.yard.furnish())
    job_id = endpoint.run(endpoint.yard.submit())
    (job,) = batch.describe_jobs(jobs=[job_id])["jobs"]
    assert (job["jobDefinition"], job["container"]["command"]) == ("", ["true"])


def test_unknown_jobs_are_left_out_and_stopped_with_success(yard: Yard) -> None:
    unknown = "01a20d74-b844-703e-9dba-bd4473ccbda3"
    assert yard.batch.describe_jobs(jobs=[unknown, f"{unknown}:1", f"{unknown}#0", "x"])["jobs"] == []
    for job_id in (unknown, f"{unknown}:1", f"{unknown}#0"):
        assert plain(yard.batch.cancel_job(jobId=job_id, reason="r")) == {}
        assert plain(yard.batch.terminate_job(jobId=job_id, reason="r")) == {}


def test_cancel_and_terminate_leave_their_reasons(yard: Yard) -> None:
    cancelled, terminated = yard.submit(), yard.submit()
    yard.batch.cancel_job(jobId=cancelled, reason="not now")
    yard.batch.terminate_job(jobId=terminated, reason="enough")
    one, two = yard.job(cancelled), yard.job(terminated)
    assert (one["status"], one["statusReason"], one["isCancelled"]) == ("FAILED", "not now", True)
    assert (two["status"], two["statusReason"], two["isTerminated"]) == ("FAILED", "enough", True)


def test_a_job_that_runs_is_terminated_and_not_cancelled(yard: Yard) -> None:
    agent = yard.endpoint.agent()
    job_id = yard.submit()
    (spec,) = yard.endpoint.run(agent.hear_starts())
    yard.endpoint.run(agent.report(running(spec.attempt_id)))
    yard.batch.cancel_job(jobId=job_id, reason="too late")
    assert yard.job(job_id)["status"] == "RUNNING"
    yard.batch.terminate_job(jobId=job_id, reason="enough")
    assert yard.endpoint.run(agent.hear("stop")).attempt_id == spec.attempt_id
    end = ended(spec.attempt_id, 143, cause=attempt_pb2.END_CAUSE_STOPPED)
    yard.endpoint.run(agent.report(end))
    assert yard.endpoint.run(agent.hear("ack"))
    job = yard.job(job_id)
    assert (job["status"], job["statusReason"], job["container"]["exitCode"]) == ("FAILED", "enough", 143)


@pytest.mark.parametrize("operation", ["cancel_jobs", "terminate_jobs"])
def test_many_jobs_are_stopped_at_once_each_with_its_result(yard: Yard, operation: str) -> None:
    known, unknown, array = (
        yard.submit(),
        "01a20d74-b844-703e-9dba-bd4473ccbda3",
        yard.submit(arrayProperties={"size": 2}),
    )
    arn = f"{ARN}job/{unknown}"
    wrong = ["x" * 65, "x", f"{array}:", f"{array}:one", known.upper(), f"{ARN}job-queue/q", "arn:x", ""]
    right = [known, unknown, f"{array}:1", f"{array}:2", f"{known}#0", arn]
    answer = getattr(yard.batch, operation)(jobs=[*wrong, *right], reason="r")
    assert answer["successful"] == right, "AWS: jobs that cannot be found are treated as successfully processed"
    assert [(error["job"], error["code"]) for error in answer["errors"]] == [(each, VALIDATION) for each in wrong]
    assert answer["errors"][1]["message"] == "x is not the id of a job"
    assert yard.job(known)["statusReason"] == "r"


def test_jobs_are_listed_by_status_filter_and_page(yard: Yard) -> None:
    batch = yard.batch
    ids = [yard.submit(name) for name in ("alpha", "Alpine", "beta")]
    batch.cancel_job(jobId=ids[2], reason="r")
    batch.register_job_definition(**definition("dd"))
    other = yard.submit("alpha", jobDefinition="dd:1")

    def listed(**asked: Any) -> list[str]:
        pages = batch.get_paginator("list_jobs").paginate(jobQueue="q", PaginationConfig={"PageSize": 1}, **asked)
        return [each["jobId"] for page in pages for each in page["jobSummaryList"]]

    def by(name: str, value: str, **asked: Any) -> list[str]:
        return listed(filters=[{"name": name, "values": [value]}], **asked)

    assert listed() == []
    assert listed(jobStatus="RUNNABLE") == [other, ids[1], ids[0]]
    assert listed(jobStatus="FAILED") == [ids[2]]
    assert by("JOB_NAME", "ALPHA") == [other, ids[0]]
    assert by("JOB_NAME", "al*", jobStatus="FAILED") == [other, ids[1], ids[0]]
    assert by("JOB_NAME", "beta") == [ids[2]]
    assert by("JOB_DEFINITION", "d") == [ids[2], ids[1], ids[0]]
    assert by("JOB_DEFINITION", "d*") == [other, ids[2], ids[1], ids[0]]
    assert by("JOB_DEFINITION", f"{ARN}job-definition/dd:1") == [other]
    created = yard.job(other)["createdAt"]
    assert other not in by("BEFORE_CREATED_AT", str(created))
    assert by("AFTER_CREATED_AT", str(created)) == []
    assert len(by("BEFORE_CREATED_AT", str(created + 1))) == 4
    (summary,) = batch.list_jobs(jobQueue=f"{ARN}job-queue/q", jobStatus="FAILED")["jobSummaryList"]
    assert (summary["jobName"], summary["statusReason"], summary["jobArn"]) == ("beta", "r", f"{ARN}job/{ids[2]}")


def test_the_tries_of_one_call_submit_one_job(yard: Yard) -> None:
    """Botocore sends the same invocation id with each try; another call has another."""
    body = {"jobName": "once", "jobQueue": "q", "jobDefinition": "d"}

    def send(invocation: str, name: str = "once") -> str:
        headers = {"amz-sdk-invocation-id": invocation, "amz-sdk-request": "attempt=2"}
        reply = yard.endpoint.send("POST", "/v1/submitjob", json.dumps(body | {"jobName": name}).encode(), headers)
        return str(reply.json()["jobId"])

    assert send("a") == send("a")
    assert len({send("a"), send("b"), send("a", "other"), send(""), send("")}) == 5
