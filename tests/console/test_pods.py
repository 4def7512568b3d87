"""Clusters and pods in the console: the wizard's walk, forms of pods, and what pages show of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.services.hand_agent import ended, running

from batchyard.pods import pod_name
from batchyard.v1 import host_pb2, resources_pb2
from batchyard_gateway.batch import definitions, members
from batchyard_gateway.console.forms import command_lines, environment_form, pod_form, tables
from batchyard_gateway.console.start import wizard
from batchyard_gateway.console.start.wizard import DEFINITION, ENVIRONMENT, JOB, ORCHESTRATION, QUEUE, STEPS, Yard

from .visitor import Reply, Visitor

ARN = "arn:aws:eks:us-east-1:123456789012:cluster/c"
CLUSTERS = [(ARN, "jobs")]
NODE: dict[str, Any] = {
    "runtimes": ["kubernetes"],
    "kubernetes": host_pb2.KubernetesFacts(cluster="c", namespace="jobs"),
}
EKS = {ORCHESTRATION: {"orchestration": ["EKS"]}}


# Pure -------------------------------------------------------------------------------


def test_what_stands_in_the_steps_of_a_yard_with_a_cluster_is_right() -> None:
    yard, answers = Yard(clusters=CLUSTERS), dict(EKS)
    assert [wizard.faults(step, answers, yard) for step in STEPS] == [{}] * len(STEPS)
    made = wizard.drafted(ENVIRONMENT, answers, yard).members
    assert made["eksConfiguration"] == {"eksClusterArn": ARN, "kubernetesNamespace": "jobs"}
    assert made["computeResources"]["type"] == "EC2"
    said = wizard.drafted(DEFINITION, answers, yard).members
    (container,) = said["eksProperties"]["podProperties"]["containers"]
    assert container == {
        "image": "busybox:latest",
        "args": ["echo", "hello"],
        "resources": {"limits": {"cpu": "1", "memory": "128Mi"}},
    }
    assert not {"containerProperties", "platformCapabilities"} & said.keys()


def test_kubernetes_is_not_chosen_where_there_is_none() -> None:
    assert wizard.kind_of(dict(EKS), Yard()) == "EC2"


def test_queues_of_clusters_are_of_clusters_alone() -> None:
    """AWS mixes them with nothing else, so that the form does not offer it."""
    yard = Yard(environments={"ce": "EC2", "other": "EC2", "eks": "EKS", "more": "EKS"}, clusters=CLUSTERS)
    offered = {}
    for name in ("ce", "eks"):
        answers: Any = {ENVIRONMENT: {wizard.EXISTING: [name]}}
        (order,) = [
            field for field in tables.fields_of(wizard.form(QUEUE, answers, yard)) if field.name.endswith("Order")
        ]
        offered[name] = [word for word, _ in order.columns[0].options if word]  # type: ignore[attr-defined]
    assert offered == {"ce": ["other"], "eks": ["more"]}


def test_lines_that_make_the_same_say_cluster_and_pod() -> None:
    yard, answers = Yard(clusters=CLUSTERS), dict(EKS)
    lines = {
        step: command_lines.lines(wizard.OPERATIONS[step], wizard.drafted(step, answers, yard).members)[0].line
        for step in (ENVIRONMENT, DEFINITION)
    }
    assert "--cluster c --namespace jobs" in lines[ENVIRONMENT]
    assert lines[DEFINITION].endswith("--pod --image busybox:latest --vcpus 1 --memory 128M -- echo hello")


FULL = {
    "jobDefinitionName": "d",
    "eksProperties": {
        "podProperties": {
            "serviceAccountName": "runner",
            "hostNetwork": False,
            "dnsPolicy": "Default",
            "containers": [
                {
                    "image": "i",
                    "command": ["sh", "-c"],
                    "args": ["echo"],
                    "env": [{"name": "A", "value": "1"}],
                    "resources": {"limits": {"cpu": "0.5", "memory": "64Mi", "nvidia.com/gpu": "1"}},
                }
            ],
        }
    },
}
TWO = {
    "jobDefinitionName": "d",
    "eksProperties": {"podProperties": {"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]}},
}


@pytest.mark.parametrize("given", [FULL, TWO], ids=["one container", "two"])
def test_a_form_says_a_definition_exactly(given: dict[str, Any]) -> None:
    """What its fields cannot say stands in the one for all the rest."""
    form = pod_form.definition()
    draft = pod_form.definition_draft(form, tables.fill(form, pod_form.to_form(given)))
    assert draft.faults == {}
    assert draft.members == {"type": "container", **given}
    definitions.check(members.REGISTER_JOB_DEFINITION.check(draft.members, ""))


def test_an_environment_asks_for_its_cluster_once() -> None:
    new, old = (
        [
            field.name
            for field in tables.fields_of(environment_form.environment("EKS", clusters=CLUSTERS, is_new=is_new))
        ]
        for is_new in (True, False)
    )
    assert {environment_form.CLUSTER, environment_form.NAMESPACE} <= set(new)
    assert not {environment_form.CLUSTER, environment_form.NAMESPACE} & set(old)


# Over HTTP --------------------------------------------------------------------------


def answer(visitor: Visitor, step: str, **form: Any) -> Reply:
    return visitor.post(f"start?step={step}", {"go": "next", **form})


def test_the_walk_for_eks_ends_with_a_pod(visitor: Visitor) -> None:
    agent = visitor.endpoint.agent(**NODE)
    assert 'value="EKS" disabled' not in visitor.get("start").text
    answer(visitor, ORCHESTRATION, orchestration="EKS")
    page = visitor.get("start?step=environment").text
    assert ARN in page
    assert "Selects <strong>1 of 1 hosts" in page
    environment = {
        "computeEnvironmentName": "pods",
        environment_form.CLUSTER: ARN,
        environment_form.NAMESPACE: "jobs",
        "computeResources.maxvCpus": "16",
        "computeResources.minvCpus": "0",
        "computeResources.instanceTypes": "optimal",
    }
    assert answer(visitor, ENVIRONMENT, **environment).status == 303
    assert answer(visitor, QUEUE, jobQueueName="q", priority="1").status == 303
    page = visitor.get("start?step=definition").text
    assert "Entrypoint" in page
    assert "batchyard job-definition register hello --pod" in page
    pod = {"pod.image": "busybox:1", "pod.args": "echo hello", "pod.resources.VCPU": "1", "pod.resources.MEMORY": "64"}
    assert answer(visitor, DEFINITION, jobDefinitionName="d", **pod).status == 303
    assert answer(visitor, JOB, jobName="j").status == 303
    reply = visitor.post("start?step=review", {"go": "create"})
    assert reply.status == 303, reply.text
    (spec,) = visitor.endpoint.run(agent.hear_starts())
    assert list(spec.task.containers[0].command) == ["echo", "hello"]
    visitor.endpoint.run(agent.report(running(spec.attempt_id)))
    page = visitor.get(f"jobs/{spec.job_id}").text
    assert f"{pod_name(spec.job_id)} in namespace jobs of cluster c" in page
    visitor.endpoint.run(agent.report(ended(spec.attempt_id)))
    assert "of cluster c" in visitor.get("environments").text
    assert "a pod of default" in visitor.get("definitions").text


def test_what_is_wrong_with_a_pod_stands_at_its_field(visitor: Visitor) -> None:
    visitor.endpoint.agent(**NODE)
    answer(visitor, ORCHESTRATION, orchestration="EKS")
    reply = answer(visitor, DEFINITION, jobDefinitionName="d", **{"pod.image": "i", "pod.resources.VCPU": "0.1"})
    assert reply.status == 422
    assert "It must be a multiple of 0.25" in reply.text
    wrong = {
        "computeEnvironmentName": "x",
        "computeResources.maxvCpus": "1",
        "computeResources.minvCpus": "0",
        environment_form.CLUSTER: "c",
        environment_form.NAMESPACE: "jobs",
    }
    reply = answer(visitor, ENVIRONMENT, **wrong)
    assert reply.status == 422
    assert "is not the ARN of an EKS cluster" in reply.text


def test_a_revision_of_a_pod_is_made_from_another(visitor: Visitor) -> None:
    visitor.endpoint.batch().register_job_definition(type="container", **FULL)
    page = visitor.get("definitions/new?of=d").text
    assert 'action="/console/definitions/new?as=EKS"' in page
    form = visitor.filled(page, "/console/definitions/new?as=EKS")
    reply = visitor.post("definitions/new?as=EKS", {**form, "pod.image": "new", "go": "register"})
    assert reply.status == 303, reply.text
    (found,) = visitor.endpoint.batch().describe_job_definitions(jobDefinitions=["d:2"])["jobDefinitions"]
    (container,) = found["eksProperties"]["podProperties"]["containers"]
    assert (container["image"], container["command"]) == ("new", ["sh", "-c"])
    assert found["eksProperties"]["podProperties"]["dnsPolicy"] == "Default"
    assert "register" in visitor.get("definitions/new?as=EKS").text


def test_a_pod_is_submitted_again_with_what_was_overridden(visitor: Visitor) -> None:
    batch, endpoint = visitor.endpoint.batch(), visitor.endpoint
    given = json.loads(json.dumps(FULL))
    given["eksProperties"]["podProperties"]["containers"][0]["args"] = ["echo", "Ref::what"]
    batch.register_job_definition(type="container", parameters={"what": "x"}, **given)
    endpoint.agent(**NODE)
    resources = {"type": "EC2", "allocationStrategy": "BEST_FIT", "minvCpus": 0, "maxvCpus": 1, "instanceRole": "r"}
    cluster = {"eksClusterArn": ARN, "kubernetesNamespace": "jobs"}
    network: Any = {"subnets": ["s"], "securityGroupIds": ["g"], "instanceTypes": ["optimal"]}
    batch.create_compute_environment(
        computeEnvironmentName="pods", type="MANAGED", computeResources=resources | network, eksConfiguration=cluster
    )
    order = [{"order": 1, "computeEnvironment": "pods"}]
    batch.create_job_queue(jobQueueName="q", priority=1, computeEnvironmentOrder=order)
    override: Any = {"podProperties": {"containers": [{"image": "new"}], "metadata": {"labels": {"a": "b"}}}}
    job = batch.submit_job(jobName="j", jobQueue="q", jobDefinition="d", eksPropertiesOverride=override)
    form = visitor.filled(visitor.get(f"jobs/new?clone={job['jobId']}").text, "/console/jobs/new")
    assert json.loads(form["rest"][0]) == {"eksPropertiesOverride": override}
    again = visitor.post("jobs/new", {**form, "go": "submit"})
    assert again.status == 303, again.text


def test_a_node_says_its_cluster_and_what_others_hold(visitor: Visitor) -> None:
    agent = visitor.endpoint.agent(**NODE)
    held = host_pb2.HostUsage(reserved=resources_pb2.Resources(cpu_millis=1500, memory_mib=512))
    visitor.endpoint.run(agent.beat(usage=held))
    visitor.endpoint.run(agent.hear("heartbeat_ack"))
    page = visitor.get("hosts/alpha").text
    assert "cluster c, namespace jobs" in page
    assert "1.5 vCPUs, 512 MiB of memory" in page
