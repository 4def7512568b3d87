"""
The janitor of an etcd: looks at the members, and does what ``etcd_upkeep`` finds to be due.

The controller that leads keeps the cluster in order. One that waits looks on, and does it
only where nobody leads, or the alarm stays on: an election needs a write, which a full
cluster refuses, so somebody has to see to it who does not lead. All of it does no harm twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import urllib.request
from collections.abc import Callable, Sequence
from enum import Enum, auto

import structlog

from batchyard_controller.core.model.room import Room
from batchyard_controller.store import etcd_upkeep
from batchyard_controller.store.etcd_client import EtcdClient, Login, Tls
from batchyard_controller.store.etcd_upkeep import Look, Member, Upkeep, mib
from batchyard_controller.store.etcd_wire.v3 import etcd_pb2 as wire
from batchyard_controller.store.lease import now
from batchyard_controller.store.protocol import StoreError, StoreUnavailableError

QUOTA_BYTES = 2 << 30
"""etcd's own, where a member does not say what it was given."""

STANDING_S = 20.0
"""How long the alarm is on, with somebody who leads, before one that waits sees to it."""

WORK_TIMEOUT_S = 300.0
"""For a compaction or a defragmentation, which take as long as there is to copy."""

PAUSE_S = 0.2
"""Between two steps of a compaction."""

SETTLE_S = 0.3
"""After a compaction, until the members' figures show it; they write ten times a second."""

_QUOTA = re.compile(rb"^etcd_server_quota_backend_bytes (\S+)$", re.MULTILINE)

log = structlog.get_logger()


class Duty(Enum):
    """What a controller has to do with its store."""

    LEADS = auto()
    WAITS = auto()
    NOBODY_LEADS = auto()


