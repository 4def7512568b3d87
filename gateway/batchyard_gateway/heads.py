"""
Heads: which requests are turned away by their head alone, before anything else of them is read.

A browser sends what any page tells it to, and a name of a stranger may be made to lead
here. So a request must name a host that is ours (`Host`), come from no other site
(`Origin`, `Sec-Fetch-Site`), and say of what type its body is; a page of another origin
can do the last for JSON only after asking, and nothing here answers such a question.
It must never know bodies, signatures or a server. Law: what says nothing of these, as AWS's
SDKs do, passes; what says more than one thing does not.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Sequence

from .errors import ApiError
from .services import Service
from .wire import Request

OWN_SITES = ("same-origin", "none")
"""What browsers say of a request by a page of ours, and of one by a person who typed the address."""

_WITH_BODY = ("POST", "PUT", "PATCH")


def check_host(request: Request, *, own_address: str, own_names: Collection[str]) -> str:
    """
    Check that a request is for this gateway, and return the host that it names.

    Args:
        request: As it came; its body does not matter.
        own_address: The IP address at which the request arrived.
        own_names: Further names of the gateway, in lower case.

    Raises:
        ApiError: 403; it is for another host.
    """
    host = _only(request, "host")
    if not _is_own(_name_of(host), own_address, own_names):
        raise _refused(f"The host {host[:80]!r} is not this gateway's; --host-name adds a name.")
    return host


def check_sender(request: Request, *, scheme: str, own_address: str, own_names: Collection[str]) -> None:
    """
    Check that no page of another site sent a request; beside ``check_host``'s.

    Args:
        request: As it came; its body does not matter.
        scheme: ``http`` or ``https``.
        own_address: The IP address at which the request arrived.
        own_names: Further names of the gateway, in lower case.

    Raises:
        ApiError: 403; another site sent it, or it is for another host.
    """
    host = check_host(request, own_address=own_address, own_names=own_names)
    origin = _only(request, "origin")
    if origin and origin.lower() != f"{scheme}://{host.lower()}":
        raise _refused(f"Requests of pages of another origin ({origin[:80]!r}) are not taken.")
    site = _only(request, "sec-fetch-site")
    if site and site.lower() not in OWN_SITES:
        raise _refused(f"Requests of pages of another site ({site[:80]!r}) are not taken.")


def check_type(service: Service, request: Request) -> None:
    """
    Check that the body, if there can be one, is of a type that the service reads.

    Raises:
        ApiError: 415.
    """
    length, coding = _lines(request, "content-length"), _lines(request, "transfer-encoding")
    if request.method not in _WITH_BODY and not coding and set(length) <= {"0"}:
        return
    given = _only(request, "content-type")
    if given.partition(";")[0].strip().lower() not in service.protocol.content_types:
        shown = repr(given[:80].encode("ascii", errors="replace").decode()) if given else "''"
        raise ApiError("UnsupportedMediaTypeException", f"The content type {shown} is not taken.", 415)


def _is_own(name: str, own_address: str, own_names: Collection[str]) -> bool:
    if name == "localhost" or name in own_names:
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    own = ipaddress.ip_address(own_address)
    # Loopback too, for tunnels and ports of containers: no stranger's page can be at such an address.
    return address.is_loopback or address in (own, getattr(own, "ipv4_mapped", None))


def _name_of(host: str) -> str:
    """Return the name in ``name``, ``name:port`` or ``[address]:port``, in lower case and without its last dot."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower().removesuffix(".")


def _only(request: Request, name: str) -> str:
    lines = _lines(request, name)
    if len(set(lines)) > 1:
        raise _refused(f"There is more than one header {name}.")
    return lines[0] if lines else ""


def _lines(request: Request, name: str) -> Sequence[str]:
    return [value.decode("latin-1").strip() for key, value in request.headers if key == name.encode("ascii")]


def _refused(message: str) -> ApiError:
    return ApiError("AccessDeniedException", message, 403)
