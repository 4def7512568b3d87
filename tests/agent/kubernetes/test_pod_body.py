"""What is asked of Kubernetes for an attempt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from batchyard import task_messages
from batchyard.ids import HostId
from batchyard.pods import Pod, SecurityContext, pod_name
from batchyard.resources import Resources
from batchyard.tasks import Container, LinuxParameters, MountPoint, Task, Tmpfs, Ulimit, Volume
from batchyard.v1 import agent_pb2
from batchyard_agent.kubernetes.convert import spec_from
from batchyard_agent.kubernetes.limits import PodLimits
from batchyard_agent.kubernetes.pod_body import Place, pod_of

JOB = "0199a5a4-0000-7000-8000-000000000000"
PLACE = Place(namespace="jobs", host_id=HostId("h"), node="n1", node_uid="uid-1")
LIMITS = PodLimits(namespace="jobs", other_namespaces=("more",), volume_paths=("/srv/data",))
SMALL = Container(image="busybox:1", command=("echo", "$(A) $B"), resources=Resources(cpu_millis=250, memory_mib=64))


class Places:
    bytes_max = 1 << 20

    def path(self, attempt_id, part=""):
        return Path("/logs") / f"{attempt_id}{part}"


def spec(task: Task, job_id: str = JOB, **more: Any):
    message = agent_pb2.AttemptSpec(attempt_id=f"{job_id}#1", job_id=job_id, **more)
    for name, value in task_messages.task_fields(task).items():
        getattr(message, name).CopyFrom(value)
    return spec_from(message, Places(), LIMITS)


def body(task: Task, **more: Any):
    return pod_of(spec(task, **more).launch, PLACE)


def test_a_plain_container_is_a_pod_on_the_clusters_network_without_a_token():
    pod = body(Task(containers=(SMALL,)), tags={"a key": "v"}, environment={"X": "$(Y)"}, compute_environment_uuid="ce")
    assert pod.metadata.name == pod_name(JOB)
    assert pod.metadata.finalizers == ["batchyard.io/outcome"]
    assert pod.metadata.annotations == {"batchyard.io/tags": '{"a key": "v"}'}
    assert pod.metadata.labels == {
        "batch.amazonaws.com/job-id": JOB,
        "batch.amazonaws.com/compute-environment-uuid": "ce",
        "batch.amazonaws.com/node-uid": "uid-1",
        "batchyard.io/host": "h",
        "batchyard.io/attempt": f"{JOB}_1",
    }
    assert (pod.spec.restartPolicy, pod.spec.hostNetwork, pod.spec.dnsPolicy) == ("Never", None, "ClusterFirst")
    assert (pod.spec.automountServiceAccountToken, pod.spec.enableServiceLinks) == (False, False)
    assert pod.spec.nodeName is None
    [container] = pod.spec.containers
    # What Docker leaves as it is, Kubernetes would fill in.
    assert container.args == ["echo", "$$(A) $$B"]
    assert [(each.name, each.value) for each in container.env] == [("X", "$$(Y)")]
    assert container.resources.requests == {"cpu": "250m", "memory": "64Mi"}
    assert container.resources.limits == {"memory": "64Mi"}
    assert container.imagePullPolicy == "IfNotPresent"


def test_a_pod_says_what_its_definition_does():
    main = Container(
        name="main",
        image="busybox",
        entrypoint=("sh",),
        command=("-c", "echo $(A)"),
        resources=Resources(cpu_millis=500, memory_mib=64, gpu_millis=2000),
        cpu_limit_millis=1000,
        environment=(("A", "1"),),
        readonly_root_filesystem=True,
        security=SecurityContext(run_as_user=1000, capabilities_drop=("ALL",), seccomp_type="RuntimeDefault"),
        mount_points=(MountPoint(source_volume="v", container_path="/v", sub_path="x", read_only=True),),
        stop_timeout_s=60,
    )
    first = Container(name="first", image="busybox:1", command=("true",), resources=Resources(memory_mib=16))
    volumes = (
        Volume(name="v", claim_name="c", claim_read_only=True),
        Volume(name="e", medium="Memory", size_limit="1Gi"),
        Volume(name="s", secret_name="k", secret_optional=True),
        Volume(name="h", host_source_path="/srv/data/x"),
    )
    said = Pod(
        service_account="sa",
        image_pull_secrets=("r",),
        labels=(("team", "a"), ("batchyard.io/host", "forged")),
        namespace="more",
        security=SecurityContext(fs_group=7, run_as_non_root=True),
    )
    task = Task(containers=(main,), init_containers=(first,), volumes=volumes, pod=said, pid_mode="task")
    assert spec(task).refusal == ""
    pod = body(task)
    assert (pod.metadata.labels["team"], pod.metadata.labels["batchyard.io/host"]) == ("a", "h")
    assert (pod.spec.serviceAccountName, pod.spec.automountServiceAccountToken) == ("sa", True)
    assert (pod.spec.hostNetwork, pod.spec.dnsPolicy) == (True, "ClusterFirstWithHostNet")
    assert (pod.spec.shareProcessNamespace, pod.spec.terminationGracePeriodSeconds) == (True, 60)
    assert (pod.spec.securityContext.fsGroup, pod.spec.securityContext.runAsNonRoot) == (7, True)
    assert [each.name for each in pod.spec.imagePullSecrets] == ["r"]
    assert [each.name for each in pod.spec.initContainers] == ["first"]
    [container] = pod.spec.containers
    assert (container.command, container.args) == (["sh"], ["-c", "echo $(A)"])
    assert container.resources.requests == {"cpu": "500m", "memory": "64Mi", "nvidia.com/gpu": "2"}
    assert container.resources.limits == {"cpu": "1000m", "memory": "64Mi", "nvidia.com/gpu": "2"}
    assert container.imagePullPolicy == "Always"
    assert container.securityContext.readOnlyRootFilesystem
    assert container.securityContext.capabilities.drop == ["ALL"]
    assert (container.volumeMounts[0].subPath, container.volumeMounts[0].readOnly) == ("x", True)
    claim, empty, secret, folder = pod.spec.volumes
    assert (claim.persistentVolumeClaim.claimName, claim.persistentVolumeClaim.readOnly) == ("c", True)
    assert (empty.emptyDir.medium, empty.emptyDir.sizeLimit) == ("Memory", "1Gi")
    assert (secret.secret.secretName, secret.secret.optional) == ("k", True)
    assert folder.hostPath.path == "/srv/data/x"


def test_a_node_of_a_job_is_on_its_hosts_network_and_its_name_leads_there():
    pod = body(Task(containers=(SMALL,)), job_id=f"{JOB}#1", node=agent_pb2.NodeSpec(address="10.0.0.7"))
    assert pod.spec.hostNetwork
    [alias] = pod.spec.hostAliases
    assert (alias.ip, alias.hostnames) == ("10.0.0.7", [f"{JOB}-1"])


def test_shared_memory_and_memory_file_systems_are_folders_in_memory():
    linux = LinuxParameters(shared_memory_size_mib=32, tmpfs=(Tmpfs(container_path="/t", size_mib=8),))
    pod = body(Task(containers=(Container(image="b", user="5:6", linux_parameters=linux),)))
    [container] = pod.spec.containers
    assert [(each.mountPath) for each in container.volumeMounts] == ["/t", "/dev/shm"]
    assert [each.emptyDir.sizeLimit for each in pod.spec.volumes] == ["8Mi", "32Mi"]
    assert (container.securityContext.runAsUser, container.securityContext.runAsGroup) == (5, 6)


def test_names_of_tries_are_one_and_of_units_differ():
    names = {body(Task(containers=(SMALL,)), job_id=unit).metadata.name for unit in (JOB, f"{JOB}:1", f"{JOB}#1")}
    assert len(names) == 3


@pytest.mark.parametrize(
    ("task", "text"),
    [
        (Task(containers=(Container(image="b", ulimits=(Ulimit(name="n", soft_limit=1, hard_limit=1),)),)), "ulimits"),
        (Task(containers=(Container(image="b", privileged=True),)), "no privileged containers"),
        (Task(containers=(SMALL,), volumes=(Volume(name="v", host_source_path="/srv/data2"),)), "/srv/data2"),
        (Task(containers=(SMALL,), volumes=(Volume(name="v", host_source_path="/srv/data/../x"),)), "/srv/data/../x"),
        (Task(containers=(SMALL,), pod=Pod(namespace="other")), "no pods in namespace 'other'"),
    ],
)
def test_what_a_pod_may_not_be_is_refused_by_name(task: Task, text: str):
    assert text in spec(task).refusal
