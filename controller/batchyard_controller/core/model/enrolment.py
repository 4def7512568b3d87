"""Enrolment: tokens with which hosts join a yard, and the hosts that have joined."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from batchyard.ids import HostId

ANY_REST = "*"
"""At the end of a token's host name: whatever follows."""


def admits_name(pattern: str, name: str) -> bool:
    """Say whether a token for hosts that are called so is for one of this name."""
    if pattern.endswith(ANY_REST):
        return name.startswith(pattern.removesuffix(ANY_REST))
    return not pattern or name == pattern


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinToken:
    """
    With which hosts may join; what is secret of it is stored as a hash alone.

    Attributes:
        secret_hash: SHA-256, in hexadecimal digits.
        expires_at_ms: By the controller's wall clock.
        uses: How many hosts may still join with it.
        host_name: What they must be called; with `ANY_REST` at its end what that begins with; empty: anything.
        networks: From where, in CIDR notation; empty: anywhere.
        speaks_for: For hosts that are called so, in the form of *host_name*, who joins speaks as well; empty: for none.
    """

    id: str
    secret_hash: str
    expires_at_ms: int
    uses: int = 1
    host_name: str = ""
    networks: tuple[str, ...] = ()
    speaks_for: str = ""
    created_at_ms: int = 0

    def admits_address(self, address: str) -> bool:
        """Say whether a host may join from this address."""
        if not self.networks:
            return True
        try:
            given = ipaddress.ip_address(address)
        except ValueError:
            return False
        mapped = getattr(given, "ipv4_mapped", None)
        return any((mapped or given) in ipaddress.ip_network(network) for network in self.networks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """
    A host that has joined: only who has its key speaks for it.

    Attributes:
        name: What it called itself when it joined.
        host_name: What it must be called, as `JoinToken.host_name` of its token.
        key_hash: SHA-256 of its public key, in hexadecimal digits.
        speaks_for: As `JoinToken.speaks_for` of its token: it is the agent of many hosts, as of a cluster's nodes.
        token_id: With which it joined.
        run: The highest number of a run of its agent that was heard of.
        nonce: Of that run; another one of the same number is a copy.
    """

    host_id: HostId
    name: str
    key_hash: str
    host_name: str = ""
    speaks_for: str = ""
    token_id: str = ""
    joined_at_ms: int = 0
    run: int = 0
    nonce: str = ""
