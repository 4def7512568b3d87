"""
Feasibility: may this host ever run a job of this environment and runtime?

What a host is decides (purchase option, type, labels, runtimes), and what its
operator allows; how full it is does not. One predicate serves placement,
explanations and listings. Paths are compared as they are written: the agent alone
can tell where they lead, and judges again before it mounts anything.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from batchyard.tasks import Task
from batchyard_controller.core.model.hosts import HostFacts
from batchyard_controller.core.model.settings import CapacityType, ComputeEnvironment

_PATHS_SHOWN = 10
_PURCHASE_OPTION = {CapacityType.EC2: "on-demand", CapacityType.SPOT: "spot"}


def belongs(facts: HostFacts, environment: ComputeEnvironment) -> bool:
    """Say whether a host is one of an environment's."""
    return not exclusion(facts, environment)


def exclusion(facts: HostFacts, environment: ComputeEnvironment) -> str:
    """Say by which rule a host is none of an environment's; empty of one that is."""
    wanted = environment.compute_resources
    if facts.purchase_option != _PURCHASE_OPTION[wanted.type]:
        return f"it is {facts.purchase_option}"
    if not _type_matches(facts.host_type, wanted.instance_types):
        return f"its type is {facts.host_type}"
    if missing := sorted(set(wanted.labels) - set(facts.labels)):
        return f"it lacks the label {missing[0][0]}={missing[0][1]}"
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What a job asks of its host that the host's operator has to allow."""

    privileged: bool = False
    volume_paths: tuple[str, ...] = ()
    device_paths: tuple[str, ...] = ()


NO_ACCESS = Access()


def access_of(task: Task) -> Access:
    """Return what a task asks of its host; the same object for all that ask nothing."""
    asking = [c for c in task.containers if c.privileged or c.mount_points or c.linux_parameters.devices]
    if not asking:
        return NO_ACCESS
    mounted = {point.source_volume for container in asking for point in container.mount_points}
    devices = {device.host_path for container in asking for device in container.linux_parameters.devices}
    paths = {v.host_source_path for v in task.volumes if v.host_source_path and v.name in mounted}
    return Access(
        privileged=any(container.privileged for container in asking),
        volume_paths=tuple(sorted(map(_plain, paths))),
        device_paths=tuple(sorted(map(_plain, devices))),
    )


def allows(facts: HostFacts, access: Access) -> bool:
    """Say whether a host's operator allows all that a job asks."""
    return (
        (facts.allows_privileged or not access.privileged)
        and all(_allows_volume(facts, path) for path in access.volume_paths)
        and all(_allows_device(facts, path) for path in access.device_paths)
    )


def not_allowed(access: Access, hosts: Iterable[HostFacts]) -> str:
    """Say what of it none of *hosts* allows, or that no single one allows all."""
    hosts = list(hosts)
    texts = []
    if access.privileged and not any(facts.allows_privileged for facts in hosts):
        texts.append("no host allows privileged containers")
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
