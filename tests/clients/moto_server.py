"""Servers beside a test's yard: moto's, which speaks for AWS's services, and others that are told their port."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.programs import Program, until
from tests.ports import hold_address

from .tools import MOTO


@contextlib.contextmanager
def moto(folder: Path) -> Iterator[str]:
    """Run moto's server and yield its address."""
    with server("moto", folder, str(MOTO.bin / "moto_server"), "-H", "127.0.0.1", "-p") as url:
        yield url


@contextlib.contextmanager
def server(name: str, folder: Path, *line: str, more: tuple[str, ...] = ()) -> Iterator[str]:
    """Run a server that is told its port, and yield its address when it answers."""
    address = hold_address()
    program = Program(name, [*line, address.rpartition(":")[2], *more], folder / f"{name}.log")
    program.start()
    try:
        until(lambda: _answers(address), f"{name} answers", 150.0)
        yield f"http://{address}"
    finally:
        program.sweep()


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5.0).close()
    except OSError:
        return False
    return True
