"""The command line in this process, against a yard in this process."""

from __future__ import annotations

import _thread
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

import pytest
from tests.sdk.conftest import _no_settings, yard  # noqa: F401  # fixtures
from tests.sdk.host import Host
from tests.sdk.yard import Yard
from tests.services.conftest import logged  # noqa: F401  # a fixture

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


def _interrupt_if_failed(done: Future[None]) -> None:
    """End the command that would now wait for ever."""
    if done.exception() is not None:
        _thread.interrupt_main()
