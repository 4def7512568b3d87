"""
Whose a namespace is: one agent's, which says so in a lease there.

An agent kills what it finds of its hosts and has no record of; two that know nothing of each
other would kill each other's pods. So each namespace holds a lease with the id of the state
folder of its agent. Laws: nothing is looked for, and nothing killed, before all leases are
held; a lease is taken from another only when it was not renewed for its whole length as
counted here, whatever the two clocks say; and an agent whose lease was taken ends.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import structlog
from lightkube.models.coordination_v1 import LeaseSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.coordination_v1 import Lease

from batchyard.state_folder import make_private_folder
from batchyard_agent.core.events import Now
from batchyard_agent.kubernetes.cluster import (
    Cluster,
    ClusterError,
    MissingError,
    NoClusterError,
    TakenError,
    UnansweredError,
)

LEASE = "batchyard-agent"
LEASE_S = 30
RENEW_S = 10.0
LOOK_S = 2.0
PATIENCE_S = 3 * LEASE_S
"""After so long another agent surely lives."""

log = structlog.get_logger()


class TakenAwayError(Exception):
    """Another agent has taken a namespace; the text says which."""


def read_id(state_dir: Path) -> str:
    """
    Return the id of a state folder, which is made with it.

    Raises:
        OSError: it can be neither read nor written.
    """
    make_private_folder(state_dir)
    path = state_dir / "agent-id"
    if not path.exists():
        path.write_text(f"{uuid.uuid4()}\n")  # noqa: TID251  # made once for a folder
    return path.read_text().strip()


class Tenancy:
    """
    The leases of one agent.

    Args:
        cluster: The API server.
        namespaces: All that are to be its own.
        holder: Its id.
        read_now: The clock.
    """

    def __init__(self, cluster: Cluster, namespaces: Sequence[str], holder: str, read_now: Callable[[], Now]) -> None:
        self._cluster = cluster
        self._namespaces = namespaces
        self._holder = holder
        self._read_now = read_now

    async def take(self) -> None:
        """
        Take all namespaces; wait for one whose agent is silent.

        Raises:
            NoClusterError: one belongs to another agent, which lives, or may not be taken.
        """
        for namespace in self._namespaces:
            await self._take(namespace)

    async def keep(self) -> NoReturn:
        """
        Renew them for ever.

        Raises:
            TakenAwayError: another agent has taken one.
        """
        while True:
            await asyncio.sleep(RENEW_S)
            for namespace in self._namespaces:
                try:
                    lease = await self._cluster.read_lease(namespace, LEASE)
                    if lease is None:
                        await self._cluster.write_lease(self._lease(namespace, None))
                        continue
                    if _holder(lease) != self._holder:
                        raise TakenAwayError(f"the namespace {namespace} was taken by another agent, {_holder(lease)}")
                    await self._cluster.write_lease(self._lease(namespace, lease))
                except ClusterError as error:
                    log.warning("a lease could not be renewed", namespace=namespace, reason=str(error))

    async def _take(self, namespace: str) -> None:
        began_ms, seen, seen_ms = self._now_ms(), "", 0
        while True:
            try:
                lease = await self._cluster.read_lease(namespace, LEASE)
                said = "" if lease is None else f"{_holder(lease)} {_version(lease)}"
                if said != seen:
                    seen, seen_ms = said, self._now_ms()
                is_silent = self._now_ms() - seen_ms >= 1000 * LEASE_S
                if lease is None or _holder(lease) in ("", self._holder) or is_silent:
                    await self._cluster.write_lease(self._lease(namespace, lease))
                    return
            except (UnansweredError, TakenError) as error:
                log.warning("a lease could not be taken; it is tried again", namespace=namespace, reason=str(error))
            except MissingError as error:
                raise NoClusterError(
                    f"there is no namespace {namespace}: kubectl create namespace {namespace}"
                ) from error
            except ClusterError as error:
                raise NoClusterError(str(error)) from error
            else:
                if self._now_ms() - began_ms >= 1000 * PATIENCE_S:
                    raise NoClusterError(
                        f"the namespace {namespace} belongs to another agent, {_holder(lease)}, which lives; "
                        "give this one a namespace of its own"
                    )
                log.info("the namespace is another agent's; waiting whether it lives", namespace=namespace)
            await asyncio.sleep(LOOK_S)

    def _lease(self, namespace: str, former: Lease | None) -> Lease:
        """Return the lease as held by this agent, from now on."""
        meta = former.metadata if former is not None else ObjectMeta(name=LEASE, namespace=namespace)
        now = datetime.fromtimestamp(self._read_now().wall_ms / 1000, UTC)
        # The server takes no such time without a fraction, and at a full second lightkube writes none.
        now = now.replace(microsecond=now.microsecond or 1)
        return Lease(
            metadata=meta, spec=LeaseSpec(holderIdentity=self._holder, leaseDurationSeconds=LEASE_S, renewTime=now)
        )

    def _now_ms(self) -> int:
        return self._read_now().boot_ms


def _holder(lease: Lease) -> str:
    return (lease.spec.holderIdentity if lease.spec is not None else "") or ""


def _version(lease: Lease) -> str:
    return (lease.metadata.resourceVersion if lease.metadata is not None else "") or ""
