"""
Held mounts: what was opened, mounted in a folder of the agent's where nobody else may change a name.

The engine and what it starts go by paths, and mount in a namespace of their own, where no
descriptor of another counts (Linux, mount(2): EINVAL). So what was judged by its descriptor
is mounted by that, until the container has it. It takes root, and the engine's mounts.
Law: nothing is left mounted of an agent that was killed, once the next one is open.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import stat
from pathlib import Path

from batchyard.state_folder import make_private_folder

_MS_BIND, _MS_REC, _MS_PRIVATE, _MNT_DETACH = 4096, 16384, 1 << 18, 2
"""Linux: include/uapi/linux/mount.h, include/linux/fs.h."""

_libc = ctypes.CDLL(None, use_errno=True)


class HeldMounts:
    """
    A folder of mounts. All methods block.

    Args:
        folder: Made if it is missing; the agent's alone.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()

    def open(self) -> None:
        """
        Make the folder, without what a former agent left in it.

        Raises:
            OSError: this user, or this machine, cannot mount.
        """
        make_private_folder(self._folder)
        for left in self._folder.iterdir():
            self.release(left)
        self._try()

    def _try(self) -> None:
        descriptor = os.open(self._folder, os.O_PATH | os.O_CLOEXEC)
        try:
            self.release(self.hold(descriptor))
        finally:
            os.close(descriptor)

    def hold(self, descriptor: int) -> Path:
        """
        Mount what a descriptor is of, with what is mounted below it; return where.

        Raises:
            OSError: it cannot be mounted.
        """
        place = self._folder / str(next(self._numbers))
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            place.mkdir()
        else:
            place.touch()
        try:
            _mount(b"/proc/self/fd/%d" % descriptor, place, _MS_BIND | _MS_REC)
            # Else what is mounted below it would be taken off in its own place, too, as this is (mount_namespaces(7)).
            _mount(b"none", place, _MS_PRIVATE | _MS_REC)
        except OSError:
            self.release(place)
            raise
        return place

    def release(self, place: Path) -> None:
        """Let go of a mount; who has it mounted elsewhere keeps it."""
        _libc.umount2(os.fsencode(place), _MNT_DETACH)  # EINVAL: nothing is mounted there
        _remove(place)


def _mount(source: bytes, target: Path, flags: int) -> None:
    if _libc.mount(source, os.fsencode(target), None, ctypes.c_ulong(flags), None):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(target))


def _remove(place: Path) -> None:
    """Remove an empty folder or file; what is still mounted on it stays, and is not touched."""
    try:
        place.rmdir()
    except NotADirectoryError:
        place.unlink()
    except OSError:
        return
