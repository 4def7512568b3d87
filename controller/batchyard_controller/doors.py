"""
Doors: the listeners of a controller, and what each knows of who comes in.

It knows connections, and nobody's rights: a peer is what the kernel or TLS has proved. Nothing
of it is taken from a message.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import unquote

import grpc
from cryptography import x509

from batchyard.errors import Reason, UnauthenticatedError
from batchyard.ids import HostId
from batchyard.yard_names import host_of

from .authority import Authority
from .clock import read_wall_s


class PeerKind(Enum):
    """How somebody came in."""

    LOCAL = "local"
    """By a unix socket, which the kernel opens to a user, or a group."""
    TLS = "tls"
    """By users' port: encrypted, and nobody yet; a token says who it is."""
    HOST = "host"
    """By agents' port, with the key of a host that has joined."""
    PLAIN = "plain"
    """By a port of loopback without TLS, which is for tests."""


_NONE = HostId("")


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """
    Who is at the other end of a call.

    Attributes:
        uid: LOCAL: the one user who can connect there; None where a group can.
        group: LOCAL: that group.
        host_id: HOST: of its certificate.
        left_s: HOST: how long its certificate is still good.
        address: From where, without a port; empty: from this machine.
    """

    kind: PeerKind
    uid: int | None = None
    group: str = ""
    host_id: HostId = _NONE
    left_s: float = 0.0
    address: str = ""

    @property
    def proven(self) -> HostId | None:
        """HOST: whose key it has; None of others."""
        return self.host_id if self.kind is PeerKind.HOST else None


class Door:
    """
    One listener.

    Args:
        kind: Of all that come in there.
        uid, group: See `Peer`.
        yard: HOST: of whose hosts.
        read_wall_s: HOST: the clock.
    """

    def __init__(
        self,
        kind: PeerKind,
        *,
        uid: int | None = None,
        group: str = "",
        yard: str = "",
        read_wall_s: Callable[[], float] = read_wall_s,
    ) -> None:
        self.kind = kind
        self._read_wall_s = read_wall_s
        self._peer = Peer(kind=kind, uid=uid, group=group)
        self._yard = yard

    def peer(self, context: grpc.aio.ServicerContext[Any, Any]) -> Peer:
        """
        Return who has made a call.

        Raises:
            UnauthenticatedError: a certificate of the yard's own names no host.
        """
        match self.kind:
            case PeerKind.HOST:
                host_id = _host_of(context, self._yard)
                left_s = _end_of(context) - self._read_wall_s()
                return Peer(kind=self.kind, host_id=host_id, left_s=left_s, address=address_of(context.peer()))
            case PeerKind.TLS:
                return Peer(kind=self.kind, address=address_of(context.peer()))
            case _:
                return self._peer


def _host_of(context: grpc.aio.ServicerContext[Any, Any], yard: str) -> HostId:
    names = context.auth_context().get("x509_subject_alternative_name", ())
    hosts = [host_id for name in names if (host_id := host_of(bytes(name).decode("ascii", "replace"), yard))]
    if len(hosts) != 1:
        raise UnauthenticatedError("the certificate names no host of this yard", reason=Reason.BAD_CREDENTIALS)
    return hosts[0]


def _end_of(context: grpc.aio.ServicerContext[Any, Any]) -> float:
    (pem,) = context.auth_context()["x509_pem_cert"]
    return x509.load_pem_x509_certificate(bytes(pem)).not_valid_after_utc.timestamp()


def address_of(peer: str) -> str:
    """Return the address in gRPC's word for who has connected: ``ipv4:10.0.0.7:1234``, ``ipv6:%5Bfd00::1%5D:1234``."""
    family, _, rest = unquote(peer).partition(":")
    return rest.rpartition(":")[0].strip("[]") if family in ("ipv4", "ipv6") else ""


def listen_with_tls(server: grpc.aio.Server, address: str, authority: Authority, *, hosts_alone: bool) -> None:
    """
    Let *server* listen at ``host:port``, with a certificate of the yard's CA.

    It is issued anew when half its time is over, or the CA was replaced; who is connected stays.

    Args:
        server: Not yet started.
        address: ``host:port``.
        authority: Who issues it.
        hosts_alone: Let nobody connect but who has a certificate of the yard's CA.

    Raises:
        OSError: it cannot be listened on.
    """

    def configuration() -> grpc.ServerCertificateConfiguration:
        leaf = authority.issue_controller()
        trusted = authority.bundle.encode() if hosts_alone else None
        return grpc.ssl_server_certificate_configuration([(leaf.key, leaf.chain)], root_certificates=trusted)

    told = authority.age()

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal told
        if not authority.is_stale(told):
            return None
        told = authority.age()
        return configuration()

    # The types forget that None stands for what was told before.
    credentials = grpc.dynamic_ssl_server_credentials(configuration(), renewed, hosts_alone)  # type: ignore[arg-type]
    add_port(server, address, credentials)


def add_port(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None) -> None:
    """
    Let *server* listen at ``host:port``; without credentials as plain text.

    Raises:
        OSError: it cannot be listened on.
    """
    try:
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
    except RuntimeError as err:
        raise OSError(f"cannot listen on {address}: {err}") from err
    if port == 0:
        raise OSError(f"cannot listen on {address}")
