"""Multi-node parallel jobs through AWS's API (aws-batch-2, 1): definitions, overrides, reading, stopping."""

from __future__ import annotations

from typing import Any

import pytest
from tests.services.hand_agent import HandAgent, ended, running

from batchyard.v1 import agent_pb2

from .endpoint import ARN, REQUIREMENTS, Yard, error_of, plain

CONTAINER = {"image": "busybox", "command": ["train"], "resourceRequirements": REQUIREMENTS}


Members = dict[str, Any]


def multinode(name: str = "mnp", count: int = 2, main: int = 0, ranges: Members | None = None) -> dict[str, Any]:
    """Return a right registration; of ranges by their text, by default one of all nodes."""
    found = [{"targetNodes": target, "container": container} for target, container in (ranges or {}).items()]
    return {
        "jobDefinitionName": name,
        "type": "multinode",
        "nodeProperties": {
            "numNodes": count,
            "mainNode": main,
            "nodeRangeProperties": found or [{"targetNodes": "0:", "container": CONTAINER}],
        },
    }


def submit(yard: Yard, definition: str = "mnp", **members: Any) -> str:
    return yard.submit(jobDefinition=definition, **members)


def start(yard: Yard, agent: HandAgent, count: int = 2) -> list[agent_pb2.AttemptSpec]:
    """Let all nodes of a job run; the main node's is the first that the host is told of."""
    (main,) = yard.endpoint.run(agent.hear_starts())
    yard.endpoint.run(agent.report(running(main.attempt_id)))
    others = yard.endpoint.run(agent.hear_starts(count - 1)) if count > 1 else []
    yard.endpoint.run(agent.report(*(running(each.attempt_id) for each in others)))
    return [main, *others]


def test_a_definition_is_read_back_as_it_was_given(yard: Yard) -> None:
    """Ranges in each other, one of ecsProperties, and what the contract has no word for."""
    given = multinode(count=4, main=1)
    given["nodeProperties"]["nodeRangeProperties"] = [
        {"targetNodes": ":", "container": {**CONTAINER, "instanceType": "p4d.24xlarge", "privileged": False}},
        {"targetNodes": "2:3", "container": {**CONTAINER, "command": ["other"]}, "instanceTypes": ["p4d.24xlarge"]},
        {"targetNodes": "3", "ecsProperties": {"taskProperties": [{"containers": [CONTAINER]}]}},
    ]
    yard.batch.register_job_definition(**given)
    (found,) = yard.batch.describe_job_definitions(jobDefinitionName="mnp")["jobDefinitions"]
    assert found["type"] == "multinode"
    assert found["nodeProperties"] == given["nodeProperties"]
    assert "containerProperties" not in found


def test_a_job_is_read_by_its_id_and_its_nodes_by_theirs(yard: Yard) -> None:
    """1.2: a parent has nodeProperties and no container; nodes have nodeDetails, a container and no nodeProperties."""
    yard.batch.register_job_definition(**multinode())
    agent = yard.endpoint.agent(address="10.0.0.7")
    job_id = submit(yard)
    main, child = start(yard, agent)
    assert (main.attempt_id, child.attempt_id) == (f"{job_id}#0#1", f"{job_id}#1#1")
    assert (main.job_id, child.environment["AWS_BATCH_JOB_ID"]) == (f"{job_id}#0", f"{job_id}#1")
    assert "AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS" not in main.environment
    assert child.environment["AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS"] == "10.0.0.7"
    assert (child.node.address, main.timeout_s) == ("10.0.0.7", 0)
    job = yard.job(job_id)
    assert "container" not in job
    assert "nodeDetails" not in job
    assert (job["status"], job["nodeProperties"]["numNodes"], job["nodeProperties"]["mainNode"]) == ("RUNNING", 2, 0)
    (listed,) = job["nodeProperties"]["nodeRangeProperties"]
    assert (listed["targetNodes"], listed["container"]["command"]) == ("0:", ["train"])
    for name in (f"{job_id}#1", f"{ARN}job/{job_id}#1"):
        node = yard.job(name)
        assert (node["jobId"], node["jobArn"]) == (f"{job_id}#1", f"{ARN}job/{job_id}#1")
        assert node["nodeDetails"] == {"nodeIndex": 1, "isMainNode": False}
        assert "nodeProperties" not in node
        assert node["container"]["logStreamName"] == child.log_stream_name
        assert node["container"]["networkInterfaces"] == [{"privateIpv4Address": "10.0.0.7"}]
        assert node["container"]["taskArn"].endswith(f"/{job_id}_1_1")
    assert yard.job(f"{job_id}#0")["nodeDetails"] == {"nodeIndex": 0, "isMainNode": True}


