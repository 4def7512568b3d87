"""Yards of real processes for tests; when a test fails, the ends of their logs are shown with it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from tests.contract.etcd_server import EtcdServer
from tests.e2e.programs import Program
from tests.e2e.witness import Witness
from tests.e2e.yard import Yard

OpenYard = Callable[..., Yard]
ETCD_LEASE_TTL_S = 2


class HasPrograms(Protocol):
    """A yard of one kind or another."""

    def programs(self) -> list[Program]: ...


_SHOWN = pytest.StashKey[list[HasPrograms]]()


def show_logs_of(request: pytest.FixtureRequest, yard: HasPrograms) -> None:
    """Have the logs of a yard's programs shown if this test fails."""
    request.node.stash.setdefault(_SHOWN, []).append(yard)


@pytest.fixture
def yards(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[OpenYard]:
    """Make yards, and end all of them."""
    opened: list[Yard] = []

    def make(store: str = "") -> Yard:
        opened.append(Yard(tmp_path / f"yard-{len(opened)}", store))
        show_logs_of(request, opened[-1])
        return opened[-1]

    yield make
    for each in opened:
        each.sweep()


@pytest.fixture
def yard(yards: OpenYard) -> Yard:
    """Return one yard with an embedded store."""
    return yards()


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    """Return a witness that no job has met yet."""
    return Witness(tmp_path / "witness")


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[EtcdServer]:
    """Run an etcd of this test's own."""
    server = EtcdServer(tmp_path / "etcd")
    server.start()
    yield server
    server.kill()


def etcd_store(server: EtcdServer) -> str:
    """Return the URL of a store on *server*; its leader is missed after two seconds."""
    return f"{server.url}?lease_ttl_s={ETCD_LEASE_TTL_S}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the logs of a failed test's processes to its report."""
    report = yield
    if report.failed:
        for yard in item.stash.get(_SHOWN, []):
            report.sections += [(f"log of {program.name}", program.tail()) for program in yard.programs()]
    return report
