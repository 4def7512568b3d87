"""Pod arguments: a pod of Kubernetes of what a caller says in Python; checks as in `arguments`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from batchyard import arguments
from batchyard.v1.job_definition_pb2 import ContainerProperties, PodProperties, TaskProperties, Volume


def pod(
    *containers: ContainerProperties,
    init_containers: Sequence[ContainerProperties] = (),
    volumes: Sequence[Volume] = (),
    service_account: str = "",
    host_network: bool | None = None,
    dns_policy: str = "",
    image_pull_secrets: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    namespace: str = "",
    share_processes: bool = False,
) -> TaskProperties:
    """
    Describe a pod of Kubernetes: it runs on nodes of clusters alone, and all its containers have to exit with 0.

    Rarer fields (security contexts, mounts, ...) are set on the messages that go in, and on
    the result.

    Args:
        containers: 1 to 10; several need a ``name`` each. The ``command`` of one is what
            Kubernetes calls args; its ``entrypoint`` is what Kubernetes calls command.
        init_containers: Run one after the other, each to its end, before the others; at most 10, with names.
        volumes: Any of the containers may mount them.
        service_account: Of the cluster; empty gives it no credentials.
        host_network: Whether it is on its node's network; None is true, as on AWS.
        dns_policy: ``Default``, ``ClusterFirst`` or ``ClusterFirstWithHostNet``; empty goes by its network.
        image_pull_secrets: Names of secrets of the cluster.
        labels: Of the pod.
        annotations: Of the pod.
        namespace: Where it is; empty is where the agent puts pods.
        share_processes: Its containers see each other's processes.

    Raises:
        InvalidArgumentError: an argument has the wrong type.
    """
    of_pod = arguments.request(
        PodProperties,
        "pod.",
        service_account=service_account,
        host_network=host_network,
        dns_policy=dns_policy,
        image_pull_secrets=image_pull_secrets,
        labels=labels,
        annotations=annotations,
        namespace=namespace,
    )
    listed = {"containers": containers, "init_containers": init_containers}
    found = {
        name: [arguments.message(f"pod.{name}[{i}]", each, ContainerProperties) for i, each in enumerate(given)]
        for name, given in listed.items()
    }
    return TaskProperties(
        containers=found["containers"],
        init_containers=found["init_containers"],
        volumes=[arguments.message(f"pod.volumes[{i}]", each, Volume) for i, each in enumerate(volumes)],
        pid_mode="task" if arguments.flag("pod.share_processes", share_processes) else "",
        pod=of_pod,
    )
