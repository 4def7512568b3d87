"""
The Docker Engine, as blocking calls with a time limit each.

The one module that imports the ``docker`` SDK. It knows nothing of attempts'
lives and of the event loop. Law: every failure leaves as one of the five errors
below, so that callers tell "the engine said no" from "the engine did not answer".

    EngineError                  the engine said no; see .status and .message
    +-- MissingError                 no such container or image
    +-- ConflictError                the name is taken, or the container is in another state
    EngineSilentError            no answer: the outcome is unknown, asking again may help
    +-- EngineTimeoutError           it took the call and let the time pass
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import struct
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

import docker
import docker.errors
import docker.types
import docker.utils
import requests
import urllib3.exceptions

from batchyard_agent.runtimes.docker_facts import (
    ContainerEvent,
    ContainerFacts,
    ListedContainer,
    bounds_disk,
    digest_from_inspect,
    events_from_chunks,
    facts_from_inspect,
    listed_from_list,
    payloads,
    time_ms,
)
from batchyard_agent.runtimes.docker_spec import HOST_LABEL
from batchyard_agent.runtimes.protocol import Wanted, Window

OPEN_TIMEOUT_S = 3
PING_TIMEOUT_S = 5
CALL_TIMEOUT_S = 30
LAUNCH_TIMEOUT_S = 120

RESTART_MS_MAX = 120_000
"""How long an engine may take from the first signal to its containers until it is started again, an upgrade included."""
"""For create and start, which wait for the engine's disk and network."""

_READ_BYTES = 64 * 1024
_DIGESTS_KEPT = 1024
_CREDENTIALS = struct.Struct("3i")
"""Process, user and group (unix(7), struct ucred)."""
_POOLS = 100
"""The SDK keeps connections by URL and breaks the oldest; one in use must never be the oldest."""

T = TypeVar("T")


class EngineError(Exception):
    """The engine refused a call."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class MissingError(EngineError):
    """No such container, or no such image."""


class ConflictError(EngineError):
    """The name is taken, or the container is not in a state for this."""


class EngineSilentError(Exception):
    """The engine cannot be reached or went away: whether the call took effect is unknown."""


class EngineTimeoutError(EngineSilentError):
    """The engine did not answer in time: whether the call took effect is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """
    What the engine tells of itself.

    Attributes:
        clock_s: The engine's clock, in seconds since the epoch; it need not be ours.
        architecture: Of its machine, as the kernel calls it.
        live_restore: Containers go on while it is restarted.
        started_at_ms: When it was started, by its clock; None: it does not tell.
        runtimes: Names of what it can run containers in.
        bounds_disk: It can bound what a container writes into its own layer.
        shares_mounts: It sees what this process mounts.
    """

    cpu_count: int
    clock_s: int
    architecture: str = ""
    live_restore: bool = False
    started_at_ms: int | None = None
    runtimes: tuple[str, ...] = ()
    bounds_disk: bool = False
    shares_mounts: bool = False

    def was_restarting(self, at_ms: int) -> bool:
        """Say whether it may just have been stopping at a time, to be started as what it is now."""
        return self.started_at_ms is not None and 0 <= self.started_at_ms - at_ms <= RESTART_MS_MAX


class Stream(Generic[T]):
    """
    Something the engine goes on sending: iterate over it in one thread, close it in another.

    Iteration raises ``EngineSilentError`` if the stream broke off, and just ends
    if the engine ended it or it was closed.
    """

    def __init__(self, response: requests.Response, decode: Callable[[Iterator[bytes]], Iterator[T]]) -> None:
        self._response = response
        self._decode = decode
        self._is_closed = False

    def __iter__(self) -> Iterator[T]:
        try:
            yield from self._decode(self._response.raw.stream(_READ_BYTES, decode_content=True))
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            # A socket closed under a reader shows itself as any of the three.
            if not self._is_closed:
                raise EngineSilentError(str(error)) from error
        finally:
            self._response.close()

    def close(self) -> None:
        """End the stream; a reader in another thread comes back at once."""
        self._is_closed = True
        # The SDK finds the socket; it is gone if the stream has just ended by itself.
        with contextlib.suppress(AttributeError, OSError):
            docker.types.CancellableStream(iter(()), self._response).close()


def _started_at_ms(probe: docker.APIClient) -> int | None:
    """Find out when an engine was started: it does not say so, but makes its default bridge anew at each start."""
    try:
        return time_ms(probe.inspect_network("bridge")["Created"])
    except (docker.errors.APIError, KeyError, ValueError):  # it has none, as with --bridge=none
        return None


