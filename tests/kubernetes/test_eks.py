"""Amazon EKS as users of boto3 know it, on nodes that run pods for real: exit codes, logs, memory, images, stops, gangs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Node as NodeObject
from lightkube.resources.core_v1 import Pod, Secret
from tests.e2e.programs import until
from tests.kubernetes.api_server import ApiServer
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.images import BUSYBOX
from tests.kubernetes.node import Node
from tests.kubernetes.yard import CLUSTER, KubernetesYard
from tests.ports import hold_address

from batchyard import JobState, container, job_state, pod

pytestmark = [pytest.mark.kubelet, pytest.mark.timeout(400)]

ARN = f"arn:aws:eks:us-east-1:123456789012:cluster/{CLUSTER}"
MISSING = "127.0.0.1:1/nothing:1"
NODES = "kubernetes.io/os=linux"


class Batch:
    """A yard of a real cluster, and boto3's client of its gateway."""

    def __init__(self, yard: KubernetesYard) -> None:
        self.yard = yard
        http = hold_address()
        gateway = yard.add_program("gateway", "batchyard_gateway", "--listen", http, "--controller", yard.socket)
        gateway.start()
        until(lambda: "listening" in gateway.tail(), "the gateway listens")
        with yard.client() as client:
            made = client.create_access_key(description="boto3")
        key = {"aws_access_key_id": made.access_key.id, "aws_secret_access_key": made.secret}
        once = Config(retries={"total_max_attempts": 1})
        self.client: Any = boto3.client(
            "batch", endpoint_url=f"http://{http}", region_name="us-east-1", config=once, **key
        )

    def make_queue(self) -> None:
        """Make an environment of the cluster and a queue, as the seed's walk does."""
        resources = {
            "type": "EC2",
            "allocationStrategy": "BEST_FIT_PROGRESSIVE",
            "minvCpus": 0,
            "maxvCpus": 128,
            "instanceTypes": ["optimal"],
            "subnets": ["subnet-12345678"],
            "securityGroupIds": ["sg-12345678"],
            "instanceRole": "ecsInstanceRole",
        }
        self.client.create_compute_environment(
            computeEnvironmentName="eks",
            type="MANAGED",
            eksConfiguration={"eksClusterArn": ARN, "kubernetesNamespace": self.yard.namespace},
            computeResources=resources,
        )
        environments = self.client.describe_compute_environments
        until(
            lambda: environments(computeEnvironments=["eks"])["computeEnvironments"][0]["status"] == "VALID",
            "the environment is VALID",
        )
        order = [{"order": 1, "computeEnvironment": "eks"}]
        self.client.create_job_queue(jobQueueName="eks", jobQueueType="EKS", priority=1, computeEnvironmentOrder=order)

    def submit(self, name: str, *command: str, image: str = BUSYBOX, memory: str = "32Mi", **more: Any) -> str:
        """Register a definition of one container and submit a job of it."""
        amounts = {"memory": memory, "cpu": "0.25"}
        container = {"image": image, "command": list(command), "resources": {"limits": amounts, "requests": amounts}}
        properties = {"podProperties": {"hostNetwork": True, "containers": [container]}}
        self.client.register_job_definition(jobDefinitionName=name, type="container", eksProperties=properties, **more)
        return str(self.client.submit_job(jobName=name, jobQueue="eks", jobDefinition=name)["jobId"])

    def job(self, job_id: str) -> Any:
        (found,) = self.client.describe_jobs(jobs=[job_id])["jobs"]
        return found

    def wait(self, job_id: str, limit_s: float = 120) -> Any:
        until(lambda: self.job(job_id)["status"] in ("SUCCEEDED", "FAILED"), f"{job_id} has ended", limit_s)
        return self.job(job_id)

    def until_no_pods(self) -> None:
        pods = self.yard.cluster.client.list
        until(lambda: not list(pods(Pod, namespace=self.yard.namespace)), "all pods are gone")

    def log(self, job_id: str, container: str = "default") -> str:
        with self.yard.client() as client:
            return b"".join(client.read_logs(job_id, container=container)).decode()


@pytest.fixture(scope="module")
def batch(kubelet_cluster: Cluster, node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Batch]:
    """A yard whose hosts are the nodes of a cluster that runs pods."""
    yard = KubernetesYard(
        tmp_path_factory.mktemp("eks"), kubelet_cluster, kubelet_cluster.make_namespace(), selector=NODES
    )
    try:
        yard.start_controller(speaks_for="*")
        yard.agent.start()
        with yard.client() as client:
            until(lambda: yard.is_ready(client, node.name), "the node is a host")
        made = Batch(yard)
        made.make_queue()
        yield made
    finally:
        yard.sweep()


