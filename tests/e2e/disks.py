"""Small disks that a test can fill."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SMALL_DISK = "48m"


@contextlib.contextmanager
def small_disk(folder: Path, *, inodes: int = 1000) -> Iterator[Callable[[], None]]:
    """Mount a small disk; gives what fills it. Removing the file ``filler`` empties it again."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK},nr_inodes={inodes},mode=755", "none", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")

    def fill() -> None:
        with (folder / "filler").open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    try:
        yield fill
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