def test_an_ended_parent_tells_what_its_main_node_did(yard: Yard) -> None:
    yard.batch.register_job_definition(**multinode())
    agent = yard.endpoint.agent(address="10.0.0.7")
    job_id = submit(yard, retryStrategy={"attempts": 2})
    main, child = start(yard, agent)
    yard.endpoint.run(agent.report(ended(main.attempt_id, 3)))
    stop = yard.endpoint.run(agent.hear("stop"))
    assert stop.attempt_id == child.attempt_id
    yard.endpoint.run(agent.hear("ack"))
    assert yard.job(job_id)["status"] == "PENDING"
    yard.endpoint.run(agent.report(ended(child.attempt_id, 143)))
    yard.endpoint.run(agent.hear("ack"))
    main, child = start(yard, agent)
    assert (main.attempt_id, child.attempt_id) == (f"{job_id}#0#2", f"{job_id}#1#2")
    yard.endpoint.run(agent.report(ended(child.attempt_id, 1)))
    yard.endpoint.run(agent.hear("ack"))
    yard.endpoint.run(agent.report(ended(main.attempt_id, 0)))
    yard.endpoint.run(agent.hear("ack"))
    job = yard.job(job_id)
    assert (job["status"], job["statusReason"]) == ("SUCCEEDED", "Essential container in task exited")
    assert [attempt["container"]["exitCode"] for attempt in job["attempts"]] == [3, 0]
    last = job["attempts"][-1]["container"]
    assert last["taskArn"].endswith(f"/{job_id}_0_2")
    assert last["logStreamName"] == main.log_stream_name
    node = yard.job(f"{job_id}#1")
    assert node["status"] == "FAILED"
    assert [attempt["container"]["exitCode"] for attempt in node["attempts"]] == [143, 1]


def test_lists_show_the_parent_and_by_its_id_the_nodes(yard: Yard) -> None:
    """No jobStatus means RUNNING; filters do not hold for nodes."""
    yard.batch.register_job_definition(**multinode(count=3))
    job_id = submit(yard)
    assert yard.batch.list_jobs(multiNodeJobId=job_id)["jobSummaryList"] == []
    agent = yard.endpoint.agent()
    main, first, second = start(yard, agent, 3)
    (listed,) = yard.batch.list_jobs(jobQueue="q")["jobSummaryList"]
    assert (listed["jobId"], listed["nodeProperties"]) == (job_id, {"numNodes": 3})
    nodes = yard.batch.list_jobs(multiNodeJobId=job_id)["jobSummaryList"]
    assert [node["jobId"] for node in nodes] == [f"{job_id}#{i}" for i in range(3)]
    assert nodes[1]["nodeProperties"] == {"isMainNode": False, "nodeIndex": 1, "numNodes": 3}
    yard.endpoint.run(agent.finish(first.attempt_id))
    (done,) = yard.batch.list_jobs(multiNodeJobId=job_id, jobStatus="SUCCEEDED")["jobSummaryList"]
    assert done["jobId"] == f"{job_id}#1"
    page = yard.batch.list_jobs(multiNodeJobId=job_id, maxResults=1)
    assert len(page["jobSummaryList"]) == 1
    assert yard.batch.list_jobs(multiNodeJobId=job_id, nextToken=page["nextToken"])["jobSummaryList"]
    assert {main.attempt_id, second.attempt_id} == {f"{job_id}#0#1", f"{job_id}#2#1"}


