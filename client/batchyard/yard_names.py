"""
Names in certificates: what a yard, its controllers and its hosts are called there.

Whoever connects checks these, and never the address that was dialled: a controller is the
one of its yard wherever it listens. URIs have the form of SPIFFE's ids.
"""

from __future__ import annotations

from batchyard.ids import HostId, is_uuid

_SCHEME = "spiffe://"
_HOST = "/host/"


def yard_uri(yard: str) -> str:
    """Return what a CA's certificate calls the yard that it is of."""
    return f"{_SCHEME}{yard}"


def yard_of(uri: str) -> str:
    """Return the id of the yard that a CA is of; empty of a URI that names none."""
    yard = uri.removeprefix(_SCHEME)
    return yard if uri.startswith(_SCHEME) and is_uuid(yard) else ""


def controller_name(yard: str) -> str:
    """Return the DNS name in a controller's certificate. It is checked, and never resolved."""
    return f"{yard}.controller.batchyard"


def host_uri(yard: str, host_id: HostId) -> str:
    """Return what a host's certificate calls it."""
    return f"{yard_uri(yard)}{_HOST}{host_id}"


def host_of(uri: str, yard: str) -> HostId | None:
    """Return the host that a URI names, if it is one of *yard*."""
    host_id = uri.removeprefix(f"{yard_uri(yard)}{_HOST}")
    return HostId(host_id) if host_id != uri and is_uuid(host_id) else None