def test_nodes_of_a_job_meet_at_their_hosts_addresses(
    batch: Batch, kubelet_cluster: Cluster, kubelet_server: ApiServer, node: Node, tmp_path: Path
) -> None:
    port = 23571
    amounts = {"limits": {"memory": "16Mi", "cpu": "0.25"}, "requests": {"memory": "16Mi", "cpu": "0.25"}}

    def pod(script: str) -> dict[str, Any]:
        container = {"image": BUSYBOX, "command": ["sh", "-c", script], "resources": amounts}
        return {"eksProperties": {"podProperties": {"hostNetwork": True, "containers": [container]}}}

    ranges = [
        {"targetNodes": "0", **pod(f"busybox nc -l -p {port}")},
        {
            "targetNodes": "1:1",
            **pod(
                "for n in 1 2 3 4 5 6 7 8 9; do "
                f"echo hello from $AWS_BATCH_JOB_NODE_INDEX | busybox nc $AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS {port}"
                " && exit 0; sleep 1; done; exit 1"
            ),
        },
    ]
    with Node(kubelet_server, tmp_path / "second", "second") as second:
        with batch.yard.client() as client:
            until(lambda: batch.yard.is_ready(client, node.name, second.name), "both nodes are hosts", 60)
        batch.client.register_job_definition(
            jobDefinitionName="gang",
            type="multinode",
            nodeProperties={"numNodes": 2, "mainNode": 0, "nodeRangeProperties": ranges},
        )
        job_id = batch.client.submit_job(jobName="gang", jobQueue="eks", jobDefinition="gang")["jobId"]
        job = batch.wait(job_id)
        assert job["status"] == "SUCCEEDED", job
        assert batch.log(f"{job_id}#0") == "hello from 1\n"
        batch.until_no_pods()  # a pod is taken away by its node, which goes now
        # Nobody here says of a node that it is not ready any more.
        kubelet_cluster.client.delete(NodeObject, second.name)


def test_jobs_end_as_their_pods_do(batch: Batch) -> None:
    missing = batch.submit("missing", "true", image=MISSING)
    fine = batch.submit("fine", "sh", "-c", "echo hello; echo there >&2; sleep 1; printf bye")
    wrong = batch.submit("wrong", "sh", "-c", "exit 3")
    # Its end comes behind the word that memory was short, which containerd may else hear second.
    greedy = batch.submit("greedy", "sh", "-c", "tail /dev/zero; code=$?; sleep 2; exit $code", memory="16Mi")
    nothing = batch.submit("nothing", "/nosuch")
    job = batch.wait(fine)
    [attempt] = job["eksAttempts"]
    assert (job["status"], attempt["containers"][0]["exitCode"]) == ("SUCCEEDED", 0)
    assert attempt["containers"][0]["reason"] == "Completed"
    assert attempt["containers"][0]["containerID"].startswith("containerd://")
    assert attempt["podName"].startswith("aws-batch.")
    # Which of two streams comes first nobody says.
    assert sorted(batch.log(fine).split("\n")) == ["bye", "hello", "there"]
    [attempt] = batch.wait(wrong)["eksAttempts"]
    assert (attempt["containers"][0]["exitCode"], attempt["containers"][0]["reason"]) == (3, "Error")
    [attempt] = batch.wait(greedy)["eksAttempts"]
    assert (attempt["containers"][0]["exitCode"], attempt["containers"][0]["reason"]) == (137, "OOMKilled")
    with batch.yard.client() as client:
        tried = client.describe_job(greedy).attempts[0]
        assert tried.reason == "OutOfMemoryError: Container killed due to memory usage"
        batch.wait(nothing)
        tried = client.describe_job(nothing).attempts[0]
        assert (tried.exit_code, tried.reason.partition(":")[0]) == (127, "CannotStartContainerError")
        batch.wait(missing, limit_s=200)
        tried = client.describe_job(missing).attempts[0]
        assert tried.reason.startswith("CannotPullContainerError: "), tried
    batch.until_no_pods()