def test_overrides_go_by_the_texts_of_ranges(yard: Yard) -> None:
    yard.batch.register_job_definition(**multinode(ranges={"0": CONTAINER, "1:": {**CONTAINER, "command": ["work"]}}))
    agent = yard.endpoint.agent()
    overrides = {
        "numNodes": 3,
        "nodePropertyOverrides": [
            {
                "targetNodes": "1:",
                "containerOverrides": {
                    "command": ["more"],
                    "environment": [{"name": "E", "value": "F"}],
                    "resourceRequirements": [{"type": "MEMORY", "value": "200"}],
                },
            }
        ],
    }
    job_id = submit(yard, nodeOverrides=overrides)
    main, *others = start(yard, agent, 3)
    assert list(main.container.command) == ["train"]
    for other in others:
        assert list(other.container.command) == ["more"]
        assert other.container.resources.memory_mib == 200
        assert other.environment["AWS_BATCH_JOB_NUM_NODES"] == "3"
    ranges = yard.job(job_id)["nodeProperties"]["nodeRangeProperties"]
    assert [(each["targetNodes"], each["container"]["command"]) for each in ranges] == [
        ("0", ["train"]),
        ("1:", ["more"]),
    ]
    assert yard.job(f"{job_id}#2")["container"]["command"] == ["more"]


def test_terminating_the_parent_stops_all_nodes(yard: Yard) -> None:
    yard.batch.register_job_definition(**multinode())
    agent = yard.endpoint.agent()
    job_id = submit(yard)
    start(yard, agent)
    yard.batch.terminate_job(jobId=job_id, reason="enough")
    stopped = {yard.endpoint.run(agent.hear("stop")).attempt_id for _ in range(2)}
    assert stopped == {f"{job_id}#0#1", f"{job_id}#1#1"}
    yard.endpoint.run(agent.report(*(ended(each, 143) for each in sorted(stopped))))
    yard.endpoint.run(agent.hear("ack"))
    for name in (job_id, f"{job_id}#0", f"{job_id}#1"):
        job = yard.job(name)
        assert (job["status"], job["statusReason"], job["isTerminated"]) == ("FAILED", "enough", True)


def test_cancelling_a_job_that_waits_ends_all_nodes(yard: Yard) -> None:
    yard.batch.register_job_definition(**multinode())
    job_id = submit(yard)
    assert yard.job(f"{job_id}#1")["status"] == "RUNNABLE"
    yard.batch.cancel_job(jobId=f"{job_id}#1", reason="no")
    assert {yard.job(name)["status"] for name in (job_id, f"{job_id}#0", f"{job_id}#1")} == {"FAILED"}


def test_one_node_is_a_job_and_dependencies_name_the_parent(yard: Yard) -> None:
    yard.batch.register_job_definition(**multinode(count=1))
    agent = yard.endpoint.agent()
    job_id = submit(yard)
    after = yard.submit("after", dependsOn=[{"jobId": job_id}])
    (main,) = start(yard, agent, 1)
    yard.endpoint.run(agent.report(ended(main.attempt_id, 0)))
    yard.endpoint.run(agent.hear("ack"))
    yard.endpoint.run(agent.hear_starts())
    assert yard.job(after)["status"] == "STARTING"
    assert "is no job id" in error_of(lambda: yard.submit("bad", dependsOn=[{"jobId": f"{job_id}#0"}]))[1]


