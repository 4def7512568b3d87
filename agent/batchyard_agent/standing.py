"""
Standing: how this agent is known to its controller, for as long as it runs.

On the controller's own machine by who may use its socket; elsewhere by a certificate, which is
asked for once with a token and renewed in time. Law: while a certificate is good, what runs here
does not feel that another one comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import grpc.aio
import structlog

from batchyard.errors import RequestError, WorldError
from batchyard.ids import HostId
from batchyard_agent.config import Config
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


class Standing:
    """
    What connects this agent.

    Args:
        member: Its certificate; None on the controller's own machine.
        read_wall_ms: The clock.
        dice: Gives numbers from 0 to 1, to spread hosts that joined together.
    """

    def __init__(
        self, config: Config, member: Membership | None, read_wall_ms: Callable[[], int], dice: Callable[[], float]
    ) -> None:
        self._config = config
        self._member = member
        self._read_wall_ms = read_wall_ms
        self._dice = dice

    def connect(self) -> grpc.aio.Channel:
        """Open a channel to the controller."""
        if self._member is None:
            return grpc.aio.insecure_channel(self._config.controller, options=CHANNEL_OPTIONS)
        return member_channel(self._config.controller, self._member, tuple(CHANNEL_OPTIONS))

    async def run(self, reopen: Callable[[str], None]) -> NoReturn:
        """
        Renew the certificate in time, for ever.

        Args:
            reopen: Ends the session, which was opened with the former one.
        """
        pause_s = 0.0
        while True:
            await asyncio.sleep(pause_s)
            pause_s = LONGEST_SLEEP_S
            if self._member is None:
                continue
            left_s = self._member.renewal_at_s - self._read_wall_ms() / 1000
            if left_s > 0:
                pause_s = min(pause_s, left_s)
                continue
            pause_s = RENEW_PAUSE_S * (0.5 + self._dice() / 2)
            try:
                self._member = await self._renewed(self._member)
            except (RequestError, WorldError, OSError) as error:
                log.warning("the certificate cannot be renewed; it is tried again", reason=str(error))
            else:
                log.info("certificate renewed")
                pause_s = SHORTEST_SLEEP_S
                reopen("the certificate was renewed")

    async def _renewed(self, member: Membership) -> Membership:
        controller, folder = self._config.controller, self._config.state_dir
        if member.expires_at_s <= self._read_wall_ms() / 1000:
            return await join_again(controller, folder, member)
        return await renew(controller, folder, member)


async def find_membership(config: Config, former_id: HostId) -> Membership | None:
    """
    Return by which certificate this agent is known, once it has one; None where it needs none.

    Raises:
        JoinError: it has none, and cannot have one.
        BrokenMembershipError: what is kept of it cannot be read.
    """
    if not config.has_to_join:
        return None
    kept = read_membership(config.state_dir)
    if kept is not None and kept.has_joined:
        return kept
    if config.join_token_file is None:
        raise JoinError(
            f"this host has not joined the yard of {config.controller}: `batchyard join-token create` makes a token, "
            "and --join-token-file names the file that it is in"
        )
    told = False
    while True:
        try:
            token = _read_token(config.join_token_file)
            joined = await join(config.controller, config.state_dir, token, config.name, former_id)
        except RequestError as error:
            raise JoinError(f"the controller does not let this host join: {error}") from error
        except (WorldError, OSError) as error:
            if not told:
                log.warning("cannot join yet; it is tried again", controller=config.controller, reason=str(error))
            told = True
        else:
            log.info("joined", host=joined.host_id, yard=joined.yard)
            return joined
        await asyncio.sleep(JOIN_PAUSE_S)


def next_run(meta: Meta, member: Membership | None) -> Meta:
    """Return what the journal is to remember of a new run: epochs count within one yard alone."""
    yard, host_id = (member.yard, member.host_id) if member is not None else ("", meta.host_id)
    epoch = meta.epoch if yard == meta.yard else 0
    return replace(meta, host_id=host_id, yard=yard, epoch=epoch, run=meta.run + 1)


def _read_token(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise JoinError(f"the join token cannot be read: {error}") from error
