"""
Pod rules: what a task may say that is a pod of Kubernetes, and what only such a one may.

What Kubernetes would refuse later is refused here by name. Sources: AWS Batch API
reference (EksPodProperties, EksContainer, EksVolume, EksMetadata); Kubernetes, "Object
Names and IDs", "Labels and Selectors", "Quantity".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from batchyard.errors import Reason, Violation
from batchyard.pairs import Pairs
from batchyard.pods import DNS_POLICIES, LOCALHOST, MEDIUMS, PULL_POLICIES, SECCOMP_TYPES, Pod, SecurityContext
from batchyard.resources import GPU_WHOLE
from batchyard.tasks import Container, LinuxParameters, LogConfiguration, Task, Volume
from batchyard_controller.core import limits
from batchyard_controller.core.model.nodes import Nodes

from .checks import Violations, check_range, check_text, quote

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", re.ASCII)
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", re.ASCII)
_KEY_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?", re.ASCII)
_QUANTITY = re.compile(r"\d{1,15}(\.\d{1,9})?(m|[kMGTPE]|[KMGTPE]i|e\d{1,2})?", re.ASCII)
_RESERVED_PREFIXES = ("kubernetes.io/", "k8s.io/", "batch.amazonaws.com/", "batchyard.io/")
"""AWS's three, and ours."""
_NAMESPACE_FORM = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_ONLY_OF_PODS = "is for pods alone: give the task a pod"


def check_namespace(out: Violations, field: str, namespace: str, *, forbidden: str) -> None:
    """Check a namespace, which is neither ``default`` nor begins with *forbidden* (AWS: EksConfiguration, EksMetadata)."""
    if not 1 <= len(namespace) <= limits.DNS_LABEL_LENGTH_MAX or not _LABEL.fullmatch(namespace):
        text = f"{quote(namespace)} is not 1 to {limits.DNS_LABEL_LENGTH_MAX} characters that match {_NAMESPACE_FORM}"
        out.append(Violation(field, text, Reason.MALFORMED))
    elif namespace == "default" or namespace.startswith(forbidden):
        text = f"{quote(namespace)} can't be default, and can't start with {forbidden}"
        out.append(Violation(field, text, Reason.NOT_ALLOWED))


def check_pod(out: Violations, within: str, task: Task) -> None:
    """Check what a task says of itself as a pod, or that it says nothing of pods."""
    for field, container in _fields_of(within, task):
        if task.pod is None:
            _refuse_pods_own(out, field, container)
        else:
            _check_container(out, field, container, task)
    for i, volume in enumerate(task.volumes):
        at = f"{within}{'container' if task.is_plain else 'task'}.volumes[{i}]"
        _check_volume(out, at, volume, is_pod=task.pod is not None)
    if task.pod is None:
        if task.init_containers:
            out.append(Violation(f"{within}task.init_containers", _ONLY_OF_PODS, Reason.PLATFORM))
        return
    _check_names(out, within, task)
    if task.ipc_mode:
        text = "containers of a pod share memory segments: leave it out"
        out.append(Violation(f"{within}task.ipc_mode", text, Reason.PLATFORM))
    _check_pod(out, f"{within}task.pod", task.pod)


def check_pods_of_nodes(out: Violations, field: str, nodes: Nodes) -> None:
    """Check that all nodes are pods of one namespace, or none is (AWS: EksMetadata, "Running MNP jobs on Amazon EKS")."""
    tasks = [each.task for each in nodes.ranges]
    if len({task.pod is None for task in tasks}) > 1:
        out.append(Violation(field, "all ranges have to be pods, or none", Reason.CONFLICT))
    namespaces = {task.pod.namespace for task in tasks if task.pod is not None}
    if len(namespaces) > 1:
        text = f"all ranges have one namespace; {', '.join(sorted(name or 'none' for name in namespaces))} are given"
        out.append(Violation(field, text, Reason.CONFLICT))
    for i, task in enumerate(tasks):
        images = {container.image for container in task.all_containers}
        if task.pod is not None and len(images) > limits.POD_IMAGES_MAX:
            text = f"{len(images)} images; at most {limits.POD_IMAGES_MAX} are allowed"
            out.append(Violation(f"{field}[{i}].task", text, Reason.TOO_MANY))


