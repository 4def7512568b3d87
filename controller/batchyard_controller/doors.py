"""Doors: what a listener knows of whoever comes by it, before they have said anything."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any


class PeerKind(Enum):
    """What the transport proves of the other end."""

    LOCAL = "local"
    """The kernel lets nobody but the controller's own user, or a group of its choice, connect."""
    PLAIN = "plain"
    """Nothing; the operator has said that whoever reaches the listener counts as local."""
    TLS = "tls"
    """Nobody yet: what a call shows says who makes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """
    The other end of a connection.

    Attributes:
        host_id: Of an agent, out of its certificate.
        address: Where it is; empty for this machine.
    """

    kind: PeerKind
    host_id: str = ""
    address: str = ""


class Door:
    """A listener by which all are of one kind."""

    def __init__(self, kind: PeerKind) -> None:
        self._kind = kind

    def peer(self, context: Any) -> Peer:
        """Return who is at the other end of a call."""
        peer = str(context.peer())
        return Peer(kind=self._kind, address="" if peer.startswith("unix:") else peer)
