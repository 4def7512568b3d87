"""
The users as whom processes run: never the agent's own when that is root, unless its operator says so.

It knows who they are and where they get in, and nothing of attempts. The keeper makes each
process that user, before anything that a job may set touches it.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchyard_agent.runtimes.protocol import RuntimeUnavailableError

DEFAULT = "nobody"

OWNER_UID_MIN = 1000
"""The lowest uid that ``useradd`` gives to people (UID_MIN of login.defs); accounts of services have lower ones."""

_CHECK_LIMIT_S = 10
_FOLDER_CLOSED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class JobUser:
    """
    A user of this machine, not root.

    Attributes:
        groups: Those beside its first one that its processes have.
        home: Its home folder, where it runs its own jobs; empty: processes have their working folder as HOME.
    """

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    home: str = ""

    @property
    def names(self) -> frozenset[str]:
        """All that a job may call this user."""
        return frozenset({self.name, str(self.uid), f"{self.uid}:{self.gid}"})

    @property
    def popen_arguments(self) -> dict[str, Any]:
        """What has ``subprocess`` start a program as this user."""
        return {"user": self.uid, "group": self.gid, "extra_groups": self.groups}

    def require_access(self, folder: Path) -> None:
        """
        Make sure that this user can be become, and can enter a folder by its name.

        Raises:
            RuntimeUnavailableError: no; the text says what to do.
        """
        line = ["/bin/sh", "-c", f'cd "$1" || exit {_FOLDER_CLOSED}', "batchyard-job", str(folder.absolute())]
        try:
            done = subprocess.run(
                line, check=False, capture_output=True, env={}, cwd="/", timeout=_CHECK_LIMIT_S,
                **self.popen_arguments,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise RuntimeUnavailableError(f"{self.name!r} does not get into {folder}: no answer") from error
        except (OSError, subprocess.SubprocessError) as error:
            raise RuntimeUnavailableError(f"processes cannot be run as {self.name!r}: {error}") from error
        if done.returncode:
            raise RuntimeUnavailableError(
                f"processes run as {self.name!r}, who cannot enter {folder}: "
                "give the agent a --scratch-dir below folders that all may enter"
            )


class NoAccountError(Exception):
    """A job's owner has no account here as which processes may run; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owners:
    """
    The accounts as which jobs of users run, where processes run as their owners.

    Attributes:
        host: This host's name.
        uid_min: Accounts with lower uids are nobody's to run jobs as; at least 1, so never root's.
        find_account: Looks up an account by its name, as ``pwd.getpwnam``; raises KeyError.
        find_groups: Tells all groups of an account by its name and first group, as ``os.getgrouplist``.
    """

    host: str
    uid_min: int = OWNER_UID_MIN
    find_account: Callable[[str], pwd.struct_passwd] = pwd.getpwnam
    find_groups: Callable[[str, int], list[int]] = os.getgrouplist

    def __post_init__(self) -> None:
        assert self.uid_min > 0, "root is nobody's"

    def account(self, owner: str) -> JobUser:
        """
        Return the account of a job's owner.

        Raises:
            NoAccountError: there is none of the very name, or it may not be used.
        """
        rule = f"host {self.host!r} runs processes as their owners"
        try:
            entry = self.find_account(owner)
        except KeyError:
            raise NoAccountError(f"{rule}, and has no account {owner!r}") from None
        if entry.pw_name != owner:  # a directory that heeds no case would make one user another
            raise NoAccountError(f"{rule}, and has no account {owner!r}, but {entry.pw_name!r}")
        if entry.pw_uid < self.uid_min:
            why = f"{owner!r} has the uid {entry.pw_uid} there; the lowest is {self.uid_min}"
            raise NoAccountError(f"{rule}, but {why}")
        groups = tuple(group for group in self.find_groups(owner, entry.pw_gid) if group != entry.pw_gid)
        return JobUser(name=owner, uid=entry.pw_uid, gid=entry.pw_gid, groups=groups, home=entry.pw_dir)


def find_owners(host: str, uid_min: int) -> Owners:
    """
    Return whom jobs of users run as, where the operator says that they run as their owners.

    Raises:
        RuntimeUnavailableError: this agent cannot become others.
    """
    if os.geteuid() != 0:
        raise RuntimeUnavailableError("only an agent of root can run processes as their owners")
    return Owners(host=host, uid_min=uid_min)


def find(name: str | None, *, allow_root: bool) -> JobUser | None:
    """
    Find whom processes of this agent run as; None: its own user.

    Args:
        name: A user's name or number; None: ``nobody`` where the agent is root and *allow_root* is not set.
        allow_root: Processes may run as root.

    Raises:
        RuntimeUnavailableError: there is no such user, or it cannot or must not be it.
    """
    if name is None:
        if os.geteuid() != 0 or allow_root:
            return None
        name = DEFAULT
    try:
        entry = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
    except KeyError as error:
        raise RuntimeUnavailableError(f"this machine has no user {name!r} to run processes as") from error
    if entry.pw_uid == 0 and not allow_root:
        raise RuntimeUnavailableError("processes run as root only where the agent's operator says --allow-root-jobs")
    if entry.pw_uid == os.geteuid():
        return None
    if os.geteuid() != 0:
        raise RuntimeUnavailableError(f"only an agent of root can run processes as {entry.pw_name!r}")
    return JobUser(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid)
