"""
Feasibility: may this host ever run a job of this environment and runtime?

What a host is decides (purchase option, type, labels, runtimes, GPUs), and what its
operator allows; how full it is does not. One predicate serves placement,
explanations and listings. Paths are compared as they are written: the agent alone
can tell where they lead, and judges again before it mounts anything.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from batchyard.features import (
    CONTAINER_OUTPUT,
    CONTAINER_STDIN,
    FILES_OF_SECRETS,
    SECURED_CONTAINERS,
    SECURED_PROCESSES,
    SEVERAL_CONTAINERS,
    SEVERAL_PROCESSES,
    SHARED_PROCESSES,
)
from batchyard.pod_limits import not_as_pod
from batchyard.runtimes import DOCKER, KUBERNETES, PROCESS
from batchyard.security import SecurityLevel
from batchyard.tasks import Container, Task
from batchyard_controller.core.model.hosts import PLATFORMS_DEFAULT, GpuFacts, HostFacts
from batchyard_controller.core.model.launches import environment_of
from batchyard_controller.core.model.settings import ComputeEnvironment, KubernetesCluster

from .gpus import is_wanted

_PATHS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Why a host is none of an environment's: by which of the environment's fields, and in words."""

    rule: str
    text: str


def belongs(facts: HostFacts, environment: ComputeEnvironment) -> bool:
    """Say whether a host is one of an environment's."""
    return exclusion(facts, environment) is None


def exclusion(facts: HostFacts, environment: ComputeEnvironment) -> Exclusion | None:
    """Say by which rule a host is none of an environment's; None of one that is."""
    wanted = environment.compute_resources
    owner = environment_of(facts)
    if owner and owner != environment.name:
        return Exclusion("compute_resources.provider", f"it was launched for {owner}")
    if environment.has_provider and not owner:
        return Exclusion("compute_resources.provider", "its provider did not launch it")
    if facts.purchase_option != wanted.type.purchase_option:
        return Exclusion("compute_resources.type", f"it is {facts.purchase_option}")
    if environment.kubernetes is not None or facts.kubernetes is not None:
        excluded = _cluster_exclusion(facts, environment.kubernetes)
        if excluded is not None:
            return excluded
    elif wanted.type.platform not in (facts.platforms or PLATFORMS_DEFAULT):
        return Exclusion("compute_resources.type", f"it does not offer {wanted.type.platform}")
    if not _type_matches(facts.host_type, wanted.instance_types):
        return Exclusion("compute_resources.instance_types", f"its type is {facts.host_type}")
    if missing := sorted(set(wanted.labels) - set(facts.labels)):
        return Exclusion("compute_resources.labels", f"it lacks the label {missing[0][0]}={missing[0][1]}")
    return None


def _cluster_exclusion(facts: HostFacts, wanted: KubernetesCluster | None) -> Exclusion | None:
    """Say why a host is none of a cluster's nodes, or a node none of an environment that names no cluster."""
    node = facts.kubernetes
    if node is None:
        return Exclusion("kubernetes", "it is no node of a Kubernetes cluster")
    if wanted is not None and (node.cluster, node.namespace) == (wanted.name, wanted.namespace):
        return None
    return Exclusion("kubernetes", f"it is a node of cluster {node.cluster}, for namespace {node.namespace}")


