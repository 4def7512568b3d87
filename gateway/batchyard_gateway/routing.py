"""
Routing: which service a request is for.

Decided by its head alone: the service in the signature's scope, else the target header.
It must never look at services' rules. A form that names none is for the first service that
reads forms, all else for the first service, which speaks REST.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from .errors import ApiError
from .services import Service
from .wire import Request

_SCOPE = re.compile(
    r"Credential=[^,\s/]+/[0-9]{8}/(?P<region>[a-z0-9-]{1,64})/(?P<service>[a-z0-9-]{1,64})/aws4_request", re.ASCII
)


def find_service(services: Sequence[Service], request: Request) -> Service:
    """
    Return the service that a request is for.

    Raises:
        ApiError: it is for one that is not here.
    """
    scope = _SCOPE.search(request.header("authorization"))
    if scope is not None:
        for service in services:
            if service.name == scope["service"]:
                return service
        raise ApiError("UnrecognizedClientException", f"There is no service {scope['service']} here.", 403)
    target = request.header("x-amz-target").rpartition(".")[0]
    for service in services:
        if target and service.target_prefix == target:
            return service
    kind = request.header("content-type").partition(";")[0].strip().lower()
    if request.path in (b"", b"/"):
        return next((service for service in services if kind in service.protocol.content_types), services[0])
    return services[0]


def region_of(request: Request, default: str) -> str:
    """Return the region that a request is signed for, proved or not; *default* when it names none."""
    scope = _SCOPE.search(request.header("authorization"))
    return default if scope is None else scope["region"]
