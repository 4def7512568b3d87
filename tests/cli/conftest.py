"""The command line in this process, against a yard in this process."""

from __future__ import annotations

import _thread
import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

import pytest
from tests.sdk.conftest import _no_settings, yard  # noqa: F401  # fixtures
from tests.sdk.host import Host
from tests.sdk.yard import Yard
from tests.services.conftest import logged  # noqa: F401  # a fixture
from tests.services.hand_agent import OTHER_ID

from batchyard.cli import main


@dataclass(frozen=True, slots=True)
class Result:
    code: int
    out: str
    err: str


class Run(Protocol):
    def __call__(self, *arguments: str, meanwhile: Callable[[Host], Coroutine[Any, Any, None]] | None = None) -> Result:
        """Carry out a command line; once it watches, a host joins that does what *meanwhile* says."""


@pytest.fixture
def run(yard: Yard, capsys: pytest.CaptureFixture[str]) -> Run:  # noqa: F811  # the fixture above
    def call(*arguments: str, meanwhile: Callable[[Host], Coroutine[Any, Any, None]] | None = None) -> Result:
        capsys.readouterr()
        if meanwhile is None:
            code = main(["--address", yard.address, *arguments])
        else:
            doing = yard.once_watched(meanwhile)
            doing.add_done_callback(_interrupt_if_failed)
            code = main(["--address", yard.address, *arguments])
            doing.result()
        return Result(code, *capsys.readouterr())

    return call


async def set_up_anew(yard: Yard) -> Host:  # noqa: F811  # as above
    """Let the host alpha go and join again with another id, as a machine that was set up anew."""
    (await yard.inner.join("alpha")).drop()
    while yard.inner.controller.sessions._sessions:
        await asyncio.sleep(0)
    again = Host(yard.inner.controller, name="alpha", slice_bytes=1 << 20)
    again.host_id = OTHER_ID
    await again.join()
    return again


def _interrupt_if_failed(done: Future[None]) -> None:
    """End the command that would now wait for ever."""
    if done.exception() is not None:
        _thread.interrupt_main()
