"""Jobs as pods, from the yard to the API server and back: one yard, one node, and what a kubelet may say."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from lightkube.models.core_v1 import Container, PodSpec, ResourceQuotaSpec, ResourceRequirements
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Node, Pod, ResourceQuota, ResourceQuotaStatus
from lightkube.types import PatchType
from tests.e2e.programs import until
from tests.kubernetes import hand as said
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.hand import BY_HAND, Hand, hand, overlaps
from tests.kubernetes.yard import CLUSTER, KubernetesYard

from batchyard import Client, JobState, container, job_state
from batchyard.ids import task_id
from batchyard.pods import pod_name
from batchyard.v1.attempt_pb2 import EndCause
from batchyard.v1.host_pb2 import HOST_STATE_READY, HOST_STATE_UNREACHABLE
from batchyard.v1.job_pb2 import Job

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(240), pytest.mark.xdist_group("pods")]


@pytest.fixture(scope="module")
def yard(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubernetesYard]:
    """A yard with one node, which tests share."""
    yard = KubernetesYard(tmp_path_factory.mktemp("pods"), cluster, cluster.make_namespace())
    node = yard.add_node(cpu="8", memory="16Gi")
    try:
        yard.begin(node)
        yield yard
    finally:
        yard.sweep()


@pytest.fixture(scope="module")
def nodes(yard: KubernetesYard, cluster: Cluster) -> Iterator[Hand]:
    """Somebody who plays its nodes."""
    with hand(cluster, yard.namespace) as playing:
        yield playing


@pytest.fixture
def client(yard: KubernetesYard) -> Iterator[Client]:
    with yard.client() as client:
        yield client


def submit(client: Client, *words: str, vcpus: int = 1, memory: int = 64, **more: Any) -> str:
    """Submit a job of one container; return its id."""
    what = container([*(words or BY_HAND)], image="busybox:1", vcpus=vcpus, memory=memory)
    return client.submit_job(name="job", container=what, **more).job_id


def pods(yard: KubernetesYard) -> list[Any]:
    """Return the namespace's pods; of what the API gives, all may be absent."""
    return list(yard.cluster.client.list(Pod, namespace=yard.namespace))


def pod_of(yard: KubernetesYard, job_id: str, *, bound: bool = True) -> Any:
    """Return the pod of a job, once there is one, and once it is bound."""
    found: list[Any] = []

    def is_there() -> bool:
        found[:] = [pod for pod in pods(yard) if pod.metadata.name == pod_name(job_id)]
        return bool(found) and (not bound or bool(found[0].spec.nodeName))

    until(is_there, "the pod is there")
    return found[0]


def say(yard: KubernetesYard, pod: Any, status: dict[str, Any]) -> None:
    yard.cluster.patch_pod_status(yard.namespace, pod.metadata.name, status)


def ended(yard: KubernetesYard, client: Client, job_id: str) -> Job:
    """Return a job that has ended, once its pod is gone."""
    job = client.wait(job_id, timeout_s=90)
    until(lambda: pod_name(job_id) not in [pod.metadata.name for pod in pods(yard)], "the pod is gone")
    return job


def test_an_ordinary_job_with_an_image_is_a_pod(yard: KubernetesYard, nodes: Hand, client: Client) -> None:
    job_id = submit(client, "exit", "3", "after", "1")
    pod = pod_of(yard, job_id)
    meta, spec = pod.metadata, pod.spec
    assert meta.finalizers == ["batchyard.io/outcome"]
    assert meta.labels["batch.amazonaws.com/job-id"] == job_id
    assert meta.labels["batchyard.io/attempt"] == task_id(f"{job_id}#1")
    assert (spec.restartPolicy, spec.hostNetwork, spec.automountServiceAccountToken) == ("Never", None, False)
    assert spec.containers[0].args == ["exit", "3", "after", "1"]
    assert spec.containers[0].resources.requests == {"cpu": "1", "memory": "64Mi"}
    assert spec.containers[0].resources.limits == {"memory": "64Mi"}
    told = {variable.name: variable.value for variable in spec.containers[0].env}
    assert told["AWS_BATCH_JOB_ID"] == job_id
    assert told["AWS_BATCH_JOB_KUBERNETES_NODE_UID"] == meta.labels["batch.amazonaws.com/node-uid"]
    job = ended(yard, client, job_id)
    attempt = job.attempts[0]
    assert (job_state(job), attempt.exit_code, attempt.cause) == (JobState.FAILED, 3, EndCause.END_CAUSE_EXITED)
    assert 0 < attempt.started_at_ms <= attempt.stopped_at_ms