DEFINITIONS: dict[str, tuple[dict[str, Any], str]] = {
    "no properties": (
        {"jobDefinitionName": "d", "type": "multinode"},
        "Job definitions of type multinode need nodeProperties",
    ),
    "of a container": (
        {**multinode(), "type": "container"},
        "nodeProperties is only applicable for a job definition of type multinode",
    ),
    "beside a container": (
        {**multinode(), "containerProperties": CONTAINER},
        "containerProperties is not applicable for a job definition of type multinode",
    ),
    "on Fargate": (
        {**multinode(), "platformCapabilities": ["FARGATE"]},
        "Multi-node parallel jobs are not supported on Fargate.",
    ),
    "main beyond": (multinode(count=2, main=2), "nodeProperties.mainNode: 2 is"),
    "none": (multinode(count=0), "nodeProperties.numNodes: 0"),
    "too many": (multinode(count=1001), "nodeProperties.numNodes: 1001"),
    "six ranges": (
        multinode(count=6, ranges={str(i): CONTAINER for i in range(6)}),
        "nodeProperties.ranges: 6 ranges; at most 5 are allowed",
    ),
    "a gap": (multinode(count=4, ranges={"0:1": CONTAINER, "3": CONTAINER}), "node 2 is in no range"),
    "overlap": (
        multinode(count=9, ranges={"0:5": CONTAINER, "3:8": CONTAINER}),
        "'3:8' and '0:5' overlap, and neither lies in the other",
    ),
    "no range": (multinode(count=2, ranges={"x": CONTAINER}), "'x' is no range of nodes"),
    "beyond": (multinode(count=2, ranges={"0:2": CONTAINER}), "'0:2' is not within nodes 0 to 1"),
    "no container": (
        multinode(ranges={"0:": None})
        | {
            "nodeProperties": {"numNodes": 1, "mainNode": 0, "nodeRangeProperties": [{"targetNodes": "0:"}]},
        },
        "A node range needs exactly one of container, ecsProperties, eksProperties, not 0 of them",
    ),
    "no image": (multinode(ranges={"0:": {"command": ["a"]}}), "Image is required."),
}


@pytest.mark.parametrize("case", DEFINITIONS)
def test_definitions_that_are_refused(batch: Any, case: str) -> None:
    members, text = DEFINITIONS[case]
    code, told, *_ = error_of(lambda: batch.register_job_definition(**members))
    assert code == "ClientException"
    assert text in told


SUBMISSIONS: dict[str, tuple[dict[str, Any], str]] = {
    "another text": (
        {"nodeOverrides": {"nodePropertyOverrides": [{"targetNodes": "0:0"}]}},
        "NodeOverride targets should match job definition. Non matching targets - 0:0",
    ),
    "main beyond": ({"jobDefinition": "second", "nodeOverrides": {"numNodes": 1}}, "leave none for range '1:'"),
    "closed": (
        {"jobDefinition": "closed", "nodeOverrides": {"numNodes": 3}},
        "NumNodes override can only be applied if the job definition has at least 1 target node without a range_end i.e",
    ),
    "container overrides": ({"containerOverrides": {"command": ["a"]}}, "is not for a multi-node job"),
    "array": ({"arrayProperties": {"size": 2}}, "arraySize: is not for a multi-node job"),
    "not multi-node": (
        {"jobDefinition": "d", "nodeOverrides": {"numNodes": 2}},
        "nodeOverrides: is only for a multi-node job",
    ),
    "none": ({"nodeOverrides": {"numNodes": 0}}, "numNodes must be at least 1, not 0"),
}


@pytest.mark.parametrize("case", SUBMISSIONS)
def test_submissions_that_are_refused(yard: Yard, case: str) -> None:
    yard.batch.register_job_definition(**multinode())
    yard.batch.register_job_definition(**multinode("closed", ranges={"0:1": CONTAINER}))
    yard.batch.register_job_definition(**multinode("second", ranges={"0": CONTAINER, "1:": CONTAINER}))
    members, text = SUBMISSIONS[case]
    code, told, *_ = error_of(lambda: yard.submit(**{"jobDefinition": "mnp", **members}))
    assert code == "ClientException"
    assert text in told
    assert plain(yard.batch.list_jobs(jobQueue="q", jobStatus="RUNNABLE"))["jobSummaryList"] == []