def _fields_of(within: str, task: Task) -> Iterator[tuple[str, Container]]:
    for i, container in enumerate(task.containers[: limits.CONTAINERS_MAX]):
        yield (f"{within}container" if task.is_plain else f"{within}task.containers[{i}]"), container
    for i, container in enumerate(task.init_containers[: limits.CONTAINERS_MAX]):
        yield f"{within}task.init_containers[{i}]", container


def _refuse_pods_own(out: Violations, field: str, container: Container) -> None:
    given = {
        "entrypoint": container.entrypoint,
        "image_pull_policy": container.image_pull_policy,
        "cpu_limit_millis": container.cpu_limit_millis,
        "security": container.security != SecurityContext(),
        "mount_points.sub_path": any(point.sub_path for point in container.mount_points),
    }
    out.extend(Violation(f"{field}.{name}", _ONLY_OF_PODS, Reason.PLATFORM) for name, value in given.items() if value)


def _check_container(out: Violations, field: str, container: Container, task: Task) -> None:
    """Check a container of a pod beyond what is checked of all."""
    if not container.image or container.image.endswith("://"):
        out.append(Violation(f"{field}.image", "is required of each container of a pod", Reason.REQUIRED))
    name = container.name
    if name and (len(name) > limits.DNS_LABEL_LENGTH_MAX or not _LABEL.fullmatch(name)):
        text = (
            f"{quote(name)} may hold only small letters, digits and '-' within, {limits.DNS_LABEL_LENGTH_MAX} at most"
        )
        out.append(Violation(f"{field}.name", text, Reason.BAD_CHARACTERS))
    _check_not_of_pods(out, field, container)
    if container.image_pull_policy and container.image_pull_policy not in PULL_POLICIES:
        text = f"{quote(container.image_pull_policy)} is not one of {', '.join(PULL_POLICIES)}"
        out.append(Violation(f"{field}.image_pull_policy", text, Reason.UNKNOWN_VALUE))
    if any("\0" in part for part in container.entrypoint):
        out.append(Violation(f"{field}.entrypoint", "an argument holds a NUL character", Reason.BAD_CHARACTERS))
    elif container.entrypoint and not container.entrypoint[0]:
        text = "the first argument, the command itself, is empty"
        out.append(Violation(f"{field}.entrypoint", text, Reason.REQUIRED))
    check_range(out, f"{field}.cpu_limit_millis", container.cpu_limit_millis, 0, limits.CPU_MILLIS_MAX)
    asked, most = container.resources, container.cpu_limit_millis
    if 0 < most < asked.cpu_millis:
        text = f"{most} is less than the {asked.cpu_millis} that are asked for"
        out.append(Violation(f"{field}.cpu_limit_millis", text, Reason.OUT_OF_RANGE))
    if asked.gpu_millis % GPU_WHOLE:
        text = f"{asked.gpu_millis} is no whole GPU, which pods get alone"
        out.append(Violation(f"{field}.resources.gpu_millis", text, Reason.OUT_OF_RANGE))
    _check_mounts(out, field, container)
    _check_security(out, f"{field}.security", container.security, is_pod=False)


def _check_not_of_pods(out: Violations, field: str, container: Container) -> None:
    given = {
        "essential": not container.essential,
        "depends_on": container.depends_on,
        "start_timeout_s": container.start_timeout_s,
        "user": container.user,
        "ulimits": container.ulimits,
        "linux_parameters": container.linux_parameters != LinuxParameters(),
        "log_configuration": container.log_configuration != LogConfiguration(),
        "job_role_arn": container.job_role_arn,
        "execution_role_arn": container.execution_role_arn,
        "resources.disk_mib": container.resources.disk_mib,
        "secrets.delivery": container.has_secret_files,
    }
    text = "is not for containers of pods"
    out.extend(Violation(f"{field}.{name}", text, Reason.PLATFORM) for name, value in given.items() if value)


def _check_mounts(out: Violations, field: str, container: Container) -> None:
    for i, point in enumerate(container.mount_points):
        at = f"{field}.mount_points[{i}]"
        if ":" in point.container_path:
            text = f"{quote(point.container_path)} holds ':', which no mount of a pod may"
            out.append(Violation(f"{at}.container_path", text, Reason.BAD_CHARACTERS))
        check_text(out, f"{at}.sub_path", point.sub_path, limits.PATH_LENGTH_MAX)
        if point.sub_path.startswith("/") or ".." in point.sub_path.split("/"):
            text = f"{quote(point.sub_path)} is no path within the volume"
            out.append(Violation(f"{at}.sub_path", text, Reason.MALFORMED))