def test_what_became_of_a_pod_that_is_deleted_is_not_lost(yard: KubernetesYard, nodes: Hand, client: Client) -> None:
    job_id = submit(client)
    pod = pod_of(yard, job_id)
    say(yard, pod, said.running(pod))
    until(lambda: job_state(client.describe_job(job_id)) is JobState.RUNNING, "it runs")
    yard.cluster.client.delete(Pod, pod.metadata.name, namespace=yard.namespace)
    say(yard, pod, said.ended(pod, 137, "OOMKilled"))
    yard.cluster.end_pod(yard.namespace, pod.metadata.name)  # as its kubelet does then
    attempt = ended(yard, client, job_id).attempts[0]
    assert (attempt.exit_code, attempt.cause) == (137, EndCause.END_CAUSE_OUT_OF_MEMORY)
    assert attempt.reason == "OutOfMemoryError: Container killed due to memory usage"


@pytest.mark.parametrize("more", [{"reason": "Evicted", "message": "The node was low on resource: memory."}, {}])
def test_an_evicted_pod_is_lost_with_its_host(
    yard: KubernetesYard, nodes: Hand, client: Client, more: dict[str, Any]
) -> None:
    job_id = submit(client)
    pod = pod_of(yard, job_id)
    say(yard, pod, said.running(pod))
    disrupted = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
    told = more or {"conditions": [{**disrupted, "lastTransitionTime": said.now()}]}
    say(yard, pod, {**said.ended(pod, 143), **told})
    until(lambda: client.describe_job(job_id).attempts[0].cause == EndCause.END_CAUSE_LOST, "it is lost")
    attempt = client.describe_job(job_id).attempts[0]
    assert attempt.status_reason.startswith("Host EC2 (instance i-")
    assert attempt.status_reason.endswith(") terminated.")
    client.terminate_job(job_id, "enough")


@pytest.mark.parametrize(
    ("word", "message", "text"),
    [
        ("InvalidImageName", "couldn't parse", "CannotPullContainerError: couldn't parse"),
        ("ErrImageNeverPull", "is not present", "CannotPullContainerError: is not present"),
        ("CreateContainerError", "no such device", "CannotStartContainerError: no such device"),
    ],
)
def test_a_pod_that_cannot_start_is_given_up_with_awss_text(
    yard: KubernetesYard, nodes: Hand, client: Client, word: str, message: str, text: str
) -> None:
    job_id = submit(client)
    pod = pod_of(yard, job_id)
    say(yard, pod, said.waiting(pod, word, message))
    until(lambda: pod_of(yard, job_id).metadata.deletionTimestamp is not None, "it is deleted")
    assert job_state(client.describe_job(job_id)) is JobState.STARTING  # it might still have begun
    say(yard, pod, {"phase": "Failed"})
    job = ended(yard, client, job_id)
    assert (job_state(job), job.attempts[0].reason) == (JobState.FAILED, text)


def test_a_job_that_is_terminated_gets_its_time_to_end(yard: KubernetesYard, nodes: Hand, client: Client) -> None:
    job_id = submit(client)
    pod = pod_of(yard, job_id)
    say(yard, pod, said.running(pod))
    until(lambda: job_state(client.describe_job(job_id)) is JobState.RUNNING, "it runs")
    client.terminate_job(job_id, "enough")
    until(lambda: pod_of(yard, job_id).metadata.deletionTimestamp is not None, "it is deleted")
    assert pod_of(yard, job_id).metadata.deletionGracePeriodSeconds == 30
    say(yard, pod, said.ended(pod, 143))
    job = ended(yard, client, job_id)
    assert (job_state(job), job.status_reason) == (JobState.FAILED, "enough")


def test_tries_of_a_job_have_one_name_and_never_run_at_once(yard: KubernetesYard, nodes: Hand, client: Client) -> None:
    job_id = submit(client, "exit", "1", "after", "0.3", attempts=3)
    job = ended(yard, client, job_id)
    assert [attempt.exit_code for attempt in job.attempts] == [1, 1, 1]
    spans = sorted((s for s in nodes.spans.values() if s.name == pod_name(job_id)), key=lambda span: span.started)
    assert [span.attempt for span in spans] == [task_id(f"{job_id}#{n}") for n in (1, 2, 3)]
    assert not overlaps(spans)


