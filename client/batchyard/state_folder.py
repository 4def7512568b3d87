"""
State folders: whose they are, and who may look into them.

Law: what is kept in one is its owner's alone, whatever the process's umask says, and a
folder that another user could have prepared is not used.
"""

from __future__ import annotations

import os
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


def _check(path: Path) -> None:
    found = path.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(f"{path} is no folder")
    if found.st_uid != os.geteuid():
        raise PermissionError(f"{path} belongs to user {found.st_uid}, not to {os.geteuid()}, who runs this")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"others may write to {path}, mode {stat.S_IMODE(found.st_mode):04o}: chmod go-w {path}")
