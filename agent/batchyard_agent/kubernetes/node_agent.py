"""
The agent of one node: its journal, its table, its runtime, its session.

A host like any other, but that it is looked at from afar. Laws: its session lasts while the
cluster hears from the node; of a node that is gone it lasts until all ends are acknowledged;
and what still ran there is lost only when the cluster says that the node is no more, or its
operator that one which is not ready is surely down.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

import structlog

from batchyard.ids import AttemptId
from batchyard.runtimes import KUBERNETES
from batchyard_agent.books import Books
from batchyard_agent.core.attempts import Table
from batchyard_agent.core.events import HostChanged, Now, Recovered, RuntimeOpened
from batchyard_agent.driver import Driver
from batchyard_agent.journal import Journal
from batchyard_agent.kubernetes.cluster import Cluster
from batchyard_agent.kubernetes.config import KubernetesConfig
from batchyard_agent.kubernetes.convert import spec_from
from batchyard_agent.kubernetes.facts import NodeFacts
from batchyard_agent.kubernetes.mirror import Mirror
from batchyard_agent.kubernetes.node_host import NodeHost, gpu_uuids, host_id_of
from batchyard_agent.kubernetes.pod_body import Place
from batchyard_agent.kubernetes.runtime import PodRuntime
from batchyard_agent.session import Identity, Sessions
from batchyard_agent.standing import Standing, next_run

GONE_AFTER_S = 60.0
"""A node that was taken out of the cluster may live, and its kubelet then ends what it ran and tells so: it gets this
time. (Kubernetes' own collector of pods waits for 40 s.)"""
LOOK_EVERY_S = 1.0
NODE_FILE = "node.json"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """
    What the nodes of one agent share.

    Attributes:
        dice: From 0 to 1.
        nonce: Of this run.
    """

    config: KubernetesConfig
    cluster: Cluster
    mirror: Mirror
    read_now: Callable[[], Now]
    dice: Callable[[], float]
    nonce: str
    standing: Standing


def folder_of(config: KubernetesConfig, node_uid: str) -> Path:
    """Return where what is known of a node's attempts is kept."""
    return config.state_dir / "nodes" / node_uid


def read_node(folder: Path) -> NodeFacts | None:
    """Return the node whose folder it is, as far as that is written there."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        said = json.loads((folder / NODE_FILE).read_text())
        return NodeFacts(name=said["name"], uid=said["uid"], labels={})
    return None


class NodeAgent:
    """
    One node's.

    Args:
        shared: What all nodes' have.
        node: What is said of the node.

    Raises:
        StateDirectoryError: its folder cannot be used.
    """

    def __init__(self, shared: Shared, node: NodeFacts) -> None:
        config, self._shared = shared.config, shared
        self._folder = folder_of(config, node.uid)
        host_id = host_id_of(node.uid, config.limits.namespace)
        # Jobs write to their nodes' disks and not to this one.
        journal = Journal.open(self._folder, host_id, sets_room_aside=False)
        (self._folder / NODE_FILE).write_text(json.dumps({"name": node.name, "uid": node.uid}))
        self._decode = partial(spec_from, limits=config.limits)
        self._books = Books(
            journal,
            self._folder / "logs",
            decode=self._decode,
            launch_limits={},
            read_now=shared.read_now,
            log_bytes_max=config.log_bytes_max,
            logs_age_max_s=config.logs_age_max_s,
            logs_total_bytes_max=config.logs_total_bytes_max,
        )
        self._driver = Driver(table=self._books.table, journal=journal, read_now=shared.read_now, look=self._look)
        self._host = NodeHost(config, shared.mirror, node, shared.read_now)
        self._runtime = PodRuntime(
            cluster=shared.cluster,
            mirror=shared.mirror,
            place=Place(namespace=config.limits.namespace, host_id=host_id, node=node.name, node_uid=node.uid),
            limits=config.limits,
            now_ms=self._now_ms,
            on_stray=self._take_stray,
        )
        self._silent_since_ms: int | None = None if node.is_ready else self._now_ms()
        self._sessions: Sessions | None = None
        self._is_gone = False
        self._is_given_up = False
        self._is_heard = asyncio.Event()
        self._is_empty = asyncio.Event()

    @property
    def node(self) -> NodeFacts:
        """What was said of the node last."""
        return self._host.node

    def take(self, node: NodeFacts) -> None:
        """Take what is said of the node now."""
        had = gpu_uuids(self.node)
        self._host.take(node)
        self._is_gone = False
        if node.is_ready:
            self._silent_since_ms = None
        elif self._silent_since_ms is None:
            self._silent_since_ms = self._now_ms()
        if gpu_uuids(node) != had:
            self._tell_host()

    def take_gone(self) -> None:
        """Take that the node is no part of the cluster any more."""
        if self._is_gone:
            return
        log.info("the node is gone", node=self.node.name, attempts=len(self._books.table.attempts))
        self._host.take_gone()
        self._is_gone = True
        self._silent_since_ms = self._now_ms()

    def reopen(self, reason: str) -> None:
        """End the session that there is, if any; another one follows."""
        if self._sessions is not None:
            self._sessions.reopen(reason)

    async def run(self) -> None:
        """Be the node's agent until it is gone, and all that it ran is settled."""
        runtime, driver, table = self._runtime, self._driver, self._books.table
        table.meta = next_run(table.meta, self._shared.standing.yard)
        await self._books.journal.commit((), meta=table.meta)
        await runtime.open(driver.observe)
        driver.runtimes[KUBERNETES] = runtime
        held = tuple((KUBERNETES, AttemptId(attempt_id)) for attempt_id in await runtime.launched())
        self._tell_host()
        # Pods outlive a reboot of their node, and say themselves what became of them.
        driver.observe(Recovered(boot_id=self.node.uid, held=held))
        is_settled = False
        try:
            async with asyncio.TaskGroup() as group:
                parts = (
                    driver.run(),
                    self._books.run_syncs(),
                    self._books.run_sweeps(),
                    self._run_looks(),
                    self._run_sessions(),
                )
                tasks = [group.create_task(part) for part in parts]
                await self._is_empty.wait()
                is_settled = True
                for task in tasks:
                    task.cancel()
        finally:
            await runtime.close()
            self._books.journal.close()
        if is_settled:
            log.info("a node that is gone is settled", node=self.node.name)
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    def _now_ms(self) -> int:
        return self._shared.read_now().boot_ms

    def _tell_host(self) -> None:
        uuids = frozenset(gpu_uuids(self.node))
        self._driver.observe(HostChanged(runtimes=frozenset({KUBERNETES}), gpu_uuids=uuids))

    def _take_stray(self, attempt_id: str) -> None:
        """Have a pod judged that nobody answers for, such as one that was made by an agent that died over it."""
        self._driver.observe(RuntimeOpened(held=((KUBERNETES, AttemptId(attempt_id)),)))

    def _look(self, table: Table) -> None:
        if self._is_gone and not table.attempts and not table.discarding and not table.unremoved:
            self._is_empty.set()

    async def _run_looks(self) -> NoReturn:
        """Say when the session may last, and when what ran on the node is lost."""
        while True:
            silent_s = 0.0 if self._silent_since_ms is None else (self._now_ms() - self._silent_since_ms) / 1000
            is_given_up = self._is_lost(silent_s)
            if self._is_gone or self._silent_since_ms is None or is_given_up:
                self._is_heard.set()  # what is lost has to be told, too
            else:
                self._is_heard.clear()
            if is_given_up != self._is_given_up:
                self._is_given_up = is_given_up
                self._runtime.set_node_gone(is_given_up)
                if is_given_up:
                    log.warning("what ran on the node is lost", node=self.node.name, silent_s=round(silent_s))
            await asyncio.sleep(LOOK_EVERY_S)

    def _is_lost(self, silent_s: float) -> bool:
        if self._is_gone:
            return silent_s >= GONE_AFTER_S
        if self._silent_since_ms is None:
            return False
        lost_after_s = self._shared.config.lost_after_s
        return self.node.is_out_of_service or bool(lost_after_s and silent_s >= lost_after_s)

    async def _run_sessions(self) -> NoReturn:
        """Stay in touch with the controller while the cluster hears from the node."""
        shared = self._shared
        while True:
            await self._is_heard.wait()
            sessions = Sessions(
                target=shared.config.controller,
                connect=shared.standing.connect,
                driver=self._driver,
                logs=self._books.logs,
                host=self._host,
                read_now=shared.read_now,
                dice=shared.dice,
                identity=Identity(nonce=shared.nonce, run=self._books.table.meta.run),
                decode=self._decode,
            )
            self._sessions = sessions
            session = asyncio.get_running_loop().create_task(sessions.run())
            try:
                while self._is_heard.is_set() and not session.done():
                    await asyncio.wait([session], timeout=LOOK_EVERY_S)
                if session.done():
                    session.result()
                log.warning("the node is not ready; its session ends, its pods go on", node=self.node.name)
            finally:
                session.cancel()
                await asyncio.wait([session])
