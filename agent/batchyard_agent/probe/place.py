"""
Where a folder lies on this machine, by whatever name it is called.

Reading (``read_place``) and understanding what was read (``find_place``) are apart. It
knows nothing of agents. Law: two names have one place only if they lead to one folder,
also if one of them is a name inside a container. A folder that is removed and made
again where it was has the same place; after a reboot, devices may have other numbers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """
    A folder of a file system.

    Attributes:
        device: The file system's number, unique while it is mounted.
        path: From the root of the file system, not of what a container sees of it.
        kind: Type of the file system.
    """

    device: str
    path: str
    kind: str

    @property
    def is_layer(self) -> bool:
        """Whether it is a container's own, and gone with it."""
        return self.kind == "overlay"


def read_place(folder: Path) -> Place:
    """
    Find where *folder* lies.

    Raises:
        OSError: this is no Linux, or /proc is not mounted.
    """
    return find_place(folder.resolve(), Path("/proc/self/mountinfo").read_text())


def find_place(folder: Path, mountinfo: str) -> Place:
    """Find where an absolute path without links lies; *mountinfo*: content of /proc/self/mountinfo (proc(5))."""
    found = Place(device="", path=str(folder), kind="")
    longest = -1
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        device, root, mount_point = map(_plain, left.split(" ")[2:5])
        depth = len(Path(mount_point).parts)
        if depth >= longest and folder.is_relative_to(mount_point):  # of mounts in one place the last counts
            path = Path(root) / folder.relative_to(mount_point)
            found, longest = Place(device=device, path=str(path), kind=right.split(" ")[0]), depth
    return found


def _plain(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), field)