def _check_security(out: Violations, field: str, security: SecurityContext, *, is_pod: bool) -> None:
    """Check ids, capabilities and seccomp; of a pod and of its containers not all are the same."""
    for name in ("run_as_user", "run_as_group", "fs_group"):
        value = getattr(security, name)
        if value is not None:
            check_range(out, f"{field}.{name}", value, 0, limits.INT32_MAX)
    only = {"fs_group": security.fs_group is not None}
    if is_pod:
        only = {
            "allow_privilege_escalation": security.allow_privilege_escalation is not None,
            "capabilities_add": bool(security.capabilities_add),
            "capabilities_drop": bool(security.capabilities_drop),
        }
    whose = "containers, and not of the pod" if is_pod else "the pod, and not of its containers"
    out.extend(Violation(f"{field}.{name}", f"is of {whose}", Reason.CONFLICT) for name, given in only.items() if given)
    for name in ("capabilities_add", "capabilities_drop"):
        _check_capabilities(out, f"{field}.{name}", getattr(security, name))
    if security.seccomp_type and security.seccomp_type not in SECCOMP_TYPES:
        text = f"{quote(security.seccomp_type)} is not one of {', '.join(SECCOMP_TYPES)}"
        out.append(Violation(f"{field}.seccomp_type", text, Reason.UNKNOWN_VALUE))
    elif (security.seccomp_type == LOCALHOST) != bool(security.seccomp_profile):
        text = f"is required of type {LOCALHOST}, and of no other"
        out.append(Violation(f"{field}.seccomp_profile", text, Reason.CONFLICT))
    check_text(out, f"{field}.seccomp_profile", security.seccomp_profile, limits.SECCOMP_PROFILE_LENGTH_MAX)


def _check_capabilities(out: Violations, field: str, capabilities: tuple[str, ...]) -> None:
    if len(capabilities) > limits.CAPABILITIES_MAX:
        text = f"{len(capabilities)} given; at most {limits.CAPABILITIES_MAX} are allowed"
        out.append(Violation(field, text, Reason.TOO_MANY))
    for i, name in enumerate(capabilities[: limits.CAPABILITIES_MAX]):
        if not 1 <= len(name) <= limits.CAPABILITY_LENGTH_MAX or name.startswith("CAP_"):
            text = f"{quote(name)} is no capability of 1 to {limits.CAPABILITY_LENGTH_MAX} characters without CAP_"
            out.append(Violation(f"{field}[{i}]", text, Reason.MALFORMED))


def _check_names(out: Violations, within: str, task: Task) -> None:
    """Check how many run before the others, and that all of a pod have names of their own."""
    if len(task.init_containers) > limits.CONTAINERS_MAX:
        text = f"{len(task.init_containers)} containers; at most {limits.CONTAINERS_MAX} are allowed"
        out.append(Violation(f"{within}task.init_containers", text, Reason.TOO_MANY))
        return
    count = Counter(container.shown_name for container in task.all_containers)
    for i, container in enumerate(task.init_containers):
        at = f"{within}task.init_containers[{i}].name"
        if not container.name:
            out.append(Violation(at, "each of several containers needs a name", Reason.REQUIRED))
        elif count[container.name] > 1:
            text = f"{quote(container.name)} is the name of {count[container.name]} containers"
            out.append(Violation(at, text, Reason.DUPLICATE))


