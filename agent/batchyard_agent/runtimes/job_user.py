"""
The user as whom processes run: never the agent's own when that is root, unless its operator says so.

It knows how a process of root becomes one of that user, and nothing of attempts. Law: what
a job may set (its environment, its folder) touches no process that is still root.
"""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from batchyard_agent.runtimes.protocol import RuntimeUnavailableError

DEFAULT = "nobody"

_PLACES = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CHECK_LIMIT_S = 10

FOLDER_CLOSED = 3
"""What a check ends with where the folder is missing or closed to the user."""

# Runs as the user already. Its environment comes as a file, its stdin: neither arguments,
# which everybody can read, nor the environment of a process of root, which would obey it.
# Called to check alone, it looks the command up as exec does, with 126 where it is closed.
_SCRIPT = f"""
if [ -n "$batchyard_check" ]; then
    . /proc/self/fd/0
    [ -z "$1" ] || cd "$1" || exit {FOLDER_CLOSED}
    case $2 in */*) [ -f "$2" ] && [ -x "$2" ] && exit; exit 126;; esac
    set -f
    IFS=:
    places=$PATH:
    for place in $places; do
        [ -f "${{place:-.}}/$2" ] && [ -x "${{place:-.}}/$2" ] && exit
    done
    exit 126
fi
. /proc/self/fd/0 && {{ [ -z "$1" ] || cd "$1"; }} && shift 2 && exec "$@" </dev/null
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobUser:
    """
    A user of this machine, not root.

    Attributes:
        setpriv: Path of util-linux's program.
    """

    name: str
    uid: int
    gid: int
    setpriv: str

    @property
    def names(self) -> frozenset[str]:
        """All that a job may call this user."""
        return frozenset({self.name, str(self.uid), f"{self.uid}:{self.gid}"})

    def become(self, folder: str, name: str) -> tuple[str, ...]:
        """
        Return what to put before a command so that a process of root calls it as this user.

        With ``batchyard_check`` in its environment it only says, by its exit code, whether it would.

        Args:
            folder: Where to call it; empty: where that process is.
            name: What the command is called; before it may stand a program that calls it.
        """
        return (*self._shell(), _SCRIPT, "batchyard-job", folder, name)

    def require_access(self, folder: Path) -> None:
        """
        Make sure that this user can be become, and can enter a folder by its name.

        Raises:
            RuntimeUnavailableError: no; the text says what to do.
        """
        line = [*self._shell(), f'cd "$1" || exit {FOLDER_CLOSED}', "batchyard-job", str(folder.absolute())]
        try:
            done = subprocess.run(
                line, check=False, capture_output=True, text=True, env={"PATH": _PLACES}, timeout=_CHECK_LIMIT_S
            )
        except subprocess.TimeoutExpired as error:
            raise RuntimeUnavailableError(f"{self.name!r} does not get into {folder}: no answer") from error
        if done.returncode == FOLDER_CLOSED:
            raise RuntimeUnavailableError(
                f"processes run as {self.name!r}, who cannot enter {folder}: "
                "give the agent a --scratch-dir below folders that all may enter"
            )
        if done.returncode:
            raise RuntimeUnavailableError(f"processes cannot be run as {self.name!r}: {done.stderr.strip()}")

    def _shell(self) -> tuple[str, ...]:
        drop = (f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups", "--inh-caps=-all", "--no-new-privs")
        return (self.setpriv, *drop, "--", "/bin/sh", "-c")


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
    setpriv = shutil.which("setpriv", path=_PLACES)
    if setpriv is None:
        raise RuntimeUnavailableError(
            f"processes cannot be run as {entry.pw_name!r} without setpriv: install the package util-linux"
        )
    return JobUser(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid, setpriv=setpriv)


def environment_file(environment: Mapping[str, str]) -> int:
    """Return an open file, in memory alone, from which ``become`` takes the environment; names as a shell spells them."""
    fd = os.memfd_create("environment", os.MFD_CLOEXEC)
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in environment.items()]
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(os.fsencode("".join(lines)))
    os.fchmod(fd, 0o444)
    return fd
