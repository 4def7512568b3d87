"""The controller's socket: for its user, or a group, from its first moment; one controller a socket."""

from __future__ import annotations

import grp
import os
import socket
import stat
from pathlib import Path

import grpc
import pytest

from batchyard_controller.private_socket import PATH_BYTES_MAX, listen_privately


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_only_its_owner_may_connect_whatever_the_umask(tmp_path: Path) -> None:
    path, server = tmp_path / "new" / "s.sock", grpc.aio.server()
    before = os.umask(0)
    try:
        listen_privately(server, path)
    finally:
        os.umask(before)
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    await server.start()
    await server.stop(None)


async def test_a_group_may_be_let_in(tmp_path: Path) -> None:
    path, server = tmp_path / "s.sock", grpc.aio.server()
    listen_privately(server, path, grp.getgrgid(os.getegid()).gr_name)
    assert (mode(path), path.stat().st_gid) == (0o660, os.getegid())
    with pytest.raises(OSError, match="there is no group 'no-such-group'"):
        listen_privately(grpc.aio.server(), tmp_path / "t.sock", "no-such-group")
    await server.stop(None)


async def test_a_socket_that_is_in_use_is_left_alone_and_one_of_the_dead_replaced(tmp_path: Path) -> None:
    path, server = tmp_path / "s.sock", grpc.aio.server()
    listen_privately(server, path)
    await server.start()
    with pytest.raises(OSError, match=r"something listens at unix:.* already"):
        listen_privately(grpc.aio.server(), path)
    await server.stop(None)
    with socket.socket(socket.AF_UNIX) as dead:
        path.unlink(missing_ok=True)
        dead.bind(str(path))
    heir = grpc.aio.server()
    listen_privately(heir, path)
    assert mode(path) == 0o600
    await heir.stop(None)


async def test_a_path_that_is_too_long_is_refused_with_the_limit(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=f"longer than {PATH_BYTES_MAX} bytes"):
        listen_privately(grpc.aio.server(), tmp_path / ("x" * PATH_BYTES_MAX))
