"""
Pods: AWS's eksProperties to the contract's task and back.

Pure. A definition's eksProperties are kept as they were given; of a job they show what
was overridden, which pod it is, and how each container ended. What AWS calls ``command``
is the contract's entrypoint, and ``args`` its command.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from batchyard.pods import DNS_POLICIES, PULL_POLICIES
from batchyard.tasks import DEFAULT_NAME
from batchyard.v1 import job_definition_pb2 as pb
from batchyard.v1 import job_pb2
from batchyard_gateway.errors import ClientException, ExecutionException
from batchyard_gateway.services import Members

from . import pod_amounts, rules
from .mapping import LISTED, MAPPED, NAMED_VALUES, NestedList, Row, fields, to_members, to_message
from .names import Names

EKS, POD = "eksProperties", "podProperties"
OVERRIDE = "eksPropertiesOverride"
CONTAINERS, INIT = "containers", "initContainers"
PLACES = (CONTAINERS, INIT)
"""Where containers stand in a pod: those of its work, and those before."""
CONTAINERS_MAX = 10
_VOLUME_KINDS = ("hostPath", "emptyDir", "secret", "persistentVolumeClaim")

_SECCOMP = (Row("seccompProfile.type", "seccomp_type"), Row("seccompProfile.localhostProfile", "seccomp_profile"))
_RUN_AS = (
    Row("runAsUser", "run_as_user"),
    Row("runAsGroup", "run_as_group"),
    Row("runAsNonRoot", "run_as_non_root"),
    *_SECCOMP,
)
_POD_SECURITY = (*_RUN_AS, Row("fsGroup", "fs_group"))
_SECURITY = (
    *_RUN_AS,
    Row("allowPrivilegeEscalation", "allow_privilege_escalation"),
    Row("capabilities.add", "capabilities_add", LISTED),
    Row("capabilities.drop", "capabilities_drop", LISTED),
)
_OF_SECURITY = (Row("privileged", "privileged"), Row("readOnlyRootFilesystem", "readonly_root_filesystem"))
"""Of AWS's security context what other containers have, too."""
_MOUNT = (
    Row("name", "source_volume"),
    Row("mountPath", "container_path"),
    Row("subPath", "sub_path"),
    Row("readOnly", "read_only"),
)
_CONTAINER = (
    Row("name", "name"),
    Row("image", "image"),
    Row("imagePullPolicy", "image_pull_policy"),
    Row("command", "entrypoint", LISTED),
    Row("args", "command", LISTED),
    Row("env", "environment", NAMED_VALUES),
    Row("volumeMounts", "mount_points", NestedList(_MOUNT, pb.MountPoint)),
)
_OVERRIDES = (
    Row("name", "name"),
    Row("image", "image"),
    Row("command", "entrypoint", LISTED),
    Row("args", "command", LISTED),
    Row("env", "environment", NAMED_VALUES),
)
_VOLUME = (
    Row("name", "name"),
    Row("hostPath.path", "host_source_path"),
    Row("emptyDir.medium", "medium"),
    Row("emptyDir.sizeLimit", "size_limit"),
    Row("secret.secretName", "secret_name"),
    Row("secret.optional", "secret_optional"),
    Row("persistentVolumeClaim.claimName", "claim_name"),
    Row("persistentVolumeClaim.readOnly", "claim_read_only"),
)
_OF_POD = (
    Row("serviceAccountName", "service_account"),
    Row("hostNetwork", "host_network"),
    Row("dnsPolicy", "dns_policy"),
    Row("metadata.labels", "labels", MAPPED),
    Row("metadata.annotations", "annotations", MAPPED),
    Row("metadata.namespace", "namespace"),
)
_METADATA = (Row("labels", "labels", MAPPED), Row("annotations", "annotations", MAPPED))
_ENDING = (
    Row("name", "name"),
    Row("containerID", "container_id"),
    Row("exitCode", "exit_code"),
    Row("reason", "reason"),
)
_ATTEMPT = (
    Row("podName", "pod_name"),
    Row("podNamespace", "pod_namespace"),
    Row("nodeName", "host_name"),
    Row("startedAt", "started_at_ms"),
    Row("stoppedAt", "stopped_at_ms"),
    Row("statusReason", "status_reason"),
)
_PLACED = (Row("podName", "pod_name"), Row("nodeName", "host_name"))