class EtcdJanitor:
    """
    Looks after the cluster of *endpoints*.

    Args:
        endpoints: ``host:port`` of each member.
        tls: See ``EtcdClient``.
        login: See ``EtcdClient``; compaction, defragmentation and alarms need the role root.
        avoid: Called with a member's endpoint before it stands still.
    """

    def __init__(
        self, endpoints: Sequence[str], tls: Tls | None, login: Login | None, avoid: Callable[[str], None]
    ) -> None:
        self._clients = {each: EtcdClient([each], tls=tls, login=login) for each in endpoints}
        self._tls = tls
        self._avoid = avoid
        self._upkeep = Upkeep()
        self._quota_bytes = 0
        self._full_since: float | None = None

    async def tend(self, duty: Duty) -> Room:
        """
        Look at the cluster, do what is due, and return what room there is then.

        Raises:
            StoreUnavailableError: no member answers, or what was due failed.
        """
        look = await self._look()
        self._full_since = (self._full_since or look.at_s) if look.full else None
        stands = self._full_since is not None and look.at_s - self._full_since >= STANDING_S
        acts = duty is Duty.LEADS or (bool(look.full) and (duty is Duty.NOBODY_LEADS or stands))
        if acts:
            look = await self._keep(look)
        return Room(
            size_bytes=look.size_bytes,
            used_bytes=look.used_bytes,
            quota_bytes=look.quota_bytes,
            reserve_bytes=int(look.quota_bytes * etcd_upkeep.RESERVE),
            fault=etcd_upkeep.fault_of(look) if acts else "",
        )

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.close()

    async def _keep(self, look: Look) -> Look:
        """Do what is due and return how it looks then."""
        if revision := self._upkeep.compact_to(look):
            if look.full:
                log.warning("the store is full", size=mib(look.size_bytes), quota=mib(look.quota_bytes))
            await self._compact(self._upkeep.steps_to(revision, look))
            look = await self._look()
            self._upkeep.note_compaction(look, revision)
        if members := self._upkeep.worth_defragmenting(look):
            self._upkeep.note_defragmentation(look)
            for member in members:
                await self._defragment(member, look)
            look = await self._look()
        if etcd_upkeep.may_disarm(look):
            await self._disarm(look)
            look = await self._look()
            if not look.full:
                log.warning("the store takes writes again", size=mib(look.size_bytes), quota=mib(look.quota_bytes))
        return look

    async def _look(self) -> Look:
        """Raises StoreUnavailableError where no member answers."""
        found = await asyncio.gather(*map(self._read_member, self._clients))
        members = tuple(member for member in found if member is not None)
        if not members:
            raise StoreUnavailableError("no member of etcd says how it is")
        alarms = await self._read_alarms(members)
        used_bytes = max(member.used_bytes for member in members)
        if alarms or used_bytes >= etcd_upkeep.unreserved(self._quota_bytes):  # then an operator may raise it
            self._quota_bytes = await asyncio.to_thread(_read_quota, members[0].endpoint, self._tls)
        return Look(
            at_s=now(),
            members=members,
            is_whole=len(members) == len(self._clients),
            quota_bytes=self._quota_bytes,
            full=frozenset(alarm.member_id for alarm in alarms if alarm.alarm == wire.ALARM_TYPE_NOSPACE),
            is_corrupt=any(alarm.alarm == wire.ALARM_TYPE_CORRUPT for alarm in alarms),
        )

    async def _read_member(self, endpoint: str) -> Member | None:
        try:
            answer = await self._clients[endpoint].ask("Maintenance/Status", wire.StatusRequest(), wire.StatusResponse)
        except StoreError:
            return None
        return Member(
            endpoint=endpoint,
            id=answer.header.member_id,
            leads=answer.leader == answer.header.member_id,
            revision=answer.header.revision,
            size_bytes=answer.db_size,
            used_bytes=answer.db_size_in_use,
        )

    async def _read_alarms(self, members: Sequence[Member]) -> Sequence[wire.AlarmMember]:
        return (
            await self._clients[members[0].endpoint].ask("Maintenance/Alarm", wire.AlarmRequest(), wire.AlarmResponse)
        ).alarms

    async def _compact(self, revisions: Sequence[int]) -> None:
        """Forget the past in steps, as who writes waits for each; to put out an alarm there are none."""
        client = next(iter(self._clients.values()))
        for revision in revisions:
            request = wire.CompactionRequest(revision=revision, physical=True)
            try:
                await client.ask("KV/Compact", request, wire.CompactionResponse, WORK_TIMEOUT_S)
            except StoreUnavailableError as err:
                if "compacted" not in str(err):  # by somebody else, as far or further
                    raise
            await asyncio.sleep(PAUSE_S)
        await asyncio.sleep(SETTLE_S)

    async def _defragment(self, member: Member, look: Look) -> None:
        """Make a member's file small; one that leads has another lead first, where there is one."""
        if member.leads and not await self._relieve(member, look) and not etcd_upkeep.is_bearable(member, look):
            return
        self._avoid(member.endpoint)
        began_s = now()
        client = self._clients[member.endpoint]
        await client.ask("Maintenance/Defragment", wire.DefragmentRequest(), wire.DefragmentResponse, WORK_TIMEOUT_S)
        log.info("defragmented", member=member.endpoint, was=mib(member.size_bytes), seconds=round(now() - began_s, 3))

    async def _relieve(self, member: Member, look: Look) -> bool:
        """Have another member lead the cluster; say whether one does."""
        others = [other for other in look.members if other.id != member.id]
        if not others:
            return False
        request = wire.MoveLeaderRequest(target_id=others[0].id)
        with contextlib.suppress(StoreError):
            await self._clients[member.endpoint].ask("Maintenance/MoveLeader", request, wire.MoveLeaderResponse, 5.0)
            return True
        return False

    async def _disarm(self, look: Look) -> None:
        for member_id in look.full:
            request = wire.AlarmRequest(
                action=wire.ALARM_ACTION_DEACTIVATE, member_id=member_id, alarm=wire.ALARM_TYPE_NOSPACE
            )
            await self._clients[look.members[0].endpoint].ask("Maintenance/Alarm", request, wire.AlarmResponse)


def _read_quota(endpoint: str, tls: Tls | None) -> int:
    """Ask a member for the size that its file may reach; before 3.6 its metrics alone tell."""
    context = None
    if tls is not None:
        context = ssl.create_default_context(cafile=str(tls.ca) if tls.ca else None)
        if tls.cert is not None:
            context.load_cert_chain(tls.cert, tls.key)
    url = f"{'https' if tls else 'http'}://{endpoint}/metrics"
    with contextlib.suppress(OSError, ValueError):
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), *([urllib.request.HTTPSHandler(context=context)] if context else [])
        )
        with opener.open(url, timeout=5.0) as answer:
            found = _QUOTA.search(answer.read())
        if found is not None:
            return int(float(found[1])) or QUOTA_BYTES
    return QUOTA_BYTES
