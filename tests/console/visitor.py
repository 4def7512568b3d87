"""A browser without a browser: plain HTTP with a cookie, for what needs no scripts."""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode

from tests.gateway.endpoint import Endpoint

from batchyard import signing
from batchyard_gateway.console.visit import ROOT

FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it came; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    text: str


@dataclass(slots=True)
class Visitor:
    """Who looks at the console of one gateway."""

    endpoint: Endpoint
    key_id: str = ""
    secret: str = ""
    cookie: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def send(self, method: str, path: str, form: Mapping[str, Any] | None = None, **headers: str) -> Reply:
        """Send one request; names of headers may have ``_`` for ``-``."""
        connection = http.client.HTTPConnection("127.0.0.1", self.endpoint.port, timeout=30)
        body = None if form is None else urlencode(form, doseq=True)
        sent = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if self.cookie:
            sent["Cookie"] = self.cookie
        if body is not None:
            sent.setdefault("Content-Type", FORM)
        try:
            connection.request(method, path if path.startswith("/") else f"{ROOT}/{path}", body, sent)
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            for value in answer.msg.get_all("set-cookie") or ():
                if value.startswith(("batchyard-", "__Secure-")) and "clock" not in value:
                    self.cookie = value.partition(";")[0]
            return Reply(answer.status, told, answer.read().decode())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Reply:
        """Look at a page below the console."""
        return self.send("GET", path, None, **headers)

    def post(self, path: str, form: Mapping[str, Any] | None = None, **headers: str) -> Reply:
        """Send a form with the session's token."""
        return self.send("POST", path, {"csrf": self.csrf(), **(form or {})}, **headers)

    def filled(self, page: str, action: str) -> dict[str, list[str]]:
        """Return what a browser would send of a form as it stands on a page, without a button."""
        form = _Form(action)
        form.feed(page)
        return form.given

    def csrf(self) -> str:
        """Return the session's token, as every page has it."""
        found = re.search(r'name="csrf" value="([^"]+)"', self.get("about").text)
        assert found is not None
        return found[1]

    def sign_in(self, owner: str = "") -> Visitor:
        """Make an access key of a user's, or the administrator's, and sign in with it."""
        made = self.endpoint.run(self.endpoint.client.create_access_key(owner=owner))
        self.key_id, self.secret = made.access_key.id, made.secret
        reply = self.send("POST", "sign-in", {"key": self.key_id, "secret": self.secret})
        assert reply.status == 303, reply.text
        return self

    def link(self, made_ms: int | None = None) -> str:
        """Return a link that signs in with the visitor's key."""
        return console_link("", self.key_id, self.secret, int(time.time() * 1000) if made_ms is None else made_ms)


def console_link(origin: str, key_id: str, secret: str, made_ms: int, region: str = "us-east-1") -> str:
    """Return a link as ``batchyard console`` makes them."""
    day = time.strftime("%Y%m%d", time.gmtime(made_ms / 1000))
    key = signing.derive_signing_key(secret, day, region, signing.CONSOLE)
    query = {"key": key_id, "made": made_ms, "signature": signing.sign_link(key, key_id, made_ms)}
    return f"{origin}{ROOT}/sign-in?{urlencode(query)}"


class _Form(HTMLParser):
    """Reads the fields of the form of a page that sends to some address."""

    def __init__(self, action: str) -> None:
        super().__init__()
        self.given: dict[str, list[str]] = {}
        self._action, self._is_in, self._text, self._select, self._is_chosen = action, False, "", "", False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        of = dict(attrs)
        name, value = of.get("name") or "", of.get("value") or ""
        match tag:
            case "form":
                self._is_in = of.get("action") == self._action
            case "input" if self._is_in and name and (of.get("type") not in ("radio", "checkbox") or "checked" in of):
                self._give(name, value)
            case "textarea":
                self._text = name
                if self._is_in:
                    self._give(name, "")
            case "select":
                self._select = name
            case "option" if self._is_in and self._select:
                if "selected" in of or not self._is_chosen:  # the first, until one says that it is selected
                    self.given[self._select][-1] = value
                    self._is_chosen = True
        if tag == "select" and self._is_in:
            self._give(name, "")
            self._is_chosen = False

    def handle_data(self, data: str) -> None:
        if self._text and self._is_in:
            self.given[self._text][-1] += data

    def handle_endtag(self, tag: str) -> None:
        match tag:
            case "form":
                self._is_in = False
            case "textarea":
                if self._text and self._is_in:  # the line's end after the tag is none of the text
                    self.given[self._text][-1] = self.given[self._text][-1].removeprefix("\n")
                self._text = ""
            case "select":
                self._select = ""

    def _give(self, name: str, value: str) -> None:
        self.given.setdefault(name, []).append(value)