# Checking -----------------------------------------------------------------------------


def check(eks_properties: Members) -> None:
    """
    Check the pod of a definition, as far as the controller does not.

    Raises:
        ClientException: it breaks a rule of AWS's.
    """
    pod = eks_properties.get(POD)
    if not pod or not pod.get(CONTAINERS):
        raise ClientException(f"{EKS} needs {POD} with at least one container")
    for place in PLACES:
        found = pod.get(place, ())
        if len(found) > CONTAINERS_MAX:
            raise ClientException(f"{place} must have at most {CONTAINERS_MAX} elements, not {len(found)}")
        for each in found:
            _check_container(each, is_alone=place == CONTAINERS and len(found) == 1)
    _check_word("dnsPolicy", pod.get("dnsPolicy"), DNS_POLICIES)
    for volume in pod.get("volumes", ()):
        kinds = [kind for kind in _VOLUME_KINDS if kind in volume]
        if len(kinds) > 1:
            raise ClientException(f"Volume {volume['name'][:100]} must be of one kind, not of {', '.join(kinds)}")
        if kinds == ["hostPath"] and not volume["hostPath"].get("path"):
            raise ClientException(f"Volume {volume['name'][:100]}: hostPath needs a path")
    if pod.get("metadata", {}).get("namespace") == "":
        raise ClientException("metadata.namespace can't be empty")


def _check_container(container: Members, *, is_alone: bool) -> None:
    if not container["image"]:
        raise ExecutionException("Image is required.")
    if not (is_alone or container.get("name")):
        raise ClientException("Each container in a pod must have a unique name")
    _check_word("imagePullPolicy", container.get("imagePullPolicy"), PULL_POLICIES)
    rules.check_variables(container.get("env", ()))
    pod_amounts.check(container.get("resources", {}))


def _check_word(name: str, word: str | None, words: Sequence[str]) -> None:
    if word and word not in words:
        raise ClientException(f"{name} {word[:50]} is not valid. Valid values are: [{', '.join(words)}]")


def check_override(override: Members) -> None:
    """
    Check what a submission replaces in a pod, by itself.

    Raises:
        ClientException: it breaks a rule of AWS's.
    """
    pod = override.get(POD, {})
    if pod.get("metadata", {}).get("namespace"):
        raise ClientException("metadata.namespace can't be overridden")
    for each in overridden(override):
        if rules.length_of(each) > rules.OVERRIDES_LENGTH_MAX:
            raise ExecutionException(f"Container Overrides length must be at most {rules.OVERRIDES_LENGTH_MAX}")
        if "" in (*each.get("command", ()), *each.get("args", ())):
            raise ExecutionException("Container overrides command must not contain empty string")
        rules.check_variables(each.get("env", ()))
        pod_amounts.check(each.get("resources", {}))


def overridden(override: Members) -> list[Members]:
    """Return what is overridden of the containers of a pod, and of those before them."""
    pod = override.get(POD, {})
    return [each for place in PLACES for each in pod.get(place, ())]


def check_against(override: Members, task: pb.TaskProperties) -> None:
    """
    Check overrides against the pod that they are for.

    Raises:
        ClientException: a name is none of its containers', or stands twice.
    """
    pod = override.get(POD, {})
    for place, containers in ((CONTAINERS, task.containers), (INIT, task.init_containers)):
        names = [container.name or DEFAULT_NAME for container in containers]
        given = [each.get("name") or (names[0] if len(names) == 1 else "") for each in pod.get(place, ())]
        for name in given:
            if name not in names:
                text = f"should match one of {place} of the job definition: {', '.join(names) or 'there are none'}"
                raise ExecutionException(f"Container override '{name[:100]}' {text}")
        if len(set(given)) < len(given):
            raise ExecutionException("Each container may be overridden once.")


