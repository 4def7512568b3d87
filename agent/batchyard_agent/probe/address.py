"""
Where other hosts reach this one, as far as the routes of its network tell.

No packet is sent: a datagram socket that is told of its peer knows from which address
it would speak to it.
"""

from __future__ import annotations

import ipaddress
import socket

ELSEWHERE = ("192.0.2.1", 9)
"""An address that nobody has (RFC 5737): the way there is the way out."""
LOOPBACK = "127.0.0.1"


def read_address(controller: str) -> str:
    """
    Return this end of the way to the controller; where that is on this machine, of the way out of it.

    Args:
        controller: ``host:port``, or ``unix:/path``.

    Returns:
        An IPv4 or IPv6 address; that of the loopback where there is no way out.
    """
    host, _, port = controller.rpartition(":")
    peer = ELSEWHERE if controller.startswith("unix:") else (host.strip("[]"), int(port))
    found = _local(*peer)
    if found is None or ipaddress.ip_address(found).is_loopback:
        found = _local(*ELSEWHERE)
    return found or LOOPBACK


def _local(host: str, port: int) -> str | None:
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM):
            with socket.socket(family, kind, protocol) as out:
                out.connect(address)
                return str(out.getsockname()[0])
    except OSError:
        pass
    return None
