"""Visitors: a gateway with its console, and who looks at it: over plain HTTP, as an open page does, and by Chromium."""

from __future__ import annotations

import gzip
import html
import http.client
import json
import re
import shutil
import socket
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode

from bench.yard import Program, Yard
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from playwright.async_api import Browser, async_playwright
from tests.ports import hold_address

from batchyard import AsyncClient

REGION = "us-east-1"
CONSOLE = "/console"
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--enable-precise-memory-info",
)  # fmt: skip

_PART = re.compile(r'data-live="(\w+)"([^>]*?) hx-get="([^"]+)"')
_ROW = re.compile(r'id="row-([^"]+)"')
_SINCE = re.compile(r'data-since="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Page:
    """An answer: what came over the wire, and what it is."""

    status: int
    wire_bytes: int
    text: str
    tag: str


@dataclass(slots=True)
class Gateway:
    """One process of it."""

    address: str
    program: Program
    credentials: Credentials
    started_s: float = 0.0

    @property
    def origin(self) -> str:
        """Where it is."""
        return f"http://{self.address}"


async def start_gateway(yard: Yard, *flags: str, name: str = "gateway") -> Gateway:
    """Start a gateway and wait for its first answer; it is stopped with the yard."""
    async with AsyncClient(yard.socket) as owner:
        made = await owner.create_access_key()
    address = hold_address()
    arguments = ("batchyard_gateway", "--listen", address, "--controller", yard.socket, "--log-level", "error", *flags)
    began = time.perf_counter()
    program = Program(name, yard.folder, *arguments)
    yard.programs.append(program)
    gateway = Gateway(address, program, Credentials(made.access_key.id, made.secret))
    while not _answers(address):
        program.check()
        time.sleep(0.005)  # the yard has nothing else to do
    gateway.started_s = time.perf_counter() - began
    return gateway


def _answers(address: str) -> bool:
    try:
        connection = http.client.HTTPConnection(address, timeout=10)
        connection.request("POST", "/v1/describejobqueues", "{}")
        connection.getresponse().read()
        connection.close()
    except OSError:
        return False
    return True


class Visitor:
    """Who has signed in, on one connection that is kept."""

    def __init__(self, gateway: Gateway, cookie: str = "") -> None:
        self._gateway = gateway
        self._connection = http.client.HTTPConnection(gateway.address, timeout=60)
        self.cookie = cookie or self._sign_in()

    def _sign_in(self) -> str:
        keys = self._gateway.credentials
        form = urlencode({"key": keys.access_key, "secret": keys.secret_key})
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        self._connection.request("POST", f"{CONSOLE}/sign-in", form, headers)
        answer = self._connection.getresponse()
        answer.read()
        assert answer.status == 303, answer.status
        return answer.headers["set-cookie"].partition(";")[0]

    def get(self, path: str, tag: str = "") -> Page:
        """Read a page or a part of one, packed as a browser asks for it."""
        headers = {"Cookie": self.cookie, "Accept-Encoding": "gzip"} | ({"If-None-Match": tag} if tag else {})
        self._connection.request("GET", path if path.startswith("/") else f"{CONSOLE}/{path}", headers=headers)
        answer = self._connection.getresponse()
        body = answer.read()
        plain = gzip.decompress(body) if answer.headers.get("content-encoding") == "gzip" else body
        return Page(answer.status, len(body), plain.decode(), answer.headers.get("etag", ""))

    def download(self, path: str) -> int:
        """Read a whole answer, a piece at a time; return how long it was."""
        self._connection.request("GET", f"{CONSOLE}/{path}", headers={"Cookie": self.cookie})
        answer = self._connection.getresponse()
        total = 0
        while piece := answer.read(1 << 20):
            total += len(piece)
        return total


def describes(address: str, access_key: str, secret_key: str, job_id: str, seconds: float) -> list[float]:
    """Describe a job by signed calls, 20 a second at most; return the seconds that each took."""
    body = json.dumps({"jobs": [job_id]}).encode()
    signer = SigV4Auth(Credentials(access_key, secret_key), "batch", REGION)
    connection = http.client.HTTPConnection(address, timeout=60)
    ends, took_s = time.monotonic() + seconds, []
    while time.monotonic() < ends:
        url, headers = f"http://{address}/v1/describejobs", {"Content-Type": "application/json"}
        signed = AWSRequest(method="POST", url=url, data=body, headers=headers)
        signer.add_auth(signed)
        began = time.perf_counter()
        connection.request("POST", "/v1/describejobs", body, dict(signed.headers))
        answer = connection.getresponse()
        text = answer.read()
        took_s.append(time.perf_counter() - began)
        assert answer.status == 200, text
        time.sleep(0.05)
    connection.close()
    return took_s


def parts_of(page: str) -> list[tuple[str, str]]:
    """Return what a page fetches again: topic and address, with the jobs that it shows where it tells them."""
    ids = quote(" ".join(_ROW.findall(page)))
    found = []
    for topic, more, address in _PART.findall(page):
        url = html.unescape(address)
        found.append((topic, f"{url}{'&' if '?' in url else '?'}ids={ids}" if "data-shown" in more else url))
    return found


@dataclass(slots=True)
class Tab:
    """An open page, as its scripts behave: one stream of events, and what it is told to fetch, in a thread."""

    gateway: Gateway
    cookie: str
    path: str
    looks: int = 0
    fetched: int = 0
    _thread: threading.Thread = field(init=False)
    _stream: http.client.HTTPConnection = field(init=False)
    _is_open: threading.Event = field(init=False, default_factory=threading.Event)
    _is_closed: bool = False

    def open(self) -> None:
        """Load the page and follow its stream; return when it is told for the first time."""
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()
        self._is_open.wait(60)

    def close(self) -> None:
        """Leave."""
        self._is_closed = True
        if self._stream.sock:
            # Not just closed: who reads from it would go on waiting.
            self._stream.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)

    def _live(self) -> None:
        visitor = Visitor(self.gateway, self.cookie)
        page = visitor.get(self.path).text
        parts, tags = parts_of(page), dict[str, str]()
        since = _SINCE.findall(page)[0]
        query = urlencode({"topics": "counts,jobs", "ids": ",".join(_ROW.findall(page)), "since": since})
        self._stream = http.client.HTTPConnection(self.gateway.address, timeout=30)
        self._stream.request("GET", f"{CONSOLE}/live?{query}", headers={"Cookie": self.cookie})
        try:
            answer = self._stream.getresponse()
            self._is_open.set()
            event = ""
            while line := answer.readline().decode():
                name, _, value = line.strip().partition(": ")
                event = value if name == "event" else event
                if name == "data" and event == "look":
                    self.looks += 1
                    self._fetch(visitor, [url for topic, url in parts if topic in value.split()], tags)
        except (OSError, AttributeError, ValueError):  # closed under its hands
            assert self._is_closed

    def _fetch(self, visitor: Visitor, urls: list[str], tags: dict[str, str]) -> None:
        for url in urls:
            page = visitor.get(url, tags.get(url, ""))
            assert page.status in (200, 304), (page.status, url[:100])
            tags[url] = page.tag
            self.fetched += 1


def why_no_chromium() -> str:
    """Say why nothing can be seen in a browser; empty where it can."""
    return "" if shutil.which("chromium") else "there is no chromium on PATH"


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Start the system's Chromium."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        yield browser
        await browser.close()