def _check_volume(out: Violations, at: str, volume: Volume, *, is_pod: bool) -> None:
    """Check of what kind a volume is (AWS: EksVolume)."""
    given = {
        "host_source_path": volume.host_source_path,
        "medium": volume.medium or volume.size_limit,
        "secret_name": volume.secret_name or volume.secret_optional,
        "claim_name": volume.claim_name or volume.claim_read_only,
    }
    kinds = [name for name, value in given.items() if value]
    if not is_pod:
        out.extend(Violation(f"{at}.{name}", _ONLY_OF_PODS, Reason.PLATFORM) for name in kinds if name in [*given][1:])
        return
    if len(kinds) > 1:
        out.append(Violation(at, f"is of several kinds: {', '.join(kinds)}", Reason.CONFLICT))
    if volume.name and (len(volume.name) > limits.DNS_LABEL_LENGTH_MAX or not _LABEL.fullmatch(volume.name)):
        text = f"{quote(volume.name)} may hold only small letters, digits and '-' within, {limits.DNS_LABEL_LENGTH_MAX} at most"
        out.append(Violation(f"{at}.name", text, Reason.BAD_CHARACTERS))
    if volume.medium not in MEDIUMS:
        text = f"{quote(volume.medium)} is not empty, and not Memory"
        out.append(Violation(f"{at}.medium", text, Reason.UNKNOWN_VALUE))
    if volume.size_limit and not _QUANTITY.fullmatch(volume.size_limit):
        text = f"{quote(volume.size_limit)} is no amount such as 512Mi"
        out.append(Violation(f"{at}.size_limit", text, Reason.MALFORMED))
    for name in ("secret_name", "claim_name"):
        if name in kinds:
            _check_subdomain(out, f"{at}.{name}", getattr(volume, name))


def _check_subdomain(out: Violations, field: str, name: str) -> None:
    if not 1 <= len(name) <= limits.DNS_SUBDOMAIN_LENGTH_MAX or not _SUBDOMAIN.fullmatch(name):
        text = f"{quote(name)} is no DNS subdomain name of 1 to {limits.DNS_SUBDOMAIN_LENGTH_MAX} characters"
        out.append(Violation(field, text, Reason.MALFORMED))


def _check_pod(out: Violations, field: str, pod: Pod) -> None:
    if pod.service_account:
        _check_subdomain(out, f"{field}.service_account", pod.service_account)
    if pod.dns_policy and pod.dns_policy not in DNS_POLICIES:
        text = f"{quote(pod.dns_policy)} is not one of {', '.join(DNS_POLICIES)}"
        out.append(Violation(f"{field}.dns_policy", text, Reason.UNKNOWN_VALUE))
    for i, name in enumerate(pod.image_pull_secrets):
        _check_subdomain(out, f"{field}.image_pull_secrets[{i}]", name)
    if pod.namespace:
        check_namespace(out, f"{field}.namespace", pod.namespace, forbidden="kube")
    check_pod_metadata(out, field, pod.labels, pod.annotations)
    _check_security(out, f"{field}.security", pod.security, is_pod=True)


def check_pod_metadata(out: Violations, field: str, labels: Pairs, annotations: Pairs) -> None:
    """Check labels and annotations of a pod (AWS: EksMetadata)."""
    for name, values in (("labels", labels), ("annotations", annotations)):
        if len(values) > limits.POD_METADATA_MAX:
            text = f"{len(values)} given; at most {limits.POD_METADATA_MAX} are allowed"
            out.append(Violation(f"{field}.{name}", text, Reason.TOO_MANY))
        for key, _ in values[: limits.POD_METADATA_MAX]:
            _check_key(out, f"{field}.{name}[{quote(key)}]", key)
    for key, value in labels[: limits.POD_METADATA_MAX]:
        if value and (len(value) > limits.DNS_LABEL_LENGTH_MAX or not _KEY_NAME.fullmatch(value)):
            text = f"{quote(value)} may hold only letters, digits, '-', '_' and '.' within, {limits.DNS_LABEL_LENGTH_MAX} at most"
            out.append(Violation(f"{field}.labels[{quote(key)}]", text, Reason.MALFORMED))
    for key, value in annotations[: limits.POD_METADATA_MAX]:
        check_text(out, f"{field}.annotations[{quote(key)}]", value, limits.POD_ANNOTATION_LENGTH_MAX)


def _check_key(out: Violations, at: str, key: str) -> None:
    prefix, slash, name = key.rpartition("/")
    if any(reserved in f"{prefix}/" for reserved in _RESERVED_PREFIXES if slash):
        text = f"prefixes that hold {', '.join(_RESERVED_PREFIXES)} are reserved"
        out.append(Violation(at, text, Reason.NOT_ALLOWED))
        return
    if slash:
        _check_subdomain(out, at, prefix)
    if len(name) > limits.DNS_LABEL_LENGTH_MAX or not _KEY_NAME.fullmatch(name):
        text = f"{quote(name)} is no name of letters, digits, '-', '_' and '.' within, {limits.DNS_LABEL_LENGTH_MAX} at most"
        out.append(Violation(at, text, Reason.MALFORMED))
