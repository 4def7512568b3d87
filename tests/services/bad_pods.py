"""Requests about pods and clusters that must be refused; a part of `bad_requests`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.message import Message

from batchyard.v1 import compute_environment_pb2 as ce
from batchyard.v1 import job_definition_pb2 as jd
from batchyard.v1 import job_pb2 as job

from .bad_tasks import part, several
from .controller import amounts, environment

A, B = part("a"), part("b")
SECURITY = jd.SecurityContext


def pod(*parts: jd.ContainerProperties, **fields: Any) -> jd.TaskProperties:
    """Build a task that is a pod; what is of the pod itself is given as `of_pod`."""
    own = fields.pop("of_pod", {})
    return several(*(parts or (A,)), pod=jd.PodProperties(**own), **fields)


def mounted(**volume: Any) -> jd.TaskProperties:
    return pod(volumes=[jd.Volume(name=volume.pop("name", "v"), **volume)])


def secured(**security: Any) -> jd.TaskProperties:
    return pod(part("a", security=SECURITY(**security)))


PODS: dict[str, jd.TaskProperties] = {
    "no container": jd.TaskProperties(pod=jd.PodProperties()),
    "11 containers": pod(*(part(f"c{i}") for i in range(11))),
    "11 before the others": pod(init_containers=[part(f"c{i}") for i in range(11)]),
    "one before without a name": pod(init_containers=[part("")]),
    "one before with the name of another": pod(init_containers=[A]),
    "no image": pod(part("a", image="")),
    "a process": pod(part("a", image="process://")),
    "a large letter in a name": pod(part("A")),
    "a name of 64 characters": pod(part("n" * 64)),
    "not essential": pod(A, part("b", essential=False)),
    "waiting for another": pod(A, part("b", ("a", jd.CONTAINER_CONDITION_START))),
    "a start timeout": pod(part("a", start_timeout_s=9)),
    "a user": pod(part("a", user="root")),
    "ulimits": pod(part("a", ulimits=[jd.Ulimit(name="nofile", soft_limit=1, hard_limit=1)])),
    "a device": pod(part("a", linux_parameters=jd.LinuxParameters(devices=[jd.Device(host_path="/dev/kvm")]))),
    "a log driver": pod(part("a", log_configuration=jd.LogConfiguration(log_driver="awslogs"))),
    "a part of a secret of the yard": pod(part("a", secrets=[jd.Secret(name="S", value_from="arn:aws:ssm:r:1:x")])),
    "roles": pod(part("a", job_role_arn="r", execution_role_arn="e")),
    "secrets as files": pod(
        part("a", secrets=[jd.Secret(name="S", value_from="db", delivery=jd.SECRET_DELIVERY_FILE)])
    ),
    "a disk": pod(part("a", resources=amounts(disk_mib=1))),
    "memory segments": pod(ipc_mode="task"),
    "an unknown pull policy": pod(part("a", image_pull_policy="always")),
    "an empty entrypoint": pod(part("a", entrypoint=[""])),
    "a NUL in the entrypoint": pod(part("a", entrypoint=["a\0"])),
    "a CPU limit below what is asked": pod(part("a", cpu_limit_millis=1)),
    "a CPU limit below 0": pod(part("a", cpu_limit_millis=-1)),
    "half a GPU": pod(part("a", resources=amounts(gpu_millis=500))),
    "a sub-path from the root": pod(
        part("a", mount_points=[jd.MountPoint(source_volume="v", container_path="/v", sub_path="/etc")]),
        volumes=[jd.Volume(name="v")],
    ),
    "a sub-path upwards": pod(
        part("a", mount_points=[jd.MountPoint(source_volume="v", container_path="/v", sub_path="a/../..")]),
        volumes=[jd.Volume(name="v")],
    ),
    "a mount with a colon": pod(
        part("a", mount_points=[jd.MountPoint(source_volume="v", container_path="/v:ro")]),
        volumes=[jd.Volume(name="v")],
    ),
    "a mount of no volume": pod(part("a", mount_points=[jd.MountPoint(source_volume="v", container_path="/v")])),
    "a volume of two kinds": mounted(host_source_path="/v", secret_name="s"),
    "a volume with a large letter": mounted(name="V"),
    "an unknown medium": mounted(medium="Disk"),
    "a size limit in words": mounted(size_limit="1 GB"),
    "a secret with a space": mounted(secret_name="a b"),
    "a volume without its secret": mounted(secret_optional=True),
    "a claim with a large letter": mounted(claim_name="A"),
    "a claim to be read alone, without one": mounted(claim_read_only=True),
    "user -1": secured(run_as_user=-1),
    "group 2147483648": secured(run_as_group=2**31),
    "a file group of one container": secured(fs_group=1),
    "65 capabilities": secured(capabilities_add=[f"C{i}" for i in range(65)]),
    "CAP_SYS_ADMIN": secured(capabilities_drop=["CAP_SYS_ADMIN"]),
    "an empty capability": secured(capabilities_add=[""]),
    "an unknown seccomp type": secured(seccomp_type="Local"),
    "a profile without Localhost": secured(seccomp_type="Unconfined", seccomp_profile="p"),
    "Localhost without a profile": secured(seccomp_type="Localhost"),
    "a profile of 4096 characters": secured(seccomp_type="Localhost", seccomp_profile="p" * 4096),
    "capabilities of the pod": pod(of_pod={"security": SECURITY(capabilities_add=["SYS_TIME"])}),
    "an account with a slash": pod(of_pod={"service_account": "a/b"}),
    "an unknown DNS policy": pod(of_pod={"dns_policy": "None"}),
    "an empty pull secret": pod(of_pod={"image_pull_secrets": [""]}),
    "namespace default": pod(of_pod={"namespace": "default"}),
    "namespace kubes": pod(of_pod={"namespace": "kubes"}),
    "a namespace of 64 characters": pod(of_pod={"namespace": "n" * 64}),
    "a namespace with a dot": pod(of_pod={"namespace": "a.b"}),
    "a label of Kubernetes": pod(of_pod={"labels": {"app.kubernetes.io/name": "x"}}),
    "a label of AWS": pod(of_pod={"labels": {"batch.amazonaws.com/job-id": "x"}}),
    "an annotation of Kubernetes": pod(of_pod={"annotations": {"x.k8s.io/a": "x"}}),
    "a label of ours": pod(of_pod={"labels": {"batchyard.io/host": "x"}}),
    "a label without a name": pod(of_pod={"labels": {"a/": "x"}}),
    "a label with a wrong prefix": pod(of_pod={"labels": {"A/b": "x"}}),
    "a label's value with a space": pod(of_pod={"labels": {"a": "b c"}}),
    "a label's value of 64 characters": pod(of_pod={"labels": {"a": "b" * 64}}),
    "an annotation of 256 characters": pod(of_pod={"annotations": {"a": "b" * 256}}),
    "51 labels": pod(of_pod={"labels": {f"l{i}": "" for i in range(51)}}),
}
NO_PODS: dict[str, jd.TaskProperties] = {
    "an entrypoint": several(A, part("b", entrypoint=["x"])),
    "a pull policy": several(A, part("b", image_pull_policy="Never")),
    "a CPU limit": several(A, part("b", cpu_limit_millis=5000)),
    "a security context": several(A, part("b", security=SECURITY(run_as_user=0))),
    "a sub-path": several(
        A,
        part("b", mount_points=[jd.MountPoint(source_volume="v", container_path="/v", sub_path="s")]),
        volumes=[jd.Volume(name="v")],
    ),
    "a secret of a cluster": several(A, B, volumes=[jd.Volume(name="v", secret_name="s")]),
    "a folder in memory": several(A, B, volumes=[jd.Volume(name="v", medium="Memory")]),
    "one before the others": several(A, B, init_containers=[part("c")]),
}
"""Of tasks that are no pods."""


def _register(**fields: Any) -> jd.RegisterJobDefinitionRequest:
    return jd.RegisterJobDefinitionRequest(name="d", type=jd.JOB_DEFINITION_TYPE_CONTAINER, **fields)


def _nodes(*tasks: jd.TaskProperties) -> jd.RegisterJobDefinitionRequest:
    ranges = [jd.NodeRange(target_nodes=str(i), task=task) for i, task in enumerate(tasks)]
    nodes = jd.NodeProperties(num_nodes=len(tasks), ranges=ranges)
    return jd.RegisterJobDefinitionRequest(name="d", type=jd.JOB_DEFINITION_TYPE_MULTINODE, nodes=nodes)


def _job(queue: str = "pods", **fields: Any) -> job.SubmitJobRequest:
    return job.SubmitJobRequest(name="j", queue=queue, **fields)


CLUSTERS: dict[str, dict[str, Any]] = {
    "without a name": {"kubernetes": ce.KubernetesCluster(namespace="n")},
    "of a name of 101 characters": {"kubernetes": ce.KubernetesCluster(name="n" * 101, namespace="n")},
    "of a name with a slash": {"kubernetes": ce.KubernetesCluster(name="cluster/c", namespace="n")},
    "without a namespace": {"kubernetes": ce.KubernetesCluster(name="c")},
    "of namespace default": {"kubernetes": ce.KubernetesCluster(name="c", namespace="default")},
    "of namespace kube-system": {"kubernetes": ce.KubernetesCluster(name="c", namespace="kube-system")},
    "of namespace A": {"kubernetes": ce.KubernetesCluster(name="c", namespace="A")},
    "that is UNMANAGED": {
        "kubernetes": ce.KubernetesCluster(name="c", namespace="n"),
        "type": ce.COMPUTE_ENVIRONMENT_TYPE_UNMANAGED,
    },
    "of Fargate": {
        "kubernetes": ce.KubernetesCluster(name="c", namespace="n"),
        "compute_resources": ce.ComputeResources(type=ce.CAPACITY_TYPE_FARGATE),
    },
    "with a provider": {
        "kubernetes": ce.KubernetesCluster(name="c", namespace="n"),
        "compute_resources": ce.ComputeResources(type=ce.CAPACITY_TYPE_EC2, provider="local", max_vcpus=1),
    },
}


def cases() -> Iterator[tuple[str, str, Message]]:
    """Yield every bad request about pods."""
    for what, fields in CLUSTERS.items():
        yield f"environment of a cluster {what}", "CreateComputeEnvironment", environment("new", **fields)
    for what, task in PODS.items():
        yield f"definition of a pod: {what}", "RegisterJobDefinition", _register(task=task)
    for what, task in NO_PODS.items():
        yield f"definition of no pod: {what}", "RegisterJobDefinition", _register(task=task)
    many = pod(*(part(f"c{i}", image=f"i{i}") for i in range(10)), init_containers=[part("x", image="i10")])
    requests = {
        "with platform capabilities": _register(task=pod(), platform_capabilities=["EC2"]),
        "whose tags are propagated": _register(task=pod(), propagate_tags=True),
        "among nodes that are none": _nodes(pod(), several(A, B)),
        "in two namespaces": _nodes(pod(of_pod={"namespace": "x"}), pod(of_pod={"namespace": "y"})),
        "of eleven images on a node": _nodes(many),
    }
    for what, registration in requests.items():
        yield f"definition of pods {what}", "RegisterJobDefinition", registration
    over = job.ContainerOverrides
    jobs: dict[str, dict[str, Any]] = {
        "without amounts": {
            "task": jd.TaskProperties(containers=[jd.ContainerProperties(image="i")], pod=jd.PodProperties())
        },
        "in a queue without a cluster": {"task": pod(), "queue": "default"},
        "whose overrides name nobody": {"task": pod(), "container_overrides": [over(name="b")]},
        "whose overrides hold an empty entrypoint": {
            "task": pod(),
            "container_overrides": [over(name="a", entrypoint=[""])],
        },
        "with an override of a reserved label": {
            "task": pod(),
            "pod_overrides": job.PodOverrides(labels={"kubernetes.io/x": ""}),
        },
    }
    for what, fields in jobs.items():
        yield f"job of a pod {what}", "SubmitJob", _job(**fields)
    of_no_pod: dict[str, dict[str, Any]] = {
        "image": {"container_overrides": [over(name="a", image="i")]},
        "entrypoint": {"container_overrides": [over(name="a", entrypoint=["x"])]},
        "CPU limit": {"container_overrides": [over(name="a", cpu_limit_millis=1)]},
        "labels": {"pod_overrides": job.PodOverrides(labels={"a": "b"})},
    }
    for what, fields in of_no_pod.items():
        request = _job("default", task=several(A, B), **fields)
        yield f"job of no pod with an override of its {what}", "SubmitJob", request
