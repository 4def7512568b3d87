"""
State folders: whose they are, and who may look into them.

Law: what is kept in one is its owner's alone, whatever the process's umask says, and a
folder that another user could have prepared is not used.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

MODE = 0o700


def make_private_folder(path: Path, mode: int = MODE) -> None:
    """
    Make a folder, and those above it that are missing, for this user alone; check one that is there.

    Args:
        path: The folder.
        mode: Of what is made.

    Raises:
        OSError: it cannot be made, is no folder, belongs to another user, or others may
            write to it; the text says which.
    """
    try:
        path.mkdir(mode)
        path.chmod(mode)  # mkdir takes the umask away from it
    except FileNotFoundError:
        make_private_folder(path.parent, mode)
        make_private_folder(path, mode)
    except FileExistsError:
        _check(path)


def write_private(path: Path, text: str) -> None:
    """
    Write a file of this user's alone in one step: it is whole, or as it was before.

    Raises:
        OSError: it cannot be written.
    """
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def read_private(path: Path) -> str:
    """
    Read a file that must be closed to others.

    Raises:
        FileNotFoundError: it is not there.
        PermissionError: others may read or write it, or it cannot be read.
    """
    with path.open(encoding="utf-8") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise PermissionError(f"{path} has mode {mode:04o}; only 0600 is safe (chmod 600 {path})")
        return file.read()


def _check(path: Path) -> None:
    found = path.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(f"{path} is no folder")
    if found.st_uid != os.geteuid():
        raise PermissionError(f"{path} belongs to user {found.st_uid}, not to {os.geteuid()}, who runs this")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"others may write to {path}, mode {stat.S_IMODE(found.st_mode):04o}: chmod go-w {path}")