def as_shown(eks_properties: Members) -> Members:
    """Return the pod of a definition as it is shown again: a volume of no kind is an empty folder."""
    pod = eks_properties[POD]
    if "volumes" not in pod:
        return eks_properties
    volumes = [volume if len(volume) > 1 else {**volume, "emptyDir": {}} for volume in pod["volumes"]]
    return {POD: {**pod, "volumes": volumes}}


# Writing ------------------------------------------------------------------------------


def request_field(eks_properties: Members) -> pb.TaskProperties:
    """Return the contract's task for a pod that was checked."""
    pod = eks_properties[POD]
    of_pod = to_message(_OF_POD, pb.PodProperties, pod)
    of_pod.image_pull_secrets.extend(each["name"] for each in pod.get("imagePullSecrets", ()))
    if "securityContext" in pod:
        of_pod.security.CopyFrom(to_message(_POD_SECURITY, pb.SecurityContext, pod["securityContext"]))
    return pb.TaskProperties(
        containers=map(_message, pod[CONTAINERS]),
        init_containers=map(_message, pod.get(INIT, ())),
        volumes=[to_message(_VOLUME, pb.Volume, volume) for volume in pod.get("volumes", ())],
        pid_mode="task" if pod.get("shareProcessNamespace") else "",
        pod=of_pod,
    )


def _message(container: Members) -> pb.ContainerProperties:
    message = to_message(_CONTAINER, pb.ContainerProperties, container)
    message.name = message.name or DEFAULT_NAME
    security = container.get("securityContext", {})
    for name, value in fields(_OF_SECURITY, security).items():
        setattr(message, name, value)
    of_pods = to_message(_SECURITY, pb.SecurityContext, security)
    if of_pods.ByteSize():
        message.security.CopyFrom(of_pods)
    found = pod_amounts.of(container.get("resources", {}))
    message.resources.CopyFrom(found.resources)
    message.cpu_limit_millis = found.cpu_limit_millis
    return message


def overrides(override: Members, task: pb.TaskProperties | None = None) -> list[job_pb2.ContainerOverrides]:
    """Return the contract's overrides of the containers of a pod; one without a name is of the only one, if *task* is known."""
    pod = override.get(POD, {})
    places = zip(PLACES, (task.containers, task.init_containers) if task is not None else ((), ()), strict=True)
    return [
        _override(each, each.get("name") or (containers[0].name if containers else ""))
        for place, containers in places
        for each in pod.get(place, ())
    ]


def _override(given: Members, name: str) -> job_pb2.ContainerOverrides:
    message = to_message(_OVERRIDES, job_pb2.ContainerOverrides, given)
    message.name = name
    found = pod_amounts.of(given.get("resources", {}))
    for kind in ("cpu_millis", "memory_mib", "gpu_millis"):
        if amount := getattr(found.resources, kind):
            setattr(message, kind, amount)
    if found.resources.cpu_millis:
        message.cpu_limit_millis = found.cpu_limit_millis
    return message


def pod_overrides(override: Members) -> job_pb2.PodOverrides | None:
    """Return what a submission adds to a pod; None if nothing."""
    metadata = override.get(POD, {}).get("metadata", {})
    return to_message(_METADATA, job_pb2.PodOverrides, metadata) if any(metadata.values()) else None


# Reading ------------------------------------------------------------------------------


