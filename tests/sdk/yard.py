"""
A yard for tests of the SDK and the CLI: a real controller in this process, its wire, its hosts.

``AsyncYard`` lives in the loop of whoever opens it. ``Yard`` is the same for tests
without a loop; it lives in the loop that all clients of a process share, so that
there is no second one beside it.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Self, TypeVar

from tests.services.controller import PATIENCE_S, MemoryController

from batchyard import AsyncClient, Client, container
from batchyard.v1.agent_pb2 import AttemptReport
from batchyard_controller.app import NOBODY, clock
from batchyard_controller.core.model.values import Instant
from batchyard_controller.store.memory import MemoryData
from batchyard_controller.vault import KEY_BYTES, Vault

from .host import Host
from .wire import Wire

T = TypeVar("T")


class AsyncYard:
    """
    A controller with a compute environment and a queue, both named ``default``; an asynchronous context manager.

    Attributes:
        address: Where it is, also after it was stopped and started again.
        wire: What a test may spoil.
        client: A client of it.
        behind_ms: How much the controller's wall clock is late.
        trust: By what strangers are known once it is started again. Default: by nothing.
    """

    def __init__(self) -> None:
        self.wire = Wire()
        self.behind_ms = 0
        self.trust = NOBODY
        self._data = MemoryData()
        self._vault = Vault({"k1": secrets.token_bytes(KEY_BYTES)})
        # Bound and never listened on: while the controller is stopped, its port is nobody else's.
        self._port = socket.socket()
        self._port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._port.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._port.getsockname()[1]}"
        self._controller: MemoryController | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        await self.controller.furnish()
        self.client = AsyncClient(self.address)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()
        await self.stop()
        self._port.close()

    @property
    def controller(self) -> MemoryController:
        """The controller, while there is one."""
        assert self._controller is not None, "the controller is stopped"
        return self._controller

    async def start(self) -> None:
        """Start a controller at the address and over the data of before, if there was one."""
        self._controller = MemoryController(
            self._data, self._vault, address=self.address, clock=self._clock, interceptors=[self.wire], trust=self.trust
        )
        await self._controller.__aenter__()
        await self._controller.until_leads()

    async def stop(self) -> None:
        """Stop as a controller that is killed: connections break."""
        if self._controller is not None:
            await self._controller.__aexit__()
            self._controller = None

    async def join(
        self, name: str = "alpha", *, attempts: Sequence[AttemptReport] = (), slice_bytes: int = 1 << 20, **facts: Any
    ) -> Host:
        """Let a host join that keeps *attempts* and shows so much of a log at once."""
        host = Host(self.controller, name=name, slice_bytes=slice_bytes, **facts)
        await host.join(attempts)
        return host

    async def value_of(self, secret: str) -> str:
        """Return a secret's value, as a host of a job that names it is given it: nobody else can read it."""
        job = container(["true"])
        job.secrets.add(name="SECRET", value_from=secret)
        await self.client.submit_job(name="reader", container=job)
        host = await self.join()
        (spec,) = await host.take()
        return (await host.secrets(spec.attempt_id))["SECRET"]

    def _clock(self) -> Instant:
        now = clock()
        return replace(now, wall_ms=now.wall_ms - self.behind_ms)


class Yard:
    """A yard for tests without a loop; a context manager."""

    def __init__(self) -> None:
        self.inner = AsyncYard()
        self.address = self.inner.address
        self.wire = self.inner.wire
        self.client = Client(self.address)

    def __enter__(self) -> Self:
        self.do(self.inner.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.do(self.inner.__aexit__())

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Carry out *work* in the yard's loop."""
        return self.begin(work).result(2 * PATIENCE_S)

    def begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Let *work* go on in the yard's loop; its result tells how it ended."""
        return asyncio.run_coroutine_threadsafe(work, self.client._loop)

    def once_watched(self, act: Callable[[Host], Coroutine[Any, Any, T]]) -> Future[T]:
        """Let a host join and *act* once a watcher has seen present states; the result tells how that ended."""

        async def follow() -> T:
            await self.wire.until_sent("WatchJobs")
            return await act(await self.inner.join())

        return self.begin(follow())

    def submit(self, **fields: Any) -> str:
        """Submit a job of the name ``hello``, if nothing else is said, and return its id."""
        filled: dict[str, Any] = {"name": "hello", "container": container(["echo", "hello"])} | fields
        return self.client.submit_job(**filled).job_id

    def start(self) -> None:
        """As :meth:`AsyncYard.start`."""
        self.do(self.inner.start())

    def stop(self) -> None:
        """As :meth:`AsyncYard.stop`."""
        self.do(self.inner.stop())

    def join(self, **facts: Any) -> Host:
        """As :meth:`AsyncYard.join`."""
        return self.do(self.inner.join(**facts))