class Engine:
    """
    Blocking calls to one Docker Engine; usable from many threads.

    Args:
        address: Such as ``unix:///run/docker.sock``; empty: as the docker command
            finds it (DOCKER_HOST, DOCKER_CERT_PATH, DOCKER_TLS_VERIFY).

    Raises:
        EngineSilentError: no engine answered within 3 s.
    """

    def __init__(self, address: str = "") -> None:
        where: dict[str, Any] = {"base_url": address} if address else {**docker.utils.kwargs_from_env()}
        try:
            probe = docker.APIClient(**where, version="auto", timeout=OPEN_TIMEOUT_S)
            with contextlib.closing(probe), _translated():
                info = probe.info()
                started_at_ms = _started_at_ms(probe)
        except docker.errors.DockerException as error:
            raise EngineSilentError(str(error)) from error
        self.info = EngineInfo(
            cpu_count=int(info["NCPU"]),
            clock_s=int(datetime.fromisoformat(info["SystemTime"]).timestamp()),
            architecture=str(info.get("Architecture", "")),
            live_restore=bool(info.get("LiveRestoreEnabled")),
            started_at_ms=started_at_ms,
            runtimes=tuple(sorted(info.get("Runtimes") or ())),
            bounds_disk=bounds_disk(info, Path("/proc/self/mounts").read_text()),
            shares_mounts=_shares_mounts(socket_path(address)),
        )
        self._calls = docker.APIClient(**where, version=probe.api_version, timeout=CALL_TIMEOUT_S, num_pools=_POOLS)
        self._socket_path = socket_path(address)
        self._digests: dict[str, str] = {}
        self._launches = docker.APIClient(
            **where, version=probe.api_version, timeout=LAUNCH_TIMEOUT_S, num_pools=_POOLS
        )

    def enter(self, container: str, wanted: Wanted) -> tuple[str, socket.socket, bytes]:
        """
        Run a command in a container that runs, as the user and with the rights that it has itself.

        Returns:
            The engine's id of it, a socket that leads to it, and what came from there already.

        Raises:
            ConflictError: the container does not run.
            EngineError: the engine is not reached by a unix socket.
        """
        with _translated():
            made = self._calls.exec_create(
                container,
                list(wanted.command),
                stdin=wanted.stdin,
                tty=wanted.terminal,
                environment={"TERM": wanted.terminal_type} if wanted.terminal else None,
            )
            entry = str(made["Id"])
        with _translated():
            connection, begun = self._hijack(f"exec/{entry}/start", {"Detach": False, "Tty": wanted.terminal})
        return entry, connection, begun

    def _hijack(self, path: str, body: dict[str, Any]) -> tuple[socket.socket, bytes]:
        """
        Make a call whose connection is a stream both ways from then on.

        Not through the SDK, which loses what comes together with the answer's head.
        """
        if not self._socket_path:
            raise EngineError("commands in containers take an engine that is reached by a unix socket")
        data = json.dumps(body).encode()
        head = (
            f"POST /v{self._calls.api_version}/{path} HTTP/1.1\r\nHost: engine\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(data)}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        )
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(LAUNCH_TIMEOUT_S)
            connection.connect(self._socket_path)
            connection.sendall(head.encode() + data)
            status, begun = _read_head(connection)
        except BaseException:
            connection.close()
            raise
        if status in (101, 200):
            return connection, begun
        connection.close()
        raise _refusal(status, begun.decode(errors="replace").strip())

    def resize_entry(self, entry: str, window: Window) -> None:
        """Let a command's terminal have another size."""
        with _translated():
            self._calls.exec_resize(entry, height=window.rows, width=window.columns)

    def entry_end(self, entry: str) -> tuple[int, bool] | None:
        """Return the exit code of a command that has ended, and whether it ever ran; None: it has not ended."""
        with _read():
            found = self._calls.exec_inspect(entry)
        return None if found["ExitCode"] is None else (int(found["ExitCode"]), bool(found["Pid"]))

    def ping(self) -> None:
        """
        See whether the engine answers.

        Raises:
            EngineError: not as it should.
            EngineSilentError: not within 5 s.
        """
        with contextlib.closing(self._get("_ping", {}, PING_TIMEOUT_S)):
            pass

    def create(self, name: str, body: dict[str, Any]) -> str:
        """
        Create a container and return its id.

        Raises:
            MissingError: the image is not on this machine.
            ConflictError: a container bears that name.
        """
        with _translated():
            answer = self._launches.create_container_from_config(body, name)  # type: ignore[no-untyped-call]
        return str(answer["Id"])

    def start(self, container: str, stdin: bytes = b"") -> None:
        """Start a container, which then reads *stdin*; nothing happens if it runs."""
        with self.fed(container, stdin) if stdin else contextlib.nullcontext(), _translated():
            self._launches.start(container)

    @contextlib.contextmanager
    def fed(self, container: str, data: bytes) -> Iterator[None]:
        """
        Have a container that was created read *data* and no more, once it is started within.

        All of it is with the engine before the start, so that this process need not outlive that.

        Raises:
            EngineError, EngineSilentError: it cannot be given that.
        """
        # Not through the SDK, which lets nobody end what it sends and keep what it began.
        if not self._socket_path:
            raise EngineError("what a container reads can be given to an engine at a Unix socket alone")
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as connection:
            with _translated():
                connection.settimeout(CALL_TIMEOUT_S)
                connection.connect(self._socket_path)
                path = f"/v{self._calls.api_version}/containers/{container}/attach?stdin=1&stream=1"
                _upgrade(connection, path)
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
            yield

    def inspect(self, container: str) -> ContainerFacts:
        """Look at a container, by id or name."""
        with _read():
            return facts_from_inspect(self._calls.inspect_container(container))

    def image_digest(self, image_id: str) -> str:
        """Return the digest of an image, see ``digest_from_inspect``; one that is gone has its id."""
        found = self._digests.get(image_id)
        if found is None:
            try:
                with _read():
                    found = digest_from_inspect(self._calls.inspect_image(image_id))  # type: ignore[no-untyped-call]
            except MissingError:
                found = image_id
            if len(self._digests) >= _DIGESTS_KEPT:
                self._digests.clear()
            self._digests[image_id] = found
        return found

    def image_user(self, image: str) -> str:
        """
        Return as whom an image's containers run if nothing else is said; empty: root.

        Raises:
            MissingError: the image is not on this machine.
        """
        with _read():
            found = self._calls.inspect_image(image)  # type: ignore[no-untyped-call]
            return str(found["Config"].get("User") or "")

    def make_network(self, name: str, bridge: str, labels: dict[str, str]) -> None:
        """
        Make a network whose containers do not reach each other.

        Args:
            name: The engine's name of it.
            bridge: The kernel's name of its interface, at most 15 characters.
            labels: Its own.

        Raises:
            ConflictError: there is one of that name.
        """
        options = {"com.docker.network.bridge.name": bridge, "com.docker.network.bridge.enable_icc": "false"}
        with _translated():
            self._calls.create_network(name, driver="bridge", options=options, labels=labels, check_duplicate=True)

    def remove_networks(self, label: str, value: str, keep: Container[str]) -> None:
        """Remove all networks with a label of this value that no container uses, but those to keep, by name."""
        with _translated():
            for network in self._calls.networks(filters={"label": f"{label}={value}"}):
                if network["Name"] not in keep:
                    with contextlib.suppress(docker.errors.APIError):  # in use
                        self._calls.remove_network(network["Id"])

    def kill(self, container: str, signal: int) -> None:
        """
        Signal a container's first process.

        Raises:
            ConflictError: it does not run.
        """
        with _translated():
            self._calls.kill(container, signal)

    def remove(self, container: str) -> None:
        """
        Remove a container that does not run, and its anonymous volumes.

        Raises:
            ConflictError: it runs, or is just being removed.
        """
        with _translated():
            self._calls.remove_container(container, v=True)

    def remove_volumes(self, label: str, value: str) -> None:
        """
        Remove all volumes with a label of this value.

        Raises:
            ConflictError: a container still uses one.
        """
        with _translated():
            for volume in self._calls.volumes(filters={"label": f"{label}={value}"})["Volumes"] or ():
                self._calls.remove_volume(volume["Name"])

    def import_image(self, image: str, tar: bytes) -> None:
        """Make an image of a file system; *image* is its name and tag."""
        name, _, tag = image.rpartition(":")
        with _translated():
            self._launches.import_image_from_data(tar, repository=name, tag=tag)

    def listing(self, label: str, value: str) -> list[ListedContainer]:
        """Return all containers with a label of this value, ended ones too."""
        with _read():
            return listed_from_list(self._calls.containers(all=True, filters={"label": f"{label}={value}"}))

    def pull(self, image: str, on_progress: Callable[[], None]) -> None:
        """Pull *image*; no time limit, but *on_progress* is called whenever something moves."""
        with _translated():
            for message in self._launches.pull(image, stream=True, decode=True):
                on_progress()
                if "error" in message:
                    raise EngineError(str(message["error"]))

    def output(self, container: str, *, follow: bool, tail_lines: int | None = None) -> Stream[bytes]:
        """
        Read a container's output, both streams in the order they came: all, or its last lines.

        Not through the SDK's ``logs``: that asks for the terminal mode first, and
        hides whether the stream ended or broke off.
        """
        tail = "all" if tail_lines is None else str(tail_lines)
        wanted = {"stdout": "1", "stderr": "1", "follow": str(int(follow)), "tail": tail}
        response = self._get(f"containers/{container}/logs", wanted, None if follow else CALL_TIMEOUT_S)
        return Stream(response, payloads)

    def events(self, scope: str, since_s: int) -> Stream[ContainerEvent]:
        """Follow the ends of containers labelled with *scope*, from *since_s* on (the engine's clock)."""
        filters = {"type": "container", "event": ["die", "oom"], "label": f"{HOST_LABEL}={scope}"}
        wanted = {"since": str(since_s), "filters": docker.utils.convert_filters(filters)}
        return Stream(self._get("events", wanted, None), events_from_chunks)

    def close(self) -> None:
        """Close idle connections."""
        self._calls.close()
        self._launches.close()

    def _get(self, path: str, wanted: dict[str, str], timeout_s: int | None) -> requests.Response:
        """Begin to read a stream, in which nothing may come for *timeout_s*."""
        url = f"{self._calls.base_url}/v{self._calls.api_version}/{path}"
        with _translated():
            response = self._calls.get(url, params=wanted, stream=True, timeout=timeout_s)
            if not response.ok:
                with contextlib.closing(response):
                    raise _refusal(response.status_code, response.text)
        return response


def _upgrade(connection: socket.socket, path: str) -> None:
    """
    Make a connection one with a container (Docker Engine API: "Attach to a container").

    Raises:
        EngineError: the engine refused.
        OSError: it went away.
    """
    asking = http.client.HTTPConnection("docker")
    asking.sock = connection
    try:
        asking.request("POST", path, headers={"Connection": "Upgrade", "Upgrade": "tcp"})
        answer = asking.getresponse()
    except http.client.HTTPException as error:
        raise OSError(f"the engine does not answer as one: {error!r}") from error
    with contextlib.closing(answer):
        if answer.status != http.HTTPStatus.SWITCHING_PROTOCOLS:
            raise _refusal(answer.status, answer.read().decode(errors="replace").strip())


def _read_head(connection: socket.socket) -> tuple[int, bytes]:
    """Return the status of an answer of HTTP, and what came behind its head."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        more = connection.recv(_READ_BYTES)
        if not more:
            raise ConnectionResetError("the engine hung up")
        answer += more
    head, _, rest = answer.partition(b"\r\n\r\n")
    return int(head.split(None, 2)[1]), rest


def _refusal(status: int, message: str) -> EngineError:
    match status:
        case 404:
            return MissingError(message, status)
        case 409:
            return ConflictError(message, status)
        case _:
            return EngineError(message, status)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except docker.errors.APIError as error:
        raise _refusal(error.status_code or 0, str(error.explanation or error)) from error
    except requests.Timeout as error:
        raise EngineTimeoutError("the Docker Engine did not answer in time") from error
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        raise EngineSilentError(f"the Docker Engine cannot be reached: {error}") from error
    except docker.errors.DockerException as error:
        # The SDK refuses by itself, for instance an image name it cannot parse.
        raise EngineError(str(error), 400) from error


@contextlib.contextmanager
def _read() -> Iterator[None]:
    """As ``_translated``, for questions: an engine in trouble (5xx) has not answered one."""
    try:
        with _translated():
            yield
    except EngineError as error:
        if error.status >= 500:
            raise EngineSilentError(error.message) from error
        raise


def socket_path(address: str) -> str:
    """Return the path of an engine's socket, of an address as ``Engine`` takes it; empty: it is reached otherwise."""
    found = address or str(docker.utils.kwargs_from_env().get("base_url", "unix:///var/run/docker.sock"))
    scheme, _, path = found.partition("://")
    return path if scheme in {"unix", "http+unix"} else ""


def _shares_mounts(path: str) -> bool:
    """Say whether who listens at an engine's socket sees all that this process mounts."""
    if not path:
        return False
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, _, _ = _CREDENTIALS.unpack(credentials)
        own, theirs = (Path(f"/proc/{each}/ns/mnt").stat().st_ino for each in ("self", pid))
    except OSError:  # of another pid namespace (0), or another user's
        return False
    return own == theirs
