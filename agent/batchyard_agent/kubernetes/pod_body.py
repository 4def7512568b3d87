"""
What is asked of Kubernetes for one attempt: its pod.

Pure: a ``LaunchSpec`` in, a pod's object out. Laws: a pod bears the name of its unit, so that
there is one of a unit at most; it is bound to its node by affinity, so that Kubernetes'
scheduler still guards the node against what it does not hold; it never restarts; and its
finalizer keeps what became of it until the agent has written that down and been heard.

Sources: AWS Batch API reference (EksPodProperties), and AWS Batch User Guide, "Memory and
vCPU considerations for AWS Batch on Amazon EKS": requests count, limits bound.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from lightkube.models import core_v1 as core
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Pod

from batchyard.ids import HostId, task_id
from batchyard.pods import NO_SECURITY, SecurityContext, pod_name, pull_policy
from batchyard.resources import GPU_WHOLE, Resources
from batchyard.tasks import Container, Task, Volume
from batchyard_agent.core.containers import STOP_TIMEOUT_S
from batchyard_agent.runtimes.protocol import LaunchSpec

FINALIZER = "batchyard.io/outcome"
HOST_LABEL = "batchyard.io/host"
"""Which host, of one yard, the pod is of."""
ATTEMPT_LABEL = "batchyard.io/attempt"
"""Whose pod it is, as a task id."""
TAGS_ANNOTATION = "batchyard.io/tags"
"""The job's propagated tags, as JSON: their keys may hold what keys of Kubernetes may not."""
JOB_LABEL = "batch.amazonaws.com/job-id"
ENVIRONMENT_LABEL = "batch.amazonaws.com/compute-environment-uuid"
NODE_LABEL = "batch.amazonaws.com/node-uid"
NODE_TAINT = "batch.amazonaws.com/batch-node"
GPU = "nvidia.com/gpu"

_SHARED_MEMORY, _TMPFS = "batchyard-shm", "batchyard-tmpfs-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """
    Where a pod is to be.

    Attributes:
        host_id: The host as its yard knows it.
        node: Name of the node.
        node_uid: Its metadata.uid.
    """

    namespace: str
    host_id: HostId
    node: str
    node_uid: str


def pod_of(spec: LaunchSpec, place: Place) -> Pod:
    """Translate *spec* for Kubernetes."""
    task = spec.task
    assert task is not None, spec.attempt_id
    return Pod(metadata=_metadata(spec, task, place), spec=_pod_spec(spec, task, place))


def _metadata(spec: LaunchSpec, task: Task, place: Place) -> ObjectMeta:
    said = task.pod
    labels = {
        **dict(said.labels if said is not None else ()),
        # Ours last, so that none can pass for one of them.
        JOB_LABEL: task_id(spec.job_id),
        ENVIRONMENT_LABEL: spec.compute_environment,
        NODE_LABEL: place.node_uid,
        HOST_LABEL: place.host_id,
        ATTEMPT_LABEL: task_id(spec.attempt_id),
    }
    annotations = dict(said.annotations if said is not None else ())
    if spec.labels:
        annotations[TAGS_ANNOTATION] = json.dumps(dict(spec.labels), sort_keys=True)
    return ObjectMeta(
        name=pod_name(spec.job_id),
        namespace=place.namespace,
        labels=labels,
        annotations=annotations or None,
        finalizers=[FINALIZER],
    )


def _pod_spec(spec: LaunchSpec, task: Task, place: Place) -> core.PodSpec:
    said, parts = task.pod, {part.part: part for part in spec.parts}
    volumes = [_volume(volume) for volume in task.volumes]
    containers = [_container(c, parts.get(c.shown_name, spec), task) for c in task.containers]
    if said is None:
        _lend_memory(task.main, containers[0], volumes)
    is_on_host = _is_on_host_network(spec, task)
    account = said.service_account if said is not None else ""
    return core.PodSpec(
        containers=containers,
        initContainers=[_container(c, parts[c.shown_name], task) for c in task.init_containers] or None,
        volumes=volumes or None,
        restartPolicy="Never",
        terminationGracePeriodSeconds=max(c.stop_timeout_s or STOP_TIMEOUT_S for c in task.containers),
        enableServiceLinks=False,
        serviceAccountName=account or None,
        automountServiceAccountToken=bool(account),
        hostNetwork=is_on_host or None,
        dnsPolicy=_dns(task, is_on_host=is_on_host),
        hostAliases=_aliases(spec),
        shareProcessNamespace=_shares_processes(task) or None,
        imagePullSecrets=_pull_secrets(task),
        securityContext=_pod_security(task),
        affinity=_affinity(place.node),
        tolerations=[core.Toleration(key=NODE_TAINT, operator="Exists")],
    )


def _is_on_host_network(spec: LaunchSpec, task: Task) -> bool:
    """Pods are on their node's network unless they say otherwise (AWS); other containers as nodes of a job alone."""
    return task.pod.is_on_host_network if task.pod is not None else spec.node_address is not None


def _dns(task: Task, *, is_on_host: bool) -> str:
    if task.pod is not None:
        return task.pod.dns
    return "ClusterFirstWithHostNet" if is_on_host else "ClusterFirst"


def _aliases(spec: LaunchSpec) -> list[core.HostAlias] | None:
    if not spec.node_address:
        return None
    return [core.HostAlias(ip=spec.node_address, hostnames=[task_id(spec.job_id).replace("_", "-")])]


def _shares_processes(task: Task) -> bool:
    """Where a plain container is to have an init process, that of the pod reaps what it leaves behind."""
    if task.pod is not None:
        return task.pid_mode == "task"
    return task.main.linux_parameters.init_process_enabled is True


