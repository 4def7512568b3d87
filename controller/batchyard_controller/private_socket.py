"""
The private socket: a listener that the kernel lets only its owner, or a group, connect to.

It must never know what is served. Law: there is no moment in which others may connect.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
from pathlib import Path

import grpc

from batchyard.state_folder import make_private_folder

PATH_BYTES_MAX = 107
"""Linux: of the path of a socket."""


def listen_privately(server: grpc.aio.Server, path: Path, group: str = "") -> None:
    """
    Let *server* listen on a socket at *path*, which replaces one that nobody listens on.

    Args:
        server: Not yet started.
        path: Its folder is made, for its owner alone, if it is not there.
        group: Who may connect besides the owner; empty for nobody.

    Raises:
        OSError: it cannot be listened on, somebody does already, or there is no such group.
    """
    path = path.absolute()
    if len(os.fsencode(path)) > PATH_BYTES_MAX:
        raise OSError(f"the path of the socket is longer than {PATH_BYTES_MAX} bytes: {path}; give a shorter --socket")
    if not path.parent.exists():
        make_private_folder(path.parent)
    if _answers(path):
        raise OSError(f"something listens at unix:{path} already; stop it or give another --socket")
    # The mask holds for the moment between the making of the socket and any later word about its mode.
    before = os.umask(0o177)
    try:
        bound = server.add_insecure_port(f"unix:{path}")
    except RuntimeError as err:
        raise OSError(f"cannot listen on unix:{path}: {err}") from err
    finally:
        os.umask(before)
    if not bound or not stat.S_ISSOCK(path.stat().st_mode):
        raise OSError(f"cannot listen on unix:{path}")
    if group:
        try:
            shutil.chown(path, group=group)
        except LookupError as err:
            raise OSError(f"there is no group {group!r}") from err
        path.chmod(0o660)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True
