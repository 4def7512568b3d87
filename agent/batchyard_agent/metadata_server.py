"""
The metadata endpoint: a few documents over HTTP, for attempts of this host alone.

It answers nothing but GET of two documents, to who knows an attempt's token, on
loopback and on the address by which containers on Docker's bridge reach this machine. It is
written on asyncio's streams, not on a web framework: jobs are not trusted, so what
counts is that every connection is bounded in bytes, time and number, and that is
most of it. Law: attempts do not depend on it. Without it they lack two variables.
"""

from __future__ import annotations

import asyncio
import errno
import hmac
import json
import os
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

import psutil
import structlog

from batchyard.ids import AttemptId, attempt_id_of_task, task_id
from batchyard.runtimes import DOCKER
from batchyard.tasks import DEFAULT_NAME
from batchyard_agent.core.attempts import AttemptSpec
from batchyard_agent.metadata import Documents
from batchyard_agent.runtimes import docker_spec

VARIABLES = {"ECS_CONTAINER_METADATA_URI": "v3", "ECS_CONTAINER_METADATA_URI_V4": "v4"}
"""Where each version answers. Version 3 gets version 4's documents, which hold all of its own."""

LOOPBACK = "127.0.0.1"
BRIDGE = "docker0"
"""Docker's default bridge; its address here is its containers' gateway."""

HEAD_BYTES_MAX = 8 << 10
ANSWER_LIMIT_S = 5.0
CONNECTIONS_MAX = 64

_REQUEST = re.compile(rb"(\S+) ([^\s?]+)(?:\?\S*)? HTTP/1\.[01]\r\n", re.ASCII)
_PATH = re.compile(
    r"/v[34]/(?P<task>[^/]+)-(?P<token>[0-9a-f]{32})(?:/container/(?P<name>[A-Za-z0-9_-]+))?(?P<part>/task)?/?",
    re.ASCII,
)

log = structlog.get_logger()