def offers(facts: HostFacts, runtime: str) -> bool:
    """Say whether a host offers a runtime; a node of a cluster runs containers as pods."""
    return runtime in facts.runtimes or (runtime == DOCKER and KUBERNETES in facts.runtimes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """
    What a job asks of its host beyond amounts: what its operator has to allow, and of what kind its GPUs are.

    Attributes:
        features: What its agent has to be able to do, as new ones are (`batchyard.features`).
        gpu_models: Names of which a GPU's model must bear any; empty: of any model.
        gpu_memory_mib: Least memory of each.
        architectures: Of the CPU; a host has to be of all of them.
        platforms: Of its environment, any of them; empty: any.
        not_as_pod: What keeps it from running as a pod on a node of a cluster; empty: nothing.
        namespace: Of a pod that names one: where its host's agent must be able to make it.
    """

    privileged: bool = False
    volume_paths: tuple[str, ...] = ()
    device_paths: tuple[str, ...] = ()
    gpu_models: tuple[str, ...] = ()
    gpu_memory_mib: int = 0
    architectures: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    not_as_pod: str = ""
    namespace: str = ""

    @property
    def chooses_gpus(self) -> bool:
        """Whether not any GPU will do."""
        return bool(self.gpu_models or self.gpu_memory_mib)

    def wants(self, gpu: GpuFacts) -> bool:
        """Say whether a GPU is of a kind that will do."""
        return is_wanted(gpu, self.gpu_models, self.gpu_memory_mib)


NO_ACCESS = Access()
_LACKING = {
    SHARED_PROCESSES: "no host lets processes of one job see each other: agents of root keep them apart",
    SECURED_CONTAINERS: "no host can keep containers to its queue's security level: that takes an agent of root "
    "and the machine's packet filter, iptables",
    SECURED_PROCESSES: "no host can keep processes to its queue's security level: that takes an agent of root "
    "which runs them as another user",
    CONTAINER_OUTPUT: "no host copies logs of containers: that takes an agent that runs plain processes too",
}
"""What is said of features that are not the agent's version alone."""


def access_of(task: Task, platforms: tuple[str, ...], level: SecurityLevel = SecurityLevel.PRIVILEGED) -> Access:
    """
    Return what a job asks of its host; the same object for nothing.

    Args:
        task: What it runs.
        platforms: It may go to environments of these.
        level: That of its queue.
    """
    asking = [c for c in task.all_containers if _asks(c)]
    obstacle = not_as_pod(task) if task.runtime == DOCKER else ""
    if task.is_plain and not (asking or platforms or obstacle or level.is_secured):
        return NO_ACCESS
    choosing = next((c for c in asking if c.gpu_models or c.gpu_memory_mib), task.main)
    mounted = {point.source_volume for container in asking for point in container.mount_points}
    devices = {device.host_path for container in asking for device in container.linux_parameters.devices}
    paths = {v.host_source_path for v in task.volumes if v.host_source_path and v.name in mounted}
    return Access(
        privileged=any(container.privileged for container in asking),
        volume_paths=tuple(sorted(map(_plain, paths))),
        device_paths=tuple(sorted(map(_plain, devices))),
        gpu_models=tuple(sorted({name.lower() for name in choosing.gpu_models})),
        gpu_memory_mib=choosing.gpu_memory_mib,
        features=_features_of(task) + _delivering(task) + _securing(task, level),
        not_as_pod=obstacle,
        namespace=task.pod.namespace if task.pod is not None else "",
        architectures=tuple(sorted({c.cpu_architecture for c in asking} - {""})),
        platforms=platforms,
    )


def _features_of(task: Task) -> tuple[str, ...]:
    if task.is_plain or task.pod is not None:
        return ()
    if task.runtime != PROCESS:
        return (SEVERAL_CONTAINERS,)
    return (SEVERAL_PROCESSES, SHARED_PROCESSES) if task.pid_mode else (SEVERAL_PROCESSES,)


def _delivering(task: Task) -> tuple[str, ...]:
    asked = {FILES_OF_SECRETS: any(container.has_secret_files for container in task.all_containers)}
    if task.runtime == DOCKER:
        asked[CONTAINER_STDIN] = any(container.stdin for container in task.all_containers)
        asked[CONTAINER_OUTPUT] = any(container.output_path for container in task.all_containers)
    return tuple(feature for feature, is_asked in asked.items() if is_asked)


def _securing(task: Task, level: SecurityLevel) -> tuple[str, ...]:
    if not level.is_secured or task.runtime not in (DOCKER, PROCESS):
        return ()
    return (SECURED_CONTAINERS if task.runtime == DOCKER else SECURED_PROCESSES,)


def _asks(container: Container) -> bool:
    return bool(
        container.privileged
        or container.mount_points
        or container.linux_parameters.devices
        or container.gpu_models
        or container.gpu_memory_mib
        or container.cpu_architecture
        or container.has_secret_files
        or (container.image and (container.stdin or container.output_path))
    )


def suits(environment: ComputeEnvironment, access: Access) -> bool:
    """Say whether an environment runs jobs of such a platform (AWS: platformCapabilities)."""
    return not access.platforms or environment.compute_resources.type.platform in access.platforms


def allows(facts: HostFacts, access: Access) -> bool:
    """Say whether a host's operator allows all that a job asks, and whether any of its GPUs will do."""
    return (
        (facts.allows_privileged or not access.privileged)
        and all(feature in facts.features for feature in access.features)
        and (facts.kubernetes is None or not access.not_as_pod)
        and (not access.namespace or access.namespace in _namespaces(facts))
        and (not access.chooses_gpus or any(map(access.wants, facts.gpus)))
        and all(architecture == facts.cpu_architecture for architecture in access.architectures)
        and all(_allows_volume(facts, path) for path in access.volume_paths)
        and all(_allows_device(facts, path) for path in access.device_paths)
    )


def _namespaces(facts: HostFacts) -> tuple[str, ...]:
    """Return the namespaces in which a host's agent makes pods."""
    node = facts.kubernetes
    return () if node is None else (node.namespace, *node.other_namespaces)


def not_allowed(access: Access, hosts: Iterable[HostFacts]) -> str:
    """Say what of it none of *hosts* allows, or that no single one allows all."""
    hosts = list(hosts)
    texts: list[str] = []
    if access.chooses_gpus and not any(any(map(access.wants, facts.gpus)) for facts in hosts):
        models = (gpu_text(gpu) for facts in hosts for gpu in facts.gpus)
        texts.append(f"no host has a GPU {wished_gpus(access)} (hosts have: {_shown(models)})")
    texts += [
        _LACKING.get(feature, f"no host's agent is new enough for {feature.replace('-', ' ')}")
        for feature in access.features
        if not any(feature in facts.features for facts in hosts)
    ]
    if access.not_as_pod and all(facts.kubernetes is not None for facts in hosts):
        texts.append(f"its hosts run pods alone, and none can have {access.not_as_pod}")
    if access.namespace and not any(access.namespace in _namespaces(facts) for facts in hosts):
        known = _shown(chain.from_iterable(map(_namespaces, hosts)))
        texts.append(f"no host's agent makes pods in namespace {access.namespace} (agents do in: {known})")
    if access.privileged and not any(facts.allows_privileged for facts in hosts):
        texts.append("no host allows privileged containers")
    texts += [
        f"no host has a CPU of architecture {architecture} "
        f"(hosts have: {_shown(facts.cpu_architecture or 'not told' for facts in hosts)})"
        for architecture in access.architectures
        if all(facts.cpu_architecture != architecture for facts in hosts)
    ]
    volumes, devices = (
        _shown(chain.from_iterable(paths))
        for paths in ((facts.volume_paths for facts in hosts), (facts.device_paths for facts in hosts))
    )
    texts += [
        f"no host allows to mount {path} (hosts allow: {volumes})"
        for path in access.volume_paths
        if not any(_allows_volume(facts, path) for facts in hosts)
    ]
    texts += [
        f"no host allows the device {path} (hosts allow: {devices})"
        for path in access.device_paths
        if not any(_allows_device(facts, path) for facts in hosts)
    ]
    return "; ".join(texts) or "each is allowed by some host, but no single host allows all that the job asks of it"


def wished_gpus(access: Access) -> str:
    """Say which GPUs will do."""
    models = f"of model {' or '.join(access.gpu_models)}" if access.gpu_models else ""
    memory = f"with {access.gpu_memory_mib} MiB of memory or more" if access.gpu_memory_mib else ""
    return " ".join(filter(None, (models, memory)))


def gpu_text(gpu: GpuFacts) -> str:
    """Say of what kind a GPU is."""
    return f"{gpu.model or 'unknown'} {gpu.memory_mib} MiB"


def _shown(paths: Iterable[str]) -> str:
    known = list(dict.fromkeys(paths))
    more = f" and {len(known) - _PATHS_SHOWN} more" if len(known) > _PATHS_SHOWN else ""
    return ", ".join(known[:_PATHS_SHOWN]) + more if known else "none"


def _allows_volume(facts: HostFacts, path: str) -> bool:
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in facts.volume_paths)


def _allows_device(facts: HostFacts, path: str) -> bool:
    return any(path.startswith(k[:-1]) if k.endswith("*") else path == k for k in facts.device_paths)


def _plain(path: str) -> str:
    """Write a path without needless slashes and dots; two slashes in front would stay (POSIX)."""
    return posixpath.normpath("/" + path.lstrip("/"))


def type_place(host_type: str, wanted: tuple[str, ...]) -> int:
    """Return the place of the first of an environment's instance types that a host is of; behind all if it is of none."""
    return next((i for i, name in enumerate(wanted) if _type_matches(host_type, (name,))), len(wanted))


def _type_matches(host_type: str, wanted: tuple[str, ...]) -> bool:
    """A host type such as ``m5.large`` is named whole, or by its family ``m5``."""
    if not wanted or "optimal" in wanted:
        return True
    return host_type in wanted or host_type.partition(".")[0] in wanted
