"""The agent on a cluster of its own, which is broken, as it is itself: nothing runs twice and nothing is lost."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.server
import json
import random
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lightkube.models.admissionregistration_v1 import RuleWithOperations, ValidatingWebhook, WebhookClientConfig
from lightkube.models.core_v1 import Container, PodSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.models.rbac_v1 import PolicyRule
from lightkube.resources.admissionregistration_v1 import ValidatingWebhookConfiguration
from lightkube.resources.coordination_v1 import Lease
from lightkube.resources.core_v1 import Node, Pod
from lightkube.types import PatchType
from tests.agent.runtimes.engine import ensure_image
from tests.e2e.programs import Program, until
from tests.kubernetes.api_server import ApiServer
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.hand import hand, overlaps
from tests.kubernetes.test_pods import ended, pod_of, pods, submit
from tests.kubernetes.yard import KubernetesYard

from batchyard import Client, JobState, container, job_state
from batchyard.ids import child_id
from batchyard.pods import pod_name
from batchyard.v1 import compute_environment_pb2 as environment_pb
from batchyard.v1.attempt_pb2 import EndCause
from batchyard_agent.core.events import Now
from batchyard_agent.kubernetes.cluster import Cluster as AgentCluster
from batchyard_agent.kubernetes.cluster import read_config
from batchyard_agent.kubernetes.pod_body import FINALIZER
from batchyard_agent.kubernetes.rights import CLUSTER_VERBS, GROUPS, NAMESPACE_VERBS, Verbs
from batchyard_agent.kubernetes.tenancy import LEASE, Tenancy

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(400)]

PODS = 300
KILLS = 6


@pytest.fixture
def own_yard(own_cluster: Cluster, tmp_path: Path) -> Iterator[KubernetesYard]:
    """A yard on a cluster that the test may break."""
    yard = KubernetesYard(tmp_path / "yard", own_cluster, own_cluster.make_namespace())
    yield yard
    yard.sweep()


@pytest.fixture
def yard(cluster: Cluster, tmp_path: Path) -> Iterator[KubernetesYard]:
    """A yard of a namespace of a cluster that tests share."""
    yard = KubernetesYard(tmp_path / "yard", cluster, cluster.make_namespace())
    yield yard
    yard.sweep()


def cause_of(client: Client, job_id: str) -> int:
    """Return why a job's first try ended; 0 until it has."""
    attempts = client.describe_job(job_id).attempts
    return attempts[0].cause if attempts else 0


def test_watches_that_are_broken_and_too_old_lose_nothing(own_yard: KubernetesYard, own_api_server: ApiServer) -> None:
    yard = own_yard
    yard.begin(yard.add_node())
    with yard.client() as client, hand(yard.cluster, yard.namespace) as nodes:
        job_id = submit(client, "exit", "2", "after", "6")
        until(lambda: job_state(client.describe_job(job_id)) is JobState.RUNNING, "it runs")
        own_api_server.forget_history()
        job = ended(yard, client, job_id)
        assert (job_state(job), job.attempts[0].exit_code) == (JobState.FAILED, 2)
        own_api_server.kill_server()
        until(lambda: any(host.facts.faults for host in client.list_hosts()), "the host says that it is blind")
        own_api_server.start_server()
        until(lambda: not any(host.facts.faults for host in client.list_hosts()), "the host sees again")
        assert job_state(ended(yard, client, submit(client, "exit", "0", "after", "0.2"))) is JobState.SUCCEEDED
        assert len(nodes.spans) == 2
    assert "agent started" in yard.agent.text()
    assert yard.agent.is_running