Describe = Callable[[AttemptId], Documents | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What must outlive the agent: attempts that run were told both."""

    secret: str
    port: int


class MetadataServer:
    """
    Serves documents, and tells attempts where.

    Args:
        file: Where the secret and the port are kept.
        describe: Tells about an attempt; None when there is nothing to tell.
        container_network: Which network containers are launched on.
        node_network: Which one those of nodes are.
    """

    def __init__(
        self,
        file: Path,
        describe: Describe,
        container_network: str = docker_spec.BRIDGE,
        node_network: str = docker_spec.HOST,
    ) -> None:
        self._file = file
        self._describe = describe
        self._container_network = container_network
        self._node_network = node_network
        self._remembered: Remembered | None = None
        self._listeners: dict[str, socket.socket] = {}
        self._serving: list[asyncio.Task[None]] = []
        self._answering: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def open(self) -> None:
        """Listen on loopback, where the last agent did; if it cannot be, say so and go on."""
        try:
            remembered = _read(self._file) or Remembered(secret=os.urandom(32).hex(), port=0)
            try:
                port = self._listen(LOOPBACK, remembered.port)
            except OSError as error:
                if error.errno != errno.EADDRINUSE or not remembered.port:
                    raise
                log.warning("the metadata endpoint's port is taken; another is used", port=remembered.port)
                port = self._listen(LOOPBACK, 0)
            self._remembered = Remembered(secret=remembered.secret, port=port)
            if self._remembered != remembered:
                _write(self._file, self._remembered)
        except OSError as error:
            self._remembered = None
            log.warning("attempts get no metadata endpoint", reason=str(error))

    def environment(self, spec: AttemptSpec) -> Mapping[str, Mapping[str, str]]:
        """Return the variables for the containers of an attempt that is to be launched; none where it cannot reach us."""
        network = self._container_network if spec.launch.node_address is None else self._node_network
        if spec.launch.security_level.is_secured and network == docker_spec.HOST:
            network = docker_spec.BRIDGE  # that of its queue, which gets there
        address = self._address_for(spec.runtime, network)
        if self._remembered is None or not address:
            return {}
        base = f"http://{address}:{self._remembered.port}"
        name = f"{task_id(spec.attempt_id)}-{_token(self._remembered.secret, spec.attempt_id)}"
        if not spec.launch.parts:
            return {"": _variables(base, name)}
        return {part.part: _variables(base, f"{name}/container/{part.part}") for part in spec.launch.parts}

    def listen_for(self, runtime: str) -> str:
        """
        Listen where attempts of a runtime can reach us; return the address, empty if that cannot be.

        For containers that is on the bridge, as a former agent may have launched them there.
        """
        if self._remembered is None:
            return ""
        return self._bridge(self._remembered.port) if runtime == DOCKER else LOOPBACK

    def door(self) -> tuple[str, int] | None:
        """Return where containers of any network of Docker's on this machine reach us; None where they cannot."""
        address = _bridge_address()
        return (address, self._remembered.port) if address and self._remembered is not None else None

    def _address_for(self, runtime: str, network: str) -> str:
        if runtime == DOCKER and network == docker_spec.NONE:
            return ""
        if runtime == DOCKER and network == docker_spec.HOST:
            return LOOPBACK
        return self.listen_for(runtime)

    async def close(self) -> None:
        """Stop listening. Attempts go on."""
        self._remembered = None
        tasks = [*self._serving, *self._answering]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for listener in self._listeners.values():
            listener.close()

    def _bridge(self, port: int) -> str:
        address = _bridge_address()
        if address and address not in self._listeners:
            try:
                self._listen(address, port)
            except OSError as error:
                log.warning("a container gets no metadata endpoint", address=address, port=port, reason=str(error))
                return ""
        return address

    def _listen(self, address: str, port: int) -> int:
        """Listen at once, and answer as soon as the loop comes to it: a launch must not wait."""
        listener = socket.create_server((address, port))
        self._listeners[address] = listener
        self._serving.append(asyncio.get_running_loop().create_task(self._serve(listener)))
        return int(listener.getsockname()[1])

    async def _serve(self, listener: socket.socket) -> None:
        async with await asyncio.start_server(self._on_connection, sock=listener, limit=HEAD_BYTES_MAX) as server:
            await server.serve_forever()

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._answering.add(task)
        try:
            if len(self._answering) <= CONNECTIONS_MAX:
                async with asyncio.timeout(ANSWER_LIMIT_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(_response(*self._answer(head)))
                    await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError) as error:
            log.debug("a metadata connection broke off", reason=repr(error))
        finally:
            self._answering.discard(task)
            writer.close()

    def _answer(self, head: bytes) -> tuple[HTTPStatus, Mapping[str, Any]]:
        request = _REQUEST.match(head)
        if request is None:
            return HTTPStatus.BAD_REQUEST, {"message": "this is no HTTP/1.1 request"}
        if request[1] != b"GET":
            return HTTPStatus.METHOD_NOT_ALLOWED, {"message": "only GET is answered"}
        found = self._find(request[2].decode("latin-1"))
        return (HTTPStatus.OK, found) if found else (HTTPStatus.NOT_FOUND, {"message": "no such document"})

    def _find(self, path: str) -> Mapping[str, Any] | None:
        match = _PATH.fullmatch(path)
        attempt_id = attempt_id_of_task(match["task"]) if match else None
        if match is None or attempt_id is None or self._remembered is None:
            return None
        if not hmac.compare_digest(match["token"], _token(self._remembered.secret, attempt_id)):
            return None
        found = self._describe(attempt_id)
        if found is None:
            return None
        return found.task if match["part"] else found.containers.get(match["name"] or DEFAULT_NAME)


def _bridge_address() -> str:
    return next((a.address for a in psutil.net_if_addrs().get(BRIDGE, ()) if a.family is socket.AF_INET), "")


def _variables(base: str, path: str) -> dict[str, str]:
    return {variable: f"{base}/{version}/{path}" for variable, version in VARIABLES.items()}


def _token(secret: str, attempt_id: str) -> str:
    return hmac.digest(bytes.fromhex(secret), attempt_id.encode(), "sha256").hex()[:32]


def _response(status: HTTPStatus, document: Mapping[str, Any]) -> bytes:
    body = json.dumps(document).encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def _read(file: Path) -> Remembered | None:
    """
    Return what the last agent wrote; None when there is nothing, or nothing whole.

    Raises:
        OSError: it cannot be read.
    """
    try:
        values = json.loads(file.read_text())
        bytes.fromhex(values["secret"])
        return Remembered(secret=values["secret"], port=int(values["port"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        log.warning("the metadata endpoint's file is broken; it is made anew", file=str(file), reason=str(error))
        return None


def _write(file: Path, remembered: Remembered) -> None:
    new = file.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        json.dump(asdict(remembered), out)
    new.replace(file)
