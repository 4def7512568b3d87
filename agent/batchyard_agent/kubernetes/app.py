"""
The agent on Kubernetes put together: one API, one look at all nodes and pods, an agent a node.

Here clocks, dice and threads come in. Law: pods do not depend on this process. However it
ends, they go on and the next agent finds them again; and if one part of it breaks, all of it
ends with that error.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable

import structlog

from batchyard.ids import HostId
from batchyard_agent import clock
from batchyard_agent.core.events import Now
from batchyard_agent.journal import StateDirectoryError
from batchyard_agent.kubernetes.cluster import Cluster, ClusterError, NoClusterError, UnansweredError, read_config
from batchyard_agent.kubernetes.config import KubernetesConfig
from batchyard_agent.kubernetes.facts import NodeFacts
from batchyard_agent.kubernetes.mirror import Mirror
from batchyard_agent.kubernetes.node_agent import NodeAgent, Shared, folder_of, read_node
from batchyard_agent.kubernetes.pod_body import FINALIZER, HOST_LABEL
from batchyard_agent.kubernetes.rights import needed
from batchyard_agent.kubernetes.tenancy import Tenancy, read_id
from batchyard_agent.loop_errors import broken
from batchyard_agent.standing import Standing, enter

START_AGAIN_S = 5.0

log = structlog.get_logger()


async def run(config: KubernetesConfig) -> None:
    """
    Be an agent until SIGTERM or SIGINT.

    Raises:
        NoClusterError: there is no cluster, or it does not allow what the agent has to do.
        StateDirectoryError: the state folder cannot be used.
        JoinError: the agent has not joined the controller's yard, and cannot.
        BrokenMembershipError: by what it is known there cannot be read.
        TakenAwayError: another agent has taken a namespace.
        ExceptionGroup: a part of the agent broke.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    cluster = Cluster(read_config(config.kubeconfig, config.context))
    try:
        await _check_rights(cluster, config.limits.namespaces, stop)
        agent_id = read_id(config.state_dir)
        standing = await enter(config.applicant, HostId(agent_id), stop, clock.read_wall_ms, random.random)
        if standing is not None and not stop.is_set():
            await KubernetesAgent(config, cluster, standing, agent_id).run(stop)
    except OSError as error:
        raise StateDirectoryError(f"cannot use the state folder {config.state_dir}: {error}") from error
    finally:
        await cluster.close()


async def release(config: KubernetesConfig) -> int:
    """
    Take the finalizers off all pods of the agent's namespaces; return of how many.

    Raises:
        NoClusterError: there is no cluster, or it does not allow that.
    """
    cluster = Cluster(read_config(config.kubeconfig, config.context))
    count = 0
    try:
        for namespace in config.limits.namespaces:
            for pod in await cluster.list_pods_with(namespace, HOST_LABEL):
                meta = pod.metadata
                if meta is not None and FINALIZER in (meta.finalizers or ()):
                    await cluster.release(namespace, meta.name or "", meta.uid or "")
                    count += 1
    except ClusterError as error:
        raise NoClusterError(f"the finalizers of {count} pods were taken off, then: {error}") from error
    finally:
        await cluster.close()
    return count


async def _check_rights(cluster: Cluster, namespaces: tuple[str, ...], stop: asyncio.Event) -> None:
    """
    Make sure that all is allowed that will be needed; waits for a cluster that does not answer yet.

    Raises:
        NoClusterError: something is not.
    """
    while not stop.is_set():
        try:
            lacking = [right for right in needed(namespaces) if await cluster.lacks(right)]
        except UnansweredError as error:
            log.warning("the cluster does not answer; it is asked again", reason=str(error))
            await asyncio.wait([asyncio.ensure_future(stop.wait())], timeout=START_AGAIN_S)
        except ClusterError as error:
            raise NoClusterError(str(error)) from error
        else:
            if lacking:
                raise NoClusterError(f"the cluster does not allow this agent to {'; '.join(map(str, lacking))}")
            return


