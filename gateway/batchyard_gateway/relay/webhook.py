"""
Webhooks: one POST for each event, signed as Standard Webhooks say.

No redirect is followed, and no address of the machine's own link is called (169.254.0.0/16, fe80::/10: a cloud's
metadata); one of loopback only where the relay is told so. What was looked at is what is connected to.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import ipaddress
import socket
import ssl
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from .bodies import Body
from .receivers import DeliveryError

LIMIT_S = 15.0
"""How long a receiver may take for one event."""
GONE = 410
"""Standard Webhooks: the receiver wants no more."""
_PREFIX = "whsec_"


def sign(secret: str, body_id: str, at_s: int, body: bytes) -> str:
    """Return the value of ``webhook-signature``."""
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    told = f"{body_id}.{at_s}.".encode() + body
    return f"v1,{base64.b64encode(hmac.new(key, told, hashlib.sha256).digest()).decode()}"


class WebhookReceiver:
    """Calls a URL; one connection is kept."""

    def __init__(self, url: str, now_s: Callable[[], float], *, allows_loopback: bool) -> None:
        parts = urlsplit(url)
        self._parts = parts
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._now_s = now_s
        self._allows_loopback = allows_loopback
        self._connection: http.client.HTTPConnection | None = None

    def deliver(self, bodies: Sequence[Body], secret: str) -> None:
        """See ``Receiver``."""
        for place, body in enumerate(bodies):
            try:
                status = self._post(body, secret)
            except (OSError, http.client.HTTPException) as err:
                self.close()
                raise DeliveryError(str(err) or type(err).__name__, place) from err
            if not 200 <= status < 300:
                raise DeliveryError(f"it answered {status}", place, is_gone=status == GONE)

    def _post(self, body: Body, secret: str) -> int:
        data, at_s = body.text().encode(), int(self._now_s())
        headers = {
            "content-type": "application/json",
            "user-agent": "batchyard-relay",
            "webhook-id": body.id,
            "webhook-timestamp": str(at_s),
            "webhook-signature": sign(secret, body.id, at_s, data),
        }
        if self._connection is None:
            self._connection = self._connect()
        self._connection.request("POST", self._target, data, headers)
        answer = self._connection.getresponse()
        answer.read(64 << 10)
        if answer.will_close or not answer.isclosed():
            self.close()
        return answer.status

    def _connect(self) -> http.client.HTTPConnection:
        host, is_tls = self._parts.hostname or "", self._parts.scheme == "https"
        port = self._parts.port or (443 if is_tls else 80)
        made = socket.create_connection((self._address(host, port), port), LIMIT_S)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if is_tls:
            made = ssl.create_default_context().wrap_socket(made, server_hostname=host)
        connection = http.client.HTTPConnection(host, port, timeout=LIMIT_S)
        connection.sock = made
        connection.auto_open = 0  # a second connection would not be looked at
        return connection

    def _address(self, host: str, port: int) -> str:
        """Return the first address of a host that may be called."""
        for *_, where in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            address = ipaddress.ip_address(str(where[0]).partition("%")[0])
            mapped = getattr(address, "ipv4_mapped", None) or address
            is_barred = mapped.is_link_local or mapped.is_multicast or mapped.is_unspecified
            if not is_barred and (self._allows_loopback or not mapped.is_loopback):
                return str(where[0])
        raise OSError(f"{host} is an address that the relay does not call")

    def close(self) -> None:
        """See ``Receiver``."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
