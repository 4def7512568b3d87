"""
The user as whom processes run: never the agent's own when that is root, unless its operator says so.

It knows who that is and where it gets in, and nothing of attempts. The keeper makes each
process that user, before anything that a job may set touches it.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

from batchyard_agent.runtimes.protocol import RuntimeUnavailableError

DEFAULT = "nobody"

_CHECK_LIMIT_S = 10
_FOLDER_CLOSED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class JobUser:
    """A user of this machine, not root."""

    name: str
    uid: int
    gid: int

    @property
    def names(self) -> frozenset[str]:
        """All that a job may call this user."""
        return frozenset({self.name, str(self.uid), f"{self.uid}:{self.gid}"})

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
                user=self.uid, group=self.gid, extra_groups=[],
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
