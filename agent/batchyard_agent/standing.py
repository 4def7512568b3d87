"""
Standing: how this agent is known to its controller, for as long as it runs.

On the controller's own machine by who may use its socket; elsewhere by a certificate, which is
asked for once with a token and renewed in time. Law: while a certificate is good, what runs here
does not feel that another one comes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NoReturn

import grpc.aio
import structlog

from batchyard import settings
from batchyard.errors import RequestError, WorldError
from batchyard.ids import HostId
from batchyard_agent.core.attempts import Meta
from batchyard_agent.joining import JoinError, join, join_again, member_channel, renew
from batchyard_agent.membership import Membership, read_membership
from batchyard_agent.session import CHANNEL_OPTIONS

JOIN_PAUSE_S = 2.0
RENEW_PAUSE_S = 60.0
SHORTEST_SLEEP_S = 1.0
LONGEST_SLEEP_S = 600.0
"""So often the clock is looked at, which may be set meanwhile; and so seldom a certificate of any length renewed."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Applicant:
    """
    Who wants to be known to a controller.

    Attributes:
        controller: Its address, or several with commas, of which one leads.
        folder: The agent's own, in which its key and certificate are kept.
        name: What the host, or the agent of many, is to be called.
        join_token_file: What is shown there by who has not joined yet.
        is_insecure: Speak plain text with a port of loopback, for tests.
    """

    controller: str
    folder: Path
    name: str
    join_token_file: Path | None = None
    is_insecure: bool = False

    @property
    def has_to_join(self) -> bool:
        """Whether the controller takes none but members of its yard."""
        return not all(
            address.startswith("unix:") or (self.is_insecure and settings.is_loopback(address))
            for address in self.controllers
        )

    @property
    def controllers(self) -> list[str]:
        """The addresses one by one."""
        return self.controller.split(",")

    async def ask(self, question: Callable[[str], Awaitable[Membership]]) -> Membership:
        """
        Ask one controller after the other, until one answers that leads.

        Raises:
            WorldError: none does.
        """
        for controller in self.controllers[:-1]:
            with contextlib.suppress(WorldError):
                return await question(controller)
        return await question(self.controllers[-1])


class Standing:
    """
    What connects this agent.

    Args:
        who: Whose standing it is.
        member: Its certificate; None on the controller's own machine.
        read_wall_ms: The clock.
        dice: Gives numbers from 0 to 1, to spread hosts that joined together.
    """

    def __init__(
        self, who: Applicant, member: Membership | None, read_wall_ms: Callable[[], int], dice: Callable[[], float]
    ) -> None:
        self._who = who
        self.member = member
        self._read_wall_ms = read_wall_ms
        self._dice = dice

    @property
    def yard(self) -> str:
        """Of which it is a member; empty on the controller's own machine."""
        return self.member.yard if self.member is not None else ""

    def connect(self, controller: str) -> grpc.aio.Channel:
        """Open a channel to one of the controllers."""
        if self.member is None:
            return grpc.aio.insecure_channel(controller, options=CHANNEL_OPTIONS)
        return member_channel(controller, self.member, tuple(CHANNEL_OPTIONS))

    async def run(self, reopen: Callable[[str], None]) -> NoReturn:
        """
        Renew the certificate in time, for ever.

        Args:
            reopen: Ends sessions, which were opened with the former one.
        """
        pause_s = 0.0
        while True:
            await asyncio.sleep(pause_s)
            pause_s = LONGEST_SLEEP_S
            if self.member is None:
                continue
            left_s = self.member.renewal_at_s - self._read_wall_ms() / 1000
            if left_s > 0:
                pause_s = min(pause_s, left_s)
                continue
            pause_s = RENEW_PAUSE_S * (0.5 + self._dice() / 2)
            try:
                self.member = await self._renewed(self.member)
            except (RequestError, WorldError, OSError) as error:
                log.warning("the certificate cannot be renewed; it is tried again", reason=str(error))
            else:
                log.info("certificate renewed")
                pause_s = SHORTEST_SLEEP_S
                reopen("the certificate was renewed")

    async def _renewed(self, member: Membership) -> Membership:
        folder = self._who.folder
        has_expired = member.expires_at_s <= self._read_wall_ms() / 1000
        replace_it = join_again if has_expired else renew
        return await self._who.ask(lambda controller: replace_it(controller, folder, member))


async def enter(
    who: Applicant, former_id: HostId, stop: asyncio.Event, read_wall_ms: Callable[[], int], dice: Callable[[], float]
) -> Standing | None:
    """
    Join, if *who* has to and has not; return None where *stop* was set before.

    Args:
        who: Whose standing it is.
        former_id: Under which id it was known before it had to join.
        stop: Ends the wait for a controller.
        read_wall_ms: See `Standing`.
        dice: See `Standing`.

    Raises:
        JoinError: it has not joined, and cannot.
        BrokenMembershipError: by what it is known cannot be read.
    """
    finding = asyncio.create_task(find_membership(who, former_id))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((finding, stopping), return_when=asyncio.FIRST_COMPLETED)
        return Standing(who, finding.result(), read_wall_ms, dice) if finding.done() else None
    finally:
        finding.cancel()
        stopping.cancel()


async def find_membership(who: Applicant, former_id: HostId) -> Membership | None:
    """
    Return by which certificate this agent is known, once it has one; None where it needs none.

    Raises:
        JoinError: it has none, and cannot have one.
        BrokenMembershipError: what is kept of it cannot be read.
    """
    if not who.has_to_join:
        return None
    kept = read_membership(who.folder)
    if kept is not None and kept.has_joined:
        return kept
    if who.join_token_file is None:
        raise JoinError(
            f"this host has not joined the yard of {who.controller}: `batchyard join-token create` makes a token, "
            "and --join-token-file names the file that it is in"
        )
    told = False
    while True:
        try:
            token = _read_token(who.join_token_file)
            joined = await who.ask(partial(_join, who, token, former_id))
        except RequestError as error:
            raise JoinError(f"the controller does not let this host join: {error}") from error
        except (WorldError, OSError) as error:
            if not told:
                log.warning("cannot join yet; it is tried again", controller=who.controller, reason=str(error))
            told = True
        else:
            log.info("joined", host=joined.host_id, yard=joined.yard)
            return joined
        await asyncio.sleep(JOIN_PAUSE_S)


async def _join(who: Applicant, token: str, former_id: HostId, controller: str) -> Membership:
    return await join(controller, who.folder, token, who.name, former_id)


def next_run(meta: Meta, yard: str) -> Meta:
    """Return what the journal is to remember of a new run: epochs count within one yard alone."""
    return replace(meta, yard=yard, epoch=meta.epoch if yard == meta.yard else 0, run=meta.run + 1)


def _read_token(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise JoinError(f"the join token cannot be read: {error}") from error