def test_init_containers_run_before_and_their_ends_are_told(batch: Batch) -> None:
    amounts = {"limits": {"memory": "16Mi", "cpu": "0.25"}, "requests": {"memory": "16Mi", "cpu": "0.25"}}
    mounts = [{"name": "work", "mountPath": "/common"}]
    said = {"image": BUSYBOX, "resources": amounts, "volumeMounts": mounts}
    properties = {
        "hostNetwork": True,
        "initContainers": [said | {"name": "first", "command": ["sh", "-c", "echo prepared > /common/it"]}],
        "containers": [
            said
            | {
                "name": "main",
                "command": ["sh", "-c", "cat /common/it; echo $WHO"],
                "env": [{"name": "WHO", "value": "x"}],
            },
            said | {"name": "side", "command": ["sh", "-c", "sleep 1; exit 0"]},
        ],
        "volumes": [{"name": "work", "emptyDir": {}}],
        "metadata": {"labels": {"team": "a"}},
    }
    batch.client.register_job_definition(
        jobDefinitionName="several", type="container", eksProperties={"podProperties": properties}
    )
    job_id = batch.client.submit_job(jobName="several", jobQueue="eks", jobDefinition="several")["jobId"]
    job = batch.wait(job_id)
    [attempt] = job["eksAttempts"]
    assert [(c["name"], c["exitCode"]) for c in attempt["containers"]] == [("main", 0), ("side", 0)]
    assert [(c["name"], c["exitCode"]) for c in attempt["initContainers"]] == [("first", 0)]
    assert batch.log(job_id, "main") == "prepared\nx\n"


def test_a_pod_reads_the_yards_secrets(batch: Batch) -> None:
    script = 'echo "$DB" | busybox rev'
    with batch.yard.client() as client:
        client.put_secret("db", "hunter2")
        what = pod(container(["-c", script], image=BUSYBOX, memory=32, vcpus=0.25, secrets={"DB": "db"}))
        what.containers[0].entrypoint.append("sh")
        client.register_job_definition("secretive", task=what)
        job_id = client.submit_job(name="secretive", queue="eks", job_definition="secretive").job_id
        assert job_state(client.wait(job_id, timeout_s=60)) is JobState.SUCCEEDED
    assert batch.log(job_id) == "2retnuh\n"


def test_what_a_node_says_of_a_volume_that_it_cannot_mount_is_told(batch: Batch) -> None:
    amounts = {"limits": {"memory": "16Mi", "cpu": "0.25"}}
    mounts = [{"name": "key", "mountPath": "/key"}]
    said = {"image": BUSYBOX, "command": ["cat", "/key/it"], "resources": amounts, "volumeMounts": mounts}
    volumes = [{"name": "key", "secret": {"secretName": "late"}}]
    batch.client.register_job_definition(
        jobDefinitionName="mounting",
        type="container",
        eksProperties={"podProperties": {"containers": [said], "volumes": volumes}},
    )
    job_id = batch.client.submit_job(jobName="mounting", jobQueue="eks", jobDefinition="mounting")["jobId"]

    def told() -> str:
        with batch.yard.client() as client:
            return client.describe_job(job_id).waiting_reason

    until(lambda: 'secret "late" not found' in told(), "it is told", 60)
    assert told().startswith("CannotStartContainerError: FailedMount: MountVolume.SetUp failed")
    made = Secret(metadata=ObjectMeta(name="late", namespace=batch.yard.namespace), stringData={"it": "here"})
    batch.yard.cluster.client.create(made)
    assert batch.wait(job_id)["status"] == "SUCCEEDED"
    assert (batch.log(job_id), told()) == ("here", "")


def test_a_pod_that_is_stopped_gets_its_time_and_one_that_does_not_heed_it_is_killed(batch: Batch) -> None:
    script = "trap 'echo asked; exit 9' TERM; echo up; while true; do sleep 0.1; done"
    heeds = batch.submit("heeds", "sh", "-c", script)
    deaf = batch.submit("deaf", "sh", "-c", "trap '' TERM; echo up; while true; do sleep 0.1; done")
    until(lambda: [batch.job(job_id)["status"] for job_id in (heeds, deaf)] == ["RUNNING"] * 2, "both run", 60)
    time.sleep(1.5)
    for job_id in (heeds, deaf):
        batch.client.terminate_job(jobId=job_id, reason="enough")
    job = batch.wait(heeds)
    assert (job["statusReason"], job["eksAttempts"][0]["containers"][0]["exitCode"]) == ("enough", 9)
    assert batch.log(heeds).startswith("up\n")
    assert batch.wait(deaf)["eksAttempts"][0]["containers"][0]["exitCode"] == 137
