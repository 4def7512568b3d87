"""A real Docker Engine for tests: an image made offline, a network that works, a breakable way to it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import gc
import io
import os
import shutil
import socket
import tarfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest

from batchyard.resources import Resources
from batchyard_agent.runtimes.docker_spec import HOST_LABEL
from batchyard_agent.runtimes.protocol import ContainersChanged, LaunchSpec, Observation, Started

from .specs import launch_spec

IMAGE = "busybox:latest"
APPLETS = ("cat", "echo", "env", "false", "head", "id", "kill", "printf", "seq", "sh", "sleep", "tail", "true", "yes")
DEADLINE_S = 40
_RUN = uuid.uuid4().hex[:12]
ENGINE_ADDRESS = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")


def busybox_tar(busybox: str) -> bytes:
    """Return a root file system made of one static busybox and links to it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(busybox, "bin/busybox")
        for applet in APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        for folder in ("dev", "etc", "proc", "sys", "tmp"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            tar.addfile(entry)
    return buffer.getvalue()


def named(name: str) -> str:
    """
    Return an attempt id that no other run of the tests has on this engine.

    Containers are named after attempts, and an engine lets one container bear a name.
    """
    return f"{_RUN}-{name}#1"


@functools.cache
def ensure_image() -> str:
    """Make sure that ``busybox:latest`` is on this machine, without a registry; return its name."""
    with _one_at_a_time(), contextlib.closing(docker.from_env().api) as api:
        try:
            api.inspect_image(IMAGE)  # type: ignore[no-untyped-call]
        except docker.errors.ImageNotFound:
            busybox = shutil.which("busybox")
            if busybox is None:
                pytest.skip("no busybox to make an image of (on Debian: apt-get install busybox-static)")
            api.import_image_from_data(busybox_tar(busybox), repository="busybox", tag="latest")
    return IMAGE


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Keep the other workers of this run waiting."""
    with Path(__file__).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@functools.cache
def usable_network() -> str:
    """Return ``bridge``, or ``none`` where the engine has lost its bridge (a machine restored from a snapshot)."""
    ensure_image()
    with contextlib.closing(docker.from_env().api) as api:
        container = api.create_container(IMAGE, ["true"])["Id"]
        try:
            api.start(container)
        except docker.errors.APIError:
            return "none"
        else:
            api.wait(container)
            return "bridge"
        finally:
            api.remove_container(container, force=True)


def remove_all(scope: str) -> None:
    """Remove all containers of a test."""
    deadline = time.monotonic() + DEADLINE_S
    with contextlib.closing(docker.from_env().api) as api:
        while left := api.containers(all=True, filters={"label": f"{HOST_LABEL}={scope}"}):
            for container in left:
                try:
                    api.remove_container(container["Id"], force=True, v=True)
                except docker.errors.NotFound:
                    continue
                except docker.errors.APIError as error:
                    # An agent that was killed may have asked for it just before.
                    if "already in progress" not in str(error) or time.monotonic() > deadline:
                        raise


class Seen:
    """Records observations, and waits for them."""

    def __init__(self) -> None:
        self.all: list[Observation] = []
        self.changes: list[ContainersChanged] = []
        self._more = asyncio.Event()

    def __call__(self, observation: Observation) -> None:
        if isinstance(observation, ContainersChanged):
            self.changes.append(observation)  # beside starts and ends
            return
        self.all.append(observation)
        self._more.set()

    def of(self, attempt_id: str) -> list[Observation]:
        return [observation for observation in self.all if observation.attempt_id == attempt_id]

    async def start_of(self, attempt_id: str) -> Started:
        """Wait until the attempt has started."""
        async with asyncio.timeout(DEADLINE_S):
            while not (found := [o for o in self.of(attempt_id) if isinstance(o, Started)]):
                await self._wait()
        return found[0]

    async def end_of(self, attempt_id: str) -> Observation:
        """Wait until the attempt has ended, one way or another."""
        async with asyncio.timeout(DEADLINE_S):
            while not (found := [o for o in self.of(attempt_id) if not isinstance(o, Started)]):
                await self._wait()
        return found[0]

    async def _wait(self) -> None:
        self._more.clear()
        await self._more.wait()


def container_spec(folder: Path, attempt_id: str, *command: str, **others: Any) -> LaunchSpec:
    """Build a spec with small limits and its log in *folder*."""
    fields: dict[str, Any] = {
        "attempt_id": attempt_id,
        "job_id": attempt_id.partition("#")[0],
        "image": IMAGE,
        "command": command,
        "environment": {},
        "resources": Resources(cpu_millis=500, memory_mib=64),
        "log_path": folder / f"{attempt_id}.log",
        "log_bytes_max": 1 << 20,
    }
    return launch_spec(**fields | others)


class Wire:
    """
    A socket in front of the engine's, whose connections a test can cut or freeze.

    One thread a direction of a connection; all end when the test closes it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._engine_path = ENGINE_ADDRESS.removeprefix("unix://")
        self._open: set[socket.socket] = set()
        self._flows = threading.Event()
        self._flows.set()
        self._listener: socket.socket | None = None
        self._lost: tuple[bytes, bool] | None = None
        self.restore()

    @property
    def address(self) -> str:
        return f"unix://{self._path}"

    def cut(self) -> None:
        """Break all connections and take no more, as if the engine had died."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
            self._path.unlink()
        for end in list(self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def restore(self) -> None:
        """Take connections."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self._path))
        listener.listen(64)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def lose_next(self, part: bytes, *, is_delivered: bool) -> None:
        """Break the connection of the next request with *part* in it, before or after the engine gets it."""
        self._lost = (part, is_delivered)

    def freeze(self) -> None:
        """Let nothing through, but keep the connections, as if the engine hung."""
        self._flows.clear()

    def thaw(self) -> None:
        self._flows.set()

    def close(self) -> None:
        self.thaw()
        self.cut()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(self._engine_path)
            self._open |= {near, far}
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._flows.wait()
                lost = self._lost
                if lost is not None and lost[0] in data:
                    self._lost = None
                    if lost[1]:
                        # The engine's answer finds nobody; it does what it was asked for.
                        source.shutdown(socket.SHUT_RDWR)
                        sink.sendall(data)
                        sink.recv(1)
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._open.discard(source)
        source.close()


@pytest.fixture
def scope(request: pytest.FixtureRequest) -> Iterator[str]:
    """A label of this test's own; its containers are removed afterwards."""
    ensure_image()
    name = f"test-{_RUN}-{request.node.name}"
    yield name
    remove_all(name)


@pytest.fixture
def swept() -> Iterator[None]:
    """
    Collect the sockets that the docker SDK leaves open when a connection fails.

    For tests that ignore its warnings; otherwise they would show in some later test.
    """
    yield
    gc.collect()
