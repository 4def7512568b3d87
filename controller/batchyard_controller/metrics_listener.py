"""
Metrics' listener: figures over HTTP, on loopback to everybody there, beyond it over TLS to who has the role.

It knows the registry and who is who, and nothing of what is counted. Law: beyond loopback nobody
is answered without a token of a user with the role ``metrics``, or the administrator's.
"""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from batchyard.errors import BatchyardError, PermissionDeniedError, UnavailableError
from batchyard.settings import is_loopback, split_address

from .authority import Age, Authority, Leaf
from .core.access.directory import Credentials
from .core.access.roles import Kind, Principal, Thing, Verb
from .core.requests.permission import permit

REQUEST_S = 10.0
"""For a whole request, its handshake included."""
_BEARER = "bearer "

Identify = Callable[[Credentials], Principal]
"""Says who comes with these credentials, or raises a RequestError."""


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_S

    def log_message(self, *_: Any) -> None:
        """Say nothing of each scrape."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    context: Callable[[], ssl.SSLContext] | None = None

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shake hands in the thread of the request, so that one who does not holds up nobody."""
        if self.context is None:
            super().finish_request(request, client_address)
            return
        request.settimeout(REQUEST_S)
        with self.context().wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of who hangs up, or speaks no TLS."""


def serve_metrics(
    address: str, registry: CollectorRegistry, authority: Authority | None, identify: Identify
) -> WSGIServer:
    """
    Begin to serve, in threads of their own; ``shutdown`` and ``server_close`` end it.

    Args:
        address: ``host:port``.
        registry: What is served.
        authority: Who issues the certificate that is needed beyond loopback.
        identify: Who somebody is.

    Raises:
        OSError: it cannot be listened on, or there is no CA beyond loopback.
    """
    app = make_wsgi_app(registry)
    context: _Contexts | None = None
    if not is_loopback(address):
        if authority is None:
            raise OSError(f"metrics at {address}, beyond loopback, need the yard's CA: batchyard controller init")
        app, context = _guarded(app, identify), _Contexts(authority)
    host, port = split_address(address)
    server = make_server(host, port, app, _Server, _Handler)
    server.context = context
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server


def _guarded(app: Any, identify: Identify) -> Any:
    def guarded(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        given = str(environ.get("HTTP_AUTHORIZATION", ""))
        bearer = given[len(_BEARER) :] if given[: len(_BEARER)].lower() == _BEARER else ""
        try:
            permit(identify(Credentials(bearer=bearer)), Verb.READ, Thing(Kind.METRICS))
        except BatchyardError as error:
            status = {PermissionDeniedError: "403 Forbidden", UnavailableError: "503 Service Unavailable"}
            headers = [("Content-Type", "text/plain; charset=utf-8"), ("WWW-Authenticate", "Bearer")]
            start_response(status.get(type(error), "401 Unauthorized"), headers)
            return [f"{error}\n".encode()]
        answer: Iterable[bytes] = app(environ, start_response)
        return answer

    return guarded


class _Contexts:
    """TLS as of the CA and the hour; the certificate is issued anew as those of other ports are."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._lock = threading.Lock()
        self._age: Age | None = None
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def __call__(self) -> ssl.SSLContext:
        with self._lock:
            if self._age is None or self._authority.is_stale(self._age):
                self._age = self._authority.age()
                self._context = _context_of(self._authority.issue_controller())
            return self._context


def _context_of(leaf: Leaf) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # Python reads keys from files alone: this one is in memory, and nobody else's.
    descriptor = os.memfd_create("metrics", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, leaf.key + leaf.chain)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
    return context
