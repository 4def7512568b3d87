"""
An OpenID provider of our own: real HTTP, real signatures; a person is who says yes or no.

It follows OpenID Connect Discovery, RFC 8628 (login by device) and RFC 6749 (refreshing), each
as far as a command line needs it.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

CLIENT_ID = "batchyard"
GRANT = "urn:ietf:params:oauth:grant-type:device_code"
Key = RSAKey | ECKey


class Provider:
    """
    What it knows; a test may change it at any time.

    Attributes:
        issuer: Its URL.
        claims: What its tokens say beside what they must.
        life_s: How long they are good.
        is_approved: Whether the person has said yes; None: not yet asked for.
        asked: Paths that were asked, in order.
    """

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
        self.keys: list[Key] = []
        self.claims: dict[str, Any] = {"sub": "ann"}
        self.life_s = 600
        self.is_approved: bool | None = True
        self.is_away = False
        self.asked: list[str] = []
        self._codes: set[str] = set()
        self._refreshing: set[str] = set()
        self.turn_key()

    def turn_key(self, kind: str = "RSA") -> Key:
        """Sign with another key from now on; the former one is no more."""
        parameters: Any = {"kid": secrets.token_hex(4), "use": "sig"}
        made = RSAKey.generate_key(2048, parameters) if kind == "RSA" else ECKey.generate_key("P-256", parameters)
        self.keys = [made]
        return made

    def token(self, *, alg: str = "", key: Any = None, kid: str | None = None, **claims: Any) -> str:
        """Sign a token; a claim that is None is left out."""
        now_s = int(time.time())
        said = {"iss": self.issuer, "aud": CLIENT_ID, "iat": now_s, "exp": now_s + self.life_s}
        said |= {"jti": secrets.token_hex(8), **self.claims, **claims}
        used = self.keys[0] if key is None else key
        alg = alg or ("ES256" if isinstance(used, ECKey) else "RS256")
        header = {"alg": alg, "kid": self.keys[0].kid if kid is None else kid}
        said = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(header, said, used, algorithms=[alg])

    def answer(self, path: str, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """Return the status and the answer of a request."""
        self.asked.append(path)
        if self.is_away:
            return 503, {}
        match path:
            case "/.well-known/openid-configuration":
                names = {"jwks_uri": "/keys", "token_endpoint": "/token", "device_authorization_endpoint": "/device"}
                return 200, {"issuer": self.issuer} | {name: self.issuer + at for name, at in names.items()}
            case "/keys":
                return 200, dict(KeySet(list(self.keys)).as_dict(private=False))
            case "/device" if form.get("client_id") == CLIENT_ID and "openid" in form["scope"].split():
                code = secrets.token_urlsafe(16)
                self._codes.add(code)
                told = {"verification_uri": f"{self.issuer}/enter", "user_code": "WDJB-MJHT"}
                return 200, {"device_code": code, "interval": 0.05, "expires_in": 60, **told}
            case "/token":
                return self._token(form)
        return 400, {"error": "invalid_request"}

    def _token(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        if form.get("client_id") != CLIENT_ID:
            return 401, {"error": "invalid_client"}
        if form.get("grant_type") == GRANT and form.get("device_code") in self._codes:
            if self.is_approved is None:
                return 400, {"error": "authorization_pending"}
            if not self.is_approved:
                return 400, {"error": "access_denied", "error_description": "the person said no"}
            self._codes.remove(form["device_code"])
            return 200, self._tokens()
        if form.get("grant_type") == "refresh_token" and form.get("refresh_token") in self._refreshing:
            self._refreshing.remove(form["refresh_token"])  # good once, as of providers that are careful
            return 200, self._tokens()
        return 400, {"error": "invalid_grant", "error_description": "the session is over"}

    def _tokens(self) -> dict[str, Any]:
        fresh = secrets.token_urlsafe(16)
        self._refreshing.add(fresh)
        return {"id_token": self.token(), "access_token": "of no use here", "refresh_token": fresh}


@contextmanager
def provider() -> Iterator[Provider]:
    """Run one on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer({})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self._answer({name: values[0] for name, values in parse_qs(body).items()})

        def _answer(self, form: dict[str, str]) -> None:
            status, answer = made.answer(self.path, form)
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Provider(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
