"""The SDK alone speaks through generated stubs: what stands on it calls the SDK."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STANDS_ON_THE_SDK = ("gateway", "client/batchyard/cli", "examples")
HOLDS_STUBS = "calls.py"


def reaches(source: str) -> Iterator[str]:
    """Yield what in a program reaches for a stub: its module, its class, or gRPC itself."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import():
                names = [alias.name for alias in node.names]
            case ast.ImportFrom():
                names = [node.module or "", *(alias.name for alias in node.names)]
            case ast.Attribute():
                names = [node.attr]
            case ast.Name():
                names = [node.id]
            case _:
                names = []
        for name in names:
            if name.endswith(("_pb2_grpc", "Stub")) or name in ("grpc", "grpc.aio", "_connection"):
                yield f"line {node.lineno}: {name}"  # type: ignore[attr-defined]  # all four have one


@pytest.mark.parametrize("folder", STANDS_ON_THE_SDK)
def test_what_stands_on_the_sdk_holds_no_stub(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    found = [f"{file.relative_to(ROOT)}, {reach}" for file in files for reach in reaches(file.read_text())]
    assert found == []


def test_one_module_of_the_sdk_holds_stubs() -> None:
    modules = sorted((ROOT / "client" / "batchyard").glob("*.py"))
    assert [module.name for module in modules if "_pb2_grpc" in module.read_text()] == [HOLDS_STUBS]


@pytest.mark.parametrize(
    "source",
    [
        "from batchyard.v1 import job_pb2_grpc",
        "from batchyard.v1.job_pb2_grpc import JobServiceStub",
        "import batchyard.v1.job_pb2_grpc",
        "calls = client._connection",
        "import grpc.aio",
        "from grpc import aio",
    ],
)
def test_a_reach_for_a_stub_is_seen(source: str) -> None:
    assert list(reaches(source))
