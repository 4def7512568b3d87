"""Jobs on Amazon EKS through boto3: environments, definitions, overrides, reading back, with a node driven by hand."""

from __future__ import annotations

from typing import Any

import pytest
from tests.services.hand_agent import ended, running

from batchyard.pods import pod_name
from batchyard.v1 import agent_pb2, attempt_pb2, host_pb2, resources_pb2
from batchyard.v1.job_definition_pb2 import RegisterJobDefinitionRequest
from batchyard.v1.job_queue_pb2 import ComputeEnvironmentOrder, CreateJobQueueRequest

from .endpoint import REGION, Yard, environment, queue

CLUSTER_ARN = f"arn:aws:eks:{REGION}:123456789012:cluster/c"
CLUSTER = {"eksClusterArn": CLUSTER_ARN, "kubernetesNamespace": "jobs"}
NODE = {
    "runtimes": ["kubernetes"],
    "kubernetes": host_pb2.KubernetesFacts(cluster="c", namespace="jobs", node_uid="uid-1"),
}
MAIN = {
    "name": "main",
    "image": "busybox:1",
    "imagePullPolicy": "IfNotPresent",
    "command": ["sh", "-c"],
    "args": ["echo Ref::what $(HOSTNAME)"],
    "env": [{"name": "A", "value": "1"}],
    "resources": {"limits": {"cpu": "1", "memory": "256Mi"}, "requests": {"cpu": "0.25", "memory": "256Mi"}},
    "volumeMounts": [{"name": "data", "mountPath": "/data", "subPath": "a/b", "readOnly": True}],
    "securityContext": {
        "runAsUser": 0,
        "runAsNonRoot": False,
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
        "seccompProfile": {"type": "Localhost", "localhostProfile": "p.json"},
    },
}
SIDE = {"name": "side", "image": "busybox:1", "resources": {"limits": {"cpu": "0.5", "memory": "64Mi"}}}
BEFORE = {"name": "before", "image": "busybox:1", "command": ["prepare"]}
POD = {
    "serviceAccountName": "runner",
    "hostNetwork": False,
    "dnsPolicy": "ClusterFirst",
    "imagePullSecrets": [{"name": "registry"}],
    "containers": [MAIN, SIDE],
    "initContainers": [BEFORE],
    "volumes": [
        {"name": "data", "hostPath": {"path": "/data"}},
        {"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
        {"name": "plain", "emptyDir": {}},
        {"name": "token", "secret": {"secretName": "token", "optional": True}},
        {"name": "claim", "persistentVolumeClaim": {"claimName": "claim", "readOnly": True}},
    ],
    "metadata": {"labels": {"team": "a"}, "annotations": {"note": "b"}, "namespace": "jobs"},
    "shareProcessNamespace": True,
    "securityContext": {"runAsGroup": 7, "fsGroup": 8, "seccompProfile": {"type": "RuntimeDefault"}},
}
SIMPLE = {"containers": [{"image": "busybox", "resources": {"limits": {"cpu": "1", "memory": "128Mi"}}}]}


def on_eks(name: str = "eks", **resources: Any) -> dict[str, Any]:
    return environment(name, **resources) | {"eksConfiguration": CLUSTER}


def pods(name: str = "pods", pod: Any = POD, **members: Any) -> dict[str, Any]:
    filled = {"type": "container", "eksProperties": {"podProperties": pod}} | members
    return {"jobDefinitionName": name, **filled}


@pytest.fixture
def eks(yard: Yard) -> Yard:
    """An environment of a cluster and its queue, beside those of EC2."""
    yard.batch.create_compute_environment(**on_eks())
    yard.batch.create_job_queue(**queue("eq", "eks", jobQueueType="EKS"))
    return yard


def find(yard: Yard, name: str = "pods") -> Any:
    (found,) = yard.batch.describe_job_definitions(jobDefinitions=[name])["jobDefinitions"]
    return found


def test_an_environment_of_a_cluster_and_its_queue_say_so(eks: Yard) -> None:
    (found,) = eks.batch.describe_compute_environments(computeEnvironments=["eks"])["computeEnvironments"]
    assert found["containerOrchestrationType"] == "EKS"
    assert found["eksConfiguration"] == CLUSTER
    assert (found["status"], found["statusReason"]) == ("VALID", "ComputeEnvironment Healthy")
    assert "ecsClusterArn" not in found
    (found,) = eks.batch.describe_job_queues(jobQueues=["eq"])["jobQueues"]
    assert found["jobQueueType"] == "EKS"
    (found,) = eks.batch.describe_compute_environments(computeEnvironments=["ce"])["computeEnvironments"]
    assert found["containerOrchestrationType"] == "ECS"
    assert "eksConfiguration" not in found


def test_an_environment_whose_namespace_the_cluster_has_not_is_invalid(eks: Yard) -> None:
    other = host_pb2.KubernetesFacts(cluster="c", namespace="other")
    eks.endpoint.agent(runtimes=["kubernetes"], kubernetes=other)
    (found,) = eks.batch.describe_compute_environments(computeEnvironments=["eks"])["computeEnvironments"]
    assert (found["status"], found["statusReason"]) == (
        "INVALID",
        "CLIENT_ERROR - Unable to validate Kubernetes Namespace",
    )


def test_the_access_entry_is_kept_and_can_be_changed(batch: Any) -> None:
    made = on_eks()
    made["eksConfiguration"] = CLUSTER | {"accessEntry": {"desiredState": "ENABLED"}}
    batch.create_compute_environment(**made)
    update = {"accessEntry": {"desiredState": "DISABLED"}}
    batch.update_compute_environment(computeEnvironment="eks", eksConfiguration=update)
    batch.update_compute_environment(computeEnvironment="eks", computeResources={"maxvCpus": 8})
    (found,) = batch.describe_compute_environments(computeEnvironments=["eks"])["computeEnvironments"]
    assert found["eksConfiguration"] == CLUSTER | update
    assert found["computeResources"]["maxvCpus"] == 8


def test_a_definition_is_read_back_as_it_was_given(eks: Yard) -> None:
    eks.batch.register_job_definition(**pods())
    found = find(eks)
    assert found["eksProperties"] == {"podProperties": POD}
    assert (found["containerOrchestrationType"], found["type"]) == ("EKS", "container")
    assert not {"containerProperties", "ecsProperties", "platformCapabilities"} & found.keys()


def test_what_a_node_is_told(eks: Yard) -> None:
    eks.batch.register_job_definition(**pods(parameters={"what": "all"}))
    agent = eks.endpoint.agent(**NODE, volume_paths=["/data"])
    override = {
        "containers": [{"name": "main", "args": ["Ref::what"], "env": [{"name": "B", "value": "2"}], "image": "new:2"}],
        "initContainers": [{"name": "before", "command": ["other"]}],
        "metadata": {"labels": {"team": "b", "more": "c"}},
    }
    job_id = eks.submit(jobQueue="eq", jobDefinition="pods", eksPropertiesOverride={"podProperties": override})
    (spec,) = eks.endpoint.run(agent.hear_starts())
    main, side = spec.task.containers
    (before,) = spec.task.init_containers
    assert (list(main.entrypoint), list(main.command), main.image) == (["sh", "-c"], ["all"], "new:2")
    assert (list(before.entrypoint), list(before.command)) == (["other"], [])
    assert dict(main.environment) == {"A": "1", "B": "2"}
    assert (main.resources.cpu_millis, main.resources.memory_mib, main.cpu_limit_millis) == (250, 256, 1000)
    assert (side.resources.cpu_millis, side.resources.memory_mib, side.cpu_limit_millis) == (500, 64, 500)
    assert (main.security.run_as_user, main.security.HasField("run_as_user")) == (0, True)
    assert list(main.security.capabilities_drop) == ["ALL"]
    assert (main.mount_points[0].sub_path, main.mount_points[0].read_only) == ("a/b", True)
    assert spec.task.pid_mode == "task"
    made = spec.task.pod
    assert (made.service_account, made.host_network, made.HasField("host_network")) == ("runner", False, True)
    assert dict(made.labels) == {"team": "b", "more": "c"}
    assert dict(made.annotations) == {"note": "b"}
    assert (made.namespace, list(made.image_pull_secrets), made.security.fs_group) == ("jobs", ["registry"], 8)
    assert [(v.name, v.host_source_path, v.medium, v.secret_name, v.claim_name) for v in spec.task.volumes] == [
        ("data", "/data", "", "", ""),
        ("scratch", "", "Memory", "", ""),
        ("plain", "", "", "", ""),
        ("token", "", "", "token", ""),
        ("claim", "", "", "", "claim"),
    ]
    assert spec.environment["AWS_BATCH_JOB_KUBERNETES_NODE_UID"] == "uid-1"
    assert (spec.environment["AWS_BATCH_CE_NAME"], spec.environment["AWS_BATCH_JQ_NAME"]) == ("eks", "eq")
    (found,) = eks.batch.describe_compute_environments(computeEnvironments=["eks"])["computeEnvironments"]
    assert spec.compute_environment_uuid == found["uuid"]
    shown = eks.job(job_id)["eksProperties"]["podProperties"]
    assert shown["containers"][0] == MAIN | {
        "image": "new:2",
        "args": ["all"],
        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
    }
    assert shown["initContainers"] == [BEFORE | {"command": ["other"]}]
    assert shown["metadata"] == {
        "labels": {"team": "b", "more": "c"},
        "annotations": {"note": "b"},
        "namespace": "jobs",
    }


def test_resources_are_overridden_one_by_one(eks: Yard) -> None:
    eks.batch.register_job_definition(**pods(pod=SIMPLE))
    agent = eks.endpoint.agent(**NODE)
    resources = {"limits": {"cpu": "2"}, "requests": {"cpu": "1.50"}}
    override = {"containers": [{"resources": resources}]}
    job_id = eks.submit(jobQueue="eq", jobDefinition="pods", eksPropertiesOverride={"podProperties": override})
    (spec,) = eks.endpoint.run(agent.hear_starts())
    (main,) = spec.task.containers
    assert (main.resources.cpu_millis, main.resources.memory_mib, main.cpu_limit_millis) == (1500, 128, 2000)
    (shown,) = eks.job(job_id)["eksProperties"]["podProperties"]["containers"]
    assert shown["resources"] == {
        "limits": {"cpu": "2", "memory": "128Mi"},
        "requests": {"cpu": "1.5", "memory": "128Mi"},
    }


def test_a_job_is_told_as_a_pod_and_its_attempts_apart(eks: Yard) -> None:
    eks.batch.register_job_definition(**pods(retryStrategy={"attempts": 2}))
    agent = eks.endpoint.agent(**NODE, volume_paths=["/data"])
    job_id = eks.submit(jobQueue="eq", jobDefinition="pods", parameters={"what": "x"})
    (spec,) = eks.endpoint.run(agent.hear_starts())
    eks.endpoint.run(agent.report(running(spec.attempt_id)))
    job = eks.job(job_id)
    assert (job["status"], job["attempts"]) == ("RUNNING", [])
    assert not {"container", "ecsProperties", "eksAttempts", "platformCapabilities"} & job.keys()
    shown = job["eksProperties"]["podProperties"]
    assert (shown["podName"], shown["nodeName"]) == (pod_name(job_id), "alpha")
    end = agent_pb2.ContainerReport
    ends = [
        end(name="main", exit_code=3, reason="Error", started_at_ms=1, stopped_at_ms=2, container_id="containerd://1"),
        end(name="side", exit_code=0, reason="Completed", started_at_ms=1, stopped_at_ms=2),
        end(name="before", exit_code=0, reason="Completed", started_at_ms=1, stopped_at_ms=1),
    ]
    eks.endpoint.run(agent.report(ended(spec.attempt_id, 3, reason="Error", containers=ends)))
    (again,) = eks.endpoint.run(agent.hear_starts())
    eks.endpoint.run(agent.report(ended(again.attempt_id, None, cause=attempt_pb2.END_CAUSE_LOST)))
    job = eks.job(job_id)
    assert job["status"] in ("FAILED", "RUNNABLE", "STARTING")
    first, second = job["eksAttempts"][:2]
    assert first == {
        "podName": pod_name(job_id),
        "podNamespace": "jobs",
        "nodeName": "alpha",
        "eksClusterArn": CLUSTER_ARN,
        "startedAt": 1000,
        "stoppedAt": 2000,
        "statusReason": "Essential container in task exited",
        "containers": [
            {"name": "main", "containerID": "containerd://1", "exitCode": 3, "reason": "Error"},
            {"name": "side", "exitCode": 0, "reason": "Completed"},
        ],
        "initContainers": [{"name": "before", "exitCode": 0, "reason": "Completed"}],
    }
    assert second["statusReason"].startswith("Host EC2 (instance i-")
    assert job["attempts"] == []


def test_a_rule_on_lost_hosts_holds_for_nodes(eks: Yard) -> None:
    rules = [
        {"onStatusReason": "Host EC2*", "action": "RETRY"},
        {"onReason": "*", "action": "EXIT"},
    ]
    eks.batch.register_job_definition(**pods(pod=SIMPLE, retryStrategy={"attempts": 5, "evaluateOnExit": rules}))
    agent = eks.endpoint.agent(**NODE)
    job_id = eks.submit(jobQueue="eq", jobDefinition="pods")
    (spec,) = eks.endpoint.run(agent.hear_starts())
    eks.endpoint.run(agent.report(ended(spec.attempt_id, None, cause=attempt_pb2.END_CAUSE_LOST)))
    (again,) = eks.endpoint.run(agent.hear_starts())
    eks.endpoint.run(agent.report(ended(again.attempt_id, 1)))
    job = eks.job(job_id)
    assert (job["status"], len(job["eksAttempts"])) == ("FAILED", 2)


def test_arrays_of_pods_have_a_pod_each(eks: Yard) -> None:
    eks.batch.register_job_definition(**pods(pod=SIMPLE))
    agent = eks.endpoint.agent(**NODE)
    job_id = eks.submit(jobQueue="eq", jobDefinition="pods", arrayProperties={"size": 2})
    specs = eks.endpoint.run(agent.hear_starts(2))
    for spec in specs:
        eks.endpoint.run(agent.report(running(spec.attempt_id)))
    names = {eks.job(f"{job_id}:{i}")["eksProperties"]["podProperties"]["podName"] for i in range(2)}
    assert names == {pod_name(f"{job_id}:0"), pod_name(f"{job_id}:1")}


def test_nodes_of_a_job_are_pods(eks: Yard) -> None:
    nodes = {
        "numNodes": 2,
        "mainNode": 0,
        "nodeRangeProperties": [{"targetNodes": "0:", "eksProperties": {"podProperties": SIMPLE}}],
    }
    eks.batch.register_job_definition(jobDefinitionName="mnp", type="multinode", nodeProperties=nodes)
    found = find(eks, "mnp")
    assert found["containerOrchestrationType"] == "EKS"
    assert found["nodeProperties"] == nodes
    agents = [
        eks.endpoint.agent(**NODE, host_id=f"00000000-0000-4000-8000-00000000001{i}", name=f"n{i}") for i in range(2)
    ]
    override = {
        "targetNodes": "0:",
        "eksPropertiesOverride": {
            "podProperties": {"containers": [{"args": ["x"]}], "metadata": {"labels": {"a": "b"}}}
        },
    }
    job_id = eks.submit(jobQueue="eq", jobDefinition="mnp", nodeOverrides={"nodePropertyOverrides": [override]})
    host = eks.job(f"{job_id}#0")["eksProperties"]["podProperties"]["nodeName"]
    for agent in sorted(agents, key=lambda agent: agent.facts.name != host):  # the main node is told first
        (spec,) = eks.endpoint.run(agent.hear_starts())
        assert list(spec.task.containers[0].command) == ["x"]
        assert dict(spec.task.pod.labels) == {"a": "b"}
        eks.endpoint.run(agent.report(running(spec.attempt_id)))
    job = eks.job(job_id)
    (shown,) = job["nodeProperties"]["nodeRangeProperties"]
    assert shown["eksProperties"]["podProperties"]["containers"][0]["args"] == ["x"]
    assert "container" not in job
    main = eks.job(f"{job_id}#0")
    assert main["eksProperties"]["podProperties"]["podName"] == pod_name(f"{job_id}#0")


def test_a_native_pod_is_shown_in_awss_members(eks: Yard) -> None:
    """What was not said by AWS's members is worked out."""
    eks.batch.register_job_definition(**pods())
    (found,) = eks.endpoint.run(eks.endpoint.client.describe_job_definitions(["pods"]))
    request = RegisterJobDefinitionRequest(name="native", type=found.type, task=found.task)
    eks.endpoint.run(eks.endpoint.client.calls.register_job_definition(request))
    main = MAIN | {"securityContext": {k: v for k, v in MAIN["securityContext"].items() if k != "privileged"}}  # type: ignore[attr-defined]
    side = SIDE | {"resources": {way: {"cpu": "0.5", "memory": "64Mi"} for way in ("limits", "requests")}}
    assert find(eks, "native")["eksProperties"] == {"podProperties": POD | {"containers": [main, side]}}


def test_containers_of_ec2_go_to_nodes_only_behind_own_hosts(eks: Yard) -> None:
    """A queue that was made natively: what finds no room on own hosts runs as a pod, told as on EC2."""

    client = eks.endpoint.client

    order = [ComputeEnvironmentOrder(order=i, compute_environment=name) for i, name in enumerate(("ce", "eks"))]
    both = CreateJobQueueRequest(name="both", compute_environment_order=order)
    eks.endpoint.run(client.calls.create_job_queue(both))
    agent = eks.endpoint.agent(**NODE)
    job_id = eks.submit(jobQueue="both")
    (spec,) = eks.endpoint.run(agent.hear_starts())
    assert spec.HasField("container")
    eks.endpoint.run(agent.finish(spec.attempt_id))
    job = eks.job(job_id)
    assert (job["status"], job["container"]["exitCode"]) == ("SUCCEEDED", 0)
    assert "eksAttempts" not in job


def test_what_is_reserved_reaches_placement(eks: Yard) -> None:
    eks.batch.register_job_definition(**pods(pod=SIMPLE))
    agent = eks.endpoint.agent(**NODE)
    held = host_pb2.HostUsage(reserved=resources_pb2.Resources(cpu_millis=3500))
    eks.endpoint.run(agent.beat(usage=held))
    eks.endpoint.run(agent.hear("heartbeat_ack"))
    job_id = eks.submit(jobQueue="eq", jobDefinition="pods")
    told = eks.endpoint.run(eks.endpoint.client.explain_job(job_id))
    assert "3.5 vCPU of these hosts held by other pods" in told.summary
    eks.endpoint.run(agent.beat(usage=host_pb2.HostUsage()))
    eks.endpoint.run(agent.hear("heartbeat_ack"))
    (spec,) = eks.endpoint.run(agent.hear_starts())
    assert spec.job_id == job_id
