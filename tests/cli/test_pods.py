"""Clusters and pods on the command line: an environment, a definition, a job of it and its host, as they are told."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.cli.conftest import Run
from tests.sdk.host import Host
from tests.sdk.yard import Yard

from batchyard.pods import pod_name
from batchyard.v1.agent_pb2 import ContainerReport
from batchyard.v1.host_pb2 import KubernetesFacts

PAGE = (Path(__file__).parents[2] / "docs" / "jobs.md").read_text()
NODE = {
    "runtimes": ["kubernetes"],
    "kubernetes": KubernetesFacts(cluster="c", namespace="jobs", node_uid="u", other_namespaces=["more"]),
}


def lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def cluster(run: Run, yard: Yard) -> Host:
    made = run("compute-environment", "create", "pods", "--cluster", "c", "--namespace", "jobs")
    assert (made.code, made.err) == (0, "batchyard: created compute environment pods (ENABLED, VALID)\n")
    assert run("queue", "create", "pods", "--compute-environment", "pods").code == 0
    return yard.join(**NODE)


def test_a_cluster_and_its_nodes(run: Run, yard: Yard) -> None:
    cluster(run, yard)
    told = lines(run("compute-environment", "describe", "pods").out)
    assert {"Type MANAGED EC2 EKS", "Cluster c, namespace jobs"} <= set(told)
    assert any(line.startswith("Hosts alpha") for line in told)
    told = lines(run("hosts", "alpha").out)
    assert {"Runtimes kubernetes", "Node of cluster c, namespace jobs, also more"} <= set(told)
    (default,) = [line for line in lines(run("compute-environment", "describe", "default").out) if "Not sel" in line]
    assert default == "Not selected alpha (it is a node of cluster c, for namespace jobs)"


def test_a_pod_of_flags(run: Run, yard: Yard) -> None:
    host = cluster(run, yard)
    flags = ("--pod", "--image", "busybox:1", "--entrypoint", "sh", "--entrypoint=-c", "--service-account", "runner")
    more = ("--volume", "/scratch", "--param", "what=it")
    made = run("job-definition", "register", "pod", *flags, *more, "--", "echo Ref::what")
    assert (made.code, made.err) == (0, "batchyard: registered job definition pod:1\n")
    told = lines(run("job-definition", "describe", "pod").out)
    assert {"Pod on its host's network", "Account runner", "Container default", "Image busybox:1"} <= set(told)
    assert {"Entrypoint sh -c", "Command 'echo Ref::what'"} <= set(told)
    assert "a pod of default" in run("job-definition", "list").out
    job_id = run("submit", "-d", "pod", "-q", "pods", "--memory", "300M").out.strip()

    async def end() -> None:
        (spec,) = await host.take()
        (only,) = spec.task.containers
        assert (list(only.entrypoint), list(only.command)) == (["sh", "-c"], ["echo it"])
        assert only.resources.memory_mib == 300
        assert [volume.name for volume in spec.task.volumes] == [only.mount_points[0].source_volume]
        host.logs[f"{spec.attempt_id},default"] = b"it\n"
        part = ContainerReport(name="default", exit_code=0, reason="Completed", started_at_ms=1, stopped_at_ms=2)
        await host.end(spec.attempt_id, 0, log=None, containers=[part])

    yard.do(end())
    told = lines(run("describe", job_id).out)
    assert f"Runs as pod {pod_name(job_id)} in namespace jobs of cluster c" in told
    assert run("logs", job_id).out == "it\n"


def test_a_pod_of_a_file(run: Run, yard: Yard, tmp_path: Path) -> None:
    cluster(run, yard)
    asked = {"cpu_millis": "500", "memory_mib": "64"}
    path = tmp_path / "pod.json"
    before = {"name": "before", "image": "busybox", "resources": {"memory_mib": "128"}}
    parts = [{"name": name, "image": "busybox", "resources": asked} for name in ("one", "two")]
    pod = {"host_network": False, "namespace": "more", "labels": {"a": "b"}}
    path.write_text(json.dumps({"containers": parts, "init_containers": [before], "pod": pod}))
    assert run("job-definition", "register", "two", "--file", str(path)).code == 0
    told = lines(run("job-definition", "describe", "two").out)
    assert {"Pod on the cluster's network", "Namespace more", "Labels a=b", "Before before", "Container two"} <= set(
        told
    )
    assert "Asks for 1 vCPU, 128M memory" in told
    refused = run("job-definition", "register", "two", "--file", str(path), "--pod")
    assert (refused.code, "--pod cannot be given with several containers" in refused.err) == (2, True)


def test_the_pod_of_the_page_is_right(run: Run, yard: Yard, tmp_path: Path) -> None:
    """The example of docs/jobs.md, and the lines around it."""
    cluster(run, yard)
    section = PAGE.partition("## Pods")[2]
    shown = re.search(r"```json\n(.*?)```", section, re.DOTALL)
    assert shown is not None
    (tmp_path / "pod.json").write_text(shown[1])
    assert run("job-definition", "register", "answer", "--file", str(tmp_path / "pod.json")).code == 0
    told = lines(run("job-definition", "describe", "answer").out)
    assert {"Pod on the cluster's network", "Account runner", "Entrypoint cat", "Before prepare"} <= set(told)
    made = run("queue", "create", "both", "--compute-environment", "default", "--compute-environment", "pods")
    assert made.err == "batchyard: created queue both (ENABLED, VALID, priority 1)\n"
    assert made.err.strip() in section
    job_id = run("submit", "-q", "both", "--image", "busybox", "--", "true").out.strip()
    told_why = run("explain", job_id).out
    assert "starting on host alpha of compute environment pods, after default in its queue, attempt 1" in told_why


def test_what_is_wrong_with_flags_of_pods_is_told(run: Run, yard: Yard) -> None:
    refused = run("compute-environment", "create", "x", "--cluster", "c")
    assert (refused.code, "--cluster and --namespace go together" in refused.err) == (2, True)
    refused = run("compute-environment", "create", "x", "--cluster", "c", "--namespace", "default")
    assert (refused.code, "can't be default" in refused.err) == (3, True)
    refused = run("job-definition", "register", "x", "--image", "i", "--entrypoint", "sh")
    assert (refused.code, "--entrypoint is for pods alone: give --pod" in refused.err) == (2, True)
    run("job-definition", "register", "pod", "--pod", "--image", "i")
    refused = run("submit", "-d", "pod")
    assert "can not run Jobs with capability EKS" in refused.err
