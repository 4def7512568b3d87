"""A yard whose hosts are nodes of a cluster: a controller and an agent as real processes."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from tests.e2e.programs import Program, until
from tests.e2e.yard import Yard, environment_of, queue_of
from tests.kubernetes.cluster import Cluster

from batchyard import AsyncClient, Client
from batchyard.v1 import compute_environment_pb2 as environment_pb

CLUSTER = "test-cluster"
AGENT = "kubernetes"


class KubernetesYard(Yard):
    """
    A yard with an agent of a namespace.

    Args:
        folder: State and logs of all.
        cluster: Whose nodes are hosts.
        namespace: Where pods are.
        selector: Which nodes; those of other tests are none of ours.
    """

    def __init__(self, folder: Path, cluster: Cluster, namespace: str, *, selector: str = "") -> None:
        super().__init__(folder)
        self.cluster, self.namespace = cluster, namespace
        self.selector = selector or f"test={namespace}"
        self.agent = self.add_kubernetes(cluster.kubeconfig)

    def add_kubernetes(self, kubeconfig: Path, *more: str) -> Program:
        """Prepare the agent; the caller starts it."""
        arguments = [
            "--controller",
            self.address,
            "--state-dir",
            str(self.folder / AGENT),
            "--join-token-file",
            str(self.token_file),
            "--namespace",
            self.namespace,
        ]
        arguments += ["--cluster", CLUSTER, "--kubeconfig", str(kubeconfig), "--selector", self.selector]
        arguments = [sys.executable, "-m", "batchyard_agent.kubernetes", *arguments, "--log-level", "debug", *more]
        program = Program("agent kubernetes", arguments, self.folder / "agent-kubernetes.log")
        self.others = [program]
        self.agent = program
        return program

    def add_node(self, suffix: str = "", **amounts: Any) -> str:
        """Make a node that is a host; return its name."""
        name = f"{self.namespace}-node{suffix}"
        labels = {"test": self.namespace, **amounts.pop("labels", {})}
        self.cluster.add_node(name, labels=labels, **amounts)
        # Its kubelet would be asked for logs: nobody listens there, and says so at once.
        self.cluster.patch_node_status(name, {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}]})
        return name

    def begin(self, *nodes: str) -> None:
        """Start controller and agent, and make the environment and the queue ``default`` of the cluster."""
        self.start_controller(speaks_for="*")
        self.agent.start()
        with self.client() as client:
            until(lambda: self.is_ready(client, *nodes), "all nodes are ready")
            self.make_queue(client)

    def make_queue(self, client: Client, *before: str) -> None:
        """Make the environment and the queue ``default`` of the cluster, after other environments."""
        request = environment_pb.CreateComputeEnvironmentRequest(
            name="default",
            type=environment_pb.COMPUTE_ENVIRONMENT_TYPE_MANAGED,
            state=environment_pb.RESOURCE_STATE_ENABLED,
            compute_resources=environment_pb.ComputeResources(
                type=environment_pb.CAPACITY_TYPE_EC2,
                allocation_strategy=environment_pb.ALLOCATION_STRATEGY_BEST_FIT_PROGRESSIVE,
            ),
            kubernetes=environment_pb.KubernetesCluster(name=CLUSTER, namespace=self.namespace),
        )
        asyncio.run(_create(self.socket, request))
        until(lambda: environment_of(client).status == environment_pb.RESOURCE_STATUS_VALID, "the environment is VALID")
        client.create_job_queue("default", compute_environments=[*before, "default"])
        until(lambda: queue_of(client).status == environment_pb.RESOURCE_STATUS_VALID, "the queue is VALID")


async def _create(address: str, request: environment_pb.CreateComputeEnvironmentRequest) -> None:
    async with AsyncClient(address, retry_s=30) as client:
        await client.calls.create_compute_environment(request)
