"""What AWS refuses of Amazon EKS, and with which text: definitions, submissions, environments, queues."""

from __future__ import annotations

from typing import Any

import pytest

from .endpoint import ARN, REGION, Endpoint, Yard, definition, error_of, queue
from .test_pods import BEFORE, CLUSTER, SIDE, SIMPLE, on_eks, pods


def refusal(call: Any, **members: Any) -> str:
    code, text, status = error_of(lambda: call(**members))
    assert (code, status) == ("ClientException", 400)
    return text


def changed(pod: Any = SIMPLE, **container: Any) -> dict[str, Any]:
    (first,) = pod["containers"]
    return {**pod, "containers": [first | container]}


def with_resources(**resources: Any) -> dict[str, Any]:
    return changed(resources=resources)


DEFINITIONS: dict[str, tuple[dict[str, Any], str]] = {
    "no pod": (pods() | {"eksProperties": {}}, "exactly one of containerProperties, ecsProperties, eksProperties"),
    "no container": (pods(pod={"containers": [], "hostNetwork": True}), "with at least one container"),
    "beside another": (
        pods() | {"containerProperties": definition("d")["containerProperties"]},
        "exactly one of containerProperties, ecsProperties, eksProperties",
    ),
    "platform": (pods(platformCapabilities=["EC2"]), "platformCapabilities is not applicable for EKS."),
    "propagation": (pods(propagateTags=True), "propagateTags is not applicable for EKS."),
    "11 containers": (
        pods(pod={"containers": [SIDE | {"name": f"c{i}"} for i in range(11)]}),
        "containers must have at most 10 elements, not 11",
    ),
    "11 before": (
        pods(pod=SIMPLE | {"initContainers": [BEFORE | {"name": f"c{i}"} for i in range(11)]}),
        "initContainers must have at most 10 elements, not 11",
    ),
    "two of one name": (pods(pod={"containers": [SIDE, SIDE]}), "'side' is the name of 2 containers"),
    "one without a name": (
        pods(pod={"containers": [SIDE, SIMPLE["containers"][0]]}),
        "Each container in a pod must have a unique name",
    ),
    "image": (pods(pod=changed(image="")), "Image is required."),
    "pull policy": (
        pods(pod=changed(imagePullPolicy="always")),
        "imagePullPolicy always is not valid. Valid values are: [Always, IfNotPresent, Never]",
    ),
    "DNS policy": (
        pods(pod=SIMPLE | {"dnsPolicy": "None"}),
        "dnsPolicy None is not valid. Valid values are: [Default, ClusterFirst, ClusterFirstWithHostNet]",
    ),
    "variable": (
        pods(pod=changed(env=[{"name": "AWS_BATCH_X", "value": ""}])),
        "Environment variables cannot start with AWS_BATCH, which is reserved: AWS_BATCH_X",
    ),
    "memory in Gi": (
        pods(pod=with_resources(limits={"memory": "1Gi"})),
        "Value 1Gi for resource memory is not valid. It must be a whole number of at least 4 with the suffix Mi.",
    ),
    "3 MiB": (pods(pod=with_resources(limits={"memory": "3Mi"})), "Value 3Mi for resource memory is not valid."),
    "half a MiB": (pods(pod=with_resources(limits={"memory": "4.5Mi"})), "Value 4.5Mi for resource memory"),
    "millis": (
        pods(pod=with_resources(requests={"cpu": "100m"})),
        "Value 100m for resource cpu is not valid. It must be a multiple of 0.25.",
    ),
    "a tenth": (pods(pod=with_resources(requests={"cpu": "0.1"})), "Value 0.1 for resource cpu is not valid."),
    "no CPU": (pods(pod=with_resources(requests={"cpu": "0"})), "Value 0 for resource cpu is not valid."),
    "half a GPU": (
        pods(pod=with_resources(limits={"nvidia.com/gpu": "0.5"})),
        "Value 0.5 for resource nvidia.com/gpu is not valid. It must be a whole number.",
    ),
    "another resource": (
        pods(pod=with_resources(limits={"ephemeral-storage": "1Gi"})),
        "Resource ephemeral-storage is not valid. Valid resources are: [memory, cpu, nvidia.com/gpu]",
    ),
    "memory that differs": (
        pods(pod=with_resources(limits={"memory": "8Mi"}, requests={"memory": "4Mi"})),
        "memory limits 8Mi must be equal to requests 4Mi.",
    ),
    "GPUs that differ": (
        pods(pod=with_resources(limits={"nvidia.com/gpu": "2"}, requests={"nvidia.com/gpu": "1"})),
        "nvidia.com/gpu limits 2 must be equal to requests 1.",
    ),
    "less CPU than asked": (
        pods(pod=with_resources(limits={"cpu": "1"}, requests={"cpu": "2"})),
        "cpu limits 1 must be at least as large as requests 2.",
    ),
    "two kinds of volume": (
        pods(pod=SIMPLE | {"volumes": [{"name": "v", "emptyDir": {"medium": ""}, "hostPath": {"path": "/v"}}]}),
        "Volume v must be of one kind, not of hostPath, emptyDir",
    ),
    "a host path of nothing": (
        pods(pod=SIMPLE | {"volumes": [{"name": "v", "hostPath": {"path": ""}}]}),
        "Volume v: hostPath needs a path",
    ),
    "no such volume": (
        pods(pod=changed(volumeMounts=[{"name": "v", "mountPath": "/v"}])),
        "no volume of the container is named 'v'",
    ),
    "an empty namespace": (pods(pod=SIMPLE | {"metadata": {"namespace": ""}}), "metadata.namespace can't be empty"),
    "namespace default": (
        pods(pod=SIMPLE | {"metadata": {"namespace": "default"}}),
        "eksProperties.podProperties.namespace: 'default' can't be default, and can't start with kube",
    ),
    "a reserved label": (
        pods(pod=SIMPLE | {"metadata": {"labels": {"batch.amazonaws.com/job-id": "x"}}}),
        "prefixes that hold kubernetes.io/, k8s.io/, batch.amazonaws.com/, batchyard.io/ are reserved",
    ),
    "user 2147483648": (
        pods(pod=changed(securityContext={"runAsUser": 2**31})),
        "2147483648 is not between 0 and 2147483647",
    ),
    "a profile of none": (
        pods(pod=changed(securityContext={"seccompProfile": {"type": "Localhost"}})),
        "is required of type Localhost, and of no other",
    ),
}