class KubernetesAgent:
    """One agent's parts."""

    def __init__(self, config: KubernetesConfig, cluster: Cluster, standing: Standing, agent_id: str) -> None:
        self._config = config
        self._standing = standing
        self._cluster = cluster
        self._mirror = Mirror(cluster, self._on_node)
        self._nodes: dict[str, NodeAgent] = {}
        """By uid."""
        self._shared = Shared(
            config=config,
            cluster=cluster,
            mirror=self._mirror,
            read_now=run_clock(),
            dice=random.random,
            nonce=os.urandom(16).hex(),
            standing=standing,
        )
        self._tenancy = Tenancy(cluster, config.limits.namespaces, agent_id, self._shared.read_now)
        self._group: asyncio.TaskGroup | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Work until *stop* is set."""
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self._run())
            await stop.wait()
            log.info("agent stops; pods go on", nodes=len(self._nodes))
            task.cancel()

    async def _run(self) -> None:
        await self._tenancy.take()
        await self._fill()
        self._take_former()
        log.info(
            "agent started",
            cluster=self._config.cluster,
            namespaces=self._config.limits.namespaces,
            controller=self._config.controller,
            nodes=sorted(agent.node.name for agent in self._nodes.values()),
        )
        async with asyncio.TaskGroup() as group:
            for agent in list(self._nodes.values()):
                group.create_task(self._run_node(agent))
            self._group = group
            group.create_task(self._mirror.run())
            group.create_task(self._tenancy.keep())
            group.create_task(self._standing.run(self._reopen))
            group.create_task(broken())

    async def _fill(self) -> None:
        while True:
            try:
                await self._mirror.fill()
            except ClusterError as error:
                log.warning("the cluster cannot be listed; it is tried again", reason=str(error))
                await asyncio.sleep(START_AGAIN_S)
            else:
                return

    def _take_former(self) -> None:
        """Take up nodes that went while no agent looked."""
        folder = self._config.state_dir / "nodes"
        for each in sorted(folder.iterdir()) if folder.is_dir() else ():
            if each.name not in self._nodes and (node := read_node(each)) is not None:
                self._add(node).take_gone()

    def _on_node(self, name: str, node: NodeFacts | None) -> None:
        if node is None:
            for agent in self._nodes.values():
                if agent.node.name == name:
                    agent.take_gone()
        elif node.uid in self._nodes:
            self._nodes[node.uid].take(node)
        elif self._is_host(node):
            self._add(node)

    def _is_host(self, node: NodeFacts) -> bool:
        """Say whether a node is to be a host that is none yet."""
        is_wanted = self._config.selector.chooses(node.labels) and node.is_ready and not node.taint
        return is_wanted or folder_of(self._config, node.uid).is_dir()

    def _add(self, node: NodeFacts) -> NodeAgent:
        agent = self._nodes[node.uid] = NodeAgent(self._shared, node)
        log.info("a node is a host", node=node.name, uid=node.uid)
        if self._group is not None:
            self._group.create_task(self._run_node(agent))
        return agent

    def _reopen(self, reason: str) -> None:
        for agent in self._nodes.values():
            agent.reopen(reason)

    async def _run_node(self, agent: NodeAgent) -> None:
        await agent.run()
        self._nodes.pop(agent.node.uid, None)


def run_clock() -> Callable[[], Now]:
    """
    Return a clock whose times are comparable with those of an agent that ran elsewhere before.

    Deadlines stand in the journal, and the next agent may be on another machine. So within a
    run time passes as it does on this one, suspend included, and runs are joined by wall clock.
    """
    start = clock.read_now()

    def read_now() -> Now:
        now = clock.read_now()
        return Now(boot_ms=start.wall_ms + now.boot_ms - start.boot_ms, wall_ms=now.wall_ms)

    return read_now
