"""
Secret files: what attempts get of the yard's secrets as files, on a file system in memory.

Whether an attempt runs it does not know: it is told which live. Laws: a value is on no disk;
nothing of an attempt that has ended stays, whoever died meanwhile; what is there of one is
whole, as folders get their names last. Attempts of processes are all one user's: what keeps
them from each other's files is that a folder's name ends with dice and nobody lists those above.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
from collections.abc import Collection
from pathlib import Path

from batchyard_agent.runtimes.plain_names import plain_name
from batchyard_agent.runtimes.protocol import LaunchSpec

FOLDER_VARIABLE = "BATCHYARD_SECRETS_DIR"
"""Names the folder of an attempt's secret files to it."""
CONTAINER_FOLDER = "/run/batchyard/secrets"
"""That folder in a container."""

_TMPFS = 0x01021994
"""Linux: include/uapi/linux/magic.h."""
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8
_STATFS_BYTES = 256
"""More than a struct statfs has on any machine; the kind of file system is the word it begins with."""
_ONLY = "_"
"""Folder of an attempt's only container."""

_libc = ctypes.CDLL(None, use_errno=True)

Owner = tuple[int, int]
"""User and group."""


class SecretFilesError(Exception):
    """
    An attempt's secrets cannot be files; the text says why.

    Attributes:
        host_failed: Another host may have them.
    """

    def __init__(self, text: str, *, host_failed: bool = True) -> None:
        super().__init__(text)
        self.host_failed = host_failed


class SecretFiles:
    """
    The secret files of one agent's attempts. All methods block, though for memory alone.

    Args:
        folder: On a file system in memory, or where root can mount one; None: there is none.

    Attributes:
        fault: Why there can be no files; empty: there can.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._held: set[str] = set()
        """Plain names of attempts that have files, or may."""
        self.fault = "this agent has no place for them" if folder is None else ""

    def open(self) -> None:
        """Get ready, and find what former agents left; where that cannot be ``fault`` says why."""
        if self._folder is None:
            self.fault = "an agent that is not root needs XDG_RUNTIME_DIR for that, a folder in memory"
            return
        try:
            make_closed(self._folder.parent)
            if not is_in_memory(self._folder.parent):
                _mount(self._folder.parent)
            if not is_in_memory(self._folder.parent):
                self.fault = f"{self._folder.parent} is on a disk"
                return
            make_closed(self._folder)
            self._held = {_attempt_of(path) for path in self._folder.iterdir()}
        except OSError as error:
            self.fault = f"{self._folder.parent} cannot be a folder in memory: {error.strerror}"

    def write(self, spec: LaunchSpec, owner: Owner | None) -> Path:
        """
        Write the files of an attempt, or of one of its containers; return their folder.

        What is there already is what this attempt was given before, and stays.

        Args:
            spec: With its secrets.
            owner: Who alone may read them; None: this agent's own user.

        Raises:
            SecretFilesError: they cannot be written, or not for this user.
        """
        if self.fault or self._folder is None:
            raise SecretFilesError(f"secrets cannot be files: {self.fault}")
        own = os.geteuid()
        if own and owner is not None and owner[0] not in (0, own):
            raise SecretFilesError(f"secrets as files for user {owner[0]} take an agent of root")
        name = plain_name(spec.attempt_id)
        self._held.add(name)
        try:
            return _write(_own_folder(self._folder, name), spec, None if own else owner)
        except OSError as error:
            raise SecretFilesError(f"secrets cannot be files: {error.strerror}") from error

    def find(self, spec: LaunchSpec) -> str:
        """Return the folder of the files that an attempt, or one of its containers, was given; empty: it has none."""
        if self._folder is None or plain_name(spec.attempt_id) not in self._held:
            return ""
        place = _own_folder(self._folder, plain_name(spec.attempt_id)) / (plain_name(spec.part) or _ONLY)
        return str(place) if place.exists() else ""

    def keep_only(self, living: Collection[str]) -> None:
        """Remove the files of all attempts but these."""
        if not self._held or self._folder is None:
            return
        gone = self._held - {plain_name(attempt_id) for attempt_id in living}
        for path in self._folder.iterdir() if gone else ():
            if _attempt_of(path) in gone:
                shutil.rmtree(path, ignore_errors=True)
        self._held -= gone

    @property
    def is_empty(self) -> bool:
        """Whether no attempt has any."""
        return not self._held


def owner_of(user: str) -> Owner:
    """
    Return whose a container's files are, by the user that it runs as; empty: root.

    Raises:
        SecretFilesError: a name: who that is only what is in the image could tell.
    """
    name, _, group = user.partition(":")
    uid = "0" if name in ("", "root") else name
    if not (uid.isascii() and uid.isdecimal()):
        text = "is no number, and secrets as files are one user's alone: give the job a number as its user"
        raise SecretFilesError(f"the container's user {user!r} {text}", host_failed=False)
    return int(uid), int(group) if group.isascii() and group.isdecimal() else 0


def make_closed(folder: Path) -> None:
    """Make a folder through which all may go and that none but its owner may list."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o711)


def is_in_memory(folder: Path) -> bool:
    """Say whether a folder is on a tmpfs."""
    told = ctypes.create_string_buffer(_STATFS_BYTES)
    if _libc.statfs(os.fsencode(folder), told):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))
    return ctypes.c_long.from_buffer(told).value == _TMPFS


def _mount(folder: Path) -> None:
    flags = ctypes.c_ulong(_MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    if _libc.mount(b"none", os.fsencode(folder), b"tmpfs", flags, b"mode=711"):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))


def _attempt_of(path: Path) -> str:
    return path.name.partition(".")[0]


def _own_folder(folder: Path, name: str) -> Path:
    for found in folder.glob(f"{name}.*"):
        return found
    made = folder / f"{name}.{secrets.token_hex(16)}"
    make_closed(made)
    return made


def _write(folder: Path, spec: LaunchSpec, owner: Owner | None) -> Path:
    place = folder / (plain_name(spec.part) or _ONLY)
    if place.exists():
        return place
    new = folder / f"{place.name}.new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    for name, value in spec.secret_files.items():
        descriptor = os.open(new / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(value)
            os.fchmod(descriptor, 0o400)
            if owner is not None:
                os.fchown(descriptor, *owner)
    new.chmod(0o755)
    return new.replace(place)