@pytest.fixture(scope="module")
def shared() -> Any:
    with Endpoint() as endpoint:
        yard = Yard(endpoint, endpoint.batch())
        yard.batch.create_compute_environment(**on_eks())
        yard.batch.create_job_queue(**queue("eq", "eks"))
        yard.batch.register_job_definition(**pods())
        yard.batch.register_job_definition(**pods("simple", pod=SIMPLE))
        yield yard


@pytest.mark.parametrize("case", DEFINITIONS)
def test_a_wrong_pod_is_refused(shared: Yard, case: str) -> None:
    wrong, text = DEFINITIONS[case]
    assert text in refusal(shared.batch.register_job_definition, **wrong | {"jobDefinitionName": "wrong"})
    assert shared.batch.describe_job_definitions(jobDefinitionName="wrong")["jobDefinitions"] == []


def over(place: str = "containers", *containers: Any, **pod: Any) -> dict[str, Any]:
    return {"eksPropertiesOverride": {"podProperties": {place: [*containers], **pod}}}


SUBMISSIONS: dict[str, tuple[dict[str, Any], str]] = {
    "queue of EC2": ({"jobQueue": "q"}, "can not run Jobs with capability EKS."),
    "definition of EC2": ({"jobDefinition": "d"}, "can not run Jobs with capability EC2."),
    "definition of EC2 with overrides of pods": (
        {"jobDefinition": "d", **over("containers", {"args": ["x"]})},
        "eksPropertiesOverride is only applicable for a job definition with eksProperties.",
    ),
    "an unknown name": (
        over("containers", {"name": "c"}),
        "Container override 'c' should match one of containers of the job definition: main, side",
    ),
    "a name of another place": (
        over("initContainers", {"name": "main"}),
        "Container override 'main' should match one of initContainers of the job definition: before",
    ),
    "no name among several": (over("containers", {"args": ["x"]}), "Container override ''"),
    "one twice": (over("containers", {"name": "main"}, {"name": "main"}), "may be overridden once"),
    "an empty argument": (over("containers", {"name": "main", "args": [""]}), "must not contain empty string"),
    "a long one": (
        over("containers", {"name": "main", "args": ["x" * 8193]}),
        "Container Overrides length must be at most 8192",
    ),
    "a variable": (
        over("containers", {"name": "main", "env": [{"name": "AWS_BATCH_X", "value": ""}]}),
        "Environment variables cannot start with AWS_BATCH",
    ),
    "an amount": (
        over("containers", {"name": "main", "resources": {"limits": {"cpu": "0.3"}}}),
        "Value 0.3 for resource cpu is not valid.",
    ),
    "a namespace": (over(metadata={"namespace": "x"}), "metadata.namespace can't be overridden"),
    "a reserved label": (over(metadata={"labels": {"k8s.io/x": ""}}), "are reserved"),
    "two ways": (
        {**over("containers", {"name": "main"}), "containerOverrides": {"command": ["x"]}},
        "Give either containerOverrides or eksPropertiesOverride, not 2 of them",
    ),
}


