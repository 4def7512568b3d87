"""The command line in this process, against a yard in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from tests.sdk.conftest import _no_settings, yard  # noqa: F401  # fixtures
from tests.sdk.yard import Yard

from batchyard.cli import main


@dataclass(frozen=True, slots=True)
class Result:
    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def run(yard: Yard, capsys: pytest.CaptureFixture[str]) -> Run:  # noqa: F811  # the fixture above
    def call(*arguments: str) -> Result:
        capsys.readouterr()
        code = main(["--address", yard.address, *arguments])
        return Result(code, *capsys.readouterr())

    return call
