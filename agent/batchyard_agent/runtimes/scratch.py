"""
What lies in an attempt's working folder: how much of the disk it takes, and how to be rid of it.

It knows files, and nothing of attempts. Law: jobs make trees as deep as they like, with paths
longer than the kernel takes, and move folders while one looks. So a tree is walked step by step
by open folders, never by path and never by recursion, and with few of them open.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_STAT_BLOCK_BYTES = 512
_MIB = 1 << 20
_OPEN_MAX = 32
"""Folders from the top that stay open while what is below them is walked; into deeper ones ``..`` leads back."""

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """A file or folder, by the open folder that it lies in."""

    parent: int
    name: str
    stat: os.stat_result

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.stat.st_mode)


@dataclass(slots=True, kw_only=True)
class _Level:
    """
    A folder on the way from the top to where the walk is.

    Attributes:
        fd: Below 0: it was closed meanwhile.
        name: In the level above; empty: the top.
        folders: What in it is still to be walked.
    """

    fd: int
    name: str
    stat: os.stat_result
    folders: list[str]


def used_mib(folder: Path) -> int:
    """
    Return what all below a folder takes, in blocks; links are not followed. May take long: call it in a thread.

    What the job moves or removes meanwhile may be missed.
    """
    blocks = 0
    linked: set[tuple[int, int]] = set()
    for entry in _walk(folder):
        if entry.stat.st_nlink > 1 and not entry.is_folder:
            file = (entry.stat.st_dev, entry.stat.st_ino)
            if file in linked:
                continue
            linked.add(file)
        blocks += entry.stat.st_blocks
    return blocks * _STAT_BLOCK_BYTES // _MIB


def remove(folder: Path) -> None:
    """
    Remove a folder with all below it; it may be gone already.

    Raises:
        OSError: something of it cannot be removed.
    """
    if folder.is_symlink() or folder.is_file():  # put there by a job of the agent's own user
        folder.unlink()
        return
    for entry in _walk(folder, is_writing=True):
        (os.rmdir if entry.is_folder else os.unlink)(entry.name, dir_fd=entry.parent)
    with suppress(FileNotFoundError):
        folder.rmdir()


def remove_all(folders: Iterable[Path]) -> list[OSError | None]:
    """Remove folders, each with all below it; return what went wrong with each."""
    return [_error_of(folder) for folder in folders]


def _error_of(folder: Path) -> OSError | None:
    try:
        folder.rmdir()  # as most are: empty
    except FileNotFoundError:
        return None
    except OSError:
        try:
            remove(folder)
        except OSError as error:
            return error
    return None


def _walk(top: Path, *, is_writing: bool = False) -> Iterator[_Entry]:
    """Yield all below a folder, of each folder first what it holds; what ends meanwhile is left out."""
    levels: list[_Level] = []
    try:
        with suppress(FileNotFoundError):
            levels.append(_open(top.absolute(), None, is_writing))
            yield from _files(levels[0])
        while levels:
            level = levels[-1]
            if not level.folders:
                yield from _leave(levels)
                continue
            name = level.folders.pop()
            try:
                levels.append(_open(name, level.fd, is_writing))
            except OSError:  # closed to us, or gone
                yield from _entry(level.fd, name)
                continue
            if len(levels) > _OPEN_MAX:
                os.close(level.fd)
                level.fd = -1
            yield from _files(levels[-1])
    finally:
        for level in levels:
            if level.fd >= 0:
                os.close(level.fd)


def _open(name: str | Path, parent: int | None, is_writing: bool) -> _Level:
    fd = os.open(name, _FLAGS, dir_fd=parent)
    try:
        if is_writing and os.geteuid() != 0:
            os.fchmod(fd, 0o700)  # as of caches that their makers wrote for reading only
        return _Level(fd=fd, name=str(name), stat=os.fstat(fd), folders=[])
    except OSError:
        os.close(fd)
        raise


def _files(level: _Level) -> Iterator[_Entry]:
    """Yield what is no folder in a level, and take note of those that are."""
    with os.scandir(level.fd) as found:
        for each in found:
            if each.is_dir(follow_symlinks=False):
                level.folders.append(each.name)
            else:
                yield from _entry(level.fd, each.name)


def _entry(parent: int, name: str) -> Iterator[_Entry]:
    with suppress(FileNotFoundError):
        yield _Entry(parent=parent, name=name, stat=os.stat(name, dir_fd=parent, follow_symlinks=False))


def _leave(levels: list[_Level]) -> Iterator[_Entry]:
    """Go back up and yield the folder that was left, unless it was moved and there is no way back."""
    left = levels.pop()
    try:
        if levels and levels[-1].fd < 0:
            levels[-1].fd = _open_above(left.fd, levels[-1])
        if levels and levels[-1].fd >= 0:
            yield _Entry(parent=levels[-1].fd, name=left.name, stat=left.stat)
    finally:
        os.close(left.fd)
    while levels and levels[-1].fd < 0:
        levels.pop()


def _open_above(fd: int, level: _Level) -> int:
    with suppress(OSError):
        above = os.open("..", _FLAGS, dir_fd=fd)
        if os.path.samestat(os.fstat(above), level.stat):
            return above
        os.close(above)
    return -1