@pytest.mark.parametrize("case", SUBMISSIONS)
def test_a_wrong_submission_of_a_pod_is_refused(shared: Yard, case: str) -> None:
    wrong, text = SUBMISSIONS[case]
    members = {"jobName": "j", "jobQueue": "eq", "jobDefinition": "pods", "parameters": {"what": "x"}} | wrong
    assert text in refusal(shared.batch.submit_job, **members)


ENVIRONMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "no ARN": (on_eks("x") | {"eksConfiguration": CLUSTER | {"eksClusterArn": "c"}}, "is not the ARN of an EKS"),
    "ARN of ECS": (
        on_eks("x") | {"eksConfiguration": CLUSTER | {"eksClusterArn": f"arn:aws:ecs:{REGION}:123456789012:cluster/c"}},
        "is not the ARN of an EKS cluster.",
    ),
    "namespace default": (
        on_eks("x") | {"eksConfiguration": CLUSTER | {"kubernetesNamespace": "default"}},
        "kubernetesNamespace can't be set to default, and can't start with kube-: default",
    ),
    "namespace kube-system": (
        on_eks("x") | {"eksConfiguration": CLUSTER | {"kubernetesNamespace": "kube-system"}},
        "can't start with kube-: kube-system",
    ),
    "namespace in capitals": (
        on_eks("x") | {"eksConfiguration": CLUSTER | {"kubernetesNamespace": "Jobs"}},
        "kubernetesNamespace 'Jobs' is not valid.",
    ),
    "namespace of 64": (
        on_eks("x") | {"eksConfiguration": CLUSTER | {"kubernetesNamespace": "n" * 64}},
        "It must be at most 63 characters that match ^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
    ),
    "no namespace": (
        on_eks("x") | {"eksConfiguration": CLUSTER | {"kubernetesNamespace": ""}},
        "kubernetesNamespace '' is not valid.",
    ),
    "Fargate": (
        {
            "computeEnvironmentName": "x",
            "type": "MANAGED",
            "computeResources": {"type": "FARGATE", "maxvCpus": 1},
            "eksConfiguration": CLUSTER,
        },
        "FARGATE is not applicable for EKS.",
    ),
    "unmanaged": (
        {"computeEnvironmentName": "x", "type": "UNMANAGED", "eksConfiguration": CLUSTER},
        "UNMANAGED compute environments are not applicable for EKS.",
    ),
    "no strategy": (
        on_eks("x", allocationStrategy="BEST_FIT")
        | {
            "computeResources": {
                "type": "EC2",
                "minvCpus": 0,
                "maxvCpus": 1,
                "instanceRole": "r",
            }
        },
        "allocationStrategy is required for EKS compute environments.",
    ),
    "an access entry": (
        on_eks("x") | {"eksConfiguration": CLUSTER | {"accessEntry": {"desiredState": "ON"}}},
        "Member must satisfy enum value set: [ENABLED, DISABLED, INHERIT_FROM_CLUSTER]",
    ),
}


@pytest.mark.parametrize("case", ENVIRONMENTS)
def test_a_wrong_environment_of_a_cluster_is_refused(shared: Yard, case: str) -> None:
    wrong, text = ENVIRONMENTS[case]
    assert text in refusal(shared.batch.create_compute_environment, **wrong)


def test_queues_are_of_one_orchestration(shared: Yard) -> None:
    batch = shared.batch
    mixed = queue("x") | {
        "computeEnvironmentOrder": [
            {"order": 1, "computeEnvironment": "ce"},
            {"order": 2, "computeEnvironment": f"{ARN}compute-environment/eks"},
        ]
    }
    text = "EKS and ECS compute environments can not be mixed."
    assert text in refusal(batch.create_job_queue, **mixed)
    steps = mixed["computeEnvironmentOrder"]
    assert text in refusal(batch.update_job_queue, jobQueue="eq", computeEnvironmentOrder=steps)
    text = "Job queue of type EKS can not have compute environments of ECS."
    assert text in refusal(batch.create_job_queue, **queue("x", jobQueueType="EKS"))
    text = "Job queue of type ECS can not have compute environments of EKS."
    assert text in refusal(batch.create_job_queue, **queue("x", "eks", jobQueueType="ECS"))


def test_an_environment_of_hosts_has_no_access_entry(shared: Yard) -> None:
    update = {"accessEntry": {"desiredState": "DISABLED"}}
    text = refusal(shared.batch.update_compute_environment, computeEnvironment="ce", eksConfiguration=update)
    assert "eksConfiguration is not applicable for ECS compute environments." in text