def shown(task: pb.TaskProperties) -> Members:
    """Return AWS's eksProperties of a pod that no gateway was told, as one that was registered natively."""
    pod: Members = to_members(_OF_POD, task.pod)
    if task.pod.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in task.pod.image_pull_secrets]
    if security := to_members(_POD_SECURITY, task.pod.security):
        pod["securityContext"] = security
    for place, containers in ((CONTAINERS, task.containers), (INIT, task.init_containers)):
        if containers:
            pod[place] = [_shown_container(container) for container in containers]
    if task.volumes:
        pod["volumes"] = [_shown_volume(volume) for volume in task.volumes]
    if task.pid_mode:
        pod["shareProcessNamespace"] = True
    return {POD: pod}


def _shown_container(container: pb.ContainerProperties) -> Members:
    members = to_members(_CONTAINER, container)
    if resources := pod_amounts.shown(container):
        members["resources"] = resources
    security = to_members(_OF_SECURITY, container) | to_members(_SECURITY, container.security)
    return members | ({"securityContext": security} if security else {})


def _shown_volume(volume: pb.Volume) -> Members:
    members = to_members(_VOLUME, volume)
    return members if len(members) > 1 else {**members, "emptyDir": {}}


def job_members(job: job_pb2.Job, kept: Members) -> Members:
    """
    Return AWS's eksProperties of a job.

    Args:
        job: Resolved: the definition's and what the submission replaced.
        kept: The eksProperties of its definition; empty of one that was registered natively.
    """
    given = (kept or shown(job.task))[POD]
    latest = job.attempts[-1] if job.attempts else None
    pod: Members = {**given, **_metadata(given, job.task)}
    for place, containers, ends in _places(job.task, latest):
        if place in given:
            pod[place] = [
                _of_job(old, container, end) for old, container, end in zip(given[place], containers, ends, strict=True)
            ]
    if latest is not None:
        pod |= to_members(_PLACED, latest)
    return {POD: pod}


def _metadata(given: Members, task: pb.TaskProperties) -> Members:
    """Return a pod's labels and annotations with what was added to them."""
    metadata: Members = {**given.get("metadata", {}), **to_members(_METADATA, task.pod)}
    return {"metadata": metadata} if metadata else {}


def _places(
    task: pb.TaskProperties, attempt: job_pb2.Attempt | None
) -> Iterator[tuple[str, Sequence[pb.ContainerProperties], Sequence[Members]]]:
    """Yield where containers stand, these, and how each ended in an attempt."""
    for place, containers in ((CONTAINERS, task.containers), (INIT, task.init_containers)):
        ends: Sequence[Any] = ()
        if attempt is not None:
            ends = attempt.containers if place == CONTAINERS else attempt.init_containers
        yield place, containers, [to_members(_ENDING, end) for end in ends] or [{}] * len(containers)


def _of_job(given: Members, container: pb.ContainerProperties, end: Members) -> Members:
    """Return a container of a definition with what a job's overrides made of it, and how it ended."""
    resolved = _shown_container(container)
    changed = ("image", "command", "args", "env")
    members = {**given, **{name: resolved[name] for name in changed if name in resolved}}
    if pod_amounts.differs(given.get("resources", {}), container):
        members["resources"] = resolved["resources"]
    return {**members, **{name: end[name] for name in ("exitCode", "reason") if name in end}}


def attempt_members(job: job_pb2.Job, attempt: job_pb2.Attempt, names: Names) -> Members:
    """Return AWS's eksAttempt of an attempt that is over."""
    members = to_members(_ATTEMPT, attempt)
    members[CONTAINERS] = [to_members(_ENDING, each) for each in attempt.containers]
    if attempt.init_containers:
        members[INIT] = [to_members(_ENDING, each) for each in attempt.init_containers]
    if attempt.cluster:
        members["eksClusterArn"] = cluster_arn(attempt.cluster, names)
    return members


def cluster_arn(cluster: str, names: Names) -> str:
    """Return the ARN of a cluster of Amazon EKS."""
    return names.account.arn("eks", f"cluster/{cluster}")