def test_a_pod_that_is_left_of_an_earlier_try_is_ended_before_the_next_begins(
    yard: KubernetesYard, nodes: Hand, client: Client
) -> None:
    """Whoever left it: the API server refuses a second of its name, and so it is found."""
    before = submit(client, "exit", "0", "after", "0.2")
    ended(yard, client, before)
    job_id = submit(client, "exit", "0", "after", "0.2", depends_on=[submit(client, "exit", "0", "after", "4")])
    [host] = list(client.list_hosts())
    labels = {"batchyard.io/attempt": task_id(f"{job_id}#7"), "batchyard.io/host": "former"}
    former = Pod(
        metadata=ObjectMeta(
            name=pod_name(job_id), namespace=yard.namespace, labels=labels, finalizers=["batchyard.io/outcome"]
        ),
        spec=PodSpec(nodeName=host.facts.name, containers=[Container(name="c", image="busybox:1", args=["exit", "0"])]),
    )
    yard.cluster.client.create(former)
    until(lambda: any(span.name == pod_name(job_id) for span in nodes.spans.values()), "the former runs")
    assert job_state(ended(yard, client, job_id)) is JobState.SUCCEEDED
    spans = sorted((s for s in nodes.spans.values() if s.name == pod_name(job_id)), key=lambda span: span.started)
    assert [span.attempt for span in spans] == [task_id(f"{job_id}#7"), task_id(f"{job_id}#1")]
    assert spans[0].exit_code == said.KILLED
    assert not overlaps(spans)


def test_what_a_quota_refuses_fails_with_its_words(yard: KubernetesYard, nodes: Hand, client: Client) -> None:
    api = yard.cluster.client
    limit = {"requests.memory": "1Gi"}
    api.create(
        ResourceQuota(metadata=ObjectMeta(name="q", namespace=yard.namespace), spec=ResourceQuotaSpec(hard=limit))
    )
    try:
        # Its controller would say so.
        status = {"status": {"hard": limit, "used": {"requests.memory": "0"}}}
        api.patch(ResourceQuotaStatus, "q", status, namespace=yard.namespace, patch_type=PatchType.MERGE)
        time.sleep(1)  # the server looks at quotas by a watch of its own
        job = ended(yard, client, submit(client, "exit", "0", memory=2048))
    finally:
        api.delete(ResourceQuota, "q", namespace=yard.namespace)
    assert job_state(job) is JobState.FAILED
    assert job.attempts[0].reason.startswith("CannotStartContainerError: pods ")
    assert "exceeded quota: q" in job.attempts[0].reason


def test_what_others_hold_of_a_node_is_not_given_away(yard: KubernetesYard, nodes: Hand, client: Client) -> None:
    [host] = list(client.list_hosts())
    other = yard.cluster.make_namespace()
    asked = ResourceRequirements(requests={"cpu": "7500m", "memory": "1Gi"})
    spec = PodSpec(nodeName=host.facts.name, containers=[Container(name="c", image="busybox:1", resources=asked)])
    yard.cluster.client.create(Pod(metadata=ObjectMeta(name="other", namespace=other), spec=spec))
    until(lambda: next(iter(client.list_hosts())).usage.reserved.cpu_millis == 7500, "it is told")
    job_id = submit(client, "exit", "0", "after", "0.1")
    assert job_state(client.describe_job(job_id)) is JobState.RUNNABLE
    yard.cluster.client.delete(Pod, "other", namespace=other, grace_period=0)
    assert job_state(ended(yard, client, job_id)) is JobState.SUCCEEDED
    assert not next(iter(client.list_hosts())).usage.HasField("reserved")


def test_a_cordoned_node_takes_nothing_new_and_one_that_is_not_ready_is_out_of_touch(
    yard: KubernetesYard, nodes: Hand, client: Client
) -> None:
    [host] = list(client.list_hosts())
    name, api = host.facts.name, yard.cluster.client
    running = submit(client, "exit", "0", "after", "12")
    pod_of(yard, running)
    api.patch(Node, name, {"spec": {"unschedulable": True}})
    until(
        lambda: list(client.describe_host(name).host.facts.faults) == ["the node is cordoned in Kubernetes"],
        "it says so",
    )
    waiting = submit(client, "exit", "0", "after", "0.1")
    time.sleep(1)
    assert job_state(client.describe_job(waiting)) is JobState.RUNNABLE
    yard.cluster.set_ready(name, False)
    until(lambda: client.describe_host(name).host.state == HOST_STATE_UNREACHABLE, "it is out of touch")
    assert job_state(client.describe_job(running)) is JobState.RUNNING
    api.patch(Node, name, {"spec": {"unschedulable": None}})
    yard.cluster.set_ready(name, True)
    until(lambda: client.describe_host(name).host.state == HOST_STATE_READY, "it is back")
    assert job_state(ended(yard, client, running)) is JobState.SUCCEEDED
    assert job_state(ended(yard, client, waiting)) is JobState.SUCCEEDED
    assert client.describe_host(name).host.facts.kubernetes.cluster == CLUSTER