class Refusing(http.server.BaseHTTPRequestHandler):
    """A webhook that refuses every pod."""

    def do_POST(self) -> None:  # the library's name
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = {"message": "pods need a blessing", "code": 403}
        response = {"uid": asked["request"]["uid"], "allowed": False, "status": status}
        body = json.dumps(
            {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def refusing(server: ApiServer) -> Iterator[str]:
    """Serve the webhook; yield where."""
    identity = server.authority.issue("webhook", hosts=("127.0.0.1",))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.key)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as web:
        web.socket = context.wrap_socket(web.socket, server_side=True)
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        try:
            yield f"https://127.0.0.1:{web.server_port}/"
        finally:
            web.shutdown()
            thread.join()


def test_what_a_webhook_refuses_fails_with_its_words(own_yard: KubernetesYard, own_api_server: ApiServer) -> None:
    yard, ca = own_yard, base64.b64encode(own_api_server.authority.certificate.read_bytes()).decode()
    yard.begin(yard.add_node())
    rule = RuleWithOperations(apiGroups=[""], apiVersions=["v1"], operations=["CREATE"], resources=["pods"])
    with yard.client() as client, refusing(own_api_server) as url:
        webhook = ValidatingWebhook(
            name="pods.example.org",
            admissionReviewVersions=["v1"],
            clientConfig=WebhookClientConfig(url=url, caBundle=ca),
            sideEffects="None",
            rules=[rule],
        )
        hooks = ValidatingWebhookConfiguration(metadata=ObjectMeta(name="blessing"), webhooks=[webhook])
        yard.cluster.client.create(hooks)
        time.sleep(2)  # the server looks at webhooks by a watch of its own
        job = client.wait(submit(client, "exit", "0"), timeout_s=60)
        assert job_state(job) is JobState.FAILED
        text = (
            'CannotStartContainerError: admission webhook "pods.example.org" denied the request: pods need a blessing'
        )
        assert job.attempts[0].reason == text


def test_an_agent_that_is_killed_again_and_again_runs_nothing_twice_and_loses_nothing(
    yard: KubernetesYard,
) -> None:
    dice = random.Random(14)
    names = [yard.add_node(f"-{n}", cpu="200", memory="64Gi") for n in range(2)]
    yard.begin(*names)
    with yard.client() as client, hand(yard.cluster, yard.namespace) as nodes:
        what = container(["exit", "index", "after", "1"], image="busybox:1", vcpus=1, memory=16)
        parent = client.submit_job(name="many", container=what, array_size=PODS, attempts=1).job_id
        for _ in range(KILLS):
            time.sleep(dice.uniform(0.5, 5))
            yard.agent.kill()
            time.sleep(dice.uniform(0, 1))
            yard.agent.start()
        client.wait(parent, timeout_s=240)
        for index in range(PODS):
            child = client.describe_job(child_id(parent, index))
            last = child.attempts[-1]
            assert (last.cause, last.exit_code) == (EndCause.END_CAUSE_EXITED, index % 3), child
            assert all(attempt.cause == EndCause.END_CAUSE_HOST_ERROR for attempt in child.attempts[:-1]), child
        until(lambda: not pods(yard), "all pods are gone", limit_s=60)
        spans = list(nodes.spans.values())
    assert not overlaps(spans)
    # A try was run once; a child that was tried again never ran before, or was killed for it.
    assert len({span.attempt for span in spans}) == len(spans)
    assert {span.name for span in spans} == {pod_name(child_id(parent, index)) for index in range(PODS)}
    done = [span for span in spans if span.exit_code != 137]
    assert len(done) == PODS


def test_what_finds_no_room_on_its_node_and_what_ran_on_one_that_is_gone(yard: KubernetesYard) -> None:
    kept, gone = yard.add_node("-a"), yard.add_node("-b")
    yard.begin(kept, gone)
    with yard.client() as client, hand(yard.cluster, yard.namespace) as nodes:
        running = {submit(client, "exit", "0", vcpus=4): None for _ in range(2)}  # one each, without end
        until(lambda: all(job_state(client.describe_job(j)) is JobState.RUNNING for j in running), "both run")
        placed = {pod_of(yard, job_id).spec.nodeName: job_id for job_id in running}
        lost, stays = placed[gone], placed[kept]
        yard.cluster.client.delete(Node, gone)
        client.terminate_job(stays, "to make room")
        client.wait(stays, timeout_s=60)
        nodes.binds = False
        unbound = submit(client, "exit", "0", "after", "0.1", attempts=1)
        pod_of(yard, unbound, bound=False)
        until(lambda: cause_of(client, unbound), "the scheduler found no room", limit_s=100)
        attempt = client.describe_job(unbound).attempts[0]
        assert attempt.cause == EndCause.END_CAUSE_HOST_ERROR
        assert attempt.reason == "CannotStartContainerError: the scheduler has not bound the pod to its node"
        nodes.binds = True
        until(lambda: cause_of(client, lost) == EndCause.END_CAUSE_LOST, "lost", limit_s=100)
        attempt = client.describe_job(lost).attempts[0]
        assert attempt.status_reason.startswith("Host EC2 (instance i-")
        # Neither counts as a try of the job's own.
        assert [job_state(client.describe_job(each)) for each in (unbound, lost)] == [JobState.RUNNABLE] * 2
        until(lambda: not any(gone in host.facts.name for host in client.list_hosts() if host.state == 1), "it left")


@pytest.mark.docker
def test_own_hosts_come_first_and_a_cluster_takes_what_is_too_much(yard: KubernetesYard) -> None:
    image, node = ensure_image(), yard.add_node()
    yard.start_controller(speaks_for="*")
    yard.agent.start()
    yard.add_agent("own", cpus=1, runtimes="docker").start()
    with yard.client() as client, hand(yard.cluster, yard.namespace) as nodes:
        until(lambda: yard.is_ready(client, node, "own"), "both are hosts")
        resources = environment_pb.ComputeResources(
            type=environment_pb.CAPACITY_TYPE_EC2,
            allocation_strategy=environment_pb.ALLOCATION_STRATEGY_BEST_FIT_PROGRESSIVE,
        )
        client.create_compute_environment("own", compute_resources=resources)
        yard.make_queue(client, "own")
        # For a container a script, for who plays the node what it is to say.
        what = container(["sh", "-c", "sleep 5", "exit", "0", "after", "1"], image=image, vcpus=1, memory=64)
        jobs = [client.submit_job(name=f"job-{n}", container=what).job_id for n in range(3)]
        ends = [client.wait(job_id, timeout_s=60) for job_id in jobs]
    assert [job_state(job) for job in ends] == [JobState.SUCCEEDED] * 3
    assert [job.attempts[0].compute_environment for job in ends] == ["own", "default", "default"]
    assert {span.name for span in nodes.spans.values()} == {pod_name(job_id) for job_id in jobs[1:]}


def rules(verbs: Verbs) -> list[PolicyRule]:
    """Return what an agent has to be allowed, as rules of a role."""
    return [
        PolicyRule(
            apiGroups=[GROUPS.get(resource, "")],
            resources=[f"{resource}/{sub}" if sub else resource],
            verbs=list(allowed),
        )
        for resource, sub, allowed in verbs
        if allowed
    ]


def without(verbs: Verbs, resource: str, sub: str, verb: str) -> Verbs:
    return tuple((r, s, tuple(v for v in allowed if (r, s, v) != (resource, sub, verb))) for r, s, allowed in verbs)


def each(verbs: Verbs) -> list[tuple[str, str, str]]:
    return [(resource, sub, verb) for resource, sub, allowed in verbs for verb in allowed]


def test_rights_are_enough_and_each_is_missed_by_its_name(yard: KubernetesYard) -> None:
    """With just these a job runs; without any one of them the agent says which, and does not begin."""
    cluster, namespace = yard.cluster, yard.namespace
    everywhere = [(CLUSTER_VERBS, one) for one in each(CLUSTER_VERBS)]
    inside = [(NAMESPACE_VERBS, one) for one in each(NAMESPACE_VERBS)]
    for n, (verbs, (resource, sub, verb)) in enumerate([*everywhere, *inside]):
        cluster_verbs, namespace_verbs = (
            without(each_verbs, resource, sub, verb) if each_verbs is verbs else each_verbs
            for each_verbs in (CLUSTER_VERBS, NAMESPACE_VERBS)
        )
        account = cluster.make_account(namespace, f"lacks-{n}", rules(namespace_verbs), rules(cluster_verbs))
        arguments = [*yard.add_kubernetes(account).arguments]
        ran = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
        place = f"in namespace {namespace}" if verbs is NAMESPACE_VERBS else "in all of the cluster"
        what = f"{resource}/{sub}" if sub else resource
        assert ran.returncode == 1, ran.stderr
        assert f"the cluster does not allow this agent to {verb} {what} {place}" in ran.stderr
    account = cluster.make_account(namespace, "enough", rules(NAMESPACE_VERBS), rules(CLUSTER_VERBS))
    yard.add_kubernetes(account)
    yard.begin(yard.add_node())
    with yard.client() as client, hand(cluster, namespace):
        assert job_state(ended(yard, client, submit(client, "exit", "0", "after", "0.2"))) is JobState.SUCCEEDED
    assert " 403" not in yard.agent.text()


def test_a_namespace_belongs_to_one_agent(yard: KubernetesYard) -> None:
    """A second one neither kills what the first runs, nor takes its place while it lives; of one that died it does."""
    yard.begin(yard.add_node())
    with yard.client() as client, hand(yard.cluster, yard.namespace) as nodes:
        job_id = submit(client, "exit", "0")
        until(lambda: job_state(client.describe_job(job_id)) is JobState.RUNNING, "it runs")
        first = yard.agent
        arguments = list(first.arguments)
        arguments[arguments.index("--state-dir") + 1] += "-2"
        second = Program("second agent", arguments, yard.folder / "second.log")
        yard.others.append(second)
        second.start()
        until(lambda: "the namespace is another agent's" in second.text(), "it waits")
        time.sleep(12)
        assert all(span.stopped is None for span in nodes.spans.values())
        assert "agent started" not in second.text()
        first.kill()
        until(lambda: "agent started" in second.text(), "it takes over", limit_s=90)
        # It knows nothing of what runs, and nobody else answers for that any more.
        until(lambda: all(span.stopped is not None for span in nodes.spans.values()), "the stray is killed")
        first.start()
        assert first.wait(limit_s=150) == 1
        assert "belongs to another agent" in first.text()


def test_a_namespace_is_taken_at_any_moment(cluster: Cluster, namespace: str) -> None:
    """Also at a full second, at which a time may be written without a fraction, and the server takes none such."""

    async def take(wall_ms: int) -> None:
        api = AgentCluster(read_config(cluster.kubeconfig, ""))
        try:
            await Tenancy(api, [namespace], "a", lambda: Now(boot_ms=wall_ms, wall_ms=wall_ms)).take()
        finally:
            await api.close()

    for wall_ms in (1_800_000_000_000, 1_800_000_010_000, 1_800_000_010_001):
        asyncio.run(take(wall_ms))
        spec = cluster.client.get(Lease, LEASE, namespace=namespace).spec
        assert spec is not None
        assert spec.renewTime is not None
        assert round(spec.renewTime.timestamp() * 1000) == wall_ms


def test_a_namespace_that_is_not_there_is_named_with_the_command_that_makes_it(yard: KubernetesYard) -> None:
    yard.start_controller(speaks_for="*")
    yard.namespace = f"{yard.namespace}-not"
    agent = yard.add_kubernetes(yard.cluster.kubeconfig)
    agent.start()
    assert agent.wait() == 1
    assert f"there is no namespace {yard.namespace}: kubectl create namespace {yard.namespace}" in agent.text()


def test_release_lets_all_pods_of_a_namespace_go(yard: KubernetesYard) -> None:
    yard.begin(yard.add_node())
    with yard.client() as client, hand(yard.cluster, yard.namespace):
        job_id = submit(client, "exit", "0")
        name = pod_of(yard, job_id).metadata.name
        until(lambda: job_state(client.describe_job(job_id)) is JobState.RUNNING, "it runs")
        yard.agent.kill()
        api = yard.cluster.client
        api.delete(Pod, name, namespace=yard.namespace, grace_period=0)
        assert [pod.metadata.name for pod in pods(yard)] == [name]
        arguments = [*yard.agent.arguments, "--release"]
        ran = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
        assert (ran.returncode, ran.stdout) == (0, "finalizers taken off: 1\n"), ran.stderr
        until(lambda: not pods(yard), "the pod is gone")
        # An agent that comes all the same says what it knows: that there was a pod, and is none.
        yard.agent.start()
        until(lambda: client.describe_job(job_id).attempts[0].stopped_at_ms, "the loss is told", limit_s=90)
        assert client.describe_job(job_id).attempts[0].reason == "The pod was removed by somebody else"


def test_a_pod_is_let_go_and_never_another_of_its_name(cluster: Cluster, namespace: str) -> None:
    """As the next try's, which may be there before the last one's was let go for the second time."""
    spec = PodSpec(containers=[Container(name="c", image="busybox:1")])
    meta = ObjectMeta(name="p", namespace=namespace, finalizers=[FINALIZER, "example.org/other"])
    uid = cluster.client.create(Pod(metadata=meta, spec=spec)).metadata.uid  # type: ignore[union-attr]

    async def let_go(uid: str) -> None:
        api = AgentCluster(read_config(cluster.kubeconfig, ""))
        await api.release(namespace, "p", uid)
        await api.delete(namespace, "p", uid, 0)
        await api.close()

    def found() -> Any:
        return cluster.client.get(Pod, "p", namespace=namespace).metadata

    asyncio.run(let_go("00000000-0000-0000-0000-000000000000"))
    assert (found().finalizers, found().deletionTimestamp) == ([FINALIZER, "example.org/other"], None)
    asyncio.run(let_go(str(uid)))
    assert found().finalizers == ["example.org/other"]
    assert found().deletionTimestamp is not None
    cluster.client.patch(Pod, "p", {"metadata": {"finalizers": None}}, namespace=namespace, patch_type=PatchType.MERGE)


def test_it_needs_nothing_of_the_agent_of_one_machine() -> None:
    code = (
        "import sys\n"
        "for name in ('docker', 'pynvml', 'psutil', 'requests'): sys.modules[name] = None\n"
        "import batchyard_agent.kubernetes.app"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_help_needs_no_library(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['lightkube'] = None\n"
        "from batchyard_agent.kubernetes.__main__ import main\n"
        "main(['--help'])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "--namespace" in ran.stdout