def _pull_secrets(task: Task) -> list[core.LocalObjectReference] | None:
    names = task.pod.image_pull_secrets if task.pod is not None else ()
    return [core.LocalObjectReference(name=name) for name in names] or None


def _affinity(node: str) -> core.Affinity:
    here = core.NodeSelectorRequirement(key="metadata.name", operator="In", values=[node])
    wanted = core.NodeSelector(nodeSelectorTerms=[core.NodeSelectorTerm(matchFields=[here])])
    return core.Affinity(nodeAffinity=core.NodeAffinity(requiredDuringSchedulingIgnoredDuringExecution=wanted))


def _volume(volume: Volume) -> core.Volume:
    if volume.host_source_path:
        return core.Volume(name=volume.name, hostPath=core.HostPathVolumeSource(path=volume.host_source_path))
    if volume.secret_name:
        secret = core.SecretVolumeSource(secretName=volume.secret_name, optional=volume.secret_optional or None)
        return core.Volume(name=volume.name, secret=secret)
    if volume.claim_name:
        claim = core.PersistentVolumeClaimVolumeSource(
            claimName=volume.claim_name, readOnly=volume.claim_read_only or None
        )
        return core.Volume(name=volume.name, persistentVolumeClaim=claim)
    empty = core.EmptyDirVolumeSource(medium=volume.medium or None, sizeLimit=volume.size_limit or None)
    return core.Volume(name=volume.name, emptyDir=empty)


def _container(container: Container, launch: LaunchSpec, task: Task) -> core.Container:
    mounts = [
        core.VolumeMount(
            name=mount.source_volume,
            mountPath=mount.container_path,
            readOnly=mount.read_only or None,
            subPath=mount.sub_path or None,
        )
        for mount in container.mount_points
    ]
    return core.Container(
        name=container.shown_name,
        image=container.image,
        imagePullPolicy=pull_policy(container.image, container.image_pull_policy),
        command=list(container.entrypoint) or None,
        args=[_said(word, task) for word in container.command] or None,
        workingDir=container.working_directory or None,
        env=[core.EnvVar(name=n, value=_said(value, task)) for n, value in launch.environment.items()] or None,
        resources=_resources(container),
        volumeMounts=mounts or None,
        securityContext=_security(container),
        # What went wrong in a command that says nothing else of it.
        terminationMessagePolicy="FallbackToLogsOnError",
    )


def _said(text: str, task: Task) -> str:
    """Return a text as Kubernetes is to be told it: it puts variables for ``$(NAME)``, which pods alone know."""
    return text if task.pod is not None else text.replace("$", "$$")


def _resources(container: Container) -> core.ResourceRequirements:
    asked: Resources = container.resources
    requests, limits = dict[str, str](), dict[str, str]()
    if asked.cpu_millis:
        requests["cpu"] = f"{asked.cpu_millis}m"
    if container.cpu_limit_millis:
        limits["cpu"] = f"{container.cpu_limit_millis}m"
    if asked.memory_mib:
        requests["memory"] = limits["memory"] = f"{asked.memory_mib}Mi"
    if gpus := asked.gpu_millis // GPU_WHOLE:
        requests[GPU] = limits[GPU] = f"{gpus}"
    return core.ResourceRequirements(requests=requests or None, limits=limits or None)


def _security(container: Container) -> core.SecurityContext | None:
    said, user = container.security, container.user.partition(":")
    run_as_user = int(user[0]) if user[0] else said.run_as_user
    run_as_group = int(user[2]) if user[2] else said.run_as_group
    capabilities = None
    if said.capabilities_add or said.capabilities_drop:
        capabilities = core.Capabilities(
            add=list(said.capabilities_add) or None, drop=list(said.capabilities_drop) or None
        )
    context = core.SecurityContext(
        privileged=container.privileged or None,
        readOnlyRootFilesystem=container.readonly_root_filesystem or None,
        runAsUser=run_as_user,
        runAsGroup=run_as_group,
        runAsNonRoot=said.run_as_non_root,
        allowPrivilegeEscalation=said.allow_privilege_escalation,
        capabilities=capabilities,
        seccompProfile=_seccomp(said),
    )
    return None if context == core.SecurityContext() else context


def _pod_security(task: Task) -> core.PodSecurityContext | None:
    said = task.pod.security if task.pod is not None else NO_SECURITY
    context = core.PodSecurityContext(
        runAsUser=said.run_as_user,
        runAsGroup=said.run_as_group,
        runAsNonRoot=said.run_as_non_root,
        fsGroup=said.fs_group,
        seccompProfile=_seccomp(said),
    )
    return None if context == core.PodSecurityContext() else context


def _seccomp(said: SecurityContext) -> core.SeccompProfile | None:
    if not said.seccomp_type:
        return None
    return core.SeccompProfile(type=said.seccomp_type, localhostProfile=said.seccomp_profile or None)


def _lend_memory(container: Container, body: core.Container, volumes: list[core.Volume]) -> None:
    """Give a plain container its shared memory and memory file systems, as folders of the pod in memory."""
    linux, mounts = container.linux_parameters, list(body.volumeMounts or ())
    folders = [(f"{_TMPFS}{i}", tmpfs.container_path, tmpfs.size_mib) for i, tmpfs in enumerate(linux.tmpfs)]
    if linux.shared_memory_size_mib:
        folders.append((_SHARED_MEMORY, "/dev/shm", linux.shared_memory_size_mib))  # noqa: S108  # where it always is
    for name, path, size_mib in folders:
        memory = core.EmptyDirVolumeSource(medium="Memory", sizeLimit=f"{size_mib}Mi" if size_mib else None)
        volumes.append(core.Volume(name=name, emptyDir=memory))
        mounts.append(core.VolumeMount(name=name, mountPath=path))
    body.volumeMounts = mounts or None
