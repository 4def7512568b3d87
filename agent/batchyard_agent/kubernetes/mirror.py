"""
What the cluster holds, kept by one watch of nodes and one of pods.

Others ask it instead of the API server: no call per attempt. It decides nothing. Laws: what a
watch has lost is found by listing again, and told as if it had been seen; whoever follows a
host's pods is told of each as it is now, and once that it is gone. Events may be skipped, and
told twice.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import NoReturn, Protocol, TypeVar

import structlog
from lightkube.resources.core_v1 import Node, Pod

from batchyard.ids import HostId
from batchyard.resources import NOTHING, Resources
from batchyard_agent.kubernetes.cluster import WATCH_SILENCE_S, Cluster, ClusterError, ExpiredError
from batchyard_agent.kubernetes.facts import NodeFacts, SeenPod, node_facts, seen_pod

BACKOFF_MIN_S = 0.5
BACKOFF_MAX_S = 15.0

T = TypeVar("T", Node, Pod)

log = structlog.get_logger()


class PodFollower(Protocol):
    """Who follows the pods of one host."""

    def on_pod(self, pod: SeenPod) -> None:
        """Take what is said of a pod now."""

    def on_pod_gone(self, pod: SeenPod) -> None:
        """Take that a pod is no more, as it was seen last."""


class Mirror:
    """
    The nodes and pods of one cluster.

    Args:
        cluster: The API server.
        on_node: Told of each node as it is now, and of its end: its name, and None.

    Attributes:
        nodes: By name.
        fault: Why it knows nothing new; empty: it does.
    """

    def __init__(self, cluster: Cluster, on_node: Callable[[str, NodeFacts | None], None]) -> None:
        self._cluster = cluster
        self._on_node = on_node
        self._pods: dict[str, SeenPod] = {}
        self._own: dict[HostId, dict[str, SeenPod]] = {}
        self._held: dict[str, Resources] = {}
        """What others' pods hold, by node."""
        self._followers: dict[HostId, PodFollower] = {}
        self._faults: dict[str, str] = {}
        self.nodes: dict[str, NodeFacts] = {}

    @property
    def fault(self) -> str:
        """Why it knows nothing new; empty: it does."""
        return next(iter(self._faults.values()), "")

    async def fill(self) -> None:
        """
        List all pods, then all nodes.

        Raises:
            ClusterError: it cannot be had.
        """
        self._take_pods(map(seen_pod, (await self._cluster.list_pods())[0]))
        self._take_nodes(map(node_facts, (await self._cluster.list_nodes())[0]))

    async def run(self) -> None:
        """Keep it for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep("pods", self._follow_pods))
            group.create_task(self._keep("nodes", self._follow_nodes))

    def follow(self, host_id: HostId, follower: PodFollower) -> None:
        """Tell *follower* of a host's pods from now on; others hold nothing by them."""
        self._followers[host_id] = follower
        for pod in self.pods_of(host_id):
            self._count(pod, -1)

    def unfollow(self, host_id: HostId) -> None:
        """Tell nobody any more of a host's pods."""
        if self._followers.pop(host_id, None) is not None:
            for pod in self.pods_of(host_id):
                self._count(pod, 1)

    def pods_of(self, host_id: HostId) -> list[SeenPod]:
        """Return the pods that bear a host's label."""
        return list(self._own.get(host_id, {}).values())

    def held_by_others(self, node: str) -> Resources:
        """Return what pods hold of a node that are of none of the hosts that are followed."""
        return self._held.get(node, NOTHING)

    async def _keep(self, what: str, follow: Callable[[], Awaitable[None]]) -> NoReturn:
        backoff_s = BACKOFF_MIN_S
        while True:
            began_s = asyncio.get_running_loop().time()
            try:
                await follow()
            except ExpiredError as error:
                log.info("a watch is too old; listing again", what=what, reason=str(error))
            except (ClusterError, TimeoutError) as error:
                if what not in self._faults:
                    log.warning("the cluster cannot be followed; pods go on", what=what, reason=str(error))
                self._faults[what] = f"the cluster's {what} cannot be followed: {error or 'it says nothing'}"
                if asyncio.get_running_loop().time() - began_s > BACKOFF_MAX_S:
                    backoff_s = BACKOFF_MIN_S
                await asyncio.sleep(backoff_s)
                backoff_s = min(BACKOFF_MAX_S, backoff_s * 2)

    async def _follow_pods(self) -> None:
        pods, version = await self._cluster.list_pods()
        self._take_pods(map(seen_pod, pods))
        self._faults.pop("pods", None)
        async for event, pod in _heard(self._cluster.watch_pods(version)):
            if event == "DELETED":
                self._drop_pod(pod.metadata.uid or "" if pod.metadata is not None else "")
            else:
                self._take_pod(seen_pod(pod))

    async def _follow_nodes(self) -> None:
        nodes, version = await self._cluster.list_nodes()
        self._take_nodes(map(node_facts, nodes))
        self._faults.pop("nodes", None)
        async for event, node in _heard(self._cluster.watch_nodes(version)):
            facts = node_facts(node)
            if event == "DELETED":
                self._drop_node(facts.name)
            else:
                self._take_node(facts)

    def _take_pods(self, pods: Iterable[SeenPod]) -> None:
        found = {pod.uid: pod for pod in pods}
        for uid in self._pods.keys() - found.keys():
            self._drop_pod(uid)
        for pod in found.values():
            self._take_pod(pod)

    def _take_pod(self, pod: SeenPod) -> None:
        former = self._pods.get(pod.uid)
        if former is not None:
            self._count_others(former, -1)
        self._pods[pod.uid] = pod
        if pod.host_id:
            self._own.setdefault(pod.host_id, {})[pod.uid] = pod
        self._count_others(pod, 1)
        if (follower := self._followers.get(pod.host_id)) is not None:
            follower.on_pod(pod)

    def _drop_pod(self, uid: str) -> None:
        pod = self._pods.pop(uid, None)
        if pod is None:
            return
        self._count_others(pod, -1)
        if pod.host_id:
            self._own[pod.host_id].pop(uid)
            if not self._own[pod.host_id]:
                del self._own[pod.host_id]
        if (follower := self._followers.get(pod.host_id)) is not None:
            follower.on_pod_gone(pod)

    def _count_others(self, pod: SeenPod, times: int) -> None:
        if pod.host_id not in self._followers:
            self._count(pod, times)

    def _count(self, pod: SeenPod, times: int) -> None:
        if pod.node and pod.held != NOTHING:
            held = self._held.get(pod.node, NOTHING) + pod.held * times
            if held == NOTHING:
                del self._held[pod.node]
            else:
                self._held[pod.node] = held

    def _take_nodes(self, nodes: Iterable[NodeFacts]) -> None:
        found = {node.name: node for node in nodes}
        for name in self.nodes.keys() - found.keys():
            self._drop_node(name)
        for node in found.values():
            self._take_node(node)

    def _take_node(self, node: NodeFacts) -> None:
        former = self.nodes.get(node.name)
        if former is not None and former.uid != node.uid:
            self._drop_node(node.name)
        if former != node:
            self.nodes[node.name] = node
            self._on_node(node.name, node)

    def _drop_node(self, name: str) -> None:
        del self.nodes[name]
        self._on_node(name, None)


async def _heard(events: AsyncGenerator[tuple[str, T], None]) -> AsyncGenerator[tuple[str, T], None]:
    """
    Yield what a watch tells, as long as it is heard from.

    Raises:
        TimeoutError: it says nothing for longer than the server lets a watch last.
    """
    async with contextlib.aclosing(events):
        while True:
            async with asyncio.timeout(WATCH_SILENCE_S):
                event = await anext(events)
            yield event
